"""Which names of the model's a cell has made or changed.

Decides what counts as a change. A name that is new or of another type or size is seen always.
Of names that the cell's source mentions, or a function that the source mentions does, the
content is compared, so that a cell pays for what it touches: ``counts["a"] += 1`` is a change,
and the same value over again is none, whatever its address. Of other names, and of what is
beyond a digest, the address counts. Not seen is a change of the same size through
another name of the same object. Data comes first, then functions and classes, then what is not
worth showing (`asides`). Runs no code of the model's.
"""

import ast
import re
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

from abyme.guest.asides import bound
from abyme.guest.cell import Namespace, size_of, type_name, visible
from abyme.guest.digest import PARTLY, Room, digest

MAX_NAMES: Final = 100
MAX_NAME_CHARS: Final = 100
MAX_MENTIONED: Final = 1_000
MAX_SOURCE_CHARS: Final = 100_000
WORD: Final = re.compile(r"[^\W\d]\w*")

CODE: Final = frozenset({"class", "function", "builtin_function_or_method", "method", "Function"})

Row = dict[str, str | int | bool | None]


class _Name(NamedTuple):
    name: str
    kind: str
    size: int | None
    value: Any


class Watch:
    """The names before a cell; asked after it."""

    def __init__(self, namespace: Namespace, engine: Collection[str], source: str) -> None:
        self._namespace = namespace
        self._engine = engine
        self._before = dict(self._prints())
        self._inside: dict[str, str | None] = {}
        """Digests of the names that the cell may change inside."""
        if not self._before:
            return
        words, room = mentioned(source, namespace), glance(3_000)
        for name in self._before:
            if name in words:
                self._inside[name] = digest(namespace.get(name), room)

    def changed(self, tree: ast.Module | None = None) -> list[Row]:
        """List what is new or changed: data, code, asides, each in the order of the namespace.

        `tree` is the cell's source, by which asides are known.
        """
        full, found = Room(), list(self._differing())
        asides = bound(tree if found else None)
        rows = [
            (asides.is_aside(one.name, one.value), one.kind in CODE, number, one)
            for number, one in enumerate(found)
        ]
        rows.sort(key=lambda row: (*row[:2], -row[2]))  # the last ones stay, if it is too many
        return [
            {
                "name": one.name[:MAX_NAME_CHARS],
                "type": one.kind,
                "size": one.size,
                "digest": digest(one.value, full),
                "aside": aside,
            }
            for aside, _, _, one in sorted(rows[:MAX_NAMES], key=lambda row: row[:3])
        ]

    def _differing(self) -> Iterator["_Name"]:
        room = glance(6_000)
        for name, (number, kind, size) in self._prints():
            value = self._namespace.get(name)
            before = self._before.get(name)
            if before and before[1:] == (kind, size):
                moved, inside = before[0] != number, self._inside.get(name)
                now = digest(value, room) if inside else None
                if (inside == now or not now) and not (moved and _leaves_doubt(now)):
                    continue
            yield _Name(name, kind, size, value)

    def _prints(self) -> Iterator[tuple[str, tuple[int, str, int | None]]]:
        for name, value in visible(self._namespace, self._engine):
            yield name, (id(value), type_name(value), size_of(value))


def glance(nodes: int) -> Room:
    """Give the room for telling whether a value has changed inside, which each cell pays for."""
    return Room(each_nodes=1_000, each_bytes=32 << 10, nodes=nodes, bytes=nodes << 5)


def _leaves_doubt(digest_: str | None) -> bool:
    return digest_ is None or digest_.endswith(PARTLY)


def mentioned(source: str, namespace: Namespace) -> set[str]:
    """Find the words of a cell's source, and the names that functions among them use."""
    words = set(WORD.findall(source, 0, MAX_SOURCE_CHARS))
    todo = list(words)
    while todo and len(words) < MAX_MENTIONED:
        value = namespace.get(todo.pop())
        if type(value) is FunctionType:
            fresh = set(_used(value.__code__)) - words
            words |= fresh
            todo += fresh
    return words


def _used(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for one in code.co_consts:
        if type(one) is CodeType:
            yield from _used(one)
