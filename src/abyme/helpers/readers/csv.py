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
from abyme.helpers.readers.rows import MAX_ARROW_BYTES, ROW, ArrowRows, batches

MAX_BYTES: Final = 128 << 20
"""A larger file is read by the host, piece by piece, without a table beside it."""
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
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Unreadable(f"a table of more than {MAX_BYTES >> 20} MB")
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


def _decoded(data: bytes) -> str:
    """Decode as the host does, where nothing has to be guessed."""
    mark, encoding = next((one for one in _MARKS if data.startswith(one[0])), (b"", "utf-8"))
    try:
        text = str(memoryview(data)[len(mark) :], encoding)
    except UnicodeError as error:
        raise Unreadable("not UTF-8") from error
    if "\0" in text:
        raise Unreadable("binary")
    return text


def _table(pa: Any, data: bytes, text: str, dialect: Dialect) -> tuple[bytes | None, Sequence[int]]:
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


def _is_simple(data: bytes, text: str, dialect: Dialect) -> bool:
    """Tell whether a row is a line, and Arrow sees the same cells as the csv module."""
    lines = "\n" in text and text.count("\r") == text.count("\r\n")
    return lines and '"' not in text and not dialect.blanks and not data.startswith(b"\xff\xfe")


def _quick(pa: Any, data: bytes, columns: list[str], dialect: Dialect) -> bytes | None:
    """Read a table without quotes by Arrow's own reader; None if its rows are not even."""
    kinds: dict[str, str] = {}
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=pa.csv.ReadOptions(
                use_threads=False, column_names=columns, skip_rows=1, block_size=4 << 20
            ),
            parse_options=pa.csv.ParseOptions(delimiter=dialect.delimiter, quote_char=False),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    for name in columns:
        kinds[name] = _kind(pa, table.column(name))
    schema = pa.schema([(name, rows.type_of(pa, kinds[name])) for name in columns])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for batch in table.to_batches():
            typed = [
                rows.cast(pa, one, kinds[name])
                for name, one in zip(columns, batch.columns, strict=True)
            ]
            writer.write_batch(pa.record_batch(typed, schema=schema))
            if sink.tell() > MAX_ARROW_BYTES:
                return None
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _kind(pa: Any, column: Any) -> str:
    """Find the type of a column as `Guess` would; its beginning saves most of the work."""
    guess = Guess()
    guess.look(column.slice(0, 1000).to_pylist())
    if guess.kind in {"str", "date", "datetime"}:
        for chunk in column.chunks if guess.can else ():
            guess.look(chunk.to_pylist())
        return guess.kind
    for kind in ("int", "float", "bool"):
        pattern = f"^(?:|{FORMS[kind]})$"
        if (
            kind in guess.can
            and pa.compute.all(pa.compute.match_substring_regex(column, pattern)).as_py()
        ):
            return kind
    return "str"
