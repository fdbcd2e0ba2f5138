"""What `grep` and `count` are asked for: a regular expression, and which documents.

Decides how a pattern is read (`^` and `$` at every line, CRLF included) and
what a choice of documents means. Does not look at lines (`places` does).
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from abyme.guest.documents import missing

_META: Final = frozenset(".^$*+?{}[]\\|()")
_GLOB: Final = frozenset("*?[")


class Pattern:
    """A compiled pattern.

    Raises:
        ValueError: not a regular expression.
        TypeError: not a str and not a compiled str pattern.
    """

    def __init__(self, pattern: Any, flags: int = 0) -> None:
        if isinstance(pattern, re.Pattern):
            flags |= pattern.flags
            pattern = pattern.pattern
        if not isinstance(pattern, str):
            raise TypeError(f"pattern must be a str, not {type(pattern).__name__}")
        self.shown = repr(pattern)
        self._literal = (
            pattern if pattern and not flags & ~re.UNICODE and _META.isdisjoint(pattern) else None
        )
        try:
            self._plain = re.compile(pattern, flags | re.MULTILINE)
        except (re.error, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{pattern!r} is not a regular expression: {error}; "
                "to look for it as it stands, use re.escape(...)"
            ) from None

    def search(self, text: str, at: int) -> tuple[int, int] | None:
        """Find the next match: where it begins and ends."""
        if self._literal is not None:
            found = text.find(self._literal, at)
            return None if found < 0 else (found, found + len(self._literal))
        match = self._plain.search(text, at)
        return match.span() if match else None

    def count(self, text: str) -> int:
        """Count matches in a text, none overlapping another."""
        if self._literal is not None:
            return text.count(self._literal)
        return sum(1 for _ in self._plain.finditer(text))


def choose(docs: Any, numbers: Mapping[str | int, int]) -> Sequence[int]:
    """Document numbers for a name, names, a folder or a glob, in the context's order.

    Raises:
        KeyError: nothing is meant by it.
        TypeError: it is none of these.
    """
    if isinstance(docs, str | int):
        return _one(docs, numbers)
    try:
        chosen = {number for doc in docs for number in _one(doc, numbers)}
    except TypeError:
        raise TypeError(f"docs must be a name, names or a glob, not {docs!r}") from None
    return sorted(chosen)


def _one(doc: Any, numbers: Mapping[str | int, int]) -> list[int]:
    if doc in numbers:
        return [numbers[doc]]
    if isinstance(doc, str):
        if not _GLOB.isdisjoint(doc):
            fits = re.compile(fnmatch.translate(doc)).match
        else:
            fits = re.compile(re.escape(doc.rstrip("/")) + "/").match
        chosen = [number for name, number in numbers.items() if fits(str(name))]
        if chosen:
            return chosen
    raise KeyError(missing(doc, {str(name): number for name, number in numbers.items()}))
