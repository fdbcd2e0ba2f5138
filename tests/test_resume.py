"""Contract: run/resume. A run that was killed goes on, ends the same, and pays nothing twice.

Real jail, real journal, scripted model. A kill is a journal that ends early: whatever was
not in it had not happened.
"""

import json
import shutil

import pytest

from abyme import RLM, ConfigError, ContextError, JournalError, Limits
from abyme.core import events as ev
from abyme.journals.folder import RunFolder
from abyme.testing import ScriptedModel

TEXT = "alpha beta gamma delta epsilon zeta eta theta " * 20

CELLS = [
    """
import random, threading
words = set(context.split())
picks = [random.random() for _ in range(3)]
print(list(words), picks)
""",
    """
got = llm_query_batched([f"batched {n}" for n in range(4)])
print(got, random.random())
""",
    """
results = {}
def work(n):
    results[n] = llm_query(f"threaded {n}", text=context[:50 * n])
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(results.items()))
""",
    "children = rlm_query_batched(['child?', 'child?'], [context[:40], 'own text'])\nprint(children)",
    "votes = llm_query('vote', samples=3)\nraise ValueError(votes)",
    "submit([list(words), picks, got, sorted(results.items()), children, votes, random.random()])",
]
CHILD_CELLS = [
    "first = llm_query('of a child: ' + context[:5])\nprint(first)",
    "submit([first, len(context)])",
]


def reply_to(request):
    """Answer by what was asked alone, so that order and process make no difference."""
    if request.messages[0].role != "system":
        return f"reply to {request.messages[-1].content[:60]!r}"
    cells = CHILD_CELLS if "child?" in request.messages[1].content else CELLS
    turn = sum(message.role == "assistant" for message in request.messages)
    return f"```repl\n{cells[turn]}\n```"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never killed: its folder, its journal's lines, what was asked."""
    model = ScriptedModel(reply_to)
    with RLM(model=model, runs_dir=tmp_path_factory.mktemp("whole")) as rlm:
        answer = rlm.ask("Root question?", TEXT)
    assert answer.status == "answered", answer
    folder = RunFolder(answer.run)
    lines = folder.events_path.read_bytes().splitlines(keepends=True)
    return answer, folder, lines, model.requests


def cut_off(folder, lines, to, name):
    """Make the folder of the same run, killed after so many lines."""
    path = to / name
    path.mkdir(parents=True)
    for part in ("run.json", "manifest.json"):
        shutil.copy(folder.path / part, path / part)
    (path / "events.jsonl").write_bytes(b"".join(lines))
    return path


def test_a_run_killed_at_any_record_ends_with_the_same_answer_and_pays_only_what_was_open(
    whole, tmp_path
):
    answer, folder, lines, asked = whole
    records = folder.recording().records
    prices = {}
    wrong = []
    model = ScriptedModel(reply_to)
    with RLM(model=model, runs_dir=tmp_path, warm=2) as rlm:
        for killed_after in range(1, len(lines)):
            path = cut_off(folder, lines[:killed_after], tmp_path, f"cut-{killed_after}")
            model.requests.clear()
            again = rlm.resume(path, context=TEXT)
            began = {r.event.call for r in records[:killed_after] if isinstance(r.event, ev.CallReserved)}
            ended = {r.event.call for r in records[:killed_after] if isinstance(r.event, ev.CallSettled)}
            paid = len(began) + len(model.requests)
            if again.value != answer.value or again.status != "answered":
                wrong.append((killed_after, type(records[killed_after - 1].event).__name__, again.value == answer.value, again.status, again.reason, again.usage.calls, paid))
            if paid > len(asked) + len(began - ended):
                wrong.append((killed_after, "paid", paid, len(asked), len(began - ended)))
    assert wrong == []
