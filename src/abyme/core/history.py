"""A run's past, from its records: which of them count, where it can go on, what it spent.

Decides where a run is resumed. One that was killed goes on where it stood. One that was
stopped, or that ended without an answer, goes on before what ended it: the records from there
on are set aside, and only their cost is kept.

Invariant: what a resumed run takes over as spent is all that its journal says was billed,
and for calls whose end is not in it the worst case. Pure; reads no file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from abyme.core import events as ev
from abyme.core.effects import AnyEffect, AskModel, CloseSession, RunCell
from abyme.core.ids import ROOT, CallId, NodeId
from abyme.core.ledger import NOTHING, Amount, Ledger
from abyme.core.limits import Limits, closing_s
from abyme.core.machine import IllegalTransition
from abyme.core.tally import Tally
from abyme.core.tree import Tree
from abyme.errors import LimitReached

IMPOSSIBLE = (IllegalTransition, AssertionError, LookupError, ValueError)
"""What records raise that no run has written: they were tampered with, or are of other rules."""
Written = ev.CallReserved | ev.CellStarted | ev.ChildEnded


class Diverged(Exception):
    """The records are not those that this core makes of these events."""

    def __init__(self, record: ev.Record, why: str) -> None:
        super().__init__(f"record {record.seq}: {why}")
        self.record = record


@dataclass(slots=True)
class Retraced:
    """A tree that has taken a run's records in again."""

    tree: Tree
    at_s: float = 0.0
    """Of the last record."""
    sent: dict[CallId, int] = field(default_factory=dict)
    """Attempts that were journalled: others never left."""
    _due: dict[tuple[object, ...], Written] = field(default_factory=dict)
    """Records that effects call for and that have not been met."""

    def take(self, record: ev.Record) -> list[AnyEffect]:
        """Take the next record in.

        Raises:
            Diverged: it is not what the effects so far call for.
        """
        self.at_s = max(self.at_s, record.at_s)
        event = record.event
        if isinstance(event, Written):
            due = self._due.pop(_name(record.node, event), None)
            if due != event:
                raise Diverged(record, _apart(due, event))
        if isinstance(event, ev.CallReserved):
            self.sent[event.call] = event.attempt
        if isinstance(event, ev.RunFinished):
            return []
        if isinstance(event, ev.RunResumed):
            self._due.clear()
        effects = self.tree.step(record)
        for effect in effects:
            if (written := written_for(effect)) is not None:
                self._due[_name(effect.node, written)] = written
        return effects

    def held(self) -> tuple[Amount, int]:
        """Tell what was in flight at its worst, and how many calls that were."""
        ledger, held, calls = self.tree.book.ledger, NOTHING, 0
        for call in self.tree.book.open_calls():
            if self.sent.get(call.call) == call.attempt:
                held += ledger.worst(call.call)
                calls += 1
        return held, calls


@dataclass(frozen=True, slots=True)
class Past:
    """Where a run can go on."""

    retraced: Retraced
    """Of the records that are believed."""
    believed: int
    """Number of the first record that is set aside; one more than the last if none is."""
    carried: ev.Carried
    tally: Tally
    """Of all records, those that are set aside too: they were paid."""
    next_call: int
    next_seq: int
    ended: ev.RunFinished | None
    """How it had ended, if it had."""
    cause: ev.AnyEvent | None
    """What ended it, or began its end: the first event that is set aside."""

    def short_of(self, limits: Limits) -> str | None:
        """Say why limits allow no further turn of the root; None: they allow one."""
        tree = self.retraced.tree
        ledger, root = tree.book.ledger, tree.node(ROOT)
        carried = self.carried
        spent = ledger.spent + Amount(carried.calls, carried.tokens, carried.usd_micro)
        try:
            Ledger(limits, spent=spent, aside=ledger.aside).check(tree.book.turn)
        except LimitReached as reached:
            return str(reached)
        if root is not None and root.machine.turn >= limits.max_turns:
            return f"max_turns: {root.machine.turn} turns used"
        timeout_s, at_s = limits.timeout_s, self.retraced.at_s
        if timeout_s is not None and at_s >= timeout_s - closing_s(timeout_s):
            return f"timeout_s: {at_s:.0f} of {timeout_s:g} s are over"
        return None

    @property
    def is_answered(self) -> bool:
        """Whether there is nothing to go on with."""
        return self.ended is not None and self.ended.status == "answered"


def written_for(effect: AnyEffect) -> Written | None:
    """Tell which record must be written before an effect is performed."""
    match effect:
        case AskModel(reserved=reserved):
            return reserved
        case RunCell(cell=cell, code=code):
            return ev.CellStarted(cell=cell, code=code)
        case CloseSession(ended=ended):
            return ended
        case _:
            return None


def believed(records: Iterable[ev.Record]) -> list[ev.Record]:
    """Leave out what was set aside when the run was resumed."""
    kept: list[ev.Record] = []
    for record in records:
        if isinstance(record.event, ev.RunResumed):
            first = record.event.believed
            kept = [one for one in kept if one.seq < first]
        kept.append(record)
    return kept


def retrace(records: Sequence[ev.Record]) -> Retraced:
    """Take all records in that count.

    Raises:
        Diverged: the records were made by another version's rules.
    """
    first = records[0].event
    assert isinstance(first, ev.RunStarted)
    retraced = Retraced(Tree(first))
    for record in records:
        retraced.take(record)
    return retraced


def past(records: Sequence[ev.Record], *, other_limits: bool = False) -> Past:
    """Find out where a run can go on. Under `other_limits` that is before one was met.

    Raises:
        Diverged: see `retrace`.
    """
    counting = believed(records)
    whole, tally = retrace(counting), Tally()
    for record in records:
        tally.take(record)
    ended = next((r.event for r in counting if isinstance(r.event, ev.RunFinished)), None)
    first_aside = _cut(counting, ended, other_limits=other_limits)
    kept = [record for record in counting if record.seq < first_aside]
    until = whole if len(kept) == len(counting) else retrace(kept)
    ledger = whole.tree.book.ledger
    held, unknown = whole.held()
    before = until.tree.book.ledger.spent
    carried = ledger.spent + held - before
    until.at_s = records[-1].at_s
    return Past(
        retraced=until,
        believed=first_aside,
        carried=ev.Carried(
            calls=carried.calls,
            tokens=carried.tokens,
            usd_micro=carried.usd_micro,
            unknown_calls=unknown,
            unknown_usd_micro=held.usd_micro,
        ),
        tally=tally,
        next_call=whole.tree.book.next_id,
        next_seq=records[-1].seq + 1,
        ended=ended,
        cause=next((r.event for r in counting if r.seq == first_aside), None),
    )


def _cut(records: Sequence[ev.Record], ended: ev.RunFinished | None, *, other_limits: bool) -> int:
    """Find the number of the first record that is not to be believed."""
    stop = next((r.seq for r in records if isinstance(r.event, ev.StopRequested)), None)
    if stop is not None:
        return stop
    goes_on = ended is None and not other_limits
    if goes_on or (ended is not None and ended.status == "answered"):
        return records[-1].seq + 1
    first = records[0].event
    assert isinstance(first, ev.RunStarted)
    tree = Tree(first)
    for record in records:
        tree.step(record)
        if tree.is_closing or tree.finished is not None:
            return record.seq
    return records[-1].seq + 1


def _name(node: NodeId, event: Written) -> tuple[object, ...]:
    match event:
        case ev.CallReserved(call=call, attempt=attempt):
            return "call", call, attempt
        case ev.CellStarted(cell=cell):
            return "cell", node, cell
        case ev.ChildEnded():
            return "child", node


def _apart(due: Written | None, event: Written) -> str:
    kind = type(event).__name__
    if due is None:
        return f"nothing so far calls for this {kind}"
    fields = [
        name for name in event.__struct_fields__ if getattr(due, name) != getattr(event, name)
    ]
    return f"{kind} differs in {', '.join(fields)}"
