"""What guests ask for: refused, priced, confirmed, admitted; children opened and cut off.

Decides whether a batch may begin, and which nodes there are below a node.
Invariants: a batch is answered at most once, with one result a request or one refusal;
a child lives only while its parent's cell runs; nothing is sent or opened for a batch
that was refused.

Does not decide what a node does next (`machine`) or what an attempt costs (`calls`).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from abyme.core import events as ev
from abyme.core import recall, wanted
from abyme.core.calls import Call, CallBook
from abyme.core.effects import (
    AnswerBatch,
    AnyEffect,
    Asked,
    Budget,
    CancelCall,
    CloseSession,
    Confirm,
    EndCell,
    Result,
)
from abyme.core.fanout import BatchRefused, Fanout, Seat, labelled, refusal_failure
from abyme.core.ids import ROOT, BatchId, CallId, NodeId
from abyme.core.ledger import NOTHING, Amount
from abyme.core.machine import Done, Machine, State
from abyme.core.nodes import Node, Nodes, context_of, opening, reopening
from abyme.core.planned import Planned
from abyme.core.profile import Profile, SubPrompts

Effects = list[AnyEffect]

NO_CALL = CallId(0)
"""Of a price: nothing was called."""
MAX_REFUSALS = 1_000
"""Batches of one cell that may be refused before it is ended."""
CHILD_TOKENS = 2_500
"""Of a child's first prompt beside its question: system text, examples, preview."""


@dataclass(slots=True)
class SubCalls:
    """Sub-calls and children of the whole run."""

    started: ev.RunStarted
    book: CallBook
    budget: Callable[[Node], Budget]
    fanout: Fanout = field(init=False)
    planned: Planned = field(init=False)
    nodes: Nodes = field(default_factory=Nodes)
    ending: bool = False
    """The run is coming to its end: nothing new may begin."""
    refused_chars: int = 0
    """Text of batches that were refused, or asked for a price alone: it costs no money, but room
    in the journal."""
    unasked_usd_micro: int = 0
    """What batches since the user's last word are expected to cost."""
    _unconfirmed: dict[tuple[NodeId, BatchId], ev.CallsRequested] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fanout = Fanout(self.book, self.started.seed, self.prompts)
        self.planned = Planned(self.book, self.fanout, self.prompts)

    # -- batches -----------------------------------------------------------------

    def requested(self, node: Node, event: ev.CallsRequested) -> Effects:
        """Take a batch in."""
        event = wanted.meant(self.started, event)
        keys = recall.keys(event)
        if (known := node.known.whole(keys)) is not None:
            return [self._reply(node, event.batch, known, wanted.beginnings(event))]
        if event.unread:
            return self._refuse(node, event, wanted.UNREAD)
        if not event.requests:
            return [self._reply(node, event.batch, Asked(keys=keys))]
        if event.task is not None and event.task.price_only:
            return self._tell_price(node, event)
        return self._consider(node, event)

    def _consider(self, node: Node, event: ev.CallsRequested) -> Effects:
        """Begin a batch, refuse it, or let the user be asked."""
        expected = self._admissible(node, event)
        if isinstance(expected, ev.Failure):
            return self._refuse(node, event, expected)
        unasked = self.unasked_usd_micro + expected.usd_micro
        ask_above = self.started.limits.confirm_usd_micro
        if ask_above is not None and expected.usd_micro and unasked > ask_above:
            self._unconfirmed[node.id, event.batch] = event
            return [
                Confirm(
                    node=node.id,
                    batch=event.batch,
                    calls=expected.calls,
                    usd_micro=expected.usd_micro,
                )
            ]
        self.unasked_usd_micro = unasked
        return self._admit(node, event)

    def _tell_price(self, node: Node, event: ev.CallsRequested) -> Effects:
        """Answer with what a task is expected to cost; it may be more than there is."""
        if (refused := self._refusal(node, event)) is not None:
            return self._refuse(node, event, refused)
        keys = recall.keys(event)
        plan = self.planned.plan(node.id, event, wanted.model_of(self.started, event))
        self.planned.forget(node.id, event.batch)
        total = sum(plan.amounts, NOTHING)
        price = {"calls": total.calls, "tokens": total.tokens, "usd": total.usd_micro / 1e6}
        told = Result(call=NO_CALL, text=json.dumps(price))
        self.refused_chars += wanted.chars(event)
        return [self._reply(node, event.batch, Asked(keys=keys, results=(told,)))]

    def confirmed(self, node: Node, event: ev.BatchConfirmed) -> Effects:
        """Hear what the user said of a batch; of one whose cell is over nothing follows."""
        asked = self._unconfirmed.pop((node.id, event.batch), None)
        if asked is None:
            return []
        if not event.allowed:
            return self._refuse(node, asked, wanted.DECLINED)
        self.unasked_usd_micro = 0
        expected = self._admissible(node, asked)
        if isinstance(expected, ev.Failure):
            return self._refuse(node, asked, expected)
        return self._admit(node, asked)

    def would_refuse(self, node: Node, event: ev.CallsRequested) -> bool:
        """Tell whether a batch would be refused if it were taken in now."""
        if node.known.has_whole(recall.keys(event)):
            return False
        only_asks = event.task is not None and event.task.price_only  # it brings no call either
        return only_asks or isinstance(self._admissible(node, event), ev.Failure)

    def _admissible(self, node: Node, event: ev.CallsRequested) -> Amount | ev.Failure:
        """Tell what a batch is expected to cost, or why it may not begin."""
        refused = self._refusal(node, event)
        if refused is not None:
            return refused
        try:
            return self._price(node, event)
        except BatchRefused as refusal:
            return refusal_failure(refusal)

    def replied(self, call: Call, event: ev.CallSettled) -> None:
        """Take the reply of a sub-call in."""
        if self.planned.owns(call.call):
            self.planned.replied(call, event)
        else:
            self.fanout.replied(call, event)

    def failed(self, call: CallId, failure: ev.Failure) -> None:
        """Take in that a sub-call brought nothing, and is not made again."""
        if self.planned.owns(call):
            self.planned.failed(call, failure)
        else:
            self.fanout.settle(call, Result(call=call, failure=failure))

    def answers(self) -> Effects:
        """Answer the batches that miss nothing any more."""
        return [
            self._reply(self.nodes[batch.node], batch.batch, batch.asked(), batch.prompts)
            for batch in self.fanout.complete()
        ]

    def _admit(self, node: Node, event: ev.CallsRequested) -> Effects:
        keys, effects = recall.keys(event), Effects()
        if event.purpose == "rlm":
            effects = self._children(node, event, keys)
        elif event.task is not None:
            self.planned.admit(node.id, event, keys)
        else:
            model = wanted.model_of(self.started, event)
            self.fanout.admit(node.id, event, model, keys, node.known)
        self.fanout.batches[node.id, event.batch].prompts = wanted.beginnings(event)
        return effects

    def _price(self, node: Node, event: ev.CallsRequested) -> Amount:
        """Expect a cost for what is not known yet."""
        keys, model = recall.keys(event), wanted.model_of(self.started, event)
        if event.task is not None:
            plan = self.planned.plan(node.id, event, model)
            return self.fanout.price(plan.amounts, plan.items if event.purpose == "map" else ())
        new = node.known.missing(keys)
        requests = [event.requests[position] for position in new]
        if event.purpose == "rlm":
            return self.fanout.price(self.fanout.amounts(requests, model, CHILD_TOKENS))
        paid = self.fanout.to_be_paid(requests, model, [keys[position] for position in new])
        return self.fanout.price(self.fanout.amounts(paid, model))

    def _refuse(self, node: Node, event: ev.CallsRequested, refused: ev.Failure) -> Effects:
        """Answer a batch with a refusal. A cell that takes no notice of a thousand is ended."""
        self.refused_chars += wanted.chars(event)
        node.refusals += 1
        self.planned.forget(node.id, event.batch)
        effects: Effects = [
            self._reply(node, event.batch, Asked(keys=recall.keys(event), refused=refused))
        ]
        if node.refusals == MAX_REFUSALS:
            effects.append(EndCell(node=node.id, why="refused_calls"))
        return effects

    def _reply(
        self, node: Node, batch: BatchId, asked: Asked, prompts: Sequence[str] = ()
    ) -> AnswerBatch:
        node.asked.append(asked)
        results = labelled(asked.results, prompts)
        node.results += [result for result in results if result.call != NO_CALL]
        return AnswerBatch(
            node=node.id,
            batch=batch,
            results=asked.results,
            refused=asked.refused,
            budget=self.budget(node),
        )

    def _refusal(self, node: Node, event: ev.CallsRequested) -> ev.Failure | None:
        """Say why a batch may not begin at all; its price is looked at afterwards."""
        if self.ending:
            return wanted.ENDING
        return wanted.refusal(self.started, node.depth, event)

    def prompts(self, model: ev.ModelFacts) -> SubPrompts:
        """Tell how a model is spoken to in a sub-call."""
        return self._profile(model).sub

    def _profile(self, model: ev.ModelFacts) -> Profile:
        started = self.started
        mine = started.profile if model == started.root else None
        return mine or started.sub_profile or started.profile

    # -- children ----------------------------------------------------------------

    def root(self) -> Node:
        """Make the root."""
        started = self.started
        machine = self._machine(ROOT, started.question, started.preview, started.root)
        machine.schema = started.answer_schema
        node = Node(ROOT, machine, started.root)
        self.nodes.add(node)
        return node

    def _machine(
        self, node_id: NodeId, question: str, preview: str, model: ev.ModelFacts
    ) -> Machine:
        started = self.started
        return Machine(
            node=node_id,
            question=question,
            preview=preview,
            profile=self._profile(model),
            max_turns=started.limits.max_turns,
            sub=started.sub,
            cell_s=started.limits.cell_timeout_s,
            seed=started.seed,
            model=model,
        )

    def _children(self, node: Node, event: ev.CallsRequested, keys: Sequence[bytes]) -> Effects:
        self.fanout.open(node.id, event.batch, keys)
        model = wanted.model_of(self.started, event)
        effects: Effects = []
        for position, (request, key) in enumerate(zip(event.requests, keys, strict=True)):
            seat = (node.id, event.batch, position)
            if isinstance(had := node.known.one(key), Result):
                self.fanout.place(seat, had)
            elif had is not None:
                effects += self._unpark(had, seat)
            elif self.nodes.is_cycle(node, request):
                message = (
                    "this is what you, or one above you, were asked on the same input: "
                    "ask about a part of it"
                )
                failure = ev.Failure(fault="cycle", message=message)
                self.fanout.place(seat, Result(call=self.book.new_id(), failure=failure))
            else:
                self.nodes.wait(self._child(node, request, seat, key, model))
        return effects + self.open_children()

    def _child(
        self, node: Node, request: ev.Request, seat: Seat, key: bytes, model: ev.ModelFacts
    ) -> Node:
        child_id = NodeId(f"{node.id}.{node.children}")
        node.children += 1
        machine = self._machine(child_id, request.prompt, node.machine.preview, model)
        child = Node(child_id, machine, model, asked_as=key)
        child.depth, child.seat, child.call = node.depth + 1, seat, self.book.new_id()
        child.context, child.of = context_of(node, request)
        return child

    def open_children(self) -> Effects:
        """Give a REPL to children that have waited for a place."""
        return [opening(node) for node in self.nodes.admitted()]

    def ended(self, node: Node, done: Done) -> Effects:
        """Bring a child's answer to its parent."""
        assert node.seat is not None
        self.fanout.place(node.seat, _child_result(node.call, done))
        end = ev.ChildEnded(status=done.status, value=done.value, reason=done.reason)
        return [*self._drop(node.id, end), *self.open_children()]

    def cell_over(self, node: Node, event: ev.CellFinished | ev.SessionLost) -> Effects:
        """Drop what the cell had under way; remember what an undone cell was answered."""
        late = self.fanout.had(node.id)
        effects = self.cancel(node.id, self._abandon(node.id))
        effects += self._cut_off_below(node.id)
        for key in [key for key in self._unconfirmed if key[0] == node.id]:
            del self._unconfirmed[key]
        node.cell_over(event, late)
        return effects + self.open_children()

    def _abandon(self, node_id: NodeId) -> list[CallId]:
        orphans = self.fanout.abandon(node_id)
        self.planned.abandon(node_id)
        return orphans

    def cancel(self, node_id: NodeId, calls: list[CallId]) -> Effects:
        """Drop attempts that nobody waits for any more."""
        for call in calls:
            self.book.cancel(call)
        return [CancelCall(node=node_id, call=call) for call in calls]

    def _cut_off(self, node: Node) -> Effects:
        """End a child and everything below it: its parent no longer waits."""
        effects = self._cut_off_below(node.id)
        self.book.forget_turns(node.id)
        turns = [call.call for call in self.book.of(node.id) if call.purpose == "turn"]
        effects += self.cancel(node.id, sorted({*turns, *self._abandon(node.id)}))
        node.machine.state = State.DONE
        reason = "its parent's cell ended first"
        end = ev.ChildEnded(status="cut_off", value=node.machine.held.value, reason=reason)
        return [*effects, *self._drop(node.id, end)]

    def _cut_off_below(self, parent: NodeId) -> Effects:
        self.nodes.forget_waiting(parent)
        return [effect for child in self.nodes.below(parent) for effect in self._cut_off(child)]

    def _drop(self, node_id: NodeId, end: ev.ChildEnded) -> Effects:
        self.nodes.drop(node_id)
        return [CloseSession(node=node_id, ended=end)]

    # -- after a kill ------------------------------------------------------------

    def restart(self, started: ev.RunStarted) -> Effects:
        """Go on in another process: the root's REPL is rebuilt, children wait to be claimed."""
        self.started = started
        batches = list(self.fanout.batches.values())
        self.fanout.restart()
        self.planned.restart()
        self.nodes.restart()
        self._unconfirmed.clear()
        effects: Effects = []
        for node in [self.nodes[node_id] for node_id in self.nodes]:
            node.machine.max_turns = started.limits.max_turns
            if node.parked:
                continue  # since the kill before this one
            if node.machine.state is State.RUNNING:
                node.cell_again()
            if node.seat is None:
                effects.append(reopening(node))
            elif node.machine.resumable:
                node.parked = True
                self.nodes[node.seat[0]].known.add(node.asked_as, node.id)
            else:
                self.nodes.drop(node.id)
        for batch in batches:
            for key, result in batch.had():
                if result.failure is None:
                    self.nodes[batch.node].known.add(key, result)
        return effects

    def _unpark(self, node_id: NodeId, seat: Seat) -> Effects:
        node = self.nodes[node_id]
        node.seat, node.parked = seat, False
        return [reopening(node)]


def _child_result(call: CallId, done: Done) -> Result:
    if done.value is None:
        message = f"the child ended without an answer: {done.reason or done.status}"
        return Result(call=call, failure=ev.Failure(fault="child_failed", message=message))
    value = done.value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Result(call=call, text=text)
