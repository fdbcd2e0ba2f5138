"""Lines and matches in one stretch of text: what `abyme.guest.places.Finder` finds, by RE2.

Decides where a match stands and which line is its own, in code points of the stretch. Text of
one byte a character is looked at where it lies; wider text is given to RE2 as UTF-8; text that
UTF-8 cannot hold (lone surrogates) is `re`'s. Where RE2 knows a pattern only in part, `re` looks
at the lines that RE2 has found.

Invariant: `lines` and `count` give what `re` would, whichever of these ways was taken. Does not
know of documents or windows.
"""

import functools
import mmap
from collections.abc import Iterator
from typing import Any, Final, Protocol

from abyme.guest.linear import Linear
from abyme.guest.patterns import Pattern

Span = tuple[int, int]
BLANKS: Final = frozenset(b"\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0")
"""Of Latin-1, as `str.isspace` has them."""
DENSE_MATCHES: Final = 2_000
DENSE_CHARS, EASY_CHARS = 60, 1_000
"""A match in so many characters: then RE2's cost for each is more than what it saves; of a
pattern that is easy for `re` sooner than of others.
"""
MAX_COPIED: Final = 256 << 20
LONG_LINE: Final = 20_000


class Stretch(Protocol):
    """Text that an expression is run over."""

    size: int
    """In characters."""
    whole: bool
    """A whole text, the end of its last line included; else lines, without the end of the last."""

    def search(self, at: int) -> Span | None:
        """Find the next match."""
        ...

    def is_alone(self, begin: int, stop: int) -> bool:
        """Tell whether there is a match in a line by itself."""
        ...

    def find_end(self, at: int) -> int:
        """Find the next line end; -1: there is none."""
        ...

    def find_begin(self, at: int) -> int:
        """Find where the line of a character begins."""
        ...

    def first_inked(self, start: int, end: int) -> int:
        """Find the first character that is not blank; `start` if there is none."""
        ...

    def ends(self, start: int, end: int) -> int:
        """Count line ends."""
        ...

    def text(self, start: int, end: int) -> str:
        """Copy some characters."""
        ...


class Narrow:
    """One byte a character, in memory that is mapped."""

    def __init__(self, area: mmap.mmap, at: int, size: int, found: Any, *, whole: bool) -> None:
        self.size, self.whole = size, whole
        self._area, self._at = area, at
        self._view = memoryview(area)[at : at + size]
        self._match = found.Match
        self._anywhere = found.Anchor.UNANCHORED

    def search(self, at: int) -> Span | None:
        """Find the next match."""
        span: Span = self._match(self._anywhere, self._view, at, self.size)[0]
        return None if span[0] < 0 else span

    def is_alone(self, begin: int, stop: int) -> bool:
        """Tell whether there is a match in a line by itself."""
        line = self._view[begin:stop]
        return bool(self._match(self._anywhere, line, 0, stop - begin)[0][0] >= 0)

    def find_end(self, at: int) -> int:
        """Find the next line end."""
        found = self._area.find(b"\n", self._at + at, self._at + self.size)
        return found - self._at if found >= 0 else -1

    def find_begin(self, at: int) -> int:
        """Find where a line begins."""
        found = self._area.rfind(b"\n", self._at, self._at + at)
        return found + 1 - self._at if found >= 0 else 0

    def first_inked(self, start: int, end: int) -> int:
        """Find the first character that is not blank."""
        if start < end and self._view[start] in BLANKS:
            for at in range(start, end):
                if self._view[at] not in BLANKS:
                    return at
        return start

    def ends(self, start: int, end: int) -> int:
        """Count line ends."""
        return bytes(self._view[start:end]).count(b"\n")

    def text(self, start: int, end: int) -> str:
        """Copy some characters."""
        return str(self._view[start:end], "latin-1")


class Plain:
    """Any text, by `re`."""

    def __init__(self, text: str, pattern: Pattern, *, crlf: bool, whole: bool) -> None:
        self.size, self.whole = len(text), whole
        self._text = text
        self._compiled = pattern.compiled(crlf=crlf)

    def search(self, at: int) -> Span | None:
        """Find the next match."""
        match = self._compiled.search(self._text, at)
        return match.span() if match else None

    def is_alone(self, begin: int, stop: int) -> bool:
        """Tell whether there is a match in a line by itself."""
        return self._compiled.search(self._text[begin:stop]) is not None

    def find_end(self, at: int) -> int:
        """Find the next line end."""
        return self._text.find("\n", at)

    def find_begin(self, at: int) -> int:
        """Find where a line begins."""
        return self._text.rfind("\n", 0, at) + 1

    def first_inked(self, start: int, end: int) -> int:
        """Find the first character that is not blank."""
        if start < end and self._text[start].isspace():
            for at in range(start, end):
                if not self._text[at].isspace():
                    return at
        return start

    def ends(self, start: int, end: int) -> int:
        """Count line ends."""
        return self._text.count("\n", start, end)

    def count(self) -> int:
        """Count matches; `re` looks for more where it found an empty one."""
        starts = (match.start() for match in self._compiled.finditer(self._text))
        return sum(1 for start in starts if not is_beyond(self, start))

    def text(self, start: int, end: int) -> str:
        """Copy some characters."""
        return self._text[start:end]


class Wide(Plain):
    """Text that is not Latin-1, as UTF-8; places are asked for in rising order."""

    def __init__(self, data: bytes, size: int, found: Any, *, whole: bool) -> None:
        self.size, self.whole = size, whole
        self._bytes = data
        self._match = found.Match
        self._anywhere = found.Anchor.UNANCHORED
        self._char = self._byte = 0

    @functools.cached_property
    def _text(self) -> str:  # type: ignore[override]
        return self._bytes.decode()  # few windows have a match

    def search(self, at: int) -> Span | None:
        """Find the next match."""
        if at < self._char:
            self._char = self._byte = 0
        if at > self._char:
            self._byte += len(self._text[self._char : at].encode())
            self._char = at
        span: Span = self._match(self._anywhere, self._bytes, self._byte, len(self._bytes))[0]
        if span[0] < 0:
            return None
        start = at + len(self._bytes[self._byte : span[0]].decode())
        end = start + len(self._bytes[span[0] : span[1]].decode())
        self._char, self._byte = start, span[0]
        return start, end

    def is_alone(self, begin: int, stop: int) -> bool:
        """Tell whether there is a match in a line by itself."""
        line = self._text[begin:stop].encode()
        return bool(self._match(self._anywhere, line, 0, len(line))[0][0] >= 0)


def lines(stretch: Stretch, look: Pattern | None, *, crlf: bool) -> Iterator[tuple[int, ...]]:
    """Find lines: begin, stop, and the match's start and end. A match that needs more lines
    than its own is told by begin -1.

    With `look`, what is found is a line that `re` has to look at.
    """
    at, size = 0, stretch.size
    compiled = look.compiled(crlf=crlf) if look is not None else None
    while at <= size and (span := stretch.search(at)) is not None:
        start, end = span
        hit = stretch.first_inked(start, end)
        if is_beyond(stretch, hit):
            return
        begin = stretch.find_begin(hit)
        stop = stretch.find_end(hit)
        stop = size if stop < 0 else stop
        if compiled is not None:
            match = compiled.search(stretch.text(begin, stop))
            if match is not None:
                first = begin + match.start()
                last = begin + match.end()
                yield begin, stop, stretch.first_inked(first, last), last
            at = stop + 1
        elif end > stop + 1 and not stretch.is_alone(begin, stop):
            yield -1, 0, 0, 0
            at = stop + 1
        else:
            yield begin, stop, hit, end
            at = max(stop + 1, end)


def count(stretch: Stretch, pattern: Pattern, linear: Linear, *, crlf: bool) -> int:
    """Count matches. Where there are many, and it takes no harm, `re` takes over."""
    if not linear.exact:
        return _count_in_lines(stretch, pattern, crlf=crlf)
    at, found, size = 0, 0, stretch.size
    while at <= size and (span := stretch.search(at)) is not None:
        start, end = span
        if is_beyond(stretch, start):
            break
        found += 1
        at = end if end > start else end + 1
        if found == DENSE_MATCHES and at <= size and _is_for_re(stretch, linear, at // found):
            rest = pattern.compiled(crlf=crlf).finditer(stretch.text(0, size), at)
            starts = (match.start() for match in rest)
            return found + sum(1 for start in starts if not is_beyond(stretch, start))
    return found


def _is_for_re(stretch: Stretch, linear: Linear, chars_a_match: int) -> bool:
    if stretch.size > MAX_COPIED:
        return False
    if linear.easy:
        return chars_a_match < EASY_CHARS
    tame = linear.tame and not linear.crosses and chars_a_match < DENSE_CHARS
    return tame and not has_long_lines(stretch)


def _count_in_lines(stretch: Stretch, pattern: Pattern, *, crlf: bool) -> int:
    compiled = pattern.compiled(crlf=crlf)
    at, found, looked, size = 0, 0, 0, stretch.size
    while at <= size and (span := stretch.search(at)) is not None:
        begin = stretch.find_begin(span[0])
        stop = stretch.find_end(span[0])
        stop = size if stop < 0 else stop
        found += sum(1 for _ in compiled.finditer(stretch.text(begin, stop)))
        at = stop + 1
        looked += 1
        if looked == DENSE_MATCHES and at <= size and at // looked < 4 * DENSE_CHARS:
            rest = compiled.finditer(stretch.text(0, size), at)
            return found + sum(1 for _ in rest)
    return found


def is_beyond(stretch: Stretch, at: int) -> bool:
    """Tell whether a position lies behind all lines: after the last line end."""
    return stretch.whole and at == stretch.size and stretch.find_begin(at) == at


def has_long_lines(stretch: Stretch) -> bool:
    """Tell whether a line may be long; reads as little as it can."""
    at = 0
    while at < stretch.size:
        end = stretch.find_end(at)
        end = stretch.size if end < 0 else end
        if end - at > LONG_LINE:
            return True
        begin = stretch.find_begin(min(at + LONG_LINE, stretch.size))
        at = begin if begin > at else end + 1
    return False
