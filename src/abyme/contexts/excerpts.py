"""Text of the input as it is shown to a model, so that it cannot pass for ours.

Invariant: every line of the input begins with ``| `` and holds nothing that commands a
terminal; names stand between quotes, as Python writes them. A page never outgrows its room,
which is measured in `cost`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

LINE_CHARS: Final = 260
_NAME_CHARS: Final = 60
_NAME_TAIL: Final = 34
_KEY_CHARS: Final = 220
_LEAST: Final = 40
"""Less of a line says nothing."""
TAB: Final = "→"
"""Stands for a tab: fields are split at tabs, and blanks would hide them."""
_TABS_SAID: Final = f"; tabs are shown as {TAB}"


class Page:
    """Lines within a room. What does not fit is left out."""

    def __init__(self, room: int) -> None:
        self.lines: list[str] = []
        self._room = room
        self.left = room - cost(_TABS_SAID)

    def add(self, lines: Sequence[str]) -> bool:
        """Add lines, all or none; the first lines always."""
        length = sum(cost(line) + 1 for line in lines)
        if not lines or (self.lines and length > self.left):
            return False
        self.lines += lines
        self.left -= length
        return True

    def text(self) -> str:
        """Join the lines; tabs of the input are made visible and that is said."""
        first, *rest = self.lines
        if any("\t" in line for line in rest):
            first += _TABS_SAID
        return cut("\n".join([first, *rest]).replace("\t", TAB), self._room)


def cost(text: str) -> int:
    """Count characters, one that is not ASCII as three: it takes about as many tokens."""
    return len(text) if text.isascii() else 3 * len(text) - 2 * sum(map(str.isascii, text))


def excerpt(lines: Iterable[str], room: int, most: int, line_chars: int = LINE_CHARS) -> list[str]:
    """Mark lines as the input's, `most` written ones and as many as fit; the last may be cut."""
    shown: list[str] = []
    for line in lines:
        text = f"| {safe(line, line_chars)}".rstrip(" ")
        if text == "|" and (not shown or shown[-1] == "|"):
            continue  # one empty line says as much as five
        if _written(shown) == most:
            break
        if cost(text) + 1 > room:
            if room > _LEAST:
                shown.append(cut(text, room - 1))
            break
        shown.append(text)
        room -= cost(text) + 1
    while shown and shown[-1] == "|":
        shown.pop()
    return shown


def excerpt_of_end(lines: Sequence[str], room: int, most: int) -> list[str]:
    """Mark the last lines as the input's, `most` written ones and as many as fit."""
    shown: list[str] = []
    for line in reversed(lines):
        text = f"| {safe(line)}".rstrip(" ")
        if text == "|" and (not shown or shown[-1] == "|"):
            continue
        if _written(shown) == most or cost(text) + 1 > room:
            break
        shown.append(text)
        room -= cost(text) + 1
    while shown and shown[-1] == "|":
        shown.pop()
    return shown[::-1]


def _written(shown: Sequence[str]) -> int:
    return sum(line != "|" for line in shown)


def listed(names: Sequence[str], room: int) -> list[str]:
    """Mark names out of the input as a line of it, as many as fit."""
    shown, length = [], 14
    for name in names:
        text = safe(name)
        length += cost(text) + 2
        if length > room:
            break
        shown.append(text)
    if not shown:
        return []
    rest = len(names) - len(shown)
    return [f"| {', '.join(shown)}" + (f", {rest:,} more" if rest else "")]


def safe(text: str, chars: int = LINE_CHARS) -> str:
    """Make a line safe to show: nothing that commands a terminal, not too long."""
    text = text.rstrip("\r")
    text = text if len(text) <= chars else f"{text[: chars - 1]}…"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def quoted(name: str) -> str:
    """Write a name between quotes; of a long one how it begins and ends."""
    if len(name) > _NAME_CHARS:
        name = f"{name[: _NAME_CHARS - _NAME_TAIL - 1]}…{name[-_NAME_TAIL:]}"
    written = repr(name)
    return written if len(written) <= 2 * _NAME_CHARS else f"{written[: 2 * _NAME_CHARS]}…'"


def key(name: str, document: int) -> str:
    """Write how code gets at a document."""
    written = repr(name) if len(name) <= _KEY_CHARS else ""
    if 0 < len(written) <= _KEY_CHARS:
        return f"context[{written}]"
    return f"context[list(context)[{document}]], its name ends {name[-40:]!r}"


def cut(text: str, room: int) -> str:
    """Shorten to `room`, and show that."""
    if cost(text) <= room:
        return text
    while text and cost(text) + 3 > room:
        text = text[: min(len(text) - 1, len(text) * room // cost(text))]
    return f"{text}…"


def number_of(number: int, noun: str) -> str:
    """Write ``1 line``, ``2 lines``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
