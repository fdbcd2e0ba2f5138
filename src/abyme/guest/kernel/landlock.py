"""Landlock: a domain that may touch no file, no port, no process outside of it.

Decides that *nothing* is granted: the ruleset handles every right that the
running kernel knows and holds no rule. Landlock does not restrict `stat`; the
seccomp policy does. Source: landlock(7), include/uapi/linux/landlock.h.
"""

import os
import struct

from abyme.guest.kernel.credentials import PR_SET_NO_NEW_PRIVS
from abyme.guest.kernel.libc import prctl, syscall

CREATE_VERSION = 1
FILE_RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))
"""(ABI, how many rights on files it knows)."""
NET_ABI, SCOPE_ABI = 4, 6
BIND_AND_CONNECT_TCP, ABSTRACT_SOCKETS_AND_SIGNALS = 3, 3


def abi() -> int:
    """Ask for the version that the kernel offers; 0: none."""
    try:
        return syscall("landlock_create_ruleset", None, 0, CREATE_VERSION)
    except OSError:
        return 0


def restrict(version: int) -> None:
    """Enter a domain without any rights, for ever.

    Raises:
        OSError: if the kernel says no.
    """
    rights = (1 << max(count for since, count in FILE_RIGHTS if since <= version)) - 1
    words = [rights]
    if version >= NET_ABI:
        words.append(BIND_AND_CONNECT_TCP)
    if version >= SCOPE_ABI:
        words.append(ABSTRACT_SOCKETS_AND_SIGNALS)
    attributes = struct.pack(f"={len(words)}Q", *words)
    ruleset = syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
