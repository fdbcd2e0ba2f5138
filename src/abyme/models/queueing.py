"""`Queueing`: finds out whether a provider serves the calls that it takes, or lets them wait.

A provider that queues refuses nothing; only latency rises with the calls in flight while
throughput does not. Too many in a queue gain nothing, and are lost when it times out.

Latencies of models differ by ten times by themselves, so single ones say nothing. Compared
are the calls of one burst that were sent while few were in flight with those sent while many
were: the same work, averaged as logarithms. If they differ by `SUSPECT` times
or more, the window is narrowed to twice what Little's law (1961) says is being served:
throughput times the latency of the first, as TCP Vegas (Brakmo and Peterson, 1995) and the
"gradient" of Netflix' concurrency-limits do. Then the suspicion is put to the proof, as BBR
(Cardwell et al., 2016) probes: if throughput falls, the provider was only slow, and the
window opens again. A narrow window widens where the latency says that nobody queues.

Invariant: a window that costs throughput is given up within some rounds. Pure.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum, auto
from typing import Final

FEW: Final = 16
ENOUGH_FEW: Final = 12
ENOUGH_MANY: Final = 32
SUSPECT: Final = 4.0
SLACK: Final = 2.0
LEAST: Final = 16
SAMPLE: Final = 256
"""Replies over which throughput is measured."""
FALLS: Final = 0.75
"""Throughput below this share of what it was has fallen for certain."""
FALLS_DRAINING: Final = 0.6
NO_QUEUE: Final = 1.5
"""Latency below so many times that of the first calls: nobody queues."""
WIDEN: Final = 1.25


class _State(Enum):
    WATCHING = auto()
    DRAINING = auto()
    MEASURING = auto()
    NARROW = auto()


class Queueing:
    """Learns from latencies."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.width = most
        self._state = _State.WATCHING
        self._suspect = SUSPECT
        self._few = _Mean()
        self._many: dict[int, _Mean] = {}
        self._replies: deque[float] = deque(maxlen=SAMPLE + 1)
        self._before = 0.0
        self._left = 0
        self._round = _Mean()

    def served(
        self, beside: int, latency_s: float, now_s: float, in_flight: int, waiting: int
    ) -> None:
        """Learn from a reply to a call that was sent as the `beside`-th in flight."""
        self._replies.append(now_s)
        if beside < FEW:
            self._few.add(latency_s)
        else:
            self._many.setdefault(beside.bit_length(), _Mean()).add(latency_s)
        match self._state:
            case _State.WATCHING:
                self._watch(beside, in_flight)
            case _State.NARROW:
                self._round.add(latency_s)
                self._widen(waiting)
                self._watch(beside, in_flight)
            case _State.DRAINING:
                self._drain(in_flight)
            case _State.MEASURING:
                self._measure(waiting)
        if not in_flight:
            self._few, self._many = _Mean(), {}

    def timed_out(self, age_s: float, now_s: float, in_flight: int) -> None:
        """Hold no more than half of what is served in the time that a call waited in vain."""
        served = sum(at > now_s - age_s for at in self._replies)
        if served < min(in_flight, SAMPLE):
            self.width = max(1, min(self.width, served // 2))
            self._state = _State.NARROW

    def _watch(self, beside: int, in_flight: int) -> None:
        many = self._many.get(beside.bit_length())
        if many is None or many.count < ENOUGH_MANY or self._few.count < ENOUGH_FEW:
            return
        if many.log_mean - self._few.log_mean < math.log(self._suspect):
            return
        if beside < SUSPECT * FEW or len(self._replies) < ENOUGH_MANY:
            return
        self._before = self._throughput()
        width = max(LEAST, math.ceil(SLACK * self._before * self._few.mean))
        if width < min(self.width, in_flight):
            self.width = width
            self._state = _State.DRAINING
        self._many = {}

    def _drain(self, in_flight: int) -> None:
        """While fewer and fewer are in flight, a provider that queues serves as many as before."""
        if len(self._replies) > SAMPLE and self._throughput() < FALLS_DRAINING * self._before:
            self._reopen()
        elif in_flight <= self.width:
            self._state, self._left = _State.MEASURING, SAMPLE
            self._replies.clear()

    def _measure(self, waiting: int) -> None:
        self._left -= 1
        took_s = self._replies[-1] - self._replies[0]
        if not waiting:  # the window is not what holds it
            self._state = _State.NARROW
        elif took_s > SAMPLE / (FALLS * self._before):
            self._reopen()
        elif self._left <= 0:
            self._state = _State.NARROW

    def _reopen(self) -> None:
        """Give the suspicion up: it was only slow. None more in this burst, less in the next."""
        self.width = self._most
        self._suspect *= 2
        self._few, self._many = _Mean(), {}
        self._state = _State.WATCHING

    def _widen(self, waiting: int) -> None:
        """Widen once a round if the window is what holds the calls and nobody queues."""
        if self._round.count < self.width:
            return
        few = self._few if self._few.count >= ENOUGH_FEW else self._round
        if waiting and self._round.log_mean - few.log_mean < math.log(NO_QUEUE):
            self.width = min(self._most, math.ceil(self.width * WIDEN))
        self._round = _Mean()

    def _throughput(self) -> float:
        took_s = self._replies[-1] - self._replies[0]
        return (len(self._replies) - 1) / max(took_s, 1e-6)


class _Mean:
    """Of latencies, and of their logarithms."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0
        self._logs = 0.0

    def add(self, latency_s: float) -> None:
        self.count += 1
        self._sum += latency_s
        self._logs += math.log(max(latency_s, 1e-4))

    @property
    def mean(self) -> float:
        return self._sum / self.count

    @property
    def log_mean(self) -> float:
        return self._logs / self.count
