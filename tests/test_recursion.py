"""Contract: children, end to end. Real jails, scripted models, one ledger.

A child has a REPL of its own on its own piece of the context; its failure is typed; what its
parent no longer waits for is gone, processes included, within a second.
"""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from abyme import RLM, Limits
from abyme.core import events as ev
from abyme.journals.folder import RunFolder
from abyme.testing import ScriptedModel

DOCUMENTS = {f"doc{n}.txt": f"document {n} says {n * n}\n" for n in range(120)}


def code(*lines):
    return "```repl\n" + "\n".join(lines) + "\n```"


def question_of(request):
    return request.messages[1].content.split("\n")[0]


@pytest.fixture
def ask(tmp_path):
    """Ask with cells by question; gives the answer, the records and the model."""

    def ask(cells, context=DOCUMENTS, **more):
        def reply(request):
            if request.messages[0].role != "system":
                return f"reply to {request.messages[-1].content[:40]}"
            turn = sum(message.role == "assistant" for message in request.messages)
            asked = question_of(request)
            mine = next(cells[key] for key in cells if asked.startswith(key))
            return code(mine[min(turn, len(mine) - 1)])

        model = ScriptedModel(reply)
        with RLM(model=model, runs_dir=tmp_path, **more) as rlm:
            answer = rlm.ask("root?", context)
        return answer, RunFolder(answer.run).recording().records, model

    return ask


def below(pid):
    """Processes that a process has started, and theirs; some end meanwhile."""
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass
    return found + [child for one in found for child in below(one)]


def alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_hundred_children_work_at_once_each_on_its_own_document(tmp_path):
    """Each child's sub-call is answered only when all of them have asked."""
    waiting, all_there = [], asyncio.Event()
    root = (
        "names = list(context)[:100]\n"
        "questions = [f'child {name}?' for name in names]\n"
        "submit(rlm_query_batched(questions, [context[name] for name in names]))"
    )

    async def reply(request):
        if request.messages[0].role != "system":
            waiting.append(request)
            if len(waiting) == 100:
                all_there.set()
            await all_there.wait()
            return request.messages[-1].content
        asked = question_of(request)
        return code(root if asked == "root?" else "submit(llm_query(context.split()[-1]))")

    limits = Limits(cell_timeout_s=60, timeout_s=120)
    with RLM(model=ScriptedModel(reply), runs_dir=tmp_path, limits=limits) as rlm:
        answer = rlm.ask("root?", DOCUMENTS)

    assert answer.value == [str(n * n) for n in range(100)]
    assert answer.usage.by_depth[1].calls == 200


def test_a_child_reads_its_piece_and_its_evidence_names_the_line_of_the_input(ask):
    text = "".join(f"line {n}\n" for n in range(3000))
    cells = {
        "root?": ["half = context[len(context) // 2:]\nsubmit(rlm_query('child?', half))"],
        "child": ["hit = grep('line 2999')[0]\nsubmit(hit.text, evidence=[hit])"],
    }
    answer, records, _model = ask(cells, context=text)
    (found,) = next(r.event.found for r in records if isinstance(r.event, ev.EvidenceChecked))

    assert answer.value == "line 2999"
    assert (found.line, found.path, text[found.start : found.end]) == (3000, "context", "line 2999")


def test_children_of_children_go_as_deep_as_the_limit_and_are_told_where_it_is(ask):
    deeper = (
        "try: below = rlm_query('child of ' + context, context + '.')\n"
        "except LimitReached as error: below = str(error)\n"
        "submit([context, below])"
    )
    cells = {"root?": [deeper], "child": [deeper]}
    answer, _records, _model = ask(cells, context="top", limits=Limits(depth=4))

    refused = "depth 4 allows no rlm_query here; use llm_query instead"
    assert "top..." in answer.value[1]
    assert "top...." not in answer.value[1]
    assert refused in answer.value[1]


def test_a_childs_failure_is_typed_and_its_siblings_are_kept(ask):
    cells = {
        "root?": [
            (
                "try: rlm_query_batched(['child good', 'child bad'], ['a', 'b'])\n"
                "except BatchFailed as failed:\n"
                "    submit([failed.results, failed.errors[1].fault, str(failed.errors[1])])"
            )
        ],
        "child good": ["submit('fine')"],
        "child bad": ["1 / 0"],
    }
    answer, _records, _model = ask(cells, limits=Limits(max_turns=3))

    results, fault, words = answer.value
    assert (results, fault) == (["fine", None], "child_failed")
    assert words.startswith("the child ended without an answer: max_turns: 3 turns used")


def test_the_same_question_on_the_same_context_as_an_ancestors_is_refused(ask):
    cells = {
        "root?": [
            "try: rlm_query('root?')\nexcept ModelError as error: submit([error.fault, str(error)])"
        ]
    }
    answer, _records, _model = ask(cells)

    assert answer.value == [
        "cycle",
        "this is what you, or one above you, were asked on the same input: ask about a part of it",
    ]


def test_a_child_on_the_sub_model_is_led_by_it(tmp_path):
    root = ScriptedModel([code("submit(rlm_query('child?', 'text', model='given:sub'))")])
    sub = ScriptedModel([code("submit('by the sub-model')")])
    with RLM(root, sub, runs_dir=tmp_path) as rlm:
        answer = rlm.ask("root?", "text")

    assert answer.value == "by the sub-model"
    assert answer.usage.by_model["given:sub"].calls == 1
    assert answer.usage.by_depth[1].calls == 1


async def fewer_than(limit, within_s):
    """Wait until this process has fewer processes below it; how many there are then."""
    until = time.monotonic() + within_s
    while (left := sum(map(alive, below(os.getpid())))) >= limit and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # processes of others set no event
    return left


def test_children_that_nobody_waits_for_are_gone_within_a_second(tmp_path):
    """The parent's cell ends while ten children compute for ever."""
    cell = (
        "import threading, time\n"
        "names = [f'child {n}' for n in range(10)]\n"
        "work = lambda: rlm_query_batched(names, names)\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "until = time.monotonic() + 1.5\nwhile time.monotonic() < until: pass"
    )
    counted = []

    async def reply(request):
        if question_of(request) != "root?":
            counted.append(sum(map(alive, below(os.getpid()))))
            return code("while True: pass")
        if len(request.messages) == 2:
            counted.append(sum(map(alive, below(os.getpid()))))
            return code(cell)
        # The model may have been asked first before the REPL had left its snapshot: one more.
        counted.append(await fewer_than(counted[0] + 2, 1.0))
        return code("submit('done')")

    with RLM(model=ScriptedModel(reply), runs_dir=tmp_path) as rlm:
        answer = rlm.ask("root?", "text")
    records = RunFolder(answer.run).recording().records
    ended = [r.event.status for r in records if isinstance(r.event, ev.ChildEnded)]

    assert answer.value == "done"
    assert ended == ["cut_off"] * 10
    assert max(counted) >= counted[0] + 10
    assert counted[-1] <= counted[0] + 1


def test_a_fork_server_that_is_killed_is_replaced_and_the_repl_rebuilt(tmp_path):
    killed = []

    async def reply(request):
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn == 1:
            (zygote,) = [p for p in below(os.getpid()) if b"zygote.py" in command(p)][:1]
            os.kill(zygote, signal.SIGKILL)
            killed.append(await fewer_than(1, 20.0))
        cells = ["words = set(context.split())\nprint(list(words))", "submit(list(words))"]
        return code(cells[min(turn, 1)])

    with RLM(model=ScriptedModel(reply), runs_dir=tmp_path, warm=0) as rlm:
        answer = rlm.ask("root?", "alpha beta gamma delta epsilon zeta")
    records = RunFolder(answer.run).recording().records
    printed = next(r.event.output for r in records if isinstance(r.event, ev.CellFinished))

    assert killed == [0]
    assert answer.status == "answered"
    assert str(answer.value) == printed.strip()
    assert any(isinstance(r.event, ev.SessionRebuilt) for r in records)


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
