"""What a waiting user sees: a live tree, plain lines, or nothing.

Everything about the run itself comes from journal records, folded by `view`; only the
text that a root model is just writing comes from the stream, and is shown in the live
tree alone. Decides how often to draw, not what a run looks like (`tree`).
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from abyme.apps.amounts import count, duration, size
from abyme.apps.cli.terminal import Terminal
from abyme.apps.safe_text import safe_line
from abyme.apps.tree import Line, describe_calls, draw, how_it_ended, stopping
from abyme.apps.view import RunView, first_line
from abyme.core import events as ev
from abyme.core import retry
from abyme.core.ids import ROOT, CallId, NodeId

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

DRAWS_PER_S = 8
TAIL_CHARS = 400
"""Of a reply that is being written, kept for showing."""


class Progress(Protocol):
    """Told what happens; all of it may be left unsaid."""

    @property
    def view(self) -> RunView:
        """What the run has come to."""
        ...

    def note(self, text: str) -> None:
        """Say one thing that is not part of the run."""
        ...

    def warn(self, text: str) -> None:
        """Say one thing that must not be missed, with ``--quiet`` either."""
        ...

    def bytes_done(self, what: str, done: int, total: int | None) -> None:
        """Tell how far a long preparation is."""
        ...

    def cells_done(self, done: int, total: int) -> None:
        """Tell how many cells of a run have been run again."""
        ...

    def past(self, records: Sequence[ev.Record]) -> None:
        """Take in what a run had done, to the record of its going on; none of it is news."""
        ...

    def record(self, record: ev.Record) -> None:
        """Take a record of the run."""
        ...

    def text(self, node: NodeId, piece: str) -> None:
        """Take a piece of a reply that is being written."""
        ...

    def pause(self) -> None:
        """Leave the terminal to somebody else, until `go_on`."""
        ...

    def go_on(self) -> None:
        """Have the terminal again."""
        ...

    def close(self) -> None:
        """End the display; the last picture stays."""
        ...


class Silent:
    """For ``--quiet``."""

    def __init__(self, terminal: Terminal) -> None:
        self.view = RunView()
        self._terminal = terminal

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Print it all the same."""
        self._terminal.say(text)

    def bytes_done(self, what: str, done: int, total: int | None) -> None:
        """Say nothing."""

    def cells_done(self, done: int, total: int) -> None:
        """Say nothing."""

    def past(self, records: Sequence[ev.Record]) -> None:
        """Only take it in."""
        self.view.take(records)

    def record(self, record: ev.Record) -> None:
        """Only take it in."""
        self.view.add(record)

    def text(self, node: NodeId, piece: str) -> None:
        """Say nothing."""

    def pause(self) -> None:
        """Nothing is written anyway."""

    def go_on(self) -> None:
        """Nothing is written anyway."""

    def close(self) -> None:
        """Nothing to end."""


class Lines:
    """One plain line for each thing worth knowing; for logs and simple terminals."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.view = RunView()
        self._tenth = -1
        self._held: list[str] | None = None
        """What is to be said once the terminal is free again; None: it is."""
        self._failed: dict[CallId, ev.Failure] = {}
        self._said: dict[NodeId, str] = {}
        """Last replies of which no cell has come yet."""

    def note(self, text: str) -> None:
        """Print it."""
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
        words = self._words(record.node, record.event)
        if words:
            name = "root" if record.node == ROOT else record.node
            line = f"[{record.at_s:7.1f} s] {name}: {words}"
            self.note(safe_line(line, self._terminal.width))

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
        self.go_on()

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
                return f"cell {event.cell}: {first_line(event.code)}"
            case ev.CellFinished():
                cell = self.view.nodes[node].cells[-1]
                took = duration((cell.ended_s or 0.0) - cell.started_s)
                calls = describe_calls(cell)
                return f"cell {event.cell} {how_it_ended(cell)[0]} in {took}" + (
                    f", {calls}" if calls else ""
                )
            case ev.CallsRequested():
                kind = ("child", "children") if event.purpose == "rlm" else ("sub-call", None)
                return f"cell {event.cell} asks for {count(len(event.requests), *kind)}"

    def _of_call(self, node: NodeId, event: ev.AnyEvent) -> str:
        match event:
            case ev.CallFailed() if event.failure.fault == "cancelled":
                return "a call is cancelled"
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
            case _:
                return ""

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


class LiveTree:
    """The tree, drawn again a few times a second by a thread of its own."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.view = RunView()
        self._paused = False
        self._lock = threading.Lock()
        self._heard_s = 0.0
        self._writing: tuple[NodeId, str] | None = None
        self._bar = ""
        self._live: Live | None = None

    def note(self, text: str) -> None:
        """Print it above the tree."""
        if self._live is None:
            self._terminal.say(text)
        else:
            from rich.text import Text  # noqa: PLC0415

            self._live.console.print(Text(safe_line(text)))

    def warn(self, text: str) -> None:
        """Print it above the tree."""
        self.note(text)

    def bytes_done(self, what: str, done: int, total: int | None) -> None:
        """Draw a bar, and take it away when all is done."""
        amount = f"{size(done)} of {size(total)}" if total else size(done)
        self._draw_bar(_bar(what, done, total, amount), over=total is not None and done >= total)

    def cells_done(self, done: int, total: int) -> None:
        """Draw a bar, and take it away when all is done."""
        amount = f"{done:,} of {count(total, 'cell')}"
        self._draw_bar(_bar("replaying", done, total, amount), over=done >= total)

    def past(self, records: Sequence[ev.Record]) -> None:
        """Begin with the picture of it."""
        with self._lock:
            self.view.take(records)
            self._heard_s = time.monotonic()
        self._start()

    def record(self, record: ev.Record) -> None:
        """Take it into the picture."""
        with self._lock:
            self.view.add(record)
            self._heard_s = time.monotonic()
            self._bar = ""
            if isinstance(record.event, ev.CallSettled | ev.CallFailed):
                self._writing = None
        self._start()

    def text(self, node: NodeId, piece: str) -> None:
        """Show the end of what is being written."""
        with self._lock:
            before = self._writing[1] if self._writing and self._writing[0] == node else ""
            self._writing = (node, (before + piece)[-TAIL_CHARS:])

    def pause(self) -> None:
        """Take the picture away."""
        self._paused = True
        if self._live is not None:
            self._live.transient = True
            self._live.stop()
            self._live = None

    def go_on(self) -> None:
        """Draw again."""
        self._paused = False
        self._start()

    def close(self) -> None:
        """Draw once more and leave the picture where it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw_bar(self, bar: str, *, over: bool) -> None:
        with self._lock:
            self._bar = "" if over else bar
        if not over:
            self._start()

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        """Draw, as rich asks for it."""
        from rich.text import Text  # noqa: PLC0415

        with self._lock:
            lines = self._lines(options.max_width, self._terminal.height - 1)
        for line in lines:
            text = Text(no_wrap=True, overflow="ellipsis")
            for piece, style in line:
                text.append(piece, _RICH.get(style, ""))
            yield text

    def _lines(self, width: int, height: int) -> list[Line]:
        if self._bar:
            return [[(self._bar, "")]]
        if self.view.started is None:
            return []
        waited_s = time.monotonic() - self._heard_s if self.view.finished is None else 0.0
        now_s = self.view.at_s + waited_s
        lines = draw(self.view, width=width, height=height - 1, now_s=now_s)
        if self._writing is not None and self.view.finished is None:
            tail = safe_line(self._writing[1].rstrip().rpartition("\n")[2], width - 2)
            lines.insert(-1, [("  " + tail, "dim")])
        return lines

    def _start(self) -> None:
        if self._live is not None or self._paused:
            return
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        console = Console(
            file=self._terminal.stream,
            force_terminal=True,
            no_color=not self._terminal.colour,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live = Live(
            self,
            console=console,
            refresh_per_second=DRAWS_PER_S,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()


_RICH = {
    "dim": "dim",
    "bold": "bold",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "accent": "cyan",
}


def progress(terminal: Terminal, *, quiet: bool) -> Progress:
    """Choose a display for a stream."""
    if quiet:
        return Silent(terminal)
    return LiveTree(terminal) if terminal.redrawable else Lines(terminal)


def reporter(shown: Progress, what: str) -> Callable[[int, int | None], None]:
    """Turn a display into a callback of (bytes done, bytes in all)."""
    return lambda done, total: shown.bytes_done(what, done, total)


def _bar(what: str, done: int, total: int | None, amount: str) -> str:
    if not total:
        return f"{what}: {amount}"
    filled = 24 * done // total
    return f"{what}  {'━' * filled}{'─' * (24 - filled)}  {amount}"


def _child_ended(event: ev.ChildEnded) -> str:
    words = event.status.replace("_", " ")
    return f"{words}: {event.reason}" if event.reason else words
