"""From trusted code to a jailed REPL: every step, and the proof that it took.

Decides the order. Each promise is checked from inside right after it was made,
with the other layers not yet there to hide that one is missing. Invariant: when
`lock_down` returns, what it names is on; when anything it must have is not on, it
raises and the process must die. Landlock is a second line where there are
namespaces and the first one where there are none.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from os import environ  # this process's own copy

from abyme.guest.kernel import credentials, landlock, namespaces, policy, rlimits, seal, seccomp
from abyme.guest.kernel.namespaces import Namespaces


class NotJailed(Exception):
    """A layer, the message, is not on. The process must not run anybody's code."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a REPL is to be confined with."""

    namespaces: Namespaces | None
    memory_bytes: int
    max_processes: int
    maps: Sequence[tuple[int, int]]
    mapped_bytes: int
    """Of every context that this process has mapped, also of one that it does not use."""
    program: bytes | None
    """The compiled system call filter where it is the same for every REPL."""


def lock_down(wanted: Confinement) -> list[str]:
    """Confine this process for ever; the layers that were verified.

    Raises:
        NotJailed: if one is missing.
    """
    layers: list[str] = []
    if wanted.namespaces is not None:
        layers += _namespaces(wanted.namespaces)
    if seal.seal(wanted.maps):
        layers.append("sealed_view")
    rlimits.limit(
        memory_bytes=wanted.memory_bytes,
        mapped_bytes=wanted.mapped_bytes,
        max_processes=wanted.max_processes,
    )
    _must(rlimits.holds(memory_bytes=wanted.memory_bytes), "rlimits")
    if wanted.namespaces is not None and wanted.namespaces.way == "direct":
        credentials.become_nobody()
    credentials.drop_capabilities()
    _must(not credentials.has_capabilities(), "no_capabilities")
    credentials.renounce()
    _must(credentials.renounced(), "no_new_privileges")
    layers += ["rlimits", "no_capabilities", "no_new_privileges"]
    program = wanted.program
    if program is None:
        program = seccomp.compile_filter(policy.rules(own_pid=os.getpid()))
    seccomp.install(program)
    _must(seccomp.holds() and not _can_connect(), "seccomp")
    _must(not environ, "empty_environment")
    return [*layers, "seccomp", "empty_environment"]


def verify_namespaces() -> None:
    """Check once, in the fork server, what all its REPLs share.

    Raises:
        NotJailed: if it sees a file or a network.
    """
    _must(namespaces.root_is_empty(), "empty_root")
    _must(namespaces.network_is_absent(), "network_namespace")


def _namespaces(got: Namespaces) -> list[str]:
    _must(1 in (os.getpid(), os.getppid()), "pid_namespace")
    layers = ["empty_root", "network_namespace", "pid_namespace", "ipc_namespace"]
    return layers if got.way == "direct" else ["user_namespace", *layers]


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
    try:
        os.listdir("/")  # noqa: PTH208
    except PermissionError:
        return ["landlock"]
    raise NotJailed("landlock")


def _can_connect() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except PermissionError:
        return False
    return True


def _must(holds: bool, layer: str) -> None:  # noqa: FBT001 - an assertion with a name
    if not holds:
        raise NotJailed(layer)
