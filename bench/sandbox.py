"""The jail with every layer on: a REPL, an empty cell, a call to the host; beside bubblewrap.

Samples are medians of several repetitions, taken in turn. An empty cell with a roll-back snapshot
is sent as soon as the last one has ended, so the making of the snapshot is in it; in a run it
is made while the model thinks. ``bwrap`` unshares everything and drops every capability, with the
system bound read-only: an interpreter that starts, does nothing and ends, without what
a REPL has loaded. Floor: the same programs started without it.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from abyme.contexts.sealed import from_value
from abyme.core import events as ev
from abyme.core.effects import Budget, Result
from abyme.core.limits import Limits
from abyme.sandboxes.jail import Jail
from abyme.sandboxes.jail.jail import JailRun
from abyme.sandboxes.wired.session import WiredSession
from bench.measure import Figure, Noise, in_turn

ROUNDS = 15
REPEATS = 20
CALLS = 100
TEXT = "x" * 2_000_000
BUDGET = Budget(usd=1.0, calls=10**6, tokens=None, seconds=None, turns=5, depth=2)
BWRAP = (
    "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
    "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev",
)  # fmt: skip


class Open:
    """A REPL to send cells to."""

    def __init__(self, session: WiredSession) -> None:
        self._session = session
        self._cell = 0

    async def cell(self, code: str) -> ev.CellFinished:
        self._cell += 1
        return await self._session.run_cell(
            self._cell, code, restore=[], budget=BUDGET, on_event=self._on_event
        )

    def _on_event(self, event: ev.CallsRequested | ev.AnswerSubmitted) -> None:
        assert isinstance(event, ev.CallsRequested)
        results = [Result(call=1, text="x") for _ in event.requests]
        answer = self._session.answer(event.batch, results=results, refused=None, budget=BUDGET)
        asyncio.get_running_loop().create_task(answer)


async def spawn_ms(run: JailRun) -> float:
    began = time.perf_counter()
    session = await run.open(node="0", seed=1)
    took = time.perf_counter() - began
    await session.aclose()
    return took * 1e3


async def burst_ms(run: JailRun) -> float:
    """Milliseconds a REPL, eight at once."""
    began = time.perf_counter()
    sessions = await asyncio.gather(*(run.open(node="0", seed=1) for _ in range(8)))
    took = time.perf_counter() - began
    await asyncio.gather(*(session.aclose() for session in sessions))
    return took * 1e3 / 8


async def cell_ms(repl: Open) -> float:
    began = time.perf_counter()
    finished = await repl.cell("")
    assert finished.ended == "clean"
    return (time.perf_counter() - began) * 1e3


async def call_ms(repl: Open) -> float:
    """Milliseconds of a call whose answer is there at once, many in one cell."""
    began = time.perf_counter()
    finished = await repl.cell(f"for _ in range({CALLS}): llm_query('x')")
    assert finished.ended == "clean", finished
    return (time.perf_counter() - began) * 1e3 / CALLS


def started_ms(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1e3


class Bench:
    """Two runs of the jail, with snapshots and without, and a REPL of each."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = from_value(TEXT)
        self._jails = [Jail(snapshots=True), Jail(snapshots=False)]
        self.runs = [self.wait(self._begin(jail)) for jail in self._jails]
        sessions = [self.wait(run.open(node="0", seed=1)) for run in self.runs]
        self.layers = sessions[0].facts.layers
        self.repls = [Open(session) for session in sessions]

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def median(self, work: Callable[..., Coroutine[Any, Any, float]], *args: Any) -> float:
        return statistics.median(self.wait(work(*args)) for _ in range(REPEATS))

    async def _begin(self, jail: Jail) -> JailRun:
        return await jail.begin(context=self._context, limits=Limits())

    def close(self) -> None:
        for run in self.runs:
            self.wait(run.aclose())
        for jail in self._jails:
            self.wait(jail.aclose())
        self._context.close()


def run(noise: Noise) -> list[Figure]:
    loop = asyncio.new_event_loop()
    made = Bench(loop)
    print(f"  {len(made.layers)} layers on: {', '.join(made.layers)}")
    with_snapshot, without = made.repls
    python = getattr(sys, "_base_executable", sys.executable)
    bare = {"python -c pass": [python, "-I", "-c", "pass"], "true": ["true"]}
    works: list[tuple[str, Callable[[], float]]] = [
        ("warm REPL, ready for its first cell", lambda: made.median(spawn_ms, made.runs[0])),
        ("one of eight REPLs opened at once", lambda: made.median(burst_ms, made.runs[0])),
        ("empty cell, without snapshot", lambda: made.median(cell_ms, without)),
        ("empty cell, with a roll-back snapshot", lambda: made.median(cell_ms, with_snapshot)),
        ("call to the host and its answer", lambda: made.median(call_ms, without)),
    ]
    works += [(f"floor: {name}", lambda c=c: started_ms(c)) for name, c in bare.items()]  # type: ignore[misc]
    if shutil.which("bwrap") and os.path.exists(python):  # noqa: PTH110
        works += [
            (f"bwrap {name}", lambda c=c: started_ms([*BWRAP, *c])) for name, c in bare.items()
        ]  # type: ignore[misc]
    else:
        print("  no bwrap here: apt install bubblewrap")
    try:
        return in_turn(works, rounds=ROUNDS, unit="ms", noise=noise, goals=GOALS)
    finally:
        made.close()
        loop.close()


GOALS = {
    "warm REPL, ready for its first cell": "< 5",
    "empty cell, without snapshot": "< 0.3",
    "empty cell, with a roll-back snapshot": "< 2.5",
}
