"""Log-probabilities of a reply -> which stretches of its text the model was not sure of.

Pure. Decides: whether what an endpoint sends can be believed and belongs to the text, and
where in the text a token stands. Invariant: what is returned is all the doubt there is within
the text, or None; whatever is sent, there is no exception and no more than linear work.

The text may be less than what was generated: without reasoning, fences, or a stop word. It is
looked for in the tokens' bytes; a token may be a part of a character.

A probability is what the endpoint tells. llama.cpp tells it as it was before a grammar: a token
that the grammar forced can be improbable.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from abyme.core.events import SURE, Doubt

MOST_DOUBTS: Final = 5_000
"""In a journal's record. With more, a reply is as good as not known."""
MOST_TOKENS: Final = 1 << 18
LEAST_DOUBT: Final = math.log(SURE)
ROUNDED_UP: Final = 1e-3
"""A logarithm above zero by no more is a rounded zero."""
PLACEHOLDERS: Final = frozenset({0.0, -9999.0})
"""What stands in the place of probabilities that an endpoint does not have."""
DIGITS: Final = 4
CONTINUED: Final = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that begin no character."""


def read(given: Any, text: str) -> list[Doubt] | None:
    """Read ``choices[0].logprobs`` of chat completions; `text` is the reply as it is returned."""
    content = given.get("content") if isinstance(given, dict) else None
    if not isinstance(content, list) or not 0 < len(content) <= MOST_TOKENS:
        return None
    pieces, logprobs = [], []
    for entry in content:
        piece, logprob = _token(entry)
        if piece is None or logprob is None:
            return None
        pieces.append(piece)
        logprobs.append(logprob)
    if PLACEHOLDERS.issuperset(logprobs):
        return None
    wanted = text.encode("utf-8", "surrogatepass")
    start = _find(b"".join(pieces), wanted)
    return None if start is None else _within(pieces, logprobs, start, wanted)


def _token(entry: Any) -> tuple[bytes | None, float | None]:
    if not isinstance(entry, dict):
        return None, None
    return _bytes(entry), _logprob(entry.get("logprob"))


def _bytes(entry: dict[str, Any]) -> bytes | None:
    """Bytes of a token; its text may be spoilt where it is a part of a character."""
    numbers, token = entry.get("bytes"), entry.get("token")
    if isinstance(numbers, list):
        try:
            return bytes(numbers)
        except (TypeError, ValueError, OverflowError):
            return None
    return token.encode("utf-8", "surrogatepass") if isinstance(token, str) else None


def _logprob(given: Any) -> float | None:
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    if not -math.inf < given <= ROUNDED_UP:
        return None
    try:
        return min(0.0, float(given))
    except OverflowError:
        return None


def _find(whole: bytes, wanted: bytes) -> int | None:
    """Where the text begins: at the end of what was generated, else where it is the only one.

    `find` is linear in CPython, `rfind` is not.
    """
    if whole.endswith(wanted):
        return len(whole) - len(wanted)
    first = whole.find(wanted)
    if first < 0 or whole.find(wanted, first + 1) >= 0:
        return None
    return first


def _within(
    pieces: Sequence[bytes], logprobs: Sequence[float], start: int, wanted: bytes
) -> list[Doubt] | None:
    """Place the unsure tokens in the text, cut to it, in code points."""
    doubts: list[Doubt] = []
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    done_bytes = done_chars = 0
    for (begins, ends_at), logprob in zip(pairwise(ends), logprobs, strict=True):
        low, high = max(begins - start, 0), min(ends_at - start, len(wanted))
        if low >= high or logprob >= LEAST_DOUBT:
            continue
        if len(doubts) == MOST_DOUBTS:
            return None
        done_chars += _chars(wanted[done_bytes:low])
        inside = wanted[low] in CONTINUED
        first, last = done_chars - inside, done_chars + _chars(wanted[low:high])
        done_bytes, done_chars = high, last
        doubts.append(Doubt(start=first, end=last, logprob=round(logprob, DIGITS)))
    return doubts


def _chars(data: bytes) -> int:
    """Count the characters that begin in some bytes."""
    return len(data) if data.isascii() else len(data.translate(None, CONTINUED))
