"""Looks up what a cell submitted as evidence, in the host's own copy.

A place must hold its quote, character for character. A place that does not, and
a bare quote, are searched: in that document first, then everywhere, the first
occurrence counts. ``name`` and ``name:line`` are places too.

Places are of the context that is asked; what is found is told as a place of the input: a
child that has a stretch of a document finds the document's own lines and offsets.

Invariant: whatever a guest sends, `check` returns; what it calls found stands
in the sealed text at the place it names.
Does not say that a quote supports what is concluded from it.
"""

from collections.abc import Sequence
from typing import Final

from abyme.contexts.origin import Origin
from abyme.contexts.texts import WINDOW_CHARS, Memory, Texts
from abyme.core.events import Evidence, Place
from abyme.layout import ASCII, LATIN1, UCS2

SHOWN_CHARS: Final = 300
CUT: Final = "…"
_WIDEST: Final = {ASCII: 0x7F, LATIN1: 0xFF, UCS2: 0xFFFF}


class Checker:
    """Evidence against one context."""

    def __init__(self, texts: Texts, memory: Memory, origin: Origin) -> None:
        self._texts = texts
        self._memory = memory
        self._origin = origin
        self._numbers: dict[str, int] = {}

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
            hit = self._find(quote, place)
            if hit is None:
                missing.append(quote[:SHOWN_CHARS])
            else:
                found.append(self._evidence(*hit))
        return found, missing

    def _find(self, quote: str, place: Place | None) -> tuple[int, int, int] | None:
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
            or (self._anywhere(quote.strip(CUT)) if CUT in quote[:1] + quote[-1:] else None)
        )

    def _stands(self, place: Place) -> bool:
        start, end = place.start, place.end
        if not _is_number(start) or not _is_number(end) or end - start != len(place.quote):
            return False
        return self._texts.piece(place.document, start, end) == place.quote

    def _anywhere(self, quote: str) -> tuple[int, int, int] | None:
        if not quote.strip():
            return None
        for document in range(len(self._texts)):
            start = self._search(document, quote)
            if start >= 0:
                return document, start, start + len(quote)
        return None

    def _search(self, document: int, quote: str) -> int:
        entry = self._texts.index[document]
        if len(quote) > entry.chars or not _fits(quote, entry.kind):
            return -1
        for start, piece in self._texts.windows(document, len(quote) - 1):
            found = piece.find(quote)
            if found >= 0:
                return start + found
        return -1

    def _named(self, quote: str) -> tuple[int, int, int] | None:
        """Take a document's name, or ``name:line``, for that line."""
        if not self._numbers and self._texts.index.names:
            self._numbers = {name: n for n, name in enumerate(self._texts.index.names)}
        name, _, line = quote.rpartition(":")
        if quote in self._numbers:
            return self._line(self._numbers[quote], None)
        if name in self._numbers and line.isascii() and line.isdigit() and len(line) < 12:
            return self._line(self._numbers[name], int(line))
        return None

    def _line(self, document: int, line: int | None) -> tuple[int, int, int] | None:
        """Bounds of a line without its indent; None asks for the first that is not blank."""
        start = 0 if line is None else self._line_start(document, line)
        if start is None:
            return None
        piece = self._texts.piece(document, start, start + WINDOW_CHARS)
        if line is None:
            start += len(piece) - len(piece.lstrip())
            piece = piece.lstrip()
        text = piece.split("\n", 1)[0]
        start += len(text) - len(text.lstrip())
        return (document, start, start + len(text.strip())) if text.strip() else None

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

    def _evidence(self, document: int, start: int, end: int) -> Evidence:
        shown = min(end, start + SHOWN_CHARS)
        first = self._origin.starts[document]
        return Evidence(
            path=self._origin.label(document),
            line=self._memory.line(self._origin.source(document), first + start),
            start=first + start,
            end=first + end,
            quote=self._texts.piece(document, start, shown),
        )


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _fits(quote: str, kind: int) -> bool:
    """Whether a text of that kind can hold the quote at all."""
    widest = _WIDEST.get(kind)
    return widest is None or (quote.isascii() if kind == ASCII else ord(max(quote)) <= widest)
