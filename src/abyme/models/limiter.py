"""`Limited`: finds out how many calls at once a provider bears, and sends no more.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), with the memory of
CUBIC (RFC 9438): the window of calls in flight grows by one a round up to where it
was last refused, then probes further, slowly at first. "Rate limited" narrows it to a
tenth below the number of calls that the provider did take together, and a
``Retry-After`` stops every send until it is over. Starts wide, because most endpoints
bear it, a narrow start costs every run, and one round of refusals (which cost
nothing) is enough to find a limit on calls at once.

Only delays sends; whether a failed call is made again is the core's decision.
Invariant: calls in flight never exceed `Window.width`, and a call that is
cancelled while it waits leaves no trace.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable
from typing import Final

from abyme.errors import ModelError
from abyme.ports import Clock, Model, ModelReply, ModelRequest

START: Final = 1024
MOST: Final = 1024
BACK_OFF: Final = 0.9
PROBE: Final = 0.1
"""Growth a round just beyond the last refusal; it accelerates with the distance."""
NO_WISH_PAUSE_S: Final = 0.5
"""Pause after a "rate limited" that names no time."""
MOST_PAUSE_S: Final = 60.0


class Window:
    """How many calls may be in flight now, and from when on. Pure: told the time."""

    def __init__(self, start: int = START, most: int = MOST) -> None:
        self._width = float(min(start, most))
        self._most = most
        self._ceiling = float("inf")
        self._resume_s = 0.0
        self._cut_s = float("-inf")
        self._served = 0

    @property
    def width(self) -> int:
        """Calls that may be in flight."""
        return max(1, int(self._width))

    def pause_s(self, now_s: float) -> float:
        """Seconds until anything may be sent."""
        return max(0.0, self._resume_s - now_s)

    def succeeded(self, in_flight: int) -> None:
        """Widen: doubling a round until the first refusal, then by one, then by probing.

        A window that is not full tells nothing, so it does not grow.
        """
        self._served += 1
        if in_flight * 2 < self.width:
            return
        if self._ceiling == float("inf"):
            step = 1.0
        elif self._width < self._ceiling:
            step = 1.0 / self._width
        else:
            step = PROBE * (1.0 + self._width - self._ceiling) / self._width
        self._width = min(self._most, self._width + step)

    def refused(
        self, sent_s: float, now_s: float, retry_after_s: float | None, in_flight: int
    ) -> None:
        """Narrow, once for all calls that were in flight together, and pause.

        `in_flight` are the other calls, those that the provider has not refused so far.
        """
        wish_s = NO_WISH_PAUSE_S if retry_after_s is None else min(retry_after_s, MOST_PAUSE_S)
        self._resume_s = max(self._resume_s, now_s + wish_s)
        if sent_s >= self._cut_s:  # else sent before the last cut: the same overload
            self._cut_s = now_s
            self._served = 0
            self._ceiling = self._width
        self._ceiling = max(1.0, min(self._ceiling, in_flight + self._served))
        self._width = max(1.0, min(self._width, self._ceiling * BACK_OFF))


class Limited:
    """A `Model` behind an adaptive limit on concurrency. Implements `abyme.ports.Model`."""

    def __init__(self, model: Model, clock: Clock, *, start: int = START, most: int = MOST) -> None:
        self.model = model
        self.window = Window(start, most)
        self._clock = clock
        self._in_flight = 0
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()
        self._pause: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """Calls that were sent and have no reply yet."""
        return self._in_flight

    async def complete(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """Send it when there is room; see `abyme.ports.Model`."""
        try:
            await self._enter()
        except asyncio.CancelledError:
            # Told as a failure, so that the ledger learns that nothing was sent.
            raise ModelError(
                "cancelled before it was sent", failure="cancelled", retryable=False, sent=False
            ) from None
        sent_s = self._clock.now_s()
        try:
            reply = await self.model.complete(request, on_text)
        except ModelError as error:
            if error.failure == "rate_limited":
                self.window.refused(
                    sent_s, self._clock.now_s(), error.retry_after_s, self._in_flight - 1
                )
            raise
        else:
            self.window.succeeded(self._in_flight)
            return reply
        finally:
            self._in_flight -= 1
            self._wake()

    async def aclose(self) -> None:
        """Close the model. Safe to repeat."""
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.cancel()
        await self.model.aclose()

    async def _enter(self) -> None:
        if not self._waiting and self._free():
            self._in_flight += 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # a place was given and is not used
                self._in_flight -= 1
                self._wake()
            raise

    def _free(self) -> bool:
        now_s = self._clock.now_s()
        return self._in_flight < self.window.width and self.window.pause_s(now_s) <= 0

    def _wake(self) -> None:
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            pause_s = self.window.pause_s(self._clock.now_s())
            if pause_s > 0:
                self._sleep(pause_s)
                return
            if self._in_flight >= self.window.width:
                return
            self._in_flight += 1
            self._waiting.popleft().set_result(None)

    def _sleep(self, pause_s: float) -> None:
        if self._pause is None or self._pause.done():
            self._pause = asyncio.get_running_loop().create_task(self._resume(pause_s))

    async def _resume(self, pause_s: float) -> None:
        await self._clock.sleep(pause_s)
        self._pause = None
        self._wake()
