"""Landlock: a domain that may touch no file, no port, no process outside of it.

Decides that *nothing* is granted but what is said: the ruleset handles every right that the
running kernel knows, and for a REPL in the jail it holds no rule. Landlock does not restrict
`stat`; the seccomp policy does. Source: landlock(7), include/uapi/linux/landlock.h.
"""

import os
import struct
from collections.abc import Mapping

from abyme.guest.kernel.credentials import PR_SET_NO_NEW_PRIVS
from abyme.guest.kernel.libc import prctl, syscall

CREATE_VERSION = 1
FILE_RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))
"""(ABI, how many rights on files it knows)."""
NET_ABI, SCOPE_ABI = 4, 6
BIND_AND_CONNECT_TCP, ABSTRACT_SOCKETS_AND_SIGNALS = 3, 3
PATH_BENEATH = 1
WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE, MAKE_REG, TRUNCATE = (
    *(1 << 1, 1 << 2, 1 << 3, 1 << 5),
    *(1 << 8, 1 << 14),
)
READING = READ_FILE | READ_DIR
KEEPING_FILES = READING | WRITE_FILE | REMOVE_FILE | MAKE_REG | TRUNCATE
"""To write and remove files, and to rename them within their folder."""


def abi() -> int:
    """Ask for the version that the kernel offers; 0: none."""
    try:
        return syscall("landlock_create_ruleset", None, 0, CREATE_VERSION)
    except OSError:
        return 0


def restrict(version: int, granted: Mapping[str, int] | None = None) -> None:
    """Enter a domain without any rights but those `granted` for a folder, for ever.

    Raises:
        OSError: if the kernel says no, or a folder is not there.
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
        for folder, wanted in (granted or {}).items():
            _grant(ruleset, folder, wanted & rights)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _grant(ruleset: int, folder: str, rights: int) -> None:
    fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, fd)
        syscall("landlock_add_rule", ruleset, PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)
