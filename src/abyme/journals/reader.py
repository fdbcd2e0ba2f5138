"""Read a run's records back.

Decides what counts as a record: a whole line, its newline included, that decodes and
whose number follows the one before. A torn *last* line is what a power cut leaves: it
is left out, and `Recording.torn_bytes` says how much it was. Anything else that is
wrong is an error that names the line.

Migration rule: a line is brought from the schema it was written in to `SCHEMA` one
step at a time, by `MIGRATIONS[version]` on plain JSON, before it is decoded. A journal
of a later schema than ours is refused, never guessed at. Does not change the file; so
one of an earlier schema can be read and not gone on with (`Recording.schema`).

Memory: a line at a time, beside the records themselves; no line is longer than
`MOST_LINE_BYTES`. A link, a pipe or a device is no journal.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from msgspec import structs

from abyme.core.events import SCHEMA, Record, RunResumed, RunStarted
from abyme.core.limits import Limits
from abyme.core.profile import SubPrompts
from abyme.errors import JournalError
from abyme.files import open_regular
from abyme.journals import codec

Step: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

MOST_LINE_BYTES: Final = 1 << 30
"""A batch of sub-calls is one line, and takes 256 MB at most in a session's memory."""


def _children_have_parts(line: dict[str, Any]) -> dict[str, Any]:
    """1 -> 2: the text that a child is given moved from `text` to `context`."""
    event = line["event"]
    if event.get("kind") == "calls_requested" and event.get("purpose") == "rlm":
        for request in event["requests"]:
            if (text := request.pop("text", None)) is not None:
                request["context"] = {"text": text}
    return line


def _profiles_speak_to_sub_models(line: dict[str, Any]) -> dict[str, Any]:
    """2 -> 3: what a sub-model is told stands in the profile; it had no words for maps."""
    event = line["event"]
    if event.get("kind") == "run_started":
        for profile in (event["profile"], event.get("sub_profile")):
            if profile is not None:
                needed = (field.name for field in structs.fields(SubPrompts) if field.required)
                profile["sub"] = {**dict.fromkeys(needed, ""), "map_items": 0}
    return line


MIGRATIONS: Mapping[int, Step] = {1: _children_have_parts, 2: _profiles_speak_to_sub_models}
"""Schema -> what turns one of its lines into a line of the next schema."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a journal holds."""

    records: list[Record]
    torn_bytes: int
    """Length of the torn last line; 0 if the file is whole."""
    intact_bytes: int
    """Length of the file up to it."""
    schema: int = SCHEMA
    """It was written in; `records` are in ours."""

    @property
    def started(self) -> RunStarted:
        """The first record's event, which `read` has checked."""
        event = self.records[0].event
        assert isinstance(event, RunStarted)
        return event

    @property
    def limits(self) -> Limits:
        """Those that held last: a run that goes on may have got others."""
        limits = self.started.limits
        for record in self.records:
            if isinstance(record.event, RunResumed):
                limits = record.event.limits
        return limits


def read(path: Path) -> Recording:
    """Read a journal whole.

    Raises:
        JournalError: if it is absent, empty, damaged, or of a later schema.
    """
    journal = _Journal(path)
    records = list(journal)
    return Recording(records, journal.torn_bytes, journal.intact_bytes, journal.schema)


def each(path: Path) -> Iterator[Record]:
    """Read a journal record by record, for whoever need not hold all of them.

    Raises:
        JournalError: as `read`, once it comes to what is wrong.
    """
    return iter(_Journal(path))


class _Journal:
    """The records of a file, in order; what it is like is known when all have been taken."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.torn_bytes = 0
        self.intact_bytes = 0
        self.schema = SCHEMA

    def __iter__(self) -> Iterator[Record]:
        upgrade: Step | None = None
        number = 0
        for number, line in enumerate(self._lines(), 1):
            try:
                if number == 1:
                    upgrade = self._upgrade(line)
                record = _decode(line, upgrade)
            except ValueError as error:
                raise JournalError(f"{self._path}, line {number}: {error}") from None
            wrong = _misplaced(record, number)
            if wrong:
                raise JournalError(f"{self._path}, line {number}: {wrong}")
            yield record
        if not number:
            raise JournalError(
                f"{self._path} holds no complete record: the run was cut off at its start"
            )

    def _lines(self) -> Iterable[bytes]:
        try:
            with open(open_regular(self._path, os.O_RDONLY), "rb") as file:  # noqa: PTH123
                while line := file.readline(MOST_LINE_BYTES):
                    if not line.endswith(b"\n"):
                        self._torn(line)
                        return
                    self.intact_bytes += len(line)
                    yield line
        except OSError as error:
            raise JournalError(f"cannot read {self._path}: {error.strerror}") from error

    def _torn(self, line: bytes) -> None:
        if len(line) == MOST_LINE_BYTES:
            raise JournalError(f"{self._path}: a line is longer than {MOST_LINE_BYTES:,} bytes")
        self.torn_bytes = len(line)

    def _upgrade(self, first: bytes) -> Step | None:
        self.schema, upgrade = _upgrade(codec.decode_plain(first))
        return upgrade


def _misplaced(record: Record, number: int) -> str | None:
    """Say why a record cannot stand in this line, counted from 1."""
    if record.seq != number - 1:
        return f"record {record.seq} is out of order"
    if (number == 1) != isinstance(record.event, RunStarted):
        return "a run starts once, at its first line"
    return None


def _decode(line: bytes, upgrade: Step | None) -> Record:
    if upgrade is None:
        return codec.decode(line, Record)
    try:
        return codec.convert(upgrade(codec.decode_plain(line)), Record)
    except (AttributeError, KeyError, TypeError) as error:  # a migration takes shapes for granted
        raise ValueError(f"no record of its schema: {error!r}") from None


def _upgrade(first: Any) -> tuple[int, Step | None]:
    """Tell the version that the first line states, and how to bring lines of it to ours."""
    try:
        written = first["event"]["schema"]
    except (KeyError, TypeError):
        written = None
    if type(written) is not int:
        raise ValueError("the first line does not start a run")
    if written == SCHEMA:
        return written, None
    if written < 1:
        raise ValueError(f"schema {written} is none: they count from 1")
    if written > SCHEMA:
        raise ValueError(f"schema {written} is from a later version; this one reads up to {SCHEMA}")
    missing = [version for version in range(written, SCHEMA) if version not in MIGRATIONS]
    if missing:
        raise ValueError(f"schema {written} is too old: no migration from {missing[0]}")
    steps = [MIGRATIONS[version] for version in range(written, SCHEMA)]

    def upgrade(line: dict[str, Any]) -> dict[str, Any]:
        for step in steps:
            line = step(line)
        if line["event"].get("kind") == "run_started":
            line["event"]["schema"] = SCHEMA
        return line

    return written, upgrade
