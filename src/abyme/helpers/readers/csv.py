"""CSV and TSV: the text as it is, and its rows as an Arrow file beside it.

Decides whether a text is a table at all: what the csv module cannot follow, has no header, or is
in an encoding that must be guessed stays plain text, which the host reads by itself; so does
everything without pyarrow, since there is nothing to add then.

Invariant: the text is that of the file, character by character.
"""

import codecs
import csv
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

from abyme.guest.cells import FORMS, Dialect, Guess, dialect_of, is_header, named, rows_of
from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers import rows
from abyme.helpers.readers.rows import MAX_ARROW_BYTES, ROW, ArrowRows, Data, batches

MAX_BYTES: Final = 128 << 20
"""A larger file is read by the host, piece by piece, without a table beside it."""
BLOCK_BYTES: Final = 4 << 20
MAX_COLUMNS: Final = 10_000
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"))
_NAMES: Final = {"\t": "text/tab-separated-values"}


def prepare() -> None:
    """Load pyarrow, if it is there."""
    rows.prepare()


def read(file: BinaryIO, emit: Emit) -> None:
    """Read a table.

    Raises:
        Unreadable: it is to be read as plain text.
    """
    pa = rows.arrow()
    if pa is None:
        raise Unreadable("pyarrow is not installed")
    data = rows.mapped(file, MAX_BYTES, "table")
    text = _decoded(data)
    dialect = dialect_of(text, sure=True)
    if dialect is None or not text.strip():
        raise Unreadable("no table")
    try:
        _, _, first = next(rows_of(text, dialect))
        if not is_header(first) or len(first) > MAX_COLUMNS:
            raise Unreadable("a table without a header")
        table, pages = _table(pa, data, text, dialect)
    except csv.Error as error:
        raise Unreadable(f"no table ({error})") from error
    emit.document(
        "",
        text,
        media=_NAMES.get(dialect.delimiter, "text/csv"),
        pages=pages,
        page_word=ROW,
        table=table,
    )


def _decoded(data: Data) -> str:
    """Decode as the host does, where nothing has to be guessed."""
    mark, encoding = next((one for one in _MARKS if data[:4].startswith(one[0])), (b"", "utf-8"))
    try:
        text = str(memoryview(data)[len(mark) :], encoding)
    except UnicodeError as error:
        raise Unreadable("not UTF-8") from error
    if "\0" in text:
        raise Unreadable("binary")
    return text


def _table(
    pa: Any, data: Data, text: str, dialect: Dialect
) -> tuple[memoryview | None, Sequence[int]]:
    """Make the rows beside the text, and where they begin if lines do not tell that."""
    found = iter(rows_of(text, dialect))
    begin, _, first = next(found)
    columns = named(first)
    if begin == 0 and _is_simple(data, text, dialect):
        quick = _quick(pa, data, columns, dialect)
        if quick is not None:
            return quick, ()
    starts = [0] if begin else []
    arrow = ArrowRows(pa, columns)
    width, broken = len(columns), False

    def cells() -> Iterator[list[str]]:
        nonlocal broken
        for at, end, row in found:
            broken = broken or "\n" in text[at:end]
            if len(starts) <= rows.MAX_PAGES:
                starts.append(at)
            yield (row + [""] * width)[:width]

    starts.append(begin)
    for batch in batches(cells()):
        arrow.add(batch)
    return arrow.file(), starts if broken and len(starts) <= rows.MAX_PAGES else ()


def _is_simple(data: Data, text: str, dialect: Dialect) -> bool:
    """Tell whether a row is a line, and Arrow sees the same cells as the csv module."""
    lines = "\n" in text and text.count("\r") == text.count("\r\n")
    return lines and '"' not in text and not dialect.blanks and data[:2] != _MARKS[1][0]


def _quick(pa: Any, data: Data, columns: list[str], dialect: Dialect) -> memoryview | None:
    """Read a table without quotes by Arrow's own reader; None if its rows are not even."""
    guesses: list[_Kind] = [_Kind() for _ in columns]
    blocks: list[Any] = []
    try:
        for strings in _blocks(pa, data, columns, dialect):
            for guess, column in zip(guesses, strings.columns, strict=True):
                guess.look(pa, column)
            blocks.append(strings)
    except pa.ArrowInvalid:
        return None
    kinds = [guess.kind for guess in guesses]
    schema = rows.schema_of(pa, columns, kinds)
    sink = pa.BufferOutputStream()
    blocks.reverse()
    with pa.ipc.new_file(sink, schema) as writer:
        while blocks:
            pairs = zip(blocks.pop().columns, kinds, strict=True)
            writer.write_table(pa.table([rows.cast(pa, *one) for one in pairs], schema=schema))
            if sink.tell() > MAX_ARROW_BYTES:
                return None
    return memoryview(sink.getvalue())


def _blocks(pa: Any, data: Data, columns: list[str], dialect: Dialect) -> Iterator[Any]:
    """Yield tables of strings, of so many lines as fit into a block; the first line is left out."""
    at, size = data.find(b"\n") + 1, len(data)
    view = memoryview(data)
    while at < size:
        end = data.rfind(b"\n", at, at + BLOCK_BYTES) + 1 if at + BLOCK_BYTES < size else size
        end = end or data.find(b"\n", at) + 1 or size
        if data[at:end].strip(b"\r\n"):
            yield pa.csv.read_csv(
                pa.BufferReader(pa.py_buffer(view[at:end])),
                read_options=pa.csv.ReadOptions(
                    use_threads=False, column_names=columns, block_size=2 * BLOCK_BYTES
                ),
                parse_options=pa.csv.ParseOptions(delimiter=dialect.delimiter, quote_char=False),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
                ),
            )
        at = end


class _Kind:
    """The type of a column, as `Guess` finds it; Arrow's own matching saves most of the work."""

    def __init__(self) -> None:
        self._guess = Guess()

    def look(self, pa: Any, column: Any) -> None:
        """Take more cells into account."""
        guess = self._guess
        guess.look(column.slice(0, 100).to_pylist())
        for kind in list(guess.can):
            matches = pa.compute.match_substring_regex(column, f"^(?:|{FORMS[kind]})$")
            if not pa.compute.all(matches).as_py():
                guess.can.remove(kind)
            elif kind == "int":
                break
        if guess.can and guess.can[0] in {"date", "datetime"}:
            guess.look(pa.compute.unique(column).to_pylist())

    @property
    def kind(self) -> str:
        """The narrowest."""
        return self._guess.kind
