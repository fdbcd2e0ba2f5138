"""Resource limits of a REPL (setrlimit(2)).

Decides what a process in the jail may use up. RLIMIT_DATA bounds its memory: the sealed
context is mapped and must not count; shared memory, which RLIMIT_DATA does not see,
is refused by the seccomp policy. RLIMIT_AS bounds what RLIMIT_DATA does not see either:
maps that are only read, whose page tables would cost the host 1 byte for 512 of address
space. RLIMIT_NPROC is exact only where the REPL has a user namespace of its own (ucounts,
Linux 5.14), and does not bind a process whose real user is root on the host.

Not bounded here: the sum over processes. Each one that a cell forks has these limits for itself;
the host looks at all of them together while a cell runs (`sandboxes/wired/ceilings`).
"""

import errno
import os
import resource
import struct

from abyme.guest.kernel.libc import call_words, error_of

MAX_OPEN_FILES = 64
NOTHING_OF = (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_MEMLOCK)
WRITE, MMAP, DUP2, PRLIMIT = 1, 9, 33, 302
"""Numbers of x86_64."""
STACK_BYTES = 16 << 20
SPARE_ADDRESS_BYTES = 4 << 30
"""For the interpreter and its libraries, and the arenas that malloc reserves for threads; 8 MB
of page tables."""


def limit(*, memory_bytes: int, mapped_bytes: int, max_processes: int) -> None:
    """Lower the limits, hard and soft. They cannot be raised again from inside.

    `mapped_bytes` are those of the contexts, which count for nothing but address space.
    """
    fixed = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_STACK: STACK_BYTES,
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_AS: mapped_bytes + memory_bytes + SPARE_ADDRESS_BYTES,
        resource.RLIMIT_NPROC: max_processes,
    }
    for which, wanted in fixed.items():
        _, hard = resource.getrlimit(which)
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (ceiling, ceiling))


def hold(*, memory_bytes: int, max_processes: int) -> bool:
    """Look at them, and go beyond those that can be passed at once: memory, address space and
    descriptors, the size of a file.
    """
    data, _ = resource.getrlimit(resource.RLIMIT_DATA)
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    return (
        0 <= data <= memory_bytes
        and 0 <= processes <= max_processes
        and space != resource.RLIM_INFINITY
        and all(resource.getrlimit(which) == (0, 0) for which in NOTHING_OF)
        and error_of(call_words(MMAP, 0, memory_bytes, 3, 0x22, -1, 0)) == errno.ENOMEM
        and error_of(call_words(MMAP, 0, space, 1, 0x22, -1, 0)) == errno.ENOMEM
        and error_of(call_words(DUP2, 0, MAX_OPEN_FILES)) == errno.EBADF
        and _bounds_files()
    )


def can_be_raised() -> bool:
    """Try to raise one again, which needs a capability."""
    more = struct.pack("=QQ", 0, MAX_OPEN_FILES + 1)
    return error_of(call_words(PRLIMIT, 0, resource.RLIMIT_NOFILE, more, 0)) != errno.EPERM


def _bounds_files() -> bool:
    """Try to write a byte to a file of memory."""
    fd = os.memfd_create("x")
    try:
        return error_of(call_words(WRITE, fd, b"x", 1)) == errno.EFBIG
    finally:
        os.close(fd)
