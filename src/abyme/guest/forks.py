"""The fork server's loop: adopts the run's context once, forks a REPL when the host asks.

Decides the order in which a fork becomes a REPL: context first, then lock-down,
then anything that a model wrote. Trusted code throughout; the only input is the
host's, as JSON in packets with descriptors. Ends when the host closes its end.
"""

import contextlib
import fcntl
import functools
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Never

from abyme.guest.adopt import View
from abyme.guest.calls import Calls
from abyme.guest.client import Client, Frame
from abyme.guest.interpreter import prepare
from abyme.guest.interrupts import Interrupts
from abyme.guest.kernel import forbidden, policy, seccomp
from abyme.guest.kernel.credentials import UNUSED_ID
from abyme.guest.kernel.libc import holding_library
from abyme.guest.kernel.lockdown import Confinement, NotJailed, enter_domain, lock_down
from abyme.guest.kernel.namespaces import Namespaces, clone_init
from abyme.guest.packages import NOTHING, Loaded
from abyme.guest.parts import Part
from abyme.guest.paths import hide
from abyme.guest.repl import Kit, Repl
from abyme.guest.sink import Sink
from abyme.guest.spares import Made, Spares
from abyme.guest.supervisor import CONFINED, supervise
from abyme.guest.surface import Surface
from abyme.guest.unraised import Teller
from abyme.wire import ENGINE_PROCESSES, FIRST, encode

MAX_MESSAGE_BYTES: Final = 1 << 16
SESSION_FD, CONTROL_FD, CONFINED_FD, FIRST_FREE_FD = 3, 4, 5, 6
SHARED_PROCESSES: Final = 4096
"""Where REPLs share a user namespace they share the count as well: room for many of them."""
MAX_CONFIG_FDS: Final = 4


@dataclass(frozen=True, slots=True)
class Order:
    """A REPL as the host wants it."""

    memory_bytes: int
    max_processes: int
    output_chars: int
    snapshots: bool
    imports: str = "any"
    """What cells may import; see `abyme.core.isolation.Imports`."""
    allowed: tuple[str, ...] = ()


class _Forked(BaseException):
    """Raised in a process that is a REPL now: its order; descriptors of wire, control, context."""


class NoView:
    """Stands in for a context where none was given: `abyme doctor` opens such REPLs."""

    context = ""
    maps: tuple[tuple[int, int], ...] = ()

    def ask_by(self, seek: object) -> None:
        """Nothing to ask for."""

    def restore(self) -> None:
        """Nothing to restore."""

    def grep(self, *_: Any, **__: Any) -> list[Any]:
        """Find nothing."""
        return []

    def count(self, *_: Any, **__: Any) -> int:
        """Count nothing."""
        return 0

    def search(self, *_: Any, **__: Any) -> list[Any]:
        """Find nothing."""
        return []

    def table(self, *_: Any, **__: Any) -> Never:
        """Refuse: there is no document."""
        raise ValueError("there is no context, so no table")

    def chunks(self, *_: Any, **__: Any) -> list[Any]:
        """Cut nothing."""
        return []

    def place_of(self, thing: object) -> str:
        """Take anything for a quote."""
        return str(thing)

    def part_of(self, given: Any) -> Part:
        """Send anything as a text."""
        return Part(text=None if given is None else str(given))

    def take_notes(self) -> list[str]:
        """Say nothing."""
        return []


class ForkServer:
    """Serves one run. One thread, no secrets, no way out but the descriptors it is given.

    Everything that all REPLs have in common is made here, once: a fork only connects
    it to a host and locks itself down.
    """

    def __init__(
        self,
        control: socket.socket,
        namespaces: Namespaces | None,
        around: Literal["host", "container"] = "host",
        loaded: Loaded = NOTHING,
    ) -> None:
        self._control = control
        self._namespaces = namespaces
        # One domain for all, because a supervisor signals its REPL; a PID namespace keeps REPLs
        # from one another. Where there is none, each enters its own.
        self._domain = enter_domain(required=False) if namespaces is not None else []
        self._loaded = loaded
        self._alone = namespaces is None and around == "host"
        """Landlock is all that keeps files away."""
        self._shared: list[str] = []
        program = seccomp.compile_filter(policy.rules(own_pid=None))
        self._program = program if namespaces is not None else None
        forbidden.prepare()
        holding_library().fork  # noqa: B018 - looked up here, once, and not in every fork
        self._sink = Sink()
        self._namespace = prepare(self._sink)
        Teller(self._sink).install()
        hide(os.path.dirname(sys.modules["abyme"].__path__[0]), loaded.folders)  # noqa: PTH120
        self._kit = self._kit_for(NoView())
        self._spares = Spares(self._fork)
        self._user = UNUSED_ID
        """Of the REPL that is being forked."""
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self, hello: Frame, shared: Sequence[str]) -> None:
        """Say hello and serve. Returns when the host is gone.

        `shared`: layers that were verified here, for all REPLs.
        """
        self._shared += shared
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
        gc.collect()
        gc.freeze()
        self._reply(hello)
        forked = None
        try:
            self._take_orders()
        except _Forked as child:
            forked = child.args
        if forked is not None:
            self._become_repl(*forked)

    def _take_orders(self) -> None:
        """Do what the host asks for. A REPL that was forked leaves by `_Forked`, from wherever that
        was: how deep a cell may recurse must not depend on it.
        """
        while True:
            data, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, MAX_CONFIG_FDS)
            if not data:
                return
            message = json.loads(data)
            try:
                if message.pop("t") == "adopt":
                    self._adopt(fds)
                    spare = message["spare"]
                    self._spares.expect(None if spare is None else _order(spare))
                else:
                    self._open(_order(message), fds)
            except Exception as error:  # one order that fails is not the end of the run
                self._reply({"t": "failed", "why": f"{type(error).__name__}: {error}"})
            for fd in fds:
                os.close(fd)
            if not self._asked():
                self._spares.prepare()

    def _adopt(self, fds: list[int]) -> None:
        view = View(fds[0], fds[1])
        self._kit = self._kit_for(view)
        gc.freeze()
        self._reply({"t": "adopted", "notes": view.notes})

    def _kit_for(self, view: View | NoView) -> Kit:
        interrupts = Interrupts()
        client = Client(interrupts)
        calls = Calls(client)
        view.ask_by(calls.seek)
        surface = Surface(view, calls, self._namespace)
        maps = tuple(view.maps)
        return Kit(client, interrupts, calls, view, maps, self._sink, surface, self._namespace)

    def _open(self, order: Order, own: list[int]) -> None:
        made = self._fork(order, own) if own else self._spares.take(order)
        try:
            socket.send_fds(self._control, [b'{"t":"opened"}'], made.fds())
        finally:
            made.close()

    def _asked(self) -> bool:
        """Tell whether the host waits for an answer."""
        return bool(self._poll.poll(0))

    def _fork(self, order: Order, own: Sequence[int] = ()) -> Made:
        """Fork a REPL, on a context of its `own` or on the one that was adopted."""
        wires = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        controls = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        if self._namespaces is not None:
            self._user = self._namespaces.user()
        pid = os.fork() if self._namespaces is None else clone_init(self._namespaces)
        if pid == 0:
            raise _Forked(order, [wires[1].detach(), controls[1].detach(), *own])
        wires[1].close()
        controls[1].close()
        return Made(os.pidfd_open(pid), wires[0], controls[0])

    def _become_repl(self, order: Order, fds: list[int]) -> None:
        """Turn a fork of the server into a REPL. Does not return.

        Whatever goes wrong ends the process; before it served, the host is told of it.
        """
        try:
            # A process group of its own: kill(0) reaches all of one, through every PID namespace.
            # And an autogroup (sched(7)): REPLs share processors as equals.
            os.setsid()
            if self._namespaces is None:
                self._serve_cells(order, fds)
            else:
                work = functools.partial(self._serve_cells, order, fds)
                supervise(CONTROL_FD, work, functools.partial(self._confine_supervisor, order, fds))
        except Exception as error:
            _tell(error)
        finally:
            os._exit(1)

    def _confine_supervisor(self, order: Order, fds: list[int], tell: int) -> int:
        """Return where `tell` is afterwards."""
        _keep_only([*fds[:2], tell])
        self._lock_down(self._kit, order, {SESSION_FD, CONTROL_FD, CONFINED_FD})
        return CONFINED_FD

    def _lock_down(self, kit: Kit, order: Order, descriptors: set[int]) -> list[str]:
        got = self._namespaces
        alone = got is not None and (got.nested or got.own_user)
        spare = ENGINE_PROCESSES if alone else SHARED_PROCESSES
        processes = order.max_processes + spare
        every = {*kit.maps, *self._kit.maps}  # a child's REPL has its parent's context mapped too
        mapped_bytes = sum(size for _, size in every)
        wanted = Confinement(
            got, order.memory_bytes, processes, kit.maps, mapped_bytes, self._program, self._user
        )
        return lock_down(wanted, descriptors)

    def _serve_cells(self, order: Order, fds: list[int], confined: int | None = None) -> None:
        """Confine this process and serve. Once it serves, the host is told of cells only.

        `confined`: from which to read that the supervisor is confined as well.
        """
        alone = self._namespaces is not None
        snapshots = alone and order.snapshots
        serving = False
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            kit = self._kit_for(View(fds[2], fds[3])) if len(fds) > 2 else self._kit
            _keep_only(fds[:2] if confined is None else [*fds[:2], confined])
            os.close(CONTROL_FD)
            domain = self._domain if alone else enter_domain(required=self._alone)
            kit.client.connect(SESSION_FD)
            mine = {SESSION_FD} if confined is None else {SESSION_FD, CONFINED_FD}
            layers = self._lock_down(kit, order, mine)
            self._close_gate(kit, order)
            kit.sink.bound(order.memory_bytes)
            limit = order.output_chars
            repl = Repl(kit, output_chars=limit, alone=alone, snapshots=snapshots)
            gc.freeze()
            if confined is not None:
                if os.read(CONFINED_FD, 1) != CONFINED:
                    os._exit(1)  # the supervisor has told of it
                os.close(CONFINED_FD)
            serving = True
            verified = [*self._shared, *layers, *domain]
            repl.serve({"t": "ready", "layers": verified, "snapshots": snapshots})
        except Exception as error:
            if not serving:
                _tell(error)
        finally:
            os._exit(1)

    def _close_gate(self, kit: Kit, order: Order) -> None:
        kit.gate.install(
            order.imports,
            allowed=order.allowed,
            packages=self._loaded.names,
            namespace=kit.namespace,
        )

    def _reply(self, message: Frame) -> None:
        self._control.send(json.dumps(message).encode())


def _order(message: dict[str, Any]) -> Order:
    return Order(**{**message, "allowed": tuple(message.get("allowed", ()))})


def _tell(error: Exception) -> None:
    """Send the one frame that needs nothing to be in place: the layer, no exception's text."""
    layer = str(error) if isinstance(error, NotJailed) else f"unknown ({type(error).__name__})"
    with contextlib.suppress(OSError, ValueError):
        wire = socket.socket(fileno=SESSION_FD)
        wire.send(FIRST + encode({"t": "refused", "layer": layer[:200]}))
        wire.detach()


def _keep_only(fds: list[int]) -> None:
    """Session, control and what tells of confinement at fixed numbers, /dev/null below, no more."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, FIRST_FREE_FD) for fd in fds]
    for fd, place in zip(high, (SESSION_FD, CONTROL_FD, CONFINED_FD), strict=False):
        os.dup2(fd, place)
    os.closerange(SESSION_FD + len(fds), os.sysconf("SC_OPEN_MAX"))
