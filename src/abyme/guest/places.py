"""Finding lines in the context: `grep`, `count`, and the `Hit` that is found.

Line-oriented, because models write patterns for grep: `^` and `$` stand at every
line, a line is one hit, the hit has its own line number. The expression runs
over the whole text and lines are only looked up for hits. Where there is much text, or
`re` could take for ever, the host is asked, who has RE2 on all cores (`guest.asked`); where it
does not answer, `re` looks here. What is found is the same.

Invariant: `text[start:end] == quote` for every hit, in code points of its document.
Does not cap time (the cell's limits do); a limit on hits is never silent.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self, TypeAlias

from abyme.guest.asked import Asked, Line
from abyme.guest.patterns import Pattern, beyond, choose

TextOf: TypeAlias = Callable[[int], str]

SHOWN_CHARS: Final = 300
SHOWN_HITS: Final = 50
MAX_NOTES: Final = 3
CUT: Final = "…"


class Hit(tuple[str | int, int, str]):  # noqa: SLOT001  (a tuple cannot have slots)
    """A line of the context that was found: unpacks to ``name, line, text``.

    `span` is (document number, start, end) in code points. A line longer than
    `SHOWN_CHARS` is cut around the match, and `text` shows where by an ellipsis;
    `quote` is what stands at the span, without one.
    """

    span: tuple[int, int, int]
    quote: str
    page: int | None = None
    """From 1, where its document has pages."""

    def __new__(
        cls,
        name: str | int,
        line: int,
        text: str,
        span: tuple[int, int, int],
        quote: str | None = None,
    ) -> Self:
        """Without `quote` the text is not cut."""
        place = super().__new__(cls, (name, line, text))
        place.span = span
        place.quote = text if quote is None else quote
        return place

    @property
    def name(self) -> str | int:
        """Of the document; its position, if the context is a list."""
        return self[0]

    @property
    def line(self) -> int:
        """From 1."""
        return self[1]

    @property
    def text(self) -> str:
        """The line."""
        return self[2]

    def __reduce__(self) -> tuple[Any, ...]:
        return Hit, (*self, self.span, self.quote), {"page": self.page}


class Hits(list[Hit]):
    """The hits of a `grep`, in order. `complete` is False if the limit cut them."""

    complete = True

    @property
    def total(self) -> int | None:
        """How many there are; None if the limit cut them."""
        return len(self) if self.complete else None

    def __repr__(self) -> str:
        if not self:
            return "[]"
        lines = ",\n ".join(map(repr, self[:SHOWN_HITS]))
        if len(self) > SHOWN_HITS:
            lines += f",\n ... and {len(self) - SHOWN_HITS:,} more"
        if not self.complete:
            lines += ",\n ..."  # a note has said why
        return f"[{lines}]"


class Finder:
    """`grep` and `count` over the texts of one context."""

    def __init__(
        self, names: Sequence[str | int], text_of: TextOf, asked: Asked | None = None
    ) -> None:
        """`asked` is the way to the host, who may not answer."""
        self._names = names
        self._text_of = text_of
        self._asked = asked or Asked((), text_of)
        self._numbers: dict[str | int, int] = {}
        self._notes: list[str] = []
        self._crossed = ""
        """A pattern whose match went over a line's end, in the last call."""

    def grep(
        self,
        pattern: Any,
        docs: Any = None,
        limit: int | None = 1000,
        flags: int = 0,
        around: int = 0,
    ) -> Hits:
        """Lines that a regular expression matches, as hits ``(name, line, text)``.

        `docs` narrows it to a name, names, a folder, or a glob such as ``"*.py"``; with
        `around` a hit is the line with so many before and behind it.

        Raises:
            ValueError: not a regular expression.
            KeyError: no such document.
        """
        compiled = Pattern(pattern, flags)
        hits = Hits()
        self._crossed = ""
        for hit in self._found(compiled, self.chosen(docs), limit, around):
            if limit is not None and len(hits) >= limit:
                hits.complete = False
                self._notes.append(
                    f"grep({compiled.shown}) returned its first {limit:,} hits and there are "
                    "more: narrow pattern or docs=, or use count(pattern), or limit=None"
                )
                return hits
            hits.append(hit)
        if self._crossed and not hits:
            self._notes.append(
                f"grep({self._crossed}) looks at one line at a time, and the pattern needs "
                "several: use re on the text itself"
            )
        elif not hits:
            self._tell_of_nothing(pattern, docs, flags)
        return hits

    def count(self, pattern: Any, docs: Any = None, flags: int = 0) -> int:
        """How often a regular expression matches, several times a line counted.

        Raises:
            ValueError: not a regular expression.
            KeyError: no such document.
        """
        compiled = Pattern(pattern, flags)
        found = self._count(compiled, docs)
        if not found:
            self._tell_of_nothing(pattern, docs, flags)
        return found

    def _count(self, pattern: Pattern, docs: Any) -> int:
        numbers = self.chosen(docs)
        total = self._asked.count(pattern, numbers)
        if total is not None:
            return total
        return sum(pattern.count(self._text_of(number)) for number in numbers)

    def _found(
        self, pattern: Pattern, numbers: Sequence[int], limit: int | None, around: int
    ) -> Iterator[Hit]:
        """Find hits, one more than `limit` at least where there are more."""
        most = None if limit is None else limit + 1
        asked = self._asked.lines(pattern, numbers, most)
        last: Line | None = None
        if asked is not None:
            for last in asked.lines:
                yield self._hit(last, around)
            if asked.crossed:
                self._crossed = pattern.shown
            if asked.complete:
                return
        for number in numbers:  # by `re`; from the last line on where an answer had no more room
            if last is None or number >= last.number:
                after = last if last is not None and number == last.number else None
                for line in self._lines(number, pattern, after):
                    yield self._hit(line, around)

    def _hit(self, found: Line, around: int) -> Hit:
        text = self._text_of(found.number)
        begin, stop = found.begin, found.stop
        for _ in range(around):
            begin = text.rfind("\n", 0, max(0, begin - 1)) + 1
            stop = text.find("\n", stop + 1)
            stop = len(text) if stop < 0 else stop
        name = self._names[found.number]
        room = SHOWN_CHARS * (1 + 2 * around)
        return _place(name, found, text, (begin, stop), room)

    def _tell_of_nothing(self, pattern: Any, docs: Any, flags: int) -> None:
        """Say that nothing matched, and whether case is why; of the first few patterns only."""
        if len(self._notes) >= MAX_NOTES:
            return
        compiled = Pattern(pattern, flags | re.IGNORECASE)
        found = self._count(compiled, docs)
        self._notes.append(
            f"nothing matches {compiled.shown}; ignoring case, (?i), there are {found:,} matches"
            if found
            else f"nothing matches {compiled.shown}, in capitals or not; "
            "search(words) finds the passages that are nearest to some words"
        )

    def place_of(self, thing: object) -> dict[str, int | str] | str:
        """Make evidence of a thing: a dict for a hit, a quote for anything else."""
        if isinstance(thing, str):
            return thing
        if isinstance(thing, Hit):
            document, start, end = thing.span
            return {"document": document, "start": start, "end": end, "quote": thing.quote}
        if isinstance(thing, tuple | list) and len(thing) == 3:
            return self._rebuilt(*thing)
        return str(thing)

    def take_notes(self) -> list[str]:
        """Say what was left out since the last call."""
        notes, self._notes = list(dict.fromkeys(self._notes)), []
        if len(notes) > MAX_NOTES:
            notes[MAX_NOTES:] = [f"and {len(notes) - MAX_NOTES:,} more calls of grep were cut"]
        return notes

    def chosen(self, docs: Any) -> Sequence[int]:
        """Document numbers for a name, names, a folder or a glob; None is all."""
        if docs is None:
            return range(len(self._names))
        if not self._numbers:
            self._numbers = {name: number for number, name in enumerate(self._names)}
        return choose(docs, self._numbers)

    def _lines(self, number: int, pattern: Pattern, after: Line | None = None) -> Iterator[Line]:
        """Find lines of a text by `re`."""
        text = self._text_of(number)
        if not pattern.fits(text):
            return
        line, counted, at, size = 1, 0, 0, len(text)
        if after is not None:
            line, counted, at = after.line, after.begin, max(after.stop + 1, after.end)
        crlf = "\r\n" in text
        while at <= size and (span := pattern.search(text, at, crlf=crlf)) is not None:
            start, end = span
            hit = _first_inked(text, start, end)
            if beyond(text, hit):
                return
            begin = text.rfind("\n", 0, hit) + 1
            stop = text.find("\n", hit)
            stop = size if stop < 0 else stop
            if end > stop + 1 and pattern.search(text[begin:stop], 0, crlf=crlf) is None:
                self._crossed = pattern.shown  # it needs the next line as well
                at = stop + 1
                continue
            line += text.count("\n", counted, begin)
            counted = begin
            yield Line(number, begin, stop, hit, end, line)
            at = max(stop + 1, end)

    def _rebuilt(self, name: Any, line: Any, shown: Any) -> dict[str, int | str] | str:
        """Find a place again that was taken apart, by ``list(hit)`` or through JSON."""
        if not isinstance(shown, str):
            return str((name, line, shown))
        quote = shown.strip(CUT)
        try:
            number = self.chosen(name)[0]
        except (KeyError, TypeError, ValueError, IndexError):
            return quote
        text = self._text_of(number)
        start = 0
        for _ in range(line - 1 if isinstance(line, int) else 0):
            start = text.find("\n", start) + 1
            if not start:
                break
        found = text.find(quote, start)
        found = found if found >= 0 else text.find(quote)
        if found < 0 or not quote:
            return quote
        return {"document": number, "start": found, "end": found + len(quote), "quote": quote}


def _first_inked(text: str, start: int, end: int) -> int:
    r"""Where the match says something: ``^\s*def`` may begin on an empty line above."""
    if start < end and text[start].isspace():
        inked = re.compile(r"\S").search(text, start, end)
        if inked:
            return inked.start()
    return start


def _place(name: str | int, found: Line, text: str, bounds: tuple[int, int], room: int) -> Hit:
    """Make a hit of a line, or of several; what is longer than `room` is cut around the match."""
    begin, stop = bounds
    if stop > begin and text[stop - 1] == "\r":
        stop -= 1
    if stop - begin <= room:
        return Hit(name, found.line, text[begin:stop], (found.number, begin, stop))
    hit = found.start
    left = max(0, room - (min(found.end, stop) - hit))
    first = min(max(begin, hit - left // 2), stop - room)
    last = first + room
    quote = text[first:last]
    shown = CUT * (first > begin) + quote + CUT * (last < stop)
    return Hit(name, found.line, shown, (found.number, first, last), quote)
