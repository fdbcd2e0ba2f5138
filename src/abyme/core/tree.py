"""The run as a whole: records in, effects out.

Routes each record to its node, turns what nodes want into effects that the
ledger allows, and meets the run's limits. The only owner of the ledger.

Rule: same records in, same effects out. The only clock is `Record.at_s`.
Does not decide what a node does next (`machine`), which batches and children there
are (`subcalls`) or whether an attempt is repeated (`calls`, `retry`).
"""

from typing import Literal

from msgspec import structs

from abyme.core import derived, folding, pricing
from abyme.core import events as ev
from abyme.core.calls import Call, CallBook
from abyme.core.effects import (
    AnyEffect,
    Budget,
    CheckEvidence,
    CloseSession,
    EndCell,
    Finish,
    RunCell,
)
from abyme.core.fanout import limit_failure
from abyme.core.ids import ROOT, NodeId
from abyme.core.ledger import Ledger
from abyme.core.limits import closing_s
from abyme.core.machine import Check, Done, IllegalTransition, Reopen, Run, State, Step, Think
from abyme.core.nodes import Node, opening, rebuilding
from abyme.core.profile import Profile
from abyme.core.subcalls import SubCalls
from abyme.errors import LimitReached

Effects = list[AnyEffect]


MAX_REFUSED_CHARS = 16 << 20
"""Of refused batches that are recorded whole."""


class Tree:
    """One run."""

    def __init__(self, started: ev.RunStarted) -> None:
        self.started = started
        self.book = CallBook(Ledger(started.limits))
        self.finished: Finish | None = None
        self._sub = SubCalls(started, self.book, self._budget)
        self._nodes = self._sub.nodes
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
        effects += self._sub.answers()
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
            self._sub.failed(call.call, failure)
            return []
        node = self._nodes.get(call.node)
        if node is None:
            return []
        if call.failure is not None:
            return self._of_node(call.node, ev.CallFailed(call=call.call, failure=failure))
        return self._perform(call.node, node, node.machine.close(str(refusal), self._budget(node)))

    def node(self, node_id: NodeId) -> Node | None:
        """Look a node up that is not over."""
        return self._nodes.get(node_id)

    def throws_away(self, node_id: NodeId, event: ev.CallsRequested) -> bool:
        """Tell whether a batch is to be recorded without its texts: it would bring no call, and
        the run has filled enough of its journal with such.
        """
        if self._sub.refused_chars <= MAX_REFUSED_CHARS:
            return False
        node = self._nodes.get(node_id)
        return node is not None and self._sub.would_refuse(node, event)

    @property
    def is_closing(self) -> bool:
        """Whether the root comes to its end for another reason than an answer."""
        root = self._nodes.get(ROOT)
        return root is not None and root.machine.closing is not None

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
                return [opening(self._sub.root())]
            case ev.RunResumed():
                return self._resumed(event)
            case ev.CallReserved() | ev.ChildEnded():
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
        if isinstance(event, ev.BatchConfirmed):
            return self._sub.confirmed(node, event)
        effects: Effects = []
        if isinstance(event, ev.CellFinished | ev.SessionLost) and node.running is not None:
            effects += self._sub.cell_over(node, event)
        step = machine.step(event, self._budget(node))
        if isinstance(event, ev.CallsRequested):
            return self._sub.requested(node, event)
        return effects + self._perform(node_id, node, step)

    def _perform(self, node_id: NodeId, node: Node, step: Step | None) -> Effects:
        match step:
            case None:
                return []
            case Think():
                return self._think(node, step)
            case Run(cell=cell, code=code):
                restore = node.restore  # until a cell commits: it may be rolled back again
                budget = self._budget(node)
                run = RunCell(node=node_id, cell=cell, code=code, restore=restore, budget=budget)
                node.cell_begins(run)
                return [run]
            case Check():
                return [_checking(node, step)]
            case Reopen():
                return [CloseSession(node=node_id), rebuilding(node)]
            case Done():
                return self._ended(node_id, node, step)

    # -- turns -------------------------------------------------------------------

    def _think(self, node: Node, step: Think) -> Effects:
        profile, model = node.machine.profile, node.model
        if node.id == ROOT:
            self.book.set_aside_for(step.messages, model, profile)
        call = Call(
            call=self.book.new_id(),
            node=node.id,
            purpose="turn",
            model=model,
            messages=step.messages,
            max_output_tokens=_output_tokens(profile, model, step),
            temperature=profile.temperature,
            prefill=profile.prefill,
            stop=tuple(profile.stop),
            closing=step.closing and node.id == ROOT,
        )
        self.book.enqueue(call, first=True)
        return []

    def _settled(self, event: ev.CallSettled) -> Effects:
        call = self.book.settled(event)
        if call is None:
            return []
        if call.purpose == "turn":
            return self._of_node(call.node, event)
        self._sub.replied(call, event)
        return []

    def _failed(self, event: ev.CallFailed) -> Effects:
        call, delay_s = self.book.failed(event)
        if call is None:
            return []
        if call.purpose == "turn":
            return self._turn_failed(call, event, delay_s)
        if delay_s is None:
            self.book.drop(call)
            self._sub.failed(call.call, event.failure)
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

    def _ended(self, node_id: NodeId, node: Node, done: Done) -> Effects:
        if node.seat is not None:
            return self._sub.ended(node, done)
        self.finished = Finish(
            node=node_id,
            status=done.status,
            value=done.value,
            evidence=done.evidence,
            derivations=done.derivations,
            reason=done.reason,
        )
        return []

    def _resumed(self, event: ev.RunResumed) -> Effects:
        """Go on in another process, under the limits that are set now."""
        self.started = structs.replace(self.started, limits=event.limits)
        self.book.restart(event)
        if event.held is not None:
            self._nodes[ROOT].machine.hold(event)
        return self._sub.restart(self.started)

    # -- limits of the run -------------------------------------------------------

    def _deadline(self, *, final: bool) -> Effects:
        self._deadlines += 1
        self._sub.ending = True
        limit = f"timeout_s: {self.started.limits.timeout_s} s"
        closing = self._nodes[ROOT].machine.closing
        if final:
            return self._end_now("partial", closing or f"{limit} are over")
        if closing is not None:
            return []  # it is closing already, and has the time until the final deadline
        return self._close_all(f"{limit} are nearly over", "timeout_s")

    def _stop(self) -> Effects:
        self._stops += 1
        self._sub.ending = True
        if self._stops > 1:
            return self._end_now("stopped", "stopped by the user")
        return self._close_all("stopped by the user", "stopped")

    def _close_all(self, reason: str, why: Literal["stopped", "timeout_s"]) -> Effects:
        """Ask the root for its closing turn; children are cut off, a running cell is ended."""
        root = self._nodes[ROOT]
        effects: Effects = []
        self.book.forget_turns(ROOT)
        if root.machine.state is State.THINKING:
            effects += self._sub.cancel(ROOT, [call.call for call in self.book.of(ROOT)])
        elif root.machine.state is State.RUNNING:
            effects.append(EndCell(node=ROOT, why=why))
        return effects + self._perform(ROOT, root, root.machine.close(reason, self._budget(root)))

    def _end_now(self, status: Literal["partial", "stopped"], reason: str) -> Effects:
        done = self._nodes[ROOT].machine.cut_short(reason)
        self.finished = Finish(
            node=ROOT,
            status=status,
            value=done.value,
            evidence=done.evidence,
            derivations=done.derivations,
            reason=reason,
        )
        return []

    def _shut_down(self) -> Effects:
        calls = self._sub.cancel(ROOT, [call.call for call in self.book.open_calls()])
        cut_off = ev.ChildEnded(status="cut_off", value=None, reason="the run ended first")
        return [
            *calls,
            *(
                CloseSession(node=node_id, ended=None if node_id == ROOT else cut_off)
                for node_id in self._nodes
            ),
        ]

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
            running_out=self._running_out(),
        )

    def _running_out(self) -> str | None:
        """Name a limit that the root will meet within two turns like those it had."""
        turn, root = self.book.turn, self._nodes.get(ROOT)
        if root is None or not root.machine.turn:
            return None
        timeout_s = self.started.limits.timeout_s
        if timeout_s is not None:
            left_s = timeout_s - closing_s(timeout_s) - self._at_s
            if left_s < 3 * self._at_s / root.machine.turn:
                return "timeout_s"
        return self.book.ledger.short_of(turn + turn + turn)  # the next one, and two more


def _checking(node: Node, step: Check) -> CheckEvidence:
    return CheckEvidence(
        node=node.id,
        evidence=step.evidence,
        value=step.value,
        schema=step.schema,
        computed=step.derivations,
        derivations=derived.derive(step.derivations, node.done),
    )


def _output_tokens(profile: Profile, model: ev.ModelFacts, step: Think) -> int:
    most = folding.reply_tokens(profile, model)
    if step.reply_tokens is not None:
        most = min(most, step.reply_tokens)
    return min(most, pricing.closing_tokens(model)) if step.closing else most
