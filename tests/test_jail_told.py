"""Contract: sandboxes/wired/told. Whatever the host has to say fits, and arrives whole."""

import pytest
from jail_doubles import BUDGET, bench

from abyme.core.effects import Result
from abyme.core.events import Failure
from abyme.errors import SandboxError
from abyme.sandboxes.wired import channel, told
from abyme.wire import MAX_FRAME_BYTES, WireError, encode

WIDE = "\U0001f600"
"""12 bytes on the wire."""


@pytest.fixture(scope="module")
def jail():
    with bench() as made:
        yield made


@pytest.fixture
def repl(jail):
    with jail.repl() as made:
        yield made


@pytest.mark.parametrize("length", [0, 1, 5, 6, 11, 12, 25])
def test_a_long_text_is_cut_into_parts_and_a_last_piece(monkeypatch, length):
    monkeypatch.setattr(told, "PIECE_CHARS", 5)
    text = "abcdefghijklmnopqrstuvwxyz"[:length]
    *parts, last = told.answer(3, [Result(call=1, text=text)], None, BUDGET)

    assert "".join(part["text"] for part in parts) + last["results"][0]["text"] == text
    assert (len(parts), last["parts"]) == (max(0, (length - 2) // 5), len(parts))
    assert all(len(part["text"]) == 5 for part in parts)


def test_results_are_grouped_and_only_the_last_group_ends_the_answer(monkeypatch):
    monkeypatch.setattr(told, "PIECE_CHARS", 5)
    results = [Result(call=number, text="abc") for number in range(3)]
    failed = Result(call=3, failure=Failure(fault="server", message="x"))
    frames = list(told.answer(3, [*results, failed], None, BUDGET))

    assert [[one["call"] for one in frame["results"]] for frame in frames] == [[0], [1], [2], [3]]
    assert [frame["more"] for frame in frames] == [True, True, True, False]


def test_no_frame_comes_near_the_cap_however_wide_the_letters_are():
    results = [Result(call=number, text=WIDE * (300 << 10)) for number in range(7)]
    sizes = [len(encode(frame)) for frame in told.answer(0, results, None, BUDGET)]

    assert max(sizes) < MAX_FRAME_BYTES // 4


def test_long_answers_of_wide_letters_arrive_whole(repl):
    repl.bring = lambda number, _: Result(call=number, text=WIDE * (3 << 20) + str(number))

    assert repl.out("rs = llm_query_batched(['a', 'b'])\n[(len(r), r[-1]) for r in rs]") == (
        "[(3145729, '1'), (3145729, '2')]\n"
    )


def test_long_results_are_restored_whole(repl):
    restore = [Result(call=n, text="\u6f22" * (1 << 20) + str(n)) for n in range(12)]
    finished = repl.cell("print({len(c.text) for c in calls}, calls[11].text[-2:])", restore)

    assert (finished.error, finished.output) == (None, "{1048577, 1048578} 11\n")


def test_a_long_cell_arrives_whole(repl):
    assert repl.out(f"len({WIDE * (2 << 20)!r})") == "2097152\n"


def test_what_cannot_be_sent_ends_the_session_as_an_error_of_its_own(monkeypatch, repl):
    def refuse(_):
        raise WireError("too long")

    repl.out("x = 1")
    monkeypatch.setattr(channel, "encode", refuse)
    with pytest.raises(SandboxError, match="cannot be sent: too long"):
        repl.cell("x")
