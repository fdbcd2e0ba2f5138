"""What a run used, added up from its records: in total, by model, by depth, by cell.

Counts every attempt of the journal that was sent, whether or not its records still count
after a resume: all were paid. Of a `RunResumed` it takes only what was in flight and has no
end in the records, at its worst.

Invariant: `total.amount` is `Ledger.spent` after the same records, and each of the sums by
model, by depth and by cell is the total again. Pure; knows nothing that is not in the records,
and takes any prefix of them.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from abyme.core import events as ev
from abyme.core import pricing
from abyme.core.ids import BatchId, CallId, NodeId
from abyme.core.ledger import NOTHING, Amount

Cell = tuple[NodeId, int | None]
"""A node's cell whose sub-calls these are; None: the node's own turns."""


@dataclass(slots=True)
class Spent:
    """Usage added up. Tokens by kind are as the providers say, or our estimate."""

    amount: Amount = NOTHING
    """Attempts, tokens and money, as the ledger books them."""
    failed: int = 0
    """Attempts that brought no reply."""
    estimated: int = 0
    """Attempts whose tokens are our estimate."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Part of `prompt_tokens`."""
    reasoning_tokens: int = 0
    """Part of `completion_tokens`."""
    unknown: Amount = NOTHING
    """Part of `amount`: attempts of which nobody knows what was billed, at their worst. They
    were in flight when the run was cut off, or their reply was lost on the way."""
    overrun_usd_micro: int = 0
    """Billed beyond the worst case that was reserved."""
    unpriced: int = 0
    """Attempts that cost money which nobody has told: the price is unknown."""

    def add(self, one: "Spent") -> None:
        """Add another sum to this one."""
        self.amount += one.amount
        self.failed += one.failed
        self.estimated += one.estimated
        self.prompt_tokens += one.prompt_tokens
        self.completion_tokens += one.completion_tokens
        self.cached_tokens += one.cached_tokens
        self.reasoning_tokens += one.reasoning_tokens
        self.unknown += one.unknown
        self.overrun_usd_micro += one.overrun_usd_micro
        self.unpriced += one.unpriced


@dataclass(frozen=True, slots=True)
class _Open:
    """An attempt under way."""

    node: NodeId
    reserved: ev.CallReserved
    cell: int | None

    @property
    def worst(self) -> Amount:
        return Amount(1, self.reserved.worst_tokens, self.reserved.worst_usd_micro)


@dataclass(slots=True)
class Tally:
    """Sums over the records taken so far."""

    total: Spent = field(default_factory=Spent)
    by_model: defaultdict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    by_depth: defaultdict[int, Spent] = field(default_factory=lambda: defaultdict(Spent))
    """0: the root's turns and sub-calls, 1: its children's, and so on."""
    by_cell: defaultdict[Cell, Spent] = field(default_factory=lambda: defaultdict(Spent))
    _models: dict[str, ev.ModelFacts] = field(default_factory=dict)
    _cells: dict[tuple[NodeId, BatchId], int] = field(default_factory=dict)
    _open: dict[CallId, _Open] = field(default_factory=dict)

    def take(self, record: ev.Record) -> None:
        """Take the next record in."""
        node, event = record.node, record.event
        match event:
            case ev.RunStarted(root=root, sub=sub):
                self._models = {root.name: root, sub.name: sub}
            case ev.CallsRequested(batch=batch, cell=cell):
                self._cells[node, batch] = cell
            case ev.CallReserved(call=call, batch=asked):
                of_cell = None if asked is None else self._cells.get((node, asked))
                self._open[call] = _Open(node, event, of_cell)
            case ev.CallSettled(call=call):
                self._settled(self._open.pop(call, None), event.usage)
            case ev.CallFailed(call=call):
                self._failed(self._open.pop(call, None), event)
            case ev.RunResumed():
                for attempt in self._open.values():
                    self._book(attempt, Spent(amount=attempt.worst, unknown=attempt.worst))
                self._open.clear()
            case _:
                pass

    @property
    def held(self) -> Amount:
        """Attempts under way, at their worst."""
        return sum((attempt.worst for attempt in self._open.values()), NOTHING)

    def _settled(self, attempt: _Open | None, usage: ev.Usage) -> None:
        if attempt is not None:
            paid = pricing.actual(self._facts(attempt), usage)
            self._book(attempt, self._used(attempt, usage, paid))

    def _failed(self, attempt: _Open | None, event: ev.CallFailed) -> None:
        if attempt is None or not event.sent:
            return
        facts, worst = self._facts(attempt), attempt.worst
        paid = pricing.billed(facts, event.failure, event.usage, worst)
        spent = self._used(attempt, event.usage or ev.Usage(), paid)
        spent.failed = 1
        if paid is worst:
            spent.unknown = worst
        self._book(attempt, spent)

    def _used(self, attempt: _Open, usage: ev.Usage, paid: Amount) -> Spent:
        tokens = usage.prompt_tokens + usage.completion_tokens
        priced = self._facts(attempt).price is not None or usage.cost_usd_micro is not None
        return Spent(
            amount=paid,
            estimated=int(usage.estimated),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            overrun_usd_micro=max(0, paid.usd_micro - attempt.worst.usd_micro),
            unpriced=int(bool(tokens) and not priced),
        )

    def _book(self, attempt: _Open, spent: Spent) -> None:
        node = attempt.node
        for place in (
            self.total,
            self.by_model[attempt.reserved.model],
            self.by_depth[node.count(".")],
            self.by_cell[node, attempt.cell],
        ):
            place.add(spent)

    def _facts(self, attempt: _Open) -> ev.ModelFacts:
        name = attempt.reserved.model
        return self._models.get(name) or ev.ModelFacts(name=name, price=None)
