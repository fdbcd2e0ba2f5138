"""What a container promises, looked at from inside by its first process.

Decides whether this container may hold a REPL: its own PID namespace, no network, a root that
cannot be written, a user who is not root, no capability, no way to new privileges. Whoever built
the container is not asked: each promise is tried here. Ceilings on memory and processes are
told of if the kernel shows them, and not required: an engine without delegated cgroups has none.
"""

import fcntl
import os
import socket

from abyme.guest.kernel import credentials
from abyme.guest.kernel.libc import library, prctl
from abyme.guest.kernel.lockdown import NotJailed

SIOCGIFFLAGS, IFF_UP, IFF_LOOPBACK = 0x8913, 1, 8
PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS = 23, 39
CEILINGS = {
    "memory_ceiling": ("memory.max", "memory/memory.limit_in_bytes"),
    "process_ceiling": ("pids.max", "pids/pids.max"),
}
"""Files of cgroups(7), version 2 and 1."""
NO_CEILING = 1 << 62
"""Version 1 shows a number near 2**63 where there is none."""


def verify() -> list[str]:
    """Name the layers of this container.

    Raises:
        NotJailed: if one that every container must have is missing.
    """
    promised = {
        "pid_namespace_of_container": os.getpid() == 1,
        "no_network": not _is_reachable(),
        "read_only_root": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "not_root": 0 not in os.getresuid(),
        "no_capabilities": not credentials.has_capabilities() and not _may_gain_capabilities(),
        "no_new_privileges": prctl(PR_GET_NO_NEW_PRIVS) == 1,
    }
    for layer, holds in promised.items():
        if not holds:
            raise NotJailed(layer)
    return ["container", *promised, *(name for name in CEILINGS if _is_bounded(name))]


def _is_reachable() -> bool:
    """Tell whether an interface other than loopback is up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            told = fcntl.ioctl(probe, SIOCGIFFLAGS, name.encode().ljust(40, b"\0"))
            flags = int.from_bytes(told[16:18], "little")
            if flags & IFF_UP and not flags & IFF_LOOPBACK:
                return True
    return False


def _may_gain_capabilities() -> bool:
    """Tell whether the bounding set holds a capability."""
    return any(
        library().prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1
        for number in range(credentials.LAST_CAPABILITY + 1)
    )


def _is_bounded(name: str) -> bool:
    for path in CEILINGS[name]:
        try:
            with open(f"/sys/fs/cgroup/{path}", encoding="ascii") as file:  # noqa: PTH123
                text = file.read().strip()
        except OSError:
            continue
        return text.isdigit() and int(text) < NO_CEILING
    return False
