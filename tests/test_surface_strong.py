"""Contract: the strong model's bench. Windows repeat, gold comes from the labels, an answer's form
does not count, and what is counted is what was sent."""

import asyncio
import http.client
import json
import threading
from collections import Counter
from datetime import date
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from bench.surface import counted, oolong, scores, strong, tasks
from bench.surface.counted import CountingProxy, Exchange, count
from bench.surface.oolong import Line

from abyme.testing import Fault, ScriptedEndpoint

POOL = {label: [f"{label} {n} ?" for n in range(30)] for label in oolong.LABELS}


def message(role, content):
    return {"role": role, "content": content}


# -- windows -------------------------------------------------------------------------


def test_a_window_has_as_many_lines_as_the_benchmark_s_own() -> None:
    assert [oolong.lines_in(2**n) for n in (13, 14, 17, 20)] == [188, 388, 3182, 25531]


def test_the_same_seed_draws_the_same_window_and_another_one_another() -> None:
    first = oolong.window(POOL, 188, seed=5)

    assert first == oolong.window(POOL, 188, seed=5)
    assert first != oolong.window(POOL, 188, seed=6)
    assert (len(first), first[0].user > 9_999, first[0].user < 100_000) == (188, True, True)


def test_a_window_does_not_repeat_a_text_before_its_label_is_used_up() -> None:
    drawn = Counter(line.text for line in oolong.window(POOL, 100, seed=1))
    by_label = Counter(line.label for line in oolong.window(POOL, 100, seed=1))

    assert all(
        n <= -(-by_label[text.rsplit(" ", 2)[0]] // len(POOL["entity"]))
        for text, n in drawn.items()
    )


def test_a_window_s_text_has_every_line_and_no_label_beside_one() -> None:
    line = Line(date(2022, 7, 1), 19821, "What fossilizes to form coprolite ?", "entity")
    text = oolong.text_of([line])

    shown = "Date: Jul 01, 2022 || User: 19821 || Instance: What fossilizes to form coprolite ?"
    assert [row for row in text.splitlines() if "||" in row] == [shown]
    assert text.startswith("The following lines contain 1 general-knowledge")
    assert "Recall: the preceding lines contain 1 " in text


# -- gold ----------------------------------------------------------------------------

OLD, NEW = date(2022, 3, 1), date(2024, 3, 1)
LINES = [
    Line(OLD, 11, "", "entity"),
    Line(NEW, 11, "", "abbreviation"),
    Line(NEW, 22, "", "entity"),
    Line(NEW, 22, "", "location"),
    Line(OLD, 33, "", "location"),
]


def test_a_symmetric_query_pairs_every_user_that_meets_it() -> None:
    query = {"symmetric": True, "user_a": {"any": ["location", "abbreviation"]}}

    assert oolong.pairs(LINES, query) == {
        frozenset(pair) for pair in ((11, 22), (11, 33), (22, 33))
    }


def test_a_query_of_two_sides_pairs_one_user_of_each_and_nobody_with_himself() -> None:
    query = {
        "symmetric": False,
        "user_a": {"at_least": {"entity": 1, "abbreviation": 1}},
        "user_b": {"exactly": {"entity": 1}},
    }

    assert oolong.pairs(LINES, query) == {frozenset((11, 22))}


def test_all_after_is_strict_and_holds_for_who_has_no_such_line() -> None:
    after = {"all_after": {"location": "2022-03-01"}}
    before = {"all_before": {"location": "2022-03-02"}}

    meet_after = {u for u in (11, 22, 33) if oolong.meets([x for x in LINES if x.user == u], after)}
    meet_before = {
        u for u in (11, 22, 33) if oolong.meets([x for x in LINES if x.user == u], before)
    }
    assert (meet_after, meet_before) == ({11, 22}, {11, 33})


def test_a_condition_that_nobody_knows_is_not_taken_for_met() -> None:
    with pytest.raises(ValueError, match="at_most"):
        oolong.meets(LINES, {"at_most": {"entity": 1}})


# -- scores --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        [[11, 22], [33, 44]],
        [["11", "22"], ["44", "33"]],
        "(11, 22), (44, 33)",
        "[(11, 22), (33, 44)]",
        "(11, 22)\n(33, 44)",
        "11,22\n33,44",
        json.dumps([[11, 22], [33, 44]], indent=2),
        ["(11, 22)", "(33, 44)"],
        {"pairs": [[11, 22], [33, 44]]},
        "There are 2 pairs:\n(11, 22)\n(33, 44)",
    ],
)
def test_pairs_score_the_same_in_every_form(answer) -> None:
    assert scores.pairs_f1(answer, {frozenset((11, 22)), frozenset((33, 44))}) == 1.0


def test_pairs_are_scored_by_the_f1_of_sets() -> None:
    gold = {frozenset((1, 2)), frozenset((3, 4)), frozenset((5, 6))}

    assert scores.pairs_f1([[2, 1], [7, 8]], gold) == pytest.approx(2 / 5)
    assert (scores.pairs_f1("[]", gold), scores.pairs_f1("[]", set())) == (0.0, 1.0)


def test_ordered_pairs_are_not_turned_round() -> None:
    gold = [[5, 387], [563, 649], [563, 749]]

    assert scores.ordered_pairs_f1({"5": 387, "563": 649}, gold) == pytest.approx(4 / 5)
    assert scores.ordered_pairs_f1("5 -> 387\n649 -> 563", gold) == pytest.approx(2 / 5)


def test_a_count_loses_a_quarter_for_each_that_it_is_off() -> None:
    forms = (
        34,
        34.0,
        "34",
        "Answer: 34.",
        "There are 34 of them.",
        [34],
        "Of 388, the answer is 34",
    )

    assert [scores.count(form, 34) for form in forms] == [1.0] * len(forms)
    assert scores.count("1,036", 1034) == 0.75**2
    assert [scores.count(form, 34) for form in ("34 of 388", "none", None)] == [0.0] * 3


def test_names_are_compared_without_case_quotes_bullets_and_endings() -> None:
    gold = ["Acme, Inc_AGREEMENT.PDF", "b.pdf"]

    for answer in (
        ["Acme, Inc_Agreement.txt", "b.txt"],
        "['Acme, Inc_Agreement.txt', 'b.txt']",
        "- Acme, Inc_Agreement.pdf\n- `b`",
        {"files": ["Acme, Inc_Agreement", "b"]},
    ):
        assert scores.names_f1(answer, gold) == 1.0
    assert scores.names_f1("CharField, TextField", ["TextField", "DateField"]) == 0.5


def test_other_answers_are_right_or_wrong() -> None:
    assert scores.exact("PEP 566", 566) == scores.exact(566, 566) == 1.0
    assert scores.exact("PEP 345 or 566", 566) == 0.0
    assert scores.numbers_f1("PEP 254, PEP 0259", [254, 259]) == 1.0
    assert scores.named_count(["Ann Lee", 53], ["Ann Lee", 53]) == 1.0
    assert scores.named_count("Ann Lee, 52", ["Ann Lee", 53]) == 0.75
    assert scores.named_count("Bob, 53", ["Ann Lee", 53]) == 0.0
    assert scores.contains("He was paid four\npounds.", ["4 pounds", "four pounds"]) == 1.0


@pytest.mark.parametrize("answer", ["6/21/1999", "June 21, 1999", "21 Jun 1999", "1999-06-21"])
def test_a_day_is_the_same_day_in_every_way_of_writing_it(answer: str) -> None:
    assert scores.day(answer, "6/21/1999") == 1.0
    assert scores.day(f"{answer} or June 22, 1999", "6/21/1999") == 0.0


# -- tasks ---------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> tasks.Data:
    rows = [
        {"text": text, "label": label, "split": split}
        for label, texts in POOL.items()
        for text, split in [*((one, "train") for one in texts), ("of the test set ?", "test")]
    ]
    query = {"symmetric": True, "user_a": {"any": ["entity"]}, "id": 1, "query": "List all pairs."}
    real = [{"corpus": "sherlock", "question": "Who?", "answer": "a", "scoring": "set F1"}]
    files = {
        "trec/trec_coarse.jsonl": "\n".join(map(json.dumps, rows)),
        "oolong_pairs/oolong_pairs_queries.json": json.dumps(
            {"suffix": "Labels.", "tasks": [query]}
        ),
        "real_tasks.json": json.dumps(real),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tasks.Data((tmp_path,))


def test_pairs_and_counts_are_built_of_training_lines_with_their_gold(data: tasks.Data) -> None:
    pairs, label_count = tasks.task("pairs-1", data), tasks.task("count-2", data)

    assert pairs.question == "List all pairs. Labels."
    assert pairs.score([sorted(pair) for pair in pairs.gold]) == 1.0
    assert [each.context.count(" || Instance: ") for each in (pairs, label_count)] == [188, 388]
    assert "of the test set" not in pairs.context
    assert label_count.gold == label_count.context.count("Instance: entity ")
    assert "'entity'" in label_count.question


def test_what_is_not_there_is_named(data: tasks.Data) -> None:
    with pytest.raises(tasks.DataMissing, match=r"books/\*\.txt\.xz is not in "):
        tasks.task("real-1", data)


def test_twenty_pairs_and_twenty_others_can_be_asked_at_once() -> None:
    assert Counter(name.split("-")[0] for name in tasks.FORTY) == {
        "pairs": 20,
        "real": 16,
        "count": 4,
    }
    assert set(tasks.FIVE) < set(tasks.FORTY) < set(tasks.NAMES)


# -- counting ------------------------------------------------------------------------

SYSTEM, QUESTION = message("system", "1234"), message("user", "567")


def test_turns_of_the_root_are_told_from_sub_calls_by_how_they_begin() -> None:
    later = [SYSTEM, QUESTION, message("assistant", "code"), message("user", "output")]
    counts = count(
        [
            Exchange([SYSTEM, QUESTION, message("assistant", "begun")], "code"),
            Exchange([message("user", "a sub-call")], "reply"),
            Exchange([SYSTEM, message("user", "a child's question")], None),
            Exchange(later, "answer"),
        ]
    )

    assert (counts.root_turns, counts.sub_calls, counts.failed) == (2, 1, 1)
    assert (counts.first_prompt_chars, counts.root_prompt_chars) == (12, 12 + 17)
    assert counts.sub_prompt_chars == 10 + 4 + 18
    assert (counts.root_reply_chars, counts.sub_reply_chars) == (10, 5)


def test_nothing_sent_counts_as_nothing() -> None:
    assert set(vars_of(count([]))) == {0}


def vars_of(counts: counted.Counts) -> list[int]:
    return [getattr(counts, name) for name in counts.__slots__]


def test_a_stream_and_a_whole_reply_have_the_same_text() -> None:
    stream = b'data: {"choices":[{"delta":{"content":"ab"}}]}\n\n: waiting\n\ndata: [DONE]\n\n'
    whole = b'{"choices":[{"message":{"content":"ab"}}]}'

    assert counted.reply_text("text/event-stream", stream) == "ab"
    assert counted.reply_text("application/json", whole) == "ab"
    assert counted.reply_text("application/json", b'{"error":{}}') is None


def asks(question: str, context: str, gold: int) -> tasks.Task:
    return tasks.Task("a task", question, context, gold, scores.count)


def test_a_run_is_scored_and_counted_as_the_endpoint_saw_it(tmp_path: Path) -> None:
    """Simulated: a script answers, in place of a model."""
    turns = [
        "```repl\nprint(llm_query('How many?', context))\n```",
        "three",
        Fault.rate_limited(retry_after_s=0),
        "```repl\nsubmit(4)\n```",
    ]
    with ScriptedEndpoint(turns) as endpoint:
        row = strong.ask(
            asks("How many?", "a b c", 3),
            partial(strong.by_abyme, runs=tmp_path),
            endpoint.url,
            "by-script",
        )
        sent = [sum(len(m["content"]) for m in r["messages"]) for r in endpoint.requests]

    assert (row.score, row.status, row.answer, row.engine) == (0.75, "answered", 4, "abyme")
    assert (row.counts.root_turns, row.counts.sub_calls, row.counts.failed) == (2, 1, 1)
    assert row.counts.root_prompt_chars == sent[0] + sent[2] + sent[3]
    assert row.counts.sub_prompt_chars == sent[1]
    assert json.loads(strong.line_of(row))["counts"]["sub_reply_chars"] == len("three")


@pytest.mark.parametrize("stream", [False, True])
def test_who_waits_long_for_a_reply_gets_signs_of_life_and_then_the_reply(
    monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Engines give a silent connection up; a person thinks for longer than that."""
    monkeypatch.setattr(counted, "SIGN_OF_LIFE_S", 0.01)
    thought = threading.Event()

    async def script(_):
        await asyncio.to_thread(thought.wait)
        return "late"

    body = json.dumps({"messages": [message("user", "q")], "stream": stream})
    with ScriptedEndpoint(script) as endpoint, CountingProxy(endpoint.url) as proxy:
        connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc)
        connection.request("POST", "/v1/chat/completions", body)
        response = connection.getresponse()
        sign = response.read(1)
        thought.set()
        read = sign + response.read()
        connection.close()

    kind = "text/event-stream" if stream else "application/json"
    assert (sign, response.headers["Content-Type"]) == (b":" if stream else b" ", kind)
    assert counted.reply_text(kind, read) == "late"
    assert [exchange.reply for exchange in proxy.exchanges] == ["late"]
