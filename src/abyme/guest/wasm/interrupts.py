"""Stands in for `abyme.guest.interrupts` where no signal comes from outside: nothing interrupts.

Decides that a cell runs to its end or is gone with its interpreter. A cell can still raise signals
for itself: the invariant of the module whose place it takes is kept, no handler outlives its cell.
"""

from _signal import NSIG, getsignal, signal  # type: ignore[import-not-found]  # no patch reaches it
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Interrupts:
    """Runs a cell's code."""

    fired = False

    def __init__(self) -> None:
        self._pristine: tuple[tuple[int, Any], ...] = ()

    def install(self) -> None:
        """Nothing to take back."""

    def remember(self) -> None:
        """Take the handlers that signals have now for those that they have in every cell."""
        every = ((number, getsignal(number)) for number in range(1, NSIG))
        self._pristine = tuple(pair for pair in every if pair[1] is not None)

    def run(self, work: Callable[[], None]) -> BaseException | None:
        """Run a cell's code; what it raised."""
        ended: BaseException | None = None
        try:
            work()
        except BaseException as error:
            ended = error
        for number, handler in self._pristine:
            if getsignal(number) is not handler:
                signal(number, handler)
        return ended

    def __enter__(self) -> None:
        """Put nothing off."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let nothing through."""
