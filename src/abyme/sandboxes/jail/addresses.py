"""Address space layout: not randomised, so that what hashes by address hashes alike again.

Decides nothing else. The order of a set of objects, and in Python 3.11 of one with None in it,
follows from addresses; with the hash seed of a run alone it would not be the same when the run is
resumed. Best effort: where the kernel or a container's filter refuses, such orders
differ. Takes nothing from the jail: code in it can read the addresses of its own process.
Source: personality(2).
"""

import contextlib
import ctypes
from collections.abc import Iterator

ADDR_NO_RANDOMIZE = 0x0040000
ASK = 0xFFFFFFFF
REFUSED = -1


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Start programs of which each has its memory where the others have it. This thread only."""
    personality = ctypes.CDLL(None).personality
    before: int = personality(ctypes.c_ulong(ASK))
    if before == REFUSED or personality(ctypes.c_ulong(before | ADDR_NO_RANDOMIZE)) == REFUSED:
        yield
        return
    try:
        yield
    finally:
        personality(ctypes.c_ulong(before))
