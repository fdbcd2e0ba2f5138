"""Planned batches: one request of a guest that becomes many calls, one after another.

Decides which calls a job (`maps`, `reduces`) may make, what they are expected to cost, and
what is taken from earlier ones. Invariants: a job begins only when all of it is expected to
fit; every seat of its batch gets exactly one result, whatever fails; equal batches that are
under way are one; what a job has paid for is not asked again after a kill. Calls are made
`MOST_OUT` at a time: what is not made yet costs no memory, but stays promised.

What a job could not use ends with it: an item that failed is asked anew when it comes again.

Does not decide how items are packed or replies are read: that is the job's.
"""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from abyme.core import events as ev
from abyme.core import fences, pricing, recall, tokens
from abyme.core.calls import Call, CallBook
from abyme.core.effects import Result
from abyme.core.fanout import Fanout
from abyme.core.ids import BatchId, CallId, NodeId
from abyme.core.jobs import Ask, Expected, Job, Moves, Reply
from abyme.core.ledger import NOTHING, Amount
from abyme.core.profile import SubPrompts

BatchKey = tuple[NodeId, BatchId]
MOST_OUT: Final = 512
"""Calls of a job that are made, or wait to be, at a time: what they say takes memory."""


@dataclass(slots=True, eq=False)
class Plan:
    """A job: planned, begun, or cut off by a kill."""

    name: bytes
    """Equal batches have the same; each that is `fresh` has its own."""
    node: NodeId
    """That asked for it first."""
    job: Job
    scope: str
    """Within it equal asks are one; another one for each task that is `fresh`."""
    model: ev.ModelFacts
    keys: tuple[bytes, ...]
    """Of each seat, what its result is known by to later batches."""
    rest: Iterator[Ask]
    """What can be asked and was not yet."""
    results: dict[int, Result]
    """By seat, so far."""
    keeps_replies: bool
    """What comes of use is known to later jobs."""
    first: deque[Ask] = field(default_factory=deque)
    """Asks that come before the `rest`."""
    out: dict[CallId, list[Ask]] = field(default_factory=dict)
    """Calls that it waits for."""
    batches: list[BatchKey] = field(default_factory=list)
    """That wait for it; none before it has begun, or after a kill."""
    promised: Amount = NOTHING
    """To be spent on calls that are not made yet: a share of the `whole` for each `left`."""
    whole: Amount = NOTHING
    left: int = 0
    amounts: list[Amount] = field(default_factory=list)
    """To expect of calls that are not made yet, in order."""
    items: list[int] = field(default_factory=list)
    """That each of these serves."""

    @property
    def complete(self) -> bool:
        """Whether every seat has its result."""
        return len(self.results) == len(self.keys)


@dataclass(slots=True)
class Planned:
    """Jobs of the whole run."""

    book: CallBook
    fanout: Fanout
    prompts: Callable[[ev.ModelFacts], SubPrompts]
    _plans: dict[BatchKey, Plan] = field(default_factory=dict)
    """Of batches that have not begun."""
    _begun: dict[bytes, Plan] = field(default_factory=dict)
    """By name, until they are complete."""
    _takers: dict[CallId, list[Plan]] = field(default_factory=dict)
    """Who waits for a call."""
    _key_of: dict[CallId, bytes] = field(default_factory=dict)
    _under_way: dict[bytes, CallId] = field(default_factory=dict)
    _results: dict[bytes, Result] = field(default_factory=dict)
    """What has its value, by scope and `recall.key`: items of a map, whole reductions."""
    _replies: dict[bytes, Reply] = field(default_factory=dict)
    """By `_key`, what came of use in a reduction: one that is made again may end otherwise."""
    _failed: set[bytes] = field(default_factory=set)
    """Keys of what replies were of no use for: no copy of them answers it later."""
    _fresh: Counter[tuple[NodeId, int, bytes]] = field(default_factory=Counter)
    """How often each task that is `fresh` was asked for in the running cell."""

    def plan(self, node: NodeId, event: ev.CallsRequested, model: ev.ModelFacts) -> Plan:
        """Plan a batch, or give the plan that was made of it, or of an equal one under way."""
        at = node, event.batch
        if at not in self._plans:
            assert event.task is not None
            keys = recall.item_keys(event)
            asked = hashlib.blake2b(b"".join(keys), digest_size=16)
            scope = self._scope(node, event, asked.digest()) if event.task.fresh else ""
            asked.update(f"{scope} {event.task.pack}".encode())
            plan = self._begun.get(asked.digest())
            if plan is None:
                name = asked.digest()
                plan = self._new(node, event, model, keys=keys, scope=scope, name=name)
            if not plan.batches:
                self._expect(plan)
            self._plans[at] = plan
        return self._plans[at]

    def _new(  # noqa: PLR0913 - what a plan is of
        self,
        node: NodeId,
        event: ev.CallsRequested,
        model: ev.ModelFacts,
        *,
        keys: Sequence[bytes],
        scope: str,
        name: bytes,
    ) -> Plan:
        from abyme.core.maps import MapJob  # noqa: PLC0415  15 ms, for those who map
        from abyme.core.reduces import ReduceJob  # noqa: PLC0415

        assert event.task is not None
        texts, prompts = [request.prompt for request in event.requests], self.prompts(model)
        is_map = event.purpose == "map"
        whole = hashlib.blake2b(b"whole" + b"".join(keys), digest_size=16).digest()
        seats = tuple(scope.encode() + key for key in (keys if is_map else [whole]))
        known = {n: self._results[key] for n, key in enumerate(seats) if key in self._results}
        job: Job
        if is_map:
            job = MapJob(texts, event.task, model, prompts, known)
        else:
            job = ReduceJob(texts if not known else [], event.task, model, prompts)
        moves = Moves() if len(known) == len(seats) else job.begin()
        plan = Plan(
            name=name,
            node=node,
            job=job,
            scope=scope,
            model=model,
            keys=seats,
            rest=iter(moves.asks),
            results=known | dict(moves.results),
            keeps_replies=not is_map,
        )
        if not is_map:
            plan.first.extend(plan.rest)  # which does not copy their texts
        return plan

    def _expect(self, plan: Plan) -> None:
        """Say what is to be expected of calls that are not made yet."""
        plan.amounts, plan.items = [], []
        if plan.complete:
            return
        forms: dict[int, int] = {}
        for ask in plan.first:
            one = Expected(ask.prompt_tokens, ask.output_tokens, ask.form)
            had = bool(self._replies) and _key(plan, ask, ask.text) in self._replies
            plan.amounts.append(NOTHING if had else self._expected(plan.model, one, forms))
            plan.items.append(len(ask.positions))
        alike: dict[tuple[int, int, int, int], Amount] = {}
        for one in plan.job.expected():
            kind = one.prompt_tokens, one.output_tokens, id(one.form), one.calls
            if kind not in alike:
                alike[kind] = self._expected(plan.model, one, forms)
            plan.amounts.append(alike[kind])
            plan.items.append(one.items)

    def forget(self, node: NodeId, batch: BatchId) -> None:
        """Drop a plan that will not begin."""
        self._plans.pop((node, batch), None)

    def admit(self, node: NodeId, event: ev.CallsRequested, keys: Sequence[bytes]) -> None:
        """Begin what was planned, or wait for an equal batch that has begun."""
        at = node, event.batch
        plan = self._plans.pop(at)
        plan = self._begun.setdefault(plan.name, plan)
        self.fanout.open(node, event.batch, keys)
        plan.batches.append(at)
        for position, result in plan.results.items():
            self.fanout.place((*at, position), result)
        for call, asks in plan.out.items():
            self.fanout.seat(call, [(*at, seat) for ask in asks for seat in ask.positions])
        if len(plan.batches) == 1:
            plan.whole = sum(plan.amounts, NOTHING)
            plan.left = plan.whole.calls
        self._feed(plan)

    def owns(self, call: CallId) -> bool:
        """Tell whether a call is one of a job."""
        return call in self._takers

    def replied(self, call: Call, event: ev.CallSettled) -> None:
        """Bring a reply to the jobs that wait for it."""
        text = fences.strip(event.text, call.fence)
        doubts = event.doubts if text == event.text else None
        reply = Reply(call=call.call, text=text, cut=event.finish == "length", doubts=doubts)
        key, takers = self._close(call.call)
        for plan in takers:
            asks = plan.out.pop(call.call)
            if plan.keeps_replies and not reply.cut and text.strip() and call.form is None:
                self._replies[key] = reply
            for ask in asks:
                self._follow(plan, plan.job.replied(ask, reply))

    def failed(self, call: CallId, failure: ev.Failure) -> None:
        """Tell the jobs that wait for a call that it brought nothing."""
        _, takers = self._close(call)
        for plan in takers:
            for ask in plan.out.pop(call):
                self._follow(plan, plan.job.failed(ask, call, failure))

    def abandon(self, node: NodeId) -> None:
        """Forget a node's jobs, after `Fanout.abandon`; what has its value stays known."""
        for at in [at for at in self._plans if at[0] == node]:
            del self._plans[at]
        for plan in list(self._begun.values()):
            if plan.batches or plan.node == node:
                plan.batches[:] = [at for at in plan.batches if at[0] != node]
                if not plan.batches:
                    self._drop(plan)

    def _drop(self, plan: Plan) -> None:
        """Wait for nothing any more; close the calls that nobody else waits for."""
        self._end(plan)
        for at in [at for at, planned in self._plans.items() if planned is plan]:
            del self._plans[at]
        for call in plan.out:
            self._takers[call].remove(plan)
            if not self._takers[call]:
                self._close(call)
        plan.out.clear()

    def restart(self) -> None:
        """Let jobs wait for those who ask for them again: the process that waited is gone."""
        for plans in (self._plans, self._takers, self._key_of, self._under_way):
            plans.clear()
        self._fresh.clear()
        for plan in self._begun.values():
            plan.first.extendleft(ask for asks in reversed(plan.out.values()) for ask in asks)
            plan.out.clear()
            plan.batches.clear()
            plan.promised = NOTHING

    # -- calls -------------------------------------------------------------------

    def _follow(self, plan: Plan, moves: Moves) -> None:
        """Do what a job wants."""
        self._take(plan, moves)
        self._feed(plan)

    def _take(self, plan: Plan, moves: Moves) -> None:
        plan.first.extend(moves.asks)
        for position, result in moves.results:
            plan.results[position] = result
            key = plan.keys[position]
            if result.failure is None:
                self._results[key] = result
            elif result.failure.fault == "bad_shape":
                self._failed.add(key)
            for at in plan.batches:
                self.fanout.place((*at, position), result)

    def _feed(self, plan: Plan) -> None:
        """Make the calls that there is room for; asks that have been answered are so at once."""
        while not plan.complete and len(plan.out) < MOST_OUT:
            ask = plan.first.popleft() if plan.first else next(plan.rest, None)
            if ask is None:
                break
            text = ask.text
            key = _key(plan, ask, text)
            if plan.keeps_replies and (reply := self._replies.get(key)) is not None:
                self._take(plan, plan.job.replied(ask, reply))
                continue
            self._ask(plan, ask, text, key)
            plan.left -= plan.left > 0 and not ask.again
        if plan.complete:
            self._end(plan)
        else:
            self._promise(plan, _share(plan.whole, plan.left))

    def _end(self, plan: Plan) -> None:
        """Make no more calls; those that were made are taken in when they come."""
        if self._begun.get(plan.name) is plan:
            del self._begun[plan.name]
        plan.first.clear()
        plan.rest = iter(())
        self._promise(plan, NOTHING)

    def _promise(self, plan: Plan, amount: Amount) -> None:
        self.book.promise(amount - plan.promised)
        plan.promised = amount

    def _ask(self, plan: Plan, ask: Ask, text: str, key: bytes) -> None:
        number = self._under_way.get(key)
        if number is None:
            call = self._call(plan, ask, text)
            number = self._under_way[key] = call.call
            self._key_of[number], self._takers[number] = key, []
            self.book.enqueue(call)
        if number not in plan.out:
            self._takers[number].append(plan)
        plan.out.setdefault(number, []).append(ask)
        seats = [(*at, position) for at in plan.batches for position in ask.positions]
        self.fanout.seat(number, seats)

    def _call(self, plan: Plan, ask: Ask, text: str) -> Call:
        at, model = plan.batches[0], plan.model
        number, prompts = self.book.new_id(), self.prompts(model)
        message, word = self.fanout.message(number, ask.prompt, text, prompts)
        estimated = tokens.estimate(message.content)
        useless = any(plan.keys[position] in self._failed for position in ask.positions)
        afresh = bool(plan.scope) or ask.sample > 0 or useless
        return Call(
            call=number,
            node=at[0],
            batch=at[1],
            position=ask.positions[0],
            purpose="sub",
            model=model,
            messages=(message,),
            max_output_tokens=model.max_output_tokens,
            temperature=None if afresh else prompts.temperature,
            fence=word,
            form=ask.form,
            logprobs=ask.logprobs,
            fresh=afresh,
            estimated=estimated,
            expected=self._expected(model, Expected(estimated, ask.output_tokens, ask.form), {}),
        )

    def _close(self, call: CallId) -> tuple[bytes, list[Plan]]:
        key = self._key_of.pop(call)
        del self._under_way[key]
        self.fanout.unseat(call)
        return key, self._takers.pop(call)

    def _expected(self, model: ev.ModelFacts, one: Expected, forms: dict[int, int]) -> Amount:
        """Expect what equal calls cost; some providers count the form as a part of the prompt.

        `forms` has the tokens of those that were seen already.
        """
        form = 0
        if one.form is not None:
            if id(one.form) not in forms:
                forms[id(one.form)] = tokens.estimate(json.dumps(one.form))
            form = forms[id(one.form)]
        prompt = self.book.calibration.expected(model.name, one.prompt_tokens)
        each = pricing.ordinary(model, prompt + form, one.output_tokens)
        count = one.calls
        return Amount(each.calls * count, each.tokens * count, each.usd_micro * count)

    def _scope(self, node: NodeId, event: ev.CallsRequested, asked: bytes) -> str:
        """Name the occurrence of a task that is `fresh`, the same when its cell is run again."""
        self._fresh[node, event.cell, asked] += 1
        return f"{node} {event.cell} {asked.hex()} {self._fresh[node, event.cell, asked]} "


def _share(whole: Amount, calls: int) -> Amount:
    """Tell what so many calls of a whole are expected to cost."""
    if not calls:
        return NOTHING
    tokens_ = whole.tokens * calls // whole.calls
    return Amount(calls, tokens_, whole.usd_micro * calls // whole.calls)


def _key(plan: Plan, ask: Ask, text: str) -> bytes:
    """Digest of an ask: the same one asks for the same thing."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (plan.scope, plan.model.name, ask.prompt, text, str(ask.sample)):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()
