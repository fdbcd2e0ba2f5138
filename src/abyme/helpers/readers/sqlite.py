"""SQLite databases: a document a table, in CSV form, and one with the schema.

Decides what is asked of an untrusted database: its tables, one after another, in the order they
lie in. Views, triggers and virtual tables are told in the schema and never run: the authorizer
lets through reading alone, and the schema is not trusted to call functions. What a virtual
table for full text holds is in a table of its own. Bytes are written as
hexadecimal digits, long ones as their number.

Does not read what is only in a write-ahead log beside the file.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any, BinaryIO, Final

from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers import rows
from abyme.helpers.readers.rows import BATCH_ROWS, Collector, beyond

MAX_BYTES: Final = 384 << 20
"""The library copies it into memory."""
MAX_CELL_BYTES: Final = 64 << 20
MAX_TABLES: Final = 10_000
SCHEMA: Final = "schema.sql"
_CONTENT: Final = "_content"
"""Of a virtual table: what was put into it, in a table of its own."""
_HEAD: Final = b"SQLite format 3\0"
_WRITTEN_BY, _READ_BY, _LEGACY = 18, 19, 1
"""In the head: 2 for a database with a log beside it, which cannot be opened without."""
_HEX_BYTES: Final = 64
_READS: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_PRAGMAS: Final = {"table_list", "query_only", "trusted_schema", "cell_size_check"}


def prepare() -> None:
    """Load pyarrow, if it is there."""
    rows.prepare()


def read(file: BinaryIO, emit: Emit) -> None:
    """Read all tables.

    Raises:
        Unreadable: it is encrypted, too large or no database.
    """
    notes: list[str] = []
    with closing(sqlite3.connect(":memory:")) as database:
        _take(database, file, notes)
        _confine(database)
        try:
            tables = _tables(database)
        except sqlite3.Error as error:
            raise Unreadable(f"broken ({error})") from error
        _schema(database, emit, notes)
        for name, kind in islice(tables, MAX_TABLES):
            if kind == "table" or (kind == "shadow" and name.endswith(_CONTENT)):
                _table(database, emit, name)
            elif kind != "view":
                emit.skipped(name, f"a {kind} table")
        if len(tables) > MAX_TABLES:
            emit.skipped("", f"{len(tables) - MAX_TABLES:,} more tables")


def _take(database: sqlite3.Connection, file: BinaryIO, notes: list[str]) -> None:
    """Put the file's pages into an open connection, with one copy of them."""
    pages = rows.mapped(file, MAX_BYTES, "database")
    if pages[:16] != _HEAD or isinstance(pages, bytes):
        raise Unreadable("no SQLite database, or encrypted")
    if pages[_READ_BY] != _LEGACY:
        pages[_WRITTEN_BY] = pages[_READ_BY] = _LEGACY
        notes.append("what is only in its write-ahead log is not read")
    try:
        database.deserialize(pages)
    except (AttributeError, sqlite3.Error, OverflowError) as error:
        raise Unreadable(f"broken ({error})") from error


def _confine(database: sqlite3.Connection) -> None:
    """Let it do nothing but read."""
    database.text_factory = lambda data: data.decode("utf-8", "replace")
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL_BYTES)
    database.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 1 << 20)
    database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    for words in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON"):
        database.execute(f"PRAGMA {words}")

    def allow(action: int, first: str | None, *_: Any) -> int:
        told = action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS
        return sqlite3.SQLITE_OK if told or action in _READS else sqlite3.SQLITE_DENY

    database.set_authorizer(allow)


def _tables(database: sqlite3.Connection) -> list[tuple[str, str]]:
    found = database.execute("PRAGMA main.table_list").fetchall()
    own = {row[1]: row[2] for row in found if not row[1].startswith("sqlite_")}
    order = database.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall()
    return [(name, own[name]) for (name,) in order if name in own]


def _schema(database: sqlite3.Connection, emit: Emit, notes: list[str]) -> None:
    """Give the statements that made the database."""
    try:
        found = database.execute("SELECT sql FROM main.sqlite_schema WHERE sql <> ''").fetchall()
    except sqlite3.Error as error:
        emit.skipped(SCHEMA, f"broken ({error})")
        return
    text = "".join(f"{sql};\n" for (sql,) in found if isinstance(sql, str)).replace("\0", "\ufffd")
    if text:
        emit.document(SCHEMA, text, media="application/sql", note="; ".join(notes) or None)
    else:
        emit.skipped(SCHEMA, "empty")


def _table(database: sqlite3.Connection, emit: Emit, name: str) -> None:
    shown = name.replace("\0", "\ufffd")
    quoted = name.replace('"', '""')
    try:
        empty = database.execute(f'SELECT * FROM main."{quoted}" LIMIT 0')  # noqa: S608 - quoted
        columns = [one[0] for one in empty.description]
        cells = ", ".join(map(_cell, columns))
        cursor = database.execute(f'SELECT {cells} FROM main."{quoted}"')  # noqa: S608 - quoted
        table = Collector(columns, header=True)
        notes = _fill(table, cursor)
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        emit.skipped(shown, f"broken ({error})")
        return
    table.give(emit, shown, notes)


def _cell(column: str) -> str:
    """Ask for a column; of long bytes only for their number, whatever it is."""
    name = '"' + column.replace('"', '""') + '"'
    long = f"typeof({name}) = 'blob' AND length({name}) > {_HEX_BYTES}"
    return f"CASE WHEN {long} THEN printf('<%,d bytes>', length({name})) ELSE {name} END"


def _fill(table: Collector, cursor: sqlite3.Cursor) -> list[str]:
    found: Iterator[list[str]] = (
        [cell if type(cell) is str else written(cell) for cell in row] for row in cursor
    )
    batch: list[list[str]] = []
    broken: sqlite3.Error | None = None
    while True:
        try:
            batch.append(next(found))
        except StopIteration:
            break
        except sqlite3.Error as error:
            if not table.rows and not batch:
                raise
            broken = error
            break
        if len(batch) >= BATCH_ROWS:
            if not table.add(batch):
                return [beyond(table.rows, None)]
            batch = []
    if batch and not table.add(batch):
        return [beyond(table.rows, None)]
    return [f"broken after row {table.rows:,} ({broken})"] if broken else []


def written(cell: Any) -> str:
    """Write a value as text."""
    match cell:
        case str():
            return cell
        case None:
            return ""
        case bytes() if len(cell) <= _HEX_BYTES:
            return cell.hex()
        case bytes():
            return f"<{len(cell):,} bytes>"
        case _:
            return str(cell)
