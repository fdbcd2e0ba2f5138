"""Gzip (RFC 1952): one file, or a tar archive."""

import zlib
from typing import BinaryIO, Final

from abyme.helpers.emit import Emit
from abyme.helpers.readers import packed
from abyme.helpers.readers.tar import prepare

__all__ = ["prepare", "read"]

_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


def read(file: BinaryIO, emit: Emit) -> None:
    """Give what is packed; its checksum is looked at."""
    packed.unpack(packed.inflated(file, _Inflate, zlib.error), emit)


class _Inflate:
    """zlib's decompressor, to be used as those of lzma and bz2 are."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP_WINDOW)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
