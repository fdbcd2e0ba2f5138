"""A large file -> the arena, piece by piece.

ASCII goes in as it is, while it is being looked at. Anything else takes two
more passes: how wide its widest character is decides how all are kept, and is
known at the end only.

Invariant: never more than a few pieces of the file are in memory.
Does not choose what to stream (`load`).
"""

import codecs
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, NamedTuple

from abyme.contexts.arena import CODEC, ArenaWriter, kind_of
from abyme.contexts.decode import NotText, errors_of, legacy, look
from abyme.layout import ASCII

PIECE_BYTES: Final = 4 << 20
_HEAD_BYTES: Final = 64 << 10


class Streamed(NamedTuple):
    """What is known of a text that went into the arena."""

    chars: int
    encoding: str
    source_bytes: int
    source_sha256: str


class _Survey(NamedTuple):
    kind: int
    text: Streamed


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


def spooled(source: BinaryIO) -> BinaryIO:
    """Put a stream that can be read only once into memory that can be read again."""
    spool = os.fdopen(os.memfd_create("abyme-spool", os.MFD_CLOEXEC), "w+b", buffering=0)
    try:
        while data := source.read(PIECE_BYTES):
            view = memoryview(data)
            while view:
                view = view[spool.write(view) :]
    except BaseException:
        spool.close()
        raise
    return spool


def _decoded(fd: int, writer: ArenaWriter) -> Streamed:
    encoding, skip = look(os.pread(fd, _HEAD_BYTES, 0)) or ("utf-8", 0)
    try:
        kind, text = _survey(fd, encoding, skip)
    except UnicodeDecodeError as error:
        if encoding != "utf-8" or skip:
            raise NotText(f"broken {encoding}") from error
        encoding = legacy(bytes(error.object), error.start)
        try:
            kind, text = _survey(fd, encoding, skip)
        except UnicodeDecodeError as again:
            raise NotText("binary") from again
    chars = 0

    def payloads() -> Iterator[bytes]:
        nonlocal chars
        for piece in _texts(fd, encoding, skip):
            chars += len(piece)
            yield piece.encode(CODEC[kind], "surrogatepass")
        if chars != text.chars:
            raise NotText("changed while it was read")

    try:
        writer.add_pieces(payloads(), kind)
    except UnicodeError as error:
        raise NotText("changed while it was read") from error
    return text


def _survey(fd: int, encoding: str, skip: int) -> _Survey:
    """Go through a file once: how wide its characters are, how many, which bytes."""
    digest = hashlib.sha256(os.pread(fd, skip, 0))
    kind, chars, size = ASCII, 0, skip

    def seen(raw: bytearray) -> None:
        nonlocal size
        size += len(raw)
        digest.update(raw)

    for piece in _texts(fd, encoding, skip, seen):
        if "\0" in piece:
            raise NotText("binary")
        kind = max(kind, kind_of(piece))
        chars += len(piece)
    return _Survey(kind, Streamed(chars, encoding, size, digest.hexdigest()))


def _texts(
    fd: int, encoding: str, skip: int, seen: Callable[[bytearray], None] | None = None
) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)(errors_of(encoding))
    for raw in _raw(fd, skip):
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
