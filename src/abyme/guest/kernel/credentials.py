"""Who a process in the jail is: nobody, with nothing, for ever.

Decides the order: user and group first, capabilities next, and last what a
change of credentials would clear again (death signal, dumpable). `dumpable` off
also keeps other processes of the same user from reading its memory.
"""

import ctypes
import errno
import os
import signal
import struct

from abyme.guest.kernel.libc import call_words, error_of, library, prctl, syscall

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE = 1, 2, 3, 4
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 38, 39, 47
CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_HEADER = struct.pack("Ii", 0x20080522, 0)
LAST_CAPABILITY = 63

UNUSED_ID = 61_234
"""User and group that own nothing, within the range systemd keeps for dynamic users."""

_BECOME_ROOT, _ENTER_GROUP = call_words(117, 0, 0, 0), call_words(119, 0, 0, 0)
_CHROOT = call_words(161, b"/")
"""Changes nothing, and needs CAP_SYS_CHROOT. Numbers of x86_64."""


FIRST_OWN_ID, OWN_IDS = 1_879_048_192, 1 << 27
"""A range of users that no table of systemd's gives to anybody (UIDS-GIDS.md)."""


def own_id() -> int:
    """Draw a user for one REPL alone, so that the kernel counts its processes by themselves."""
    return FIRST_OWN_ID + int.from_bytes(os.urandom(4), "little") % OWN_IDS


def become_nobody(user: int = UNUSED_ID) -> None:
    """Leave every user and group behind for `user`, who owns nothing. Needs CAP_SETUID and
    CAP_SETGID.

    Raises:
        OSError: if the kernel says no.
    """
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def drop_capabilities() -> None:
    """Empty every capability set, the bounding set where that is allowed.

    Raises:
        OSError: if the sets cannot be emptied.
    """
    for capability in range(LAST_CAPABILITY + 1):
        if library().prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break
    library().prctl(PR_CAP_AMBIENT, CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    syscall("capset", CAPABILITY_HEADER, bytes(24))


def renounce() -> None:
    """No new privileges by exec, no memory for others to read, no life without the parent.

    Raises:
        OSError: if the kernel says no.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def has_capabilities() -> bool:
    """Any effective, permitted or inheritable capability is left, or one works all the same."""
    sets = ctypes.create_string_buffer(24)
    syscall("capget", CAPABILITY_HEADER, sets)
    return any(sets.raw) or error_of(_CHROOT) != errno.EPERM


def renounced() -> bool:
    """No new privileges, not dumpable, and no life without the parent."""
    death = ctypes.c_int(0)
    library().prctl(PR_GET_PDEATHSIG, ctypes.byref(death), 0, 0, 0)
    return (
        prctl(PR_GET_NO_NEW_PRIVS) == 1
        and prctl(PR_GET_DUMPABLE) == 0
        and death.value == signal.SIGKILL
    )


def is_nobody(user: int) -> bool:
    """Every user and group is the unused one, and root cannot be had back."""
    unused = (user,) * 3
    if (os.getresuid(), os.getresgid(), os.getgroups()) != (unused, unused, []):
        return False
    return _becoming_root_fails_by() == errno.EPERM


def owns_nothing() -> bool:
    """Root and its group are unknown in this user namespace: EINVAL, where others get EPERM.

    Source: setresuid(2), user_namespaces(7).
    """
    return _becoming_root_fails_by() == errno.EINVAL


def _becoming_root_fails_by() -> int:
    """Tell the error of becoming root and of entering its group; 0 if one works, or they differ."""
    user, group = error_of(_BECOME_ROOT), error_of(_ENTER_GROUP)
    return user if user == group else 0


def prefer_for_oom(adjustment: int = 900) -> None:
    """Let the kernel kill guests before anything of the user's when memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(str(adjustment))
    except OSError:
        return  # no /proc: a courtesy to the host, not a layer of the jail
