"""What `grep` and `count` are asked for: a regular expression, and which documents.

Decides how a pattern is read (`^` and `$` at every line, CRLF included), what a
text must hold to be worth running it over, and what a choice of documents means.
Does not look at lines (`places` does).
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final

from abyme.guest.documents import missing

_META: Final = frozenset(".^$*+?{}[]\\|()")
_GLOB: Final = frozenset("*?[")
_SHOWN_CHARS: Final = 80
"""Of what was given for a name, which may be a whole text."""


class Pattern:
    """A pattern, ready to run over texts.

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
        literal = pattern and not flags & ~re.UNICODE and _META.isdisjoint(pattern)
        self.literal = pattern if literal else None
        self.flags = flags | re.MULTILINE
        try:
            self._plain = re.compile(pattern, self.flags)
            self.tree = _parser.parse(pattern, self.flags)
        except (re.error, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{pattern!r} is not a regular expression: {error}; "
                "to look for it as it stands, use re.escape(...)"
            ) from None
        self.given = pattern
        self._must = _must_hold(self.tree)
        self._crlf: re.Pattern[str] | None = None

    def fits(self, text: str) -> bool:
        """Tell whether a text holds what every match would; cheap."""
        return self._must in text

    def search(self, text: str, at: int, *, crlf: bool) -> tuple[int, int] | None:
        """Find the next match: where it begins and ends."""
        if self.literal is not None:
            found = text.find(self.literal, at)
            return None if found < 0 else (found, found + len(self.literal))
        match = self.compiled(crlf=crlf).search(text, at)
        return match.span() if match else None

    def count(self, text: str) -> int:
        """Count matches in a text, none overlapping another, none behind the last line."""
        if self.literal is not None:
            return text.count(self.literal)
        if not self.fits(text):
            return 0
        found = 0
        last: re.Match[str] | None = None
        for last in self.compiled(crlf="\r\n" in text).finditer(text):  # noqa: B007
            found += 1  # a list of all matches could be larger than the text
        return found - (last is not None and beyond(text, last.start()))

    def compiled(self, *, crlf: bool) -> "re.Pattern[str]":
        r"""Give Python's own form of it; `crlf`: for a text with ``\r\n`` in it."""
        if not crlf:
            return self._plain
        if self._crlf is None:
            tree = _parser.parse(self.given, self.flags)
            _open_ends(tree)
            self._crlf = _compiler.compile(tree, self.flags)
        return self._crlf


def beyond(text: str, at: int) -> bool:
    """Tell whether a position lies behind all lines: after the last line end."""
    return at == len(text) and (not text or text[-1] == "\n")


def _must_hold(tree: Any) -> str:
    """Find the longest run of plain characters that every match contains."""
    if tree.state.flags & re.IGNORECASE:
        return ""
    best: list[str] = []
    run: list[str] = []
    for op, value in _flat(tree):
        if op is _constants.LITERAL:
            run.append(chr(value))
        elif op is not _constants.AT:  # ^, $ and \b have no width
            run = []
        best = max(best, run, key=len)[:]
    return "".join(best)


def _flat(tree: Any) -> Iterable[tuple[Any, Any]]:
    """Walk the parts that follow one another, groups without own flags opened."""
    for op, value in tree:
        if op is _constants.SUBPATTERN and not value[1] and not value[2]:
            yield from _flat(value[3])
        else:
            yield op, value


def _open_ends(tree: Any) -> None:
    r"""Let every ``$`` of a parsed pattern stand before ``\r\n`` too."""
    for at, (op, value) in enumerate(tree.data):
        if op is _constants.AT and value is _constants.AT_END:
            carriage = _parser.SubPattern(tree.state, [(_constants.LITERAL, 13)])
            ahead = [(_constants.MAX_REPEAT, (0, 1, carriage)), (op, value)]
            ahead = _parser.SubPattern(tree.state, ahead)
            tree.data[at] = (_constants.ASSERT, (1, ahead))
        else:
            for inner in _inner(value):
                _open_ends(inner)


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, _parser.SubPattern):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _inner(part)


def choose(docs: Any, numbers: Mapping[str | int, int]) -> Sequence[int]:
    """Document numbers for a name, names, a folder or a glob, in the context's order.

    Raises:
        KeyError: nothing is meant by it.
        TypeError: it is none of these.
    """
    if isinstance(docs, str | int):
        return _one(docs, numbers)
    if not isinstance(docs, Iterable):
        raise TypeError(f"docs must be a name, names, a folder or a glob, not {docs!r}")
    return sorted({number for doc in docs for number in _one(doc, numbers)})


def _one(doc: Any, numbers: Mapping[str | int, int]) -> list[int]:
    if isinstance(doc, str | int) and doc in numbers:
        return [numbers[doc]]
    if isinstance(doc, str):
        if not _GLOB.isdisjoint(doc):
            fits = re.compile(fnmatch.translate(doc)).match
        else:
            fits = re.compile(re.escape(doc.rstrip("/")) + "/").match
        chosen = [number for name, number in numbers.items() if fits(str(name))]
        if chosen:
            return chosen
    shown = doc[:_SHOWN_CHARS] if isinstance(doc, str) else doc
    if len(numbers) == 1:
        raise KeyError(f"no document is named {shown!r}: context has one text only, leave docs out")
    if 0 in numbers:
        raise KeyError(f"no document is named {shown!r}; they are numbered 0 to {len(numbers) - 1}")
    raise KeyError(missing(doc, {str(name): number for name, number in numbers.items()}))
