"""The live display of a run: its tree, drawn again a few times a second.

Decides how often to draw, and what stands above and below the tree; the tree itself is
`abyme.apps.tree`. The thread that draws shares the view with the loop, under a lock.
"""

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from abyme.apps.amounts import count, size
from abyme.apps.cli.terminal import Terminal
from abyme.apps.safe_text import safe_line
from abyme.apps.tree import Line, draw
from abyme.apps.view import RunView
from abyme.core import events as ev
from abyme.core.ids import NodeId

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

DRAWS_PER_S = 8
TAIL_CHARS = 400
"""Of a reply that is being written, kept for showing."""


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


def _bar(what: str, done: int, total: int | None, amount: str) -> str:
    if not total:
        return f"{what}: {amount}"
    filled = 24 * done // total
    return f"{what}  {'━' * filled}{'─' * (24 - filled)}  {amount}"
