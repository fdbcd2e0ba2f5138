"""Memory that cannot be unmapped, remapped or made writable any more: mseal(2), Linux 6.10.

Decides nothing. Where the kernel lacks the call, the view of a context can be
replaced by native tricks of a cell; the host's own copy cannot, and it is the
only one that the host believes.
"""

from collections.abc import Iterable

from abyme.guest.kernel.libc import syscall


def seal(maps: Iterable[tuple[int, int]]) -> bool:
    """Seal the maps (address, length); False where the kernel cannot."""
    try:
        syscall("mseal", 0, 0, 0)  # nothing; fails where the call is not known
        for address, size in maps:
            syscall("mseal", address, size, 0)
    except OSError:
        return False
    return True
