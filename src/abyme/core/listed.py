"""What a reply to numbered items says of each: JSON of many forms, or lines.

Decides which number a value in a reply belongs to. Invariants: numbers come from the reply, or
from the order of a list that is complete; two different values for one number are none; a value
is taken whole or not at all, and behind a place where JSON breaks off nothing is; a reply that was
cut off still gives what stands before the cut. Bounded: read in time that grows with its length.

Does not decide whether a value is one: that is `values`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from abyme.core import shapes
from abyme.core.jobs import Reply
from abyme.core.values import Unfit, Values, cut, number_of

MOST_WRONG_CHARS: Final = 150
MOST_STARTS: Final = 20
"""Places in a reply where JSON is tried to begin."""
NUMBER_NAMES: Final = ("number", "id", "item", "index", "no", "n", "key")


class Found(NamedTuple):
    """A value in a reply."""

    value: Any
    start: int
    end: int
    """Where it stands."""
    own: tuple[int, int] | None = None
    """Where the characters of a label, or of its code, stand; None: not known."""
    doubtful: bool = False
    """It was marked as one that is in doubt."""


class _Member(NamedTuple):
    """A value in an object or an array."""

    key: str | None
    found: Found


class _Group(NamedTuple):
    """An object or an array, as far as it can be read."""

    members: list[_Member]
    closed: bool
    broken: bool
    """It goes on in what is no JSON, within a value of a number."""
    start: int
    end: int


_DECODER: Final = json.JSONDecoder()
_BLANK: Final = re.compile(r"[ \t\r\n]*")
_OPENING: Final = re.compile(r"[{\[]")
_BARE_KEY: Final = re.compile(r"\d{1,6}")
_LINE: Final = re.compile(
    r"^[ \t>*|#`(\"\[-]{0,8}(?:item|number|no\.?)?[ \t]{0,2}(\d{1,6})(?!\d)[*`)\"\]]{0,4}"
    r"(?P<mark>[ \t]{0,4}[.:)|=,\u2013\u2014-]{1,2}(?!\d)|(?=[ \t]))[ \t*|`]{0,8}"
    r"(?P<value>[^\r\n]*)",
    re.MULTILINE | re.IGNORECASE,
)
"""``1: value``, ``1. value``, ``1) value``, ``1 value``, ``| 1 | value |``."""
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"[ \t\r\n]*(:?)', re.DOTALL)
_OTHERS: Final = re.compile(
    r"\A(?:and|or|to|&)?[ \t]*(?:item|number|no\.?)?[ \t]*\d{1,6}[.:)](?!\d)"
    r"|\b(?:item|number|no\.?)[ \t]*\d{1,6}[ \t]*[.:)](?!\d)|[;,|][ \t]*\d{1,6}[.:)](?!\d)",
    re.IGNORECASE,
)
"""In a text on a line: it goes on with another item."""
_PARAGRAPH: Final = re.compile(r"\n[ \t\r]*\n")
_ENDS: Final = frozenset({",", "}", "]"})
_NO_VALUE: Final = "no value came"
_CUT_OFF: Final = "the reply was cut off before it"
_TWICE: Final = "two different values came"


def read(reply: Reply, count: int, values: Values) -> dict[int, Found | str]:
    """Say of each number what a reply has for it: the value, or why it has none."""
    missing = _CUT_OFF if reply.cut else _NO_VALUE
    said: dict[int, Found | str] = dict.fromkeys(range(1, count + 1), missing)
    entries: list[tuple[int, Found]] = []
    if count == 1 and values.are_labels:
        entries = [one for one in _bare(reply, values) if values.takes(one[1].value)]
    entries = entries or _entries(reply, count, values)
    if count == 1 and not entries:
        entries = list(_bare(reply, values))
    for number, found in entries:
        before = said[number]
        try:
            value = values.taken(found.value)
        except Unfit as error:
            if not isinstance(before, Found) and before != _TWICE:
                said[number] = cut(str(error), MOST_WRONG_CHARS)
            continue
        if isinstance(before, Found) and _canonical(before.value) != _canonical(value):
            said[number] = _TWICE
        elif before != _TWICE:
            own = _own(reply.text, found, values) if values.are_labels else None
            doubtful = values.is_doubtful(found.value)
            said[number] = found._replace(value=value, own=own, doubtful=doubtful)
    return said


def _own(text: str, found: Found, values: Values) -> tuple[int, int] | None:
    """Find the label's own characters where a value stands: within quotes, marks and objects."""
    value, start, end = values.own(found.value)
    raw = text[found.start : found.end]
    if not isinstance(found.value, dict | list):
        at = [raw.index(value)] if raw.count(value) == 1 else []
    else:
        each = [one for one in _STRING.finditer(raw) if not one[2]]  # no keys
        at = [one.start(1) for one in each if one[1] == value]
    return (found.start + at[0] + start, found.start + at[0] + end) if len(at) == 1 else None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _entries(reply: Reply, count: int, values: Values) -> list[tuple[int, Found]]:
    """Find numbered values: in all JSON that there is, else in lines."""
    entries: list[tuple[int, Found]] = []
    at, misses, broken = 0, 0, False
    most = 4 * count + 1_000
    while misses < MOST_STARTS and len(entries) < most:
        opening = _OPENING.search(reply.text, at)
        if opening is None:
            break
        group = _group(reply.text, opening.start(), most)
        found = list(_numbered(group, count, values))
        entries += found
        misses += not found
        broken = group.broken
        if broken:
            break  # what stands behind may belong to it
        at = group.end if found else opening.end()
    entries = [one for one in entries if 1 <= one[0] <= count]
    if entries or (broken and not values.are_labels):
        return entries
    return [one for one in _in_lines(reply, count, values) if 1 <= one[0] <= count]


def _group(text: str, start: int, most: int) -> _Group:
    """Read an object or an array as far as it goes; what is cut off is not a member."""
    members: list[_Member] = []
    is_object, at, broken = text[start] == "{", start + 1, False
    while len(members) < most:
        at = _skipped(text, at)
        if text[at : at + 1] in {"}", "]"}:
            return _Group(members, closed=True, broken=False, start=start, end=at + 1)
        key = None
        try:
            if is_object:
                key, at = _key(text, at)
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            broken = _is_of_item(key, members)
            break
        behind = _skipped(text, end)
        if not _ends(text, behind, value, is_object=is_object):
            broken = _is_of_item(key, members)
            break
        inside = int(isinstance(value, str))
        members.append(_Member(key, Found(value, at + inside, end - inside)))
        at = behind + (text[behind : behind + 1] == ",")
    return _Group(members, closed=False, broken=broken, start=start, end=max(at, start + 1))


def _is_of_item(key: str | None, members: Sequence[_Member]) -> bool:
    numbered = any(member.key in NUMBER_NAMES for member in members)
    return key is not None and (numbered or number_of(key) is not None)


def _ends(text: str, at: int, value: Any, *, is_object: bool) -> bool:
    """Tell whether a value is over where it seems to be: a quote within one ends it too early.

    A comma may be missing before a key that is a number, and between objects of a list.
    """
    next_ = text[at : at + 1]
    if next_ in _ENDS:
        return True
    if not isinstance(value, str | dict | list):
        return False
    if is_object and next_ == '"':
        try:
            return number_of(_key(text, at)[0]) is not None
        except ValueError:
            return False
    return not next_ or (next_ == "{" and not is_object and isinstance(value, dict))


def _key(text: str, at: int) -> tuple[str, int]:
    """Read a key and its colon; a number may stand without quotes."""
    if (bare := _BARE_KEY.match(text, at)) is not None:
        key, at = bare[0], bare.end()
    else:
        key, at = _DECODER.raw_decode(text, at)
    at = _skipped(text, at)
    if not isinstance(key, str) or text[at : at + 1] != ":":
        raise ValueError("no key")
    return key, _skipped(text, at + 1)


def _skipped(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return at if blank is None else blank.end()


def _numbered(group: _Group, count: int, values: Values) -> Iterator[tuple[int, Found]]:
    """Give members their numbers: by their keys, by a number in each, or by their order."""
    members = group.members
    if not members:
        return
    if members[0].key is not None:
        keyed = [(number_of(key), found) for key, found in members if key is not None]
        yield from ((number, found) for number, found in keyed if number is not None)
        if group.closed and not any(number is not None for number, _ in keyed):
            value = {key: found.value for key, found in members}
            whole = Found(value, group.start, group.end)
            yield from _with_number(whole, values)
        return
    inner = [one for _, found in members for one in _with_number(found, values)]
    yield from inner
    if not inner and group.closed and len(members) == count > 1:
        kinds = {type(found.value) for _, found in members}
        if kinds == {str} or not (values.are_labels or values.are_texts):
            yield from ((number, found) for number, (_, found) in enumerate(members, 1))


def _with_number(found: Found, values: Values) -> Iterator[tuple[int, Found]]:
    """Take an object that says which item it is of: its number, and the rest as the value."""
    value = found.value
    for name in NUMBER_NAMES if isinstance(value, dict) else ():
        if name not in value or values.has_property(name):
            continue
        number = value[name]
        if isinstance(number, str):
            number = number_of(number)
        if isinstance(number, int) and not isinstance(number, bool):
            rest = {key: one for key, one in value.items() if key != name}
            yield number, found._replace(value=rest)
            return


def _in_lines(reply: Reply, count: int, values: Values) -> Iterator[tuple[int, Found]]:
    """Find ``1: value`` and the like, a line each. Where values are no labels there must be a
    mark behind the number; those of a schema are JSON.
    """
    text = reply.text
    lines = list(islice(_LINE.finditer(text), 4 * count + 1_000))
    if not values.are_labels:
        lines = [line for line in lines if line["mark"]]
        if count == 1 < len(lines):
            return  # a list, as the only item's value
    if values.are_texts:
        yield from _texts_in_lines(reply, count, lines)
        return
    for line in lines:
        start, end = line.span("value")
        if reply.cut and end >= len(text):
            return
        raw = text[start:end].rstrip(" \t\r\n|,")
        value = _of_json(raw)
        if values.are_labels and not values.takes(value):
            value = raw
        if raw and value is not None:
            yield int(line[1]), Found(value, start, start + len(raw))


def _texts_in_lines(
    reply: Reply, count: int, lines: list[re.Match[str]]
) -> Iterator[tuple[int, Found]]:
    """Find texts that begin on numbered lines and go on up to the next; the last one up to a blank
    line. A text may hold numbered lines itself: where numbers or marks are not those of one plain
    list of the items, nothing is taken.
    """
    text, parted = reply.text, False
    numbers, marks = [int(line[1]) for line in lines], {line["mark"].strip() for line in lines}
    whole = numbers == list(range(1, len(numbers) + 1)) and len(marks) == 1
    if not whole or not (len(numbers) == count or (reply.cut and len(numbers) < count)):
        return
    for place, line in enumerate(lines):
        start, end = line.start("value"), len(text)
        if place + 1 < len(lines):
            end = lines[place + 1].start()
        elif reply.cut:
            return
        raw = text[start:end].rstrip()
        blank = _PARAGRAPH.search(raw)
        if blank is not None and place + 1 == len(lines):
            if parted:
                return  # a last paragraph, or a word at the end
            raw = raw[: blank.start()].rstrip()
        parted = parted or blank is not None
        raw = raw.rstrip(" \t\r\n|,")
        if raw and not _OTHERS.search(raw):
            value = _of_json(raw)
            value = value if isinstance(value, str) else raw
            yield numbers[place], Found(value, start, start + len(raw))


def _of_json(raw: str) -> Any:
    """Decode what stands on a line; None where that is no JSON."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _bare(reply: Reply, values: Values) -> Iterator[tuple[int, Found]]:
    """Take a whole reply as the value of the only item."""
    text = reply.text.strip()
    if not text or reply.cut:
        return
    start = reply.text.index(text[0])
    whole = Found(text, start, start + len(text))
    try:
        value = shapes.parse(text)
    except ValueError:
        if not text.startswith(("{", "[")):
            yield 1, whole
        return
    if isinstance(value, dict) and any(number_of(key) is not None for key in value):
        return  # of another number
    if not values.has_schema and not text.startswith(("{", "[", '"', "`")):
        value = text
    yield 1, whole._replace(value=value)
