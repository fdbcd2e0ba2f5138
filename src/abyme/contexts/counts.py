"""Counts of a context: lines, the longest of them, tokens, what ends a line.

Counts a context of up to `EXACT_CHARS` whole, window by window; a larger one, or one of very
many documents, is estimated from samples, and says so.

Invariant: time grows with the characters that are read, whatever stands in them, and what is
held at once is one window.
Does not choose what is worth telling (`preview`).
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from abyme.ports import Context

EXACT_CHARS: Final = 32 << 20
EXACT_DOCUMENTS: Final = 5000
SAMPLES: Final = 48
SAMPLE_CHARS: Final = 16 << 10
_WINDOW_CHARS: Final = 1 << 20
_SHORT: Final = 100
"""Lines up to here are told apart in small contexts only: to look for longer ones is quick."""
_ALL_LINES_CHARS: Final = 1 << 20
_ASCII_PER_TOKEN: Final = 3.8
_WIDE_PER_TOKEN: Final = 1.4
"""Characters a token, for English and code, and for other scripts (o200k, rounded)."""


class Longest(NamedTuple):
    """The longest line."""

    chars: int
    document: int
    line: int | None
    """From 1; None: not counted."""


class Counts(NamedTuple):
    """What was counted, or estimated where not `exact`."""

    exact: bool
    tokens: int
    lines: int
    lines_of: list[int] | None
    """Document by document; None where not exact."""
    longest: Longest
    """Of at most `_SHORT` characters in a large context: that is a bound, and not exact."""
    endings: str
    """What is unusual about line ends and control characters, for people; mostly empty."""


def counts(context: Context) -> Counts:
    """Count a small context, estimate a large one."""
    exact = context.chars <= EXACT_CHARS and context.documents <= EXACT_DOCUMENTS
    wide, seen, endings = _kinds_of_characters(context)
    scale = context.chars / max(1, seen)
    tokens = round(((seen - wide) / _ASCII_PER_TOKEN + wide / _WIDE_PER_TOKEN) * scale)
    if exact:
        lines_of, longest = _counted(context)
        return Counts(exact, tokens, sum(lines_of), lines_of, longest, endings)
    lines, longest = _estimated(context)
    return Counts(exact, tokens, lines, None, longest, endings)


def samples(context: Context) -> Iterator[tuple[int, int, str]]:
    """Yield (document, start, text) at equal distances, over documents or along a single one."""
    if context.documents >= SAMPLES:
        for number in range(SAMPLES):
            document = number * context.documents // SAMPLES
            yield document, 0, context.piece(document, 0, SAMPLE_CHARS)
        return
    each = max(1, SAMPLES // context.documents)
    for document in range(context.documents):
        size = context.size(document)
        if size <= each * SAMPLE_CHARS:
            yield document, 0, context.piece(document, 0, size)
            continue
        for number in range(each):
            start = number * (size - SAMPLE_CHARS) // max(1, each - 1)
            yield document, start, context.piece(document, start, start + SAMPLE_CHARS)


def lines_in(text: str) -> int:
    """Count lines; what follows the last line end is one if it is not empty."""
    return text.count("\n") + (text != "" and not text.endswith("\n"))


def longest_over(text: str, chars: int) -> tuple[int, int]:
    """Find the longest line of more than `chars` characters: (start, characters), else (-1, chars).

    Leaps over the text by the length to beat, so that long lines make it quick.
    """
    start, found = 0, -1
    while start + chars < len(text):
        end = text.rfind("\n", start, start + chars + 1)
        if end < 0:
            end = text.find("\n", start + chars)
            end = len(text) if end < 0 else end
            found, chars = start, end - start
        start = end + 1
    return found, chars


def _counted(context: Context) -> tuple[list[int], Longest]:
    lines_of: list[int] = []
    best = 0 if context.chars <= _ALL_LINES_CHARS else _SHORT
    where: tuple[int, int] | None = None
    for document in range(context.documents):
        ends, begun, last = 0, 0, "\n"
        for at, text in _windows(context, document):
            ends += text.count("\n")
            first = text.find("\n")
            if first < 0:
                first = len(text)
            if at + first - begun > best:  # a line that began in an earlier window
                best, where = at + first - begun, (document, begun)
            start, best = longest_over(text, best)
            if start >= 0:
                where = document, at + start
            if first < len(text):
                begun = at + text.rfind("\n") + 1
            last = text[-1]
        lines_of.append(ends + (last != "\n"))
    if where is None:
        return lines_of, Longest(best, 0, None)
    return lines_of, Longest(best, where[0], _line_at(context, *where))


def _line_at(context: Context, document: int, at: int) -> int:
    starts = range(0, at, _WINDOW_CHARS)
    return 1 + sum(
        context.piece(document, start, min(at, start + _WINDOW_CHARS)).count("\n")
        for start in starts
    )


def _windows(context: Context, document: int) -> Iterator[tuple[int, str]]:
    for start in range(0, context.size(document), _WINDOW_CHARS):
        yield start, context.piece(document, start, start + _WINDOW_CHARS)


def _estimated(context: Context) -> tuple[int, Longest]:
    seen = ends = 0
    longest = Longest(0, 0, None)
    for document, _, text in samples(context):
        seen += len(text)
        ends += text.count("\n")
        start, chars = longest_over(text, longest.chars)
        if start >= 0:
            longest = Longest(chars, document, None)
    return max(1, round(ends * context.chars / max(1, seen))), longest


def _kinds_of_characters(context: Context) -> tuple[int, int, str]:
    """Look at samples: characters that are not ASCII, all characters, unusual line ends."""
    wide = seen = ends = crlf = returns = 0
    found: dict[str, bool] = {"\f": False, "\0": False}
    for _, _, text in samples(context):
        seen += len(text)
        wide += 0 if text.isascii() else len(text) - len(text.encode("ascii", "ignore"))
        ends += text.count("\n")
        crlf += text.count("\r\n")
        returns += text.count("\r")
        for char, before in found.items():
            found[char] = before or char in text
    said = []
    if crlf:
        said.append(r"lines end in \r\n" if crlf == ends else r"some lines end in \r\n")
    elif returns > ends:
        said.append(r"lines end in \r alone")
    if found["\f"]:
        said.append(r"holds form feeds (\f): use split('\n'), not splitlines()")
    if found["\0"]:
        said.append(r"holds NUL characters (\0)")
    return wide, seen, "; ".join(said)
