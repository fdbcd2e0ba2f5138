"""Spreadsheets (XLSX, XLSM, XLSB, XLS, ODS): a document a sheet, in CSV form.

Decides what of a sheet is told: values as they were last computed, no formulas; days in ISO form;
hidden sheets like others, with a note; of merged cells the value where it is, which is the first of
them. Sheets without a cell, and charts, are skipped with the reason.

Does not interpret styles: a number is written as the number it is.
"""

import io
from datetime import date, datetime, time
from itertools import islice
from typing import Any, BinaryIO, Final

from abyme.guest.cells import is_header
from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers import rows
from abyme.helpers.readers.rows import BATCH_ROWS, Collector, beyond

MAX_BYTES: Final = 256 << 20
"""The library holds the file in memory."""
_EXACT: Final = 1e15
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
_SHEETS: Final = {"WorkSheet"}


def prepare() -> None:
    """Load pyarrow, if it is there."""
    rows.prepare()


def read(file: BinaryIO, emit: Emit) -> None:
    """Read all sheets.

    Raises:
        Unreadable: it is encrypted, too large or no workbook.
    """
    import python_calamine as calamine  # noqa: PLC0415

    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Unreadable(f"a workbook of more than {MAX_BYTES >> 20} MB")
    if data.startswith(_OLE) and _ENCRYPTED in data:
        raise Unreadable("encrypted")
    try:
        book = calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
        sheets = list(book.sheets_metadata)
    except calamine.PasswordError as error:
        raise Unreadable("encrypted") from error
    except (calamine.CalamineError, OSError, ValueError) as error:
        raise Unreadable(f"broken ({_first_line(error)})") from error
    for facts in sheets:
        kind = str(facts.typ).rpartition(".")[2]
        if kind not in _SHEETS:
            emit.skipped(facts.name, f"no cells ({kind.lower()})")
            continue
        try:
            sheet = book.get_sheet_by_name(facts.name)
        except (calamine.CalamineError, OSError, ValueError) as error:
            emit.skipped(facts.name, f"broken ({_first_line(error)})")
            continue
        _sheet(emit, sheet, str(facts.visible).rpartition(".")[2])


def _sheet(emit: Emit, sheet: Any, visible: str) -> None:
    given = sheet.iter_rows() if sheet.start is not None else ()
    cells = ([written(cell) for cell in row] for row in given)  # columns begin at the first used
    first = next((row for row in cells if any(row)), None)
    if first is None:
        emit.skipped(sheet.name, "empty")
        return
    headed = is_header(first)
    table = Collector(first, header=headed)
    if not headed:
        table.add([first])
    while batch := list(islice(cells, BATCH_ROWS)):
        if not table.add(batch):
            break
    table.give(emit, sheet.name, _notes(sheet, visible, table))


def _notes(sheet: Any, visible: str, table: Collector) -> list[str]:
    notes = []
    if visible != "Visible":
        notes.append("a hidden sheet")
    top, left = sheet.start
    if top or left:
        notes.append(f"begins at row {top + 1}, column {left + 1}")
    if merged := len(sheet.merged_cell_ranges or ()):
        notes.append(f"merged cells: {merged:,}, each told once")
    if table.full:
        notes.append(beyond(table.rows, sheet.total_height))
    return notes


def written(cell: Any) -> str:
    """Write a value as text."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        whole = cell.is_integer() and abs(cell) < _EXACT
        return str(int(cell)) if whole else repr(cell)
    if isinstance(cell, datetime):
        return cell.isoformat(" ") if cell.time() != time() else cell.date().isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    return "" if cell is None else str(cell)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
