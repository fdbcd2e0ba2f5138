"""A table on its way to the host: its rows as CSV text, and the same as an Arrow IPC file.

Decides how a cell is written (line ends are line feeds, what a text cannot hold is replaced), how
much of a table is taken, and, by the rule that the REPL follows (`guest.cells`), the type of each
column in the Arrow file. Where pyarrow is not installed, there is the text alone.

Invariant: memory stays within a few times `MAX_TEXT_BYTES`; what is beyond is told in the note.
Does not read any format.
"""

import csv
import importlib
import io
import mmap
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import ModuleType
from typing import Any, BinaryIO, Final, TypeAlias

from abyme.guest.cells import TRUE, Guess, named
from abyme.helpers.emit import Emit, Unreadable

MAX_TEXT_BYTES: Final = 128 << 20
"""Memory of the text of a table. With all else that is made of it some 700 MB."""
LEAST_CHARS: Final = 16 << 10
"""Of a smaller table there is no binary form: it is made of the text as fast as it is read."""
MAX_ARROW_BYTES: Final = 192 << 20
MAX_PAGES: Final = 100_000
"""Rows whose places are told one by one."""
BATCH_ROWS: Final = 10_000
HEADED: Final = "text/csv; header=present"
NO_HEADER: Final = "text/csv; header=absent"
ROW: Final = "row"
Data: TypeAlias = bytes | bytearray | mmap.mmap
_LOST: Final = "\ufffd"


def prepare() -> None:
    """Load what Arrow needs; it starts no thread and keeps to the memory that there is."""
    pa = _load("pyarrow")
    if pa is not None:
        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        pa.set_memory_pool(pa.system_memory_pool())
        for part in ("compute", "csv", "ipc"):
            _load(f"pyarrow.{part}")


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def arrow() -> ModuleType | None:
    """Give pyarrow, if it was loaded before."""
    return sys.modules.get("pyarrow")


def mapped(file: BinaryIO, max_bytes: int, what: str) -> Data:
    """Look at a file without copying it; of what is no file on a disk, take a copy.

    Raises:
        Unreadable: it is larger.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > max_bytes:
        raise Unreadable(f"a {what} of more than {max_bytes >> 20} MB")
    try:
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) if size else b""
    except OSError:
        return bytearray(file.read())


def batches(rows: Iterable[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    """Group rows."""
    rows = iter(rows)
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch


class TextRows:
    """The text of a table, row by row."""

    def __init__(self, columns: Sequence[str] | None) -> None:
        """`columns`: names for a first line; None: there is none."""
        self.rows = 0
        self.full = False
        self.starts: list[int] = [0]
        """Of rows, where one of them goes over several lines; the header is one."""
        self._broken = False
        self._pieces: list[str] = []
        self.chars = 0
        """Of the text."""
        self._width = 1
        if columns is not None:
            self._write([columns])

    def add(self, rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]] | None:
        """Append rows; as they were written, or None if there is no room for them."""
        written = self._write(rows)
        if written is None:
            self.full = True
            return None
        self.rows += len(rows)
        return written

    def _write(self, rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]] | None:
        piece = _piece(rows)
        if "\r" in piece or "\0" in piece:
            rows = [[plain(cell) for cell in row] for row in rows]
            piece = _piece(rows)
        width = max(self._width, sys.getsizeof(piece[:1] + piece) // (len(piece) + 64) or 1)
        if (self.chars + len(piece)) * width > MAX_TEXT_BYTES:
            return None
        self._mark(piece, len(rows))
        self._width = width
        self.chars += len(piece)
        self._pieces.append(piece)
        return rows

    def _mark(self, piece: str, rows: int) -> None:
        """Note where rows begin, as long as that is of use and not too much."""
        if len(self.starts) > MAX_PAGES:
            return
        at, lines = self.chars, piece.count("\n")
        self._broken |= lines != rows
        in_quotes = False
        begin = 0
        while begin < len(piece):
            stop = piece.find("\n", begin) + 1 or len(piece)
            in_quotes ^= lines != rows and piece.count('"', begin, stop) % 2 == 1
            if not in_quotes:
                self.starts.append(at + stop)
            begin = stop

    @property
    def pages(self) -> Sequence[int]:
        """Where rows begin, if lines do not tell it."""
        told = self._broken and len(self.starts) <= MAX_PAGES
        return self.starts[:-1] if told else ()

    def text(self) -> str:
        """Join it; nothing is kept."""
        pieces, self._pieces = self._pieces, []
        return "".join(pieces)


class ArrowRows:
    """The same rows as typed columns."""

    def __init__(self, pa: Any, columns: Sequence[str]) -> None:
        self._pa = pa
        self._columns = list(columns)
        self._guesses = [Guess() for _ in columns]
        self._strings: list[list[Any]] | None = []
        self._bytes = 0

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Append rows."""
        if self._strings is None:
            return
        made = []
        for guess, column in zip(self._guesses, zip(*rows, strict=True), strict=True):
            guess.look(column)
            made.append(self._pa.array(column, self._pa.string()))
        self._bytes += sum(one.nbytes for one in made)
        self._strings.append(made)
        if self._bytes > MAX_ARROW_BYTES:
            self._strings = None

    def file(self) -> memoryview | None:
        """Make the IPC file; None if it would be too large."""
        if not self._strings:
            return None
        kinds = [guess.kind for guess in self._guesses]
        sink = self._pa.BufferOutputStream()
        schema = schema_of(self._pa, self._columns, kinds)
        chunks, self._strings = self._strings[::-1], None
        with self._pa.ipc.new_file(sink, schema) as writer:
            while chunks:
                typed = [
                    cast(self._pa, one, kind) for one, kind in zip(chunks.pop(), kinds, strict=True)
                ]
                writer.write_batch(self._pa.record_batch(typed, schema=schema))
                if sink.tell() > MAX_ARROW_BYTES:
                    return None
        return memoryview(sink.getvalue())


def cast(pa: Any, strings: Any, kind: str) -> Any:
    """Make values of an array of cells, as `guest.cells.values` does."""
    if kind == "str":
        return strings
    pc = pa.compute
    empty = pc.equal(strings, "")
    if kind == "bool":
        values = pc.is_in(strings, value_set=pa.array(sorted(TRUE)))
        return pc.if_else(empty, pa.scalar(None, pa.bool_()), values)
    if kind == "datetime":
        strings = pc.replace_substring(strings, "T", " ")
    nulled = pc.if_else(empty, pa.scalar(None, pa.string()), strings)
    return nulled.cast(type_of(pa, kind))


def type_of(pa: Any, kind: str) -> Any:
    """Name Arrow's type of a column."""
    types = {
        "int": pa.int64,
        "float": pa.float64,
        "bool": pa.bool_,
        "date": pa.date32,
    }
    if kind == "datetime":
        return pa.timestamp("us")
    return types.get(kind, pa.string)()


def schema_of(pa: Any, columns: Sequence[str], kinds: Sequence[str]) -> Any:
    """Make Arrow's schema of columns and their types."""
    return pa.schema([(name, type_of(pa, kind)) for name, kind in zip(columns, kinds, strict=True)])


class Collector:
    """A table that is being read: both forms of it."""

    def __init__(self, first: Sequence[str], *, header: bool) -> None:
        """`first` has names of columns, or, without `header`, as many cells as there are."""
        self.columns = named(first if header else [""] * len(first))
        self._header = header
        self._text = TextRows(self.columns if header else None)
        pa = arrow()
        self._arrow = ArrowRows(pa, self.columns) if pa is not None and first else None

    @property
    def rows(self) -> int:
        """How many it has taken."""
        return self._text.rows

    @property
    def full(self) -> bool:
        """There is no room for more."""
        return self._text.full

    def add(self, rows: Sequence[Sequence[str]]) -> bool:
        """Append rows; False if there is no room for them."""
        written = self._text.add(rows)
        if written is not None and self._arrow is not None:
            self._arrow.add(written)
        return written is not None

    def give(self, emit: Emit, name: str, notes: Sequence[str] = ()) -> None:
        """Hand the table over."""
        large = self._text.chars >= LEAST_CHARS
        table = self._arrow.file() if self._arrow is not None and large else None
        pages = self._text.pages
        emit.document(
            name,
            self._text.text(),
            media=HEADED if self._header else NO_HEADER,
            pages=pages,
            page_word=ROW,
            table=table,
            note="; ".join(notes) or None,
        )


def _piece(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def plain(cell: str) -> str:
    """Write a cell so that a CSV of any age can hold it."""
    if "\r" in cell:
        cell = cell.replace("\r\n", "\n").replace("\r", "\n")
    return cell.replace("\0", _LOST) if "\0" in cell else cell


def beyond(rows: int, total: int | None) -> str:
    """Say that a table was cut."""
    of = f" of {total:,}" if total is not None else ""
    return f"the first {rows:,} rows{of}: the rest is beyond {MAX_TEXT_BYTES >> 20} MB of text"
