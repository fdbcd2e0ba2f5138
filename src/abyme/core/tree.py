"""The run as a whole: records in, effects out.

Routes each record to its node, turns what nodes want into effects that the
ledger allows, opens and ends children, and meets the run's limits. The only
owner of the ledger.

Rule: same records in, same effects out. The only clock is `Record.at_s`.
Does not decide what a node does next (`machine`), what a batch may cost
(`fanout`) or whether an attempt is repeated (`calls`, `retry`).
"""

import json
from typing import Any, Literal

from abyme.core import events as ev
from abyme.core import pricing
from abyme.core.calls import Call, CallBook
from abyme.core.effects import (
    AnswerBatch,
    AnyEffect,
    Budget,
    CancelCall,
    CheckEvidence,
    CloseSession,
    EndCell,
    Finish,
    OpenSession,
    Result,
    RunCell,
)
from abyme.core.fanout import BatchRefused, Fanout, limit_failure, refusal_failure
from abyme.core.ids import ROOT, BatchId, CallId, NodeId
from abyme.core.ledger import Ledger
from abyme.core.machine import (
    Check,
    Done,
    IllegalTransition,
    Machine,
    Reopen,
    Run,
    State,
    Step,
    Think,
)
from abyme.core.nodes import Node, Nodes, context_of
from abyme.core.profile import Profile
from abyme.errors import LimitReached

Effects = list[AnyEffect]


class Tree:
    """One run."""

    def __init__(self, started: ev.RunStarted) -> None:
        self.started = started
        self.book = CallBook(Ledger(started.limits))
        self.finished: Finish | None = None
        self._fanout = Fanout(self.book, started.seed)
        self._nodes = Nodes()
        free = ev.Price(input_usd_micro=0, output_usd_micro=0)
        self._costs_money = {started.root.price, started.sub.price} != {free}
        self._at_s = 0.0
        self._stops = 0
        self._deadlines = 0

    def step(self, record: ev.Record) -> Effects:
        """Take one record in, say what to do about it."""
        self._at_s = record.at_s
        if self.finished is not None:
            return self._book_late(record.event)
        effects = self._route(record.node, record.event)
        effects += self._pump()
        for batch in self._fanout.complete():
            results = tuple(r for r in batch.results if r is not None)
            effects += self._answer(batch.node, batch.batch, results)
        if self.finished is not None:
            return [*self._shut_down(), self.finished]
        return effects

    def _pump(self) -> Effects:
        """Send what waits and fits; end what will never fit. Once a stop was asked for, only
        the root's closing turn is sent.
        """
        effects: Effects = []
        while True:
            only = ROOT if self._stops or self._deadlines else None
            sent, refused = self.book.pump(only=only)
            effects += sent
            if not refused:
                return effects
            for call, refusal in refused:
                effects += self._not_made(call, refusal)

    def _not_made(self, call: Call, refusal: LimitReached) -> Effects:
        self.book.drop(call)
        failure = call.failure or limit_failure(refusal)  # that of the last attempt stands
        if call.purpose != "turn":
            self._fanout.settle(call.call, Result(call=call.call, failure=failure))
            return []
        node = self._nodes.get(call.node)
        if node is None:
            return []
        if call.failure is not None:
            return self._of_node(call.node, ev.CallFailed(call=call.call, failure=failure))
        return self._perform(call.node, node, node.machine.close(str(refusal)))

    def draft(self) -> Any:
        """Tell what the root would answer if it had to stop now."""
        root = self._nodes.get(ROOT)
        return root.machine.held.value if root else None

    # -- routing -----------------------------------------------------------------

    def _book_late(self, event: ev.AnyEvent) -> Effects:
        """Account for attempts that were under way when the run ended; nothing follows."""
        if isinstance(event, ev.CallSettled):
            self.book.settled(event)
        elif isinstance(event, ev.CallFailed):
            self.book.failed(event)
        return []

    def _route(self, node_id: NodeId, event: ev.AnyEvent) -> Effects:  # noqa: PLR0911 - one a case
        match event:
            case ev.RunStarted():
                self._nodes.add(self._new_node(ROOT, event.question, event.preview))
                return [OpenSession(node=ROOT, context=None, of=ROOT)]
            case ev.CallReserved():
                return []
            case ev.CallSettled():
                return self._settled(event)
            case ev.CallFailed():
                return self._failed(event)
            case ev.DeadlinePassed(final=final):
                return self._deadline(final=final)
            case ev.StopRequested():
                return self._stop()
            case ev.RunFinished():
                raise IllegalTransition("RunFinished before Finish")
            case _:
                return self._of_node(node_id, event)

    def _of_node(self, node_id: NodeId, event: ev.AnyEvent) -> Effects:
        node = self._nodes.get(node_id)
        if node is None or node.machine.state is State.DONE:
            return []  # a late word of a child that was cut off
        machine = node.machine
        effects: Effects = []
        if isinstance(event, ev.CellFinished | ev.SessionLost):
            effects += self._cell_over(node_id, node, event)
        step = machine.step(event, self._budget(node))
        if isinstance(event, ev.CallsRequested):
            return self._requested(node_id, node, event)
        return effects + self._perform(node_id, node, step)

    def _perform(self, node_id: NodeId, node: Node, step: Step | None) -> Effects:
        match step:
            case None:
                return []
            case Think():
                return self._think(node_id, step)
            case Run(cell=cell, code=code):
                node.of_cell = len(node.results)
                restore = node.restore  # until a cell commits: it may be rolled back again
                budget = self._budget(node)
                return [RunCell(node=node_id, cell=cell, code=code, restore=restore, budget=budget)]
            case Check(evidence=evidence):
                return [CheckEvidence(node=node_id, evidence=evidence)]
            case Reopen():
                node.restore = tuple(node.results)
                return [CloseSession(node=node_id), _opening(node)]
            case Done():
                return self._ended(node_id, node, step)

    # -- turns -------------------------------------------------------------------

    def _think(self, node_id: NodeId, step: Think) -> Effects:
        profile, model = self.started.profile, self.started.root
        if node_id == ROOT:
            self.book.set_aside_for(step.messages, model, profile)
        call = Call(
            call=self.book.new_id(),
            node=node_id,
            purpose="turn",
            model=model,
            messages=step.messages,
            max_output_tokens=_output_tokens(profile, model, closing=step.closing),
            temperature=profile.temperature,
            prefill=profile.prefill,
            stop=tuple(profile.stop),
            closing=step.closing and node_id == ROOT,
        )
        self.book.enqueue(call, first=True)
        return []

    def _settled(self, event: ev.CallSettled) -> Effects:
        call = self.book.settled(event)
        if call is None:
            return []
        if call.purpose == "turn":
            return self._of_node(call.node, event)
        self._fanout.replied(call, event.text)
        return []

    def _failed(self, event: ev.CallFailed) -> Effects:
        call, delay_s = self.book.failed(event)
        if call is None:
            return []
        if call.purpose == "turn":
            return self._turn_failed(call, event, delay_s)
        if delay_s is None:
            self.book.drop(call)
            self._fanout.settle(call.call, Result(call=call.call, failure=event.failure))
            return []
        self._again(call, event, delay_s)
        return []

    def _turn_failed(self, call: Call, event: ev.CallFailed, delay_s: float | None) -> Effects:
        if delay_s is None:
            return self._of_node(call.node, event)
        self._again(call, event, delay_s)
        return []

    def _again(self, call: Call, event: ev.CallFailed, delay_s: float) -> None:
        """Put a failed call in line for another attempt; if none fits, its failure stands."""
        call.failure, call.delay_s = event.failure, delay_s
        self.book.enqueue(call, first=True)

    # -- sub-calls ---------------------------------------------------------------

    def _requested(self, node_id: NodeId, node: Node, event: ev.CallsRequested) -> Effects:
        refused = self._refusal(node, event)
        if refused is None and not event.requests:
            return self._answer(node_id, event.batch, ())
        if refused is None:
            try:
                if event.purpose == "rlm":
                    self._fanout.price(event.requests, self.started.root)
                    return self._children(node, event)
                self._fanout.admit(node_id, event, self._model(event.requests[0]))
            except BatchRefused as refusal:
                refused = refusal_failure(refusal)
        if refused is None:
            return []
        return [
            AnswerBatch(node=node_id, batch=event.batch, refused=refused, budget=self._budget(node))
        ]

    def _refusal(self, node: Node, event: ev.CallsRequested) -> ev.Failure | None:
        """Say why a batch may not begin at all; its price is looked at afterwards."""
        if self._stops or self._deadlines:
            return ev.Failure(fault="cancelled", message="the run is ending; submit what you hold")
        limits = self.started.limits
        need = 1 if event.purpose == "llm" else 2
        if node.depth + need > limits.depth:
            instead = "" if need == 1 else "; use llm_query instead"
            message = f"depth {limits.depth} allows no {event.purpose}_query here{instead}"
            return ev.Failure(fault="depth", message=message)
        allowed = {None, self.started.sub.name, self.started.root.name}
        models = {request.model for request in event.requests}
        if not models <= allowed or len(models) > 1:
            names = " or ".join(sorted({self.started.sub.name, self.started.root.name}))
            message = f"model must be {names}, one for a whole batch"
            return ev.Failure(fault="not_allowed", message=message)
        return None

    def _model(self, request: ev.Request) -> ev.ModelFacts:
        is_root = request.model == self.started.root.name != self.started.sub.name
        return self.started.root if is_root else self.started.sub

    def _answer(
        self, node_id: NodeId, batch: BatchId, results: tuple[Result, ...]
    ) -> list[AnyEffect]:
        node = self._nodes[node_id]
        node.results += results
        budget = self._budget(node)
        return [AnswerBatch(node=node_id, batch=batch, results=results, budget=budget)]

    def _cell_over(
        self, node_id: NodeId, node: Node, event: ev.CellFinished | ev.SessionLost
    ) -> Effects:
        """Drop what the cell had under way; remember what a roll-back took from the guest."""
        effects = self._cancel(node_id, self._fanout.abandon(node_id))
        effects += self._cut_off_below(node_id)
        if isinstance(event, ev.CellFinished):
            lost = event.ended == "rolled_back"
            node.restore = (*node.restore, *node.results[node.of_cell :]) if lost else ()
        return effects + self._open_children()

    def _cancel(self, node_id: NodeId, calls: list[CallId]) -> Effects:
        for call in calls:
            self.book.cancel(call)
        return [CancelCall(node=node_id, call=call) for call in calls]

    # -- children ----------------------------------------------------------------

    def _new_node(self, node_id: NodeId, question: str, preview: str) -> Node:
        started = self.started
        machine = Machine(
            node=node_id,
            question=question,
            preview=preview,
            profile=started.profile,
            max_turns=started.limits.max_turns,
            sub=started.sub,
            seed=started.seed,
        )
        return Node(node_id, machine)

    def _children(self, node: Node, event: ev.CallsRequested) -> Effects:
        self._fanout.open(node.id, event)
        for position, request in enumerate(event.requests):
            seat = (node.id, event.batch, position)
            call = self.book.new_id()
            if self._nodes.is_cycle(node, request):
                message = "an ancestor was asked the same on the same context; split it first"
                failure = ev.Failure(fault="cycle", message=message)
                self._fanout.place(seat, Result(call=call, failure=failure))
                continue
            child_id = NodeId(f"{node.id}.{node.children}")
            node.children += 1
            child = self._new_node(child_id, request.prompt, node.machine.preview)
            child.depth, child.seat, child.call = node.depth + 1, seat, call
            child.context, child.of = context_of(node, request)
            self._nodes.wait(child)
        return self._open_children()

    def _open_children(self) -> Effects:
        return [_opening(node) for node in self._nodes.admitted()]

    def _ended(self, node_id: NodeId, node: Node, done: Done) -> Effects:
        if node.seat is None:
            self.finished = Finish(
                node=node_id,
                status=done.status,
                value=done.value,
                evidence=done.evidence,
                reason=done.reason,
            )
            return []
        self._fanout.place(node.seat, _child_result(node.call, done))
        return [*self._drop(node_id), *self._open_children()]

    def _cut_off(self, node: Node) -> Effects:
        """End a child and everything below it: its parent no longer waits."""
        effects = self._cut_off_below(node.id)
        self.book.forget_turns(node.id)
        turns = [call.call for call in self.book.of(node.id) if call.purpose == "turn"]
        effects += self._cancel(node.id, sorted({*turns, *self._fanout.abandon(node.id)}))
        node.machine.state = State.DONE
        return [*effects, *self._drop(node.id)]

    def _cut_off_below(self, parent: NodeId) -> Effects:
        self._nodes.forget_waiting(parent)
        return [effect for child in self._nodes.below(parent) for effect in self._cut_off(child)]

    def _drop(self, node_id: NodeId) -> Effects:
        self._nodes.drop(node_id)
        return [CloseSession(node=node_id)]

    # -- limits of the run -------------------------------------------------------

    def _deadline(self, *, final: bool) -> Effects:
        self._deadlines += 1
        limit = f"timeout_s: {self.started.limits.timeout_s} s"
        closing = self._nodes[ROOT].machine.closing
        if final:
            return self._end_now("partial", closing or f"{limit} are over")
        if closing is not None:
            return []  # it is closing already, and has the time until the final deadline
        return self._close_all(f"{limit} are nearly over", "timeout_s")

    def _stop(self) -> Effects:
        self._stops += 1
        if self._stops > 1:
            return self._end_now("stopped", "stopped by the user")
        return self._close_all("stopped by the user", "stopped")

    def _close_all(self, reason: str, why: Literal["stopped", "timeout_s"]) -> Effects:
        """Ask the root for its closing turn; children are cut off, a running cell is ended."""
        root = self._nodes[ROOT]
        effects: Effects = []
        self.book.forget_turns(ROOT)
        if root.machine.state is State.THINKING:
            effects += self._cancel(ROOT, [call.call for call in self.book.of(ROOT)])
        elif root.machine.state is State.RUNNING:
            effects.append(EndCell(node=ROOT, why=why))
        return effects + self._perform(ROOT, root, root.machine.close(reason))

    def _end_now(self, status: Literal["partial", "stopped"], reason: str) -> Effects:
        done = self._nodes[ROOT].machine.cut_short(reason)
        self.finished = Finish(
            node=ROOT,
            status=status,
            value=done.value,
            evidence=done.evidence,
            reason=reason,
        )
        return []

    def _shut_down(self) -> Effects:
        calls = self._cancel(ROOT, self.book.all_open())
        return [*calls, *(CloseSession(node=node_id) for node_id in self._nodes)]

    def _budget(self, node: Node) -> Budget:
        left, limits = self.book.ledger.left(), self.started.limits
        usd = left["usd_micro"] if self._costs_money else None
        return Budget(
            usd=None if usd is None else usd / 1e6,
            calls=left["calls"],
            tokens=left["tokens"],
            seconds=None if limits.timeout_s is None else max(0.0, limits.timeout_s - self._at_s),
            turns=max(0, limits.max_turns - node.machine.turn),
            depth=max(0, limits.depth - node.depth),
        )


def _opening(node: Node) -> OpenSession:
    return OpenSession(node=node.id, context=node.context, of=node.of)


def _child_result(call: CallId, done: Done) -> Result:
    if done.value is None:
        message = f"the child ended without an answer: {done.reason or done.status}"
        return Result(call=call, failure=ev.Failure(fault="child_failed", message=message))
    value = done.value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Result(call=call, text=text)


def _output_tokens(profile: Profile, model: ev.ModelFacts, *, closing: bool) -> int:
    most = min(profile.max_output_tokens, model.max_output_tokens)
    return min(most, pricing.CLOSING_TOKENS) if closing else most
