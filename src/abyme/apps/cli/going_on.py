"""How to go on with a run that ended without its answer: one line with the command.

Decides whether `abyme resume` would get further, and which limit must be raised for it.
Only reads the run's spec; it does not try the resuming itself (`run.resume`).
"""

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from abyme.apps.cli import options

if TYPE_CHECKING:
    from abyme.core.events import RunStarted
    from abyme.core.limits import Limits
    from abyme.journals.folder import RunFolder, RunSpec

NO_USE = ("bad_shape",)
"""Reasons that would come again: the answer was there and did not fit."""
NEWEST = 20
"""Runs that are looked at for one that has just begun."""
NOT_MADE = "the call was not made: "


def how_to_go_on(run: Path, reason: str, limits: "Limits | None" = None) -> str | None:
    """One line for whoever wants the answer after all; None where nothing would come of it."""
    from abyme.errors import JournalError  # noqa: PLC0415
    from abyme.journals.folder import RunFolder  # noqa: PLC0415

    if reason.startswith(NO_USE):
        return None
    folder = RunFolder(run)
    try:
        spec = folder.spec()
    except JournalError:
        return None
    parts = ["abyme", "resume", _name(folder), *_inputs(spec), *_raised(reason, limits)]
    return f"to go on: {shlex.join(parts)}"


def run_of(started: "RunStarted", runs_dir: Path | None) -> Path | None:
    """Find the folder of a run that broke off without a word, by its seed."""
    from abyme.core.events import RunStarted  # noqa: PLC0415
    from abyme.errors import JournalError  # noqa: PLC0415
    from abyme.journals.folder import list_runs  # noqa: PLC0415
    from abyme.journals.reader import each  # noqa: PLC0415
    from abyme.run.spec import data_dir  # noqa: PLC0415

    for folder in list_runs(runs_dir or data_dir() / "runs")[:NEWEST]:
        with contextlib.suppress(JournalError):
            first = next(each(folder.events_path)).event
            if isinstance(first, RunStarted) and first.seed == started.seed:
                return folder.path
    return None


def _name(folder: "RunFolder") -> str:
    """Its id, where the command looks by itself, else its path."""
    from abyme.run.spec import data_dir  # noqa: PLC0415

    return folder.id if folder.path.parent == data_dir() / "runs" else str(folder.path)


def _inputs(spec: "RunSpec") -> list[str]:
    """Paths that must be given again, because the run cannot read them once more."""
    from abyme.contexts.kept import must_be_kept  # noqa: PLC0415

    return [] if spec.kept or not must_be_kept(spec.sources) else list(spec.sources)


def _raised(reason: str, limits: "Limits | None") -> list[str]:
    """Double the limit that was met."""
    field = reason.removeprefix(NOT_MADE).partition(":")[0]
    if limits is None or field not in options.LIMITS:
        return []
    now = getattr(limits, field)
    return [] if not now else [options.LIMITS[field].flag, f"{_twice(now)}"]


def _twice(amount: object) -> str:
    from decimal import Decimal  # noqa: PLC0415

    twice = 2 * Decimal(str(amount))
    return f"{twice.normalize():f}"
