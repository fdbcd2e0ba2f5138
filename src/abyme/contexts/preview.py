"""What a root model is told of the context in its first message.

Decides what is worth a first look: type, size, kinds of files, names, head and
tail, the pattern of records. It saves the turn that models spend on a peek.

Invariant: never longer than its budget; every line taken from the input begins
with ``| ``, so that no text of the input can pass for ours. Costs a few hundred
small reads, however large the input is.
Does not summarize: what it says is counted or copied, and an estimate says so.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from abyme.contexts.records import pattern_of
from abyme.ports import Context

BUDGET_CHARS: Final = 1400

_EXACT_CHARS: Final = 8 << 20
_SAMPLES: Final = 48
_SAMPLE_CHARS: Final = 16 << 10
_LINE_CHARS: Final = 200
_NAME_CHARS: Final = 100
_ASCII_PER_TOKEN: Final = 3.8
_WIDE_PER_TOKEN: Final = 1.4
"""Characters a token, for English and code, and for other scripts (o200k, rounded)."""


class Look(NamedTuple):
    """What samples of the input showed."""

    tokens: int
    lines: int
    longest: int
    exact: bool
    crlf: bool
    records: list[str]


def preview(context: Context, budget_chars: int = BUDGET_CHARS) -> str:
    """Describe a context within `budget_chars` characters."""
    look = _look(context)
    lines = [_size_line(context, look)]
    if context.shape == "text":
        lines += _record_lines(look)
        lines += _head_and_tail(context, budget_chars - _length(lines))
    elif context.shape == "list":
        lines += _record_lines(look)
        lines += _samples(context, budget_chars - _length(lines))
    else:
        lines += _census(context, budget_chars - _length(lines))
        lines += _samples(context, budget_chars - _length(lines))
    return _cut("\n".join(lines), budget_chars)


def _size_line(context: Context, look: Look) -> str:
    count = context.documents
    kind = {
        "text": "a str",
        "list": f"a list of {count:,} str",
        "documents": f"a mapping of {count:,} {_plural(count, 'name')} to {_plural(count, 'text')}",
    }[context.shape]
    about = "" if look.exact else "about "
    longest = "longest" if look.exact else "longest seen"
    return (
        f"context is {kind}: {context.chars:,} characters, "
        f"about {_round(look.tokens):,} tokens, "
        f"{about}{look.lines if look.exact else _round(look.lines):,} "
        f"{_plural(look.lines, 'line')} ({longest}: {look.longest:,} characters)"
        + (r"; lines end in \r\n" if look.crlf else "")
    )


def _look(context: Context) -> Look:
    """Read a small context whole, a large one here and there."""
    exact = context.chars <= _EXACT_CHARS and context.documents <= _SAMPLES * 100
    pieces = list(_whole(context) if exact else _spread(context))
    seen = wide = ends = longest = 0
    crlf = False
    records: list[str] = []
    for text in pieces:
        seen += len(text)
        wide += 0 if text.isascii() else len(text) - len(text.encode("ascii", "ignore"))
        crlf = crlf or "\r\n" in text
        ends += text.count("\n") + (exact and not text.endswith("\n"))
        lines = text.split("\n")
        longest = max(longest, *map(len, lines))
        step = max(1, len(lines) // 40)
        records += (lines[1:-1] or lines)[::step]
    scale = context.chars / max(1, seen)
    tokens = (seen - wide) / _ASCII_PER_TOKEN + wide / _WIDE_PER_TOKEN
    return Look(round(tokens * scale), round(ends * scale), longest, exact, crlf, records)


def _whole(context: Context) -> Iterator[str]:
    for document in range(context.documents):
        size = context.size(document)
        if size:
            yield context.piece(document, 0, size)


def _spread(context: Context) -> Iterator[str]:
    """Take samples at equal distances, over the documents or along a single one."""
    if context.documents >= _SAMPLES:
        for number in range(_SAMPLES):
            document = number * context.documents // _SAMPLES
            yield context.piece(document, 0, _SAMPLE_CHARS)
        return
    each = max(1, _SAMPLES // context.documents)
    for document in range(context.documents):
        size = context.size(document)
        for number in range(each):
            start = number * max(0, size - _SAMPLE_CHARS) // max(1, each - 1)
            yield context.piece(document, start, start + _SAMPLE_CHARS)


def _record_lines(look: Look) -> list[str]:
    pattern = pattern_of(look.records)
    return ["lines look like:", f"| {_line(pattern)}"] if pattern else []


def _head_and_tail(context: Context, room: int) -> list[str]:
    """Show how a text begins and ends."""
    size = context.size(0)
    if room < 60:
        return []
    whole = _excerpt(context.piece(0, 0, min(size, room)).split("\n"), room - 12)
    if size <= room and _length(whole) <= room - 12 and not any("…" in line for line in whole):
        return ["text:", *whole]
    head_room = (room - 24) * 2 // 3
    head = _excerpt(context.piece(0, 0, head_room).split("\n"), head_room)
    tail_room = room - 24 - _length(head)
    last = context.piece(0, max(0, size - tail_room), size).rstrip("\n").split("\n")
    tail = _excerpt(last[1:][::-1] or last, tail_room)[::-1]
    return ["begins:", *head, "ends:", *tail]


def _census(context: Context, room: int) -> list[str]:
    """Count documents by kind and folder, and name some."""
    names = [context.label(document) for document in range(context.documents)]
    kinds = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in names)
    folders = Counter(name.split("/", 1)[0] + "/" for name in names if "/" in name)
    lines = []
    if kinds.total() > kinds["no suffix"]:
        lines.append(f"kinds: {_counted(kinds, 6)}")
    if len(folders) > 1:
        lines.append(f"folders: {_counted(folders, 8)}")
    if len(names) > 3:
        large = sorted(range(len(names)), key=context.size)[-2:][::-1]
        shown = ", ".join(f"{_name(names[n])} ({context.size(n):,})" for n in large)
        lines.append(f"largest: {shown} characters")
    lines = [_line(line) for line in lines if len(line) < room // 3]
    left = room - _length(lines) - 20
    shown_names: list[str] = []
    for name in names:
        left -= len(_name(name)) + 2
        if left < room // 3 or len(shown_names) == 12:
            shown_names.append("...")
            break
        shown_names.append(_name(name))
    return [*lines, f"names: {', '.join(shown_names)}"]


def _samples(context: Context, room: int) -> list[str]:
    """Show how one document or a few begin."""
    lines: list[str] = []
    several = context.shape == "list"
    for document in range(min(context.documents, 3 if several else 1)):
        chosen = document if several else _typical(context)
        left = room - _length(lines)
        title = f"context[{document}]" if several else _name(context.label(chosen))
        title = f"{title} begins:"
        if left < len(title) + 80:
            break
        text = context.piece(chosen, 0, left).rstrip("\n").split("\n")
        part = left // (3 - document) if several else left
        lines += [title, *_excerpt(text[:12], part - len(title) - 2)]
    return lines


def _typical(context: Context) -> int:
    """Choose a document of middling size: the first is often an empty or special one."""
    by_size = sorted(range(context.documents), key=context.size)
    return by_size[len(by_size) // 2]


def _excerpt(lines: list[str], room: int) -> list[str]:
    """Mark lines as the input's, as many as fit; the last may be cut."""
    shown: list[str] = []
    for line in lines:
        text = f"| {_line(line)}".rstrip()
        if text == "|" and shown and shown[-1] == "|":
            continue  # one empty line says as much as five
        if len(text) + 1 > room:
            if room > 20:
                shown.append(_cut(text, room - 1))
            break
        shown.append(text)
        room -= len(text) + 1
    return shown


def _line(text: str) -> str:
    """Make a line safe to show: nothing that commands a terminal, not too long."""
    text = text.rstrip("\r").replace("\t", "    ")
    if not text.isprintable():
        text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return _cut(text, _LINE_CHARS)


def _name(name: str) -> str:
    return repr(name if len(name) <= _NAME_CHARS else "…" + name[-_NAME_CHARS:])


def _counted(counts: "Counter[str]", most: int) -> str:
    shown = [f"{name} {count:,}" for name, count in counts.most_common(most)]
    rest = len(counts) - most
    return ", ".join(shown) + (f", {rest:,} more" if rest > 0 else "")


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(0, room - 1)] + "…"


def _length(lines: list[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _plural(count: int, word: str) -> str:
    return word if count == 1 else word + "s"


def _round(number: int) -> int:
    """Two digits that mean something."""
    return round(number, 2 - len(str(number)))
