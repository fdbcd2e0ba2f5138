"""Runs entries of the list on a sandbox, whatever it is, and judges each of them.

Decides how: each entry in a REPL of its own, on a run with the ceilings, the context and the
import policy that it asks for. Beside it live a REPL of the same run and one of another run, whose
state must not change; a name that is bound before an attack must be there after it. Invariant:
it never stops at a hole, and what one entry has broken is whole again for the next.

Does not know which tier it runs on, and prints nothing.
"""

import asyncio
import contextlib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from msgspec import structs

from abyme.core.isolation import DEFAULT, Imports, Isolation
from abyme.core.limits import Limits
from abyme.core.seeks import Grep
from abyme.errors import ContextError
from abyme.ports import Context, Sandbox, SessionFacts
from abyme.sandboxes.self_check.behaviour import Behaviour, ContextShape, Need
from abyme.sandboxes.self_check.leftovers import Census, at_rest, left_since, most
from abyme.sandboxes.self_check.repl import untyped
from abyme.sandboxes.self_check.stage import KEEP, KEPT, Stage, is_kept
from abyme.sandboxes.self_check.verdict import Result, judged
from abyme.sandboxes.self_check.world import World

WARM_UPS: Final = 2
LIMITS: Final = Limits(cell_timeout_s=10, memory_bytes=512 << 20)
PROBE: Final = """
import os, sys
here = []
try:
    import ctypes
    here.append("ctypes")
except Exception: pass
try:
    import threading
    one = threading.Thread(target=int)
    one.start(); one.join()
    here.append("threads")
except Exception: pass
try:
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
    here.append("fork")
except Exception: pass
if (id(context) + sys.getsizeof("") - 1) % 4096 == 0: here.append("context_map")
print(*here)
"""
"""What is there is tried, on a context that is a str; never concluded from a tier's name."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A sandbox that is to be checked."""

    name: str
    sandbox: Sandbox
    isolation: Isolation = DEFAULT
    """How runs are begun; but for the import policy, which is an entry's own."""
    differs: Mapping[str, str] = field(default_factory=dict)
    """Ids of entries, or globs, that mean nothing here by design, and why."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """What entries must share to be run on one run."""

    limits: Limits
    shape: ContextShape
    imports: Imports


PLAIN: Final = _Setting(LIMITS, "text", "any")

OnResult = Callable[[Result], None]


class Check:
    """One tier under one list. An asynchronous context manager; `contexts` stay the caller's."""

    def __init__(self, tier: Tier, world: World, contexts: Mapping[ContextShape, Context]) -> None:
        self._tier = tier
        self._world = world
        self._contexts = contexts
        self._stack = AsyncExitStack()
        self._errors: list[dict[str, Any]] = []
        self._neighbour: Stage | None = None
        self.facts = SessionFacts(python="", snapshots=False, layers=())
        """Of a REPL of this tier."""
        self._has: frozenset[Need] = frozenset()
        self._at_rest = Census.now()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._stack.callback(loop.set_exception_handler, loop.get_exception_handler())
        loop.set_exception_handler(lambda _, told: self._errors.append(told))
        try:
            self._neighbour = await self._stage(PLAIN)
            await self._probe(self._neighbour)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._neighbour is not None:
            await self._neighbour.aclose()
        await self._stack.aclose()

    async def run(self, entries: Sequence[Behaviour], on_result: OnResult) -> list[Result]:
        """Run them; results in the order of `entries`, told of as they come.

        Raises:
            SandboxUnavailable: if a run cannot be begun.
        """
        results: dict[str, Result] = {}
        groups: dict[_Setting, list[Behaviour]] = {}
        for entry in entries:
            if why := self._passed_over(entry):
                results[entry.id] = Result(entry, "passed_over", why)
                on_result(results[entry.id])
                continue
            setting = _Setting(entry.limits or LIMITS, entry.context, entry.imports)
            groups.setdefault(setting, []).append(entry)
        for setting, group in groups.items():
            stage = await self._stage(setting)
            await self._settle(stage)
            try:
                for entry in group:
                    results[entry.id] = await self._entry(stage, entry)
                    on_result(results[entry.id])
            finally:
                await stage.aclose()
        return [results[entry.id] for entry in entries]

    def _passed_over(self, entry: Behaviour) -> str:
        for glob, why in self._tier.differs.items():
            if fnmatch.fnmatchcase(entry.id, glob):
                return why
        missing = sorted(entry.needs - self._has)
        return f"it needs what is not here: {', '.join(missing)}" if missing else ""

    async def _entry(self, stage: Stage, entry: Behaviour) -> Result:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        code = [self._world.fill(cell) for cell in entry.cells]
        repl = await stage.open()
        try:
            keeps = entry.kind == "attack"
            kept = await is_kept(repl, KEEP) if keeps else True
            for cell in code:
                if await repl.cell(cell) is None:
                    break
            kept = kept and (await is_kept(repl, KEPT) if keeps else True)
            reached = await self._others(stage) if keeps else []
        finally:
            await repl.aclose()
        reached += [
            *self._world.sent(repl.said(), "\n".join(code)),
            *self._world.reached(),
            *await left_since(self._at_rest),
            *repl.host_errors,
            *untyped(self._errors),
        ]
        self._errors.clear()
        result = judged(entry, repl.seen, reached, state_kept=kept)
        return replace(result, took_s=round(loop.time() - started_s, 3))

    async def _others(self, stage: Stage) -> list[str]:
        """Look after the REPLs beside; one that is not as it was is told of, and made anew."""
        assert self._neighbour is not None
        names = {"another REPL of the run": stage, "a REPL of another run": self._neighbour}
        changed = []
        for name, one in names.items():
            if not await one.is_as_it_was():
                changed.append(f"{name} is not as it was")
                await one.again()
                await self._settle(stage)
        return changed

    async def _settle(self, stage: Stage) -> None:
        """Learn what there is at rest, after REPLs have come and gone in which nothing was run."""
        self._at_rest = await at_rest()
        for _ in range(WARM_UPS):
            await (await stage.open()).aclose()
            self._at_rest = most(self._at_rest, await at_rest())

    async def _stage(self, setting: _Setting) -> Stage:
        isolation = structs.replace(self._tier.isolation, imports=setting.imports)
        context = self._contexts[setting.shape]
        await _with_finders(context)
        stage = Stage(self._tier.sandbox, context, setting.limits, isolation)
        await stage.begin()
        return stage

    async def _probe(self, stage: Stage) -> None:
        """Find out what a REPL of this tier has."""
        repl = await stage.open()
        try:
            finished = await repl.aside(PROBE)
            self.facts = repl.seen.facts
        finally:
            await repl.aclose()
        found = set(finished.output.split() if finished is not None else ())
        found |= {"snapshots"} if self.facts.snapshots else set()
        found |= {"mseal"} if "sealed_view" in self.facts.layers else set()
        known: tuple[Need, ...] = Need.__args__  # type: ignore[attr-defined]  # of a Literal
        self._has = frozenset(need for need in known if need in found)


async def _with_finders(context: Context) -> None:
    """Have a context start what answers its questions, where it can: that lives as long as the
    context, and is nothing that a cell leaves behind.
    """
    with contextlib.suppress(ContextError):
        await context.seek(Grep(pattern="(x+)+", limit=1))
