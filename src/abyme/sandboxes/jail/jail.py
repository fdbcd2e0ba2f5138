"""The jail as a sandbox: fork servers for runs, kept warm if wanted, and REPLs forked from them.

Decides which fork server a run gets. Invariant: each run has one of its own, with a hash seed of
its own; nothing is shared between runs, and nothing weaker is ever started in place of
what cannot be had.
"""

import asyncio
import contextlib
import functools
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from abyme.core.ids import ROOT
from abyme.core.isolation import DEFAULT, Isolation
from abyme.core.limits import Limits
from abyme.errors import SandboxError
from abyme.ports import Context
from abyme.sandboxes.jail import packages
from abyme.sandboxes.jail.apart import Alone, seed_of
from abyme.sandboxes.jail.packages import Load
from abyme.sandboxes.jail.processes import Processes
from abyme.sandboxes.jail.zygote import MAX_HASH_SEED, Zygote
from abyme.sandboxes.wired.body import Body
from abyme.sandboxes.wired.seeking import Ask
from abyme.sandboxes.wired.session import WiredSession


class Jail:
    """Implements `abyme.ports.Sandbox`.

    `warm` fork servers are kept ready (about 100 ms and 15 MB each), so that `begin`
    does not wait; `python` is another interpreter to run cells with; without
    `snapshots` cells run in place, 2 ms faster, and cannot be rolled back.
    """

    def __init__(self, *, warm: int = 0, python: str | None = None, snapshots: bool = True) -> None:
        self._warm = warm
        self._python = python
        self._snapshots = snapshots
        self._pool: list[asyncio.Task[Zygote]] = []

    def warm_up(self) -> None:
        """Start a fork server now, in the background, for the next `begin`."""
        if len(self._pool) < max(1, self._warm):
            self._pool.append(asyncio.create_task(self._started(secrets.randbits(32))))

    async def begin(
        self,
        *,
        context: Context,
        limits: Limits,
        isolation: Isolation = DEFAULT,
        hash_seed: int | None = None,
    ) -> "JailRun":
        """Prepare a run; see `abyme.ports.Sandbox.begin`."""
        load = packages.find(isolation.packages) if isolation.packages else None
        zygote = await self._zygote(hash_seed, load)
        for _ in range(self._warm - len(self._pool) if load is None else 0):
            self.warm_up()
        try:
            spare = _order(limits, isolation, snapshots=self._snapshots)
            await zygote.adopt(_two(context.fds), spare)
        except SandboxError:
            await zygote.aclose()
            raise
        start = functools.partial(self._started, load=load)
        made = JailRun(zygote, start, context, limits, snapshots=self._snapshots)
        made.isolation = isolation
        return made

    async def aclose(self) -> None:
        """Let go of interpreters kept warm. Safe to repeat."""
        pool, self._pool = self._pool, []
        for task in pool:
            with contextlib.suppress(SandboxError):
                await (await task).aclose()

    async def _zygote(self, hash_seed: int | None, load: Load | None) -> Zygote:
        """Start a fork server, or take a warm one: those have loaded no packages."""
        if self._pool and hash_seed is None and load is None:
            return await self._pool.pop(0)
        return await self._started(secrets.randbits(32) if hash_seed is None else hash_seed, load)

    async def _started(self, hash_seed: int, load: Load | None = None) -> Zygote:
        zygote = Zygote(hash_seed % (MAX_HASH_SEED + 1))
        await zygote.start(self._python, load)
        return zygote


class JailRun:
    """Implements `abyme.ports.SandboxRun`."""

    def __init__(
        self,
        zygote: Zygote,
        start: Callable[[int], Awaitable[Zygote]],
        context: Context,
        limits: Limits,
        *,
        snapshots: bool,
    ) -> None:
        """`start` makes another fork server with a hash seed, should the first one die."""
        self._zygote = zygote
        self._start = start
        self._starting = asyncio.Lock()
        self._closed = False
        self._context = context
        self._limits = limits
        self._snapshots = snapshots
        self.isolation = DEFAULT
        """What cells may import, and what is loaded."""
        self._sessions: list[WiredSession] = []

    @property
    def hash_seed(self) -> int:
        """``PYTHONHASHSEED`` of every session."""
        return self._zygote.hash_seed

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the context is held, if anything."""
        return tuple(self._zygote.notes)

    async def open(self, *, node: str, seed: int, context: Context | None = None) -> WiredSession:
        """Start a REPL; see `abyme.ports.SandboxRun.open`."""
        if self.isolation.apart and node != ROOT:
            return self._held(await self._open_apart(node, seed, context or self._context))
        own = [] if context is None or context is self._context else _two(context.fds)
        zygote = await self._living()
        session = await open_session(
            zygote,
            self._limits,
            seed=seed,
            own=own,
            snapshots=self._snapshots,
            isolation=self.isolation,
            seek=(context or self._context).seek,
        )
        return self._held(session)

    async def _open_apart(self, node: str, seed: int, context: Context) -> WiredSession:
        """Start a fork server that has but this REPL and its context, and ends with it."""
        zygote = await self._start(seed_of(self.hash_seed, node))
        try:
            await zygote.adopt(_two(context.fds))
            return await open_session(
                zygote,
                self._limits,
                seed=seed,
                own=(),
                snapshots=self._snapshots,
                isolation=self.isolation,
                body=functools.partial(Alone, zygote=zygote),
                seek=context.seek,
            )
        except BaseException:
            await zygote.aclose()
            raise

    def _held(self, session: WiredSession) -> WiredSession:
        """Remember a session, to end it with the run."""
        self._sessions = [one for one in self._sessions if not one.closed]
        self._sessions.append(session)
        return session

    async def _living(self) -> Zygote:
        """Give the fork server; if it was killed, one with the same hash seed in its place."""
        async with self._starting:
            if self._zygote.ended and not self._closed:
                await self._zygote.aclose()
                self._zygote = await self._start(self._zygote.hash_seed)
                await self._zygote.adopt(_two(self._context.fds))
            return self._zygote

    async def aclose(self) -> None:
        """Kill every session and the fork server. Safe to repeat."""
        self._closed = True
        sessions, self._sessions = self._sessions, []
        await asyncio.gather(*(session.aclose() for session in sessions))
        async with self._starting:
            await self._zygote.aclose()


async def open_session(  # noqa: PLR0913 - what makes a REPL, by name
    zygote: Zygote,
    limits: Limits,
    *,
    seed: int,
    own: Sequence[int],
    snapshots: bool,
    isolation: Isolation = DEFAULT,
    body: Callable[[int], Body] = Processes,
    seek: Ask | None = None,
) -> WiredSession:
    """Fork a REPL of `zygote` and wait until it has verified its layers.

    Raises:
        SandboxUnavailable: if a promised layer is not on.
        SandboxError: if the fork server is gone, or no descriptor is left.
    """
    pidfd, wire, control = await zygote.open(_order(limits, isolation, snapshots=snapshots), own)
    watched = None if zygote.counts_processes else limits.max_processes
    session = WiredSession(
        wire,
        control,
        cell_timeout_s=limits.cell_timeout_s,
        output_chars=limits.cell_output_chars,
        max_processes=watched,
        memory_bytes=limits.memory_bytes,
        seek=seek,
    )
    session.begin(seed)
    await session.opened(body(pidfd), zygote.python, zygote.packages)
    return session


def _order(limits: Limits, isolation: Isolation, *, snapshots: bool) -> dict[str, Any]:
    """Say what every REPL of a run is to be like."""
    return {
        "memory_bytes": limits.memory_bytes,
        "max_processes": limits.max_processes,
        "output_chars": limits.cell_output_chars,
        "snapshots": snapshots,
        "imports": isolation.imports,
        "allowed": isolation.allowed,
    }


def _two(fds: Sequence[int]) -> list[int]:
    index, arena = fds
    return [index, arena]
