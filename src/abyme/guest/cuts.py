"""Where a text may be cut: at tokens, lines, paragraphs, headings, code symbols.

Decides what a unit is and how units are packed. Sizes are in tokens as the host estimates them
(`abyme.estimates`), but by="lines"; in a text of more than `MEASURED_CHARS` by samples of each
part of it, because an estimate of all would take minutes.

Invariant: cuts follow each other without a gap, and the last one ends where the text does;
overlap only moves beginnings back, never before the cut before.
Does not make chunks (`chunks`).
"""

import ast
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from abyme.estimates import estimate

BY: Final = ("tokens", "lines", "paragraphs", "headings", "symbols")
SIZE_TOKENS: Final = 2_000
SIZE_LINES: Final = 100
MOST_SIZE: Final = 100_000_000
MEASURED_CHARS: Final = 4 << 20
BLOCK_CHARS: Final = 1 << 18
SAMPLE_CHARS: Final = 2_048
SAMPLES: Final = 4
"""Of a block, to tell its characters a token."""
WHOLE_CHARS_A_TOKEN: Final = 6
"""A text of more characters than these for each token of a size is not asked whether it fits."""
LAST_SHARE: Final = 4
"""A cut is made at the last line or word within the last quarter, where there is one."""
MOST_TITLE_CHARS: Final = 200
HASH_COMMENTS: Final = (
    *(".sh", ".bash", ".zsh", ".py", ".pyi", ".rb", ".pl", ".r", ".yml", ".yaml", ".toml"),
    *(".cfg", ".conf", ".ini", ".mk", "makefile", "dockerfile", ".cmake", ".tcl"),
)
"""Ends of names of texts in which a line that begins with # is a comment."""
PARSED_CHARS: Final = 5 << 20
_BREAK: Final = re.compile(r"\n[ \t\r]*\n\s*")
_HEAD_LINE: Final = (
    r"(?:[ ]{0,3}(#{1,6}[ \t]+\S[^\n]*)"
    r"|((?:Chapter|Part|Book|Section|Appendix|Article|Adventure|Volume"
    r"|CHAPTER|PART|BOOK|SECTION|APPENDIX|ARTICLE|ADVENTURE|VOLUME)[ \t]+"
    r"(?:[\dIVXLCivxlc]+|(?i:one|two|three|four|five|six|seven|eight|nine|ten))\b[^\n]{0,100})"
    r"|(第[\d一二三四五六七八九十百零两]{1,8}[章回节卷部][^\n]{0,60})"
    r"|((?:INTRODUCTION|PREFACE|PROLOGUE|EPILOGUE)\.?[ \t]*(?=\r?\n|\r?\Z))"
    r"|(\d+(?:\.\d+)*\.?[ \t]+[A-Z][^\n]{0,100}(?=\r?\n[ \t]*\r?(?:\n|\Z)))"
    r"|(?:={3,}|-{3,}|~{3,})[ \t]*(?=\r?\n|\r?\Z))"
)
_HEADING: Final = re.compile("\n" + _HEAD_LINE)
"""Begins with a character that is searched for fast. Without a group it is a rule that makes a
heading of the line above."""
_FENCE: Final = re.compile(r"(?m)^[ ]{0,3}```[^`\n]*$")
_FIRST_HEADING: Final = re.compile(_HEAD_LINE)
_BLOCK: Final = re.compile(r"\n[ \t\r]*\n(?=[^\s)\]}])")
"""A blank line before what is not indented: where code that cannot be parsed is cut."""


class Cut(NamedTuple):
    """One chunk to be."""

    start: int
    end: int
    heading: str | None = None
    symbol: str | None = None


@dataclass(frozen=True, slots=True)
class Cutter:
    """How texts are cut."""

    by: str
    size: int | None
    overlap: int
    symbols_of: Callable[[int], Sequence[Sequence[Any]] | None]
    """Symbols of a document, as the host gives them; None: it does not."""
    note: Callable[[str], None]

    def cuts(self, text: str, document: int | None, name: str | int | None) -> Iterator[Cut]:
        """Cut a text."""
        if not text:
            return
        ruler = Ruler(text)
        if self.by == "lines":
            cuts = _lines(text, self.size or SIZE_LINES)
        elif self.by == "tokens":
            cuts = _by_tokens(ruler, 0, len(text), self.size or SIZE_TOKENS)
        else:
            cuts = _packed(ruler, self._units(text, document, name), self._most())
        yield from cuts if not self.overlap else self._overlapping(ruler, cuts)

    def is_whole(self, text: str) -> bool:
        """Tell cheaply that a text is one chunk; False: it may be one all the same.

        Of many small documents nearly all are: an estimate is never more than the bytes.
        """
        chars = len(text)
        if self.by == "lines":
            return text.count("\n") < (self.size or SIZE_LINES)
        if self.by not in {"tokens", "paragraphs"}:
            return False
        size = self.size or SIZE_TOKENS
        if chars <= size and text.isascii():
            return True
        return chars <= min(size * WHOLE_CHARS_A_TOKEN, MEASURED_CHARS) and estimate(text) <= size

    def _most(self) -> int | None:
        """Give the tokens up to which units are packed; None: each is a chunk of its own."""
        return self.size or (SIZE_TOKENS if self.by == "paragraphs" else None)

    def _units(self, text: str, document: int | None, name: str | int | None) -> Iterator[Cut]:
        if self.by == "paragraphs":
            return _between(text, (one.end() for one in _BREAK.finditer(text)))
        if self.by == "headings":
            return _headings(text, hashes=not str(name).lower().endswith(HASH_COMMENTS))
        found = self.symbols_of(document) if document is not None else None
        if found is None:
            found = _of_python(text)
        if found is not None:
            return _symbols(text, found, nested=self.size is not None)
        self.note(f"chunks: no symbols can be told in {name!r}: it is cut at blank lines")
        return _between(text, (one.end() for one in _BLOCK.finditer(text)))

    def _overlapping(self, ruler: "Ruler", cuts: Iterator[Cut]) -> Iterator[Cut]:
        """Let each chunk begin within the one before."""
        before = 0
        for cut in cuts:
            if self.by == "lines":
                start = cut.start
                for _ in range(self.overlap):
                    start = ruler.text.rfind("\n", 0, max(0, start - 1)) + 1
            else:
                start = ruler.back(cut.start, self.overlap)
            yield cut._replace(start=max(before, start) if cut.start else 0)
            before = cut.start


class Ruler:
    """Measures stretches of one text in tokens."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.exact = len(text) <= MEASURED_CHARS
        self.chars_a_token = lru_cache(maxsize=1 << 16)(self._chars_a_token)

    def tokens(self, start: int, end: int) -> int:
        """Tell the tokens of a stretch."""
        if self.exact:
            return estimate(self.text[start:end])
        return int((end - start) / self.chars_a_token(start // BLOCK_CHARS)) + 1

    def end(self, start: int, stop: int, tokens: int) -> int:
        """Tell where a stretch of so many tokens ends, at the end of a line or word if there is
        one near; at least a character further.
        """
        reach = int(tokens * self.chars_a_token(start // BLOCK_CHARS)) or 1
        if start + reach >= stop and self._fits(start, stop, tokens):
            return stop
        end = min(stop, start + reach)
        while not self._fits(start, end, tokens) and end > start + 1:
            there = self.tokens(start, end)
            end = max(start + 1, start + min(end - start - 1, (end - start) * tokens // there))
        return self._at_a_break(start, end)

    def back(self, end: int, tokens: int) -> int:
        """Tell where a stretch of so many tokens begins that ends there."""
        reach = int(tokens * self.chars_a_token(max(0, end - 1) // BLOCK_CHARS))
        start = max(0, end - reach)
        if start == 0:
            return 0
        for mark in ("\n", " "):
            at = self.text.find(mark, start, end - 1)
            if 0 <= at < end - reach // LAST_SHARE:
                return at + 1
        return start

    def _fits(self, start: int, end: int, tokens: int) -> bool:
        return not self.exact or self.tokens(start, end) <= tokens

    def _at_a_break(self, start: int, end: int) -> int:
        if end >= len(self.text):
            return end
        low = end - (end - start) // LAST_SHARE
        for mark in ("\n\n", "\n", " "):
            at = self.text.rfind(mark, low, end)
            if at > start:
                return at + len(mark)
        return end

    def _chars_a_token(self, block: int) -> float:
        start = block * BLOCK_CHARS
        part = min(BLOCK_CHARS, len(self.text) - start)
        step = max(1, part // SAMPLES)
        starts = range(start, start + part, step)
        samples = [self.text[at : at + min(step, SAMPLE_CHARS)] for at in starts]
        joined = "".join(samples)
        return len(joined) / max(1, estimate(joined))


def _lines(text: str, size: int) -> Iterator[Cut]:
    start, chars = 0, len(text)
    while start < chars:
        end = start
        for _ in range(size):
            end = text.find("\n", end) + 1
            if not end:
                end = chars
                break
        yield Cut(start, end)
        start = end


def _by_tokens(ruler: Ruler, start: int, stop: int, size: int) -> Iterator[Cut]:
    while start < stop:
        end = ruler.end(start, stop, size)
        yield Cut(start, end)
        start = end


def _packed(ruler: Ruler, units: Iterator[Cut], most: int | None) -> Iterator[Cut]:
    """Join units while they fit; cut those that do not fit by themselves."""
    if most is None:
        yield from units
        return
    held: Cut | None = None
    for unit in units:
        if held is not None:
            if ruler.tokens(held.start, unit.end) <= most:
                held = held._replace(end=unit.end)
                continue
            yield held
        held = unit
        if ruler.tokens(unit.start, unit.end) > most:
            pieces = _by_tokens(ruler, unit.start, unit.end, most)
            yield from (unit._replace(start=one.start, end=one.end) for one in pieces)
            held = None
    if held is not None:
        yield held


def _between(text: str, marks: Iterator[int]) -> Iterator[Cut]:
    start = 0
    for mark in marks:
        if start < mark < len(text):
            yield Cut(start, mark)
            start = mark
    yield Cut(start, len(text))


def _headings(text: str, *, hashes: bool) -> Iterator[Cut]:
    """Cut at headings; `hashes`: a line that begins with # is one, but within a fence."""
    start, heading = 0, None
    first = _FIRST_HEADING.match(text)
    if first is not None and first.lastindex and (hashes or first.lastindex != 1):
        heading = _title(first[first.lastindex])
    fences, fence, is_fenced = _FENCE.finditer(text), -1, True
    for found in _HEADING.finditer(text):
        at, title = found.start() + 1, found[found.lastindex] if found.lastindex else ""
        if found.lastindex == 1:
            while fence < at:  # an odd number of them has been passed: it stands in one
                passed = next(fences, None)
                fence, is_fenced = passed.start() if passed else len(text), not is_fenced
            if is_fenced or not hashes:
                continue
        if not found.lastindex:
            at = text.rfind("\n", 0, found.start()) + 1
            title = text[at : found.start()]
            if not title.strip() or len(title) > MOST_TITLE_CHARS:
                continue
        if at > start:
            yield Cut(start, at, heading)
            start = at
        heading = _title(title)
    yield Cut(start, len(text), heading)


def _title(line: str) -> str:
    return line.strip().strip("#").strip()


def _symbols(text: str, found: Sequence[Sequence[Any]], *, nested: bool) -> Iterator[Cut]:
    """Cut at symbols: those that stand in no other, and where chunks have a size also at those
    within them. What lies between goes with the symbol behind it.
    """
    deepest = 1 if nested else 0
    names = [
        (int(at), str(name))
        for at, _, _, depth, _, name in found
        if int(depth) <= deepest and at < len(text)
    ]
    start, symbol = 0, None
    for at, name in sorted(names):
        mark = _with_its_comment(text, start, at)
        if mark > start:
            yield Cut(start, mark, symbol=symbol)
            start = mark
        symbol = name
    yield Cut(start, len(text), symbol=symbol)


def _with_its_comment(text: str, low: int, at: int) -> int:
    """Go back over the lines of comment or decoration that stand directly above."""
    begin = text.rfind("\n", low, at) + 1
    begin = begin if begin > low else (0 if low == 0 and not text[:at].strip() else low)
    if text[begin:at].strip():
        return at
    while begin > low:
        above = text.rfind("\n", low, begin - 1) + 1
        above = max(above, low)
        if not text[above:begin].lstrip().startswith(("#", "//", "/*", "*", "@", "///")):
            break
        begin = above
    return begin


def _of_python(text: str) -> list[list[Any]] | None:
    """Tell symbols as Python itself does; None: it is not Python."""
    if len(text) > PARSED_CHARS:
        return None
    if "\r" in text.replace("\r\n", ""):
        return None  # its lines are not counted as ours are
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that it does not know
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    starts = [0, *(one.end() for one in re.finditer("\n", text))]
    return list(_of_body(body, 0, starts)) or None


def _of_body(body: Sequence[ast.stmt], depth: int, starts: Sequence[int]) -> Iterator[list[Any]]:
    for one in body:
        if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        line = min([one.lineno, *(each.lineno for each in one.decorator_list)])
        yield [starts[line - 1], 0, line, depth, "", one.name]
        if depth == 0 and isinstance(one, ast.ClassDef):
            yield from _of_body(one.body, 1, starts)
