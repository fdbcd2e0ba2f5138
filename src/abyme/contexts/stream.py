"""A large file -> the arena, piece by piece.

ASCII goes in as it is, while it is being looked at. Of anything else the widest
character decides how all are kept: it is written as wide as what was seen needs, and
from the beginning again when something wider comes, at most three times.

Invariant: never more than a few pieces of the file are in memory.
Does not choose what to stream (`load`).
"""

import codecs
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, Final, NamedTuple

from abyme.contexts.arena import CODEC, ArenaWriter, kind_of
from abyme.contexts.decode import LOSSY, NotText, Survey, errors_of, legacy, look, mended
from abyme.contexts.room import MEMORY_ONLY, Room, nameless
from abyme.layout import ASCII, LATIN1, UCS2, UCS4

PIECE_BYTES: Final = 4 << 20
_HEAD_BYTES: Final = 64 << 10


class Streamed(NamedTuple):
    """What is known of a text that went into the arena."""

    chars: int
    encoding: str
    source_bytes: int
    source_sha256: str
    note: str = ""
    """What of it could not be kept."""


class _NotAscii(Exception):
    pass


def stream(file: BinaryIO, writer: ArenaWriter) -> Streamed:
    """Read a seekable file into the arena.

    Raises:
        NotText: it is binary, in no encoding that is known, or changed meanwhile.
        OSError: it cannot be read.
    """
    fd = file.fileno()
    size = 0

    def counted() -> Iterator[bytearray]:
        nonlocal size
        for piece in _raw(fd, 0):
            if not piece.isascii() or b"\0" in piece:
                raise _NotAscii
            size += len(piece)
            yield piece

    try:
        digest = writer.add_pieces(counted(), ASCII)
    except _NotAscii:
        return _decoded(fd, writer)
    return Streamed(size, "utf-8", size, digest)


def spooled(source: BinaryIO, room: Room = MEMORY_ONLY) -> BinaryIO:
    """Put a stream that can be read only once where it can be read again.

    That is memory, or beyond half of what `room` gives a file: the arena needs memory as well.

    Raises:
        ContextError: neither memory nor disk hold it.
    """
    most_bytes, size = room.most_memory_bytes() // 2, 0
    spool = _file(os.memfd_create("abyme-spool", os.MFD_CLOEXEC))
    in_file = False
    try:
        while data := source.read(PIECE_BYTES):
            size += len(data)
            if size > most_bytes and not in_file:
                memory, spool, in_file = spool, _file(nameless(room.check_disk(size))), True
                with memory:
                    memory.seek(0)
                    while piece := memory.read(PIECE_BYTES):
                        _write(spool, piece)
            _write(spool, data)
    except BaseException:
        spool.close()
        raise
    return spool


def _write(spool: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[spool.write(view) :]


def _file(fd: int) -> BinaryIO:
    return os.fdopen(fd, "w+b", buffering=0)


def _decoded(fd: int, writer: ArenaWriter) -> Streamed:
    encoding, skip = look(os.pread(fd, _HEAD_BYTES, 0)) or ("utf-8", 0)
    try:
        return _narrowest(fd, _Form(encoding, skip, errors_of(encoding)), writer)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise NotText(f"broken {encoding}") from error
        survey = _surveyed(fd, skip)
        if survey.is_utf8:
            text = _narrowest(fd, _Form(encoding, skip, LOSSY), writer)
            return text._replace(note=survey.note())
        if skip:
            raise NotText(f"broken {encoding}") from error
        encoding = legacy(bytes(error.object), error.start)
    try:
        return _narrowest(fd, _Form(encoding, skip, "strict"), writer)
    except UnicodeDecodeError as error:
        raise NotText("binary") from error


class _Form(NamedTuple):
    """How bytes are to be read."""

    encoding: str
    skip: int
    errors: str


def _surveyed(fd: int, skip: int) -> Survey:
    """See how much of a file is UTF-8, as far as that is needed to tell."""
    survey = Survey()
    for piece in _texts(fd, _Form("utf-8", skip, LOSSY)):
        survey.see(piece)
        if survey.is_hopeless:
            break
    return survey


def _narrowest(fd: int, form: _Form, writer: ArenaWriter) -> Streamed:
    """Write a text as narrow as it turns out to be: from the beginning again when it is wider."""
    kind = ASCII
    while True:
        try:
            return _written(fd, form, _Width(kind, writer))
        except _Wider as wider:
            kind = wider.kind


class _Wider(Exception):
    """A character does not fit into the kind in which a text is being written."""

    def __init__(self, kind: int) -> None:
        super().__init__()
        self.kind = kind


class _Width(NamedTuple):
    kind: int
    writer: ArenaWriter


def _written(fd: int, form: _Form, width: _Width) -> Streamed:
    """Decode, encode and hash a file in one go."""
    digest = hashlib.sha256(os.pread(fd, form.skip, 0))
    chars, size = 0, form.skip
    with ThreadPoolExecutor(1, "abyme-source-hash") as hasher:
        hashed: Future[None] | None = None

        def seen(raw: bytearray) -> None:
            nonlocal size, hashed
            size += len(raw)
            if hashed:  # the buffer before this one is free once it is hashed
                hashed.result()
            hashed = hasher.submit(digest.update, raw)

        def payloads() -> Iterator[bytes]:
            nonlocal chars
            for piece in _texts(fd, form, seen):
                if "\0" in piece:
                    raise NotText("binary")
                chars += len(piece)
                yield _encoded(mended(piece) if form.errors == LOSSY else piece, width.kind)

        width.writer.add_pieces(payloads(), width.kind)
        if hashed:
            hashed.result()
    return Streamed(chars, form.encoding, size, digest.hexdigest())


def _encoded(piece: str, kind: int) -> bytes:
    """Write characters in a kind.

    Raises:
        _Wider: one of them does not fit.
    """
    if kind in {ASCII, LATIN1}:
        try:
            return piece.encode(CODEC[kind])
        except UnicodeEncodeError:
            raise _Wider(kind_of(piece)) from None
    payload = piece.encode(CODEC[kind], "surrogatepass")
    if kind == UCS2 and len(payload) != 2 * len(piece):
        raise _Wider(UCS4)
    return payload


def _texts(fd: int, form: _Form, seen: Callable[[bytearray], None] | None = None) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(form.encoding)(form.errors)
    for raw in _raw(fd, form.skip):
        if seen:
            seen(raw)
        yield decoder.decode(raw)
    yield decoder.decode(b"", final=True)


def _raw(fd: int, at: int) -> Iterator[bytearray]:
    """Read pieces of a file, by turns into two buffers (see `ArenaWriter.add_pieces`)."""
    buffers = bytearray(PIECE_BYTES), bytearray(PIECE_BYTES)
    while got := os.preadv(fd, [buffers[0]], at):
        yield buffers[0] if got == PIECE_BYTES else buffers[0][:got]
        at += got
        buffers = buffers[1], buffers[0]
