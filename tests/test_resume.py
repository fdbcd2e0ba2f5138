"""Contract: run/resume. A run that was killed goes on, ends the same, and pays nothing twice.

Real jail, real journal, scripted model. A kill is a journal that ends early: whatever was
not in it had not happened.
"""

import json
import shutil
from dataclasses import replace

import pytest
from msgspec.structs import replace as replace_struct

import abyme
from abyme import RLM, ConfigError, ContextError, JournalError, Limits, ModelError
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
    """
children = rlm_query_batched(['child?', 'child?'], [context[:40], 'own text'])
print(children)
""",
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


def open_calls(records):
    """Calls that were on their way when the last of these records was written."""
    begun = [r.event.call for r in records if isinstance(r.event, ev.CallReserved)]
    ended = [r.event.call for r in records if isinstance(r.event, ev.CallSettled)]
    return begun, set(begun) - set(ended)


def test_a_run_killed_at_any_record_ends_with_the_same_answer_and_pays_only_what_was_open(
    whole, tmp_path
):
    answer, folder, lines, asked = whole
    records = folder.recording().records
    model = ScriptedModel(reply_to)
    with RLM(model=model, runs_dir=tmp_path) as rlm:
        for killed_after in range(1, len(lines)):
            path = cut_off(folder, lines[:killed_after], tmp_path, f"cut-{killed_after}")
            model.requests.clear()
            again = rlm.resume(path, context=TEXT)

            begun, in_flight = open_calls(records[:killed_after])
            assert (again.status, again.value) == ("answered", answer.value), killed_after
            assert len(begun) + len(model.requests) <= len(asked) + len(in_flight), killed_after
            assert again.usage.calls == len(begun) + len(model.requests)
            assert again.usage.unknown_calls == len(in_flight)


def test_a_run_killed_again_and_again_still_ends_the_same(whole, tmp_path):
    answer, folder, lines, _asked = whole
    path = cut_off(folder, lines[:10], tmp_path, "often")
    with RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path) as rlm:
        for kept in (25, 41, 42, 60, 75):
            rlm.resume(path, context=TEXT)
            events = path / "events.jsonl"
            events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:kept]))
            (path / "answer.json").unlink()
        again = rlm.resume(path, context=TEXT)

    assert (again.status, again.value) == ("answered", answer.value)


def test_what_was_in_flight_at_the_kill_is_carried_as_spent_at_its_worst(whole, tmp_path):
    _answer, folder, lines, _asked = whole
    records = folder.recording().records
    at = next(n for n, r in enumerate(records) if isinstance(r.event, ev.CallReserved)) + 1
    path = cut_off(folder, lines[:at], tmp_path, "one")
    with RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path) as rlm:
        rlm.resume(path, context=TEXT)

    resumed = RunFolder(path).recording().records[at].event
    assert isinstance(resumed, ev.RunResumed)
    reserved = records[at - 1].event
    assert resumed.carried == ev.Carried(calls=1, tokens=reserved.worst_tokens, unknown_calls=1)


def test_a_cell_that_comes_out_in_another_way_is_told_to_the_root_by_name(tmp_path):
    cells = ["import time\nnow = time.time()\nprint(now)", "submit([now])"]
    model = ScriptedModel(
        lambda request: "```repl\n{}\n```".format(
            cells[sum(m.role == "assistant" for m in request.messages)]
        )
    )
    with RLM(model=model, runs_dir=tmp_path) as rlm:
        first = rlm.ask("When?", TEXT)
        folder = RunFolder(first.run)
        lines = folder.events_path.read_bytes().splitlines(keepends=True)
        at = next(
            n
            for n, record in enumerate(folder.recording().records)
            if isinstance(record.event, ev.CellFinished)
        )
        path = cut_off(folder, lines[: at + 1], tmp_path, "time")
        again = rlm.resume(path, context=TEXT)

    told = model.requests[-1].messages[-1].content
    assert again.status == "answered"
    assert "not all came out as before: cell 1: its output differs (now)" in told


def test_an_answered_run_gives_its_answer_again_and_asks_nobody(whole, tmp_path):
    """Its answer.json is written, too, if the run was killed between the two."""
    answer, folder, lines, _asked = whole
    path = cut_off(folder, lines, tmp_path, "answered")
    model = ScriptedModel(reply_to)
    with RLM(model=model, runs_dir=tmp_path) as rlm:
        again = rlm.resume(path)

    assert again == replace(answer, run=path, usage=again.usage)
    assert replace(again.usage, wall_s=0) == replace(answer.usage, wall_s=0)
    assert RunFolder(path).answer().value == answer.value
    assert model.requests == []


def test_a_torn_last_line_is_cut_off_and_the_run_goes_on(whole, tmp_path):
    answer, folder, lines, _asked = whole
    path = cut_off(folder, [*lines[:30], lines[30][:20]], tmp_path, "torn")
    with RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path) as rlm:
        again = rlm.resume(path, context=TEXT)

    assert (again.status, again.value) == ("answered", answer.value)
    RunFolder(path).recording()  # whole lines, numbers without a gap


def test_a_run_that_somebody_writes_is_left_alone(whole, tmp_path):
    _answer, folder, lines, _asked = whole
    path = cut_off(folder, lines[:30], tmp_path, "busy")
    with (
        RunFolder(path).open_journal(),
        RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path) as rlm,
        pytest.raises(JournalError, match="written by another process"),
    ):
        rlm.resume(path, context=TEXT)


def test_another_context_is_refused_by_what_differs(whole, tmp_path):
    _answer, folder, lines, _asked = whole
    path = cut_off(folder, lines[:30], tmp_path, "other")
    with (
        RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path) as rlm,
        pytest.raises(ContextError, match="not what the run began on"),
    ):
        rlm.resume(path, context=TEXT + "!")


def test_values_given_from_python_are_kept_so_that_the_run_can_go_on_without_them(tmp_path):
    with RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path) as rlm:
        first = rlm.ask("Root question?", TEXT)
        folder = RunFolder(first.run)
        lines = folder.events_path.read_bytes().splitlines(keepends=True)
        again = rlm.resume(cut_off(folder, lines[:40], tmp_path, "kept"))

    assert again.value == first.value


def test_a_run_that_met_a_limit_wants_a_higher_one_and_then_goes_on(tmp_path):
    limits = Limits(max_turns=2)
    with RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path, limits=limits) as rlm:
        partial = rlm.ask("Root question?", TEXT)
        assert partial.status == "partial"
        with pytest.raises(ConfigError, match="raise that limit"):
            rlm.resume(partial.run)
        again = rlm.resume(partial.run, limits={"max_turns": 20})

    assert again.status == "answered"
    assert again.usage.calls > partial.usage.calls


def test_a_stopped_run_goes_on_where_it_was_stopped(tmp_path):
    stopped_at = 2
    asked = 0

    def replies(request):
        nonlocal asked
        turn = sum(m.role == "assistant" for m in request.messages)
        if request.messages[0].role == "system" and turn == stopped_at and not asked:
            asked += 1
            rlm.stop()
            rlm.stop()
        return reply_to(request)

    with RLM(model=ScriptedModel(replies), runs_dir=tmp_path) as rlm:
        stopped = rlm.ask("Root question?", TEXT)
        again = rlm.resume(stopped.run)

    assert (stopped.status, again.status) == ("stopped", "answered")


def test_a_run_whose_endpoint_failed_goes_on_when_it_is_back(tmp_path):
    down = True

    def replies(request):
        turn = sum(m.role == "assistant" for m in request.messages)
        if down and request.messages[0].role == "system" and turn == 1:
            return ModelError("no account", failure="quota", retryable=False, usage=ev.Usage())
        return reply_to(request)

    with RLM(model=ScriptedModel(replies), runs_dir=tmp_path) as rlm:
        failed = rlm.ask("Root question?", TEXT)
        down = False
        again = rlm.resume(failed.run)

    assert (failed.status, again.status) == ("failed", "answered")
    assert again.value[1] == json.loads(json.dumps(again.value[1]))


def test_the_ceiling_holds_across_kills(whole, tmp_path):
    _answer, folder, lines, _asked = whole
    path = cut_off(folder, lines[:60], tmp_path, "poor")
    with RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path) as rlm:
        again = rlm.resume(path, context=TEXT, limits={"max_calls": 20})

    records = RunFolder(path).recording().records
    assert again.status == "partial"
    assert "max_calls" in again.reason
    assert sum(isinstance(r.event, ev.CallReserved) for r in records) <= 20


def test_a_replay_runs_every_cell_again_and_finds_them_the_same(whole):
    answer, _folder, lines, _asked = whole
    replayed = abyme.replay(answer.run, context=TEXT)

    assert (replayed.diverged, replayed.records, replayed.nodes) == (None, len(lines), 3)
    assert replayed.cells == len(CELLS) + 2 * len(CHILD_CELLS)
    assert [apart for apart in replayed.apart if apart.difference.names != ["results"]] == []


def test_a_replay_names_the_first_record_that_is_not_what_the_events_make(whole, tmp_path):
    _answer, folder, lines, _asked = whole
    at = next(n for n, line in enumerate(lines) if b"call_reserved" in line)
    forged = lines[at].replace(b'"worst_tokens":', b'"worst_tokens":9')
    path = cut_off(folder, [*lines[:at], forged, *lines[at + 1 :]], tmp_path, "forged")
    replayed = abyme.replay(path, context=TEXT)

    assert replayed.diverged == f"record {at}: CallReserved differs in worst_tokens"


def test_a_run_killed_in_its_closing_turn_goes_on_before_the_limit_if_that_is_raised(tmp_path):
    limits = Limits(max_calls=9)
    with RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path, limits=limits) as rlm:
        partial = rlm.ask("Root question?", TEXT)
        folder = RunFolder(partial.run)
        lines = folder.events_path.read_bytes().splitlines(keepends=True)
        path = cut_off(folder, lines[:-2], tmp_path, "closing")
        again = rlm.resume(path, context=TEXT, limits={"max_calls": 100})

    assert (partial.status, again.status) == ("partial", "answered")


def test_a_run_folder_from_elsewhere_does_not_say_where_a_key_goes(whole, tmp_path):
    _answer, folder, lines, _asked = whole
    path = cut_off(folder, lines[:30], tmp_path, "crafted")
    spec = replace_struct(RunFolder(path).spec(), model="openai:gpt-5", sub_model="openai:gpt-5")
    foreign = "https://elsewhere.example/v1"
    RunFolder(path).write_spec(replace_struct(spec, base_url=foreign, sub_base_url=foreign))

    with pytest.raises(ConfigError, match="outside of your runs and names https://elsewhere"):
        RLM.of_run(path, api_key="key")
    with RLM.of_run(path, api_key="key", runs_dir=tmp_path) as rlm:
        assert rlm.spec.root.base_url == foreign


def test_a_paid_answer_stands_until_a_resumed_run_has_a_better_one(tmp_path):
    limits = Limits(max_calls=3)
    cells = ["llm_query('a')", "submit('paid answer')", "submit('paid answer')"]
    down = False

    def replies(request):
        if down:
            return ModelError("no account", failure="quota", retryable=False, usage=ev.Usage())
        if request.messages[0].role != "system":
            return "reply"
        last = "LAST TURN" in request.messages[-1].content
        return f"```repl\n{cells[1] if last else cells[0]}\n```"

    with RLM(model=ScriptedModel(replies), runs_dir=tmp_path, limits=limits) as rlm:
        partial = rlm.ask("Root question?", TEXT)
        assert (partial.status, partial.value) == ("partial", "paid answer")
        for less in ({"max_calls": 1}, {"max_calls": 3}):
            with pytest.raises(ConfigError, match="raise that limit"):
                rlm.resume(partial.run, limits=less)
        down = True
        again = rlm.resume(partial.run, limits={"max_calls": 50})

    assert (again.status, again.value) == ("partial", "paid answer")


def test_a_partial_end_that_was_not_written_down_is_told_with_its_figures(tmp_path):
    with RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path, limits=Limits(max_turns=2)) as rlm:
        partial = rlm.ask("Root question?", TEXT)
        (partial.run / "answer.json").unlink()
        with pytest.raises(ConfigError, match="raise that limit") as refused:
            rlm.resume(partial.run)

    assert refused.value.run == partial.run
    assert refused.value.usage.calls == partial.usage.calls
    assert RunFolder(partial.run).answer().status == "partial"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            b'"kind":"call_settled"',
            b'"kind":"session_opened","python":"","layers":[],"snapshots":true',
        ),
        (b'"prompt_tokens":', b'"prompt_tokens":-'),
        (b'"worst_tokens":', b'"worst_tokens":-'),
    ],
)
def test_a_journal_that_was_tampered_with_is_refused_in_words(whole, tmp_path, old, new):
    _answer, folder, lines, _asked = whole
    at = next(n for n, line in enumerate(lines) if old in line and n > 2)
    forged = lines[at].replace(old, new, 1)
    path = cut_off(folder, [*lines[:at], forged, *lines[at + 1 : 40]], tmp_path, "tampered")
    with (
        RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path) as rlm,
        pytest.raises(JournalError),
    ):
        rlm.resume(path, context=TEXT)


def test_time_that_a_run_only_waited_before_it_was_killed_counts(whole, tmp_path):
    _answer, folder, lines, _asked = whole
    path = cut_off(folder, lines[:40], tmp_path, "waited")
    (path / "alive").write_bytes(b"%016.3f\n" % 3000)
    with RLM(model=ScriptedModel(reply_to), runs_dir=tmp_path) as rlm:
        again = rlm.resume(path, context=TEXT)
    records = RunFolder(path).recording().records

    assert again.usage.wall_s > 3000
    assert records[40].at_s >= 3000


def test_the_answer_of_before_is_gone_once_the_run_goes_on(tmp_path):
    """Else a run that is killed while it goes on would be listed as ended, at its old cost."""
    seen = []

    def watch(record):
        if isinstance(record.event, ev.SessionRebuilt):
            seen.append(RunFolder(partial.run).answer())

    model = ScriptedModel(reply_to)
    limits = Limits(max_turns=2)
    with RLM(model=model, runs_dir=tmp_path, limits=limits, on_record=watch) as rlm:
        partial = rlm.ask("Root question?", TEXT)
        again = rlm.resume(partial.run, limits={"max_turns": 20})

    assert seen == [None]
    assert RunFolder(partial.run).answer().status == again.status == "answered"
