"""Kinds of option values that several commands take."""

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

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
