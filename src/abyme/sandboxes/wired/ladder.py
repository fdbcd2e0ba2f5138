"""Stopping a cell: interrupt it, then roll it back, then end its session.

Decides when each step is due, and whether a cell that has felt the interrupt keeps its state: not
if a limit of its own stopped it, because no second run would be cut off at the same place;
yes if its run is ending, and only what it holds is still asked for. Pure: it is told the time
and says which step to take; the session takes it. A cell is charged for its compute, which is
the wall time less the time in which it waits for sub-calls, or the processor time if that is
more: a cell that computes in a thread while a call is open is not free. Nor is one that has forked:
processor time of processes that nobody waits for is not told of (wait(2), SIGCHLD).
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Step: TypeAlias = Literal["interrupt", "keep", "roll_back", "kill"]

INTERRUPT_GRACE_S = 0.5
"""For an interrupt to be felt: C code that ignores it, or a cell that catches it, is rolled
back after this."""
HOG_GRACE_S = 0.1
"""The same where memory runs away: every moment costs the host more of it."""
ROLL_BACK_GRACE_S = 0.4
"""For a snapshot to begin its work; if none does, there is nothing to go back to."""
TEAR_DOWN_S = 2.0
"""For the kernel to tear large processes down, once it has begun."""
LOOK_S = 0.1
"""Between two looks whether it is through."""
RUN_ENDS = ("stopped", "timeout_s")
"""Reasons after which the node has at most its closing turn."""


@dataclass(slots=True)
class Ladder:
    """One cell's way down."""

    started_s: float
    limit_s: float
    can_roll_back: bool
    limit: str | None = None
    """What ended the cell by force, once something did."""
    reached: str | None = None
    """How far the cell went beyond `limit`, where it is not its compute that passed one."""
    step: Step | None = None
    """The last step taken."""
    _open_calls: int = 0
    _waiting_since_s: float = 0.0
    _waited_s: float = 0.0
    _next_at_s: float | None = field(default=None)
    _step_at_s: float = 0.0

    def calls_opened(self, now_s: float) -> None:
        """Note that the cell waits for one more batch."""
        if self._open_calls == 0:
            self._waiting_since_s = now_s
        self._open_calls += 1

    def calls_closed(self, now_s: float) -> None:
        """Note that a batch was answered."""
        self._open_calls -= 1
        if self._open_calls == 0:
            self._waited_s += now_s - self._waiting_since_s

    def looked(self, now_s: float, *, forked: bool) -> None:
        """Note whether the cell has forked: then no time since the last look is free."""
        if self._open_calls:
            if not forked:
                self._waited_s += now_s - self._waiting_since_s
            self._waiting_since_s = now_s

    def compute_s(self, now_s: float, cpu_s: float = 0.0) -> float:
        """Tell what the cell is charged with so far."""
        waited_s = self._waited_s
        if self._open_calls:
            waited_s += now_s - self._waiting_since_s
        return max(now_s - self.started_s - waited_s, cpu_s, 0.0)

    def due(self, now_s: float, cpu_s: float = 0.0, *, ending: bool = False) -> Step | None:
        """Tell the step to take now, or None. `ending`: processes are on their way out."""
        if self._next_at_s is None:
            if self.compute_s(now_s, cpu_s) < self.limit_s:
                return None
            return self.stop("cell_timeout_s", now_s)
        if now_s < self._next_at_s:
            return None
        if self.step == "roll_back" and ending and now_s < self._step_at_s + TEAR_DOWN_S:
            self._next_at_s = now_s + LOOK_S
            return None
        return self._down(now_s)

    def stop(self, why: str, now_s: float, reached: str | None = None) -> Step | None:
        """Begin the way down for a reason of the host's; None if it has begun already."""
        if self._next_at_s is not None:
            return None
        self.limit, self.reached = why, reached
        return self._down(now_s)

    def felt(self, now_s: float) -> Step | None:
        """Tell what becomes of a cell that has ended on an interrupt and waits to be told so."""
        self.can_roll_back = True
        if self.step == "roll_back":
            return None
        keep = self.limit in (None, *RUN_ENDS)
        self.step, grace_s = "interrupt", INTERRUPT_GRACE_S
        if not keep:
            return self._down(now_s)
        self._next_at_s = now_s + grace_s
        return "keep"

    def wait_s(self, now_s: float, cpu_s: float = 0.0) -> float:
        """After how long to ask again."""
        if self._next_at_s is not None:
            return max(0.0, self._next_at_s - now_s)
        return max(0.01, self.limit_s - self.compute_s(now_s, cpu_s))

    def _down(self, now_s: float) -> Step:
        if self.step is None:
            self.step, grace_s = "interrupt", INTERRUPT_GRACE_S
            if self.limit == "memory_bytes":
                grace_s = HOG_GRACE_S
        elif self.step == "interrupt" and self.can_roll_back:
            self.step, grace_s = "roll_back", ROLL_BACK_GRACE_S
        else:
            self.step, grace_s = "kill", ROLL_BACK_GRACE_S
        self._step_at_s = now_s
        self._next_at_s = now_s + grace_s
        return self.step
