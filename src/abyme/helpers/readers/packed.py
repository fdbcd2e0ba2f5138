"""A compressed stream of one file, or of a tar archive: what gzip, xz, bzip2 and zstd share.

Decides that a compressed tar is read straight through, and that anything else is one member
without a name of its own. Memory stays at a few pieces.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Protocol

from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers import tar

PIECE_BYTES: Final = 1 << 20
_READ_BYTES: Final = 256 << 10


class Decompressor(Protocol):
    """As lzma and bz2 have it: one stream, taken piece by piece."""

    @property
    def eof(self) -> bool: ...  # noqa: D102
    @property
    def needs_input(self) -> bool: ...  # noqa: D102
    @property
    def unused_data(self) -> bytes: ...  # noqa: D102
    def decompress(self, data: bytes, max_length: int) -> bytes: ...  # noqa: D102


def unpack(pieces: Iterator[bytes], emit: Emit) -> None:
    """Give what comes out of a compressed file.

    Raises:
        Unreadable: it is a tar archive that breaks off.
    """
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= tar.BLOCK_BYTES:
            break
    if tar.looks_like(head):
        tar.read_stream(Stream(_chained(head, pieces)), emit)
    else:
        emit.member("", _chained(head, pieces))


def inflated(
    file: BinaryIO, new: Callable[[], Decompressor], errors: type[Exception]
) -> Iterator[bytes]:
    """Unpack streams that lie one behind the other, with zeros between them or none.

    Raises:
        Unreadable: it is broken, ends too early, or needs too much memory.
    """
    data = file.read(_READ_BYTES)
    streams = 0
    while data:
        stream = new()
        try:
            while not stream.eof:
                if stream.needs_input and not data:
                    data = file.read(_READ_BYTES)
                    if not data:
                        raise Unreadable("broken (it ends too early)")
                piece = stream.decompress(data, PIECE_BYTES)
                data = b""
                if piece:
                    yield piece
        except errors as error:
            if streams:
                raise Unreadable("broken (something else follows it)") from error
            raise Unreadable(f"broken ({brief(error)})") from error
        streams += 1
        data = _behind(stream.unused_data, file)


def brief(error: Exception) -> str:
    """Word an error of a library: its first line, not shouted."""
    text = str(error).strip().partition("\n")[0][:80].rstrip(".")
    return text[:1].lower() + text[1:] or type(error).__name__


class Stream:
    """Pieces as a file that is read forwards."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._at = 0

    def tell(self) -> int:
        """Count the bytes that were read."""
        return self._at

    def seek(self, offset: int) -> int:
        """Skip to a place further on."""
        while offset > self._at and self.read(min(PIECE_BYTES, offset - self._at)):
            pass
        return self._at

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes, fewer at the end only."""
        if len(self._rest) >= size:
            data, self._rest = bytes(self._rest[:size]), self._rest[size:]
            self._at += size
            return data
        parts: list[memoryview] = []
        while size and (self._rest or self._more()):
            part = self._rest[:size]
            self._rest = self._rest[len(part) :]
            parts.append(part)
            self._at += len(part)
            size -= len(part)
        return b"".join(parts)

    def _more(self) -> bool:
        self._rest = memoryview(next(self._pieces, b""))
        return bool(self._rest)


def _behind(data: bytes, file: BinaryIO) -> bytes:
    """Skip the zeros with which some writers fill a block."""
    data = data.lstrip(b"\0")
    while not data:
        more = file.read(_READ_BYTES)
        if not more:
            return b""
        data = more.lstrip(b"\0")
    return data


def _chained(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces
