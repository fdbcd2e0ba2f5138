"""Pieces of texts that know where they stand: `chunks`, and the `Chunk` it gives.

Decides where a chunk may begin and end. Bounds are found one after another as they are asked
for, and a chunk is made when it is touched, so that the first chunks of 4 GB come at once and
a list of all of them holds numbers only. How units are told is `cuts`.

Invariants: `document[start:end] == chunk` for every chunk with a span; without overlap the chunks
of a text, joined, are the text.
Does not say what a chunk means, and asks no model.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, SupportsIndex, overload

from abyme.guest.cuts import Cut, Cutter

Span = tuple[int, int, int]
"""Document, start, end."""

QUOTE_CHARS: Final = 20_000
SHOWN: Final = 5
SHOWN_CHARS: Final = 60


class Chunk(str):
    """A `str` that was cut out of a document. A slice of it is one too.

    `span` is (document number, start, end) in code points, or None for a text that is not in the
    context; `line` counts from 1; `page`, `heading` and `symbol` are there where they are known.
    """

    __slots__ = ("heading", "line", "name", "page", "span", "symbol")

    span: Span | None
    name: str | int | None
    line: int
    page: int | None
    heading: str | None
    symbol: str | None

    def __new__(  # noqa: PLR0913, PLR0917 - what is known of a chunk
        cls,
        text: str,
        span: Span | None = None,
        name: str | int | None = None,
        line: int = 1,
        page: int | None = None,
        heading: str | None = None,
        symbol: str | None = None,
    ) -> Self:
        """Make one of a text that stands at `span`."""
        chunk = super().__new__(cls, text)
        chunk.span, chunk.name, chunk.line, chunk.page = span, name, line, page
        chunk.heading, chunk.symbol = heading, symbol
        return chunk

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        """Give a part; a slice without a step knows its own span, a character is a plain str."""
        part = super().__getitem__(key)
        if not isinstance(key, slice) or key.step not in {None, 1}:
            return part
        start, _, _ = key.indices(len(self))
        span = None
        if self.span is not None:
            document, begin, _ = self.span
            span = (document, begin + start, begin + start + len(part))
        line = self.line + self.count("\n", 0, start)
        page = self.page if start == 0 else None
        return Chunk(part, span, self.name, line, page, self.heading, self.symbol)

    def place(self) -> dict[str, int | str] | str:
        """Make evidence of it: of a long one its beginning, of one without a place a quote."""
        quote = str.__str__(self)[:QUOTE_CHARS]
        if self.span is None:
            return quote
        document, start, _ = self.span
        return {"document": document, "start": start, "end": start + len(quote), "quote": quote}

    def __reduce__(self) -> tuple[Any, ...]:
        text = str.__str__(self)
        rest = (self.span, self.name, self.line, self.page, self.heading, self.symbol)
        return Chunk, (text, *rest)


@dataclass(slots=True)
class Stretch:
    """One text that is cut, and where it stands."""

    text_of: Callable[[], str]
    document: int | None = None
    """None: it is not in the context."""
    name: str | int | None = None
    offset: int = 0
    """Of the text in its document."""
    pages: Sequence[int] = ()
    """Of the document."""
    line: int = 1
    """Of its beginning."""


@dataclass(slots=True)
class _Known:
    """The cuts of one stretch that were found so far."""

    stretch: Stretch
    cuts: Iterator[Cut] | None = None
    starts: "array[int]" = field(default_factory=lambda: array("Q"))
    ends: "array[int]" = field(default_factory=lambda: array("Q"))
    labels: dict[int, tuple[str | None, str | None]] = field(default_factory=dict)
    """Of a chunk, by its position: heading and symbol."""
    over: bool = False
    counted: tuple[int, int] = (0, 0)
    """An offset, and the line ends before it."""


class Chunks(Sequence[Chunk]):
    """The chunks of some texts, in order; each is made when it is touched. Slices are lists."""

    def __init__(self, stretches: Sequence[Stretch], cutter: Cutter) -> None:
        self._cutter = cutter
        self._stretches = stretches
        self._known: list[_Known] = []
        self._before: list[int] = []
        """Chunks before each stretch; known up to the last one that was begun."""

    def __len__(self) -> int:
        for _ in self._every():
            pass
        return self._before[-1] + len(self._known[-1].starts) if self._known else 0

    def __iter__(self) -> Iterator[Chunk]:
        for known, position in self._every():
            yield self._make(known, position)

    @overload
    def __getitem__(self, key: int) -> Chunk: ...

    @overload
    def __getitem__(self, key: slice) -> list[Chunk]: ...

    def __getitem__(self, key: int | slice) -> "Chunk | list[Chunk]":
        if isinstance(key, slice):
            if min(key.start or 0, key.stop or 0, key.step or 1) >= 0 and key.stop is not None:
                stop = len(list(zip(range(key.stop), self._every(), strict=False)))
            else:
                stop = len(self)
            return [self[n] for n in range(*key.indices(stop))]
        position = key if key >= 0 else len(self) + key
        if position >= 0 and self._reaches(position):
            number = bisect_right(self._before, position) - 1
            return self._make(self._known[number], position - self._before[number])
        raise IndexError("no such chunk")

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other]

    def __repr__(self) -> str:
        first = [repr(str.__str__(one)[:SHOWN_CHARS]) for one in self[:SHOWN]]
        more = ", ..." if len(first) == SHOWN else ""
        return f"<chunks by {self._cutter.by}: {', '.join(first)}{more}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def _reaches(self, position: int) -> bool:
        """Find cuts until that one; tell whether there is one."""
        if self._known and position < self._before[-1] + len(self._known[-1].starts):
            return True
        return any(self._before[-1] + at >= position for _, at in self._every(len(self._known) - 1))

    def _every(self, first: int = 0) -> Iterator[tuple[_Known, int]]:
        """Walk over all cuts from a stretch on: those that are known, then those that are not."""
        for number in range(max(0, first), len(self._stretches)):
            if number == len(self._known):
                last = self._known[-1] if self._known else None
                self._before.append(self._before[-1] + len(last.starts) if last else 0)
                self._known.append(_Known(self._stretches[number]))
            known, position = self._known[number], 0
            while position < len(known.starts) or self._find(known):
                yield known, position
                position += 1

    def _find(self, known: _Known) -> bool:
        """Find the next cut of a stretch."""
        if known.over:
            return False
        if known.cuts is None:
            text = known.stretch.text_of()
            if text and self._cutter.is_whole(text):
                known.starts.append(0)
                known.ends.append(len(text))
                known.over = True
                return True
            of = known.stretch
            whole = of.document if of.offset == 0 else None
            known.cuts = self._cutter.cuts(text, whole, of.name)
        cut = next(known.cuts, None)
        if cut is None:
            known.over, known.cuts = True, None
            return False
        known.starts.append(cut.start)
        known.ends.append(cut.end)
        if cut.heading is not None or cut.symbol is not None:
            known.labels[len(known.starts) - 1] = (cut.heading, cut.symbol)
        return True

    def _make(self, known: _Known, position: int) -> Chunk:
        start, end = known.starts[position], known.ends[position]
        of = known.stretch
        text = of.text_of()
        at, lines = known.counted if known.counted[0] <= start else (0, 0)
        lines += text.count("\n", at, start)
        known.counted = (start, lines)
        span = None
        if of.document is not None:
            span = (of.document, of.offset + start, of.offset + end)
        page = bisect_right(of.pages, of.offset + start) if of.pages else None
        heading, symbol = known.labels.get(position, (None, None))
        return Chunk(text[start:end], span, of.name, of.line + lines, page, heading, symbol)
