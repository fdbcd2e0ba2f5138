"""What confined readers make of a file, item by item: the loader's way to every format.

Decides which helper reads what: one process a reader, started when the first file needs it, kept
for the next ones, ended when it did not keep its rules. It never looks at the file itself, and
believes nothing that it is told of it: names are bounded, texts are UTF-8 or the file is
unreadable, pages rise within their text, and everything together stays within `ReadLimits`.

Does not choose readers (`kinds`), place items in a context or make their names unique (`load`).
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from abyme.contexts.kinds import Kind
from abyme.helpers.emit import Unreadable

__all__ = [
    "DocumentItem",
    "Item",
    "MemberItem",
    "ReadLimits",
    "Readers",
    "SkippedItem",
    "Unreadable",
]


@dataclass(frozen=True, slots=True)
class DocumentItem:
    """A text of the file. `name` is relative to the file; ``""`` is the file itself."""

    name: str
    text: str
    media: str
    pages: tuple[int, ...] = ()
    page_word: str = "page"
    table: bytes | None = None
    """The same rows as an Arrow IPC file, as the reader says; nobody has looked into it."""
    note: str | None = None


@dataclass(frozen=True, slots=True)
class MemberItem:
    """A file that lies in the file. Its bytes can be taken until the next item is asked for."""

    name: str
    data: Iterator[bytes]
    """Pieces of up to 1 MB. Raises Unreadable if the file breaks off or goes beyond a limit."""
    size_bytes: int | None = None
    """As the container says; not checked."""


@dataclass(frozen=True, slots=True)
class SkippedItem:
    """Something that was met and cannot be read."""

    name: str
    reason: str


Item: TypeAlias = DocumentItem | MemberItem | SkippedItem


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What reading one file may take. Beyond any of them it is Unreadable, with what is said."""

    cpu_s: int = 60
    wall_s: float = 300.0
    """Without the time that whoever takes the items needs."""
    memory_bytes: int = 1 << 30
    out_bytes: int = 4 << 30
    """Of all texts, tables and members together."""
    items: int = 200_000


class Readers:
    """Readers of a load, to be used from any thread; `close` ends their processes."""

    def __init__(self, limits: ReadLimits | None = None) -> None:
        self._limits = limits or ReadLimits()
        self._lock = threading.Lock()

    def open(
        self, fd: int, kind: Kind, name: str, limits: ReadLimits | None = None
    ) -> Iterator[Item]:
        """Read the file behind a descriptor, which stays the caller's; `name` helps some readers.

        A generator: close it (or let it end) before the descriptor is closed.

        Raises:
            Unreadable: the file cannot be read, or no further than the items that were given.
            HelperUnavailable: nothing can be read by helpers on this system.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End all readers. Safe to repeat."""

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.close()
