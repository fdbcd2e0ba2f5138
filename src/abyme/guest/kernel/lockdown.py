"""From trusted code to a jailed REPL: every step, and the proof that it took.

Decides the order. Each promise is checked from inside right after it was made,
with the other layers not yet there to hide that one is missing. Invariant: when
`lock_down` returns, what it names is on; when anything it must have is not on, it
raises and the process must die. Landlock is a second line where there are
namespaces and the first one where there are none.
"""

import ctypes
import os
import select
import stat
import struct
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from os import environ  # this process's own copy

from abyme.guest.kernel import (
    credentials,
    forbidden,
    landlock,
    namespaces,
    policy,
    rlimits,
    seal,
    seccomp,
)
from abyme.guest.kernel.libc import call_words, error_of, library
from abyme.guest.kernel.namespaces import Namespaces

NOTHING = os.makedev(1, 3)
"""/dev/null; see null(4)."""
POLL = 7
_POLLED = b"".join(struct.pack("=ihh", fd, 0, 0) for fd in range(rlimits.MAX_OPEN_FILES))
"""See poll(2); it tells of a closed descriptor whatever it was asked."""


class NotJailed(Exception):
    """A layer, the message, is not on. The process must not run anybody's code."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a process in the jail is to be confined with."""

    namespaces: Namespaces | None
    memory_bytes: int
    max_processes: int
    maps: Sequence[tuple[int, int]]
    mapped_bytes: int
    """Of every context that this process has mapped, also of one that it does not use."""
    program: bytes | None
    """The compiled system call filter where it is the same for every REPL."""
    user: int = credentials.UNUSED_ID
    """Whom to become, where there is no user namespace."""
    granted: frozenset[str] = frozenset()
    """Of `forbidden`'s calls those that `program` lets through."""


def lock_down(wanted: Confinement, descriptors: AbstractSet[int]) -> list[str]:
    """Confine this process for ever; the layers that were verified.

    Beside `descriptors` it may have the standard ones, which lead nowhere.

    Raises:
        NotJailed: if one is missing.
    """
    got = wanted.namespaces
    layers = [] if got is None else _namespaces(got)
    maps = wanted.maps or seal.any_page()
    if seal.seal(maps):
        _must(seal.holds(maps), "sealed_view")
        layers.append("sealed_view")
    _limit(wanted)
    if got is not None and got.way == "direct":
        credentials.become_nobody(wanted.user)
        _must(credentials.is_nobody(wanted.user), "no_capabilities")
    credentials.drop_capabilities()
    _must(not credentials.has_capabilities(), "no_capabilities")
    _must(not rlimits.can_be_raised(), "rlimits")
    credentials.renounce()
    _must(credentials.renounced(), "no_new_privileges")
    program = wanted.program
    if program is None:
        program = seccomp.compile_filter(policy.rules(own_pid=os.getpid()))
    seccomp.install(program)
    answered = forbidden.first_answered(alone=got is not None, granted=wanted.granted)
    _must(answered is None, "seccomp")
    _must(_open_descriptors() == {0, 1, 2} | descriptors, "descriptors")
    always = ["rlimits", "no_capabilities", "no_new_privileges", "seccomp"]
    return [*layers, *always, "descriptors"]


def verify_shared(others: AbstractSet[str]) -> list[str]:
    """Check once, in the fork server, what all its REPLs share. `others`: from `enter`.

    Raises:
        NotJailed: if it sees a file, a network, or anything of another namespace.
    """
    _must(namespaces.root_is_empty(), "empty_root")
    _must(namespaces.network_is_absent(), "network_namespace")
    layers = ["empty_root", "network_namespace"]
    if namespaces.host_is_unnamed():  # a filter around the jail may refuse to let it take a name
        layers.append("uts_namespace")
    if not others:  # without /proc nothing tells
        return layers
    _must("net" in others, "network_namespace")
    _must("ipc" in others, "ipc_namespace")
    return [*layers, "ipc_namespace"]


def verify_descriptors(control_fd: int) -> None:
    """Check once, in the fork server, that the host left it nothing but its end of the control.

    Raises:
        NotJailed: if there is another descriptor, however high.
    """
    try:
        names = os.listdir("/proc/self/fd")  # noqa: PTH208
    except OSError:
        return  # each REPL closes what it was not given, and looks at those that it may have
    others = {int(name) for name in names} - {0, 1, 2, control_fd}
    _must(len(others) == 1, "descriptors")  # the one by which they were listed


def verify_inherited() -> list[str]:
    """Check once, in the fork server, what its forks have from it.

    Raises:
        NotJailed: if there is a variable of the host's, or a standard descriptor leads anywhere.
    """
    _must(_lead_nowhere(), "descriptors")
    _must(not environ and _has_no_environment(), "empty_environment")
    return ["empty_environment"]


def _limit(wanted: Confinement) -> None:
    rlimits.limit(
        memory_bytes=wanted.memory_bytes,
        mapped_bytes=wanted.mapped_bytes,
        max_processes=wanted.max_processes,
    )
    hold = rlimits.hold(memory_bytes=wanted.memory_bytes, max_processes=wanted.max_processes)
    _must(hold, "rlimits")


def _namespaces(got: Namespaces) -> list[str]:
    """Check what each REPL has of its own."""
    _must(namespaces.is_alone(), "pid_namespace")
    if got.way == "direct":
        return ["pid_namespace"]
    _must(credentials.owns_nothing(), "user_namespace")
    return ["user_namespace", "pid_namespace"]


def enter_domain(*, required: bool) -> list[str]:
    """Enter a Landlock domain, where the kernel has it: the first step, and one for all.

    A supervisor and its REPL must be in the same domain, or it could not signal it.

    Raises:
        NotJailed: if it is `required` and not there, or does not hold.
    """
    version = landlock.abi()
    if version == 0:
        _must(not required, "landlock")
        return []
    landlock.restrict(version)
    _must(landlock.holds(version, alone=required), "landlock")
    return ["landlock"]


def _lead_nowhere() -> bool:
    """Tell whether the standard descriptors are those of /dev/null."""
    told = [os.fstat(fd) for fd in (0, 1, 2)]
    return all(stat.S_ISCHR(one.st_mode) and one.st_rdev == NOTHING for one in told)


def _open_descriptors() -> set[int]:
    """Ask for all that this process may have, in one call."""
    asked = ctypes.create_string_buffer(_POLLED, len(_POLLED))
    error_of(call_words(POLL, asked, rlimits.MAX_OPEN_FILES, 0))
    return {fd for fd, told in enumerate(asked.raw[6::8]) if told != select.POLLNVAL}


def _has_no_environment() -> bool:
    """Tell whether the C library's list of variables begins with its end."""
    variables = ctypes.POINTER(ctypes.c_void_p).in_dll(library(), "environ")
    return not variables or variables[0] is None


def _must(holds: bool, layer: str) -> None:  # noqa: FBT001 - an assertion with a name
    if not holds:
        raise NotJailed(layer)
