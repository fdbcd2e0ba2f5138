"""`Window`: whether one more call may be sent now. Pure: told the time, waits for nothing.

Keeps the calls in flight and asks two judges: `refusals` (what the provider said no to) and
`queueing` (what it took and left waiting). Invariant: calls in flight never exceed `width`.
"""

from __future__ import annotations

import math
from typing import Final

from abyme.models.queueing import Queueing
from abyme.models.refusals import START, Refusals

MOST: Final = 1024


class Window:
    """How many calls may be in flight, and from when on."""

    def __init__(self, start: int = START, most: int = MOST) -> None:
        self._most = most
        self._refusals = Refusals(min(start, most))
        self._queueing = Queueing(most)
        self._flying: dict[int, tuple[float, int]] = {}
        """Ticket -> when it was sent, and how many were in flight then, itself included."""
        self._tickets = 0
        self._latency_s = 0.0

    @property
    def in_flight(self) -> int:
        """Calls that were sent and have no end yet."""
        return len(self._flying)

    @property
    def width(self) -> int:
        """Calls that may be in flight."""
        return max(1, int(min(self._refusals.width, self._queueing.width, self._most)))

    @property
    def rate(self) -> float:
        """Calls a second that may be sent; infinite if only `width` counts."""
        return self._refusals.rate

    def wait_s(self, now_s: float, waiting: int) -> float:
        """Seconds until it is worth asking again; 0: send one. Infinite: after the next reply.

        `waiting`: calls that would be sent if they could.
        """
        if self.in_flight >= min(self._most, self._queueing.width):
            return math.inf
        return self._refusals.wait_s(now_s, self.in_flight, waiting, self._latency_s)

    def sent(self, now_s: float) -> int:
        """Take one in; return its ticket."""
        self._tickets += 1
        self._flying[self._tickets] = (now_s, self.in_flight + 1)
        self._refusals.sent(self._tickets, now_s)
        return self._tickets

    def succeeded(self, ticket: int, now_s: float, waiting: int) -> None:
        """Learn from a reply."""
        sent_s, beside = self._flying.pop(ticket)
        latency_s = now_s - sent_s
        weight = 0.05 if self._latency_s else 1.0
        self._latency_s += weight * (latency_s - self._latency_s)
        self._refusals.succeeded()
        self._queueing.served(beside, latency_s, now_s, self.in_flight, waiting)

    def refused(self, ticket: int, now_s: float, retry_after_s: float | None) -> None:
        """Learn from a "rate limited"."""
        position = 0
        for other in self._flying:  # in the order in which they were sent
            if other == ticket:
                break
            position += 1
        sent_s, _ = self._flying.pop(ticket)
        self._refusals.refused(ticket, sent_s, now_s, retry_after_s, position)

    def failed(self, ticket: int) -> None:
        """Let go of one that ended in a way that says nothing of how much the provider takes."""
        self._flying.pop(ticket)

    def timed_out(self, ticket: int, now_s: float) -> None:
        """Learn that no reply came: perhaps more were sent than are served in that time."""
        sent_s, _ = self._flying.pop(ticket)
        self._queueing.timed_out(now_s - sent_s, now_s, self.in_flight)
