"""SIGKILL at random moments: every run is resumed until it answers, and nothing is paid twice
but what was in flight. Counted at the endpoint, which is simulated.

A run in a process of its own is killed several times; one kill in three hits a process of its
jail instead. Then the same question is answered without kills, and the two are compared:
the answer, and what the endpoint was asked beyond. ``python -m bench kills``.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from abyme import RLM, JournalError, Limits
from abyme.core import events as ev
from abyme.core.history import believed
from abyme.journals.folder import list_runs
from abyme.testing import Billing, Reply, ScriptedEndpoint
from bench.measure import Figure, Noise

RUNS = 200
KILLS = 3
"""Most of one run."""
PRICE = (1.0, 10.0)
MAX_USD = "2"
TEXT = "alpha beta gamma delta epsilon zeta eta theta " * 20
CELLS = (
    "import random\nwords = set(context.split())\nprint(list(words), random.random())",
    "got = llm_query_batched([f'batched {n}' for n in range(20)])\nprint(len(got))",
    "kids = rlm_query_batched(['child 1?', 'child 2?'], [context, 'other text'])\nprint(kids)",
    "votes = llm_query('vote', samples=5)\nprint(votes, random.random())",
    "submit([list(words), got, kids, votes, random.random()])",
)
UNDONE = ("the session was lost", "and was undone")
"""In what a root is told of a cell that it has to run again."""
CHILD_CELLS = (
    "first = [llm_query(f'child asks {n} of {context[:5]}') for n in range(3)]\nprint(first)",
    "submit([first, len(context)])",
)


def reply_to(body: dict[str, Any]) -> Reply:
    """Answer by the question alone; sub-calls take their time."""
    messages = body["messages"]
    if messages[0]["role"] != "system":
        text = f"reply to {messages[-1]['content'][:60]!r}"
        return Reply(text=text, after_s=0.02 * (len(text) % 5))
    cells = CHILD_CELLS if "child" in messages[1]["content"].split("?")[0] else CELLS
    done = sum(
        here["role"] == "assistant" and not any(word in after["content"] for word in UNDONE)
        for here, after in pairwise(messages)
    )
    return Reply(text=f"```repl\n{cells[done]}\n```", after_s=0.02)


def victim(url: str, runs_dir: Path) -> None:
    """Ask, or go on with what there is. Runs in a process that will be killed."""
    with contextlib.suppress(JournalError):  # none yet, or killed before its first record
        with RLM.of_run("latest", runs_dir=runs_dir) as rlm:
            rlm.resume("latest")
        return
    limits = Limits(max_usd=MAX_USD)
    with RLM("m", base_url=url, price=PRICE, limits=limits, runs_dir=runs_dir) as rlm:
        rlm.ask("Root question?", TEXT)


@dataclass(slots=True)
class Seen:
    """What became of one run."""

    value: Any
    asked: int
    billed_usd_micro: int
    spent_usd_micro: int
    in_flight: int
    """Calls in flight at its kills, by its journal."""
    undone: int
    """Cells that died with a process of the jail: the root is asked once more for each."""
    kills: int
    left: int
    """Processes of it that were still there a second after a kill."""
    told: str


def one(endpoint: ScriptedEndpoint, folder: Path, chance: random.Random | None) -> Seen:
    """Run one question to its answer, killing it on the way."""
    calls, billed, kills, left = endpoint.calls, endpoint.billed_usd_micro, 0, 0
    while True:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.kills", endpoint.url, str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        jail: list[int] = []
        if chance is not None and kills < KILLS:
            time.sleep(chance.uniform(0.1, 1.0))
            jail = below(process.pid)
            target = chance.choice(jail) if jail and chance.random() < 1 / 3 else process.pid
            with_kill(target)
            kills += 1
        _, errors = process.communicate()
        if jail and process.returncode != 0:
            left += still_there(jail)
        runs = list_runs(folder)
        if runs and (outcome := runs[0].answer()) is not None and outcome.status == "answered":
            break
        if process.returncode not in (0, -signal.SIGKILL) and not jail:
            raise RuntimeError(errors)
    records = runs[0].recording().records
    resumed = [r.event for r in records if isinstance(r.event, ev.RunResumed)]
    told = [r for r in believed(records) if isinstance(r.event, ev.SessionRebuilt)]
    return Seen(
        value=outcome.value,
        asked=endpoint.calls - calls,
        billed_usd_micro=endpoint.billed_usd_micro - billed,
        spent_usd_micro=round((outcome.usage.cost_usd or 0) * 1e6),
        in_flight=sum(event.carried.unknown_calls for event in resumed),
        undone=sum(map(is_undone, records)),
        kills=kills,
        left=left,
        told="; ".join(d.what for r in told for d in r.event.differs),
    )


def is_undone(record: ev.Record) -> bool:
    event = record.event
    return isinstance(event, ev.SessionLost) or (
        isinstance(event, ev.CellFinished) and event.ended == "rolled_back"
    )


def below(pid: int) -> list[int]:
    """List the processes that a process has started, and theirs."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        return found
    return found + [child for direct in found for child in below(direct)]


def with_kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def still_there(pids: list[int]) -> int:
    """Count processes that outlive their host by more than a second."""
    until = time.monotonic() + 1
    while (alive := sum(map(is_alive, pids))) and time.monotonic() < until:
        time.sleep(0.02)
    return alive


def is_alive(pid: int) -> bool:
    """A zombie that nobody collects is not alive."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def run(noise: Noise, runs: int = RUNS) -> list[Figure]:
    """Kill, resume, compare."""
    chance, wrong = random.Random(7), Counter[str]()
    price = ev.Price(input_usd_micro=1_000_000, output_usd_micro=10_000_000)
    seen: list[Seen] = []
    with (
        ScriptedEndpoint(reply_to, billing=Billing(price=price)) as endpoint,
        tempfile.TemporaryDirectory() as temporary,
    ):
        straight = one(endpoint, Path(temporary) / "straight", None)
        for number in range(runs):
            noise.tick()
            was = one(endpoint, Path(temporary) / str(number), chance)
            seen.append(was)
            wrong["another shape of answer"] += len(was.value) != len(straight.value)
            wrong["other sub-calls' results"] += was.value[1:4] != straight.value[1:4]
            wrong["calls paid twice beyond those in flight"] += not was.undone and (
                was.asked > straight.asked + was.in_flight
            )
            wrong["runs with a cell that its root had to run again"] += bool(was.undone)
            wrong["billed above the ceiling"] += was.billed_usd_micro > float(MAX_USD) * 1e6
            wrong["billed more than was booked"] += was.billed_usd_micro > was.spent_usd_micro
            wrong["processes left after 1 s"] += was.left
            wrong["cells that came out in another way"] += bool(was.told)
    for name, count in wrong.items():
        print(f"  {name}: {count}")
    return [
        Figure("kills of one run", "", tuple(float(one.kills) for one in seen)),
        Figure(
            "calls asked beyond a run without kills",
            "",
            tuple(float(one.asked - straight.asked) for one in seen),
        ),
        Figure("calls in flight at its kills", "", tuple(float(one.in_flight) for one in seen)),
    ]


if __name__ == "__main__":
    victim(sys.argv[1], Path(sys.argv[2]))
