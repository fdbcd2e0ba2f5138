"""Finds the pattern that the lines of a record file share.

``Date: Jan 01, 2023 || User: 17 || Instance: What ...`` and its like become
``Date: ... || User: ... || Instance: ...``.

Invariant: what stands in a pattern stands, in that order, in nine of ten lines.
Does not parse: prose and code have no pattern, and then there is none.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Final

MAX_LINES: Final = 60
_MOST: Final = 0.9
_FEWEST_LINES: Final = 8
_TOKEN: Final = re.compile(r"[^\W\d_]+|\d+|\s+|[^\w\s]|_")
_MAX_TOKENS: Final = 80


def pattern_of(lines: Sequence[str]) -> str | None:
    """Return the shared pattern of lines, or None if they do not look alike."""
    written = [line.strip() for line in lines if line.strip()]
    if len(written) < _FEWEST_LINES:
        return None
    step = len(written) / min(MAX_LINES, len(written))
    sample = [written[int(n * step)] for n in range(min(MAX_LINES, len(written)))]
    tokens = [_TOKEN.findall(line[:600])[:_MAX_TOKENS] for line in sample]
    best = max((_shared(tokens, model) for model in _models(tokens)), key=_worth)
    return _written(best) if _worth(best) else None


def _models(tokens: list[list[str]]) -> list[list[str]]:
    """Lines to compare all others with: three, should one be an odd one."""
    return [tokens[len(tokens) * part // 4] for part in (1, 2, 3)]


def _shared(tokens: list[list[str]], model: list[str]) -> list[str | None]:
    """Keep the model's tokens that nearly all lines have; None where they differ."""
    votes = [0] * len(model)
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(model)
    for line in tokens:
        matcher.set_seq1(line)
        for block in matcher.get_matching_blocks():
            for at in range(block.b, block.b + block.size):
                votes[at] += 1
    enough = _MOST * len(tokens)
    return [token if vote >= enough else None for token, vote in zip(model, votes, strict=True)]


def _worth(shared: list[str | None]) -> int:
    """Measure a pattern: characters of words and marks that stay, 0 if it is none."""
    kept = [token for token in shared if token is not None and not token.isspace()]
    marks = [token for token in kept if not token[0].isalnum()]
    table = len(marks) >= 4 and len(set(marks)) == 1
    labelled = len(marks) >= 2 and len(kept) - len(marks) >= 2
    return sum(map(len, kept)) if None in shared and (table or labelled) else 0


def _written(shared: list[str | None]) -> str:
    parts: list[str] = []
    for token in shared:
        if token is not None:
            parts.append(token)
        elif not parts or parts[-1] != "...":
            if len(parts) > 1 and parts[-1].isspace() and parts[-2] == "...":
                parts.pop()
            else:
                parts.append("...")
    return "".join(parts)
