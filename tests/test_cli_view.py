"""Contract: apps/view and apps/tree. What a reader sees of a run comes from its records alone."""

import pytest
from msgspec import structs
from recorded_run import CHILD, EVENTS, RECORDS, reserved, settled

from abyme.apps.tree import describe_calls, describe_violations, differing, draw, going_on, totals
from abyme.apps.view import RunView, first_line, parent_of
from abyme.core import events as ev
from abyme.core.ids import ROOT, BatchId, NodeId
from abyme.core.limits import Limits


def view(count: int | None = None) -> RunView:
    run = RunView()
    for record in RECORDS[:count]:
        run.add(record)
    return run


def texts(run: RunView, *, width: int = 100, height: int | None = None) -> list[str]:
    return ["".join(piece for piece, _ in line) for line in draw(run, width=width, height=height)]


def test_a_finished_run_is_drawn_with_cells_children_and_totals() -> None:
    question = "how many? \\x1b]0;owned\\x07\\x1b[31mred\\u202e"
    counters = "2 sub-calls: 1 done, 1 failed, 1 child"
    assert texts(view()) == [
        f"root  turn 2 of 5  {question}",
        f"├ 1 labels = llm_query_batched(parts)  ValueError  {counters} · 1.0 s",
        "│   0.0  turn 1 of 5  deeper?",
        "│   └ 1 submit(4)  submitted  0.1 s",
        "└ 2 submit(labels)  submitted  0.5 s",
        "6 calls · 2 failed · 400 + 40 tokens · $0.0012, up to $0.0007 of it unknown · 3.5 s",
    ]


def test_every_prefix_of_a_run_can_be_drawn() -> None:
    """A live tree and a torn journal see prefixes only."""
    assert [len(texts(view(n))) for n in range(len(RECORDS) + 1)] == [
        *[1, 2, 2, 2, 2],
        *[3] * 9,
        *[4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6],
    ]


@pytest.mark.parametrize("width", [1, 20, 40, 79, 80, 200])
def test_no_line_outgrows_the_terminal(width: int) -> None:
    """Below 40 columns the numbers and names alone may be wider; the display cuts these."""
    assert max(len(text) for text in texts(view(), width=width)[:-1]) <= max(width, 40)


def test_what_does_not_fit_the_height_is_counted() -> None:
    drawn = texts(view(), height=5)

    assert len(drawn) == 5
    assert drawn[1] == "  … 2 lines above"
    assert drawn[-1].startswith("6 calls")


def test_a_model_without_a_price_makes_the_cost_unknown() -> None:
    stray = RunView()
    for record in RECORDS[2:4]:
        stray.add(record)

    assert totals(stray) == [("1 call · 100 + 10 tokens · cost unknown · 1.0 s", "dim")]


def test_nodes_know_their_parent_and_children_their_question() -> None:
    assert parent_of(NodeId("0.2.11")) == "0.2"
    assert parent_of(ROOT) == ROOT
    assert view().nodes[CHILD].question == "deeper?"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("", ""),
        ("\n\n", ""),
        ("# only a comment", "# only a comment"),
        ("import re\nfrom x import y\n\nhits = 1", "hits = 1"),
    ],
)
def test_a_cell_is_told_by_its_first_line_of_code(code: str, line: str) -> None:
    assert first_line(code) == line


# -- runs that were gone on with -----------------------------------------------------


def run_of(*events: tuple[NodeId, ev.AnyEvent], past: int = 0) -> RunView:
    """A run of the first recorded events, then these."""
    every = [*EVENTS[:past], *((9.0, node, event) for node, event in events)]
    run = RunView()
    run.take(
        [
            ev.Record(seq=seq, at_s=at_s, node=node, event=event)
            for seq, (at_s, node, event) in enumerate(every)
        ]
    )
    return run


def resumed(believed: int, carried: ev.Carried | None = None) -> tuple[NodeId, ev.RunResumed]:
    return ROOT, ev.RunResumed(
        believed=believed,
        limits=Limits(max_turns=7),
        carried=carried or ev.Carried(),
        next_call=9,
        resumed_at="2026-11-23T00:00:00+00:00",
    )


def rebuilt(*differs: ev.Difference) -> tuple[NodeId, ev.SessionRebuilt]:
    return ROOT, ev.SessionRebuilt(cells=0, differs=list(differs))


def test_a_cell_that_was_cut_off_is_drawn_once_and_what_was_in_flight_is_unknown() -> None:
    """Cut off after the first of two sub-calls: the other one is at its worst, 700."""
    asks = EVENTS[5][2]
    cut = run_of(
        resumed(11, ev.Carried(calls=1, usd_micro=700, unknown_calls=1, unknown_usd_micro=700)),
        rebuilt(),
        (ROOT, ev.CellStarted(cell=1, code="labels = llm_query_batched(parts)")),
        (ROOT, asks),
        (ROOT, reserved(9, "sub")),
        (ROOT, settled(9, "again")),
        (ROOT, ev.CellFinished(cell=1, output="", ended="clean")),
        past=11,
    )

    assert texts(cut)[1:] == [
        "┄ REPL rebuilt from 0 cells",
        "└ 1 labels = llm_query_batched(parts)  ok  2 sub-calls: 2 done · 0.0 s",
        "5 calls · 1 failed · 300 + 30 tokens · $0.0011, up to $0.0007 of it unknown · 9.0 s",
    ]
    assert going_on(cut.resumed[0]) == (
        "after record 10: $0.0009 spent, up to $0.0007 of it unknown (1 call was in flight)"
    )
    assert cut.nodes[ROOT].cells[0].runs == 2


def test_what_was_set_aside_is_paid_and_not_drawn() -> None:
    """The whole run is there; it is taken up after its first turn."""
    cut = run_of(resumed(4), rebuilt(), past=len(EVENTS))

    assert texts(cut) == [
        "root  turn 1 of 7  how many? \\x1b]0;owned\\x07\\x1b[31mred\\u202e",
        "┄ REPL rebuilt from 0 cells",
        "6 calls · 2 failed · 400 + 40 tokens · $0.0012, up to $0.0007 of it unknown · 9.0 s",
    ]
    assert going_on(cut.resumed[0]) == (
        "after record 3: $0.0012 spent; 24 records from there on set aside"
    )
    assert cut.finished is None


def test_a_turn_that_was_in_flight_is_counted_once() -> None:
    cut = run_of(resumed(3), rebuilt(), (ROOT, reserved(9, "turn")), past=3)

    assert texts(cut)[0].startswith("root  turn 1 of 7, writing  how many?")


def test_a_turn_that_is_asked_again_with_a_shorter_prompt_is_counted_once() -> None:
    too_long = ev.CallFailed(
        call=reserved(9, "turn").call,
        failure=ev.Failure(fault="context_length", message="too long"),
    )
    again = [(ROOT, reserved(9, "turn")), (ROOT, too_long), (ROOT, reserved(10, "turn"))]
    cut = run_of(resumed(3), rebuilt(), *again, past=3)

    assert texts(cut)[0].startswith("root  turn 1 of 7, writing  how many?")


def test_rebuilt_cells_that_differ_are_counted_in_the_tree_and_told_in_words() -> None:
    names = [f"n{number}" for number in range(9)]
    apart = ev.Difference(cell=1, what="its output differs", names=names)
    cut = run_of(resumed(4), rebuilt(apart), past=4)

    assert texts(cut)[1] == "┄ REPL rebuilt from 0 cells, 1 came out differently"
    assert differing(ROOT, apart) == (
        "root, cell 1: its output differs (n0, n1, n2, n3, n4, n5, n6, n7, ...)"
    )


def test_a_child_shows_how_it_ended() -> None:
    ended = ev.ChildEnded(status="cut_off", value=None, reason="its parent's cell ended first")
    cut = run_of((CHILD, ended), past=19)

    assert texts(cut)[2] == "    0.0  turn 1 of 5, cut off  deeper?"


def asks(*prompts: str, batch: int, purpose: str = "llm") -> tuple[NodeId, ev.CallsRequested]:
    requests = [ev.Request(prompt=prompt) for prompt in prompts]
    return ROOT, ev.CallsRequested(cell=1, batch=BatchId(batch), purpose=purpose, requests=requests)


def made(call: int, batch: int, position: int) -> list[tuple[NodeId, ev.AnyEvent]]:
    sent = structs.replace(reserved(call, "sub"), batch=BatchId(batch), position=position)
    return [(ROOT, sent), (ROOT, settled(call))]


def counters(*events: tuple[NodeId, ev.AnyEvent]) -> str:
    begun = (ROOT, ev.CellStarted(cell=1, code="x"))
    over = (ROOT, ev.CellFinished(cell=1, output="", ended="clean"))
    return describe_calls(run_of(begun, *events, over).nodes[ROOT].cells[0])


def test_what_equals_an_earlier_sub_call_is_the_same_and_not_lost() -> None:
    twice = asks("p", "q", "p", batch=1)
    assert counters(twice, *made(1, 1, 0), *made(2, 1, 1)) == ("3 sub-calls: 2 done, 1 the same")
    assert counters(twice, *made(1, 1, 0), *made(2, 1, 1), asks("q", batch=2)) == (
        "4 sub-calls: 2 done, 2 the same"
    )


def test_a_batch_that_was_refused_and_asked_for_again_has_nothing_that_is_the_same() -> None:
    again = [*made(1, 2, 0), *made(2, 2, 1)]
    assert counters(asks("p", "q", batch=1), asks("p", "q", batch=2), *again) == (
        "4 sub-calls: 2 done"
    )


def test_what_a_cell_tried_to_import_and_may_not_is_named_in_bounds() -> None:
    def told(*names: str) -> str:
        ended = ev.CellFinished(cell=1, output="", ended="raised", violations=list(names))
        run = run_of((ROOT, ev.CellStarted(cell=1, code="x")), (ROOT, ended))
        return describe_violations(run.nodes[ROOT].cells[0])

    assert told() == ""
    assert told("socket", "evil\x1b[31m") == "refused import: socket, evil\\x1b[31m"
    assert told("a", "b", "c", "d", "e") == "refused import: a, b, c, 2 more"


def test_what_is_asked_for_afresh_or_made_anew_is_not_the_same() -> None:
    anew = [asks("p", batch=1), *made(1, 1, 0), asks("p", batch=2), *made(2, 2, 0)]
    assert counters(*anew) == "2 sub-calls: 2 done"
    fresh = ev.Request(prompt="p", fresh=True)
    votes = ev.CallsRequested(cell=1, batch=BatchId(1), purpose="llm", requests=[fresh, fresh])
    assert counters((ROOT, votes), *made(1, 1, 0), *made(2, 1, 1)) == "2 sub-calls: 2 done"


def test_children_that_begin_in_another_order_have_their_own_questions() -> None:
    opened = ev.SessionOpened(python="3.11.7", snapshots=True, layers=[])
    begun = (ROOT, ev.CellStarted(cell=1, code="x"))
    asked = asks("deeper?", "wider?", batch=1, purpose="rlm")
    late = asks("longer?", batch=2, purpose="rlm")
    second, third = NodeId("0.1"), NodeId("0.2")

    run = run_of(begun, asked, (second, opened), (CHILD, opened))
    assert [run.nodes[node].question for node in (CHILD, second)] == ["deeper?", "wider?"]

    over = (ROOT, ev.CellFinished(cell=1, output="", ended="clean"))
    next_cell = (ROOT, ev.CellStarted(cell=2, code="y"))
    run = run_of(
        begun, asked, (second, opened), (CHILD, opened), over, next_cell, late, (third, opened)
    )
    assert run.nodes[third].question == "longer?"


def test_children_that_never_began_are_said_so() -> None:
    opened = ev.SessionOpened(python="3.11.7", snapshots=True, layers=[])
    asked = asks("deeper?", "wider?", batch=1, purpose="rlm")

    assert counters(asked) == "0 of 2 children begun"
    assert counters(asked, (CHILD, opened)) == "1 of 2 children begun"
    assert counters(asked, (CHILD, opened), (NodeId("0.1"), opened)) == "2 children"


def test_what_was_declined_and_what_had_the_wrong_shape_is_counted() -> None:
    no = ev.BatchConfirmed(batch=BatchId(2), allowed=False)
    wrong = ev.CallSettled(
        call=settled(2).call, text="{}", finish="stop", usage=ev.Usage(), wrong="n is missing"
    )
    cut = run_of(
        (ROOT, wrong),
        (ROOT, no),
        (ROOT, ev.CellFinished(cell=1, output="", ended="clean")),
        (ROOT, ev.EvidenceChecked(found=[], missing=[], wrong="n must be an integer")),
        past=8,
    )

    told = "2 sub-calls: 1 done, 1 batch declined, 1 wrong shape"
    assert texts(cut, width=120)[1] == (
        f"└ 1 labels = llm_query_batched(parts)  wrong shape  {told} · 8.0 s"
    )


def test_of_a_map_only_calls_are_counted_because_values_are_not_in_the_records() -> None:
    items = asks(*"abcdef", batch=1, purpose="map")
    failure = ev.Failure(fault="server", message="down")
    failed = (ROOT, ev.CallFailed(call=settled(3).call, failure=failure))

    assert counters(items) == "6 items to map: no calls"
    assert counters(items, *made(1, 1, 0)) == "6 items to map: 1 call done"
    assert counters(items, *made(1, 1, 0), *made(2, 1, 2), made(3, 1, 4)[0], failed) == (
        "6 items to map: 2 calls done, 1 failed"
    )
    texts_ = asks("a", "b", batch=2, purpose="reduce")
    assert counters(items, texts_, made(1, 1, 0)[0], *made(2, 2, 0)) == (
        "6 items to map: 0 calls done, 1 under way, 2 texts to reduce: 1 call done"
    )
