"""Simulated providers in virtual time: what a `Window` achieves against each.

A discrete-event simulation: a heap of events, a seeded generator of latencies, no clock and
no event loop, so that every figure is exact. A call travels `WAY_S` to the provider, which
takes, refuses or queues it, and its reply as long back. A refused call is tried again as the
core does it: after ``Retry-After``, else 0.5 s doubled with each attempt.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from abyme.models.window import Window

WAY_S = 0.01
MOST_TRIED = 1024
"""Calls that the core has under way at once."""


class Provider(Protocol):
    """Decides over a call when it arrives."""

    retry_after_s: float | None

    def arrives(self, now_s: float, latency_s: float) -> float | None:
        """When it is done; None refuses it."""


@dataclass
class Free:
    """Takes everything."""

    retry_after_s: float | None = None

    def arrives(self, now_s: float, latency_s: float) -> float | None:
        return now_s + latency_s


@dataclass
class AtOnce:
    """So many at once; refuses the others."""

    most: int
    retry_after_s: float | None = None
    _ends: list[float] = field(default_factory=list)

    def arrives(self, now_s: float, latency_s: float) -> float | None:
        while self._ends and self._ends[0] <= now_s:
            heapq.heappop(self._ends)
        if len(self._ends) >= self.most:
            return None
        heapq.heappush(self._ends, now_s + latency_s)
        return now_s + latency_s


@dataclass
class Bucket:
    """So many a second, out of a bucket; refuses the others."""

    rate: float
    burst: int
    retry_after_s: float | None = None
    _level: float | None = None
    _at_s: float = 0.0

    def arrives(self, now_s: float, latency_s: float) -> float | None:
        if self._level is None:
            self._level = self.burst
        self._level = min(self.burst, self._level + (now_s - self._at_s) * self.rate)
        self._at_s = now_s
        if self._level < 1 - 1e-6:
            return None
        self._level -= 1
        return now_s + latency_s


@dataclass
class Queues:
    """Takes everything and serves so many at once, in order."""

    most: int
    retry_after_s: float | None = None
    _ends: list[float] = field(default_factory=list)

    def arrives(self, now_s: float, latency_s: float) -> float | None:
        begins_s = now_s
        if len(self._ends) >= self.most:
            begins_s = max(now_s, heapq.heappop(self._ends))
        heapq.heappush(self._ends, begins_s + latency_s)
        return begins_s + latency_s


@dataclass
class Outcome:
    """What a batch took."""

    wall_s: float = 0.0
    refused: int = 0
    most_attempts: int = 0
    in_flight: list[tuple[float, int]] = field(default_factory=list)
    """After every reply."""
    sends: list[float] = field(default_factory=list)

    def in_flight_from(self, share: float, to: float) -> int:
        """The most in flight between two shares of the time."""
        return max(n for at, n in self.in_flight if share * self.wall_s <= at <= to * self.wall_s)


class Sim:
    """One provider, one window, one batch after the other."""

    def __init__(self, provider: Provider, window: Window, latency: Callable[[], float], seed=0):
        self.provider = provider
        self.window = window
        self.latency = latency
        self.now_s = 0.0
        self._random = random.Random(seed)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waiting: deque[int] = deque()
        self._attempts: dict[int, int] = {}
        self._wake_s = math.inf

    def run(self, calls: int) -> Outcome:
        """Make so many calls; return when all are answered."""
        self.outcome = Outcome()
        self._latencies = [self.latency() for _ in range(calls)]
        began_s = self.now_s
        self._left = calls
        self._unborn = deque(range(calls))
        self._attempts = {}
        for _ in range(min(calls, MOST_TRIED)):
            self._waiting.append(self._unborn.popleft())
        self._pump()
        while self._left:
            self.now_s, _, act = heapq.heappop(self._heap)
            act()
            self._pump()
        self.outcome.wall_s = self.now_s - began_s
        self.outcome.most_attempts = max(self._attempts.values())
        return self.outcome

    def _at(self, when_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when_s, next(self._order), act))

    def _pump(self) -> None:
        while self._waiting:
            wait_s = self.window.wait_s(self.now_s, len(self._waiting))
            if wait_s > 0:
                if self.now_s + wait_s < self._wake_s - 1e-9:
                    self._wake_s = self.now_s + wait_s
                    self._at(self._wake_s, partial(self._woken, self._wake_s))
                return
            self._send(self._waiting.popleft())

    def _woken(self, due_s: float) -> None:
        if due_s == self._wake_s:
            self._wake_s = math.inf

    def _send(self, call: int) -> None:
        ticket = self.window.sent(self.now_s)
        self.outcome.sends.append(self.now_s)
        self._attempts[call] = self._attempts.get(call, 0) + 1
        self._at(self.now_s + WAY_S, lambda: self._arrives(call, ticket))

    def _arrives(self, call: int, ticket: int) -> None:
        done_s = self.provider.arrives(self.now_s, self._latencies[call])
        if done_s is None:
            self._at(self.now_s + WAY_S, lambda: self._refused(call, ticket))
        else:
            self._at(done_s + WAY_S, lambda: self._served(ticket))

    def _refused(self, call: int, ticket: int) -> None:
        self.outcome.refused += 1
        wish_s = self.provider.retry_after_s
        self.window.refused(ticket, self.now_s, wish_s)
        delay_s = 0.5 * 2 ** (self._attempts[call] - 1) if wish_s is None else wish_s
        delay_s *= self._random.uniform(1.0, 1.25)
        self._at(self.now_s + delay_s, lambda: self._waiting.append(call))

    def _served(self, ticket: int) -> None:
        self.window.succeeded(ticket, self.now_s, len(self._waiting))
        self._left -= 1
        self.outcome.in_flight.append((self.now_s, self.window.in_flight))
        if self._unborn:
            self._waiting.append(self._unborn.popleft())


def even(seconds: float) -> Callable[[], float]:
    """Every call takes as long."""
    return lambda: seconds


def lognormal(mean_s: float, sigma: float, seed: int) -> Callable[[], float]:
    """Latencies as wide as those of models."""
    generator = random.Random(seed)
    mu = math.log(mean_s) - sigma**2 / 2
    return lambda: generator.lognormvariate(mu, sigma)


class Fixed:
    """An oracle: a window that was told how many calls at once, or the rate, from the start."""

    def __init__(self, *, at_once: float = math.inf, rate: float = math.inf, burst: int = 1):
        self._at_once, self._rate, self._burst = at_once, rate, burst
        self._level, self._at_s = float(burst), 0.0
        self.in_flight = 0

    def wait_s(self, now_s: float, waiting: int) -> float:
        if self.in_flight >= self._at_once:
            return math.inf
        if self._rate == math.inf:
            return 0.0
        self._level = min(self._burst, self._level + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return 0.0 if self._level >= 1 - 1e-9 else max(1e-6, (1 - self._level) / self._rate)

    def sent(self, now_s: float) -> int:
        self.in_flight += 1
        if self._rate < math.inf:
            self._level -= 1
        return 0

    def succeeded(self, ticket: int, now_s: float, waiting: int) -> None:
        self.in_flight -= 1

    def refused(self, ticket: int, now_s: float, wish_s: float | None) -> None:
        self.in_flight -= 1
