"""Finds what structures a text: headings, and words that lines begin with again and again.

Decides by look alone: ``# Title``, underlined titles, ``CHAPTER IV``, a line in capitals
between empty ones; ``Subject:`` or ``ROMEO:`` at the beginning of many lines.

Invariant: one pass, in time that grows with the text.
Does not read markup: a heading is a line that looks like one.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

MOST_CHARS: Final = 1 << 20
"""Longer texts should be given as their beginning."""
_TITLE_CHARS: Final = 80
_NUMBERED: Final = re.compile(
    r"(?i:(?:chapter|part|book|section|article|act|scene|canto|letter|volume|appendix|schedule|"
    r"exhibit|adventure|story|lecture)\s+(?:[ivxlcdm]+|\d+|[a-z])\b)|[IVXLC]+\.\s+[A-Z]|第.{1,6}[章回节]"
)
_MARKED: Final = re.compile(r"#{1,6} \S")
_RULE: Final = re.compile(r"([=\-~^*])\1{2,}$")
_START: Final = re.compile(r"[A-Z@\[<][\w .-]{0,30}?[:\]{]|From (?=\S+@)|>(?=\S)")
_LABEL: Final = re.compile(r"[A-Za-z][\w -]{0,30}:(?=\s|$)")
_DIGIT: Final = re.compile(r"\d")
_FEW: Final = 5
_MOST: Final = 0.9
_FEWEST_TEXTS: Final = 8
_HEAD_CHARS: Final = 4000
_SHORT: Final = 50
_SHARE: Final = 0.01


def headings(lines: Sequence[str]) -> list[tuple[int, str]]:
    """Return (line number, text) of lines that look like headings; none if too many do."""
    found = list(_headings(lines))
    return found if 2 <= len(found) <= len(lines) / 8 else []


def _headings(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    before = ""
    for number, line in enumerate(lines):
        text, after = line.strip(), ""
        if 2 < len(text) <= _TITLE_CHARS and not before:
            after = lines[number + 1].strip() if number + 1 < len(lines) else ""
            underlined = len(after) >= len(text) - 1 and _RULE.match(after) is not None
            if underlined or (not after and _stands_out(text, line)):
                yield number + 1, text
        before = text


def _stands_out(text: str, line: str) -> bool:
    if _MARKED.match(line) or _NUMBERED.match(text):
        return True  # a mark that is indented is a comment in code
    return text.isupper() and sum(map(str.isalpha, text)) > 3 and text[-1] not in ",;:"


def starts(lines: Sequence[str]) -> list[tuple[str, int]]:
    """Return what lines begin with again and again, the most frequent first."""
    counts: Counter[str] = Counter()
    for line in lines:
        if found := _START.match(line):
            counts[found[0]] += 1
    enough = max(_FEW, _SHARE * len(lines))
    often = [(start, count) for start, count in counts.most_common(8) if count >= enough]
    return often if len(often) > 1 else []


def shared(texts: Sequence[str]) -> list[str]:
    """Return what nearly all of several texts have: ``Title:`` before lines, and whole lines."""
    if len(texts) < _FEWEST_TEXTS:
        return []
    counts: Counter[str] = Counter()
    for text in texts:
        found: dict[str, None] = {}
        for line in text[:_HEAD_CHARS].split("\n"):
            if label := _LABEL.match(line):
                found[label[0]] = None
            elif 4 < len(line) <= _SHORT and line[0].isalpha() and not _DIGIT.search(line):
                found[line.rstrip()] = None
        counts.update(found.keys())
    return [line for line, count in counts.items() if count >= _MOST * len(texts)][:12]
