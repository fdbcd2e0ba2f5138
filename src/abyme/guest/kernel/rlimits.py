"""Resource limits of a REPL (setrlimit(2)).

Decides what a process in the jail may use up. RLIMIT_DATA and not RLIMIT_AS,
because the sealed context is mapped and must not count; shared memory, which
RLIMIT_DATA does not see, is refused by the seccomp policy. RLIMIT_NPROC is exact
only where the REPL has a user namespace of its own (ucounts, Linux 5.14), and
does not bind a process whose real user is root on the host.
"""

import resource

MAX_OPEN_FILES = 64
STACK_BYTES = 16 << 20


def limit(*, memory_bytes: int, max_processes: int) -> None:
    """Lower the limits, hard and soft. They cannot be raised again from inside."""
    fixed = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_STACK: STACK_BYTES,
        resource.RLIMIT_DATA: memory_bytes,
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
    return 0 <= data <= memory_bytes and files <= MAX_OPEN_FILES and core == 0
