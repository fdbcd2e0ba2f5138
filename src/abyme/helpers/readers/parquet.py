"""Parquet: the rows in CSV form, and as they are in an Arrow file beside the text.

Decides how values are written: nested ones as JSON, bytes as hexadecimal digits. Row groups are
taken one after another, in batches, so that a file that unpacks to a thousand times its size stops
where `rows` says.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

from abyme.guest.cells import named
from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers import rows
from abyme.helpers.readers.rows import HEADED, MAX_ARROW_BYTES, ROW, TextRows, beyond

BATCH_ROWS: Final = 8192
MAX_COLUMNS: Final = 10_000


def prepare() -> None:
    """Load pyarrow."""
    import pyarrow.parquet  # noqa: PLC0415, F401

    rows.prepare()


def read(file: BinaryIO, emit: Emit) -> None:
    """Read a file as one table.

    Raises:
        Unreadable: it is encrypted, or broken before its first row.
    """
    pa = rows.arrow()
    if pa is None:
        raise Unreadable("pyarrow is not installed")
    from pyarrow import parquet  # noqa: PLC0415

    try:
        source = parquet.ParquetFile(file, pre_buffer=False)
        schema, total = source.schema_arrow, source.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(_reason(error)) from error
    if not 0 < len(schema.names) <= MAX_COLUMNS:
        raise Unreadable(f"{len(schema.names):,} columns")
    columns = named(schema.names)
    schema = pa.schema([field.with_name(name) for field, name in zip(schema, columns, strict=True)])
    text = TextRows(columns)
    notes: list[str] = []
    sink = pa.BufferOutputStream()
    keeps = True
    with pa.ipc.new_file(sink, schema) as writer:
        try:
            for batch in _batches(source):
                if text.add(_rows(pa, batch)) is None:
                    notes.append(beyond(text.rows, total))
                    break
                if keeps:
                    writer.write_batch(pa.record_batch(batch.columns, schema=schema))
                    keeps = sink.tell() <= MAX_ARROW_BYTES
        except (pa.ArrowException, OSError, ValueError) as error:
            if not text.rows:
                raise Unreadable(_reason(error)) from error
            notes.append(f"broken after row {text.rows:,} of {total:,}")
    table = memoryview(sink.getvalue()) if keeps else None
    pages = text.pages
    emit.document(
        "",
        text.text(),
        media=HEADED,
        pages=pages,
        page_word=ROW,
        table=table,
        note="; ".join(notes) or None,
    )


def _batches(source: Any) -> Iterator[Any]:
    """Yield rows of one group at a time, so that a broken one costs no rows before it."""
    for group in range(source.num_row_groups):
        yield from source.iter_batches(BATCH_ROWS, [group], use_threads=False)


def _rows(pa: Any, batch: Any) -> list[Sequence[str]]:
    columns = [_cells(pa, column) for column in batch.columns]
    return list(zip(*columns, strict=True))


def _cells(pa: Any, column: Any) -> list[str]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_boolean(kind):
        return ["" if one is None else "true" if one else "false" for one in column.to_pylist()]
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return ["" if one is None else _written(one) for one in column.to_pylist()]
    try:
        texts = column.cast(pa.string()).to_pylist()
    except pa.ArrowException:
        texts = [one if one is None else str(one) for one in column.to_pylist()]
    return ["" if one is None else one for one in texts]


def _written(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(value, ensure_ascii=False, default=_other)


def _other(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _reason(error: Exception) -> str:
    words = str(error).strip().splitlines()[0][:120] if str(error).strip() else "unknown"
    return "encrypted" if "encrypt" in words.lower() else f"broken ({words})"
