"""What a waiting user sees: a live tree, plain lines, or nothing.

Everything about the run itself comes from journal records, folded by `view`; only the
text that a root model is just writing comes from the stream, and is shown in the live
tree alone. Decides which display a stream gets, not what a run looks like (`tree`).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from abyme.apps.cli.terminal import Terminal
from abyme.apps.view import RunView
from abyme.core import events as ev
from abyme.core.ids import NodeId


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


def progress(terminal: Terminal, *, quiet: bool) -> Progress:
    """Choose a display for a stream."""
    from abyme.apps.cli.lines import Lines  # noqa: PLC0415
    from abyme.apps.cli.live import LiveTree  # noqa: PLC0415

    if quiet:
        return Silent(terminal)
    return LiveTree(terminal) if terminal.redrawable else Lines(terminal)


def reporter(shown: Progress, what: str) -> Callable[[int, int | None], None]:
    """Turn a display into a callback of (bytes done, bytes in all)."""
    return lambda done, total: shown.bytes_done(what, done, total)
