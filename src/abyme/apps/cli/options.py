"""Kinds of option values that several commands take."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from abyme.apps.listing import STATUSES

if TYPE_CHECKING:
    Option: TypeAlias = click.ParamType[object]
else:
    Option = click.ParamType  # not generic before click 8.4

MOST = 10**12
"""Beyond it somebody has mistyped."""


class NumberOrNone(Option):
    """A number, or ``none`` to lift a ceiling."""

    def __init__(self, kind: type[int] | type[float] | type[Decimal], name: str) -> None:
        self._kind = kind
        self.name = name

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Text -> number, or `NO_CEILING`, because click reads None as not given."""
        if not isinstance(value, str):
            return value
        if value.lower() == "none":
            return NO_CEILING
        try:
            number = self._kind(value)
            fits = 0 <= number < MOST
        except (ValueError, InvalidOperation):
            self.fail(f"{value!r} is neither a number nor `none`", param, ctx)
        if not fits:
            self.fail(f"{value!r} is out of range: 0 or more, or `none`", param, ctx)
        return number


def moment(text: str, now: datetime) -> datetime:
    """Read a moment: so long before `now` (``90m``, ``12h``, ``30d``, ``4w``), or an ISO date.

    A date without a zone is UTC, as the list of runs shows it.

    Raises:
        ValueError: it is neither, or lies before the calendar's beginning.
    """
    ago = re.fullmatch(r"(\d{1,9})([mhdw])", text)
    if ago:
        unit = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}[ago[2]]
        try:
            return now - timedelta(**{unit: int(ago[1])})
        except OverflowError:
            raise ValueError(text) from None
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


class Moment(Option):
    """A moment in the past, see `moment`."""

    name = "AGE|DATE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Text -> `datetime`, in UTC where it names no zone."""
        if not isinstance(value, str):
            return value
        try:
            return moment(value, datetime.now(UTC))
        except ValueError:
            self.fail(f"{value!r} is neither an age (90m, 12h, 30d, 4w) nor a date", param, ctx)


class Words(Option):
    """Words out of a few, separated by commas."""

    def __init__(self, known: Sequence[str], name: str) -> None:
        self._known = known
        self.name = name

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Text -> set of words."""
        if not isinstance(value, str):
            return value
        words = frozenset(word.strip() for word in value.split(","))
        for word in sorted(words - {*self._known}):
            self.fail(f"{word!r} is none of {', '.join(self._known)}", param, ctx)
        return words


class _NoCeiling:
    def __repr__(self) -> str:
        return "none"


NO_CEILING = _NoCeiling()

DOLLARS = NumberOrNone(Decimal, "X|none")
COUNT = NumberOrNone(int, "N|none")
SECONDS = NumberOrNone(float, "S|none")

RUNS_DIR = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder of the runs, in place of your own.",
)

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")

STATUS = click.option(
    "--status",
    "statuses",
    type=Words(STATUSES, "S,..."),
    default=frozenset(),
    help=f"Only these: {', '.join(STATUSES)}.",
)
