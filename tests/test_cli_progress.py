"""Contract: cli/progress. Plain lines for logs, a tree for terminals, nothing for --quiet."""

import io

import pytest
from recorded_run import RECORDS
from rich.console import Console

from abyme.apps.cli.lines import Lines
from abyme.apps.cli.live import LiveTree
from abyme.apps.cli.progress import Silent, progress
from abyme.apps.cli.terminal import Terminal, terminal
from abyme.core import events as ev
from abyme.core.ids import ROOT, BatchId, CallId, NodeId


def pipe() -> Terminal:
    return terminal(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), {})


def said(target: Terminal) -> list[str]:
    return target.stream.buffer.getvalue().decode().splitlines()


def test_plain_lines_tell_cells_calls_and_failures() -> None:
    target = pipe()
    shown = Lines(target)
    for record in RECORDS:
        shown.record(record)

    bad = "\\x1b]0;owned\\x07\\x1b[31mred\\u202e"
    assert said(target) == [
        "[    1.0 s] root: cell 1: labels = llm_query_batched(parts)",
        "[    1.1 s] root: cell 1 asks for 2 sub-calls",
        f"[    1.2 s] root: a call failed: {bad}",
        "[    1.2 s] root: retrying, attempt 2",
        f"[    1.4 s] root: a call failed: {bad}",
        "[    1.4 s] root: cell 1 asks for 1 child",
        "[    1.6 s] 0.0: cell 1: submit(4)",
        "[    1.7 s] 0.0: cell 1 submitted in 0.1 s",
        "[    2.0 s] root: cell 1 ValueError in 1.0 s, 2 sub-calls: 1 done, 1 failed, 1 child",
        "[    3.0 s] root: cell 2: submit(labels)",
        "[    3.5 s] root: cell 2 submitted in 0.5 s",
    ]


def test_stops_are_told_with_what_another_one_does() -> None:
    target = pipe()
    shown = Lines(target)
    for seq in range(2):
        shown.record(ev.Record(seq=seq, at_s=0.0, node=ROOT, event=ev.StopRequested()))

    assert [line.partition("root: ")[2] for line in said(target)] == [
        "finishing with what is there; Ctrl-C again stops now",
        "stopping now",
    ]


def test_a_long_preparation_prints_each_tenth_once() -> None:
    target = pipe()
    shown = Lines(target)
    for done in (0, 50, 100, 190, 1000):
        shown.bytes_done("reading", done, 1000)

    assert said(target) == [
        "reading: 0 B of 1.0 kB",
        "reading: 100 B of 1.0 kB",
        "reading: 1.0 kB of 1.0 kB",
    ]


def test_what_was_done_already_needs_no_line() -> None:
    target = pipe()
    Lines(target).bytes_done("reading", 1000, 1000)

    assert said(target) == []


def picture(shown: LiveTree, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=24, color_system=None)
    console.print(shown)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> LiveTree:
    """A live tree that is not redrawn by its thread."""
    monkeypatch.setattr(LiveTree, "_start", lambda self: None)
    monkeypatch.setenv("LINES", "24")
    return LiveTree(pipe())


def test_the_live_tree_shows_the_end_of_what_is_being_written(still: LiveTree) -> None:
    for record in RECORDS[:3]:
        still.record(record)
    still.text(ROOT, "first line\nsecond ")
    still.text(ROOT, "line \x1b[2J")

    drawn = picture(still)

    assert drawn[0].startswith("root  turn 1 of 5, writing  how many?")
    assert drawn[1] == "  second line \\x1b[2J"
    assert drawn[2].startswith("1 call · 0 + 0 tokens · $0.00 · ")


def test_a_finished_reply_is_not_shown_any_more(still: LiveTree) -> None:
    for record in RECORDS[:3]:
        still.record(record)
    still.text(ROOT, "reply")
    still.record(RECORDS[3])

    assert [line for line in picture(still) if "reply" in line] == []


def test_a_finished_run_is_drawn_as_it_ended(still: LiveTree) -> None:
    for record in RECORDS:
        still.record(record)
    still.text(NodeId("0"), "late")

    drawn = picture(still)

    assert drawn[-1].startswith("6 calls · 2 failed · 400 + 40 tokens · $0.0012, up to $0.0007 of")
    assert len(drawn) == 6


def test_narrow_terminals_cut_lines_and_do_not_wrap(still: LiveTree) -> None:
    for record in RECORDS:
        still.record(record)

    drawn = picture(still, width=24)

    assert len(drawn) == 6
    assert max(map(len, drawn)) <= 24


def test_a_bar_is_shown_until_all_is_read(still: LiveTree) -> None:
    still.bytes_done("reading", 500, 1000)
    half = picture(still)
    still.bytes_done("reading", 1000, 1000)

    assert half == [f"reading  {'━' * 12}{'─' * 12}  500 B of 1.0 kB"]
    assert picture(still) == []


def test_the_display_is_chosen_by_the_stream() -> None:
    assert isinstance(progress(pipe(), quiet=True), Silent)
    assert isinstance(progress(pipe(), quiet=False), Lines)
    screen = Terminal(io.StringIO(), tty=True, colour=True, redrawable=True)
    assert isinstance(progress(screen, quiet=False), LiveTree)


def lines_of(*events: ev.AnyEvent) -> list[str]:
    target = pipe()
    shown = Lines(target)
    for seq, event in enumerate(events):
        shown.record(ev.Record(seq=seq, at_s=0.0, node=ROOT, event=event))
    shown.close()
    return [line.partition("root: ")[2] for line in said(target)]


def reserved(call: int, attempt: int = 1) -> ev.CallReserved:
    return ev.CallReserved(
        call=CallId(call),
        attempt=attempt,
        model="m",
        purpose="turn",
        worst_usd_micro=0,
        worst_tokens=0,
    )


def failed(call: int, fault: ev.Fault, **more: object) -> ev.CallFailed:
    failure = ev.Failure(fault=fault, message="busy", **more)
    return ev.CallFailed(call=CallId(call), failure=failure)


def test_a_retry_is_told_with_its_pause_and_a_cancelled_call_as_such() -> None:
    assert lines_of(
        reserved(1),
        failed(1, "rate_limited", retryable=True, retry_after_s=2.0),
        reserved(1, attempt=2),
        failed(1, "cancelled"),
    ) == ["a call failed: busy", "retrying, attempt 2 in 2 s", "a call is cancelled"]


def test_a_reply_without_code_is_told_and_one_with_code_by_its_cell() -> None:
    usage = ev.Usage(prompt_tokens=1, completion_tokens=1)

    def settled(call: int, text: str) -> ev.CallSettled:
        return ev.CallSettled(call=CallId(call), text=text, finish="stop", usage=usage)

    assert lines_of(
        reserved(1),
        settled(1, "\nI would look first.\n"),
        reserved(2),
        settled(2, "```repl\n1\n```"),
        ev.CellStarted(cell=1, code="1"),
    ) == ["no code: I would look first.", "cell 1: 1"]


def asking(size: int = 1, purpose: str = "llm") -> ev.CallsRequested:
    requests = [ev.Request(prompt="p")] * size
    return ev.CallsRequested(cell=1, batch=BatchId(1), purpose=purpose, requests=requests)


def test_a_loop_of_single_calls_is_told_whenever_it_has_doubled() -> None:
    numbers = [f"cell 1 has asked for {number} sub-calls" for number in (2, 4, 8, 16, 32, 64)]
    began = ev.CellStarted(cell=1, code="1")

    assert lines_of(began, *[asking()] * 70)[1:] == ["cell 1 asks for 1 sub-call", *numbers]
    assert lines_of(began, asking(), asking(50), asking(), asking(2, "rlm"))[1:] == [
        "cell 1 asks for 1 sub-call",
        "cell 1 has asked for 51 sub-calls",
        "cell 1 asks for 2 children",
    ]


def test_a_slow_loop_has_a_line_every_half_minute() -> None:
    target = pipe()
    shown = Lines(target)
    for seq in range(8):
        shown.record(ev.Record(seq=seq, at_s=11.0 * seq, node=ROOT, event=asking()))

    assert [line.partition("asked for ")[2] for line in said(target)[1:]] == [
        *("2 sub-calls", "4 sub-calls", "7 sub-calls"),
    ]


def mapping(items: int, *, batch: int = 1, price_only: bool = False) -> ev.CallsRequested:
    task = ev.Task(instruction="kind?", price_only=price_only)
    requests = [ev.Request(prompt="p")] * items
    return ev.CallsRequested(
        cell=1, batch=BatchId(batch), purpose="map", requests=requests, task=task
    )


def sub(call: int) -> ev.CallReserved:
    return ev.CallReserved(
        call=CallId(call),
        attempt=1,
        model="m",
        purpose="sub",
        worst_usd_micro=0,
        worst_tokens=0,
        batch=BatchId(1),
        position=0,
    )


def brought(call: int) -> ev.CallSettled:
    return ev.CallSettled(call=CallId(call), text="{}", finish="stop", usage=ev.Usage())


def test_what_is_asked_for_a_price_is_not_told_as_asked_for() -> None:
    began = ev.CellStarted(cell=1, code="1")

    assert lines_of(began, mapping(200, price_only=True), mapping(100, batch=2))[1:] == [
        "cell 1 asks for 100 items to be mapped"
    ]


def test_a_long_map_has_a_line_every_half_minute() -> None:
    target = pipe()
    shown = Lines(target)
    steps: list[tuple[float, ev.AnyEvent]] = [
        (100.0, ev.CellStarted(cell=1, code="llm_map(items)")),
        (100.0, mapping(200)),
        *[(100.0, sub(call)) for call in range(1, 10)],
        *[(100.0 + 10 * call, brought(call)) for call in range(1, 8)],
        (175.0, failed(8, "server")),
        (176.0, brought(9)),
        (177.0, ev.CellFinished(cell=1, output="", ended="clean")),
    ]
    for seq, (at_s, event) in enumerate(steps):
        shown.record(ev.Record(seq=seq, at_s=at_s, node=ROOT, event=event))

    assert said(target)[2:] == [
        "[  130.0 s] root: cell 1: 200 items to map: 3 calls done, 6 under way",
        "[  160.0 s] root: cell 1: 200 items to map: 6 calls done, 3 under way",
        "[  175.0 s] root: a call failed: busy",
        "[  177.0 s] root: cell 1 ok in 1 min 17 s, 200 items to map: 8 calls done, 1 failed",
    ]


def test_calls_that_are_cancelled_together_are_told_in_one_line() -> None:
    assert lines_of(
        *map(sub, range(1, 16)),
        ev.StopRequested(),
        *[failed(call, "cancelled") for call in range(1, 8)],
        brought(8),
        *[failed(call, "cancelled") for call in range(9, 16)],
        ev.DeadlinePassed(),
    ) == [
        "finishing with what is there; Ctrl-C again stops now",
        "14 calls are cancelled",
        "closing: timeout_s is nearly over",
    ]


def test_the_deadline_is_told_once() -> None:
    said_of_it = lines_of(ev.DeadlinePassed(), ev.DeadlinePassed(final=True))
    assert said_of_it == ["closing: timeout_s is nearly over"]


RESUMED = ev.RunResumed(
    believed=4,
    limits=RECORDS[0].event.limits,
    carried=ev.Carried(),
    next_call=9,
    resumed_at="2026-11-23T00:00:00+00:00",
)


def test_a_run_that_is_gone_on_with_begins_with_the_picture_of_its_past(still: LiveTree) -> None:
    still.past([*RECORDS, ev.Record(seq=len(RECORDS), at_s=4.0, node=ROOT, event=RESUMED)])

    drawn = picture(still)

    assert drawn[0].startswith("root  turn 1 of 5  how many?")
    assert drawn[1].startswith("6 calls · 2 failed · ")
    assert len(drawn) == 2


def test_of_its_past_nothing_is_told_again() -> None:
    target = pipe()
    Lines(target).past([*RECORDS, ev.Record(seq=27, at_s=4.0, node=ROOT, event=RESUMED)])

    assert said(target) == []


def test_cells_that_are_run_again_are_counted(still: LiveTree) -> None:
    target = pipe()
    shown = Lines(target)
    for done in (1, 3, 10):
        shown.cells_done(done, 10)
    still.cells_done(5, 10)

    assert said(target) == [f"replaying: {done} of 10 cells" for done in (1, 3, 10)]
    assert picture(still) == [f"replaying  {'━' * 12}{'─' * 12}  5 of 10 cells"]


def test_what_must_not_be_missed_is_said_with_quiet_too() -> None:
    target = pipe()
    quiet = Silent(target)
    quiet.note("not this")
    quiet.warn("REPL rebuilt: \x1b[2J")

    assert said(target) == ["REPL rebuilt: \\x1b[2J"]


def test_rebuilt_repls_declined_calls_and_lost_children_are_told() -> None:
    cut = ev.ChildEnded(status="cut_off", value=None, reason="its parent's cell ended first")
    assert lines_of(
        ev.SessionRebuilt(cells=2),
        ev.BatchConfirmed(batch=BatchId(1), allowed=False),
        ev.BatchConfirmed(batch=BatchId(2), allowed=True),
        cut,
        ev.ChildEnded(status="answered", value=1),
        ev.EvidenceChecked(found=[], missing=[], wrong="n must be an integer"),
    ) == [
        "REPL rebuilt from 2 cells",
        "the calls are declined",
        "cut off: its parent's cell ended first",
        "the answer does not fit the schema: n must be an integer",
    ]
