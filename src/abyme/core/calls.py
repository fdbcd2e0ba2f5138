"""Attempts: every model call of the run, from the reserve to the settling.

Invariant: an `AskModel` leaves here only with its worst case held in the
ledger, and every hold ends in exactly one settling. What a failed attempt cost
is what the provider said; where it said nothing and may have worked (cut
stream, time-out, cancelled), the worst case is taken as spent.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from abyme.core import events as ev
from abyme.core import pricing, retry
from abyme.core.effects import AskModel
from abyme.core.ids import BatchId, CallId, NodeId
from abyme.core.ledger import NOTHING, Amount, Ledger
from abyme.core.profile import Message, Profile
from abyme.core.tokens import Calibration
from abyme.errors import LimitReached

MAX_IN_FLIGHT = 1024
"""Attempts under way at once; bounds memory. The provider's own pace is `models/limiter`'s."""
GROWN_BYTES = 6_000
"""Of a prompt by one cell's error, notes and changed names, as they mostly are."""
EXPECTED_OUTPUT_TOKENS = 200
"""Of a sub-call, before any has been seen."""


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
    schema: dict[str, Any] | None = None
    """JSON Schema that the reply must fit."""
    repairs: int = 0
    """Times that the model was told of a wrong shape."""
    form: dict[str, Any] | None = None
    """JSON Schema that is only passed on: a job checks the reply."""
    logprobs: bool = False
    fresh: bool = False
    batch: BatchId | None = None
    position: int | None = None
    estimated: int = 0
    """Tokens of a sub-call's prompt, by our estimate."""
    expected: Amount = NOTHING
    """What an ordinary call like it costs; of a turn nothing is promised in advance."""
    delay_s: float = 0.0
    """Before the next attempt."""
    failure: ev.Failure | None = None
    """Of the last attempt, while another one waits."""
    attempt: int = 0
    cancelled: bool = False
    """Nobody waits for it any more; it is booked all the same."""


Refused = tuple[Call, LimitReached]
"""A call that was not made, and the ceiling that stopped it."""


@dataclass(slots=True)
class CallBook:
    """Calls in flight, and what past ones cost."""

    ledger: Ledger
    calibration: Calibration = field(default_factory=Calibration)
    turn: Amount = NOTHING
    """What the root's turn may cost at most."""
    waiting: deque[Call] = field(default_factory=deque)
    """Calls that the ledger has no room for now, in the order they will be sent."""
    _open: dict[CallId, Call] = field(default_factory=dict)
    _last: int = 0
    _expected: Amount = NOTHING
    _outputs: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Model -> sub-calls settled, their completion tokens: what to expect of the next."""

    def new_id(self) -> CallId:
        """Name a call."""
        self._last += 1
        return CallId(self._last)

    @property
    def next_id(self) -> int:
        """The number that the next call will have."""
        return self._last + 1

    def open_calls(self) -> list[Call]:
        """List the calls in flight."""
        return list(self._open.values())

    def get(self, call: CallId) -> Call | None:
        """Look a call in flight up."""
        return self._open.get(call)

    def of(self, node: NodeId) -> list[Call]:
        """List the calls in flight that a node's turn or cell waits for."""
        return [c for c in self._open.values() if c.node == node and not c.cancelled]

    def pump(self, *, only: NodeId | None = None) -> tuple[list[AskModel], list[Refused]]:
        """Send what the ledger has room for now; give back what it will never have room for.

        A call that does not fit beside what is held waits, and those behind it with it.
        With `only`, nothing but turns of that node are sent: the run is ending.
        """
        sent: list[AskModel] = []
        refused: list[Refused] = []
        while self.waiting and len(self._open) < MAX_IN_FLIGHT:
            call = self.waiting[0]
            if only is not None and (call.purpose != "turn" or call.node != only):
                break
            worst = pricing.worst(
                call.model, call.messages, call.max_output_tokens, call.form or call.schema
            )
            try:
                sent.append(self._send(call, worst))
            except LimitReached as refusal:
                if self._could_fit(call, worst):
                    break
                refused.append((call, refusal))
            self.waiting.popleft()
        return sent, refused

    def expected_open(self) -> Amount:
        """Tell what the calls in flight, in line and promised are expected to cost."""
        return self._expected

    def promise(self, amount: Amount) -> None:
        """Expect more, or less, of calls that are not in line yet."""
        self._expected += amount

    def enqueue(self, call: Call, *, first: bool = False) -> None:
        """Put a call in line; turns and repeated attempts go first."""
        if not call.attempt:
            self._expected += call.expected
        if first:
            self.waiting.appendleft(call)
        else:
            self.waiting.append(call)

    def forget_turns(self, node: NodeId) -> None:
        """Never send a turn of a node that still waits in line."""
        self.waiting = deque(c for c in self.waiting if c.purpose != "turn" or c.node != node)

    def drop(self, call: Call) -> None:
        """Expect nothing of a call any more: it has its result, or will have none."""
        self._expected -= call.expected
        call.expected = NOTHING

    def _could_fit(self, call: Call, worst: Amount) -> bool:
        try:
            self.ledger.check(worst, promised=NOTHING, closing=call.closing)
        except LimitReached:
            return False
        return True

    def _send(self, call: Call, worst: Amount) -> AskModel:
        """Hold the worst case of the next attempt and say how to make it."""
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
            schema=call.schema,
            fresh=call.fresh,
            fence=call.fence,
            form=call.form,
            logprobs=call.logprobs,
            delay_s=call.delay_s,
        )

    def restart(self, event: ev.RunResumed) -> None:
        """Go on in another process: nothing is under way, and what was is carried as spent."""
        self.waiting.clear()
        for call in list(self._open):
            self.ledger.release(call)
        self._open.clear()
        self._expected = NOTHING
        self._last = max(self._last, event.next_call - 1)
        carried = event.carried
        self.ledger.resume(event.limits, Amount(carried.calls, carried.tokens, carried.usd_micro))

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
        self.drop(call)
        if call.purpose != "turn" and event.usage.completion_tokens:  # none: from a cache
            if call.form is None:  # a job knows better what to expect
                calls, tokens = self._outputs.get(call.model.name, (0, 0))
                self._outputs[call.model.name] = calls + 1, tokens + event.usage.completion_tokens
            if not call.repairs:
                self.calibration.saw(call.model.name, call.estimated, event.usage)
        return None if call.cancelled else call

    def failed(self, event: ev.CallFailed) -> tuple[Call | None, float | None]:
        """Book a failed attempt; also return the seconds to wait before another, None for none."""
        call = self._open.pop(event.call, None)
        if call is None:
            return None, None
        if event.sent:
            worst = self.ledger.worst(event.call)
            billed = pricing.billed(call.model, event.failure, event.usage, worst)
            self.ledger.settle(event.call, billed)
        else:
            self.ledger.release(event.call)
        if call.cancelled:
            self.drop(call)
            return None, None
        return call, retry.delay_s(event.failure, call.attempt)

    def expected_output(self, model: ev.ModelFacts) -> int:
        """Completion tokens to expect of a sub-call: the mean so far, a guess at first."""
        calls, tokens = self._outputs.get(model.name, (0, 0))
        guess = min(EXPECTED_OUTPUT_TOKENS, model.max_output_tokens)
        return (tokens + guess) // (calls + 1)

    def set_aside_for(
        self, messages: tuple[Message, ...], model: ev.ModelFacts, of: Profile
    ) -> None:
        """Keep enough back for a closing turn after the next one, whose prompt has grown by
        a reply and by an output with its error and notes.
        """
        reply_tokens = min(of.max_output_tokens, model.max_output_tokens)
        grown_bytes = 2 * (reply_tokens + of.output_chars) + GROWN_BYTES
        self.ledger.set_aside(pricing.closing(model, messages, grown_bytes))
        self.turn = pricing.worst(model, messages, reply_tokens)
