"""An empty turn: root model (simulated, instant), journal, jail, back.

With 1, 2,000 and 20,000 documents.

Floor: the same cell sent through a pipe to a bare CPython that only executes it.
"""

import asyncio
import itertools
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


def turns_ms(documents: int, runs_dir: Path) -> tuple[float, float]:
    """Median milliseconds of an empty turn, and of the cell alone, by the journal's stamps."""
    replies = ["```repl\npass\n```"] * TURNS + ["```repl\nsubmit(1)\n```"]
    records: list[ev.Record] = []
    rlm = RLM(
        model=ScriptedModel(replies),
        runs_dir=runs_dir,
        limits=Limits(max_turns=TURNS + 2),
        on_record=records.append,
    )
    answer = rlm.ask("bench", context(documents))
    rlm.close()
    assert answer.status == "answered", answer
    begun = [r.at_s for r in records if isinstance(r.event, ev.CellStarted)]
    ended = [r.at_s for r in records if isinstance(r.event, ev.CellFinished)]
    turns = sorted(b - a for a, b in itertools.pairwise(begun))
    cells = sorted(b - a for a, b in zip(begun, ended, strict=True))
    return turns[len(turns) // 2] * 1e3, cells[len(cells) // 2] * 1e3


def run(noise: Noise) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        floors, whole, cells = (
            [],
            {n: [] for n in (1, 2000, 20000)},
            {n: [] for n in (1, 2000, 20000)},
        )
        for _ in range(3):
            noise.tick()
            floors.append(floor_ms())
            for documents in (1, 2000, 20000):
                turn, cell = turns_ms(documents, Path(folder))
                whole[documents].append(turn)
                cells[documents].append(cell)
    figures = [Figure("floor: bare CPython over a pipe, one no-op cell", "ms", tuple(floors))]
    for documents, samples in whole.items():
        name = f"empty turn, roll-back snapshot on, {documents:,} document{'s' * (documents > 1)}"
        figures.append(Figure(name, "ms", tuple(samples), "< 3"))
        figures.append(Figure("  of that the cell", "ms", tuple(cells[documents])))
    return figures


if __name__ == "__main__":
    asyncio.set_event_loop(None)
    noise = Noise()
    print(*(figure.line() for figure in run(noise)), noise.line(), sep="\n")
