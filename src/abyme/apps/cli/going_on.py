"""How to go on with a run that ended without its answer: one line with the command.

Decides whether `abyme resume` would get further, and which limit must be raised for it.
Only reads the run's spec; it does not try the resuming itself (`run.resume`).
"""

import contextlib
import re
import shlex
from decimal import ROUND_UP, Decimal
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
LED = re.compile(
    r"(?:the call was not made: "
    r"|the limits allow no further turn \("
    r"|the run ended at a limit \()?(\w+): "
)
"""How a reason begins that names a limit."""
AMOUNT = re.compile(r"\d[\d,]*(?:\.\d+)?")
ROOM = Decimal("1.5")
"""Times what was needed: beside what is kept back for the last turn that is a few turns."""
FIGURES = 2
"""Of a limit that is suggested."""


def how_to_go_on(run: Path, reason: str, limits: "Limits | None" = None) -> str | None:
    """One line for whoever wants the answer after all; None where nothing would come of it."""
    from abyme.errors import JournalError  # noqa: PLC0415
    from abyme.journals.folder import RunFolder  # noqa: PLC0415

    if reason.startswith(NO_USE):
        return None
    folder = RunFolder(run)
    try:
        spec = folder.spec()
        raised = _raised(reason, limits, folder)
    except JournalError:
        return None
    parts = ["abyme", "resume", name_of(run), *_inputs(spec), *raised]
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


def name_of(run: Path) -> str:
    """Its id, where commands look by themselves, else its path."""
    from abyme.run.spec import data_dir  # noqa: PLC0415

    return run.name if run.parent == data_dir() / "runs" else str(run)


def _inputs(spec: "RunSpec") -> list[str]:
    """Paths that must be given again, because the run cannot read them once more."""
    from abyme.contexts.kept import must_be_kept  # noqa: PLC0415

    return [] if spec.kept or not must_be_kept(spec.sources) else list(spec.sources)


def _raised(reason: str, limits: "Limits | None", run: "RunFolder") -> list[str]:
    """Raise the limit that was met."""
    led = LED.match(reason)
    field = led[1] if led else ""
    if field not in options.LIMITS:
        return []
    now = getattr(limits or run.recording().limits, field)
    if now is None:
        return []
    enough = max(2 * Decimal(str(now)), ROOM * _wanted(reason)) or _usual(field)
    return [options.LIMITS[field].flag, _rounded(enough, field)]


def _wanted(reason: str) -> Decimal:
    """Add up what was needed and what it was needed beside, in the words of `LimitReached`;
    0 for a limit that is not told so.
    """
    amounts, told, _ = reason.partition("the ceiling is")
    found = AMOUNT.findall(amounts) if told else []
    return sum((Decimal(amount.replace(",", "")) for amount in found), Decimal(0))


def _usual(field: str) -> Decimal:
    """Tell the limit of a run that was given none."""
    from abyme.core.limits import Limits  # noqa: PLC0415

    return Decimal(str(getattr(Limits(), field)))


def _rounded(amount: Decimal, field: str) -> str:
    """Round up to two figures; what is counted, to a whole number."""
    from abyme.core.limits import DOLLARS, FRACTIONS  # noqa: PLC0415

    exponent = amount.adjusted() - FIGURES + 1
    if field not in DOLLARS | FRACTIONS:
        exponent = max(0, exponent)
    return f"{amount.quantize(Decimal(1).scaleb(exponent), ROUND_UP).normalize():f}"
