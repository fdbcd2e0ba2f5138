"""Stands in for `abyme.guest.interrupts` where no signal can come: a cell is ended from outside.

Decides that a cell runs to its end or is gone with its interpreter. The names are those of the
module whose place it takes, as far as a REPL without snapshots uses them.
"""

from collections.abc import Callable
from types import TracebackType


class Interrupts:
    """Runs a cell's code; nothing interrupts it."""

    fired = False

    def install(self) -> None:
        """Nothing to take back."""

    def remember(self) -> None:
        """Nothing to remember."""

    def run(self, work: Callable[[], None]) -> BaseException | None:
        """Run a cell's code; what it raised."""
        try:
            work()
        except BaseException as error:
            return error
        return None

    def __enter__(self) -> None:
        """Put nothing off."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let nothing through."""
