"""A strong model's bench: one question through an engine, scored, with what it sent counted.

    python -m bench.surface.strong --data DATA --engine abyme --base-url URL --task pairs-1

URL is any OpenAI-compatible endpoint: a model's, or one that is answered by hand. With
``--engine rlms`` the official engine is asked, by the interpreter that ``--peer-python`` names.
Prints a row of a table, and adds a line of JSON to ``--out``. Both engines have their own
defaults and get the question and the context alike; dollars are not limited.
Who answers by hand must see nothing but the requests: gold and scores never go over the wire.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from abyme import RLM, AbymeError, Limits
from bench.surface.counted import CountingProxy, Counts, count
from bench.surface.tasks import FIVE, FORTY, NAMES, Data, DataMissing, Task, task

HERE: Final = Path(__file__).parent
SETS: Final = {"five": FIVE, "forty": FORTY, "all": NAMES}
RUN_S: Final = 24 * 3600.0
COLUMNS: Final = (
    "task", "engine", "score", "root turns", "sub-calls", "failed",
    "root prompt chars", "all prompt chars", "reply chars", "s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Given:
    """What an engine brought."""

    engine: str
    value: Any
    status: str
    """``answered``, or what went wrong."""


Engine = Callable[[Task, str, str], Given]
"""Asks a task at an endpoint's URL, with a model's name."""


@dataclass(frozen=True, slots=True)
class Row:
    """One task by one engine."""

    task: str
    engine: str
    model: str
    commit: str
    score: float
    status: str
    seconds: float
    counts: Counts
    answer: Any

    def cells(self) -> tuple[str, ...]:
        n = self.counts
        shown = (
            n.root_turns,
            n.sub_calls,
            n.failed,
            n.root_prompt_chars,
            n.root_prompt_chars + n.sub_prompt_chars,
            n.root_reply_chars + n.sub_reply_chars,
        )
        figures = (f"{one:,}" for one in shown)
        return (self.task, self.engine, f"{self.score:.3f}", *figures, f"{self.seconds:.0f}")


def ask(one: Task, engine: Engine, upstream: str, model: str, key: str | None = None) -> Row:
    """Ask one task and score the answer."""
    began = time.monotonic()
    with CountingProxy(upstream, key=key) as proxy:
        given = engine(one, proxy.url, model)
        counts = count(proxy.exchanges)
    return Row(
        task=one.name,
        engine=given.engine,
        model=model,
        commit=commit(),
        score=0.0 if given.value is None else one.score(given.value),
        status=given.status,
        seconds=round(time.monotonic() - began, 1),
        counts=counts,
        answer=given.value,
    )


def by_abyme(one: Task, url: str, model: str, *, runs: Path) -> Given:
    """Ask abyme, with its defaults but for the limits of time."""
    limits = Limits(max_usd=None, timeout_s=RUN_S)
    with RLM(model, base_url=url, limits=limits, runs_dir=runs) as rlm:
        try:
            answer = rlm.ask(one.question, one.context)
        except AbymeError as error:
            return Given("abyme", None, f"{type(error).__name__}: {error}")
    why = f" ({answer.reason})" if answer.reason else ""
    return Given("abyme", answer.value, f"{answer.status}{why}")


def by_rlms(one: Task, url: str, model: str, *, python: Path) -> Given:
    """Ask the official engine in a process and a folder of its own, without our environment."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "task.json"), Path(folder, "answer.json")
        words = {"question": one.question, "context": one.context, "base_url": url, "model": model}
        asked.write_text(json.dumps(words), encoding="utf-8")
        done = subprocess.run(
            [python, HERE / "official.py", asked, answered],
            cwd=folder,
            env={"PATH": os.defpath, "HOME": folder, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if not answered.exists():
            return Given("rlms", None, f"exit code {done.returncode}: {done.stderr[-500:]}")
        answer = json.loads(answered.read_text(encoding="utf-8"))
    return Given(answer["engine"], answer["value"], answer["error"] or "answered")


def commit() -> str:
    """The commit that is measured; a + where files differ from it."""
    git = ["git", "-C", str(HERE)]
    try:
        head = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True).strip()
        state = [*git, "status", "--porcelain", "--untracked-files=no"]
        return head + "+" * bool(subprocess.check_output(state, text=True).strip())
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def line_of(row: Row) -> str:
    """One line of JSON."""
    return json.dumps(asdict(row), ensure_ascii=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.surface.strong", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data", type=Path, action="append", default=[], help="may be repeated")
    parser.add_argument("--task", action="append", default=[], help="a name, five, forty, or all")
    parser.add_argument("--engine", choices=["abyme", "rlms"], default="abyme")
    parser.add_argument("--peer-python", type=Path, help="an interpreter that has rlms")
    parser.add_argument("--base-url", help="of an OpenAI-compatible endpoint")
    parser.add_argument("--model", default="by-hand", help="name to send; abyme's profile follows")
    parser.add_argument("--key-from", metavar="VARIABLE", help="where the endpoint's key is")
    parser.add_argument("--out", type=Path, help="add a line of JSON for each task")
    parser.add_argument("--runs", type=Path, help="keep abyme's runs there")
    parser.add_argument("--list", action="store_true", help="name the tasks")
    options = parser.parse_args(arguments)
    if options.list:
        print(*NAMES, sep="\n")
        return
    names = [name for given in options.task for name in SETS.get(given, (given,))]
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        parser.error(f"--task takes {', '.join(SETS)} or a name that --list shows: {unknown}")
    if not options.base_url or not options.data:
        parser.error("--base-url and --data are needed")
    if options.engine == "rlms" and options.peer_python is None:
        parser.error("--engine rlms needs --peer-python")
    with tempfile.TemporaryDirectory() as kept:
        engine: Engine = (
            partial(by_rlms, python=options.peer_python.absolute())
            if options.engine == "rlms"
            else partial(by_abyme, runs=options.runs or Path(kept))
        )
        _ask_all(names, engine, options)


def _ask_all(names: list[str], engine: Engine, options: argparse.Namespace) -> None:
    key = os.environ[options.key_from] if options.key_from else None
    data = Data(tuple(options.data))
    print("| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|", sep="\n", flush=True)
    for name in names:
        try:
            one = task(name, data)
        except DataMissing as missing:
            print(f"{name} was left out: {missing}", flush=True)
            continue
        row = ask(one, engine, options.base_url, options.model, key)
        print("| " + " | ".join(row.cells()) + " |", flush=True)
        if row.status != "answered":
            print(f"{name}: {row.status}", flush=True)
        if options.out:
            with options.out.open("a", encoding="utf-8") as out:
                out.write(line_of(row) + "\n")


if __name__ == "__main__":
    main()
