"""Read a run's records back.

Decides what counts as a record: a whole line, its newline included, that decodes and
whose number follows the one before. A torn *last* line is what a power cut leaves: it
is left out, and `Recording.torn_bytes` says how much it was. Anything else that is
wrong is an error that names the line.

Migration rule: a line is brought from the schema it was written in to `SCHEMA` one
step at a time, by `MIGRATIONS[version]` on plain JSON, before it is decoded. A journal
of a later schema than ours is refused, never guessed at. Does not change the file.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abyme.core.events import SCHEMA, Record, RunStarted
from abyme.errors import JournalError
from abyme.journals import codec


def _children_have_parts(line: dict[str, Any]) -> dict[str, Any]:
    """1 -> 2: the text that a child is given moved from `text` to `context`."""
    event = line["event"]
    if event.get("kind") == "calls_requested" and event.get("purpose") == "rlm":
        for request in event["requests"]:
            if (text := request.pop("text", None)) is not None:
                request["context"] = {"text": text}
    return line


MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _children_have_parts}
"""Schema -> what turns one of its lines into a line of the next schema."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a journal holds."""

    records: list[Record]
    torn_bytes: int
    """Length of the torn last line; 0 if the file is whole."""
    intact_bytes: int
    """Length of the file up to it."""

    @property
    def started(self) -> RunStarted:
        """The first record's event, which `read` has checked."""
        event = self.records[0].event
        assert isinstance(event, RunStarted)
        return event


def read(path: Path) -> Recording:
    """Read a journal whole.

    Raises:
        JournalError: if it is absent, empty, damaged, or of a later schema.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    intact_bytes = data.rfind(b"\n") + 1
    records = list(_records(data[:intact_bytes], path))
    if not records:
        raise JournalError(f"{path} holds no complete record: the run was cut off at its start")
    return Recording(records, len(data) - intact_bytes, intact_bytes)


def _records(data: bytes, path: Path) -> Iterator[Record]:
    upgrade = None
    for number, line in enumerate(data.split(b"\n")[:-1]):
        try:
            if number == 0:
                upgrade = _upgrade(codec.decode_plain(line))
            record = _decode(line, upgrade)
        except ValueError as error:
            raise JournalError(f"{path}, line {number + 1}: {error}") from None
        if record.seq != number:
            raise JournalError(f"{path}, line {number + 1}: record {record.seq} is out of order")
        if (number == 0) != isinstance(record.event, RunStarted):
            raise JournalError(f"{path}, line {number + 1}: a run starts once, at its first line")
        yield record


def _decode(line: bytes, upgrade: Callable[[dict[str, Any]], dict[str, Any]] | None) -> Record:
    if upgrade is None:
        return codec.decode(line, Record)
    return codec.convert(upgrade(codec.decode_plain(line)), Record)


def _upgrade(first: Any) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """How to bring lines to our schema, from the version that the first one states."""
    try:
        written = int(first["event"]["schema"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("the first line does not start a run") from None
    if written == SCHEMA:
        return None
    if written > SCHEMA:
        raise ValueError(f"schema {written} is from a later version; this one reads up to {SCHEMA}")
    missing = [version for version in range(written, SCHEMA) if version not in MIGRATIONS]
    if missing:
        raise ValueError(f"schema {written} is too old: no migration from {missing[0]}")
    steps = [MIGRATIONS[version] for version in range(written, SCHEMA)]

    def upgrade(line: dict[str, Any]) -> dict[str, Any]:
        for step in steps:
            line = step(line)
        return line

    return upgrade
