"""What a root model is told of the context in its first message.

Decides what is worth a first look: type, size, lines, kinds of files, format and pattern of
records, how it begins and ends, and the documents that the question names. It saves the
turn that models spend on a peek.

Invariant: never longer than its budget; every line taken from the input begins
with ``| ``, so that no text of the input can pass for ours. Reads a small input
whole and of a large one a few hundred pieces, however large it is.
Does not summarize: what it says is counted or copied, and an estimate says so.
"""

from collections.abc import Sequence
from typing import Final

from abyme.contexts import outline
from abyme.contexts.census import census
from abyme.contexts.counts import Counts, counts, samples
from abyme.contexts.excerpts import (
    LINE_CHARS,
    Page,
    cost,
    excerpt,
    excerpt_of_end,
    key,
    listed,
    number_of,
    safe,
)
from abyme.contexts.formats import HEAD_CHARS, WHOLE_CHARS, Format, format_of, records_of
from abyme.contexts.mentions import mentioned
from abyme.contexts.records import fits, pattern_of
from abyme.ports import Context

BUDGET_CHARS: Final = 1400

_TABLE_CHARS: Final = 4 << 20
_PIECES: Final = 12
_PIECE_CHARS: Final = 8 << 10
_LEAST: Final = 120
"""Room that a stretch of text needs to say anything."""
_STRETCH, _HEAD_ROOM = 420, 600
"""Room for a beginning; for an end 60 in 100 of that."""
_HEAD_LINES: Final = 12
_TAIL_LINES: Final = 5
_FIELDS: Final = 10
_FIELD_CHARS: Final = 100
_TITLE_CHARS: Final = 64
_END: Final = 180
"""Room kept for the end of a text, whatever comes before it."""
_MENTIONS: Final = 2
_NAMES_CHARS: Final = 400
_HEADINGS: Final = 9
_FEW: Final = 3
"""So many documents are shown all."""
_FEW_CHARS, _LAST_CHARS = 400, 200
"""Of a line, at the beginning and at the end, where there are few."""


def preview(context: Context, question: str = "", budget_chars: int = BUDGET_CHARS) -> str:
    """Describe a context within `budget_chars` characters to one who is asked `question` of it."""
    counted = counts(context)
    page = Page(budget_chars)
    match context.shape:
        case "text":
            _text(page, context, counted)
        case "list":
            _list(page, context, counted)
        case _:
            _documents(page, context, counted, question)
    return page.text()


# -- a text ----------------------------------------------------------------------


def _text(page: Page, context: Context, counted: Counts) -> None:
    size = context.size(0)
    opening = f"context is a str: {_amounts(context, counted)}"
    if everything := _all_of(context, 0, page.left - len(opening) - 20):
        page.add([f"{opening}{_endings(counted)}; all of it:", *everything])
        return
    page.add([f"{opening}, {_longest(counted)}{_endings(counted)}"])
    known, said = _structure(context, 0, page.left // 3)
    page.add(said)
    page.left -= _END
    if known is None:
        most = outline.MOST_CHARS
        lines = context.piece(0, 0, min(size, most)).split("\n")
        _outline(page, lines, "" if size <= most else f" of the first {most:,} characters")
    if isinstance(known, Format) and _first_record(page, context, 0, known):
        return
    if shown := _beginning(context, 0, known, page.left - 8):
        page.add(["begins:", *shown])
    if known is None and size > 20 * _STRETCH:
        lines = context.piece(0, size // 2, size // 2 + _STRETCH).split("\n")[1:]
        if shown := excerpt(lines, min(page.left - 15, _STRETCH // 2), _TAIL_LINES):
            page.add(["in the middle:", *shown])
    page.left += _END
    _ends(page, context, 0, known, page.left)


def _outline(page: Page, lines: Sequence[str], where: str) -> None:
    """Tell of headings, and of what lines begin with again and again."""
    found = outline.headings(lines)
    if found:
        step = max(1.0, len(found) / _HEADINGS)
        some = [found[int(n * step)] for n in range(min(_HEADINGS, len(found)))]
        titles = [f"line {number:,}: {title}" for number, title in some]
        shown = "" if len(some) == len(found) else f", {len(some)} of them"
        said = f"{len(found):,} lines{where} look like headings{shown}:"
        page.add([said, *excerpt(titles, page.left // 2, _HEADINGS, _TITLE_CHARS)])
    begun = outline.starts(lines)
    if begun:
        said = f"common beginnings of lines{where}, counted:"
        page.add([said, *listed([f"{start} {count:,}" for start, count in begun], page.left // 3)])


# -- many texts ------------------------------------------------------------------


def _list(page: Page, context: Context, counted: Counts) -> None:
    count = context.documents
    sizes = sorted(map(context.size, range(count)))
    items = [text for _, start, text in samples(context) if start == 0]
    single = all("\n" not in text for text in items)
    opening = (
        f"context is a list of {count:,} str: {context.chars:,} characters, "
        f"about {_round(counted.tokens):,} tokens; items of {sizes[0]:,} to {sizes[-1]:,} "
        f"characters (median {sizes[count // 2]:,})"
        f"{', one line each' if single else ''}{_endings(counted)}"
    )
    page.add([opening])
    if found := records_of(items):
        page.add([f"{found.says}:", *listed(found.names, page.left // 3)])
    elif single and (pattern := pattern_of(items)):
        page.add([f"items look like ({len(items)} looked at):", *listed([pattern], page.left // 3)])
    shown = list(dict.fromkeys((0, count // 2, count - 1)))
    for number, document in enumerate(shown):
        room = page.left // (len(shown) - number)
        _document(page, context, document, f"context[{document}]", room)


def _documents(page: Page, context: Context, counted: Counts, question: str) -> None:
    count = context.documents
    names = [context.label(document) for document in range(count)]
    sizes = [context.size(document) for document in range(count)]
    by_size = sorted(range(count), key=sizes.__getitem__)
    median = f"; median document {sizes[by_size[count // 2]]:,} characters" if count > _FEW else ""
    opening = (
        f"context is a mapping name -> str, {number_of(count, 'document')}: "
        f"{_amounts(context, counted)}{median}{_endings(counted)}"
    )
    page.add([opening])
    for line in census(names, sizes, counted, page.left * 6 // 10):
        page.add([line])
    heads = [text for _, start, text in samples(context) if start == 0]
    if shared := outline.shared(heads):
        said = "nearly all documents looked at have lines that begin:"
        page.add([said, *listed(shared, page.left // 4)])

    def lines(document: int) -> str:
        return f", {number_of(counted.lines_of[document], 'line')}" if counted.lines_of else ""

    meant = mentioned(names, question, _MENTIONS) if question else []
    for number, document in enumerate(meant):
        room = page.left * 7 // (10 * (len(meant) - number))
        title = f"{key(names[document], document)}, named in the question{lines(document)}"
        _document(page, context, document, title, room)
    if count <= _FEW:
        rest = [(n, "") for n in range(count) if n not in meant and sizes[n]]
    else:
        rest = [(n, ", the median") for n in by_size[count // 2 :] if n not in meant][:1]
    for number, (document, which) in enumerate(rest):
        title = f"{key(names[document], document)}{which}{lines(document)}"
        _document(page, context, document, title, page.left // (len(rest) - number))


def _document(page: Page, context: Context, document: int, title: str, room: int) -> None:
    """Show one of several texts: whole, or how it begins and ends."""
    size = context.size(document)
    title += f", {number_of(size, 'character')}"
    within = Page(min(room, page.left))
    if everything := _all_of(context, document, within.left - len(title) - 8):
        page.add([f"{title}:", *everything])
        return
    if within.left < len(title) + _LEAST:
        return
    known, said = _structure(context, document, within.left // 3)
    within.add([f"{title}:", *said] if said else [f"{title}, begins:"])
    if not (isinstance(known, Format) and _first_record(within, context, document, known)):
        left = within.left - 8 * bool(said)
        shown = _beginning(context, document, known, left if left < 3 * _LEAST else left * 3 // 4)
        within.add(["begins:", *shown] if said and shown else shown)
        _ends(within, context, document, known, within.left)
    page.add(within.lines)


# -- parts of both ---------------------------------------------------------------


def _structure(context: Context, document: int, room: int) -> tuple[Format | str | None, list[str]]:
    """Find the format of a text, or the pattern of its lines, and what to say of it."""
    size = context.size(document)
    found = format_of(context.piece(document, 0, HEAD_CHARS), whole=size <= HEAD_CHARS)
    if found and HEAD_CHARS < size <= (_TABLE_CHARS if found.table else WHOLE_CHARS):
        found = format_of(context.piece(document, 0, size), whole=True) or found
    if found:
        names = listed(found.names, min(_NAMES_CHARS, room))
        return found, [f"{found.says}{':' * bool(names)}", *names]
    pieces = _here_and_there(context, document)
    pattern = pattern_of([line for text in pieces for line in text.split("\n")[1:-1]])
    if pattern is None:
        return None, []
    some = size > WHOLE_CHARS
    text = "\n".join(pieces) if some else context.piece(document, 0, size)
    lines = text.removesuffix("\n").split("\n")
    fitting = sum(fits(pattern, line) for line in lines)
    said = f"{fitting:,} of {len(lines):,} lines{' looked at' * some} look like:"
    return pattern, [said, *listed([pattern], max(room, LINE_CHARS))]


def _first_record(page: Page, context: Context, document: int, known: Format) -> bool:
    """Show the first record field by field, where its lines would not show it."""
    lines = context.piece(document, 0, HEAD_CHARS).split("\n", 2)
    line = lines[1] if known.table and len(lines) > 1 else lines[0]
    if not known.first or (known.by_line and len(line) <= LINE_CHARS):
        return False
    fields = excerpt(known.first, min(page.left - 20, _STRETCH), _FIELDS, _FIELD_CHARS)
    return page.add(["first record:", *fields])


def _beginning(context: Context, document: int, known: Format | str | None, room: int) -> list[str]:
    """Show how a text begins, without what has been said of it."""
    lines = context.piece(document, 0, HEAD_CHARS).split("\n")
    if isinstance(known, Format) and known.table:
        del lines[0]
    most = _HEAD_LINES if known is None else _TAIL_LINES
    chars = LINE_CHARS if len(lines) > _FEW else _FEW_CHARS
    return excerpt(lines, min(room, _HEAD_ROOM), most, chars)


def _ends(
    page: Page, context: Context, document: int, known: Format | str | None, room: int
) -> None:
    """Show how a text ends."""
    room = min(room, _STRETCH * 6 // 10) - 6
    if room < _LEAST:
        return
    size = context.size(document)
    lines = context.piece(document, max(0, size - 2 * room), size).rstrip().split("\n")
    if len(lines) == 1:
        lines = [f"…{lines[0][3 - min(room, _LAST_CHARS) :]}"]
    elif size > 2 * room:
        del lines[0]
    if shown := excerpt_of_end(lines, room, _TAIL_LINES if known is None else 2):
        page.add(["ends:", *shown])


def _here_and_there(context: Context, document: int) -> list[str]:
    """Take pieces of a text at equal distances; all of it if it is short."""
    size = context.size(document)
    if size <= _PIECES * _PIECE_CHARS:
        return ["\n" + context.piece(document, 0, size) + "\n"]
    step = (size - _PIECE_CHARS) // (_PIECES - 1)
    return [
        context.piece(document, start, start + _PIECE_CHARS)
        for start in range(0, step * _PIECES, step)
    ]


def _all_of(context: Context, document: int, room: int) -> list[str]:
    """Mark all lines of a text, if they fit; else nothing."""
    size = context.size(document)
    if not 0 < size <= room:
        return []
    lines = context.piece(document, 0, size).removesuffix("\n").split("\n")
    if sum(cost(line) + 3 for line in lines) > room:
        return []
    return [f"| {safe(line, room)}".rstrip(" ") for line in lines]


def _amounts(context: Context, counted: Counts) -> str:
    lines = counted.lines if counted.exact else _round(counted.lines)
    return (
        f"{number_of(context.chars, 'character')}, "
        f"about {number_of(_round(counted.tokens), 'token')}, "
        f"{'' if counted.exact else 'about '}{number_of(lines, 'line')}"
    )


def _longest(counted: Counts) -> str:
    chars, _, line = counted.longest
    if not counted.exact:
        return f"the longest seen {chars:,} characters"
    if line is None:
        return f"none over {chars:,} characters"
    return f"the longest {chars:,} characters (line {line:,})"


def _endings(counted: Counts) -> str:
    return f"; {counted.endings}" if counted.endings else ""


def _round(number: int) -> int:
    """Two digits that mean something."""
    return round(number, 2 - len(str(number)))
