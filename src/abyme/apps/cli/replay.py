"""``abyme replay``: a run's cells once more, with no model, compared with its journal.

Decides how a difference is printed, and the exit code: 0 the same, 1 not, 2 it cannot be
told. Does not decide what counts as a difference (`run.replay`).
"""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abyme.apps.cli import failures, options
from abyme.apps.cli.terminal import err, out
from abyme.errors import ConfigError, JournalError

if TYPE_CHECKING:
    from abyme.journals.folder import RunFolder
    from abyme.run.replay import Apart, Replayed


@click.command("replay", short_help="Run a run's cells again, with no model, and compare.")
@click.argument("run", metavar="RUN")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--all", "every", is_flag=True, help="List every difference, not the first alone.")
@options.RUNS_DIR
@options.JSON
@options.QUIET
def command(  # noqa: PLR0913 - one argument an option
    run: str,
    paths: tuple[str, ...],
    runs_dir: Path | None,
    *,
    every: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run the cells of a run again, answered from its journal, and compare what comes out.

    No model is asked, nothing is spent, and the run is not changed. RUN is an id or the
    beginning of one, a folder, or `latest`; PATH, or - for standard input, gives the input
    again where it cannot be read from where it was. Exit codes: 0 the same, 1 not.
    """
    folder = options.found(run, runs_dir)
    replayed = _replayed(folder, paths, quiet=quiet)
    if as_json:
        failures.print_json(_as_json(folder.path, replayed))
    else:
        for line in _lines(replayed, every=every):
            out().say(line)
    return failures.ANSWERED if replayed.same else failures.FAILED


def _replayed(folder: "RunFolder", paths: tuple[str, ...], *, quiet: bool) -> "Replayed":
    from abyme.apps.cli.progress import progress  # noqa: PLC0415
    from abyme.apps.cli.watching import loaded_again  # noqa: PLC0415
    from abyme.run.replay import replay  # noqa: PLC0415

    shown = progress(err(), quiet=quiet)
    try:
        given = loaded_again(folder, paths, shown) if paths else nullcontext()
        with given as context:
            return replay(folder.path, context=context, on_cell=shown.cells_done)
    except JournalError as error:
        raise ConfigError(str(error)) from None
    finally:
        shown.close()


def _lines(replayed: "Replayed", *, every: bool) -> list[str]:
    from abyme.apps.amounts import count  # noqa: PLC0415

    if replayed.diverged is not None:
        return [f"differs at {replayed.diverged}", "no cell was run"]
    cells, nodes = count(replayed.cells, "cell"), count(replayed.nodes, "node")
    did = f"{count(replayed.records, 'record')}, {cells} of {nodes}"
    if replayed.same:
        return [f"same: {did}"]
    shown = replayed.apart if every else replayed.apart[:1]
    lines = [f"differs: {len(replayed.apart):,} of {cells} of {nodes}", *map(_difference, shown)]
    if more := len(replayed.apart) - len(shown):
        lines.append(f"and {more:,} more (--all lists them)")
    return lines


def _difference(apart: "Apart") -> str:
    from abyme.apps.tree import differing  # noqa: PLC0415

    return f"record {apart.record:,}: {differing(apart.node, apart.difference)}"


def _as_json(run: Path, replayed: "Replayed") -> dict[str, Any]:
    return {
        "run": str(run),
        "same": replayed.same,
        "records": replayed.records,
        "nodes": replayed.nodes,
        "cells": replayed.cells,
        "diverged": replayed.diverged,
        "differences": [
            {
                "record": apart.record,
                "node": apart.node,
                "cell": apart.difference.cell,
                "what": apart.difference.what,
                "names": apart.difference.names,
            }
            for apart in replayed.apart
        ],
    }
