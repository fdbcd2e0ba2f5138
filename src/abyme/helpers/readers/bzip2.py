"""Bzip2: one file, or a tar archive."""

import bz2
from typing import BinaryIO

from abyme.helpers.emit import Emit
from abyme.helpers.readers import packed
from abyme.helpers.readers.tar import prepare

__all__ = ["prepare", "read"]


def read(file: BinaryIO, emit: Emit) -> None:
    """Give what is packed; its checksum is looked at."""
    packed.unpack(packed.inflated(file, bz2.BZ2Decompressor, OSError), emit)
