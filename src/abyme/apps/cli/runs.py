"""``abyme runs``: what was asked, newest first. Reads folders, changes nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abyme.apps.cli import failures, options
from abyme.apps.cli.terminal import out

if TYPE_CHECKING:
    from abyme.journals.folder import RunFolder


@click.command("runs")
@options.RUNS_DIR
@click.option("--limit", "-n", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")
@options.JSON
def command(runs_dir: Path | None, limit: int | None, *, as_json: bool) -> int:
    """List your runs, newest first."""
    from abyme.journals.folder import list_runs  # noqa: PLC0415
    from abyme.run.spec import data_dir  # noqa: PLC0415

    folder = runs_dir or data_dir() / "runs"
    rows = [summary(run) for run in list_runs(folder)[:limit]]
    if as_json:
        failures.print_json({"runs": rows})
    elif not rows:
        out().say(f"no runs in {folder} yet")
    else:
        for row in rows:
            out().line(_line(row, out().width))
    return failures.ANSWERED


def summary(run: "RunFolder") -> dict[str, Any]:
    """Sum a run up for the list; a damaged folder says so and harms no other."""
    from abyme.errors import JournalError  # noqa: PLC0415

    row: dict[str, Any] = {"id": run.id, "run": str(run.path)}
    try:
        spec, answer = run.spec(), run.answer()
    except JournalError as error:
        return row | {"status": "damaged", "question": str(error), "cost_usd": None}
    unended = "running" if run.is_running() else "interrupted"
    return row | {
        "status": answer.status if answer else unended,
        "question": spec.question,
        "model": spec.model,
        "cost_usd": answer.usage.cost_usd if answer else None,
        "wall_s": answer.usage.wall_s if answer else None,
        "started_at": spec.started_at,
    }


def _line(row: dict[str, Any], width: int) -> Any:
    from abyme.apps.amounts import usd  # noqa: PLC0415
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415

    status, cost = row["status"], row["cost_usd"]
    style = {"answered": "good", "partial": "warn", "running": "accent"}.get(status, "bad")
    money = "-" if cost is None else usd(round(cost * 1e6))
    when = str(row.get("started_at", "")).replace("T", " ")[:16]
    room = max(10, width - len(row["id"]) - len(when) - 28)
    return [
        (f"{safe_line(row['id'])}  ", "bold"),
        (f"{status:<11}  ", style),
        (f"{money:>9}  {when}  ", "dim"),
        (safe_line(row["question"], room), ""),
    ]
