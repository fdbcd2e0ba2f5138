"""Text as it is put together from a format's pieces: lines, blocks, cells, pages.

Decides what stands between pieces: one line end between lines, a blank line between blocks,
`` | `` between cells, a line with nothing but a form feed between pages.

Invariant: no character of a piece is changed but white space that the format says is one space;
zero-width and bidirectional controls stay, so that evidence is what the document holds.
Does not know any format.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

PAGE_BREAK: Final = "\n\f\n"
"""So that a page's first line begins a line, and ``text.split("\\f")`` gives pages."""
CELL_BREAK: Final = " | "
_WHITE: Final = " \t\n\r\f"
_SPACES: Final = re.compile(f"[{_WHITE}]+")


class Prose:
    """Collects a text. White space at the ends of lines and of the text does not come to be."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._breaks = 0
        self._space = False
        self._mark = ""
        self._flat = 0

    def words(self, text: str) -> None:
        """Add inline text; stretches of white space are one space."""
        if self._breaks and not text.strip(_WHITE):
            return  # most of what stands between elements
        flat = _SPACES.sub(" ", text)
        inner = flat.strip(" ")
        if flat[:1] == " ":
            self._space = True
        if inner:
            self._put(inner)
            self._space = flat[-1] == " "

    def verbatim(self, text: str) -> None:
        """Add text as it is, line ends included."""
        if self._flat:
            self.words(text)
        elif text:
            self._put(text)

    def cell(self) -> None:
        """Begin another cell of a row."""
        self._space = False
        self._put(CELL_BREAK.rstrip())
        self._space = True

    def mark(self, mark: str) -> None:
        """Begin the next line with this, if there is any text on it."""
        self._mark = mark

    def line(self) -> None:
        """Put what follows on another line; within a row, apart by a space."""
        if self._flat:
            self._space = True
        else:
            self._breaks = max(self._breaks, 1)

    def block(self) -> None:
        """Put what follows behind a blank line; within a row, apart by a space."""
        self.line()
        if not self._flat:
            self._breaks = 2

    def begin_row_cell(self) -> None:
        """Until `end_row_cell`, lines and blocks are words of one line."""
        self._flat += 1

    def end_row_cell(self) -> None:
        """Close what `begin_row_cell` opened."""
        self._flat -= 1

    @property
    def last(self) -> str:
        """The last character on the line so far; "" at its beginning."""
        fresh = self._breaks or self._space or not self._parts
        return "" if fresh else self._parts[-1][-1]

    def here(self) -> int:
        """Remember this place, for `since`."""
        return len(self._parts)

    def since(self, here: int) -> str:
        """Give what was added behind a place."""
        return "".join(self._parts[here:])

    def text(self) -> str:
        """Give everything so far."""
        return "".join(self._parts)

    def _put(self, text: str) -> None:
        if self._breaks and self._parts:
            last = self._parts[-1]
            self._parts.append("\n" * (self._breaks - len(last) + len(last.rstrip("\n"))))
        elif self._space and self._parts and not self._mark:
            self._parts.append(" ")
        if self._mark:
            self._parts.append(self._mark)
        self._parts.append(text)
        self._breaks, self._space, self._mark = 0, False, ""


def join_pages(pages: Iterable[str], between: str = PAGE_BREAK) -> tuple[str, list[int]]:
    """Join pages, and tell at which code points they begin."""
    texts = list(pages)
    starts, at = [], 0
    for text in texts:
        starts.append(at)
        at += len(text) + len(between)
    return between.join(texts), starts


def ranges(numbers: Sequence[int]) -> str:
    """Name rising numbers in short: ``3, 7-9``; of very many stretches the first ones."""
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ]
    named = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return ", ".join(named[:20]) + (" and more" if len(named) > 20 else "")


def plural(count: int, noun: str) -> str:
    """Count a noun: ``1 page``, ``3 pages``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
