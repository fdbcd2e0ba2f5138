"""An empty turn: root model (simulated), journal, jail, back.

With 1, 2,000 and 20,000 documents. Once with a model that answers at once, and once with one
that thinks for 10 ms: the snapshot for a roll-back is made while the model thinks, so a
model that takes no time at all waits for it, and a real one does not.

Floor: the same cell sent through a pipe to a bare CPython that only executes it.
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from abyme import RLM, Limits
from abyme.core import events as ev
from abyme.testing import ScriptedModel
from bench.measure import Figure, Noise, timed

TURNS = 200
BARE = "import sys\nns = {}\nfor line in sys.stdin:\n    exec(line, ns)\n    print(flush=True)\n"


def floor_ms() -> float:
    """One no-op cell in an interpreter without a jail, over a pipe."""
    with subprocess.Popen(
        [sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as bare:
        assert bare.stdin is not None
        assert bare.stdout is not None

        def turn() -> None:
            bare.stdin.write(b"pass\n")
            bare.stdin.flush()
            bare.stdout.readline()

        turn()
        per_turn = timed(lambda: [turn() for _ in range(TURNS)], scale=1e3 / TURNS)
        bare.stdin.close()
    return per_turn


def context(documents: int) -> str | dict[str, str]:
    if documents == 1:
        return "x" * 2_000_000
    return {f"doc{i}.txt": f"document {i}\n" * 10 for i in range(documents)}


def turns_ms(documents: int, think_s: float, runs_dir: Path) -> float:
    """Median milliseconds of an empty turn, the model's thinking left out."""
    replies = iter(["```repl\npass\n```"] * TURNS + ["```repl\nsubmit(1)\n```"])

    async def think(_: object) -> str:
        if think_s:
            await asyncio.sleep(think_s)
        return next(replies)

    records: list[ev.Record] = []
    rlm = RLM(
        model=ScriptedModel(think),
        runs_dir=runs_dir,
        limits=Limits(max_turns=TURNS + 2),
        on_record=records.append,
    )
    answer = rlm.ask("bench", context(documents))
    rlm.close()
    assert answer.status == "answered", answer
    settled = [r.at_s for r in records if isinstance(r.event, ev.CallSettled)]
    reserved = [r.at_s for r in records if isinstance(r.event, ev.CallReserved)]
    turns = sorted(asked - came for came, asked in zip(settled, reserved[1:], strict=False))
    assert len(settled) == TURNS + 1
    return turns[len(turns) // 2] * 1e3


def run(noise: Noise) -> list[Figure]:
    works = [(n, t) for t in (0.0, 0.01) for n in (1, 2000, 20_000)]
    with tempfile.TemporaryDirectory() as folder:
        floors, taken = [], {work: [] for work in works}
        for _ in range(3):
            noise.tick()
            floors.append(floor_ms())
            for documents, think_s in works:
                taken[documents, think_s].append(turns_ms(documents, think_s, Path(folder)))
    figures = [Figure("floor: bare CPython over a pipe, one no-op cell", "ms", tuple(floors))]
    for (documents, think_s), samples in taken.items():
        model = f"{think_s * 1e3:.0f} ms model" if think_s else "instant model"
        name = f"empty turn, snapshot on, {documents:,} documents, {model}"
        figures.append(Figure(name, "ms", tuple(samples), "< 3"))
    return figures


if __name__ == "__main__":
    asyncio.set_event_loop(None)
    noise = Noise()
    print(*(figure.line() for figure in run(noise)), noise.line(), sep="\n")
