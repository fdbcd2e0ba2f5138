"""``abyme runs``: what was asked, newest first, and what it cost. Changes nothing.

Removing is `prune`. The list, its filters and its sums are `abyme.apps.listing`.
"""

from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from abyme.apps import listing
from abyme.apps.cli import failures, options, prune
from abyme.apps.cli.terminal import out


@click.group("runs", invoke_without_command=True, short_help="List your runs, or remove some.")
@options.RUNS_DIR
@click.option("--limit", "-n", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")
@options.STATUS
@click.option("--model", default="", metavar="TEXT", help="Only where a model's name has TEXT.")
@click.option("--since", type=options.Moment(), help="Only from then on: 2d, 12h, 2026-11-22.")
@click.option("--grep", default="", metavar="TEXT", help="Only where the question has TEXT.")
@options.JSON
@click.pass_context
def command(  # noqa: PLR0913, PLR0917 - one argument an option
    ctx: click.Context,
    runs_dir: Path | None,
    limit: int | None,
    statuses: frozenset[str],
    model: str,
    since: datetime | None,
    grep: str,
    *,
    as_json: bool,
) -> int:
    """List your runs, newest first, and what they cost together."""
    from abyme.run.spec import data_dir  # noqa: PLC0415

    if ctx.invoked_subcommand is not None:
        _say_nothing_before(ctx)
        return failures.ANSWERED
    folder = runs_dir or data_dir() / "runs"
    wanted = listing.Wanted(statuses=statuses, model=model, since=since, grep=grep)
    total = listing.Sum()
    shown: list[dict[str, Any]] = []
    for row in islice(filter(wanted.has, listing.rows(folder)), limit):
        spent = listing.spent(row)
        total.add(spent)
        if as_json:
            shown.append(_as_json(row, spent))
        else:
            out().line(_line(row, spent, out().width))
    if as_json:
        failures.print_json({"runs": shown, "total": total})
    elif total.runs:
        out().say(_total(total))
    else:
        out().say(f"no runs in {folder}" + (" yet" if wanted == listing.Wanted() else " like that"))
    return failures.ANSWERED


command.add_command(prune.command)


def _say_nothing_before(ctx: click.Context) -> None:
    """Refuse options that stand before a subcommand, which would not hear them."""
    for name in ctx.params:
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"options go behind `{ctx.invoked_subcommand}`", ctx)


def _as_json(row: listing.Row, spent: listing.Spent) -> dict[str, Any]:
    spec, usage = row.spec, spent.usage
    return {
        "id": row.run.id,
        "run": str(row.run.path),
        "status": row.status,
        "question": row.question,
        "model": spec.model if spec else None,
        "sub_model": spec.sub_model if spec else None,
        "started_at": spec.started_at if spec else None,
        "calls": usage.calls if usage else None,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cost_usd": usage.cost_usd if usage else None,
        "in_flight_usd": spent.in_flight_usd,
        "wall_s": usage.wall_s if usage else None,
    }


def _line(row: listing.Row, spent: listing.Spent, width: int) -> Any:
    from abyme.apps.amounts import usd  # noqa: PLC0415
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415

    style = {"answered": "good", "partial": "warn", "running": "accent"}.get(row.status, "bad")
    cost = spent.usage.cost_usd if spent.usage else None
    money = "-" if cost is None else usd(round(cost * 1e6))
    when = f"{row.started:%Y-%m-%d %H:%M}" if row.started else ""
    room = max(10, width - len(row.run.id) - len(when) - 28)
    return [
        (f"{safe_line(row.run.id)}  ", "bold"),
        (f"{row.status:<11}  ", style),
        (f"{money:>9}  {when}  ", "dim"),
        (safe_line(row.question, room), ""),
    ]


def _total(total: listing.Sum) -> str:
    from abyme.apps.amounts import count, duration, usd  # noqa: PLC0415

    money = usd(round(total.cost_usd * 1e6))
    if total.unknown_costs:
        money += f", and {count(total.unknown_costs, 'run')} of unknown cost"
    if total.in_flight_usd:
        money += f", and up to {usd(round(total.in_flight_usd * 1e6))} in flight"
    tokens = f"{total.prompt_tokens:,} + {total.completion_tokens:,} tokens"
    calls = count(total.calls, "call")
    return " · ".join([count(total.runs, "run"), calls, tokens, money, duration(total.wall_s)])
