"""Looks up what a cell submitted as evidence, in the host's own copy.

A place must hold its quote, character for character. A place that does not, and
a bare quote, are searched: in that document first, then everywhere, the first
occurrence counts. ``name`` and ``name:line`` are places too, and the others of `claims`, with
their quote: if it stands elsewhere in that document, it is a quote without a place.

`look_up` judges as well: a bare quote of fewer than `LEAST_CHARS` characters that has fewer than
`LEAST_WORDS` words, or that stands in more than `MOST_PLACES` places, says nothing without a
place. `check` only looks.

Places are of the context that is asked; what is found is told as a place of the input: a
child that has a stretch of a document finds the document's own lines and offsets.

Invariant: whatever a guest sends, `check` returns; what it calls found stands
in the sealed text at the place it names.
Does not say that a quote supports what is concluded from it.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from abyme.contexts.claims import Claim, bare, claims, uncut
from abyme.contexts.nearest import nearest, words
from abyme.contexts.origin import Origin
from abyme.contexts.texts import WINDOW_CHARS, Memory, Texts
from abyme.core.events import Evidence, Near, Place, Refused
from abyme.layout import ASCII, LATIN1, UCS2

Hit: TypeAlias = tuple[int, int, int]
"""Document, start, end."""

SHOWN_CHARS: Final = 300
NEAR_CHARS: Final = 200
LEAST_CHARS: Final = 12
LEAST_WORDS: Final = 3
MOST_PLACES: Final = 5
COUNTED_CHARS: Final = 256 << 20
"""In which further places of a quote are counted, behind the first."""
MAX_QUOTE_CHARS: Final = 100_000
"""Of a quote that has to be searched."""
_WIDEST: Final = {ASCII: 0x7F, LATIN1: 0xFF, UCS2: 0xFFFF}


class Checker:
    """Evidence against one context."""

    def __init__(self, texts: Texts, memory: Memory, origin: Origin) -> None:
        self._texts = texts
        self._memory = memory
        self._origin = origin
        self._numbers: dict[str, int] = {}
        self._last: dict[str, list[int]] = {}
        """Documents by the last part of their names."""

    def check(self, evidence: Sequence[Place | str]) -> tuple[list[Evidence], list[str]]:
        """Tell what was found, and the quotes that are not there, each in the order given."""
        found: list[Evidence] = []
        missing: list[str] = []
        for claim in evidence:
            quote, place = claim, None
            if isinstance(claim, Place):
                quote = claim.quote
                place = claim if _is_number(claim.document) else None
            if not isinstance(quote, str):
                missing.append(f"(not a quote: {type(quote).__name__})")
                continue
            there = place is not None and self._is_there(place)
            hit = self._find(quote, place) if there or len(quote) <= MAX_QUOTE_CHARS else None
            if hit is None:
                missing.append(quote[:SHOWN_CHARS])
            else:
                found.append(self._evidence(*hit))
        return found, missing

    def look_up(self, claim: Place | str) -> Evidence | Refused:
        """Find a piece of evidence, or say why it is none. Does not look for what is nearest."""
        quote = claim.quote if isinstance(claim, Place) else claim
        if not isinstance(quote, str) or not quote.strip():
            shown = quote if isinstance(quote, str) else f"(not a quote: {type(quote).__name__})"
            return Refused(quote=shown[:SHOWN_CHARS], why="no_quote")
        place = claim if isinstance(claim, Place) and _is_number(claim.document) else None
        if place is not None and self._is_there(place):
            return self._evidence(place.document, place.start, place.end)
        if len(quote) > MAX_QUOTE_CHARS:
            return Refused(quote=quote[:SHOWN_CHARS], why="long")
        if (hit := self._named(quote) or self._placed(quote)) is not None:
            return self._evidence(*hit)
        return self._searched(quote, place)

    def _searched(self, quote: str, place: Place | None) -> Evidence | Refused:
        """Look for a quote that does not stand where it was said to, if it tells enough."""
        said = self._claim(quote)
        rest = quote if said is None else said[1].quote
        plain = uncut(rest)
        short = len(plain.strip()) < LEAST_CHARS and len(words(plain)) < LEAST_WORDS
        hit = None if short else self._find(quote, place)
        if hit is None and said is not None and not short:
            hit = self._within(said[0], rest, 0, self._texts.index[said[0]].chars)
        if hit is None:
            why: Literal["short", "absent"] = "short" if short and said is None else "absent"
            return Refused(quote=quote[:SHOWN_CHARS], why=why)
        places = self._count(self._texts.piece(*hit))
        if places > MOST_PLACES:
            return Refused(quote=quote[:SHOWN_CHARS], why="common")
        return self._evidence(*hit, places=max(1, places))

    def nearest(self, quote: str) -> Near | None:
        """Find what is most like a quote that is not there."""
        said = self._claim(quote[:MAX_QUOTE_CHARS])
        rest = quote if said is None else said[1].quote or quote
        found = nearest(self._texts, uncut(rest))
        if found is None:
            return None
        evidence = self._evidence(found.document, found.start, found.end)
        text = evidence.quote[:NEAR_CHARS]
        return Near(path=evidence.path, line=evidence.line, text=text, differs=found.differs)

    def place(self, document: int, start: int, end: int) -> Evidence | None:
        """Give what stands at a stretch; None: there is none."""
        if not _is_number(document) or document >= len(self._texts):
            return None
        if not 0 <= start < end <= self._texts.index[document].chars:
            return None
        return self._evidence(document, start, end)

    def _count(self, quote: str) -> int:
        """Count the places of a quote, up to one more than are allowed, apart from each other."""
        found = read = 0
        for document in range(len(self._texts)):
            entry = self._texts.index[document]
            if len(quote) > entry.chars or not _fits(quote, entry.kind):
                continue
            last = 0
            for start, piece in self._texts.windows(document, len(quote) - 1):
                read += len(piece) if found else 0
                at = piece.find(quote, max(0, last - start))
                while at >= 0:
                    found, last = found + 1, start + at + len(quote)
                    if found > MOST_PLACES:
                        return found
                    at = piece.find(quote, at + len(quote))
                if read > COUNTED_CHARS:
                    return found
        return found

    def _claim(self, text: str) -> tuple[int, Claim] | None:
        """Read a text as a place in a document that is there."""
        for claim in claims(text):
            document = self._number(claim.name)
            if document is not None:
                return document, claim
        return None

    def _placed(self, text: str) -> Hit | None:
        """Take a place with its quote, if that begins there, and a page for its first line."""
        said = self._claim(text)
        if said is None:
            return None
        document, claim = said
        bounds = self._bounds(document, claim)
        if bounds is None:
            return None
        if claim.quote:
            short = len(words(claim.quote)) < LEAST_WORDS and claim.line is claim.page is None
            return None if short else self._within(document, claim.quote, *bounds)
        if claim.page is not None:
            return self._first_line(document, *bounds)
        return None if claim.line is None else self._line(document, claim.line)

    def _bounds(self, document: int, claim: Claim) -> tuple[int, int] | None:
        """Give the stretch in which the quote of a claim has to begin."""
        if claim.line is not None:
            line = self._line(document, claim.line)
            return None if line is None else line[1:]
        chars = self._texts.index[document].chars
        if claim.page is None:
            return 0, chars
        pages = self._origin.input.extras.pages.get(self._origin.documents[document], ())
        if not 0 < claim.page <= len(pages):
            return None
        ends = [*pages[claim.page : claim.page + 1]] or [self._origin.source(document).chars]
        first = self._origin.starts[document]
        start, end = max(0, pages[claim.page - 1] - first), min(chars, ends[0] - first)
        return (start, end) if start < end else None

    def _within(self, document: int, quote: str, start: int, end: int) -> Hit | None:
        """Find a quote, as it is or without the marks around it, that begins in a stretch."""
        for one in filter(str.strip, bare(quote)):
            at = self._search(document, one, start, end)
            if at >= 0:
                return document, at, at + len(one)
        return None

    def _find(self, quote: str, place: Place | None) -> Hit | None:
        """(document, start, end) of a quote."""
        if not quote.strip():
            return None
        if place is not None and place.document < len(self._texts):
            if self._stands(place):
                return place.document, place.start, place.end
            start = self._search(place.document, quote)
            if start >= 0:
                return place.document, start, start + len(quote)
        return (
            self._named(quote)
            or self._anywhere(quote)
            or (self._anywhere(uncut(quote)) if uncut(quote) != quote else None)
        )

    def _is_there(self, place: Place) -> bool:
        return place.document < len(self._texts) and self._stands(place)

    def _stands(self, place: Place) -> bool:
        start, end = place.start, place.end
        if not _is_number(start) or not _is_number(end) or end - start != len(place.quote):
            return False
        return self._texts.piece(place.document, start, end) == place.quote

    def _anywhere(self, quote: str) -> Hit | None:
        if not quote.strip():
            return None
        for document in range(len(self._texts)):
            start = self._search(document, quote)
            if start >= 0:
                return document, start, start + len(quote)
        return None

    def _search(self, document: int, quote: str, first: int = 0, end: int | None = None) -> int:
        """Find where a quote begins, in a stretch of a document."""
        entry = self._texts.index[document]
        if len(quote) > entry.chars or not _fits(quote, entry.kind):
            return -1
        end = entry.chars if end is None else end
        if end - first <= WINDOW_CHARS:
            at = self._texts.piece(document, first, end + len(quote) - 1).find(quote)
            return first + at if at >= 0 else -1
        for start, piece in self._texts.windows(document, len(quote) - 1):
            found = piece.find(quote, max(0, first - start))
            if found >= 0:
                return start + found if start + found < end else -1
        return -1

    def _number(self, name: str) -> int | None:
        """Find a document by its name, or by the end of it, from a slash on, if only one has it."""
        if not self._numbers and self._texts.index.names:
            self._numbers = {name: n for n, name in enumerate(self._texts.index.names)}
            for one, n in self._numbers.items():
                self._last.setdefault(one.rpartition("/")[2], []).append(n)
        if name in self._numbers:
            return self._numbers[name]
        same = self._last.get(name.rpartition("/")[2], ()) if name else ()
        ends = [n for n in same if self._texts.index.names[n].endswith("/" + name)]
        return ends[0] if len(ends) == 1 else None

    def _named(self, quote: str) -> Hit | None:
        """Take a document's name, or ``name:line``, for that line."""
        whole = self._number(quote)
        if whole is not None and ("/" in quote or "." in quote or quote in self._numbers):
            return self._line(whole, None)
        name, _, line = quote.rpartition(":")
        number = self._number(name)
        if number is not None and line.isascii() and line.isdigit() and len(line) < 12:
            return self._line(number, int(line))
        return None

    def _line(self, document: int, line: int | None) -> Hit | None:
        """Bounds of a line without its indent; None asks for the first that is not blank."""
        start = 0 if line is None else self._line_start(document, line)
        if start is None:
            return None
        if line is None:
            return self._first_line(document, start, start + WINDOW_CHARS)
        piece = self._texts.piece(document, start, start + WINDOW_CHARS)
        return _stripped(document, start, piece)

    def _first_line(self, document: int, start: int, end: int) -> Hit | None:
        """Bounds of the first line that is not blank."""
        piece = self._texts.piece(document, start, min(end, start + WINDOW_CHARS))
        blank = len(piece) - len(piece.lstrip())
        return _stripped(document, start + blank, piece[blank:])

    def _line_start(self, document: int, line: int) -> int | None:
        left = line - 1
        if left <= 0:
            return 0 if left == 0 else None
        for start, piece in self._texts.windows(document):
            ends = piece.count("\n")
            if ends < left:
                left -= ends
                continue
            at = -1
            for _ in range(left):
                at = piece.find("\n", at + 1)
            return start + at + 1
        return None

    def _evidence(self, document: int, start: int, end: int, *, places: int = 1) -> Evidence:
        shown = min(end, start + SHOWN_CHARS)
        first = self._origin.starts[document]
        page, page_word = self._origin.page(document, start)
        return Evidence(
            page=page,
            page_word=page_word,
            places=places,
            path=self._origin.label(document),
            line=self._memory.line(self._origin.source(document), first + start),
            start=first + start,
            end=first + end,
            quote=self._texts.piece(document, start, shown),
        )


def _stripped(document: int, start: int, piece: str) -> Hit | None:
    """Bounds of the first line of a piece, without the blanks around it."""
    text = piece.split("\n", 1)[0]
    start += len(text) - len(text.lstrip())
    return (document, start, start + len(text.strip())) if text.strip() else None


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _fits(quote: str, kind: int) -> bool:
    """Whether a text of that kind can hold the quote at all."""
    widest = _WIDEST.get(kind)
    return widest is None or (quote.isascii() if kind == ASCII else ord(max(quote)) <= widest)
