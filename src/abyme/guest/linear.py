r"""Python's regular expressions in the syntax of RE2, which needs time linear to the text.

Decides what can be said in RE2, and how: every character class is spelled out as the code
points that Python's own `re` takes, so that case, ``\w`` and the like mean the same. What RE2
has no words for (look-around, back-references, ``\b`` among letters beyond ASCII) is left out,
and the outcome says so: it then matches on every line on which the pattern does, and on others.

Invariant: an `exact` outcome finds the matches of `re.finditer` over the same characters, lone
surrogates excepted; an inexact one never misses a line.
Does not run RE2: the guest has none, and asks by `Linear.of` only whether it is worth a question.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from re import _casefix, _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final

from abyme.layout import ASCII, LATIN1, UCS2, UCS4

MOST: Final = {ASCII: 0x7F, LATIN1: 0xFF, UCS2: 0xFFFF, UCS4: 0x10FFFF}
"""Kind of text -> its widest character."""
SURROGATES: Final = (0xD800, 0xDFFF)
MAX_REPEATS: Final = 1000
"""RE2's own limit of a counted repeat."""
MAX_CHARS: Final = 500_000
"""Of an expression in RE2's words."""
_LAST_CASED: Final = 0x1E943
_EVERY_CHAR: Final = "[^\n]"
_REPEATS: Final = (
    _constants.MAX_REPEAT,
    _constants.MIN_REPEAT,
    _constants.POSSESSIVE_REPEAT,
)


class NotLinear(Exception):
    """There is no way to say it in RE2's words; the message says what."""


@dataclass(frozen=True, slots=True)
class Linear:
    """An expression in RE2's words."""

    pattern: str
    exact: bool
    """Else lines that it finds are to be looked at by `re`."""
    crosses: bool
    """A match may hold a line's end, so that a text has to be looked at as a whole."""
    loops: int
    """Repeats without a bound."""
    nests: bool
    """One of them is in another: `re` may need time that doubles with each character."""
    easy: bool
    """`re` is done in time linear to the text too, and begins at a plain character."""
    opens_ends: bool
    r"""It has a ``$``, which stands before ``\r\n`` too."""

    @staticmethod
    def of(tree: Any, flags: int, kind: int, *, crlf: bool = False) -> "Linear":
        r"""Translate what `re` has parsed, for texts of a kind; `crlf`: with ``\r\n`` in them.

        Raises:
            NotLinear: it cannot be done.
        """
        writer = _Writer(kind, crlf=crlf)
        try:
            pattern = writer.sequence(tree, flags | tree.state.flags)
        except RecursionError:
            raise NotLinear("it is nested too deeply") from None
        if not writer.exact and writer.crosses:
            raise NotLinear("it needs several lines, and what RE2 does not have")
        if writer.never_empty and (writer.crosses or not writer.exact):
            raise NotLinear(r"it would run \B over lines by themselves")
        if writer.exact and _is_nullable(tree) and not _prefers_long(tree):
            raise NotLinear("it prefers to match nothing")
        if len(pattern) > MAX_CHARS:
            raise NotLinear("it is too long")
        loops, nests = writer.loops, writer.nests
        easy = writer.exact and not nests and _is_easy(tree, flags | tree.state.flags)
        ends = writer.opens_ends
        return Linear(pattern, writer.exact, writer.crosses, loops, nests, easy, ends)

    @property
    def tame(self) -> bool:
        """`re` needs no more than the square of a line."""
        return self.loops <= 1 and not self.nests


class _Writer:
    """One translation, and what was learned on the way."""

    def __init__(self, kind: int, *, crlf: bool) -> None:
        self._kind = kind
        self._crlf = crlf
        self.exact = True
        self.crosses = False
        self.opens_ends = False
        self.never_empty = False
        r"""It has ``\B``, which before Python 3.14 is nowhere in an empty text."""
        self.loops = 0
        self.nests = False

    def sequence(self, tree: Iterable[tuple[Any, Any]], flags: int) -> str:
        return "".join(self._item(op, value, flags) for op, value in tree)

    def _item(self, op: Any, value: Any, flags: int) -> str:  # noqa: PLR0911 - one for each kind
        if op in {_constants.LITERAL, _constants.NOT_LITERAL, _constants.IN, _constants.ANY}:
            return self._char(op, value, flags)
        if op is _constants.AT:
            return self._at(value, flags)
        if op is _constants.BRANCH:
            return "(?:" + "|".join(self.sequence(one, flags) for one in value[1]) + ")"
        if op is _constants.SUBPATTERN:
            _, more, less, inner = value
            return f"(?:{self.sequence(inner, (flags | more) & ~less)})"
        if op in _REPEATS:
            return self._repeat(op, value, flags)
        self.exact = False
        if op is _constants.ATOMIC_GROUP:
            return f"(?:{self.sequence(value, flags)})"
        if op in {_constants.ASSERT, _constants.ASSERT_NOT}:
            self.sequence(value[1], flags)  # only for whether it looks beyond the line
            return ""
        if op is _constants.GROUPREF:
            return f"{_EVERY_CHAR}*"
        if op is _constants.GROUPREF_EXISTS:
            parts = [self.sequence(one or (), flags) for one in value[1:]]
            return f"(?:{'|'.join(parts)})"
        raise NotLinear(str(op))

    def _char(self, op: Any, value: Any, flags: int) -> str:
        if op is _constants.LITERAL and not flags & re.IGNORECASE:
            self.crosses |= value == ord("\n")
            return _class([(value, value)], self._kind)
        key = (op, tuple(value) if isinstance(value, list) else value)
        kept = flags & (re.IGNORECASE | re.ASCII | re.DOTALL | re.UNICODE | re.LOCALE)
        runs = _runs(key, kept, self._kind)
        self.crosses |= any(first <= ord("\n") <= last for first, last in runs)
        return _class(runs, self._kind)

    def _at(self, where: Any, flags: int) -> str:
        if where is _constants.AT_BEGINNING and flags & re.MULTILINE:
            return "(?m:^)"
        if where is _constants.AT_END and flags & re.MULTILINE:
            self.opens_ends = True
            self.exact &= not self._crlf
            return "" if self._crlf else "(?m:$)"
        if where in {_constants.AT_BOUNDARY, _constants.AT_NON_BOUNDARY}:
            inside = where is _constants.AT_NON_BOUNDARY
            self.never_empty |= inside
            if inside and self._kind > LATIN1:
                raise NotLinear(r"RE2 finds \B between the bytes of a character")
            if self._kind == ASCII or flags & re.ASCII:
                return r"\B" if inside else r"\b"
            self.exact = False
            return ""
        if where is _constants.AT_BEGINNING_STRING:
            self.crosses = True  # there is one such place in a text, not in each part of it
            return r"\A"
        if where is _constants.AT_END_STRING:
            self.crosses = True
            return r"\z"
        raise NotLinear(str(where))

    def _repeat(self, op: Any, value: Any, flags: int) -> str:
        least, most, inner = value
        endless = most is _constants.MAXREPEAT
        if least > MAX_REPEATS or (not endless and most > MAX_REPEATS):
            raise NotLinear("it counts too far")
        greedy = op is not _constants.MIN_REPEAT and least <= 1 and _prefers_long(inner)
        if most > 1 and _is_nullable(inner) and not greedy:
            raise NotLinear("it repeats what may be nothing")
        self.loops += endless
        before = self.loops
        body = self.sequence(inner, flags)
        self.nests |= most > 1 and self.loops > before
        self.exact &= op is not _constants.POSSESSIVE_REPEAT
        lazy = "?" if op is _constants.MIN_REPEAT else ""
        return f"(?:{body}){{{least},{'' if endless else most}}}{lazy}"


def _is_nullable(tree: Any) -> bool:
    """Tell whether a parsed pattern may match no character."""
    return all(_may_be_empty(op, value) for op, value in tree)


def _may_be_empty(op: Any, value: Any) -> bool:
    if op is _constants.BRANCH:
        return any(map(_is_nullable, value[1]))
    if op is _constants.SUBPATTERN:
        return _is_nullable(value[3])
    if op in _REPEATS:
        return value[0] == 0 or _is_nullable(value[2])
    if op is _constants.ATOMIC_GROUP:
        return _is_nullable(value)
    zero = {_constants.AT, _constants.ASSERT, _constants.ASSERT_NOT}
    zero |= {_constants.GROUPREF, _constants.GROUPREF_EXISTS}
    return op in zero


def _prefers_long(tree: Any) -> bool:
    """Tell whether nothing is matched only where nothing else can be.

    `re` looks for a longer match where it found an empty one, RE2 for the next place.
    """
    for op, value in tree:
        if op is _constants.MIN_REPEAT:
            return False
        if op is _constants.BRANCH and any(map(_is_nullable, value[1][:-1])):
            return False
        if not all(map(_prefers_long, _parts(op, value))):
            return False
    return True


def _is_easy(tree: Any, flags: int) -> bool:
    """Tell whether no two beginnings of a match share more than a few characters.

    So it is where a match begins with a character that its one repeat without a bound does not
    take: ``"[^"]+"``.
    """
    items = list(tree)
    op, first = items[0] if items else (None, 0)
    if op is not _constants.LITERAL or flags & re.IGNORECASE:
        return False
    bounded, endless = True, 0
    for inner, value in items[1:]:
        if inner in {_constants.MAX_REPEAT, _constants.MIN_REPEAT} and len(value[2]) == 1:
            what, given = value[2][0]
            bounded &= what in {_constants.LITERAL, _constants.NOT_LITERAL, _constants.IN}
            if value[1] is _constants.MAXREPEAT and bounded:
                endless += 1
                key = (what, tuple(given) if isinstance(given, list) else given)
                kept = flags & (re.ASCII | re.UNICODE)
                runs = _runs(key, kept, max(LATIN1, _kind_of(first)))
                bounded &= not any(low <= first <= high for low, high in runs)
        else:
            bounded &= inner in {_constants.LITERAL, _constants.NOT_LITERAL, _constants.IN}
    return bounded and endless <= 1


def _kind_of(code: int) -> int:
    return next(kind for kind, most in MOST.items() if code <= most)


def _parts(op: Any, value: Any) -> Iterable[Any]:
    if op is _constants.BRANCH:
        return list(value[1])
    if op is _constants.SUBPATTERN:
        return [value[3]]
    return [value[2]] if op in _REPEATS else []


def _class(runs: Iterable[tuple[int, int]], kind: int) -> str:
    """Write a character class: code points that texts of this kind can hold."""
    shown = [
        _point(first) if first == last else f"{_point(first)}-{_point(last)}"
        for first, last in _writable(runs, kind)
    ]
    if not shown:
        return r"[^\x00-\x{10FFFF}]" if kind > LATIN1 else r"[^\x00-\xFF]"
    return f"[{''.join(shown)}]"


def _point(code: int) -> str:
    return f"\\x{{{code:X}}}"


def _writable(runs: Iterable[tuple[int, int]], kind: int) -> Iterator[tuple[int, int]]:
    """Leave out what no text of the kind holds, and surrogates, which UTF-8 does not have."""
    low, high = SURROGATES
    for first, last in runs:
        end = min(last, MOST[kind])
        if end < low or first > high:
            if first <= end:
                yield first, end
            continue
        if first < low:
            yield first, low - 1
        if end > high:
            yield high + 1, end


@functools.lru_cache(maxsize=500)
def _runs(key: tuple[Any, Any], flags: int, kind: int) -> tuple[tuple[int, int], ...]:
    """Find the code points that one item of a pattern takes, by asking `re` itself."""
    op, value = key
    state = _parser.State()
    state.flags = flags
    item = (op, list(value) if isinstance(value, tuple) else value)
    if op is _constants.LITERAL and kind > LATIN1:
        one = _compiler.compile(_parser.SubPattern(state, [item]), flags)
        return tuple((code, code) for code in _alike(value) if one.match(chr(code)))
    repeat = (_constants.MAX_REPEAT, (1, _constants.MAXREPEAT, _parser.SubPattern(state, [item])))
    several = _compiler.compile(_parser.SubPattern(state, [repeat]), flags)
    spans = (match.span() for match in several.finditer(_every_char(kind)))
    return tuple((start, end - 1) for start, end in spans)


@functools.lru_cache(maxsize=4)
def _every_char(kind: int) -> str:
    return "".join(map(chr, range(MOST[kind] + 1)))


def _alike(code: int) -> list[int]:
    """List what may be the same character in another case; more than there are does no harm."""
    low = _lower(code)
    seeds = {code, low, *_casefix._EXTRA_CASES.get(low, ())}  # noqa: SLF001
    return sorted(seeds.union(*(_capitals().get(_lower(one), ()) for one in seeds)))


def _lower(code: int) -> int:
    low = chr(code).lower()
    return ord(low) if len(low) == 1 else ord(low[0])


@functools.cache
def _capitals() -> dict[int, tuple[int, ...]]:
    """Map small letters to characters whose small form they are."""
    found: dict[int, list[int]] = {}
    for code in range(_LAST_CASED + 1):
        if (low := _lower(code)) != code:
            found.setdefault(low, []).append(code)
    return {low: tuple(codes) for low, codes in found.items()}
