"""What a run looks like, folded from its records.

Decides what a reader is shown of a run: nodes, cells, calls, totals. The same fold
serves the live tree (records as they become durable) and `abyme show` (the journal).
Records that were set aside when the run was resumed are paid for and are not part of the
picture: `take` leaves them out of it where it is given them together with the resuming.

Invariant: it knows nothing that is not in the records, and takes any prefix of them.
Does not draw (`tree`) and does not read files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from abyme.apps.repeats import Repeats
from abyme.core import events as ev
from abyme.core.ids import ROOT, BatchId, CallId, NodeId
from abyme.core.limits import Limits
from abyme.core.tally import Tally

Purpose = Literal["llm", "rlm", "map", "reduce"]
CallState = Literal["open", "done", "failed", "lost"]
"""`lost`: it was in flight when the run was cut off, or what it brought is set aside."""


@dataclass(slots=True)
class CallView:
    """One model call, every attempt of it."""

    id: CallId
    model: str
    purpose: Literal["turn", "sub"]
    attempts: int = 0
    state: CallState = "open"
    text: str = ""
    failure: ev.Failure | None = None
    wrong: int = 0
    """Replies that did not have the shape that was asked for."""
    of: Purpose = "llm"
    """Kind of batch that it was made for."""

    @property
    def too_long(self) -> bool:
        """Its prompt did not fit the model's window."""
        return self.failure is not None and self.failure.fault == "context_length"


@dataclass(slots=True)
class CellView:
    """One cell and what it asked for."""

    number: int
    code: str
    started_s: float
    ended_s: float | None = None
    finished: ev.CellFinished | None = None
    batches: list[ev.CallsRequested] = field(default_factory=list)
    calls: list[CallView] = field(default_factory=list)
    children: list[NodeId] = field(default_factory=list)
    submitted: ev.AnswerSubmitted | None = None
    confirmed: dict[BatchId, bool] = field(default_factory=dict)
    """What the user said of batches that they were asked about."""
    repeats: int = 0
    """Sub-calls that equal an earlier one of the run."""
    wrong: str | None = None
    """Why its answer did not fit the schema."""
    checked: ev.EvidenceChecked | None = None
    """What was found of its evidence."""
    runs: int = 1
    """Times that it was begun: once more after the run was cut off in it."""

    def asked(self, purpose: Purpose) -> int:
        """How many sub-calls of a kind were asked for, or items; not those asked for a price."""
        batches = [
            batch
            for batch in self.batches
            if batch.purpose == purpose and not (batch.task and batch.task.price_only)
        ]
        return sum(len(batch.requests) + batch.unread for batch in batches)

    def batch(self, event: ev.CallReserved) -> ev.CallsRequested | None:
        """Find the batch that a sub-call was made for."""
        return next((one for one in reversed(self.batches) if one.batch == event.batch), None)

    def made(self, *purposes: Purpose) -> list[CallView]:
        """List the sub-calls that were made for batches of a kind."""
        return [call for call in self.calls if call.of in purposes]

    @property
    def answered_before(self) -> int:
        """How many sub-calls were answered by an earlier equal one. One whose earlier call
        failed is made anew, and is none of these.
        """
        return max(0, min(self.repeats, self.asked("llm") - len(self.made("llm"))))

    def begin_again(self, at_s: float) -> None:
        """Stand at its beginning. What its calls have brought is known already."""
        self.runs += 1
        self.started_s, self.ended_s = at_s, None
        self.finished, self.submitted = None, None
        self.batches.clear()
        self.repeats = 0
        self.calls[:] = [call for call in self.calls if call.state == "done"]


@dataclass(slots=True)
class Rebuilt:
    """A REPL that was made again by running its cells."""

    at: int
    """How many cells its node had by then."""
    event: ev.SessionRebuilt


@dataclass(slots=True)
class Resumed:
    """A run that was gone on with."""

    seq: int
    event: ev.RunResumed
    usd_micro: int | None
    """Spent until then, what is unknown included."""

    @property
    def aside(self) -> int:
        """Records that do not count any more."""
        return self.seq - self.event.believed


@dataclass(slots=True)
class NodeView:
    """One node of the recursion tree."""

    id: NodeId
    opened_s: float
    question: str = ""
    python: str = ""
    layers: list[str] = field(default_factory=list)
    turns: list[CallView] = field(default_factory=list)
    cells: list[CellView] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    rebuilt: list[Rebuilt] = field(default_factory=list)
    ended: ev.ChildEnded | None = None

    @property
    def thinking(self) -> bool:
        """Its model is writing."""
        return bool(self.turns) and self.turns[-1].state == "open"


@dataclass(slots=True)
class RunView:
    """One run."""

    started: ev.RunStarted | None = None
    finished: ev.RunFinished | None = None
    nodes: dict[NodeId, NodeView] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    at_s: float = 0.0
    stops: int = 0
    resumed: list[Resumed] = field(default_factory=list)
    limits: Limits | None = None
    """That hold now."""
    _calls: dict[CallId, CallView] = field(default_factory=dict)
    _repeats: Repeats = field(default_factory=Repeats)

    def take(self, records: Sequence[ev.Record]) -> None:
        """Take many records in: those that were set aside later only by what they cost."""
        from abyme.core.history import believed  # noqa: PLC0415  the core's own rule, for few

        cut = any(isinstance(record.event, ev.RunResumed) for record in records)
        counting = {record.seq for record in believed(records)} if cut else None
        for record in records:
            if counting is None or record.seq in counting:
                self.add(record)
            else:
                self._set_aside(record)

    def add(self, record: ev.Record) -> None:
        """Take one record in."""
        self.tally.take(record)
        self.at_s = max(self.at_s, record.at_s)
        event = record.event
        match event:
            case ev.RunStarted():
                self.started, self.limits = event, event.limits
                self._node(record).question = event.question
            case ev.RunResumed():
                self._resume(record.seq, event)
            case ev.RunFinished():
                self.finished = event
            case ev.StopRequested():
                self.stops += 1
            case ev.CallReserved():
                self._reserved(self._node(record), event)
            case ev.CallSettled() | ev.CallFailed():
                self._over(event)
            case ev.DeadlinePassed():
                pass
            case _:
                self._of_node(self._node(record), record.at_s, event)

    def is_turn(self, call: CallId) -> bool:
        """Whether a call asked a node's own model."""
        known = self._calls.get(call)
        return known is not None and known.purpose == "turn"

    def _of_node(self, node: NodeView, at_s: float, event: ev.AnyEvent) -> None:
        cell = node.cells[-1] if node.cells else None
        match event:
            case ev.CellStarted() if cell and cell.number == event.cell:
                cell.begin_again(at_s)
            case ev.CellStarted():
                node.cells.append(CellView(event.cell, event.code, at_s))
            case ev.EvidenceChecked() if cell:
                cell.wrong, cell.checked = event.wrong, event
            case ev.BatchConfirmed() if cell:
                cell.confirmed[event.batch] = event.allowed
            case ev.CallsRequested() if cell:
                cell.batches.append(event)
                self._repeats.ask(cell, event)
            case ev.AnswerSubmitted() if cell:
                cell.submitted = event
            case ev.CellFinished() if cell:
                cell.finished, cell.ended_s = event, at_s
            case _:
                _of_session(node, event)

    def _node(self, record: ev.Record) -> NodeView:
        node = self.nodes.get(record.node)
        if node is None:
            node = self.nodes[record.node] = NodeView(record.node, record.at_s)
            parent = self.nodes.get(parent_of(record.node))
            if parent is not None and parent.cells:
                node.question = _question(parent, node.id)
                parent.cells[-1].children.append(node.id)
        return node

    def _reserved(self, node: NodeView, event: ev.CallReserved) -> None:
        call = self._calls.get(event.call)
        if call is None:
            call = CallView(event.call, event.model, event.purpose)
            self._calls[event.call] = call
            if event.purpose == "turn":
                if node.turns and node.turns[-1].too_long:
                    node.turns.pop()  # it is asked again, with a shorter prompt
                node.turns.append(call)
            elif node.cells:
                node.cells[-1].calls.append(call)
                if (batch := node.cells[-1].batch(event)) is not None:
                    call.of = batch.purpose
                self._repeats.make(node.cells[-1], event)
        call.attempts, call.state = event.attempt, "open"

    def _over(self, event: ev.CallSettled | ev.CallFailed) -> None:
        call = self._calls.get(event.call)
        if call is None:
            return
        if isinstance(event, ev.CallFailed):
            call.state, call.failure = "failed", event.failure
        else:
            call.state, call.text, call.failure = "done", event.text, None
            call.wrong += event.wrong is not None

    def _set_aside(self, record: ev.Record) -> None:
        """Take in what a record cost, that counts for nothing else any more."""
        self.tally.take(record)
        self.at_s = max(self.at_s, record.at_s)
        if isinstance(record.event, ev.CallSettled | ev.CallFailed):
            call = self._calls.get(record.event.call)
            if call is not None:
                call.state = "lost"

    def _resume(self, seq: int, event: ev.RunResumed) -> None:
        """Forget what was under way: nobody waits for it any more."""
        spent = self.tally.total
        cost = None if spent.unpriced else spent.amount.usd_micro
        self.resumed.append(Resumed(seq, event, cost))
        self.limits, self.finished, self.stops = event.limits, None, 0
        for call in self._calls.values():
            if call.state == "open":
                call.state = "lost"
        for node in self.nodes.values():
            node.turns[:] = [turn for turn in node.turns if turn.state == "done"]


def _of_session(node: NodeView, event: ev.AnyEvent) -> None:
    match event:
        case ev.SessionOpened():
            node.python, node.layers = event.python, event.layers
        case ev.SessionLost():
            node.lost.append(event.why)
        case ev.SessionRebuilt():
            done = sum(cell.finished is not None for cell in node.cells)
            node.rebuilt.append(Rebuilt(done, event))
        case ev.ChildEnded():
            node.ended = event
        case _:
            pass


def parent_of(node: NodeId) -> NodeId:
    """``0.2`` -> ``0``; the root is its own parent."""
    return NodeId(node.rpartition(".")[0]) or ROOT


def _question(parent: NodeView, child: NodeId) -> str:
    """Find what a child of the running cell was asked. They are numbered in the order asked, and
    begin in any; after a kill the numbers go on, and then the order in which they begin must do.
    """
    cell = parent.cells[-1]
    asked = [r.prompt for b in cell.batches if b.purpose == "rlm" for r in b.requests]
    before = [_number(one) for earlier in parent.cells[:-1] for one in earlier.children]
    place = _number(child) - max(before, default=-1) - 1
    if not 0 <= place < len(asked):
        place = len(cell.children)
    return asked[place] if place < len(asked) else ""


def _number(node: NodeId) -> int:
    last = node.rpartition(".")[2]
    return int(last[:9]) if last.isdecimal() else -1  # a journal may have any name


def first_line(code: str) -> str:
    """Find the line that tells a cell from another: the first that is code."""
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    plain = (line for line in lines if not line.startswith(("#", "import ", "from ")))
    return next(plain, lines[0] if lines else "")
