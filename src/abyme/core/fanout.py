"""Batches of sub-calls: admitted whole or refused whole, answered in order.

Invariant: a batch is answered exactly once, with one result for each request in
the order asked, or one refusal before anything was sent. Equal requests of one
run are paid once, unless `fresh`. A failure is a `Result.failure`, never a text.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from msgspec import structs

from abyme.core import events as ev
from abyme.core import fences, pricing, shapes, tokens
from abyme.core.calls import Call, CallBook
from abyme.core.effects import Asked, Result
from abyme.core.ids import BatchId, CallId, NodeId
from abyme.core.ledger import NOTHING, Amount
from abyme.core.profile import Message, SubPrompts
from abyme.core.recall import Recall
from abyme.errors import LimitReached

Seat = tuple[NodeId, BatchId, int]
"""Where a result is waited for: node, batch, position."""
Key = tuple[str, bytes]
"""Model and `recall.key`: equal calls of a run have the same."""


MAX_REPAIRS = 2
"""Times that a sub-model is told what is wrong with the shape of its reply."""


@dataclass(slots=True)
class Batch:
    """One request of a guest that is not answered yet."""

    node: NodeId
    batch: BatchId
    keys: tuple[bytes, ...]
    """`recall.key` of each request."""
    results: list[Result | None]
    missing: int
    prompts: Sequence[str] = ()
    """How each prompt begins."""

    def asked(self) -> Asked:
        """Tell what it brought, once nothing is missing."""
        return Asked(keys=self.keys, results=tuple(result for _, result in self.had()))

    def had(self) -> list[tuple[bytes, Result]]:
        """Tell what it brought so far."""
        return [(k, r) for k, r in zip(self.keys, self.results, strict=True) if r is not None]


@dataclass(slots=True)
class Fanout:
    """Sub-calls of the whole run."""

    book: CallBook
    seed: int
    prompts: Callable[[ev.ModelFacts], SubPrompts]
    batches: dict[tuple[NodeId, BatchId], Batch] = field(default_factory=dict)
    _seats: dict[CallId, list[Seat]] = field(default_factory=dict)
    _keys: dict[Key, CallId] = field(default_factory=dict)
    _key_of: dict[CallId, Key] = field(default_factory=dict)
    _results: dict[CallId, Result] = field(default_factory=dict)

    def open(self, node: NodeId, number: BatchId, keys: Sequence[bytes]) -> None:
        """Begin a batch, with a seat for each key."""
        batch = Batch(node, number, tuple(keys), [None] * len(keys), len(keys))
        self.batches[node, number] = batch

    def seat(self, call: CallId, seats: Sequence[Seat]) -> None:
        """Let seats wait for a call."""
        self._seats.setdefault(call, []).extend(seats)

    def admit(
        self,
        node: NodeId,
        event: ev.CallsRequested,
        model: ev.ModelFacts,
        keys: Sequence[bytes],
        known: Recall,
    ) -> None:
        """Seat every request of a batch: at what it had before a kill, at an earlier equal call,
        or at a new one. `Fanout.price` comes first.
        """
        self.open(node, event.batch, keys)
        estimates = estimated(event.requests)
        for position, (request, key) in enumerate(zip(event.requests, keys, strict=True)):
            seat = (node, event.batch, position)
            if isinstance(had := known.one(key), Result):
                self.place(seat, had)
            elif request.fresh or (model.name, key) not in self._keys:
                self._new(seat, request, model, key, estimates[position])
            elif (earlier := self._keys[model.name, key]) in self._results:
                self.place(seat, self._results[earlier])
            else:
                self._seats[earlier].append(seat)

    def unseat(self, call: CallId) -> None:
        """Let nobody wait for a call any more: what it brought is placed by others."""
        self._seats.pop(call, None)

    def replied(self, call: Call, event: ev.CallSettled) -> None:
        """Hand a reply to everybody who waits for it; one of a wrong shape is to be repaired."""
        text = fences.strip(event.text, call.fence) if call.fence else event.text
        if event.finish == "length":
            failure = _cut_off(call.max_output_tokens)
            self.settle(call.call, Result(call=call.call, text=text, failure=failure))
        elif call.schema is None:
            self.settle(call.call, Result(call=call.call, text=text))
        elif event.wrong is None:
            value = json.dumps(shapes.parse(text), ensure_ascii=False)
            self.settle(call.call, Result(call=call.call, text=value))
        elif call.repairs < MAX_REPAIRS:
            call.repairs += 1
            remark = self.prompts(call.model).repair.replace("{wrong}", event.wrong)
            call.messages += (Message("assistant", event.text), Message("user", remark))
            call.failure, call.delay_s = _bad_shape(event.wrong), 0.0
            self.book.enqueue(call, first=True)
        else:
            self.settle(call.call, Result(call=call.call, failure=_bad_shape(event.wrong)))

    def settle(self, call: CallId, result: Result) -> None:
        """Put a result on its seats. A failure is not kept: the next equal call is made anew."""
        if result.failure is None:
            self._results[call] = result
        else:
            self._forget(call)
        for seat in self._seats.pop(call, ()):
            self.place(seat, result)

    def place(self, seat: Seat, result: Result) -> None:
        """Put a result on one seat; a batch that is gone takes none."""
        node, number, position = seat
        batch = self.batches.get((node, number))
        if batch is not None and batch.results[position] is None:
            batch.results[position] = result
            batch.missing -= 1

    def complete(self) -> list[Batch]:
        """Take out the batches that can be answered."""
        ready = [batch for batch in self.batches.values() if not batch.missing]
        for batch in ready:
            del self.batches[batch.node, batch.batch]
        return ready

    def had(self, node: NodeId) -> list[Result]:
        """Tell what a node's open batches have brought so far: it was paid for."""
        mine = [batch for key, batch in self.batches.items() if key[0] == node]
        return [
            result
            for batch in mine
            for result in labelled(batch.results, batch.prompts)
            if result.failure is None
        ]

    def abandon(self, node: NodeId) -> list[CallId]:
        """Forget a node's batches; return the calls in flight that nobody waits for any more."""
        for key in [key for key in self.batches if key[0] == node]:
            del self.batches[key]
        orphans: list[CallId] = []
        for call, seats in list(self._seats.items()):
            seats[:] = [seat for seat in seats if seat[0] != node]
            if not seats:
                del self._seats[call]
                self._forget(call)
                orphans.append(call)
        gone = set(orphans)
        for waits in [c for c in self.book.waiting if c.call in gone]:
            self.book.waiting.remove(waits)
            self.book.drop(waits)
        return [call for call in orphans if self.book.get(call) is not None]

    def restart(self) -> None:
        """Forget what is under way: the process that waited for it is gone. Replies stay."""
        self.batches.clear()
        for call in self._seats:
            self._forget(call)
        self._seats.clear()

    def _new(
        self, seat: Seat, request: ev.Request, model: ev.ModelFacts, key: bytes, estimated: int
    ) -> None:
        """Make a call for a request that equals none before."""
        call = self._call(seat, request, model, estimated)
        if not request.fresh:
            self._keys[model.name, key] = call.call
            self._key_of[call.call] = model.name, key
        self._seats[call.call] = [seat]
        self.book.enqueue(call)

    def _call(self, seat: Seat, request: ev.Request, model: ev.ModelFacts, estimated: int) -> Call:
        number, prompts = self.book.new_id(), self.prompts(model)
        prompt = request.prompt
        if request.schema is not None:
            form = json.dumps(request.schema, ensure_ascii=False)
            prompt = f"{prompt}\n\n{prompts.json_only}\n{form}"
        message, word = self.message(number, prompt, request.text, prompts)
        return Call(
            call=number,
            node=seat[0],
            batch=seat[1],
            position=seat[2],
            purpose="sub",
            model=model,
            messages=(message,),
            max_output_tokens=model.max_output_tokens,
            temperature=None if request.fresh else prompts.temperature,
            fence=word,
            schema=request.schema,
            fresh=request.fresh,
            estimated=estimated,
            expected=self._expected(estimated, model),
        )

    def message(
        self, call: CallId, prompt: str, text: str | None, prompts: SubPrompts
    ) -> tuple[Message, str]:
        """Write what a sub-model is told, and the word that fences the material in it."""
        if text is None:
            return Message("user", prompt), ""
        word = fences.nonce(self.seed, "sub", call)
        content = f"{prompt}\n\n{fences.data(text, word)}\n{prompts.data_remark}"
        return Message("user", content), word

    def amounts(
        self, requests: Sequence[ev.Request], model: ev.ModelFacts, extra_tokens: int = 0
    ) -> list[Amount]:
        """Tell what each request is expected to cost. `extra_tokens` is what a prompt has beside
        what is asked.
        """
        return [self._expected(one + extra_tokens, model) for one in estimated(requests)]

    def price(self, amounts: Sequence[Amount], items: Sequence[int] = ()) -> Amount:
        """See whether calls are expected to fit beside what is under way, and add them up.

        `items` says how many items each of them serves, where that is not one.

        Raises:
            BatchRefused: with what it would cost, what is left and how many would fit.
        """
        total, fit = NOTHING, 0
        refusal: LimitReached | None = None
        promised = self.book.expected_open()
        for number, amount in enumerate(amounts):
            total += amount
            if refusal is not None:
                continue
            try:
                self.book.ledger.check(total, promised=promised)
                fit += items[number] if items else 1
            except LimitReached as error:
                refusal = error
        if refusal is not None:
            size = sum(items) if items else len(amounts)
            raise BatchRefused(refusal, size=size, fit=fit, total=total)
        return total

    def to_be_paid(
        self, requests: Sequence[ev.Request], model: ev.ModelFacts, keys: Sequence[bytes]
    ) -> list[ev.Request]:
        """Leave out what equals an earlier call, or one of the same batch."""
        seen: set[Key] = set()
        paid: list[ev.Request] = []
        for request, given in zip(requests, keys, strict=True):
            key = model.name, given
            if request.fresh or (key not in self._keys and key not in seen):
                paid.append(request)
            if not request.fresh:
                seen.add(key)
        return paid

    def _expected(self, estimated: int, model: ev.ModelFacts) -> Amount:
        prompt = self.book.calibration.expected(model.name, estimated)
        return pricing.ordinary(model, prompt, self.book.expected_output(model))

    def _forget(self, call: CallId) -> None:
        key = self._key_of.pop(call, None)
        if key is not None:
            del self._keys[key]


def labelled(results: Sequence[Result | None], prompts: Sequence[str]) -> list[Result]:
    """Say of results what was asked; leave out those that have not come."""
    pairs = zip_longest(results, prompts)
    return [structs.replace(one, asked=prompt or "") for one, prompt in pairs if one is not None]


class BatchRefused(LimitReached):
    """A batch is expected to cost more than is left. Nothing of it was sent."""

    def __init__(self, cause: LimitReached, *, size: int, fit: int, total: Amount) -> None:
        super().__init__(
            cause.limit,
            used=cause.used,
            asked=cause.asked,
            ceiling=cause.ceiling,
            spent=cause.spent,
        )
        self.size = size
        self.fit = fit
        self.total = total


def refusal_failure(refused: BatchRefused) -> ev.Failure:
    """Tell the model what its batch would cost, what is left, and how many would fit."""
    cost = f"about {refused.total.tokens:,} tokens"
    if refused.total.usd_micro:
        cost += f", ${refused.total.usd_micro / 1e6:.4f}"
    left = max(0, refused.ceiling - refused.used)
    leaves = f"${left / 1e6:.4f}" if refused.limit == "max_usd" else f"{left:,}"
    what = f"{refused.total.calls:,} calls"
    if refused.size != refused.total.calls:
        what = f"{refused.size:,} items in {what}"
    message = (
        f"nothing was sent: {what} are expected to cost {cost}, "
        f"but {refused.limit} leaves {leaves}; {refused.fit:,} of them would fit: "
        "give fewer, or put more into each call"
    )
    total = {"max_calls": refused.total.calls, "max_tokens": refused.total.tokens}
    refusal = ev.Refusal(
        limit=refused.limit,
        used=refused.used,
        asked=total.get(refused.limit, refused.total.usd_micro),
        ceiling=refused.ceiling,
        fit=refused.fit,
    )
    return ev.Failure(fault="limit", message=message, refusal=refusal)


def limit_failure(refusal: LimitReached) -> ev.Failure:
    """Say which ceiling stopped a call."""
    return ev.Failure(fault="limit", message=f"the call was not made: {refusal}")


def _cut_off(tokens_most: int) -> ev.Failure:
    message = (
        f"the reply was cut off at {tokens_most:,} output tokens: ask for less in one call "
        "(what came is in `calls`)"
    )
    return ev.Failure(fault="output_cap", message=message)


def _bad_shape(wrong: str) -> ev.Failure:
    message = f"the reply does not fit the schema, told so {MAX_REPAIRS} times: {wrong}"
    return ev.Failure(fault="bad_shape", message=message)


def estimated(requests: Sequence[ev.Request]) -> list[int]:
    """Estimate the tokens of each prompt."""
    return tokens.estimate_each(
        [
            one.prompt + (one.text or "") + ("" if one.schema is None else json.dumps(one.schema))
            for one in requests
        ]
    )
