"""SIGINT as the host's word "stop this cell", delivered at a moment that is safe.

Decides when a KeyboardInterrupt may be raised: only while a cell's own code runs,
at most once a cell, and never inside a frame on the wire (`shield`), where it
would leave half a frame behind. Raised in the main thread, as Python does.
"""

import _signal  # type: ignore[import-not-found]  # no enums: they cost page faults after a fork
import _thread
from collections.abc import Callable
from types import FrameType, TracebackType

MESSAGE = "the cell was stopped"


class Interrupts:
    """Owns the handler of SIGINT."""

    def __init__(self) -> None:
        self.fired = False
        """The running cell, or the last one, was interrupted."""
        self._running = False
        self._shields = 0
        self._pending = False
        self._main = _thread.get_ident()
        self._handler = self._on_signal  # one bound method, to be compared by identity

    def install(self) -> None:
        """Take SIGINT back from whatever a cell did to it."""
        if _signal.getsignal(_signal.SIGINT) is not self._handler:
            _signal.signal(_signal.SIGINT, self._handler)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))

    def run(self, work: Callable[[], None]) -> BaseException | None:
        """Run a cell's code; what it raised."""
        self.fired = self._pending = False
        self._shields = 0
        try:
            try:
                self._running = True
                work()
            finally:
                self._running = False
        except BaseException as error:
            # An interrupt can hit right before the line above took effect; it is the only one.
            self._running = False
            return error
        return None

    def __enter__(self) -> None:
        """Put interrupts off. Other threads are never interrupted and do not count."""
        if _thread.get_ident() == self._main:
            self._shields += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let interrupts through again, one that came meanwhile at once."""
        if _thread.get_ident() != self._main:
            return
        self._shields -= 1
        if self._shields == 0 and self._pending:
            self._pending = False
            self._fire()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._shields:
            self._pending = True
        else:
            self._fire()

    def _fire(self) -> None:
        if self._running and not self.fired:
            self.fired = True
            raise KeyboardInterrupt(MESSAGE)
