"""Memory that cannot be unmapped, remapped or made writable any more: mseal(2), Linux 6.10.

Decides how the seal is tried: the weakest change is refused before a stronger one is tried,
which would do harm if it was not. Where the kernel lacks the call, the view of a context can be
replaced by native tricks of a cell; the host's own copy cannot, and it is the
only one that the host believes.
"""

import ctypes
import errno
from collections.abc import Sequence
from typing import Final

from abyme.guest.kernel.libc import call_words, error_of, library, syscall

Maps = Sequence[tuple[int, int]]
"""(address, bytes), each whole pages."""
PAGE: Final = 4096
PROT_READ: Final = 1
MPROTECT, MUNMAP = 10, 11
PRIVATE_AND_ANONYMOUS: Final = 0x22


def seal(maps: Maps) -> bool:
    """Seal the maps; False where the kernel cannot."""
    try:
        syscall("mseal", 0, 0, 0)  # nothing; fails where the call is not known
        for address, size in maps:
            syscall("mseal", address, size, 0)
    except OSError:
        return False
    return True


def any_page() -> Maps:
    """Map a page to try the seal on, where there is no view. It cannot be unmapped again.

    Raises:
        OSError: if there is no memory.
    """
    call = library().mmap
    call.restype = ctypes.c_void_p
    words = (ctypes.c_int(word) for word in (PROT_READ, PRIVATE_AND_ANONYMOUS, -1))
    address = call(None, ctypes.c_size_t(PAGE), *words, ctypes.c_long(0))
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "mmap")
    return [(int(address), PAGE)]


def holds(maps: Maps) -> bool:
    """Try to change the protection of each map's last page, and to unmap it."""
    for address, size in maps:
        last = address + size - PAGE
        for words in (call_words(MPROTECT, last, PAGE, PROT_READ), call_words(MUNMAP, last, PAGE)):
            if error_of(words) != errno.EPERM:
                return False
    return True
