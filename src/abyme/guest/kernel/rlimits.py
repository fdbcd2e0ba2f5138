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

import resource

MAX_OPEN_FILES = 64
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


def holds(*, memory_bytes: int) -> bool:
    """Memory, files and core dumps are really limited."""
    data, _ = resource.getrlimit(resource.RLIMIT_DATA)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    core, _ = resource.getrlimit(resource.RLIMIT_CORE)
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space == resource.RLIM_INFINITY:
        return False
    return 0 <= data <= memory_bytes and files <= MAX_OPEN_FILES and core == 0
