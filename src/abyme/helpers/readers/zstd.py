"""Zstandard (RFC 8878): one file, or a tar archive. Frames may follow each other."""

from typing import BinaryIO, Final

import zstandard

from abyme.helpers.emit import Emit
from abyme.helpers.readers import packed
from abyme.helpers.readers.tar import prepare

__all__ = ["prepare", "read"]

_WINDOW_BYTES: Final = 128 << 20
"""What the zstd command takes without being told otherwise; a window is the file's own claim."""
_STEP_BYTES: Final = 4 << 10
"""Taken at once: 4 bytes can stand for 128 KB, so that is 128 MB at most."""


def read(file: BinaryIO, emit: Emit) -> None:
    """Give what is packed; its checksum is looked at where it has one."""
    packed.unpack(packed.inflated(file, _Frame, zstandard.ZstdError), emit)


class _Frame:
    """A decompressor that bounds what it makes at once by what it is given."""

    def __init__(self) -> None:
        unpacking = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        self._inner = unpacking.decompressobj()
        self._rest = memoryview(b"")

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._rest

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data + bytes(self._rest)

    def decompress(self, data: bytes, max_length: int) -> bytes:  # noqa: ARG002
        if data:
            self._rest = memoryview(bytes(self._rest) + data)
        step, self._rest = self._rest[:_STEP_BYTES], self._rest[_STEP_BYTES:]
        return self._inner.decompress(step)
