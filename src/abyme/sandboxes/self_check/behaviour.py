"""An entry of the list that every sandbox passes: a cell, and what must come of it.

Decides how a cell says what it found. A check of semantics prints `HELD` if Python behaves as it
should. An attack tries for its goal and prints `HELD` if it was refused, or `HOLE` and what it got.
Whatever else comes of it, an entry that says neither is broken and proves nothing; it may be
ended by force only in the ways of `ends`.

Code may hold placeholders, filled by `str.replace`: ``{dir}`` a folder of the host with a file
``canary`` in it, ``{canary}`` that file's text, ``{pid}`` a process of the same user, ``{port}`` a
port of 127.0.0.1 that somebody listens on, ``{abstract}`` the name of an abstract unix socket.
"""

from dataclasses import dataclass
from typing import Final, Literal

HELD: Final = "held"
HOLE: Final = "HOLE"

Need = Literal["fork", "threads", "ctypes", "snapshots", "context_map", "mseal"]
"""What a tier or host must have for an entry to mean anything; else it is passed over, and said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One entry."""

    id: str
    """Class and name, as in ``file.read``; never changed once published."""
    sentence: str
    """What holds, for a reader."""
    source: str
    """Manual page, CVE, or section of the design that it comes from."""
    cells: tuple[str, ...]
    """Run one after the other in a REPL of their own; the last one prints the verdict."""
    ends: tuple[str, ...] = ()
    """What may end the last cell instead: beginnings of `CellFinished.limit`."""
    needs: frozenset[Need] = frozenset()
