"""What a value is, in one word: so that a cell that is run again can be compared with the first.

Decides how a value is looked at and how far. Builtin types are walked by their content, sets
without regard to order; an instance of a class of the model's by its class's name
and its fields; a function by its code, defaults and closure; of anything else there is no
digest. Invariant: no code of the model's runs. So types are told apart by `is` and `id`
(a metaclass may compare and hash), content is read by the builtin types' own slots, and
fields by the descriptors that the interpreter has put into the class.

Bounded: of what does not fit, or cannot be seen, only size or type counts, and the digest
ends in `PARTLY`: two values that differ there may have one digest. The bound of a value
does not depend on what was looked at before it: equal values have equal digests. Not comparable
between versions of Python. Holds no values.
"""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from hashlib import blake2b
from itertools import chain, islice
from marshal import dumps
from struct import pack
from types import CellType, CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

MAX_DEPTH: Final = 30
MAX_ATTRIBUTES: Final = 1_000
"""Of one class that are looked through for fields."""
DIGEST_BYTES: Final = 8
PARTLY: Final = "+"
PLAIN_FORMAT: Final = 2
"""Of `marshal`: the last one that does not depend on how often an object is referred to."""
CHEAP_BYTES: Final = 8
LEAST_NODES: Final = 4
"""For a member of a set; with less of each there is little to compare."""
OWN_MODULES: Final = (
    "__main__",
    "abyme.guest.places",
    "abyme.guest.calls",
    "abyme.guest.mapped",
    "abyme.guest.chunks",
)

_each, _size = frozenset.__iter__, frozenset.__len__  # a cell may have rebound `frozenset`
type_name: Final = type.__dict__["__name__"].__get__
lineage: Final = type.__dict__["__mro__"].__get__
attributes: Final = type.__dict__["__dict__"].__get__

Fields = tuple[tuple[str, Any], ...]


@dataclass(slots=True)
class Room:
    """What digests that are taken at one time may look at."""

    each_nodes: int = 2_000
    each_bytes: int = 64 << 10
    nodes: int = 8_000
    """Of all together, about: the last one is whole."""
    bytes: int = 256 << 10


class Opaque(Exception):
    """There is nothing in this value that could be compared."""


def digest(value: object, room: Room) -> str | None:
    """Give the digest of a value; None if there is nothing to be compared, or no room."""
    if room.nodes <= 0 or room.bytes <= 0:
        return None
    walk = _Walk(room.each_nodes, room.each_bytes, {})
    try:
        walk.value(value)
    except Exception:  # Opaque; or a thread has changed it meanwhile; or the stack is used up
        return None
    finally:
        room.nodes -= room.each_nodes - walk.nodes
        room.bytes -= room.each_bytes - walk.size
    return walk.result().hex() + (PARTLY if walk.partly else "")


class _Walk:
    """Looks at one value."""

    def __init__(self, nodes: int, size: int, classes: dict[int, Fields | None]) -> None:
        self.nodes = nodes
        self.size = size
        self.partly = False
        """Something was not looked at."""
        self._classes = classes
        """Fields of the classes met so far, by id."""
        self._parts: list[bytes] = []
        self._above: list[int] = []
        """Ids of the containers around the value that is looked at."""

    def result(self) -> bytes:
        return blake2b(b"".join(self._parts), digest_size=DIGEST_BYTES).digest()

    def value(self, value: Any) -> None:
        """Add a value.

        Raises:
            Opaque: it is the outermost one, and nothing in it could be compared.
        """
        self.nodes -= 1
        if self.nodes < 0 or self.size < 0:
            self.partly = True
            return
        kind = type(value)
        leaf = LEAVES.get(id(kind))
        if leaf is not None:
            leaf(self, value)
        elif id(value) in self._above:
            self.add(b"^%d" % self._above.index(id(value)))
        elif len(self._above) >= MAX_DEPTH:
            self.partly = True
        else:
            self._above.append(id(value))
            inner = INNER.get(id(kind))
            if inner is not None:
                self.add(type_name(kind).encode())
                inner(self, value)
            else:
                self._instance(value, kind)
            self._above.pop()

    def add(self, data: bytes) -> None:
        self._parts.append(data + b";")
        self.size -= len(data) + 1

    def text(self, value: str) -> None:
        head, tail = self._ends(len(value))
        text = value if tail is None else value[:head] + value[tail:]
        self.add(b"s%d:" % len(value) + text.encode("utf-8", "surrogatepass"))

    def data(self, value: bytes | bytearray) -> None:
        head, tail = self._ends(len(value))
        data = value if tail is None else value[:head] + value[tail:]
        self.add(b"b%d:" % len(value) + data)

    def whole(self, value: int) -> None:
        if (bits := value.bit_length()) <= 8 * max(0, self.size):
            self.add(b"i%x" % value)
        else:
            self.partly = True
            self.add(b"I%d:%x" % (bits, int.__hash__(value)))

    def items(self, value: Iterable[Any], size: int) -> None:
        """Add what is in a container of `size`, in its order."""
        self.add(b"[%d" % size)
        items = list(islice(value, max(0, self.nodes)))
        if items and id(type(items[0])) in ROWS:  # of a long table some rows, and these whole
            del items[max(1, self.nodes // (1 + 2 * len(items[0]))) :]
        self.partly |= len(items) < size
        if self._take_plain(items):
            self.add(dumps(items, PLAIN_FORMAT))
            return
        for item in items:
            self.value(item)

    def pairs(self, value: dict[Any, Any]) -> None:
        """Add keys, then values."""
        size = dict.__len__(value)
        some = min(size, max(0, self.nodes) // 2)  # values count as much as keys
        self.items(islice(dict.keys(value), some), size)
        self.items(islice(dict.values(value), some), size)

    def members(self, value: Iterable[Any], size: int) -> None:
        """Add what is in a set. Each member has the same room, or the order would count."""
        self.add(b"{%d" % size)
        if size > self.nodes:
            self.partly = True
            return
        items = list(value)
        if self._take_plain(items):
            self.add(dumps(set(items), PLAIN_FORMAT))  # ordered by what its members are
            return
        if size * LEAST_NODES > self.nodes:
            self.partly = True
            return
        nodes, room, found = self.nodes // size, self.size // size, []
        for item in items:
            one = _Walk(nodes, room, self._classes)
            one._above = self._above
            one.value(item)
            self.nodes -= nodes - one.nodes
            self.size -= room - one.size
            self.partly |= one.partly
            found.append(one.result())
        self.add(b"".join(sorted(found)))

    def ordered(self, value: OrderedDict[Any, Any]) -> None:
        self.partly = True  # its order cannot be read without asking its keys for their hash
        self.pairs(value)

    def queue(self, value: deque[Any]) -> None:
        self.value(value.maxlen)
        self.items(deque.__iter__(value), deque.__len__(value))

    def span(self, value: range) -> None:
        self.items((value.start, value.stop, value.step), 3)

    def function(self, value: FunctionType) -> None:
        self._code(value.__code__)
        for more in (value.__defaults__, value.__kwdefaults__, value.__closure__):
            self.value(more)

    def _code(self, code: CodeType) -> None:
        self.data(code.co_code)
        self.value(code.co_names)
        for one in code.co_consts:
            if type(one) is CodeType:
                self._code(one)
            else:
                self.value(one)

    def cell(self, value: CellType) -> None:
        try:
            held = value.cell_contents
        except ValueError:  # not bound yet
            return
        self.value(held)

    def _instance(self, value: Any, kind: type) -> None:
        """Add an object of a class: what is under it of a builtin's, then its fields."""
        self.add(b"%" + type_name(kind).encode("utf-8", "surrogatepass"))
        fields, under = self._fields(kind), None
        for base in lineage(kind):
            under = under or BASES.get(id(base))
        if under is not None:
            under(self, value)
        elif fields is None and len(self._above) == 1:
            raise Opaque
        self.partly |= fields is None
        for name, descriptor in fields or ():
            try:
                held = descriptor.__get__(value)
            except AttributeError:  # a slot that is empty
                continue
            self.add(name.encode("utf-8", "surrogatepass"))
            self.value(held)

    def _fields(self, kind: type) -> Fields | None:
        if id(kind) not in self._classes:
            self._classes[id(kind)] = _fields(kind)
        return self._classes[id(kind)]

    def _take_plain(self, items: list[Any]) -> bool:
        """Take the room for values that are plain, or rows of such, and fit all together."""
        flat, nodes = items, len(items)
        reads = [ROWS.get(id(type(item))) for item in items]
        if items and None not in reads:
            inside = (read(item) for read, item in zip(reads, items, strict=True) if read)
            flat = list(islice(chain.from_iterable(inside), max(0, self.nodes) + 1))
            nodes += len(flat)
        weight = _weight(flat) if nodes <= self.nodes else None
        if weight is None or weight > self.size:
            return False
        self.nodes -= nodes
        return True

    def _ends(self, size: int) -> tuple[int, int | None]:
        """Tell what to keep of a long text: up to the first number, and from the second one."""
        room = max(0, self.size)
        if size <= room:
            return size, None
        self.partly = True
        return room // 2, size - room // 4


def _weight(items: list[Any]) -> int | None:
    """Tell about how many bytes plain values are; None if one of them is not plain."""
    total = 0
    for item in items:
        kind = type(item)
        if kind is str:
            total += len(item)
        elif kind is int:
            total += CHEAP_BYTES + (item.bit_length() >> 3)
        elif kind is float or kind is bool or item is None:
            total += CHEAP_BYTES
        else:
            return None
    return total


def _fields(kind: type) -> Fields | None:
    """Find what a class of the model's (or of the engine's) keeps in its objects."""
    if not _is_own(kind) or any(one is type for one in lineage(kind)):
        return None
    found: list[tuple[str, Any]] = []
    for one in lineage(kind):
        for name, descriptor in islice(attributes(one).items(), MAX_ATTRIBUTES):
            if type(name) is not str:
                continue
            slot = type(descriptor) is MemberDescriptorType
            if slot or (name == "__dict__" and type(descriptor) is GetSetDescriptorType):
                found.append((name, descriptor))
    return tuple(found)


def _is_own(kind: type) -> bool:
    for name, value in islice(attributes(kind).items(), MAX_ATTRIBUTES):
        if type(name) is str and name == "__module__":
            return type(value) is str and value in OWN_MODULES
    return False


def _reduced(kind: type) -> Callable[[_Walk, Any], None]:
    """Read a date or time as `pickle` does: bytes, and a time zone that is not asked anything."""
    reduce = kind.__dict__["__reduce__"]

    def write(walk: _Walk, value: Any) -> None:
        walk.add(kind.__name__.encode())
        for part in reduce(value)[1]:
            walk.value(part)

    return write


def _zone(walk: _Walk, value: timezone) -> None:
    walk.add(b"timezone")
    for part in timezone.__getinitargs__(value):  # type: ignore[attr-defined]
        walk.value(part)


ROWS: Final[dict[int, Callable[[Any], Iterable[Any]]]] = {
    id(list): list.__iter__,
    id(tuple): tuple.__iter__,
    id(dict): lambda value: chain(dict.keys(value), dict.values(value)),
}

LEAVES: Final[dict[int, Callable[[_Walk, Any], None]]] = {
    id(kind): write
    for kind, write in (
        (type(None), lambda walk, _: walk.add(b"N")),
        (type(...), lambda walk, _: walk.add(b"E")),
        (type(NotImplemented), lambda walk, _: walk.add(b"?")),
        (bool, lambda walk, value: walk.add(b"T" if value else b"F")),
        (int, _Walk.whole),
        (float, lambda walk, value: walk.add(b"f" + pack("<d", value))),
        (complex, lambda walk, value: walk.add(b"c" + pack("<dd", value.real, value.imag))),
        (str, _Walk.text),
        (bytes, _Walk.data),
        (bytearray, _Walk.data),
        (date, _reduced(date)),
        (datetime, _reduced(datetime)),
        (time, _reduced(time)),
        (timedelta, _reduced(timedelta)),
        (timezone, _zone),
    )
}
"""By the id of the type: what to do with a value that holds no others."""

BASES: Final[dict[int, Callable[[_Walk, Any], None]]] = {
    id(kind): write
    for kind, write in (
        (int, lambda walk, value: walk.whole(int.__pos__(value))),
        (str, lambda walk, value: walk.text(str.__str__(value))),
        (list, lambda walk, value: walk.items(list.__iter__(value), list.__len__(value))),
        (tuple, lambda walk, value: walk.items(tuple.__iter__(value), tuple.__len__(value))),
        (set, lambda walk, value: walk.members(set.__iter__(value), set.__len__(value))),
        (frozenset, lambda walk, value: walk.members(_each(value), _size(value))),
        (dict, _Walk.pairs),
    )
}
"""By the id of a builtin type: how to read it, also under a class that is made from it."""

INNER: Final[dict[int, Callable[[_Walk, Any], None]]] = {
    **{id(kind): BASES[id(kind)] for kind in (list, tuple, set, frozenset, dict)},
    **{id(kind): _Walk.pairs for kind in (Counter, defaultdict)},
    id(OrderedDict): _Walk.ordered,
    id(deque): _Walk.queue,
    id(range): _Walk.span,
    id(FunctionType): _Walk.function,
    id(CellType): _Walk.cell,
}
"""By the id of the type: what to do with a value that holds others."""
