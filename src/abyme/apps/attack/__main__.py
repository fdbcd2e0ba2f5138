"""The command behind ``make attack``.

Decides the rounds: each tier that is there, at each privilege that can be had. Exit code 0 only if
something ran, on Linux also in the jail, nothing was broken, and no attack reached its goal.
"""

import sys
from collections.abc import Sequence
from typing import get_args

import click

from abyme.apps.attack import report
from abyme.apps.attack.child import chosen
from abyme.apps.attack.privileges import PRIVILEGES, by_name
from abyme.apps.attack.rounds import Round, Told, play
from abyme.apps.cli import failures
from abyme.apps.cli.terminal import err, out
from abyme.core.isolation import Tier
from abyme.sandboxes.self_check.behaviour import Behaviour
from abyme.sandboxes.self_check.entries import ENTRIES

AS_STARTED = "as-started"
EVERY_PRIVILEGE = ("jail",)
"""Tiers whose layers depend on who starts them; others run as whoever runs this."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.option("--tier", "tiers", multiple=True, type=click.Choice(get_args(Tier)),
              help="Only this one; may be repeated.")  # fmt: skip
@click.option("--privilege", "privileges", multiple=True,
              type=click.Choice([one.name for one in PRIVILEGES]),
              help="Only as this one; may be repeated.")  # fmt: skip
@click.option("--only", "globs", default="*", metavar="GLOB,...",
              help="Entries whose id fits, as in 'file.*'.")  # fmt: skip
@click.option("--everybody-python", "everybody", metavar="PATH",
              help="As root: a Python with abyme that an ordinary user may run.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print results for a program.")
@click.option("--list", "listed", is_flag=True, help="Print the entries and run none.")
def command(  # noqa: PLR0913  one argument an option
    *,
    tiers: tuple[str, ...],
    privileges: tuple[str, ...],
    globs: str,
    everybody: str | None,
    as_json: bool,
    listed: bool,
) -> None:
    """Attack every sandbox that can run here, as everybody who may start it.

    Semantics of Python in a cell are checked as well. Attacks run as cells inside the
    sandbox; they aim at files, sockets and processes that are made for them.
    """
    entries = chosen(globs)
    if not entries:
        raise click.UsageError(f"no entry fits {globs}; --list prints them")
    if listed:
        _list(entries)
        return
    rounds = [
        _played(tier, privilege, globs, everybody, quiet=as_json)
        for tier in tiers or get_args(Tier)
        for privilege in _privileges(tier, privileges)
    ]
    if as_json:
        failures.print_json({"rounds": [report.as_json(made) for made in rounds]})
    else:
        report.summary(rounds, out())
    missing = _without_results(rounds, tiers)
    if missing and not as_json:
        out().line([(f"no round ran in: {', '.join(missing)}", "bad")])
    sys.exit(0 if not missing and all(made.holds for made in rounds) else 1)


def _without_results(rounds: Sequence[Round], asked: Sequence[str]) -> list[str]:
    """Name what must have run and has not: all that was asked for, and on Linux the jail."""
    if asked:
        return [f"{made.tier}, {made.privilege}" for made in rounds if not made.results]
    ran = {made.tier for made in rounds if made.results}
    musts = ["jail"] if sys.platform == "linux" else []
    return [tier for tier in musts if tier not in ran] or ([] if ran else ["any sandbox"])


def _played(tier: str, privilege: str, globs: str, everybody: str | None, *, quiet: bool) -> Round:
    """Play a round and show it."""
    waiting = err()

    def told(one: Told) -> None:
        if waiting.redrawable and not quiet:
            waiting.write(f"\r\x1b[K{tier}, {privilege}: {one.id}"[:78])

    made = play(tier, by_name(privilege), globs, told, everybody)
    if waiting.redrawable and not quiet:
        waiting.write("\r\x1b[K")
    if not quiet:
        report.show(made, {entry.id: entry for entry in ENTRIES}, out())
    return made


def _privileges(tier: str, asked: tuple[str, ...]) -> tuple[str, ...]:
    if asked:
        return asked
    if tier in EVERY_PRIVILEGE:
        return tuple(one.name for one in PRIVILEGES if one.name != AS_STARTED)
    return (AS_STARTED,)


def _list(entries: Sequence[Behaviour]) -> None:
    terminal = out()
    for entry in entries:
        terminal.say(f"{entry.id:<28}  {entry.sentence} [{entry.source}]")


if __name__ == "__main__":
    command()
