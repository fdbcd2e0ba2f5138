"""What a table that is written as text says: where rows begin, names of columns, their types.

Decides how a text is split into rows and cells (delimiter, quotes, header), and of which type a
column is: the narrowest that each of its cells is written in, empty ones aside; a number with
zeros in front is none, because it is an id. Used by the REPL and, so that both mean the same, by
the readers that put a table beside its text in binary form.

Invariant: a row is told with the span it has in the text, which is never changed.
Does not hold a table: rows are made as they are asked for.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from typing import Any, Final

HEAD_CHARS: Final = 64 << 10
"""Of a text so much is looked at to find out how it is written."""
DELIMITERS: Final = ("\t", ",", ";", "|")
_LOOKED_AT: Final = 100
"""Rows."""
_MOST: Final = 0.9
_NAME_CHARS: Final = 80
_CELL_CHARS: Final = 1 << 30
"""The csv module takes 128 K characters for an error."""
_LEAST_CHARS, _BLOCK_CHARS = 1 << 10, 256 << 10
BATCH_ROWS: Final = 4096

_DAY: Final = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
FORMS: Final = {
    "int": r"-?(?:0|[1-9]\d{0,17})",
    "float": r"-?(?:(?:0|[1-9]\d{0,17})(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?",
    "bool": "true|false|True|False|TRUE|FALSE",
    "date": _DAY,
    "datetime": rf"{_DAY}[T ](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{{1,6}})?)?",
}
"""Type -> how each cell of it is written; understood alike by `re` and by RE2. Each `int` is a
`float` as well."""
_YEAR: Final = re.compile(r"(?:19|20)\d\d", re.ASCII).fullmatch
"""A name of a column that is a number."""
TRUE: Final = frozenset({"true", "True", "TRUE"})
_MATCH: Final = {kind: re.compile(form, re.ASCII).fullmatch for kind, form in FORMS.items()}
_REAL: Final[dict[str, Callable[[str], object]]] = {
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
}
"""What is written like a day may be none: 2023-02-30."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How cells are told apart."""

    delimiter: str
    quotes: bool = True
    """Cells may stand in quotes, with delimiters and line ends in them."""
    blanks: bool = False
    """A blank follows each delimiter, and belongs to it."""


def dialect_of(text: str, *, sure: bool) -> Dialect | None:
    """Find how a table is written; None if a text does not look like one.

    `sure`: it is one, if of a single column.
    """
    head = text[:HEAD_CHARS]
    best, found = (0.0, 0), None
    for delimiter in DELIMITERS:
        for quotes in (True, False):
            try:
                rows = _first_rows(head, Dialect(delimiter, quotes), cut=len(head) < len(text))
            except csv.Error:
                continue
            width, share = _shape(rows)
            if width > 1 and share >= _MOST and (share, width) > best:
                blanks = all(cell[:1] == " " for row in rows[:_LOOKED_AT] for cell in row[1:])
                best, found = (share, width), Dialect(delimiter, quotes, blanks)
    return found or (Dialect(",") if sure else None)


def _first_rows(head: str, dialect: Dialect, *, cut: bool) -> list[list[str]]:
    """Read some rows strictly, without the last one if it may be cut."""
    if cut:
        head = head[: head.rfind("\n") + 1] or head
    rows: list[list[str]] = []
    try:
        rows.extend(row for _, _, row in islice(rows_of(head, dialect), _LOOKED_AT))
    except csv.Error:
        if not cut or len(rows) < _LOOKED_AT // 2:
            raise
    return rows


def _shape(rows: Sequence[Sequence[str]]) -> tuple[int, float]:
    """Width of most rows, and how many of them have it, from 0 to 1."""
    if len(rows) < 2:
        return (len(rows[0]), 1.0) if rows else (0, 0.0)
    ((width, count),) = Counter(map(len, rows)).most_common(1)
    return width, count / len(rows)


class _Lines:
    """The lines of a text, and where the next one begins."""

    def __init__(self, text: str, at: int, end: int) -> None:
        self.at = at
        self._text = text
        self._stop = end
        self._end = "\n" if "\n" in text else "\r"

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        at = self.at
        if at >= self._stop:
            raise StopIteration
        self.at = self._text.find(self._end, at, self._stop) + 1 or self._stop
        return self._text[at : self.at]


def rows_of(
    text: str, dialect: Dialect, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield rows with their spans, line ends not included; empty lines are none.

    Raises:
        csv.Error: quotes are not closed, or something follows them.
    """
    end = len(text) if end is None else end
    csv.field_size_limit(_CELL_CHARS)  # for all of this process, which is a REPL's or a reader's
    if "\n" in text and not (dialect.quotes and '"' in text):
        yield from _rows_of_lines(text, dialect, start, end)
        return
    lines = _Lines(text, start, end)
    at = start
    for row in _reader(lines, dialect):
        if row:
            yield at, _without_end(text, at, lines.at), row
        at = lines.at


def _rows_of_lines(
    text: str, dialect: Dialect, at: int, end: int
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield rows of a text in which each is a line: some lines at once, which is much faster."""
    room = _LEAST_CHARS
    while at < end:
        stop = text.find("\n", min(at + room, end), end)
        room = min(2 * room, _BLOCK_CHARS)
        lines = text[at : end if stop < 0 else stop].split("\n")
        for line, row in zip(lines, _reader(lines, dialect), strict=True):
            if row:
                yield at, at + len(line) - (line[-1] == "\r"), row
            at += len(line) + 1


def _reader(lines: Iterable[str], dialect: Dialect) -> Iterator[list[str]]:
    return csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_MINIMAL if dialect.quotes else csv.QUOTE_NONE,
        skipinitialspace=dialect.blanks,
        strict=dialect.quotes,
    )


def _without_end(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1] in "\r\n":
        end -= 1
    return end


def is_header(cells: Sequence[str]) -> bool:
    """Tell whether a first row looks like names of columns."""
    named = [cell.strip() for cell in cells]
    if not named[0]:
        named = named[1:]  # an index has no name
    names = [cell for cell in named if not _YEAR(cell)]
    plain = all(cell and len(cell) <= _NAME_CHARS and not _is_value(cell) for cell in names)
    return bool(names) and plain and len(set(named)) == len(named)


def _is_value(cell: str) -> bool:
    return any(match(cell) for match in _MATCH.values())


def named(cells: Sequence[str]) -> list[str]:
    """Make names of columns: each its own, none empty."""
    names: dict[str, None] = {}
    for number, cell in enumerate(cells, 1):
        name = wanted = cell.strip("\ufeff \t\r\n") or f"column_{number}"
        twice = 2
        while name in names:
            name = f"{wanted}_{twice}"
            twice += 1
        names[name] = None
    return list(names)


class Guess:
    """Of which type a column can be, after all cells that it was shown."""

    def __init__(self) -> None:
        self.can = list(FORMS)
        """Types, the narrowest first."""
        self._seen = False

    def look(self, cells: Sequence[str]) -> None:
        """Take more cells into account."""
        if not self.can:
            return
        written = list(filter(None, cells))
        self._seen |= bool(written)
        for kind in list(self.can):
            if not _are(kind, written):
                self.can.remove(kind)
            elif kind == "int":
                break  # and so they are floats

    @property
    def kind(self) -> str:
        """The narrowest; ``str`` for a column without a cell."""
        return self.can[0] if self.can and self._seen else "str"


def _are(kind: str, cells: Sequence[str]) -> bool:
    if not all(map(_MATCH[kind], cells)):
        return False
    real = _REAL.get(kind)
    try:
        return real is None or all(map(real, cells))
    except ValueError:
        return False


def values(cells: Sequence[str], kind: str) -> list[Any]:
    """Make values of a column's cells: None of an empty one; days stay text, which sorts and is
    JSON.
    """
    match kind:
        case "int":
            return [int(cell) if cell else None for cell in cells]
        case "float":
            return [float(cell) if cell else None for cell in cells]
        case "bool":
            return [cell in TRUE if cell else None for cell in cells]
        case "date" | "datetime":
            return [cell or None for cell in cells]
        case _:
            return list(cells)
