"""Finds the pattern that the lines of a record file share.

``Date: Jan 01, 2023 || User: 17 || Instance: What is ...`` and its like become
``Date: …, … || User: … || Instance: …``.

Invariant: what stands in a pattern stands, in that order, in nearly all lines that look like
it, and those are nine of ten that were looked at.
Does not parse: prose and code have no pattern, and then there is none.
"""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

MAX_LINES: Final = 40
_MOST: Final = 0.9
_NEARLY_ALL: Final = 0.98
_FEWEST_LINES: Final = 8
_TOKEN: Final = re.compile(r"[^\S\t]*(?:[^\W\d_]+|\d+)|[^\S\t]*(?:[^\w\s]|_|\t)[^\S\t]*")
"""Words and numbers with the blanks before them, marks and tabs with those around them."""
_MAX_TOKENS: Final = 80
_LINE_CHARS: Final = 600
GAP: Final = "…"
"""Stands for what differs."""


def pattern_of(lines: Sequence[str]) -> str | None:
    """Return the shared pattern of lines, or None if they do not look alike."""
    written = [line.strip(" \r") for line in lines if line.strip()]
    if len(written) < _FEWEST_LINES:
        return None
    step = len(written) / min(MAX_LINES, len(written))
    sample = [written[int(n * step)] for n in range(min(MAX_LINES, len(written)))]
    tokens = [_TOKEN.findall(line[:_LINE_CHARS])[:_MAX_TOKENS] for line in sample]
    for model in _models(tokens):
        found = _shared(tokens, model, _MOST)
        if _worth(found):
            alike = [line for line in tokens if _holds(line, found)]
            closer = _shared(alike, alike[len(alike) // 2], _NEARLY_ALL) if alike else found
            return _written(closer if _worth(closer) else found)
    return None


def fits(pattern: str, line: str) -> bool:
    """Tell whether a line is of a pattern; time grows with the line."""
    first, *rest = pattern.split(GAP)
    line = line.strip(" \r")
    if not rest:
        return line == first
    if not line.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:
        at = line.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return line.endswith(rest[-1]) and len(line) - len(rest[-1]) >= at


def _models(tokens: list[list[str]]) -> list[list[str]]:
    """Lines to compare all others with: three, should one be an odd one."""
    return [tokens[len(tokens) * part // 4] for part in (1, 2, 3)]


def _shared(tokens: list[list[str]], model: list[str], most: float) -> list[str | None]:
    """Keep the model's tokens that a share of `most` of all lines have; None where they differ.

    Lines are compared by the tokens alone that so many have at all, which are few.
    """
    enough = most * len(tokens)
    lines_with = Counter(token for line in tokens for token in set(line))
    places = [at for at, token in enumerate(model) if lines_with[token] >= enough]
    votes = [0] * len(places)
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2([model[at] for at in places])
    for line in tokens:
        matcher.set_seq1([token for token in line if lines_with[token] >= enough])
        for block in matcher.get_matching_blocks():
            for at in range(block.b, block.b + block.size):
                votes[at] += 1
    kept = {at for at, vote in zip(places, votes, strict=True) if vote >= enough}
    return [token if at in kept else None for at, token in enumerate(model)]


def _holds(line: list[str], shared: list[str | None]) -> bool:
    """Tell whether a line has most of the tokens of a pattern, in order."""
    kept = [token for token in shared if token is not None]
    at = found = 0
    for token in kept:
        if token in line[at:]:
            at = line.index(token, at) + 1
            found += 1
    return found >= _MOST * len(kept)


def _worth(shared: list[str | None]) -> int:
    """Measure a pattern: characters of words and marks that stay, 0 if it is none."""
    kept = [token.strip(" ") for token in shared if token is not None]
    marks = [token for token in kept if not token[0].isalnum()]
    table = "\t" in marks or (len(marks) >= 4 and len(set(marks)) == 1)
    labelled = len(marks) >= 2 and len(kept) - len(marks) >= 2
    return sum(map(len, kept)) if None in shared and (table or labelled) else 0


def _written(shared: list[str | None]) -> str:
    parts: list[str] = []
    for token in shared:
        if token is not None:
            parts.append(token)
        elif not parts or parts[-1] != GAP:
            parts.append(GAP)
    return "".join(parts)
