"""`Limited`: finds out how many calls a provider bears, and sends no more.

Waits where `Window` says so: on a reply, on the clock, or on neither. Only delays sends, in
the order in which they were asked for; whether a failed call is made again is the core's
decision. Starts wide, because most endpoints bear it and a narrow start costs every run.
Invariant: calls in flight never exceed `Window.width`, and a call that is cancelled while
it waits leaves no trace.
"""

from __future__ import annotations

import asyncio
import collections
import math
from collections.abc import Callable
from typing import Final

from abyme.errors import ModelError
from abyme.models.refusals import START
from abyme.models.window import MOST, Window
from abyme.ports import Clock, Model, ModelReply, ModelRequest

AT_A_TIME: Final = 64
"""Calls let go before the event loop turns, so that refusals are heard between them."""

TIMER_S: Final = 1e-4
"""A timer is not set anew for less."""


class Limited:
    """A `Model` behind an adaptive limit on calls in flight. Implements `abyme.ports.Model`."""

    def __init__(self, model: Model, clock: Clock, *, start: int = START, most: int = MOST) -> None:
        self.model = model
        self.window = Window(start, most)
        self._clock = clock
        self._waiting: collections.deque[asyncio.Future[int]] = collections.deque()
        self._pause: asyncio.Task[None] | None = None
        self._pause_until_s = math.inf

    @property
    def in_flight(self) -> int:
        """Calls that were sent and have no reply yet."""
        return self.window.in_flight

    async def complete(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """Send it when there is room; see `abyme.ports.Model`."""
        try:
            ticket = await self._enter()
        except asyncio.CancelledError:
            # Told as a failure, so that the ledger learns that nothing was sent.
            raise ModelError(
                "cancelled before it was sent", failure="cancelled", retryable=False, sent=False
            ) from None
        try:
            reply = await self.model.complete(request, on_text)
        except ModelError as error:
            self._failed(ticket, error)
            raise
        except BaseException:
            self.window.failed(ticket)
            raise
        else:
            self.window.succeeded(ticket, self._clock.now_s(), len(self._waiting))
            return reply
        finally:
            self._wake()

    async def aclose(self) -> None:
        """Close the model. Safe to repeat."""
        self._end_pause()
        await self.model.aclose()

    def _failed(self, ticket: int, error: ModelError) -> None:
        now_s = self._clock.now_s()
        match error.failure:
            case "rate_limited":
                self.window.refused(ticket, now_s, error.retry_after_s)
            case "timed_out":
                self.window.timed_out(ticket, now_s)
            case _:
                self.window.failed(ticket)

    async def _enter(self) -> int:
        if not self._waiting and self._wait_s() <= 0:
            return self.window.sent(self._clock.now_s())
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # a place was given and is not used
                self.window.failed(future.result())
                self._wake()
            raise

    def _wait_s(self) -> float:
        return self.window.wait_s(self._clock.now_s(), len(self._waiting))

    def _wake(self) -> None:
        """Let go who may go; come back when the next may."""
        for _ in range(AT_A_TIME):
            while self._waiting and self._waiting[0].done():
                self._waiting.popleft()
            if not self._waiting:
                return
            wait_s = self._wait_s()
            if wait_s > 0:
                self._sleep(wait_s)
                return
            ticket = self.window.sent(self._clock.now_s())
            self._waiting.popleft().set_result(ticket)
        asyncio.get_running_loop().call_soon(self._wake)

    def _sleep(self, wait_s: float) -> None:
        """Wake in so long, or sooner if that was settled before."""
        until_s = self._clock.now_s() + wait_s
        if until_s >= self._pause_until_s - TIMER_S:
            return
        self._end_pause()
        if wait_s < math.inf:
            self._pause_until_s = until_s
            self._pause = asyncio.get_running_loop().create_task(self._resume(wait_s))

    async def _resume(self, wait_s: float) -> None:
        await self._clock.sleep(wait_s)
        self._pause, self._pause_until_s = None, math.inf
        self._wake()

    def _end_pause(self) -> None:
        pause, self._pause, self._pause_until_s = self._pause, None, math.inf
        if pause is not None:
            pause.cancel()
