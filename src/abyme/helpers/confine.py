"""From a program of ours to one that may look at hostile bytes: the jail's layers, all of them.

Decides what a helper keeps of what the jail's table allows: no process of its own, and for one
that serves, descriptors that the host sends over its link. In two steps, because namespaces are
entered once and a process in them is forked for each document: `Ground.prepare`, then, in the
fork, `confine`. Invariant: when `confine` returns, this process has no file, network, other
process or new privilege, its memory and processor time are bounded, and each of these was
tried from inside; where one is missing it raises and the process must end.

Does not know what is read. Sources: as in `abyme.guest.kernel`, whose mechanisms these are.
"""

import fcntl  # noqa: F401 - for `namespaces`, which cannot load it any more
import os
import resource
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from os import environ  # this process's own copy, emptied
from typing import Final

from abyme.guest.kernel import forbidden, landlock, namespaces, policy, seccomp
from abyme.guest.kernel.credentials import UNUSED_ID, prefer_for_oom
from abyme.guest.kernel.lockdown import (
    Confinement,
    NotJailed,
    enter_domain,
    lock_down,
    verify_inherited,
    verify_shared,
)
from abyme.guest.kernel.namespaces import Namespaces
from abyme.guest.kernel.policy import Rule

MAX_THREADS: Final = 64
SHARED_PROCESSES: Final = 1 << 20
"""Where a helper's threads are counted with all processes of its user: no bound but the memory
that threads need, since it can make no process."""
RECEIVE: Final = Rule("recvmsg", 47)
FIRST_PID: Final = 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a confined process may use up."""

    memory_bytes: int
    mapped_bytes: int = 0
    """Of files that it maps, which do not count as memory."""
    cpu_s: int | None = None


class Ground:
    """What all confined processes of this program have in common."""

    def __init__(self) -> None:
        self._way: Namespaces | None = None
        self._layers: list[str] = []
        self._programs: dict[bool, bytes] = {}

    def prepare(self) -> None:
        """Enter namespaces where they can be had, and verify them. With one thread only.

        Raises:
            NotJailed: neither these nor Landlock can be had, or one does not hold.
        """
        if not seccomp.available():
            raise NotJailed("seccomp (no system call filter on this kernel and machine)")
        self._way = namespaces.find_way()
        if self._way is None and not landlock.abi():
            raise NotJailed("neither user namespaces nor Landlock can be had")
        prefer_for_oom()
        environ.clear()
        if self._way is not None:
            self._layers += verify_shared(namespaces.enter(self._way))
            self._layers += enter_domain(required=False)
            self._programs = {
                receives: _compiled(FIRST_PID, receives=receives, empty_root=True)
                for receives in (True, False)
            }
        os.chdir("/")
        forbidden.prepare()

    def verify(self) -> None:
        """See that nothing of the host's is inherited, when its errors need not be read any more.

        Raises:
            NotJailed: something is.
        """
        self._layers += verify_inherited()

    def fork(self) -> int:
        """Fork a process that is to be confined; it is the first of a PID namespace, if it can."""
        return os.fork() if self._way is None else namespaces.clone_init(self._way)

    def confine(
        self, bounds: Bounds, descriptors: AbstractSet[int], *, receives: bool = False
    ) -> list[str]:
        """Confine this process, a fork, for ever; the layers that were verified.

        It has `descriptors` beside those that lead nowhere, and `receives` more over a socket.

        Raises:
            NotJailed: one is missing.
        """
        domain = enter_domain(required=True) if self._way is None else []
        if bounds.cpu_s is not None:
            _limit_cpu(bounds.cpu_s)
        program = self._programs.get(receives)
        if program is None:
            program = _compiled(os.getpid(), receives=receives, empty_root=False)
        granted = frozenset({RECEIVE.call}) if receives else frozenset[str]()
        got = self._way
        wanted = Confinement(
            got,
            bounds.memory_bytes,
            MAX_THREADS if got is not None and (got.nested or got.own_user) else SHARED_PROCESSES,
            (),
            bounds.mapped_bytes,
            program,
            UNUSED_ID if got is None else got.user(),
            granted,
        )
        layers = lock_down(wanted, descriptors)
        answered = forbidden.first_answered(alone=False, granted=granted)
        if answered is not None:  # stricter than a REPL, which may fork
            raise NotJailed(f"seccomp ({answered})")
        return [*self._layers, *domain, *layers]


def _compiled(pid: int, *, receives: bool, empty_root: bool) -> bytes:
    rules = policy.rules(own_pid=pid)
    extra = [RECEIVE] if receives else []
    if empty_root:
        extra.append(policy.FSTAT_OF_GLIBC)
    return seccomp.compile_filter([*extra, *rules])


def _limit_cpu(cpu_s: int) -> None:
    """At once by the signal that nothing survives: the first process of a PID namespace ignores
    the other one (pid_namespaces(7)).
    """
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
