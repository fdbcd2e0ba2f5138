"""`Refusals`: what a provider's "rate limited" replies say of how much it takes.

Decides how many calls may be in flight and how fast they may follow one another, from
which were refused. Two kinds of limit look alike at first and are told apart by where the
next refusal falls:

- on calls at once: always refused with the same number in flight. That number is counted
  exactly, so it is kept, not backed off from;
- on the rate (a bucket of tokens): refused when the bucket is empty, whatever is in flight.
  What was taken since it was last full or empty gives its rate.

Until the first refusal the way is open, and calls in flight double every `OPENING_S`, so that
a narrow provider refuses a hundred calls and not a thousand. Beyond a limit once found it
probes, and only when the pause that a refusal costs is worth it (`WORTH`). Pure: told the time.

Does not queue, wait or count what is in flight (`window`), and sees no latency but a mean.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from statistics import median
from typing import Final

START: Final = 64
"""Calls in flight that nobody needs to prove."""
OPENING_S: Final = 0.015
"""From one doubling to the next: about the way to a near provider and back."""
NO_WISH_PAUSE_S: Final = 0.2
"""Pause after a "rate limited" that names no time; doubled while nothing is served."""
MOST_PAUSE_S: Final = 60.0
WORTH: Final = 0.04
"""Part of the time that may be lost in pauses for the sake of probing."""
REFUSAL_COST_S: Final = 0.2
"""What a refused call costs, beside the pause."""
LEAST_DOUBLING_S: Final = 0.1
"""Of the rate while it is probed; also the shortest time over which a burst is a rate."""
ASK_AGAIN_S: Final = 0.5
IDLE_S: Final = 1.0
PACE_BELOW: Final = 0.95
"""Of the rate that was found, to begin with."""
PAUSES: Final = 12
"""The cubic comes back to the rate found after so many pauses, which bounds what they cost."""
GUESS_PAUSES: Final = 3
ALLOW_BELOW: Final = 0.8
"""Of what was taken at once, the next time."""
AGREES: Final = 0.25
"""Two measured rates that differ by less are one."""
NEAR: Final = 0.1
"""Two numbers of calls in flight that differ by less are one."""
SHORT_S: Final = 0.005
"""Calls that follow one another in less are at once."""
HISTORY: Final = 4096


class Mode(Enum):
    """What is known."""

    OPENING = auto()
    """Nothing stands against twice as many calls in flight."""
    HELD = auto()
    """So many calls at once."""
    PROBING = auto()
    """Whether more than that is taken, ever faster."""
    PACED = auto()
    """So many calls a second."""


class Refusals:
    """Learns from refusals. Times are seconds on one clock; tickets grow with each send."""

    def __init__(self, start: int = START) -> None:
        self.mode = Mode.OPENING
        self._most = float(start)
        """Calls in flight, while it opens and is held."""
        self._full_s: float | None = None
        self._mode_s = 0.0
        self._resume_s = 0.0
        self._cut_s = -math.inf
        self._pause_s = 0.0
        self._answer_s = 0.0
        """How long a refusal takes to come."""
        self._positions: list[int] = []
        """Calls that stood before each refused one, since the last cut."""
        self._seen = -1.0
        """That of the cut before."""
        self._again = 0
        self._failed_probes = 0
        self._silent = 0
        """Cuts since anything was served."""
        self._rate = math.inf
        self._guessed = False
        self._burst = 1.0
        """Depth of the bucket: what was taken at first."""
        self._allowed = 1.0
        """How many may follow one another at once after a pause."""
        self._level, self._level_s = 0.0, 0.0
        self._sent_s = 0.0
        self._asked_s = 0.0
        self._taken: dict[int, float] = {}
        """Ticket -> when it was sent; without those that are known to be refused."""

    @property
    def width(self) -> float:
        """Calls that may be in flight, by this alone."""
        return self._most if self.mode in {Mode.OPENING, Mode.HELD} else math.inf

    @property
    def rate(self) -> float:
        """Calls a second that were found to be taken; infinite if nothing says so."""
        return self._rate if self.mode is Mode.PACED else math.inf

    def wait_s(self, now_s: float, in_flight: int, waiting: int, latency_s: float) -> float:
        """Seconds until it is worth asking again; 0: send. Infinite: after the next reply."""
        self._skip_idle(now_s)
        if now_s < self._resume_s:
            return self._resume_s - now_s
        if self.mode is Mode.HELD and in_flight + 1 > self._most:
            wait_s = self._probe_wait_s(now_s, in_flight, waiting, latency_s)
            if wait_s == 0.0:
                self._probe(now_s, in_flight / (latency_s or ASK_AGAIN_S))
            return wait_s
        if self.mode is Mode.OPENING and in_flight + 1 > self._most:
            return self._opening_wait_s(now_s)
        if self.mode in {Mode.PACED, Mode.PROBING}:
            return min(self._token_wait_s(now_s), MOST_PAUSE_S)
        return 0.0

    def sent(self, ticket: int, now_s: float) -> None:
        """Note a send."""
        self._sent_s = now_s
        self._taken[ticket] = now_s
        if len(self._taken) > HISTORY:
            del self._taken[next(iter(self._taken))]
        if self.mode in {Mode.PACED, Mode.PROBING}:
            self._refill(now_s)
            self._level -= 1.0

    def succeeded(self) -> None:
        """Note a reply."""
        self._silent = 0

    def refused(
        self, ticket: int, sent_s: float, now_s: float, retry_after_s: float | None, position: int
    ) -> None:
        """Learn from a refusal. `position`: calls in flight that were sent before this one.

        Calls that were in flight together are refused together and are one lesson.
        """
        self._taken.pop(ticket, None)
        self._answer_s = max(0.9 * self._answer_s, now_s - sent_s)
        if sent_s >= self._cut_s:
            before_s, self._cut_s = self._cut_s, now_s
            self._positions = [position]
            self._silent += 1
            self._learn(ticket, before_s, sent_s, position)
        else:
            self._positions.append(position)
            if self.mode is Mode.HELD and self._seen < 0:
                self._most = max(1.0, median(self._positions))
                self._found_depth(self._most)
        wish_s = retry_after_s
        if wish_s is None:
            wish_s = NO_WISH_PAUSE_S * 2 ** min(self._silent - 1, 8)
        self._pause_s = min(wish_s, MOST_PAUSE_S)
        self._resume_s = max(self._resume_s, now_s + self._pause_s)

    # -- learning ----------------------------------------------------------------

    def _learn(self, ticket: int, before_s: float, sent_s: float, position: int) -> None:
        held = self._most
        if self._silent > 1:  # nothing was served since the last cut: there is no rate to measure
            self._hold(position)
            self._seen = position
            return
        match self.mode:
            case Mode.OPENING:
                self._found_depth(position)
                self._hold(position)
                return
            case Mode.PROBING if position <= held or _near(position, held):
                self._failed_probes += 1
                self._hold(max(position, held))
            case Mode.HELD | Mode.PROBING:
                rate = self._measured_rate(ticket, before_s, sent_s)
                if (self._guessed or _near(position, held)) and not self._again:
                    self._again += 1
                    self._hold(position)
                else:
                    self._pace(rate)
            case Mode.PACED if self._too_many_at_once(ticket, sent_s):
                self._pace(self._rate)
            case Mode.PACED:
                rate = self._measured_rate(ticket, before_s, sent_s)
                agrees = abs(rate / self._pace_now(sent_s) - 1) < AGREES
                if not agrees and _near(position, self._seen):
                    self._again = 0
                    self._hold(position)
                else:
                    self._pace(rate)
        self._seen = position

    def _found_depth(self, calls: float) -> None:
        self._burst = max(1.0, calls)
        self._allowed = max(1.0, PACE_BELOW * calls)

    def _too_many_at_once(self, ticket: int, sent_s: float) -> bool:
        """See whether this was refused because too much followed a pause at once; allow less."""
        times = [at for other, at in self._taken.items() if at >= self._resume_s and other < ticket]
        if len(times) + 1 < 0.5 * self._allowed:
            return False
        if times and sent_s - times[0] > max(SHORT_S, 0.25 * self._allowed / self._rate):
            return False
        if self._allowed <= 1.0:
            return False
        self._allowed = max(1.0, ALLOW_BELOW * len(times))
        return True

    def _hold(self, calls: float) -> None:
        self.mode, self._most, self._mode_s = Mode.HELD, max(1.0, calls), self._cut_s

    def _probe(self, now_s: float, rate: float) -> None:
        self.mode, self._rate, self._mode_s = Mode.PROBING, rate, now_s
        self._level, self._level_s = 1.0, now_s

    def _pace(self, rate: float) -> None:
        self.mode, self._rate, self._mode_s = Mode.PACED, max(rate, 1e-3), self._cut_s
        self._level, self._level_s = 0.0, self._cut_s

    def _measured_rate(self, ticket: int, before_s: float, sent_s: float) -> float:
        """Find the calls a second at which this one met an empty bucket and those before did not.

        Since any time when it was full it gave its depth and what flowed in, so the greatest
        quotient of all times is the rate. Since the last refusal, when it was empty, it gave
        no more than what flowed in: that is the least that the rate can be.
        """
        times = [at for other, at in self._taken.items() if before_s < at and other < ticket]
        least = len(times) / max(sent_s - before_s, SHORT_S) if before_s > -math.inf else 0.0
        most = self._pace_now(sent_s) if self.mode is not Mode.HELD else math.inf
        rates = [
            (len(times) - index + 1 - self._burst) / (sent_s - at)
            for index, at in enumerate(times)
            if sent_s - at >= (SHORT_S if most < math.inf else LEAST_DOUBLING_S)
        ]
        self._guessed = not rates
        if rates:
            return max(least, min(most, max(rates)))
        if most < math.inf:
            return math.sqrt(most * min(most, max(least, 0.01 * most)))
        return max(least, 1e-3)

    # -- growing -----------------------------------------------------------------

    def _opening_wait_s(self, now_s: float) -> float:
        if self._full_s is None:
            self._full_s = now_s
        left_s = self._full_s + OPENING_S - now_s
        if left_s > 1e-9:
            return left_s
        self._most *= 2
        self._full_s = None
        return 0.0

    def _probe_wait_s(self, now_s: float, in_flight: int, waiting: int, latency_s: float) -> float:
        """Is a pause worth learning whether more is taken? Other calls are served meanwhile."""
        pause_s, since_s = self._pause_s, now_s - self._resume_s
        latency_s = latency_s or max(since_s, ASK_AGAIN_S)
        if since_s < min(latency_s, max(pause_s, ASK_AGAIN_S)):
            return ASK_AGAIN_S
        stall_s = pause_s**2 / (2 * latency_s) if pause_s < latency_s else pause_s - latency_s / 2
        cost_s = (stall_s + REFUSAL_COST_S) * min(8, 1 + self._failed_probes)
        ahead_s = 0.0 if self._failed_probes else waiting * latency_s / max(1, in_flight)
        if cost_s > WORTH * (since_s + ahead_s):
            return ASK_AGAIN_S
        return max(0.0, self._sent_s + latency_s / (2 * max(1, in_flight)) - now_s)

    # -- pacing ------------------------------------------------------------------

    def _skip_idle(self, now_s: float) -> None:
        """Let time in which nobody wanted to send prove nothing."""
        idle_s = now_s - self._asked_s
        if idle_s > IDLE_S + 2 / self._rate:
            self._mode_s += idle_s
        self._asked_s = now_s

    def _pace_now(self, now_s: float) -> float:
        """Return the rate with what is tried beyond it: a cubic through it (RFC 9438, figure 1)."""
        since_s = max(0.0, now_s - self._mode_s)
        if self.mode is Mode.PROBING:
            doubling_s = max(LEAST_DOUBLING_S, 2 * self._answer_s, min(0.5, 1 / self._rate))
            return self._rate * 2 ** min(20.0, since_s / doubling_s)
        times = since_s / max(1.0, (GUESS_PAUSES if self._guessed else PAUSES) * self._pause_s)
        return self._rate * (PACE_BELOW + (1 - PACE_BELOW) * times**3)

    def _refill(self, now_s: float) -> None:
        gained = (now_s - self._level_s) * self._pace_now(now_s)
        most = self._allowed if self.mode is Mode.PACED else 1.0
        self._level = min(most, self._level + gained)
        self._level_s = now_s

    def _token_wait_s(self, now_s: float) -> float:
        self._refill(now_s)
        if self._level >= 1.0 - 1e-9:
            return 0.0
        return max(1e-4, (1.0 - self._level) / self._pace_now(now_s))


def _near(calls: float, others: float) -> bool:
    return abs(calls - others) <= max(0.5, NEAR * others)
