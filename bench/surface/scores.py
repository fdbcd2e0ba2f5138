"""How right an answer is, from 0 to 1. Pure.

Every scorer takes what an engine gave (a value, or its text) and the gold. Invariant: the form
does not count: a list, its repr, JSON or lines of text with the same content score the same, so
that engines which return values and those which return text are measured alike.
"""

import ast
import json
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from typing import Any, Final, TypeVar

T = TypeVar("T")

MONTHS: Final = (
    "january february march april may june july august september october november december"
)
MONTH_NUMBER: Final = {name[:3]: n for n, name in enumerate(MONTHS.split(), start=1)}
FEWER_BY_ONE: Final = 0.75
"""OOLONG's score for each that a count is off."""


def f1(found: Collection[T], gold: Collection[T]) -> float:
    """Harmonic mean of precision and recall of sets. Both empty: 1."""
    if not found and not gold:
        return 1.0
    return 2 * len(set(found) & set(gold)) / (len(set(found)) + len(set(gold)))


def pairs_f1(answer: Any, gold: Iterable[Iterable[int]]) -> float:
    """Set F1 over unordered pairs of numbers."""
    return f1({frozenset(p) for p in number_pairs(answer)}, {frozenset(p) for p in gold})


def ordered_pairs_f1(answer: Any, gold: Iterable[Sequence[int]]) -> float:
    """Set F1 over pairs of numbers, (old, new) being another than (new, old)."""
    return f1(set(number_pairs(answer)), {(a, b) for a, b in gold})


def numbers_f1(answer: Any, gold: Iterable[int]) -> float:
    """Set F1 over whole numbers."""
    return f1(set(map(int, re.findall(r"\d+", text_of(answer)))), set(gold))


def names_f1(answer: Any, gold: Iterable[str]) -> float:
    """Set F1 over names: case, quotes, bullets and the endings .pdf and .txt do not count."""
    return f1({_plain(name) for name in items_of(answer)}, {_plain(name) for name in gold})


def count(answer: Any, gold: int) -> float:
    """0.75 to the power of the error; 0 where the answer is no single number."""
    number = number_of(answer)
    return 0.0 if number is None else FEWER_BY_ONE ** abs(number - gold)


def exact(answer: Any, gold: int | str) -> float:
    """1 for the number, or for the text but for case and blanks."""
    if isinstance(gold, int):
        return float(number_of(answer) == gold)
    return float(_plain(text_of(answer)) == _plain(gold))


def named_count(answer: Any, gold: Sequence[Any]) -> float:
    """Score a number that belongs to a name: 0 without the name, else as a count."""
    name, number = gold
    return count(answer, number) if name.casefold() in text_of(answer).casefold() else 0.0


def contains(answer: Any, gold: Iterable[str]) -> float:
    """1 if the answer holds one of these texts."""
    text = " ".join(text_of(answer).casefold().split())
    return float(any(one.casefold() in text for one in gold))


def day(answer: Any, gold: str) -> float:
    """1 if the answer names this day and no other. Days as in 6/21/1999, June 21, 1999."""
    return float(days_in(text_of(answer)) == days_in(gold))


def text_of(answer: Any) -> str:
    """The answer as text; values as JSON."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def number_pairs(answer: Any) -> list[tuple[int, int]]:
    """Every two numbers that stand together, with a comma, a colon, an arrow or blanks between."""
    text = re.sub(r"[\"'`]", "", text_of(answer))
    between = r"(?:\s*(?:[,;:]|->|→)\s*|[ \t]+)"
    return [(int(a), int(b)) for a, b in re.findall(rf"(\d+){between}(\d+)", text)]


def number_of(answer: Any) -> int | None:
    """The number after the word "answer", else the only one there is."""
    if isinstance(answer, float) and answer.is_integer():
        return int(answer)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text_of(answer))
    said = re.findall(r"(?i)answer(?: is)?\W*?(-?\d+)", text)
    numbers = {int(n) for n in said[-1:] or re.findall(r"-?\d+", text)}
    return numbers.pop() if len(numbers) == 1 else None


def items_of(answer: Any) -> list[str]:
    """A list's items; of a text the lines, or what commas part."""
    value = _read(answer) if isinstance(answer, str) else answer
    if isinstance(value, str):
        lines = [line for line in value.splitlines() if line.strip()]
        return lines if len(lines) > 1 else re.split(r",\s+", value)
    if isinstance(value, dict):
        return [item for one in value.values() for item in items_of(one)]
    return [text_of(one) for one in value] if isinstance(value, list | tuple | set) else []


def days_in(text: str) -> set[date]:
    """Days that a text names; 6/21/1999 is the American way round."""
    found = {(y, m, d) for y, m, d in re.findall(r"\b(\d{4})-(\d\d?)-(\d\d?)\b", text)}
    found |= {(y, m, d) for m, d, y in re.findall(r"\b(\d\d?)/(\d\d?)/(\d{4})\b", text)}
    words = re.findall(r"(?i)\b([a-z]{3})[a-z]*\.?\s+(\d\d?)(?:st|nd|rd|th)?,?\s+(\d{4})\b", text)
    words += [
        (month, d, y)
        for d, month, y in re.findall(r"(?i)\b(\d\d?)\.?\s+([a-z]{3})[a-z]*\.?,?\s+(\d{4})\b", text)
    ]
    found |= {(y, MONTH_NUMBER[m.lower()], d) for m, d, y in words if m.lower() in MONTH_NUMBER}
    days = set()
    for y, m, d in found:
        try:
            days.add(date(int(y), int(m), int(d)))
        except ValueError:
            continue
    return days


def _plain(name: str) -> str:
    bare = re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+", "", name).strip().strip("\"'`").strip()
    return re.sub(r"\.(?:pdf|txt)$", "", bare.casefold())


def _read(text: str) -> Any:
    """What a list, dict or set was before it was written down; else the text."""
    if text.strip()[:1] not in ("[", "{", "("):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text
