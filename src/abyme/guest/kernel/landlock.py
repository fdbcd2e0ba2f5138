"""Landlock: a domain that may touch no file, no port, no process outside of it.

Decides that *nothing* is granted but what is said: the ruleset handles every right that the
running kernel knows, and for a REPL in the jail it holds no rule. Landlock does not restrict
`stat`; the seccomp policy does. Source: landlock(7), include/uapi/linux/landlock.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Mapping

from abyme.guest.kernel.credentials import PR_SET_NO_NEW_PRIVS
from abyme.guest.kernel.libc import call_words, error_of, prctl, syscall

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
KILL, CONNECT = 62, 42
_OPEN_ROOT = call_words(257, -100, b"/", 0o200000, 0)
"""openat(AT_FDCWD, O_DIRECTORY). Numbers of x86_64."""
_LOOPBACK_PORT_1 = struct.pack(
    "=HHL", socket.AF_INET, socket.htons(1), socket.htonl(0x7F000001)
) + bytes(8)


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


def holds(version: int, *, alone: bool) -> bool:
    """Try what the domain of that version must refuse: a folder, and where it is `alone`, without
    namespaces, a port and a process outside.
    """
    if error_of(_OPEN_ROOT) != errno.EACCES:
        return False
    if alone and version >= NET_ABI and not _refuses_ports():
        return False
    if not alone or version < SCOPE_ABI:
        return True
    return error_of(call_words(KILL, os.getppid(), 0)) == errno.EPERM


def _refuses_ports() -> bool:
    fd = syscall("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
    try:
        return error_of(call_words(CONNECT, fd, _LOOPBACK_PORT_1, 16)) == errno.EACCES
    finally:
        os.close(fd)
