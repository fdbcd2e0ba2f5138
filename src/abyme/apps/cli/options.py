"""Kinds of option values that several commands take."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from abyme.apps.listing import STATUSES

if TYPE_CHECKING:
    from abyme.contexts.choice import Choice
    from abyme.journals.folder import RunFolder

    Option: TypeAlias = click.ParamType[object]
else:
    Option = click.ParamType  # not generic before click 8.4

Command = TypeVar("Command", bound=Callable[..., object])

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


class Bytes(Option):
    """A size in bytes: ``500000``, ``20MB``, ``1.5 GiB``."""

    name = "SIZE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Text -> whole number; units of a thousand, with an ``i`` of 1,024."""
        if not isinstance(value, str):
            return value
        found = re.fullmatch(
            r"(\d{1,15}(?:\.\d{1,9})?) ?(?:([kmgt]?)(i?)b?)", value.strip().lower()
        )
        if found is None or (found[3] and not found[2]):
            self.fail(f"{value!r} is no size such as 500000, 20MB or 1GiB", param, ctx)
        unit = 1024 if found[3] else 1000
        return int(Decimal(found[1]) * unit ** " kmgt".index(found[2] or " "))


class _NoCeiling:
    def __repr__(self) -> str:
        return "none"


NO_CEILING = _NoCeiling()

DOLLARS = NumberOrNone(Decimal, "X|none")
COUNT = NumberOrNone(int, "N|none")
SECONDS = NumberOrNone(float, "S|none")


@dataclass(frozen=True, slots=True)
class _Ceiling:
    """One field of `Limits` as an option."""

    flag: str
    type: "click.ParamType[Any] | click.IntRange"
    metavar: str
    help: str


LIMITS: Mapping[str, _Ceiling] = {
    "max_usd": _Ceiling("--max-usd", DOLLARS, "X|none", "Ceiling in dollars for the whole run"),
    "confirm_usd": _Ceiling(
        "--confirm-usd",
        DOLLARS,
        "X|none",
        "Ask at the terminal before a batch of sub-calls that is expected to cost more",
    ),
    "max_calls": _Ceiling("--max-calls", COUNT, "N|none", "Ceiling of model calls"),
    "max_tokens": _Ceiling(
        "--max-tokens", COUNT, "N|none", "Ceiling of prompt and completion tokens together"
    ),
    "depth": _Ceiling(
        "--depth",
        click.IntRange(min=0),
        "N",
        "0: no sub-calls, 1: sub-models, 2: children with a REPL of their own...",
    ),
    "timeout_s": _Ceiling("--timeout", SECONDS, "S|none", "Wall time in seconds"),
    "max_turns": _Ceiling("--max-turns", click.IntRange(min=1), "N", "Turns of each model"),
}
"""Field of `Limits` -> its option."""


def limits(otherwise: Mapping[str, str]) -> Callable[[Command], Command]:
    """Give a command an option for each ceiling. `otherwise` says what holds without it."""

    def add(command: Command) -> Command:
        for field, ceiling in reversed([*LIMITS.items()]):
            command = click.option(
                ceiling.flag,
                field,
                type=ceiling.type,
                metavar=ceiling.metavar,
                help=f"{ceiling.help}; {otherwise[field]} if not given.",
            )(command)
        return command

    return add


def sources(command: Command) -> Command:
    """Give a command the options that choose among the files of its paths."""
    for option in (
        click.option(
            "--no-ingest-cache",
            "ingest_cache",
            flag_value=False,
            default=True,
            help="Neither take what was read before from disk, nor keep it there.",
        ),
        click.option(
            "--no-ignore",
            is_flag=True,
            help="In a git work tree, read what its .gitignore files leave out as well.",
        ),
        click.option(
            "--as-is",
            is_flag=True,
            help="Read HTML, e-mail, notebooks and CSV as the text that they are.",
        ),
        click.option(
            "--max-file-size",
            "max_file_bytes",
            type=Bytes(),
            metavar="SIZE",
            help="Skip files larger than 500kB, 20MB, 1GiB...; members of archives too.",
        ),
        click.option(
            "--exclude",
            multiple=True,
            metavar="PATTERN",
            help="Leave out what it fits, as in .gitignore: '*.min.js', build/; repeatable.",
        ),
        click.option(
            "--include",
            multiple=True,
            metavar="PATTERN",
            help="Read only files that it fits, as in .gitignore: '*.md', docs/; repeatable.",
        ),
    ):
        command = option(command)
    return command


def given_choice(options: Mapping[str, Any]) -> "Choice":
    """Say which files a command line wants, out of all its options."""
    from abyme.contexts.choice import Choice  # noqa: PLC0415

    return Choice(**{name: options[name] for name in Choice.__struct_fields__})


def given_limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `Limits` that a command line sets, out of all its options."""
    return {
        field: None if options[field] is NO_CEILING else options[field]
        for field in LIMITS
        if options[field] is not None
    }


def found(run: str, runs_dir: Path | None) -> "RunFolder":
    """Find the run that a command line names.

    Raises:
        ConfigError: there is none, or more than one.
    """
    from abyme.errors import ConfigError, JournalError  # noqa: PLC0415
    from abyme.journals.folder import find  # noqa: PLC0415
    from abyme.run.spec import data_dir  # noqa: PLC0415

    try:
        return find(runs_dir or data_dir() / "runs", run)
    except JournalError as error:
        raise ConfigError(str(error)) from None


RUNS_DIR = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder of the runs, in place of your own.",
)

BASE_URL = click.option("--base-url", metavar="URL", help="Any OpenAI-compatible endpoint.")

SUB_BASE_URL = click.option(
    "--sub-base-url", metavar="URL", help="Another endpoint for the sub-model."
)

API_KEY = click.option(
    "--api-key",
    metavar="KEY",
    help="Others on this machine can see it in the list of processes: rather set ABYME_API_KEY.",
)

CACHE = click.option(
    "--cache",
    is_flag=True,
    help="Keep replies on this machine, and take equal ones of any run from there.",
)

QUIET = click.option("--quiet", "-q", is_flag=True, help="No progress.")

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")

STATUS = click.option(
    "--status",
    "statuses",
    type=Words(STATUSES, "S,..."),
    default=frozenset(),
    help=f"Only these: {', '.join(STATUSES)}.",
)
