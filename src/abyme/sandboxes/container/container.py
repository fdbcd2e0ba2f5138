"""The container tier as a sandbox: one container for each REPL, the same guest inside.

Decides what a run and its REPLs are made of. Invariant: a REPL is served only after the first
process of its container has verified it from inside; nothing weaker is started in place of
what cannot be had. A run begins with the container of its root, so an engine that answers and
starts nothing is known before there is a run. Nothing is pulled or built.
"""

import asyncio
import contextlib
import itertools
import secrets
import shutil
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from abyme import layout
from abyme.core.ids import ROOT
from abyme.core.isolation import DEFAULT, Isolation
from abyme.core.limits import Limits
from abyme.errors import SandboxError
from abyme.ports import Context
from abyme.sandboxes.container import engine as engines
from abyme.sandboxes.container import files, image
from abyme.sandboxes.container.link import Link
from abyme.sandboxes.jail.apart import seed_of
from abyme.sandboxes.wired.seeking import Ask
from abyme.sandboxes.wired.session import WiredSession

MAX_HASH_SEED = 4_294_967_295


class Container:
    """Implements `abyme.ports.Sandbox`."""

    def __init__(self) -> None:
        self._engines: dict[tuple[str, str, str], engines.Engine] = {}
        """By what was asked for. Those that answered once are not asked again."""

    def warm_up(self) -> None:
        """Do nothing: a container is made for a context."""

    async def begin(
        self,
        *,
        context: Context,
        limits: Limits,
        isolation: Isolation = DEFAULT,
        hash_seed: int | None = None,
    ) -> "ContainerRun":
        """Prepare a run; see `abyme.ports.Sandbox.begin`."""
        asked = (isolation.engine, isolation.runtime, isolation.image)
        if asked not in self._engines:
            self._engines[asked] = await engines.find(*asked)
            await _sweep(self._engines[asked])
        engine = self._engines[asked]
        seed = secrets.randbits(32) if hash_seed is None else hash_seed
        run = ContainerRun(engine, context.fds, limits, isolation, seed % (MAX_HASH_SEED + 1))
        run.seek = context.seek
        try:
            await run.prepare()
        except BaseException:
            await run.aclose()
            raise
        return run

    async def aclose(self) -> None:
        """Nothing is held. Safe to repeat."""


class ContainerRun:
    """Implements `abyme.ports.SandboxRun`."""

    def __init__(
        self,
        engine: engines.Engine,
        fds: Sequence[int],
        limits: Limits,
        isolation: Isolation,
        hash_seed: int,
    ) -> None:
        self.hash_seed = hash_seed
        """``PYTHONHASHSEED`` of every session."""
        self.notes: tuple[str, ...] = ()
        """What the user should know of how the context is held, if anything."""
        self._engine = engine
        self._fds = fds
        self._limits = limits
        self._isolation = isolation
        self._files = files.Files()
        self._copying = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._sessions: list[WiredSession] = []
        self._for_root: WiredSession | None = None
        self.seek: Ask | None = None
        """Answers what cells ask of the run's context."""

    async def prepare(self) -> None:
        """Start the container of the root before anybody asks for it.

        Raises:
            SandboxUnavailable: if it does not start, or lacks a promised layer.
        """
        self._for_root = await self._start(ROOT, self._fds, self.seek)

    async def copy(self, fds: Sequence[int]) -> list[Path]:
        """Copy a context to where containers can be given it, once."""
        async with self._copying:
            return await asyncio.to_thread(self._files.of, fds)

    async def open(self, *, node: str, seed: int, context: Context | None = None) -> WiredSession:
        """Give a REPL in a container of its own; see `abyme.ports.SandboxRun.open`."""
        session = None
        if node == ROOT and context is None:
            session, self._for_root = self._for_root, None
        if session is None or session.closed:
            fds, seek = (self._fds, self.seek) if context is None else (context.fds, context.seek)
            session = await self._start(node, fds, seek)
        session.begin(seed)
        return session

    async def _start(self, node: str, fds: Sequence[int], seek: Ask | None) -> WiredSession:
        """Start a container and the REPL in it."""
        hash_seed = self.hash_seed
        if self._isolation.apart and node != ROOT:
            hash_seed = seed_of(hash_seed, node)
        given = await self.copy(fds)
        name = f"{self._files.name}-{next(self._numbers)}"
        command = self._engine.run(name, self._files.name, given, self._limits)
        order = {"digest": image.digest(), "hash_seed": hash_seed, "repl": self._repl()}
        order["packages"] = self._isolation.packages
        link = Link(self._engine, name)
        session, notes = await open_session(link, command, order, self._limits, seek)
        self.notes = tuple(dict.fromkeys((*self.notes, *notes)))
        self._sessions = [one for one in self._sessions if not one.closed]
        self._sessions.append(session)
        return session

    async def aclose(self) -> None:
        """End every container. Safe to repeat."""
        sessions, self._sessions = self._sessions, []
        await asyncio.gather(*(session.aclose() for session in sessions))
        self._files.close()

    def _repl(self) -> dict[str, object]:
        """Give what a fork server is to be told of a REPL."""
        return {
            "memory_bytes": self._limits.memory_bytes,
            "max_processes": self._limits.max_processes,
            "output_chars": self._limits.cell_output_chars,
            "snapshots": True,
            "imports": self._isolation.imports,
            "allowed": self._isolation.allowed,
        }


async def check(isolation: Isolation, limits: Limits) -> None:
    """Start one container on a context of one letter, see it verified from inside, and end it.

    Raises:
        SandboxUnavailable: if runs cannot have containers.
    """
    engine = await engines.find(isolation.engine, isolation.runtime, isolation.image)
    with tempfile.TemporaryFile() as index, tempfile.TemporaryFile() as arena:
        index.write(layout.write_index("text", [layout.Entry(0, 1, 1, layout.ASCII)], []))
        arena.write(b"a\0")
        index.flush()
        arena.flush()
        run = ContainerRun(engine, (index.fileno(), arena.fileno()), limits, isolation, 0)
        try:
            await run.prepare()
        finally:
            await run.aclose()


async def open_session(
    link: Link,
    command: Sequence[str],
    order: dict[str, object],
    limits: Limits,
    seek: Ask | None = None,
) -> tuple[WiredSession, list[str]]:
    """Start a container and wait until the REPL in it has verified its layers.

    Raises:
        SandboxUnavailable: if a promised layer is not on, or it does not come up.
    """
    wire, their_wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        told = await link.start(command, order, their_wire, their_control)
    except BaseException:
        wire.close()
        control.close()
        link.kill()
        await link.gone()
        raise
    layers: list[str] = told["layers"]
    counted = told["counts_processes"] or "process_ceiling" in layers
    session = WiredSession(
        wire,
        control,
        cell_timeout_s=limits.cell_timeout_s,
        output_chars=limits.cell_output_chars,
        max_processes=None if counted else limits.max_processes,
        memory_bytes=limits.memory_bytes,
        seek=seek,
    )
    try:
        await session.opened(link, told["python"], tuple(told["packages"]))
    except BaseException:  # whoever waits for it may be cancelled
        await session.aclose()
        raise
    every = dict.fromkeys((*layers, *session.facts.layers))
    session.facts = replace(session.facts, layers=tuple(every))
    return session, told["notes"]


async def _sweep(engine: engines.Engine) -> None:
    """Remove what hosts that were killed have left behind."""
    for folder in files.left():
        with contextlib.suppress(SandboxError):
            await engine.remove(folder.name)
            shutil.rmtree(folder, ignore_errors=True)
