"""What confines the process around the interpreter, should the interpreter be broken out of.

Decides the order, with the mechanisms of the jail (`abyme.guest.kernel`): what holds for one
thread comes before the interpreter makes threads, the system call filter after it, for all of
them at once, when nothing executable has to be made any more. Each promise is checked right after
it was made. Linux only; elsewhere there is the interpreter alone, and no layer but ``wasm``
is named. Memory is bounded from what the process has when its context is loaded, so that the
context does not count.
"""

import contextlib
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Mapping
from typing import Final

from abyme.guest.kernel import credentials, landlock, namespaces, policy, seccomp
from abyme.guest.kernel.libc import checked, library, syscall
from abyme.guest.kernel.policy import Rule

with contextlib.suppress(ImportError):  # Windows has neither, and needs neither
    import fcntl  # noqa: F401 - for `namespaces`, which cannot load it any more
    import resource

APART: Final = (
    namespaces.CLONE_NEWNET
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWUTS
    | namespaces.CLONE_NEWCGROUP
)
SET_MODE_FILTER, ALL_THREADS, SPEC_ALLOW = 1, 1, 4
MAX_OPEN_FILES: Final = 128
MAX_FILE_BYTES: Final = 80 << 20
"""A frame of the host's."""
OWN_BYTES: Final = 256 << 20
"""For this program: frames on their way, and the stacks of the interpreter's threads."""
STATM_DATA: Final = 5
FILE_CALLS: Final[Mapping[str, int]] = {
    "open": 2,
    "rename": 82,
    "unlink": 87,
    "readlink": 89,
    "getdents64": 217,
    "openat": 257,
    "newfstatat": 262,
    "unlinkat": 263,
    "renameat": 264,
    "renameat2": 316,
    "statx": 332,
    "openat2": 437,
}
"""On top of the jail's table: the interpreter reads its folders. Which ones is Landlock's."""


class NotConfined(Exception):
    """A layer, the message, is not on. The process must not run anybody's code."""


class Confinement:
    """The two steps."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._statm = -1

    def before_threads(self, own: str, readable: list[str]) -> list[str]:
        """Confine this thread, and all that it will make; the layers that were verified.

        Raises:
            NotConfined: one is missing.
        """
        if sys.platform != "linux":
            return []
        _must(seccomp.available(), "seccomp")
        version = landlock.abi()
        _must(version > 0, "landlock")
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        if os.geteuid() == 0:
            with contextlib.suppress(PermissionError):  # uid 0 without capabilities, as it stays
                credentials.become_nobody()
        layers = _namespaces()
        granted = dict.fromkeys(readable, landlock.READING) | {own: landlock.KEEPING_FILES}
        landlock.restrict(version, granted)
        _must(_refused(lambda: os.listdir("/")), "landlock")  # noqa: PTH208
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
        _limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
        _limit(resource.RLIMIT_MEMLOCK, 0)
        _limit(resource.RLIMIT_MSGQUEUE, 0)
        credentials.drop_capabilities()
        _must(not credentials.has_capabilities(), "no_capabilities")
        credentials.renounce()
        _must(credentials.renounced(), "no_new_privileges")
        return [*layers, "landlock", "no_capabilities", "no_new_privileges"]

    def before_cells(self) -> list[str]:
        """Confine all threads further, now that all is made that cells need.

        Raises:
            NotConfined: a layer is missing.
        """
        if sys.platform != "linux":
            return []
        ceiling = self._data_bytes() + self._memory_bytes + OWN_BYTES
        _limit(resource.RLIMIT_DATA, ceiling)
        _must(resource.getrlimit(resource.RLIMIT_DATA)[0] <= ceiling, "rlimits")
        _filter(seccomp.compile_filter(_rules()))
        _must(_filtered(), "seccomp")
        return ["rlimits", "seccomp"]

    def _data_bytes(self) -> int:
        words = os.pread(self._statm, 200, 0).split()
        return int(words[STATM_DATA]) * os.sysconf("SC_PAGE_SIZE")


def _namespaces() -> list[str]:
    """Leave the network behind, where this host lets us."""
    try:
        checked(library().unshare(namespaces.CLONE_NEWUSER | APART), "unshare")
    except OSError:
        return []
    _must(namespaces.network_is_absent(), "network_namespace")
    return ["user_namespace", "network_namespace", "ipc_namespace"]


def _rules() -> list[Rule]:
    """Put the jail's table for a process without namespaces together with `FILE_CALLS`."""
    table = [one for one in policy.rules(own_pid=os.getpid()) if one.call not in FILE_CALLS]
    return table + [Rule(call, number) for call, number in FILE_CALLS.items()]


def _filter(program: bytes) -> None:
    """Put a filter on every thread of this process.

    Raises:
        OSError: the kernel says no, or a thread cannot be made to follow.
    """
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    refused = syscall("seccomp", SET_MODE_FILTER, ALL_THREADS | SPEC_ALLOW, header)
    _must(refused == 0, "seccomp")  # else it is the number of that thread


def _filtered() -> bool:
    return (
        _refused(lambda: os.execv("/", ["/"]))  # noqa: S606
        and _refused(lambda: os.memfd_create("x"))
        and _refused(os.fork)
        and _refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close())
    )


def _refused(attempt: object) -> bool:
    try:
        attempt()  # type: ignore[operator]
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _limit(which: int, wanted: int) -> None:
    _, hard = resource.getrlimit(which)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(which, (ceiling, ceiling))


def _must(holds: bool, layer: str) -> None:  # noqa: FBT001 - an assertion with a name
    if not holds:
        raise NotConfined(layer)
