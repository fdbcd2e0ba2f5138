"""Bzip2: one file, or a tar archive."""

import bz2
from typing import BinaryIO

from abyme.helpers.emit import Emit
from abyme.helpers.readers import packed


def read(file: BinaryIO, emit: Emit) -> None:
    """Give what is packed; its checksum is looked at."""
    packed.unpack(packed.inflated(file, bz2.BZ2Decompressor, OSError), emit)
