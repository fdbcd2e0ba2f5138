"""Runs for people: each summed up, chosen by what they ask for, added up.

Decides what a run's status is beside what its answer says: `running` (somebody writes its
journal), `interrupted` (nobody does, and it did not end), `damaged`. What an unended run has
spent is added up from its journal.
Does not print, and changes nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from abyme.journals.folder import RunFolder, RunSpec, RunUsage

STATUSES: Final = (
    *("answered", "partial", "failed", "stopped"),
    *("running", "interrupted", "damaged"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run."""

    run: "RunFolder"
    status: str
    spec: "RunSpec | None"
    """None: it cannot be read."""
    usage: "RunUsage | None"
    """By its answer; None: it has none."""
    damage: str = ""

    @property
    def question(self) -> str:
        """What was asked; of a damaged run, what is wrong with it."""
        return self.spec.question if self.spec and not self.damage else self.damage

    @property
    def started(self) -> datetime | None:
        """When it began, by its name, else by its spec."""
        return _stamp(self.run.id) or _iso(self.spec.started_at if self.spec else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which runs; None and empty: any."""

    statuses: frozenset[str] = frozenset()
    model: str = ""
    """A part of the root model's or the sub-model's name."""
    since: datetime | None = None
    before: datetime | None = None
    grep: str = ""
    """A part of the question, in any case."""

    def has(self, row: Row) -> bool:
        """Tell whether a run is one of them. What a run does not say does not fit."""
        if self.statuses and row.status not in self.statuses:
            return False
        if self.model and not (
            row.spec and (self.model in row.spec.model or self.model in row.spec.sub_model)
        ):
            return False
        if self.grep.casefold() not in row.question.casefold():
            return False
        if self.since is None and self.before is None:
            return True
        at = row.started
        return at is not None and (
            (self.since is None or at >= self.since) and (self.before is None or at < self.before)
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run used."""

    usage: "RunUsage | None"
    """None: nothing is known of it."""
    in_flight_usd: float = 0.0
    """At most so much more: calls that had no end when the run was cut off, at their worst."""


@dataclass(slots=True)
class Sum:
    """What several runs used together."""

    runs: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    """Of the runs whose cost is known."""
    unknown_costs: int = 0
    """Runs whose cost is not."""
    in_flight_usd: float = 0.0
    wall_s: float = 0.0

    def add(self, spent: Spent) -> None:
        """Take one run in."""
        usage = spent.usage
        self.runs += 1
        self.in_flight_usd = round(self.in_flight_usd + spent.in_flight_usd, 6)
        if usage is None or usage.cost_usd is None:
            self.unknown_costs += 1
        else:
            self.cost_usd = round(self.cost_usd + usage.cost_usd, 6)
        if usage is not None:
            self.calls += usage.calls
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens
            self.wall_s = round(self.wall_s + usage.wall_s, 3)


def rows(runs_dir: Path) -> Iterator[Row]:
    """Sum up every run of a folder, newest first. A damaged one harms no other."""
    from abyme.journals.folder import list_runs  # noqa: PLC0415

    return map(row, list_runs(runs_dir))


def row(run: "RunFolder") -> Row:
    """Sum up one run."""
    from abyme.errors import JournalError  # noqa: PLC0415

    running, spec = run.is_running(), None
    try:
        spec = run.spec()
        answer = None if running else run.answer()  # a run that goes on has an old one
    except JournalError as error:
        status = "running" if running else "damaged"
        return Row(run=run, status=status, spec=spec, usage=None, damage=str(error))
    if answer is not None:
        return Row(run=run, status=answer.status, spec=spec, usage=answer.usage)
    return Row(run=run, status="running" if running else "interrupted", spec=spec, usage=None)


def spent(row: Row) -> Spent:
    """Tell what a run used: by its answer, else by its journal, read a record at a time."""
    if row.usage is not None or row.status == "damaged":
        return Spent(row.usage)
    from abyme.core.tally import Tally  # noqa: PLC0415
    from abyme.errors import JournalError  # noqa: PLC0415
    from abyme.journals import reader  # noqa: PLC0415
    from abyme.journals.folder import RunUsage  # noqa: PLC0415

    tally, at_s = Tally(), 0.0
    try:
        for record in reader.each(row.run.events_path):
            tally.take(record)
            at_s = max(at_s, record.at_s)
    except JournalError:
        return Spent(None)
    total, held = tally.total, tally.held
    usage = RunUsage(
        calls=total.amount.calls + held.calls,
        prompt_tokens=total.prompt_tokens,
        completion_tokens=total.completion_tokens,
        cost_usd=None if total.unpriced else total.amount.usd_micro / 1e6,
        wall_s=at_s,
    )
    return Spent(usage, held.usd_micro / 1e6)


def contexts_of(found: Iterable[Row]) -> set[str]:
    """Keys of the kept contexts that runs name."""
    return {row.spec.context_key for row in found if row.spec and row.spec.context_key}


def _stamp(name: str) -> datetime | None:
    try:
        return datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _iso(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
