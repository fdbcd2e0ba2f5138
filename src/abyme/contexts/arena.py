"""Sealed memory: texts go in, two descriptors that nobody can change come out.

Decides where each text lies (the rules of `abyme.layout`) and hashes it on the
way in, on a thread of its own, since SHA-256 takes longer than the copy. What memory
would not hold goes into a nameless file, from the beginning or as soon as that is seen.

Invariant: after `seal` neither size nor content of the memory can change, by
anybody, this process included (memfd_create(2), `F_SEAL_WRITE`). Of a file this process
keeps no descriptor that could write to it; see `room` for what that is worth.
Does not read files or know of names.
"""

import ctypes
import hashlib
import os
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple, TypeAlias

from abyme.contexts.room import MEMORY_ONLY, NoRoom, Room, nameless, only_for_reading
from abyme.errors import ContextError
from abyme.layout import ADOPT_BYTES, ASCII, LATIN1, PAGE, UCS2, UCS4, WIDTH, Entry

Buffer: TypeAlias = bytes | memoryview

CODEC: Final = {ASCII: "ascii", LATIN1: "latin-1", UCS2: "utf-16-le", UCS4: "utf-32-le"}
"""Kind -> the codec that writes characters as CPython keeps them (little-endian machines)."""

STEP_CHARS: Final = 4 << 20
_PENDING_BYTES: Final = 4 << 20
_WRITE_BYTES: Final = 1 << 30
_NOEXEC_SEAL: Final = 8
_ALIGN: Final = 4


class Sealed(NamedTuple):
    """One text in the arena."""

    entry: Entry
    sha256: str


class ArenaWriter:
    """Appends texts to an arena that is being built.

    Args:
        room: how much memory it may take, and where it goes beyond that.
        expected_bytes: what is known to come, so that it need not be moved.

    Raises:
        ContextError: if this system has no sealable memory, or no room is left.
    """

    def __init__(self, room: Room = MEMORY_ONLY, expected_bytes: int = 0) -> None:
        if sys.byteorder != "little":
            raise ContextError("contexts can be sealed on little-endian machines only")
        self.room = room
        self._most_bytes = room.most_memory_bytes()
        """In memory, before it moves into a file."""
        self._is_file = expected_bytes > self._most_bytes
        if self._is_file:
            self._fd = nameless(room.check_disk(expected_bytes))
        else:
            self._fd = _memfd("abyme-arena")
        self._at = 0
        self._pending = bytearray()
        """Small texts, written together; they end at `_at`."""
        self._placed: list[tuple[Entry, str | Future[str]]] = []
        self.blobs: dict[int, str] = {}
        """Offset of what is no text -> its SHA-256."""
        self._hasher = ThreadPoolExecutor(1, "abyme-hash")

    def add(self, payload: Buffer, kind: int, sha256: str | None = None) -> None:
        """Append the characters of a text, as CPython keeps them in its `kind`."""
        size = len(payload)
        if size < ADOPT_BYTES:
            entry = self._place(size, kind)
            digest = sha256 or hashlib.sha256(payload).hexdigest()
            self._pending += payload
            self._placed.append((entry, digest))
            if len(self._pending) >= _PENDING_BYTES:
                self._flush()
            return
        self._flush()
        entry = self._place(size, kind)
        self._placed.append((entry, sha256 or self._hasher.submit(_hex, payload)))
        self._write(payload, entry.offset)

    def add_text(self, text: str) -> None:
        """Append a `str`, without holding a second copy of a large one."""
        kind = kind_of(text)
        if len(text) * WIDTH[kind] < ADOPT_BYTES:
            self.add(text.encode(CODEC[kind], "surrogatepass"), kind)
        elif kind == ASCII:
            self.add(_ascii_view(text), kind)
        else:
            starts = range(0, len(text), STEP_CHARS)
            self.add_pieces(
                (text[at : at + STEP_CHARS].encode(CODEC[kind], "surrogatepass") for at in starts),
                kind,
            )

    def add_pieces(self, pieces: Iterable[Buffer | bytearray], kind: int) -> str:
        """Append one text piece by piece; its SHA-256. A piece may be reused two pieces later.

        If `pieces` raises, the text is dropped and the arena is what it was.
        """
        self._flush()
        start = at = -(-self._at // PAGE) * PAGE
        digest = hashlib.sha256()
        hashed: Future[None] | None = None
        try:
            for piece in pieces:
                if hashed:
                    hashed.result()
                hashed = self._hasher.submit(digest.update, piece)
                self._write(piece, at)
                at += len(piece)
        except BaseException:
            os.ftruncate(self._fd, self._at)
            raise
        finally:
            if hashed:
                hashed.result()
        self._at = start
        self._placed.append((self._place(at - start, kind), digest.hexdigest()))
        return digest.hexdigest()

    def add_blob(self, data: Buffer) -> tuple[int, int]:
        """Append bytes that are no text, on a page of their own: (offset, bytes)."""
        self._flush()
        offset = -(-self._at // PAGE) * PAGE
        self._write(data, offset)
        self._at = offset + len(data)
        self.blobs[offset] = _hex(data)
        return offset, len(data)

    def seal(self) -> tuple[int, list[Sealed]]:
        """Close the arena: its descriptor, and where every text lies."""
        self._flush()
        os.ftruncate(self._fd, max(PAGE, -(-(self._at + _ALIGN) // PAGE) * PAGE))
        placed = [
            Sealed(entry, digest if isinstance(digest, str) else digest.result())
            for entry, digest in self._placed
        ]
        self._hasher.shutdown()
        if self._is_file:
            fd, self._fd = only_for_reading(self._fd), -1
            return fd, placed
        _seal(self._fd)
        fd, self._fd = self._fd, -1
        return fd, placed

    def close(self) -> None:
        """Drop what has not been sealed. Safe to repeat, and after `seal`."""
        self._hasher.shutdown(cancel_futures=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _place(self, size: int, kind: int) -> Entry:
        align = PAGE if size >= ADOPT_BYTES else _ALIGN
        offset = -(-self._at // align) * align
        if size >= ADOPT_BYTES:
            self._at = offset + size + WIDTH[kind]
        else:
            self._pending += bytes(offset - self._at)
            self._at = offset + size
        return Entry(offset, size, size // WIDTH[kind], kind)

    def _flush(self) -> None:
        if self._pending:
            self._write(self._pending, self._at - len(self._pending))
            self._pending = bytearray()

    def _write(self, payload: Buffer | bytearray, at: int) -> None:
        view = memoryview(payload)
        done = 0
        if at + len(view) > self._most_bytes and not self._is_file:
            self._move(at + len(view))
        try:
            while done < len(view):
                done += os.pwrite(self._fd, view[done : done + _WRITE_BYTES], at + done)
        except OSError as error:
            raise self._full(error) from error

    def _move(self, needed_bytes: int) -> None:
        """Go on in a file: there is more than was expected."""
        file = nameless(self.room.check_disk(needed_bytes))
        size, at = os.fstat(self._fd).st_size, 0
        try:
            while at < size:
                at += os.sendfile(file, self._fd, at, min(_WRITE_BYTES, size - at))
        except OSError as error:
            os.close(file)
            raise self._full(error) from error
        os.close(self._fd)
        self._fd, self._is_file = file, True

    def _full(self, error: OSError) -> NoRoom:
        what = f"room left in {self.room.folder}" if self._is_file else "memory left"
        return NoRoom(f"no {what} to seal the input: {error.strerror}")


def sealed_bytes(data: bytes, name: str) -> int:
    """Put `data` into sealed memory; its descriptor."""
    fd = _memfd(name)
    view = memoryview(data)
    done = 0
    while done < len(view):
        done += os.write(fd, view[done:])
    _seal(fd)
    return fd


def kind_of(text: str) -> int:
    """How CPython keeps a `str`: by its widest character. No reading of its header."""
    if text.isascii():
        return ASCII
    kind = LATIN1
    for start in range(0, len(text), STEP_CHARS):
        piece = text[start : start + STEP_CHARS]
        if kind == LATIN1:
            try:
                piece.encode("latin-1")
                continue
            except UnicodeEncodeError:
                kind = UCS2
        if len(piece.encode("utf-16-le", "surrogatepass")) != 2 * len(piece):
            return UCS4
    return kind


def _ascii_view(text: str) -> memoryview:
    """Look at the characters of an ASCII `str` in place: its UTF-8 form is its own memory.

    PyUnicode_AsUTF8AndSize, C API reference. The view keeps `text` alive.
    """
    find = ctypes.PyDLL(None).PyUnicode_AsUTF8AndSize
    find.restype = ctypes.c_void_p
    find.argtypes = [ctypes.py_object, ctypes.c_void_p]
    area = (ctypes.c_char * len(text)).from_address(find(text, None))
    area.owner = text  # type: ignore[attr-defined]
    return memoryview(area).cast("B")


def is_sealed(fd: int) -> bool:
    """Whether this is memory that nobody can write to any more."""
    import fcntl  # noqa: PLC0415  (absent outside of Unix)

    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)
    except OSError:  # a file
        return False


def _hex(payload: Buffer) -> str:
    return hashlib.sha256(payload).hexdigest()


def _memfd(name: str) -> int:
    if not hasattr(os, "memfd_create"):
        raise ContextError("this system has no sealable memory (memfd, Linux only)")
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _NOEXEC_SEAL)
    except OSError:  # before Linux 6.3
        pass
    try:
        return os.memfd_create(name, flags)
    except OSError as error:
        raise ContextError(f"sealable memory cannot be had: {error.strerror}") from error


def _seal(fd: int) -> None:
    import fcntl  # noqa: PLC0415  (absent outside of Unix)

    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
