"""Guesses the format of a text from how it begins: JSON, JSON lines, a table, markup.

Decides what a model must know to read it by code: keys, columns, tags, and how many.

Invariant: only a bounded beginning is looked at, in time that grows with it; nothing in it is
executed. Names out of the text are given apart from our own words.
Does not validate: a text that lies about its format is described as what it looks like.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from abyme.contexts.excerpts import number_of

WHOLE_CHARS: Final = 1 << 20
"""A text of so many characters should be given whole: its rows and items are counted."""
HEAD_CHARS: Final = 64 << 10
"""Of a longer one so much is enough."""
_KEYS: Final = 40
_RECORDS: Final = 200
_RECORD_CHARS: Final = 4000
_NAME_CHARS: Final = 80
_VALUE_CHARS: Final = 200
_TAGS: Final = 6
_DELIMITERS: Final = {"\t": "TSV", ",": "CSV", ";": "CSV split by ;", "|": "CSV split by |"}
_TAG: Final = re.compile(r"<([A-Za-z][\w:.-]{0,40})(?=[\s/>])")
_BETWEEN: Final = re.compile(r"[\s,]*")
_COLON: Final = re.compile(r"\s*:\s*")
_BLANK: Final = re.compile(r"\s*")
_DECODER: Final = json.JSONDecoder()


class Format(NamedTuple):
    """What a text looks like."""

    says: str
    """In our words."""
    names: list[str]
    """Of keys, columns or tags, in the words of the text."""
    first: Sequence[str] = ()
    """Fields of the first record, in the words of the text."""
    by_line: bool = False
    """A record is a line."""
    table: bool = False
    """Its first line is a header."""


def format_of(head: str, *, whole: bool) -> Format | None:
    """Guess the format of a text that begins with `head`; `whole`: that is all of it."""
    opening = head.lstrip("\ufeff \t\r\n")[:1]
    if opening == "{":
        lines = head.split("\n")
        return records_of(lines if whole else lines[:-1], "lines") or _json(head, whole=whole)
    if opening == "[":
        return _json(head, whole=whole)
    if opening == "<":
        return _markup(head, whole=whole)
    return _table(head, whole=whole)


# -- JSON ------------------------------------------------------------------------


def records_of(texts: Iterable[str], what: str = "items") -> Format | None:
    """Recognize texts that are a JSON dict each."""
    records = list(islice((text for text in texts if text.strip()), _RECORDS))
    parsed = [value for line in records if isinstance(value := _parsed(line), dict)]
    if len(parsed) < 2 or len(parsed) < 0.9 * len(records):
        return None
    few = f"{len(parsed)} of " * (len(parsed) < len(records))
    says = f"{what} are JSON ({few}{len(records)} looked at), dicts with"
    return Format(says, _fields(parsed), _record(parsed[0].items()), by_line=True)


def _parsed(line: str) -> Any:
    if len(line) > _RECORD_CHARS:
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _json(head: str, *, whole: bool) -> Format | None:
    start = len(head) - len(head.lstrip("\ufeff \t\r\n"))
    if head[start] == "[":
        items, end = _items(head, start + 1)
        if not items or not _may_be_all(head, end, whole=whole):
            return None
        said = f"JSON, a list of {'' if whole else 'more than '}"
        if not all(isinstance(item, dict) for item in items):
            return Format(f"{said}{number_of(len(items), 'item')}: {_kinds(items)}", [])
        said += number_of(len(items), "dict")
        return Format(f"{said} with", _fields(items), _record(items[0].items()))
    members, end = _members(head, start + 1)
    if not members or not _may_be_all(head, end, whole=whole):
        return None
    names = [f"{_short(key)}: {inside}" for key, inside in members[:_KEYS]]
    more = "" if whole else " or more"
    return Format(f"JSON, a dict with {number_of(len(members), 'key')}{more}", names)


def _may_be_all(text: str, end: int, *, whole: bool) -> bool:
    """Tell whether a list or dict of which the items end at `end` is all that a text holds."""
    if text[end : end + 1] in {"]", "}"}:
        return not text[end + 1 :].strip()
    return not whole


def _items(text: str, at: int) -> tuple[list[Any], int]:
    """Return the items of a list as far as they are there whole, and where they end."""
    items: list[Any] = []
    while True:
        at = _after(_BETWEEN, text, at)
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return items, at
        end = _after(_BLANK, text, end)
        if end == len(text):
            return items, at  # it may be cut
        if text[end] not in ",]":
            return [], at
        items.append(value)
        at = end


def _members(text: str, at: int) -> tuple[list[tuple[str, str]], int]:
    """Return keys and what is behind them, and where that ends.

    Of the last one only a part may be there.
    """
    members: list[tuple[str, str]] = []
    while True:
        at = _after(_BETWEEN, text, at)
        try:
            key, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return members, at
        begin = _after(_COLON, text, end)
        if not isinstance(key, str) or begin in {end, len(text)}:
            return members, at
        try:
            value, at = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError):
            return [*members, (key, _begun(text, begin))], begin
        inside = _inside(value) if isinstance(value, list | dict) else type(value).__name__
        members.append((key, inside))


def _begun(text: str, at: int) -> str:
    """Say what a value is that is not there whole."""
    items = _items(text, at + 1)[0] if text[at] == "[" else []
    if items:
        return f"list of more than {len(items):,} {_kinds(items)}{_keys(items)}"
    return {"[": "list", "{": "dict", '"': "str"}.get(text[at], "?")


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _fields(records: list[Any]) -> list[str]:
    """Name the keys of dicts, with the type of their values, and how many have them."""
    looked_at = records[:_RECORDS]
    counts: Counter[str] = Counter()
    kinds: dict[str, set[str]] = {}
    for record in looked_at:
        for key in islice(record, _KEYS):
            counts[key] += 1
            kinds.setdefault(key, set()).add(type(record[key]).__name__)
    names = []
    for key, count in counts.most_common(_KEYS):
        kind = " or ".join(sorted(kinds[key] - {"NoneType"}) or ["None"])
        often = "" if count == len(looked_at) else f" (in {count} of {len(looked_at)})"
        names.append(f"{_short(key)}: {kind}{often}")
    return names


def _record(fields: Iterable[tuple[str, Any]]) -> list[str]:
    """Write the fields of a record, each on a line of its own."""
    return [
        f"{_short(key)} = {value[:_VALUE_CHARS] if isinstance(value, str) else _inside(value)}"
        for key, value in islice(fields, _KEYS)
    ]


def _inside(value: Any) -> str:
    match value:
        case list():
            return f"list of {len(value):,} {_kinds(value)}{_keys(value)}".rstrip()
        case dict():
            keys = ", ".join(_short(key) for key in islice(value, 4))
            return f"dict of {len(value):,} ({keys}{', ...' if len(value) > 4 else ''})"
        case str():
            return "str"
        case _:
            return f"{value}"


def _kinds(items: list[Any]) -> str:
    """Say what the items of a list are."""
    kinds = sorted({type(item).__name__ for item in items[:_RECORDS]})
    return " or ".join({"dict": "dicts", "list": "lists"}.get(kind, kind) for kind in kinds)


def _keys(items: list[Any]) -> str:
    """Name the keys of the first item, if it is a dict."""
    if not items or not isinstance(items[0], dict):
        return ""
    keys = ", ".join(map(_short, islice(items[0], 6)))
    return f" ({keys}{', ...' if len(items[0]) > 6 else ''})"


# -- markup and tables -----------------------------------------------------------


def _markup(head: str, *, whole: bool) -> Format | None:
    tags = Counter(_TAG.findall(head))
    if not tags:
        return None
    html = re.search(r"(?i)<(?:!doctype html|html)\b", head[:2000])
    where = "" if whole else f" in the first {len(head):,} characters"
    root = next(iter(tags))
    names = [f"{root} (the first)"] if tags[root] == 1 else []
    names += [f"{tag} {count:,}" for tag, count in tags.most_common(_TAGS) if count > 1]
    return Format(f"{'HTML' if html else 'XML'}, tags{where}", names)


def _table(head: str, *, whole: bool) -> Format | None:
    """Recognize a table by a header and rows of the same width."""
    first = head.partition("\n")[0]
    for delimiter, kind in _DELIMITERS.items():
        if delimiter not in first:
            continue
        try:
            rows = [row for row in _rows(head, delimiter) if row]
        except csv.Error:
            continue
        if not whole:
            rows.pop()  # it may be cut
        width, looked_at = len(rows[0]) if rows else 0, rows[1 : _RECORDS + 1]
        even = sum(len(row) == width for row in looked_at)
        few = len(looked_at) < (4 if width == 2 else 2)
        if width < 2 or few or even < 0.9 * len(looked_at) or not _is_header(rows[0]):
            continue
        counted = f"{len(rows) - 1:,} rows below a header" if whole else "a header"
        broken = any("\n" in field for row in looked_at for field in row)
        how = "; fields hold line ends: use table()" if broken else "; table() gives its rows"
        says = f"{kind}, {counted}, {width} columns{how}"
        record = _record(zip(rows[0], rows[1], strict=False))
        return Format(says, rows[0], record, by_line=True, table=True)
    return None


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)


def _is_header(cells: list[str]) -> bool:
    named = [cell.strip() for cell in cells]
    if not named[0]:
        named = named[1:]  # an index has no name
    plain = all(cell and len(cell) <= _NAME_CHARS and not cell[0].isdigit() for cell in named)
    return plain and len(set(named)) == len(named)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARS else name[: _NAME_CHARS - 1] + "…"
