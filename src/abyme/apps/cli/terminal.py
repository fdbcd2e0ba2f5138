"""The two streams of a command, and what may be written to them.

Decides: colours only on a terminal that wants them (`NO_COLOR`, ``TERM=dumb``); a live
display only on one that can be redrawn. Invariant: no text, however broken, makes
writing fail, because what the stream's encoding lacks is written as an escape; and no
word beside the answer does, because what cannot be written there is left out.
Does not decide what is said.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from abyme.apps.cli.streams import give_up
from abyme.apps.safe_text import safe
from abyme.apps.tree import Line, Style

_SGR: Mapping[Style, str] = {
    "dim": "2",
    "bold": "1",
    "good": "32",
    "bad": "31",
    "warn": "33",
    "accent": "36",
}


WIDTH, HEIGHT = 100, 24
"""Of a terminal that does not say."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """One text stream, and whether somebody looks at it."""

    stream: TextIO
    tty: bool
    colour: bool
    redrawable: bool
    optional: bool = False
    """What is written here may be lost without harm."""

    @property
    def width(self) -> int:
        """Columns; 100 where nobody looks."""
        return self._size().columns if self.tty else WIDTH

    @property
    def height(self) -> int:
        """Rows."""
        return self._size().lines

    def _size(self) -> os.terminal_size:
        """Ask the stream itself: the other one may be a pipe."""
        try:
            size = os.get_terminal_size(self.stream.fileno())
        except OSError:
            size = os.terminal_size((0, 0))
        told = shutil.get_terminal_size((WIDTH, HEIGHT))
        return os.terminal_size((size.columns or told.columns, size.lines or told.lines))

    def write(self, text: str) -> None:
        """Write text as it is, but for what the encoding lacks."""
        encoding = self.stream.encoding or "utf-8"
        try:
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.stream.flush()
        except OSError:
            if not self.optional:
                raise
            give_up(self.stream)

    def say(self, text: str) -> None:
        """Write a line or more that is safe to look at."""
        self.write(safe(text) + "\n")

    def data(self, text: str) -> None:
        """Write an answer: untouched for a program, safe for a reader."""
        self.write((safe(text) if self.tty else text) + "\n")

    def line(self, line: Line) -> None:
        """Write a styled line; its pieces are safe already."""
        self.write("".join(self._paint(text, style) for text, style in line) + "\n")

    def _paint(self, text: str, style: Style) -> str:
        if not (self.colour and style and text):
            return text
        return f"\x1b[{_SGR[style]}m{text}\x1b[0m"


def terminal(
    stream: TextIO, env: Mapping[str, str] | None = None, *, optional: bool = False
) -> Terminal:
    """Look at a stream once."""
    env = os.environ if env is None else env
    tty = _is_tty(stream)
    clever = env.get("TERM", "") not in {"", "dumb"}
    unicode = (stream.encoding or "").lower().replace("-", "") == "utf8"
    return Terminal(
        stream,
        tty=tty,
        colour=tty and clever and not env.get("NO_COLOR"),
        redrawable=tty and clever and unicode,
        optional=optional,
    )


def out() -> Terminal:
    """Where answers go."""
    return terminal(sys.stdout)


def err() -> Terminal:
    """Where everything else goes."""
    return terminal(sys.stderr, optional=True)


def _is_tty(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False
