"""Planned batches: one request of a guest that becomes many calls, one after another.

Decides which calls a job (`maps`, `reduces`) may make, what they are expected to cost, and
what is taken from earlier ones. Invariants: a job begins only when all of it is expected to
fit; every seat of its batch gets exactly one result, whatever fails; what was paid for once
is not asked again, in this process or after a kill.

Does not decide how items are packed or replies are read: that is the job's.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class Plan:
    """A job that has not begun."""

    job: Job
    first: Moves
    scope: str
    """Within it equal asks are one; another one for each task that is `fresh`."""
    model: ev.ModelFacts
    amounts: list[Amount]
    """Expected of each call, in order; nothing for one that is answered already."""
    items: list[int]
    """Items that each of them serves."""


@dataclass(slots=True)
class Planned:
    """Jobs of the whole run."""

    book: CallBook
    fanout: Fanout
    prompts: Callable[[ev.ModelFacts], SubPrompts]
    _plans: dict[BatchKey, Plan] = field(default_factory=dict)
    _running: dict[BatchKey, Plan] = field(default_factory=dict)
    _takers: dict[CallId, list[tuple[BatchKey, Ask]]] = field(default_factory=dict)
    """Who waits for a call."""
    _key_of: dict[CallId, bytes] = field(default_factory=dict)
    _under_way: dict[bytes, CallId] = field(default_factory=dict)
    _replies: dict[bytes, Reply] = field(default_factory=dict)
    """What was paid for, by `_key`."""
    _items: dict[bytes, Result] = field(default_factory=dict)
    """Items of `map` that have their value, by scope and `recall.key`."""
    _fresh: Counter[tuple[NodeId, int, bytes]] = field(default_factory=Counter)
    """How often each task that is `fresh` was asked for in the running cell."""

    def plan(self, node: NodeId, event: ev.CallsRequested, model: ev.ModelFacts) -> Plan:
        """Plan a batch, or give the plan that was made of it."""
        at = node, event.batch
        if at not in self._plans:
            assert event.task is not None
            keys = recall.item_keys(event)
            scope = self._scope(node, event, keys) if event.task.fresh else ""
            known: dict[int, Result] = {}
            if event.purpose == "map":
                found = (self._items.get(scope.encode() + key) for key in keys)
                known = {place: result for place, result in enumerate(found) if result is not None}
            job = self._job(event, event.task, model, known)
            self._plans[at] = self._plan(job, model, known, scope)
        return self._plans[at]

    def _job(
        self,
        event: ev.CallsRequested,
        task: ev.Task,
        model: ev.ModelFacts,
        known: dict[int, Result],
    ) -> Job:
        from abyme.core.maps import MapJob  # noqa: PLC0415  15 ms, for those who map
        from abyme.core.reduces import ReduceJob  # noqa: PLC0415

        texts, prompts = [request.prompt for request in event.requests], self.prompts(model)
        if event.purpose == "map":
            return MapJob(texts, task, model, prompts, known)
        return ReduceJob(texts, task, model, prompts)

    def _plan(self, job: Job, model: ev.ModelFacts, known: dict[int, Result], scope: str) -> Plan:
        moves = job.begin()
        first = Moves(moves.asks, [*known.items(), *moves.results])
        had = [_key(scope, model, ask) in self._replies for ask in first.asks]
        amounts, items = [], []
        for number, one in enumerate(job.expected()):
            ask = first.asks[number] if number < len(first.asks) else None
            answered = ask is not None and had[number]
            amounts.append(NOTHING if answered else self._expected(model, one, _form(ask)))
            items.append(len(ask.positions) if ask is not None else 0)
        return Plan(job, first, scope, model, amounts, items)

    def forget(self, node: NodeId, batch: BatchId) -> None:
        """Drop a plan that will not begin."""
        self._plans.pop((node, batch), None)

    def admit(self, node: NodeId, event: ev.CallsRequested, keys: Sequence[bytes]) -> None:
        """Begin what was planned."""
        at = node, event.batch
        plan = self._plans.pop(at)
        self._running[at] = plan
        self.fanout.open(node, event.batch, keys)
        self._follow(at, plan.first)

    def owns(self, call: CallId) -> bool:
        """Tell whether a call is one of a job."""
        return call in self._takers

    def replied(self, call: Call, event: ev.CallSettled) -> None:
        """Bring a reply to the jobs that wait for it."""
        text = fences.strip(event.text, call.fence)
        doubts = event.doubts if text == event.text else None
        reply = Reply(call=call.call, text=text, cut=event.finish == "length", doubts=doubts)
        key, takers = self._close(call.call)
        self._replies[key] = reply
        for at, ask in takers:
            if (plan := self._running.get(at)) is not None:
                self._follow(at, plan.job.replied(ask, reply))

    def failed(self, call: CallId, failure: ev.Failure) -> None:
        """Tell the jobs that wait for a call that it brought nothing."""
        _, takers = self._close(call)
        for at, ask in takers:
            if (plan := self._running.get(at)) is not None:
                self._follow(at, plan.job.failed(ask, call, failure))

    def abandon(self, node: NodeId) -> None:
        """Forget a node's jobs, after `Fanout.abandon`; what was paid for stays known."""
        for jobs in (self._plans, self._running):
            for at in [at for at in jobs if at[0] == node]:
                del jobs[at]
        for call, takers in list(self._takers.items()):
            takers[:] = [taker for taker in takers if taker[0][0] != node]
            if not takers:
                self._close(call)

    def restart(self) -> None:
        """Forget what is under way: the process that waited for it is gone."""
        for jobs in (self._plans, self._running, self._takers, self._key_of, self._under_way):
            jobs.clear()
        self._fresh.clear()

    # -- calls -------------------------------------------------------------------

    def _follow(self, at: BatchKey, moves: Moves) -> None:
        """Do what a job wants; asks that have been answered are answered at once."""
        plan, todo = self._running[at], [moves]
        while todo:
            move = todo.pop(0)
            self._place(at, plan, move.results)
            for ask in move.asks:
                key = _key(plan.scope, plan.model, ask)
                if (reply := self._replies.get(key)) is not None:
                    todo.append(plan.job.replied(ask, reply))
                else:
                    self._ask(at, plan, ask, key)

    def _place(self, at: BatchKey, plan: Plan, results: Sequence[tuple[int, Result]]) -> None:
        batch = self.fanout.batches.get(at)
        for position, result in results:
            if batch is not None and result.failure is None:
                self._items[plan.scope.encode() + batch.keys[position]] = result
            self.fanout.place((*at, position), result)
        if batch is None or not batch.missing:
            self._running.pop(at, None)

    def _ask(self, at: BatchKey, plan: Plan, ask: Ask, key: bytes) -> None:
        number = self._under_way.get(key)
        if number is None:
            call = self._call(at, plan.model, ask, fresh=bool(plan.scope))
            number = self._under_way[key] = call.call
            self._key_of[number], self._takers[number] = key, []
            self.book.enqueue(call)
        self._takers[number].append((at, ask))
        self.fanout.seat(number, [(*at, position) for position in ask.positions])

    def _call(self, at: BatchKey, model: ev.ModelFacts, ask: Ask, *, fresh: bool) -> Call:
        number, prompts = self.book.new_id(), self.prompts(model)
        message, word = self.fanout.message(number, ask.prompt, ask.text, prompts)
        estimated = tokens.estimate(message.content)
        return Call(
            call=number,
            node=at[0],
            batch=at[1],
            position=ask.positions[0],
            purpose="sub",
            model=model,
            messages=(message,),
            max_output_tokens=model.max_output_tokens,
            temperature=None,
            fence=word,
            form=ask.form,
            logprobs=ask.logprobs,
            fresh=fresh or ask.sample > 0,
            estimated=estimated,
            expected=self._expected(model, Expected(estimated, ask.output_tokens), _form(ask)),
        )

    def _close(self, call: CallId) -> tuple[bytes, list[tuple[BatchKey, Ask]]]:
        key = self._key_of.pop(call)
        del self._under_way[key]
        self.fanout.unseat(call)
        return key, self._takers.pop(call)

    def _expected(self, model: ev.ModelFacts, one: Expected, form: str) -> Amount:
        """Expect a call's cost; some providers count the form as a part of the prompt."""
        prompt = self.book.calibration.expected(model.name, one.prompt_tokens)
        return pricing.ordinary(model, prompt + tokens.estimate(form), one.output_tokens)

    def _scope(self, node: NodeId, event: ev.CallsRequested, keys: Sequence[bytes]) -> str:
        """Name the occurrence of a task that is `fresh`, the same when its cell is run again."""
        asked = hashlib.blake2b(b"".join(keys), digest_size=16).digest()
        self._fresh[node, event.cell, asked] += 1
        return f"{node} {event.cell} {asked.hex()} {self._fresh[node, event.cell, asked]} "


def _form(ask: Ask | None) -> str:
    return "" if ask is None or ask.form is None else json.dumps(ask.form)


def _key(scope: str, model: ev.ModelFacts, ask: Ask) -> bytes:
    """Digest of an ask: the same one asks for the same thing."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (scope, model.name, ask.prompt, ask.text, str(ask.sample)):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()
