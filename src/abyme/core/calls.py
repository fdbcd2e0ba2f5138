"""Attempts: every model call of the run, from the reserve to the settling.

Invariant: an `AskModel` leaves here only with its worst case held in the
ledger, and every hold ends in exactly one settling. What a failed attempt cost
is what the provider said; where it said nothing and may have worked (cut
stream, time-out, cancelled), the worst case is taken as spent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from abyme.core import events as ev
from abyme.core import pricing, retry
from abyme.core.effects import AskModel
from abyme.core.ids import BatchId, CallId, NodeId
from abyme.core.ledger import NOTHING, Amount, Ledger
from abyme.core.profile import Message, Profile

BILLING_UNKNOWN = frozenset({"stream_cut", "timed_out", "cancelled"})


@dataclass(slots=True)
class Call:
    """One call, over all its attempts."""

    call: CallId
    node: NodeId
    purpose: str
    model: ev.ModelFacts
    messages: tuple[Message, ...]
    max_output_tokens: int
    temperature: float | None
    prefill: str = ""
    stop: tuple[str, ...] = ()
    closing: bool = False
    fence: str = ""
    """Nonce of the data in the prompt; stripped from the reply."""
    batch: BatchId | None = None
    position: int | None = None
    attempt: int = 0
    cancelled: bool = False
    """Nobody waits for it any more; it is booked all the same."""


@dataclass(slots=True)
class Totals:
    """What the providers say was used, and how many attempts that took."""

    calls: int = 0
    failed_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(slots=True)
class CallBook:
    """Calls in flight, and what past ones cost."""

    ledger: Ledger
    totals: Totals = field(default_factory=Totals)
    _open: dict[CallId, Call] = field(default_factory=dict)
    _last: int = 0
    _outputs: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Model -> sub-calls settled, their completion tokens: what to expect of the next."""

    def new_id(self) -> CallId:
        """Name a call."""
        self._last += 1
        return CallId(self._last)

    def get(self, call: CallId) -> Call | None:
        """Look a call in flight up."""
        return self._open.get(call)

    @property
    def in_flight(self) -> int:
        """Attempts that are held."""
        return len(self._open)

    def of(self, node: NodeId) -> list[Call]:
        """List the calls in flight that a node's turn or cell waits for."""
        return [c for c in self._open.values() if c.node == node and not c.cancelled]

    def all_open(self) -> list[CallId]:
        """List every attempt that has not ended."""
        return list(self._open)

    def send(self, call: Call, *, delay_s: float = 0.0) -> AskModel:
        """Hold the worst case of the next attempt and say how to make it.

        Raises:
            LimitReached: the ledger does not allow it; nothing is held.
        """
        worst = pricing.worst(call.model, call.messages, call.max_output_tokens)
        self.ledger.reserve(call.call, worst, closing=call.closing)
        call.attempt += 1
        self._open[call.call] = call
        reserved = ev.CallReserved(
            call=call.call,
            attempt=call.attempt,
            model=call.model.name,
            purpose="turn" if call.purpose == "turn" else "sub",
            worst_usd_micro=worst.usd_micro,
            worst_tokens=worst.tokens,
            batch=call.batch,
            position=call.position,
        )
        return AskModel(
            node=call.node,
            reserved=reserved,
            messages=call.messages,
            prefill=call.prefill,
            max_output_tokens=call.max_output_tokens,
            temperature=call.temperature,
            stop=call.stop,
            delay_s=delay_s,
        )

    def cancel(self, call: CallId) -> None:
        """Expect no reply any more. The hold stays until the driver says how the attempt ended."""
        if call in self._open:
            self._open[call].cancelled = True

    def settled(self, event: ev.CallSettled) -> Call | None:
        """Book a reply; None when nobody waits for it any more."""
        call = self._open.pop(event.call, None)
        if call is None:
            return None
        self.ledger.settle(event.call, pricing.actual(call.model, event.usage))
        self._count(event.usage)
        if call.purpose != "turn":
            calls, tokens = self._outputs.get(call.model.name, (0, 0))
            self._outputs[call.model.name] = (calls + 1, tokens + event.usage.completion_tokens)
        return None if call.cancelled else call

    def failed(self, event: ev.CallFailed) -> tuple[Call | None, float | None]:
        """Book a failed attempt; also return the seconds to wait before another, None for none."""
        call = self._open.pop(event.call, None)
        if call is None:
            return None, None
        self.ledger.settle(event.call, self._billed(call, event))
        self.totals.failed_calls += 1
        self._count(event.usage or ev.Usage())
        if call.cancelled:
            return None, None
        return call, retry.delay_s(event.failure, call.attempt)

    def expected_output(self, model: ev.ModelFacts) -> int:
        """Completion tokens to expect of a sub-call: the mean so far, a guess at first."""
        calls, tokens = self._outputs.get(model.name, (0, 0))
        guess = min(EXPECTED_OUTPUT_TOKENS, model.max_output_tokens)
        return (tokens + guess) // (calls + 1)

    def set_aside_for(self, messages: Sequence[Message], model: ev.ModelFacts, of: Profile) -> None:
        """Keep enough back for one turn after the next: its prompt is longer by a reply and an
        output.
        """
        grown = (
            *messages,
            Message("assistant", " " * of.max_output_tokens * 4),
            Message("user", " " * of.output_chars),
        )
        self.ledger.set_aside(pricing.worst(model, grown, of.max_output_tokens))

    def _billed(self, call: Call, event: ev.CallFailed) -> Amount:
        if event.usage is not None:
            return pricing.actual(call.model, event.usage)
        if event.failure.fault in BILLING_UNKNOWN:
            return self.ledger.worst(event.call)
        return Amount(calls=1) if event.failure.fault != "limit" else NOTHING

    def _count(self, usage: ev.Usage) -> None:
        self.totals.calls += 1
        self.totals.prompt_tokens += usage.prompt_tokens
        self.totals.completion_tokens += usage.completion_tokens
        self.totals.cached_tokens += usage.cached_tokens


EXPECTED_OUTPUT_TOKENS = 200
"""Of a sub-call, before any has been seen."""
