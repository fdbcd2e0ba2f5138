"""WebAssembly as a sandbox: a process for each REPL, with CPython in Wasmtime inside.

Decides what a run's processes are given: a private folder with its context, and the interpreter's
own files. Invariant: a REPL's interpreter sees its context and what it is told, read-only, and
nothing else. A cell that is stopped by force ends its session, which the run rebuilds by running
the earlier cells again. The hash seed is the interpreter's own, the same for all runs.

Does not need Linux; what confines the process around the interpreter does (`confine`).
"""

import asyncio
import importlib.util
import socket
import sys
import tempfile
from pathlib import Path
from typing import Final

from abyme.core.ids import NodeId
from abyme.core.isolation import DEFAULT, Isolation
from abyme.core.limits import Limits
from abyme.errors import SandboxError, SandboxUnavailable
from abyme.ports import Context
from abyme.sandboxes.wasm import process
from abyme.sandboxes.wasm.folder import Place, RunFolder
from abyme.sandboxes.wasm.restoring import RestoringSession
from abyme.sandboxes.wasm.stream import pair
from abyme.sandboxes.wired.seeking import Ask
from abyme.sandboxes.wired.session import WiredSession

PYTHON: Final = "3.14"
"""Of the interpreter inside."""
SEED: Final = 0
"""Stands for the hash seed, which cannot be chosen."""


class Wasm:
    """Implements `abyme.ports.Sandbox`. Needs the extra ``abyme[wasm]`` and Python 3.12."""

    def __init__(self, *, warm: int = 0) -> None:
        """`warm` is taken for the sake of other tiers: a process is made for each REPL."""
        del warm

    def warm_up(self) -> None:
        """Nothing can be made before the context is known."""

    async def begin(
        self,
        *,
        context: Context,
        limits: Limits,
        isolation: Isolation = DEFAULT,
        hash_seed: int | None = None,
    ) -> "WasmRun":
        """Prepare a run; see `abyme.ports.Sandbox.begin`."""
        del hash_seed
        site = check_installed()
        if isolation.packages:
            raise SandboxUnavailable("the wasm tier has no packages of the host: use another tier")
        folder = await asyncio.to_thread(RunFolder.made, context)
        try:
            await asyncio.to_thread(process.unpack, site, folder.runtime)
            folder.hand_over()
        except BaseException:
            folder.remove()
            raise
        return WasmRun(site, folder, context, limits, isolation)

    async def aclose(self) -> None:
        """Nothing is kept warm."""


class WasmRun:
    """Implements `abyme.ports.SandboxRun`."""

    def __init__(
        self,
        site: Path,
        folder: RunFolder,
        context: Context,
        limits: Limits,
        isolation: Isolation,
    ) -> None:
        self._site = site
        self._folder = folder
        self._context = context
        self._limits = limits
        self._isolation = isolation
        self._sessions: list[RestoringSession] = []

    @property
    def hash_seed(self) -> int:
        """Always the same; the interpreter has its own."""
        return SEED

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing to tell."""
        return ()

    async def open(
        self, *, node: str, seed: int, context: Context | None = None
    ) -> RestoringSession:
        """Start a REPL; see `abyme.ports.SandboxRun.open`."""
        own = None if context is None or context is self._context else context
        place = await asyncio.to_thread(self._folder.place, own)
        repls = _Repls(self, place, seed, (context or self._context).seek)
        session = RestoringSession(NodeId(node), await repls.again(), repls)
        self._sessions = [one for one in self._sessions if not one.closed]
        self._sessions.append(session)
        return session

    async def started(
        self, place: Place, seed: int, seek: Ask
    ) -> tuple[WiredSession, process.Child]:
        """Start a process with a REPL, and wait until it has verified its layers.

        Raises:
            SandboxUnavailable: a layer is not on.
            SandboxError: it cannot be started.
        """
        wire, theirs = pair()
        control, unused = socket.socketpair()
        unused.close()
        session = WiredSession(
            wire,
            control,
            cell_timeout_s=self._limits.cell_timeout_s,
            output_chars=self._limits.cell_output_chars,
            max_processes=None,
            seek=seek,
        )
        order = {
            "told": str(place.told),
            "context": str(place.context),
            "site": str(self._site),
            "runtime": str(self._folder.runtime),
            "memory_bytes": self._limits.memory_bytes,
            "inside": self._inside(seed),
        }
        with tempfile.TemporaryFile() as errors:
            try:
                child = process.start(order, theirs, errors, self._folder.runtime)
            except OSError as error:
                await session.aclose()
                raise SandboxError(f"a process for a REPL cannot be started: {error}") from None
            try:
                await session.opened(child, PYTHON)
            except SandboxUnavailable as error:
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
                raise SandboxUnavailable(f"{error}{': ' if said else ''}{''.join(said)}") from None
            except asyncio.CancelledError:
                await session.aclose()
                raise
        return session, child

    def _inside(self, seed: int) -> dict[str, object]:
        return {
            "seed": seed,
            "output_chars": self._limits.cell_output_chars,
            "imports": self._isolation.imports,
            "allowed": self._isolation.allowed,
        }

    async def aclose(self) -> None:
        """Kill every session and remove the run's folder. Safe to repeat."""
        sessions, self._sessions = self._sessions, []
        await asyncio.gather(*(session.aclose() for session in sessions))
        await asyncio.to_thread(self._folder.remove)


class _Repls:
    """Implements `abyme.sandboxes.wasm.restoring.Repls`."""

    def __init__(self, run: WasmRun, place: Place, seed: int, seek: Ask) -> None:
        self._run = run
        self._seek = seek
        self._place = place
        self._seed = seed
        self._child: process.Child | None = None

    async def again(self) -> WiredSession:
        place = await asyncio.to_thread(self._place.again)
        session, self._child = await self._run.started(place, self._seed, self._seek)
        return session

    async def died(self, session: WiredSession) -> int:
        await session.aclose()
        return 1 if self._child is None else await self._child.status()

    async def leave(self) -> None:
        await asyncio.to_thread(self._place.remove)


def check_installed() -> Path:
    """See that the interpreter can be had; the folder of packages that it is in.

    Raises:
        SandboxUnavailable: it cannot, with what to do.
    """
    if sys.version_info < (3, 12):
        raise SandboxUnavailable("the wasm tier needs Python 3.12 or newer and abyme[wasm]")
    found = importlib.util.find_spec("eryx")
    if found is None or found.origin is None:
        raise SandboxUnavailable("the wasm tier needs an extra: pip install 'abyme[wasm]'")
    return Path(found.origin).parents[1]
