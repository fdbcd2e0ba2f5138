"""SIGINT as the host's word "stop this cell", delivered at a moment that is safe.

Decides when a KeyboardInterrupt may be raised: only while a cell's own code runs,
at most once a cell, and never inside a frame on the wire (`shield`), where it
would leave half a frame behind. Raised in the main thread, as Python does.

Invariant: no timer, handler or mask that a cell has set outlives the cell: nothing of
a model's code may run, raise or kill between cells.
"""

from _signal import (  # type: ignore[import-not-found]  # no enums: they cost page faults after a fork
    ITIMER_PROF,
    ITIMER_REAL,
    ITIMER_VIRTUAL,
    SIG_BLOCK,
    SIG_IGN,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGCHLD,
    SIGINT,
    SIGUSR1,
    getsignal,
    pthread_sigmask,
    set_wakeup_fd,
    setitimer,
    signal,
    sigpending,
)
from _thread import get_ident
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

MESSAGE = "the cell was stopped"
EVERY = tuple(n for n in range(1, 65) if n not in (9, 19, 32, 33))
"""Signals that can be handled; glibc keeps 32 and 33 to itself."""
STOOD_ON = (SIGCHLD, SIGUSR1)
"""Signals by which a REPL is rolled back: taken back whatever `getsignal` says of them."""
TIMERS = (ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF)


class Interrupts:
    """Owns the handler of SIGINT."""

    def __init__(self) -> None:
        self.fired = False
        """The running cell, or the last one, was interrupted."""
        self._running = False
        self._shields = 0
        self._pending = False
        self._main = get_ident()
        self._handler = self._on_signal  # one bound method, to be compared by identity
        self._pristine: tuple[tuple[int, Any], ...] = ()

    def install(self) -> None:
        """Take SIGINT back from whatever a cell did to it."""
        signal(SIGINT, self._handler)  # native code can set another one that `getsignal` cannot see
        pthread_sigmask(SIG_UNBLOCK, (SIGINT,))

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
            ended: BaseException | None = error
        else:
            ended = None
        self._disarm()
        return ended

    def remember(self) -> None:
        """Take the handlers that signals have now for those that they have in every cell."""
        self._pristine = tuple((n, getsignal(n)) for n in EVERY if n != SIGINT)

    def _disarm(self) -> None:
        """Take timers, handlers and the mask back. Nothing is asked of a signal that comes now.

        A handler of the cell's may be due at every step, and may raise: then the step has
        been taken all the same, and no new signal comes after the first one.
        """
        try:  # noqa: SIM105 - `suppress` is Python code, in which a handler may raise as well
            pthread_sigmask(SIG_BLOCK, EVERY)
        except BaseException:  # noqa: S110 - see above
            pass
        try:
            self._stop_timers()
        except BaseException:
            self._stop_timers()
        pending = sigpending()
        for number, handler in self._pristine:
            if number in pending:
                signal(number, SIG_IGN)  # drops what was sent already
            if handler is not None and (number in STOOD_ON or getsignal(number) is not handler):
                signal(number, handler)
        set_wakeup_fd(-1)
        pthread_sigmask(SIG_SETMASK, ())

    @staticmethod
    def _stop_timers() -> None:
        for timer in TIMERS:
            setitimer(timer, 0)

    def __enter__(self) -> None:
        """Put interrupts off. Other threads are never interrupted and do not count."""
        if get_ident() == self._main:
            self._shields += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let interrupts through again, one that came meanwhile at once."""
        if get_ident() != self._main:
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
