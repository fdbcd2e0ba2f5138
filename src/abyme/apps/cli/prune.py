"""``abyme runs prune``: removes runs, and kept contexts that no run names any more.

Decides what may go: what the options say, never a run that is running, a damaged one only
by its name. Says what would go; ``--yes`` does it. This is the journals' retention setting:
nothing is ever removed by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abyme.apps import listing
from abyme.apps.cli import failures, options
from abyme.apps.cli.terminal import err, out
from abyme.errors import AbymeError, ConfigError, ContextError, JournalError

if TYPE_CHECKING:
    from abyme.contexts.kept import Kept


@dataclass(slots=True, kw_only=True)
class Plan:
    """What goes and what stays."""

    going: list[listing.Row] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes of each run that goes."""
    contexts: "list[Kept]" = field(default_factory=list)
    damaged: list[listing.Row] = field(default_factory=list)
    """Runs that stay because nobody named them."""
    failed: list[str] = field(default_factory=list)
    """Why something could not be removed."""

    @property
    def size_bytes(self) -> int:
        """Of all that goes."""
        return sum(self.sizes) + sum(kept.size_bytes for kept in self.contexts)


@click.command("prune")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@options.RUNS_DIR
@click.option("--older-than", type=options.Moment(), help="Those begun before: 30d, 2026-11-01.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="All but the newest N.")
@options.STATUS
@click.option("--yes", is_flag=True, help="Do it; without, say what would be done.")
@options.JSON
def command(  # noqa: PLR0913 - one argument an option
    runs: tuple[str, ...],
    runs_dir: Path | None,
    older_than: datetime | None,
    keep: int | None,
    statuses: frozenset[str],
    *,
    yes: bool,
    as_json: bool,
) -> int:
    """Remove runs: those named, or those that all the options fit.

    Contexts that were kept for them go too, when no other run needs them. A run that is
    running stays; a damaged one goes only by its name.
    """
    from abyme.run.spec import data_dir  # noqa: PLC0415

    filters = [older_than is not None, keep is not None, bool(statuses)]
    if bool(runs) == any(filters):
        raise click.UsageError(
            "say which runs: by name, or by --older-than, --keep and --status"
            + (", not both" if runs else "")
        )
    folder = runs_dir or data_dir() / "runs"
    if runs:
        plan = _named(folder, runs)
    else:
        plan = _chosen(folder, listing.Wanted(statuses=statuses, before=older_than), keep or 0)
    _weigh(folder, plan)
    if yes:
        _do(folder, plan)
    _report(plan, removed=yes, as_json=as_json)
    return failures.FAILED if plan.failed else failures.ANSWERED


def _named(folder: Path, names: Sequence[str]) -> Plan:
    from abyme.journals.folder import find  # noqa: PLC0415

    try:
        found = {run.id: listing.row(run) for run in (find(folder, name) for name in names)}
    except JournalError as error:
        raise ConfigError(str(error)) from None
    for row in found.values():
        if row.status == "running":
            raise ConfigError(f"{row.run.id} is running; stop it first")
        if row.run.path.parent.resolve() != folder.resolve():
            raise ConfigError(f"{row.run.path} is not in {folder}; name its folder by --runs-dir")
    others = (row for row in listing.rows(folder) if row.run.id not in found)
    return Plan(
        going=list(found.values()), damaged=[row for row in others if row.status == "damaged"]
    )


def _chosen(folder: Path, wanted: listing.Wanted, keep: int) -> Plan:
    plan = Plan()
    for number, row in enumerate(listing.rows(folder)):
        if row.status == "damaged":
            plan.damaged.append(row)
        elif number >= keep and row.status != "running" and wanted.has(row):
            plan.going.append(row)
    return plan


def _weigh(folder: Path, plan: Plan) -> None:
    """Find out how much goes, kept contexts included."""
    from abyme.contexts.kept import unused  # noqa: PLC0415
    from abyme.journals.folder import contexts_dir  # noqa: PLC0415
    from abyme.journals.prune import size_bytes  # noqa: PLC0415

    plan.sizes = [size_bytes(row.run) for row in plan.going]
    if not _unknown(plan.damaged):
        going = {row.run.id for row in plan.going}
        stay = (row for row in listing.rows(folder) if row.run.id not in going)
        plan.contexts = unused(contexts_dir(folder), listing.contexts_of(stay))


def _do(folder: Path, plan: Plan) -> None:
    from abyme.contexts.kept import drop  # noqa: PLC0415
    from abyme.journals.folder import contexts_dir  # noqa: PLC0415
    from abyme.journals.prune import empty_trash, remove  # noqa: PLC0415

    empty_trash(folder)
    gone = []
    for row, size in zip(plan.going, plan.sizes, strict=True):
        try:
            remove(row.run)
        except JournalError as error:
            plan.failed.append(str(error))
        else:
            gone.append((row, size))
    plan.going, plan.sizes = [row for row, _ in gone], [size for _, size in gone]
    plan.contexts = []
    if not _unknown(plan.damaged):
        try:
            plan.contexts = drop(contexts_dir(folder), lambda: _names_of(folder))
        except AbymeError as error:
            plan.failed.append(str(error))


def _names_of(folder: Path) -> set[str]:
    """Name the contexts that are needed, or none at all if that cannot be told."""
    rows = list(listing.rows(folder))
    if _unknown(rows):
        raise ContextError("a run was damaged meanwhile; kept contexts stay")
    return listing.contexts_of(rows)


def _unknown(rows: Sequence[listing.Row]) -> bool:
    """Whether there are runs of which nobody knows what context they need."""
    return any(row.status == "damaged" and row.spec is None for row in rows)


def _report(plan: Plan, *, removed: bool, as_json: bool) -> None:
    for why in plan.failed:
        err().say(f"abyme: {why}")
    if as_json:
        failures.print_json(_as_json(plan, removed=removed))
        return
    from abyme.apps.amounts import count, size  # noqa: PLC0415
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415

    for row, size_bytes in zip(plan.going, plan.sizes, strict=True):
        name = f"{safe_line(row.run.id)}  {row.status:<11}  {size(size_bytes):>9}  "
        out().line([(name, "dim"), (safe_line(row.question, max(10, out().width - 50)), "")])
    what = count(len(plan.going), "run")
    if plan.contexts:
        what += f" and {count(len(plan.contexts), 'kept context')}"
    sentence = f"{what} ({size(plan.size_bytes)})"
    out().say(f"removed {sentence}" if removed else f"would remove {sentence}; --yes does it")
    if plan.damaged:
        out().say(f"{_stays(plan.damaged)}; name one to remove it: " + _ids(plan.damaged))


def _stays(damaged: Sequence[listing.Row]) -> str:
    from abyme.apps.amounts import count  # noqa: PLC0415

    stays = "stays" if len(damaged) == 1 else "stay"
    why = ", and kept contexts with it" if _unknown(damaged) else ""
    return f"{count(len(damaged), 'damaged run')} {stays}{why}"


def _ids(rows: Sequence[listing.Row]) -> str:
    return ", ".join(row.run.id for row in rows)


def _as_json(plan: Plan, *, removed: bool) -> dict[str, Any]:
    return {
        "removed": removed,
        "size_bytes": plan.size_bytes,
        "runs": [
            {"id": row.run.id, "run": str(row.run.path), "status": row.status, "size_bytes": size}
            for row, size in zip(plan.going, plan.sizes, strict=True)
        ],
        "contexts": [
            {"path": str(kept.path), "size_bytes": kept.size_bytes} for kept in plan.contexts
        ],
        "damaged": [row.run.id for row in plan.damaged],
        "failed": plan.failed,
    }
