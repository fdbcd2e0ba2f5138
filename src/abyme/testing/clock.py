"""`FakeClock`: time that a test owns. Implements `abyme.ports.Clock`."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class FakeClock:
    """Stands still until `advance`.

    Sleepers wake in the order of their times, those of equal time in the order in
    which they went to sleep; each finds the clock at its own time or later.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self.slept_s: list[float] = []
        """Every wait that was asked for, in order."""

    def now_s(self) -> float:
        """Return the time as it was set."""
        return self._now_s

    @property
    def sleepers(self) -> int:
        """How many are waiting now."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been advanced so far."""
        self.slept_s.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + seconds, next(self._order), future))
        await future

    def advance(self, seconds: float) -> None:
        """Move the clock; whoever is due runs when the event loop turns next."""
        if seconds < 0:
            msg = "a clock never goes back"
            raise ValueError(msg)
        target_s = self._now_s + seconds
        while self._sleepers and self._sleepers[0][0] <= target_s:
            due_s, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self._now_s = due_s
                future.set_result(None)
        self._now_s = target_s

    async def run(self, seconds: float) -> None:
        """Move the clock from sleeper to sleeper, letting each run at its own time."""
        target_s = self._now_s + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target_s:
            self.advance(max(0.0, self._sleepers[0][0] - self._now_s))
            await settle()
        self.advance(target_s - self._now_s)
        await settle()


async def settle(turns: int = 20) -> None:
    """Let the event loop turn, so that what can run without time passing has run."""
    for _ in range(turns):
        await asyncio.sleep(0)
