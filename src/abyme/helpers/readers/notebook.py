"""Jupyter notebooks: cells in order as pages, code in fences, outputs as text.

Decides what of an output is text: what was printed, ``text/plain`` of a result, a traceback without
its colours; each is cut at `MAX_OUTPUT_CHARS`. Pictures and other data are named only.
"""

import json
import re
from typing import Any, BinaryIO, Final

from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers.prose import join_pages

MEDIA: Final = "application/x-ipynb+json"
MAX_OUTPUT_CHARS: Final = 8_000
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


def read(file: BinaryIO, emit: Emit) -> None:
    """Emit the text.

    Raises:
        Unreadable: it is not a notebook, or has no cells.
    """
    try:
        notebook = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else "no JSON"
        raise Unreadable(f"broken ({reason})") from None
    cells = _cells(notebook)
    if not cells:
        raise Unreadable("not a notebook: it has no cells")
    language = _language(notebook)
    texts = [_cell(cell, language) for cell in cells if isinstance(cell, dict)]
    text, starts = join_pages(texts, between="\n\n")
    if not text.strip():
        raise Unreadable("no text")
    emit.document("", text, media=MEDIA, pages=starts, page_word="cell")


def _cells(notebook: Any) -> list[Any]:
    """Find the cells: of format 4, or of 3, which has worksheets."""
    if not isinstance(notebook, dict):
        return []
    sheets = notebook.get("worksheets")
    if isinstance(sheets, list):
        found = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        return [cell for cells in found if isinstance(cells, list) for cell in cells]
    cells = notebook.get("cells")
    return cells if isinstance(cells, list) else []


def _language(notebook: dict[str, Any]) -> str:
    about = notebook.get("metadata")
    kernel = about.get("language_info") if isinstance(about, dict) else None
    name = kernel.get("name") if isinstance(kernel, dict) else None
    return name if isinstance(name, str) and re.fullmatch(r"[\w+#-]{1,30}", name) else "python"


def _cell(cell: dict[str, Any], language: str) -> str:
    source = _joined(cell.get("source", cell.get("input")))
    if cell.get("cell_type") != "code":
        return source
    outputs = cell.get("outputs")
    shown = (
        [_output(one) for one in outputs if isinstance(one, dict)]
        if isinstance(outputs, list)
        else []
    )
    return "\n\n".join((_fenced(source, language), *(one for one in shown if one)))


def _output(output: dict[str, Any]) -> str:
    data = output.get("data")
    kinds = data if isinstance(data, dict) else {}
    if output.get("output_type") in ("error", "pyerr"):
        lines = output.get("traceback")
        traceback = (
            "\n".join(line for line in lines if isinstance(line, str))
            if isinstance(lines, list)
            else ""
        )
        text = _COLOURS.sub("", traceback) or f"{output.get('ename')}: {output.get('evalue')}"
    else:
        text = _joined(output.get("text")) or _joined(kinds.get("text/plain"))
        text = text or _joined(kinds.get("text/markdown")) or _joined(kinds.get("text/html"))
    others = [kind for kind in kinds if isinstance(kind, str) and not kind.startswith("text/")]
    named = "".join(f"[output: {kind[:100]}]\n" for kind in others)
    if len(text) > MAX_OUTPUT_CHARS:
        cut = len(text) - MAX_OUTPUT_CHARS
        text = f"{text[:MAX_OUTPUT_CHARS]}\n[{cut:,} characters of output cut]"
    return (named + (_fenced(text, "output") if text.strip() else "")).rstrip()


def _joined(source: Any) -> str:
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    return source.replace("\0", "") if isinstance(source, str) else ""


def _fenced(text: str, word: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{word}\n{text.rstrip()}\n{fence}"
