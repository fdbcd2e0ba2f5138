"""Contract: cli/asking. Who set --confirm-usd is asked at the terminal, and nowhere else."""

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from recorded_run import RECORDS

from abyme.apps.cli.asking import Asker
from abyme.apps.cli.lines import Lines
from abyme.apps.cli.progress import Silent
from abyme.apps.cli.terminal import Terminal, terminal
from abyme.core import events as ev
from abyme.core.ids import ROOT
from abyme.testing import ScriptedEndpoint

QUESTION = "1,000 calls, about $0.2300; $0.0001 of $5.00 spent. Make them? [y/N] "


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The user's side of a terminal; the other one is standard input."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours
    os.close(ours)


class Told:
    """What the user was shown on a plain terminal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.terminal: Terminal = terminal(path.open("w", encoding="utf-8"), {})

    @property
    def text(self) -> str:
        return self._path.read_text(encoding="utf-8")


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    shown = Told(tmp_path / "told")
    yield shown
    shown.terminal.stream.close()


@pytest.fixture
def asker(told: Told, keyboard: int) -> Asker:
    shown = Silent(told.terminal)
    for record in RECORDS[:4]:
        shown.record(record)
    return Asker(told.terminal, shown)


async def asked(work: Awaitable[bool], do: Callable[[], object]) -> asyncio.Task[bool]:
    """Ask, let the question come up, and do something about it."""
    task = asyncio.ensure_future(work)
    for _ in range(5):
        await asyncio.sleep(0)
    do()
    return task


@pytest.mark.parametrize(
    ("typed", "allowed"),
    [
        (b"y\n", True),
        (b" YES \n", True),
        (b"\n", False),
        (b"n\n", False),
        (b"yep\n", False),
        (b"\x04", False),
    ],
)
def test_only_yes_is_yes(asker, told, keyboard, typed, allowed) -> None:
    async def run() -> bool:
        work = asker.confirm(1000, 0.23)
        return await (await asked(work, lambda: os.write(keyboard, typed)))

    assert asyncio.run(run()) is allowed
    assert told.text == (QUESTION + "\n" if typed == b"\x04" else QUESTION)


def test_what_was_typed_before_the_question_is_not_its_answer(asker, keyboard) -> None:
    os.write(keyboard, b"y\n")

    async def run() -> bool:
        work = asker.confirm(1, 1.0)
        return await (await asked(work, lambda: os.write(keyboard, b"n\n")))

    assert asyncio.run(run()) is False


@pytest.mark.parametrize("event", [ev.StopRequested(), ev.DeadlinePassed()])
def test_a_run_that_ends_withdraws_its_question_and_takes_it_for_no_answer(
    asker, told, event
) -> None:
    record = ev.Record(seq=9, at_s=1.0, node=ROOT, event=event)

    async def run() -> tuple[bool, bool]:
        first = await asked(asker.confirm(1000, 0.23), lambda: asker.record(record))
        second = await asked(asker.confirm(2, 0.5), lambda: None)
        done = first.done(), second.done()
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        return done

    assert asyncio.run(run()) == (False, False)
    assert told.text == QUESTION + "\n"


def test_batches_of_parallel_children_are_asked_about_one_after_the_other(
    asker, told, keyboard
) -> None:
    async def run() -> list[bool]:
        first = await asked(asker.confirm(1000, 0.23), lambda: None)
        second = await asked(asker.confirm(1000, 0.23), lambda: os.write(keyboard, b"y\n"))
        one = await first
        other = await asked(second, lambda: os.write(keyboard, b"n\n"))
        return [one, await other]

    assert asyncio.run(run()) == [True, False]
    assert told.text == 2 * QUESTION


def test_nothing_is_said_into_a_question(told) -> None:
    lines = Lines(told.terminal)
    for record in RECORDS[:5]:
        lines.record(record)
    before = told.text
    lines.pause()
    for record in RECORDS[5:]:
        lines.record(record)
    assert told.text == before

    lines.go_on()

    assert told.text.startswith(before)
    assert len(told.text.splitlines()) == 11


# -- a real terminal -----------------------------------------------------------------

FAN = "```repl\ngot = llm_query_batched(['p', 'q'])\nprint(got)\n```"


def on_a_terminal(
    endpoint: ScriptedEndpoint, tmp_path: Path, answer: bytes
) -> tuple[int, list[str]]:
    """Ask, answer the question; exit code, and what was written beside the tree."""
    (tmp_path / "a.txt").write_text("hay\n")
    ours, theirs = pty.openpty()
    limits = ("--price", "1,2", "--confirm-usd", "0")
    ask = ["ask", "where?", "a.txt", "--base-url", endpoint.url, "--model", "m", *limits]
    path = os.pathsep.join(sys.path)
    # The shell leads a session of its own, so that the terminal it opens becomes its own too.
    opens = ["sh", "-c", 'exec <> "$0" >&0 2>&0 "$@"', os.ttyname(theirs)]
    process = subprocess.Popen(
        [*opens, sys.executable, "-m", "abyme", *ask],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "ABYME_HOME": str(tmp_path), "TERM": "xterm"},
        start_new_session=True,
    )
    first = os.read(ours, 1)
    os.close(theirs)
    shown = first
    while data := _read(ours):
        shown += data
        if b"[y/N] " in shown and answer:
            os.write(ours, answer)
            answer = b""
    os.close(ours)
    return process.wait(), shown.decode().replace("\r\n", "\n").splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO when the other side is closed
        return b""


def test_the_tree_makes_room_for_the_question_and_comes_back(tmp_path) -> None:
    with ScriptedEndpoint([FAN, "1", "2", "```repl\nsubmit(got[1])\n```"]) as endpoint:
        code, shown = on_a_terminal(endpoint, tmp_path, b"y\n")

    (question,) = [number for number, line in enumerate(shown) if "[y/N] y" in line]
    assert (code, endpoint.calls) == (0, 4)
    assert any("llm_query_batched" in line for line in shown[:question])
    assert any("2 sub-calls: 2 done" in line for line in shown[question:])
    assert shown[-2].endswith("2")


def test_a_no_makes_no_call_and_the_model_is_told(tmp_path) -> None:
    catches = "```repl\ntry:\n    llm_query('p')\nexcept Exception as e:\n    submit(str(e))\n```"
    with ScriptedEndpoint([catches]) as endpoint:
        code, shown = on_a_terminal(endpoint, tmp_path, b"\n")

    assert (code, endpoint.calls) == (0, 1)
    assert any("the user declined the cost of these calls" in line for line in shown)


def test_ctrl_c_while_asked_stops(tmp_path) -> None:
    with ScriptedEndpoint([FAN, "```repl\nsubmit('so far')\n```"]) as endpoint:
        code, shown = on_a_terminal(endpoint, tmp_path, b"\x03")

    assert (code, endpoint.calls) == (3, 2)
    assert "partial: stopped by the user" in shown
    assert not any("declined" in line for line in shown)
