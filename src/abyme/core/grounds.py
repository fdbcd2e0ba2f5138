"""Whether an answer that a model has typed stands on anything: for profiles of weak models.

A small model that has not found what it looks for tends to answer with words of the
question, with a number that it has not seen, or with zero. That is told by comparing words,
so it is a reason to ask once more and never one to refuse. Pure; knows nothing of meaning.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

MOST_CHARS = 200
"""A longer answer is composed: its words need not stand anywhere."""

_WORD = re.compile(r"\w+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")


def doubt(value: Any, *, code: str, question: str, seen: Iterable[str]) -> str | None:
    """Say why a submitted value is doubtful; None: it is not.

    `code` is the cell that submitted it: what it does not hold was computed, and is taken.
    `seen` are the outputs that the model has been shown.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > MOST_CHARS or text not in code:
        return None
    if text.strip() == "0":
        return "nothing was found in this way, perhaps it is under other words"
    said = _words(text)
    new = said - _words(question)
    if said and not new:
        return "it only repeats the question"
    shown = set[str]().union(*map(_words, seen))
    digits = {word for word in new if word.isdecimal()}
    if digits - shown or not new & shown:
        return "it stands in no output"
    return None


def _words(text: str) -> set[str]:
    return {word.lower().lstrip("0") or "0" for word in _WORD.findall(_THOUSANDS.sub("", text))}
