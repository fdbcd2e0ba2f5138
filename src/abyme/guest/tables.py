"""Tables of the context: `table(name)` gives rows with their places, or columns, or Arrow.

Decides what a row is (a dict that knows where it stands) and where the columns come from. Rows are
made of the text, whatever lies beside it, so that they are the same on every host and point at
what `cite` and `grep` point at; `arrow()` takes the sealed binary form where there is one,
without a copy, else makes one of the text.

Invariant: nothing of a table is held but where its rows begin; rows are made when touched.
Does not change the text, and guesses no more than `cells` does.
"""

import csv
import importlib
import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

from abyme.guest import cells
from abyme.guest.cells import BATCH_ROWS, Dialect

Pairs: TypeAlias = Iterable[tuple[Any, Any]] | dict[Any, Any]
BlobOf: TypeAlias = Callable[[int], "memoryview | None"]
"""Number of a document -> the Arrow IPC file beside it."""

SEPARATED: Final = ("text/csv", "text/tab-separated-values")
MADE: Final = "text/csv; header="
"""Media type (RFC 4180) of a table that a reader has written: it says whether names come first."""
SUFFIXES: Final = (".csv", ".tsv", ".tab")


def no_blob(_: int) -> None:
    """Give nothing: there is only the text."""


REST: Final = None
"""Name of what a row has beyond the last column, as `csv.DictReader` has it."""
_FIRST: Final = re.compile(r"[^\ufeff\s]")
_LIST: Final = re.compile(r"[\ufeff\s]*\[\s*\{")
_ITEM: Final = re.compile(r"[\s,]*\{")
_END: Final = re.compile(r"\s*\]\s*\Z")
_DECODER: Final = json.JSONDecoder()
_LOOKED_AT: Final = 1000
_SHOWN: Final = 12


class Written(NamedTuple):
    """How a table is written; None: look."""

    delimiter: str | None = None
    header: bool | None = None
    """The first row names the columns."""
    quotes: bool | None = None
    """Cells may stand in quotes."""


UNKNOWN: Final = Written()


class Row(dict[Any, Any]):
    """A row: column -> value. `span` is (document, start, end), as a hit has it."""

    __slots__ = ("_table", "span")

    _table: "Table"
    span: tuple[int, int, int]

    @property
    def name(self) -> str | int:
        """Of the document."""
        return self._table.name

    @property
    def quote(self) -> str:
        """The row as it is written."""
        return self._table.text[self.span[1] : self.span[2]]

    @property
    def line(self) -> int:
        """From 1."""
        return self._table.text.count("\n", 0, self.span[1]) + 1

    def place(self) -> dict[str, int | str]:
        """Make evidence of it."""
        document, start, end = self.span
        return {"document": document, "start": start, "end": end, "quote": self.quote}

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class Table(Sequence[Row]):
    """A document as rows. Columns are typed where all their cells are written alike."""

    def __init__(
        self, name: str | int, number: int, text: str, way: "Csv | Lines", blob_of: BlobOf
    ) -> None:
        self.name = name
        self.text = text
        self._number = number
        self._way = way
        self._blob_of = blob_of

    @property
    def columns(self) -> list[str]:
        """Names, in order."""
        return list(self._way.columns)

    @property
    def types(self) -> dict[str, str]:
        """Column -> int, float, bool, date, datetime or str; days are text in rows."""
        return dict(self._way.scanned().types)

    def __len__(self) -> int:
        return len(self._way.scanned().starts)

    def __iter__(self) -> Iterator[Row]:
        return self._rows(0, len(self))

    def __getitem__(self, at: Any) -> Any:
        """Return a row by its number, rows by a slice, or a column by its name."""
        if isinstance(at, str):
            return self.column(at)
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step == 1:
                return list(self._rows(start, max(start, stop)))
            return [self[number] for number in range(start, stop, step)]
        number = at + len(self) if at < 0 else at
        if not 0 <= number < len(self):
            raise IndexError(f"table has {len(self):,} rows, there is no row {at:,}")
        return next(self._rows(number, number + 1))

    def _rows(self, start: int, stop: int) -> Iterator[Row]:
        number = self._number
        for begin, end, values in self._way.values(start, stop):
            row = Row(values)
            row._table = self  # noqa: SLF001 - no __init__: it would take as long as all else
            row.span = (number, begin, end)
            yield row

    def column(self, name: str) -> list[Any]:
        """List the values of one column."""
        self._way.scanned()
        if name not in self.columns:
            raise KeyError(f"no column is named {name!r}; there are {self._named()}")
        return self._way.column(name)

    def arrow(self) -> Any:
        """Make a `pyarrow.Table`: over the sealed memory, without a copy, where it holds one.

        Raises:
            ImportError: pyarrow is no guest package of this run.
        """
        pa = _guest_package("pyarrow", "arrow()")
        blob = self._blob_of(self._number)
        if blob is not None:
            return pa.ipc.open_file(pa.py_buffer(blob)).read_all()
        return pa.table({name: self._arrow_column(pa, name) for name in self.columns})

    def _arrow_column(self, pa: Any, name: str) -> Any:
        kind = self.types.get(name, "str")
        made = pa.array(self.column(name))
        day = {"date": pa.date32(), "datetime": pa.timestamp("us")}.get(kind)
        return made.cast(day) if day is not None else made

    def df(self) -> Any:
        """Make a `pandas.DataFrame`.

        Raises:
            ImportError: pandas is no guest package of this run.
        """
        pd = _guest_package("pandas", "df()")
        return pd.DataFrame({name: self.column(name) for name in self.columns})

    def _named(self) -> str:
        more = ", ..." if len(self.columns) > _SHOWN else ""
        return ", ".join(map(repr, self.columns[:_SHOWN])) + more

    def __repr__(self) -> str:
        return (
            f"<table {self.name!r}: {len(self):,} rows, {len(self.columns)} columns: "
            f"{self._named()}>"
        )


class Scanned:
    """What one pass over a table finds."""

    def __init__(self) -> None:
        self.starts = array("Q")
        """Where its rows begin."""
        self.types: dict[str, str] = {}


class Csv:
    """Rows of delimited text."""

    def __init__(self, text: str, dialect: Dialect, *, header: bool | None) -> None:
        """`header`: whether the first row names the columns; None: if it looks like it."""
        self._text = text
        self._dialect = dialect
        self._scanned: Scanned | None = None
        self._first = 0
        begin, end, first = next(cells.rows_of(text, dialect), (0, 0, []))
        if first and (cells.is_header(first) if header is None else header):
            self.columns = cells.named(first)
            self._first = end
        else:
            self.columns = cells.named([""] * len(first))
            self._first = begin

    def scanned(self) -> Scanned:
        """Look through the table, once."""
        if self._scanned is None:
            found = Scanned()
            guesses = [cells.Guess() for _ in self.columns]
            rows = cells.rows_of(self._text, self._dialect, self._first)
            try:
                while batch := list(islice(rows, BATCH_ROWS)):
                    found.starts.extend([begin for begin, _, _ in batch])
                    for guess, column in zip(guesses, self._columns(batch), strict=True):
                        guess.look(column)
            except csv.Error as error:
                raise ValueError(_broken(self._text, found.starts, error)) from None
            found.types = dict(zip(self.columns, [guess.kind for guess in guesses], strict=True))
            self._scanned = found
        return self._scanned

    def _columns(self, batch: Sequence[tuple[int, int, list[str]]]) -> list[tuple[str, ...]]:
        """Turn rows into columns; rows are as wide as there are names."""
        width = len(self.columns)
        pad = [""] * width
        rows = [row if len(row) == width else (row + pad)[:width] for _, _, row in batch]
        return list(zip(*rows, strict=True)) or [()] * width

    def values(self, start: int, stop: int) -> Iterator[tuple[int, int, Pairs]]:
        """Yield rows from `start` to `stop` with their spans."""
        found, names, width = self.scanned(), self.columns, len(self.columns)
        kinds = [found.types[name] for name in names]
        for batch in self._batches(start, stop):
            columns = self._columns(batch)
            typed = [cells.values(one, kind) for one, kind in zip(columns, kinds, strict=True)]
            for (begin, end, row), values in zip(batch, zip(*typed, strict=True), strict=True):
                pairs = zip(names, values, strict=True)
                if len(row) > width:
                    yield begin, end, [*pairs, (REST, row[width:])]
                else:
                    yield begin, end, pairs

    def column(self, name: str) -> list[Any]:
        """List the values of one column."""
        found, at = self.scanned(), self.columns.index(name)
        values: list[Any] = []
        for batch in self._batches(0, len(found.starts)):
            column = [row[at] if len(row) > at else "" for _, _, row in batch]
            values += cells.values(column, found.types[name])
        return values

    def _batches(self, start: int, stop: int) -> Iterator[list[tuple[int, int, list[str]]]]:
        if start >= stop:
            return
        rows = cells.rows_of(self._text, self._dialect, self.scanned().starts[start])
        left = stop - start
        while left and (batch := list(islice(rows, min(left, BATCH_ROWS)))):
            left -= len(batch)
            yield batch


class Lines:
    """Rows of JSON, one dict a line."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._scanned: Scanned | None = None
        names: dict[str, None] = {}
        for _, _, values in islice(self._found(0), _LOOKED_AT):
            names.update(dict.fromkeys(values))
        self.columns = list(names)

    def _found(self, at: int) -> Iterator[tuple[int, int, dict[Any, Any]]]:
        text, size = self._text, len(self._text)
        while at < size:
            stop = text.find("\n", at)
            stop = size if stop < 0 else stop
            line = text[at:stop].strip("\ufeff \t\r")
            if line:
                try:
                    made = json.loads(line)
                except (ValueError, RecursionError) as error:
                    where = text.count("\n", 0, at) + 1
                    raise ValueError(f"line {where:,} is no JSON: {error}") from None
                if not isinstance(made, dict):
                    where = text.count("\n", 0, at) + 1
                    raise ValueError(f"line {where:,} is no JSON object")
                yield at, stop - (text[stop - 1 : stop] == "\r"), made
            at = stop + 1

    def scanned(self) -> Scanned:
        """Look through the table, once."""
        if self._scanned is None:
            found = Scanned()
            kinds: dict[str, set[str]] = {}
            for begin, _, made in self._found(0):
                found.starts.append(begin)
                for name, value in made.items():
                    kinds.setdefault(name, set()).add(type(value).__name__)
            for name in kinds.keys() - set(self.columns):
                self.columns.append(name)
            found.types = {
                name: " or ".join(sorted(kinds[name] - {"NoneType"})) or "None" for name in kinds
            }
            self._scanned = found
        return self._scanned

    def values(self, start: int, stop: int) -> Iterator[tuple[int, int, Pairs]]:
        """Yield rows from `start` to `stop` with their spans."""
        if start < stop:
            yield from islice(self._found(self.scanned().starts[start]), stop - start)

    def column(self, name: str) -> list[Any]:
        """List the values of one column; None where a row has none."""
        return [made.get(name) for _, _, made in self._found(0)]


class Items(Lines):
    """Rows of one JSON list of dicts, however its lines are broken."""

    def _found(self, at: int) -> Iterator[tuple[int, int, dict[Any, Any]]]:
        text = self._text
        at = at or text.index("[") + 1
        while (begun := _ITEM.match(text, at)) is not None:
            begin = begun.end() - 1
            try:
                made, at = _DECODER.raw_decode(text, begin)
            except (ValueError, RecursionError) as error:
                where = text.count("\n", 0, begin) + 1
                raise ValueError(f"the item in line {where:,} is no JSON: {error}") from None
            yield begin, at, made
        if _END.match(text, at) is None:
            where = text.count("\n", 0, at) + 1
            raise ValueError(f"behind line {where:,} an item is no JSON object, or the list is cut")

    @staticmethod
    def fit(text: str) -> bool:
        """Tell whether a text begins as such a list."""
        begun = _LIST.match(text)
        try:
            return begun is not None and bool(_DECODER.raw_decode(text, begun.end() - 1))
        except (ValueError, RecursionError):
            return False


class Tables:
    """Makes tables of the documents of one context."""

    def __init__(
        self,
        names: Sequence[str | int],
        text_of: Callable[[int], str],
        media: Mapping[int, str],
        blob_of: BlobOf,
        chosen: Callable[[Any], Sequence[int]],
    ) -> None:
        """`media` are types by number; `chosen` finds the numbers of documents by a name."""
        self._names = names
        self._text_of = text_of
        self._media = media
        self._blob_of = blob_of
        self._chosen = chosen
        self._made: dict[tuple[int, Written], Table] = {}

    def table(self, name: Any, written: Written) -> Table:
        """Give a document as a table; without a name the only one.

        Raises:
            KeyError: there is no such document.
            ValueError: it is no table, or there are several documents.
        """
        number = self._number(name)
        key = (number, written)
        if key not in self._made:
            self._made[key] = self._make(number, written)
        return self._made[key]

    def _number(self, name: Any) -> int:
        if name is None:
            if len(self._names) != 1:
                first = self._names[0] if self._names else ""
                raise ValueError(
                    f"context has {len(self._names):,} documents: say which, as in table({first!r})"
                )
            return 0
        numbers = self._chosen(name)
        if len(numbers) != 1:
            some = ", ".join(repr(self._names[number]) for number in numbers[:_SHOWN])
            more = ", ..." if len(numbers) > _SHOWN else ""
            raise ValueError(
                f"table() takes one document, and {name!r} is {len(numbers):,}: {some}{more}"
            )
        return numbers[0]

    def _make(self, number: int, written: Written) -> Table:
        delimiter, header, quotes = written
        name, text = self._names[number], self._text_of(number)
        first = _FIRST.search(text)  # no strip(): a large text would be copied
        if first is None:
            raise ValueError(f"{name!r} is empty")
        way: Csv | Lines
        if delimiter is None and first[0] == "{":
            way = Lines(text)
            return Table(name, number, text, way, self._blob_of)
        if delimiter is None and first[0] == "[" and Items.fit(text):
            return Table(name, number, text, Items(text), self._blob_of)
        media = self._media.get(number, "")
        if written == UNKNOWN and media.startswith(MADE):  # by a reader of ours
            way = Csv(text, Dialect(","), header=media.endswith("present"))
            return Table(name, number, text, way, self._blob_of)
        known = media.startswith(SEPARATED) or str(name).lower().endswith(SUFFIXES)
        sure = known or header is not None or quotes is not None
        dialect = Dialect(delimiter) if delimiter else cells.dialect_of(text, sure=sure)
        if dialect is None:
            raise ValueError(
                f"{name!r} does not look like a table: no delimiter splits its first lines "
                "evenly; give delimiter=, or split the text yourself"
            )
        if quotes is not None:
            dialect = Dialect(dialect.delimiter, quotes, dialect.blanks)
        way = Csv(text, dialect, header=header)
        return Table(name, number, text, way, self._blob_of if written == UNKNOWN else no_blob)


def _guest_package(name: str, wanted: str) -> Any:
    try:
        importlib.import_module("pyarrow.ipc" if name == "pyarrow" else name)
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(
            f"{wanted} needs {name}, which is no guest package of this run "
            f"(--guest-package {name}); rows and column(name) work without"
        ) from None


def _broken(text: str, starts: Sequence[int], error: csv.Error) -> str:
    line = text.count("\n", 0, starts[-1]) + 1 if starts else 1
    return (
        f"the quotes of a row near line {line:,} are broken ({error}): "
        "use table(name, quotes=False) to take them as characters"
    )
