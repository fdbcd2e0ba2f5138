"""Whether the host is asked to look for a pattern, and what it says.

Decides who looks: `str.find` for a plain word, `re` here where there is little text and no
harm in it, RE2 on the host's side else. Invariant: whoever looked, the same is found; where
nobody answers the outcome is None. Does not make hits.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from abyme.guest.linear import Linear, NotLinear
from abyme.guest.patterns import Pattern
from abyme.layout import ASCII

ASKED_CHARS: Final = 1_000_000
"""Below this `re` is done before a helper has started."""
LONG_LINE: Final = 10_000
HARMLESS_CHARS: Final = 50_000
"""One repeat without a bound over so few takes `re` a second at most."""
MAX_PATTERN_CHARS: Final = 20_000
MAX_RANGES: Final = 100_000
MAX_PLACES: Final = 200_000
"""In one answer."""
MAX_FLAGS: Final = 1 << 16

Ask = Callable[[dict[str, Any]], dict[str, Any] | None]


class Line(NamedTuple):
    """A line that was found."""

    number: int
    """Of its document."""
    begin: int
    stop: int
    """Where its end stands."""
    start: int
    end: int
    """The match."""
    line: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the host has found."""

    lines: Iterable[Line]
    complete: bool
    """There are no others, unless more were found than asked for."""
    crossed: bool
    """Matches went over a line's end."""


class Asked:
    """The way to the host."""

    def __init__(
        self, chars: Sequence[int], text_of: Callable[[int], str], ask: Ask | None = None
    ) -> None:
        """`chars`: of every text."""
        self._chars = chars
        self._total = sum(chars)
        self._text_of = text_of
        self._ask = ask
        self._long: dict[int, bool] = {}

    def lines(self, pattern: Pattern, numbers: Sequence[int], most: int | None) -> Answer | None:
        """Find lines, the first `most`; None: the host does not."""
        if most is not None and (not isinstance(most, int) or most < 0):
            return None
        limit = MAX_PLACES if most is None else min(most, MAX_PLACES)
        sought = self._sought(pattern, numbers, limit=limit)
        if sought is None:
            return None
        places = sought["places"]
        enough = most is not None and len(places) >= most
        lines: Iterator[Line] = (Line(*place) for place in places)
        return Answer(lines, enough or sought["complete"], sought["crossed"])

    def count(self, pattern: Pattern, numbers: Sequence[int]) -> int | None:
        """Count matches; None: the host does not."""
        sought = self._sought(pattern, numbers, count=True)
        return None if sought is None else int(sought["total"])

    def _sought(
        self, pattern: Pattern, numbers: Sequence[int], **more: Any
    ) -> dict[str, Any] | None:
        if self._ask is None or not self._is_worth_it(pattern, numbers):
            return None
        every = len(numbers) == len(self._chars)
        runs = None if every else ranges_of(numbers)
        if runs is not None and len(runs) > MAX_RANGES:
            return None
        wanted = {"type": "grep", "pattern": pattern.given, "flags": pattern.flags}
        sought = self._ask({**wanted, "documents": runs, **more})
        if sought is None:
            return None
        return {"places": [], "total": 0, "complete": True, "crossed": False, **sought}

    def _is_worth_it(self, pattern: Pattern, numbers: Sequence[int]) -> bool:
        if pattern.literal is not None or not _can_travel(pattern):
            return False
        every = len(numbers) == len(self._chars)
        chars = self._total if every else sum(map(self._chars.__getitem__, numbers))
        try:
            linear = Linear.of(pattern.tree, pattern.flags, ASCII)
        except NotLinear:
            return False
        if chars >= ASKED_CHARS or linear.nests:
            return True
        if not linear.loops or (chars < HARMLESS_CHARS and linear.loops == 1):
            return False
        return any(map(self._has_long_line, numbers))

    def _has_long_line(self, number: int) -> bool:
        known = self._long.get(number)
        if known is None:
            known = self._chars[number] > LONG_LINE and has_long_line(self._text_of(number))
            self._long[number] = known
        return known


def has_long_line(text: str) -> bool:
    """Tell whether a line may be long, reading little of it."""
    at = 0
    while at + LONG_LINE < len(text):
        end = text.rfind("\n", at, at + LONG_LINE)
        if end < 0:
            return True
        at = end + 1
    return False


def _can_travel(pattern: Pattern) -> bool:
    given = pattern.given
    if len(given) > MAX_PATTERN_CHARS or not 0 <= pattern.flags < MAX_FLAGS:
        return False
    return given.isascii() or not any("\ud800" <= char <= "\udfff" for char in given)


def ranges_of(numbers: Sequence[int]) -> list[int]:
    """Give rising numbers as stretches: the first and the one behind the last of each."""
    if isinstance(numbers, range) and numbers.step == 1:
        return [numbers.start, numbers.stop] if numbers else []
    found: list[int] = []
    for number in numbers:
        if found and found[-1] == number:
            found[-1] += 1
        else:
            found += (number, number + 1)
    return found
