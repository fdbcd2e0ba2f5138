"""Xz: one file, or a tar archive."""

import lzma
from typing import BinaryIO, Final

from abyme.helpers.emit import Emit
from abyme.helpers.readers import packed
from abyme.helpers.readers.tar import prepare

__all__ = ["prepare", "read"]

_MEMORY_BYTES: Final = 512 << 20
"""`xz -9` needs 65 MB to unpack; a window is the file's own claim."""


def read(file: BinaryIO, emit: Emit) -> None:
    """Give what is packed; its checksum is looked at."""
    packed.unpack(packed.inflated(file, _decompressor, lzma.LZMAError), emit)


def _decompressor() -> packed.Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_BYTES)
