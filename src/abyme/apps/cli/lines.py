"""The plain display of a run: one line for each thing worth knowing.

For logs and simple terminals. Decides what is worth a line, and its words; what is said
while somebody else has the terminal is kept and said afterwards.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from abyme.apps.amounts import count, duration, size
from abyme.apps.cli.terminal import Terminal
from abyme.apps.safe_text import safe_line
from abyme.apps.tree import describe_calls, describe_violations, how_it_ended, named, stopping
from abyme.apps.view import RunView, first_line
from abyme.core import events as ev
from abyme.core import retry
from abyme.core.ids import CallId, NodeId

OFTEN_S = 30.0
"""At least so often a cell that goes on asking has a line."""


ASKED: Final = {
    "llm": ("sub-call", "sub-calls"),
    "rlm": ("child", "children"),
    "map": ("item to be mapped", "items to be mapped"),
    "reduce": ("text to be reduced", "texts to be reduced"),
}


class Asked:
    """What a cell has asked for: told at once, then whenever it has doubled, or is due.

    A loop that asks for one sub-call at a time would fill a log. What is asked for a price only
    is not asked for.
    """

    def __init__(self, at_s: float) -> None:
        self._all: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._told_s = at_s

    def take(self, event: ev.CallsRequested, at_s: float) -> str:
        """Take a batch in; the words, if it is time for some."""
        if event.task is not None and event.task.price_only:
            return ""
        kind = event.purpose
        self._all[kind] += len(event.requests) + event.unread
        now, told = self._all[kind], self._told[kind]
        if told and now < 2 * told and at_s < self._told_s + OFTEN_S:
            return ""
        self._told[kind], self._told_s = now, at_s
        verb = "has asked" if told else "asks"
        return f"cell {event.cell} {verb} for {count(now, *ASKED[kind])}"

    def is_due(self, at_s: float) -> bool:
        """Tell whether nothing has been told for long; it is taken to be told now."""
        if at_s < self._told_s + OFTEN_S:
            return False
        self._told_s = at_s
        return True


class Lines:
    """One plain line for each thing worth knowing; for logs and simple terminals."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.view = RunView()
        self._tenth = -1
        self._held: list[str] | None = None
        """What is to be said once the terminal is free again; None: it is."""
        self._failed: dict[CallId, ev.Failure] = {}
        self._asked: dict[NodeId, Asked] = {}
        """What running cells have asked for."""
        self._said: dict[NodeId, str] = {}
        """Last replies of which no cell has come yet."""
        self._cancelled: Counter[NodeId] = Counter()
        """Calls of which it is to be said that they are: a stop cancels many at once."""
        self._cancelled_s = 0.0

    def note(self, text: str) -> None:
        """Print it."""
        self._say_cancelled()
        if self._held is None:
            self._terminal.say(text)
        else:
            self._held.append(text)

    def warn(self, text: str) -> None:
        """Print it."""
        self.note(text)

    def bytes_done(self, what: str, done: int, total: int | None) -> None:
        """Print each tenth."""
        if self._is_next_tenth(done, total):
            self.note(f"{what}: {size(done)} of {size(total or 0)}")

    def cells_done(self, done: int, total: int) -> None:
        """Print each tenth."""
        if self._is_next_tenth(done, total):
            self.note(f"replaying: {done:,} of {count(total, 'cell')}")

    def past(self, records: Sequence[ev.Record]) -> None:
        """Print nothing: it was printed when it happened."""
        self.view.take(records)

    def record(self, record: ev.Record) -> None:
        """Print what a reader of a log wants of it."""
        self.view.add(record)
        event = record.event
        if isinstance(event, ev.CallFailed) and event.failure.fault == "cancelled":
            self._cancelled[record.node] += 1
            self._cancelled_s = record.at_s
            return
        words = self._words(record.node, event)
        if words:
            self._say(record.at_s, record.node, words)

    def text(self, node: NodeId, piece: str) -> None:
        """Print nothing: the cell will be printed when it runs."""

    def pause(self) -> None:
        """Keep what is to be said."""
        self._held = []

    def go_on(self) -> None:
        """Say it."""
        held, self._held = self._held or [], None
        for text in held:
            self.note(text)

    def close(self) -> None:
        """Say what was kept."""
        self._say_cancelled()
        self.go_on()

    def _say(self, at_s: float, node: NodeId, words: str) -> None:
        self.note(safe_line(f"[{at_s:7.1f} s] {named(node)}: {words}", self._terminal.width))

    def _say_cancelled(self) -> None:
        cancelled, self._cancelled = self._cancelled, Counter()
        for node, calls in cancelled.items():
            words = "a call is cancelled" if calls == 1 else f"{calls:,} calls are cancelled"
            self._say(self._cancelled_s, node, words)

    def _is_next_tenth(self, done: int, total: int | None) -> bool:
        tenth = 10 * done // total if total else -1
        news = self._tenth < tenth and not (self._tenth < 0 and done == total)
        self._tenth = tenth if tenth < 10 else -1
        return news

    def _pause(self, event: ev.CallReserved) -> str:
        failure = self._failed.pop(event.call, None)
        pause_s = None if failure is None else retry.delay_s(failure, event.attempt - 1)
        return f" in {pause_s:g} s" if pause_s else ""

    def _prose(self, node: NodeId) -> str:
        said = first_line(self._said.pop(node, ""))
        return f"no code: {said}" if said else ""

    def _words(self, node: NodeId, event: ev.AnyEvent) -> str:
        match event:
            case ev.CallReserved() | ev.CallSettled() | ev.CallFailed() | ev.RunFinished():
                return self._of_call(node, event)
            case ev.CellStarted() | ev.CellFinished() | ev.CallsRequested():
                return self._of_cell(node, event)
            case _:
                return self._of_run(event)

    def _of_cell(
        self, node: NodeId, event: ev.CellStarted | ev.CellFinished | ev.CallsRequested
    ) -> str:
        match event:
            case ev.CellStarted():
                self._said.pop(node, None)
                self._asked[node] = Asked(self.view.at_s)
                return f"cell {event.cell}: {first_line(event.code)}"
            case ev.CellFinished():
                cell = self.view.nodes[node].cells[-1]
                took = duration((cell.ended_s or 0.0) - cell.started_s)
                more = (part for part in (describe_calls(cell), describe_violations(cell)) if part)
                return ", ".join((f"cell {event.cell} {how_it_ended(cell)[0]} in {took}", *more))
            case ev.CallsRequested():
                at_s = self.view.at_s
                return self._asked.setdefault(node, Asked(at_s)).take(event, at_s)

    def _of_call(self, node: NodeId, event: ev.AnyEvent) -> str:
        match event:
            case ev.CallFailed():
                self._failed[event.call] = event.failure
                return f"a call failed: {event.failure.message}"
            case ev.CallReserved() if event.attempt > 1:
                return f"retrying, attempt {event.attempt}{self._pause(event)}"
            case ev.CallReserved(purpose="turn") | ev.RunFinished():
                return self._prose(node)
            case ev.CallSettled() if self.view.is_turn(event.call):
                self._said[node] = event.text
                return ""
            case ev.CallSettled():
                return self._so_far(node)
            case _:
                return ""

    def _so_far(self, node: NodeId) -> str:
        """Tell of a cell that waits for many calls, now and then."""
        asked, cells = self._asked.get(node), self.view.nodes[node].cells
        if asked is None or not cells or cells[-1].finished or not asked.is_due(self.view.at_s):
            return ""
        return f"cell {cells[-1].number}: {describe_calls(cells[-1])}"

    def _of_run(self, event: ev.AnyEvent) -> str:  # noqa: PLR0911 - one a case
        match event:
            case ev.SessionLost():
                return f"REPL lost: {event.why}"
            case ev.SessionRebuilt():
                return f"REPL rebuilt from {count(event.cells, 'cell')}"
            case ev.BatchConfirmed():
                return "" if event.allowed else "the calls are declined"
            case ev.ChildEnded():
                return "" if event.status == "answered" else _child_ended(event)
            case ev.EvidenceChecked() if event.wrong is not None:
                return f"the answer does not fit the schema: {event.wrong}"
            case ev.DeadlinePassed():
                return "" if event.final else "closing: timeout_s is nearly over"
            case ev.StopRequested():
                return stopping(self.view)
            case _:
                return ""


def _child_ended(event: ev.ChildEnded) -> str:
    words = event.status.replace("_", " ")
    return f"{words}: {event.reason}" if event.reason else words
