"""Contract: apps/view and apps/tree. What a reader sees of a run comes from its records alone."""

import pytest
from recorded_run import CHILD, RECORDS

from abyme.apps.tree import draw, totals
from abyme.apps.view import RunView, first_line, parent_of
from abyme.core.ids import ROOT, NodeId


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
        *[4, 4, 4, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6],
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
