"""A sealed context as ordinary Python objects, beside model-written code.

Decides which texts become a `str` without a copy: the `MAX_MAPS` largest of
those that `layout` put on a page of their own, and of stretches as large. An adopted
text is the header of a `str` at the end of a private page, and right behind it the
read-only shared map of the arena. Of a stretch the characters before its first whole
page and behind its last are copied, into the private page in front and into one
behind; its header must lie at a multiple of 8, and it must need the width that its document
has, because a `str` that is wider than its characters equals no other. CPython never
writes to the characters of a `str` that others refer to, and the kernel would not let
it. All other texts become a `str` each time they are touched, by a copy.

Invariant: no adoption before `_self_test` has passed in this process; where it
does not pass, or the kernel refuses the maps, texts are copied and `notes` says so.
Does not keep a cell from tampering with its own view: headers are writable and
only rewritten between cells (`View.restore`). The host believes no view.
"""

import ctypes
import mmap
import os
import sys
import sysconfig
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from abyme.guest.view import ContextView
from abyme.layout import (
    ADOPT_BYTES,
    ASCII,
    LATIN1,
    PAGE,
    UCS2,
    UCS4,
    WIDTH,
    Entry,
    Index,
    read_index,
)

MAX_MAPS: Final = 60
"""A fork copies one area for each map: 0.25 ms with 10 of them, 4.4 ms with 1,790."""

PYTHONS: Final = ((3, 11), (3, 12), (3, 13))
"""Releases whose `str` header is known to be as `_Header` reads it."""

_SAMPLES: Final = {ASCII: "a", LATIN1: "\xe9", UCS2: "\u4e00", UCS4: "\U0001f600"}
_LENGTH_AT, _HASH_AT, _STATE_AT, _CACHES_AT = 16, 24, 32, 40
"""Behind the state word are pointers to other forms of the text: wide characters (3.11; for
UCS-4 the text itself), UTF-8. None is cached."""
_INTERNED_BITS: Final = 3
_ALIGN: Final = 8
"""Of an object in memory, as the C structures of its header need it."""
_PROBE_BYTES: Final = 1 << 18
_NARROWER: Final = {LATIN1: 0x7F, UCS2: 0xFF, UCS4: 0xFFFF}
"""The widest character that a text of less width may hold."""
_MORTAL_REFERENCES: Final = 1 << 60


class NotAdoptable(Exception):
    """Texts cannot be adopted here; the message says why."""


class Kernel(Protocol):
    """What is needed of libc, as a seam for tests."""

    def reserve(self, size_bytes: int) -> int:
        """Private zeroed memory; its address."""
        ...

    def share(self, address: int, size_bytes: int, fd: int, offset: int) -> int:
        """Map a descriptor read-only; at `address` if it is not 0."""
        ...


class Libc:
    """`mmap` by address, which the `mmap` module does not give."""

    def __init__(self) -> None:
        self._mmap = ctypes.CDLL(None, use_errno=True).mmap
        self._mmap.restype = ctypes.c_void_p
        self._mmap.argtypes = [
            *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
            *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
        ]

    def reserve(self, size_bytes: int) -> int:
        """Private zeroed memory; its address."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        return self._call(0, size_bytes, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)

    def share(self, address: int, size_bytes: int, fd: int, offset: int) -> int:
        """Map a descriptor read-only; at `address` if it is not 0."""
        flags = mmap.MAP_SHARED | (0x10 if address else 0)  # MAP_FIXED, into what we reserved
        return self._call(address, size_bytes, mmap.PROT_READ, flags, fd, offset)

    def _call(self, *arguments: int) -> int:
        address = self._mmap(*arguments)
        if address in (None, ctypes.c_void_p(-1).value):
            number = ctypes.get_errno()
            raise OSError(number, f"mmap: {os.strerror(number)}")
        return int(address)


class Headers:
    """Headers of `str` objects, copied from living ones so that they follow this CPython.

    Raises:
        NotAdoptable: if the layout is not the one that is known.
    """

    def __init__(self) -> None:
        if sys.implementation.name != "cpython" or sys.version_info[:2] not in PYTHONS:
            raise NotAdoptable(f"unknown string layout of {sys.implementation.name} {sys.version}")
        if sysconfig.get_config_var("Py_GIL_DISABLED") or hasattr(sys, "gettotalrefcount"):
            raise NotAdoptable("unknown string layout of a free-threaded or debug build")
        if sys.byteorder != "little" or sys.maxsize != (1 << 63) - 1:
            raise NotAdoptable("strings are adopted on 64-bit little-endian machines only")
        self._templates = {kind: self._template(kind) for kind in _SAMPLES}

    def of(self, entry: Entry) -> bytes:
        """Make the header of a compact `str` of that kind and length, immortal and not hashed."""
        header = bytearray(self._templates[entry.kind])
        if sys.version_info >= (3, 12):
            references = ctypes.c_ssize_t.from_address(id(None)).value
        else:
            references = _MORTAL_REFERENCES
        header[0:8] = references.to_bytes(8, "little")
        header[_LENGTH_AT : _LENGTH_AT + 8] = entry.chars.to_bytes(8, "little")
        header[_HASH_AT : _HASH_AT + 8] = b"\xff" * 8
        header[_CACHES_AT:] = bytes(len(header) - _CACHES_AT)
        return bytes(header)

    @staticmethod
    def _template(kind: int) -> bytes:
        length = 61
        living = _SAMPLES[kind] * length  # made here: a literal could carry a cached UTF-8 copy
        size = sys.getsizeof(living) - (length + 1) * WIDTH[kind]
        header = ctypes.string_at(id(living), size)
        fields = [int.from_bytes(header[at : at + 8], "little") for at in (8, _LENGTH_AT)]
        if fields != [id(str), length] or not 40 <= size <= 72:
            raise NotAdoptable("a str of this interpreter does not have the known header")
        return header


class Arena:
    """The texts of one context in this process."""

    def __init__(self, index: Index, arena_fd: int, kernel: Kernel) -> None:
        self.maps: list[tuple[int, int]] = []
        self.notes: list[str] = []
        self._index = index
        self._adopted: dict[int, str] = {}
        self._pristine: list[tuple[int, bytes]] = []
        self._edges: list[tuple[int, bytes]] = []
        """Characters of stretches that lie in private pages."""
        self._make = _maker()
        sizes = index.sizes
        large = [number for number, size in enumerate(sizes) if size >= ADOPT_BYTES]
        large.sort(key=lambda number: -sizes[number])
        try:
            headers = Headers()
            _self_test(headers, kernel)
            for number in large:
                if len(self._adopted) == MAX_MAPS:
                    break
                if self._is_adoptable(index[number], arena_fd):
                    self._adopt(number, arena_fd, headers, kernel)
        except (NotAdoptable, OSError) as error:
            if large:
                self.notes.append(f"large texts are copied, not shared: {error}")
        self._base = 0
        """Where the arena would begin in memory, were all of it mapped."""
        others = [number for number in range(len(index)) if number not in self._adopted]
        if others or index.extras.tables:
            self._base = self._map(others, arena_fd, kernel)

    def text(self, number: int) -> str:
        """One text; the very same object only if it is adopted."""
        adopted = self._adopted.get(number)
        if adopted is not None:
            return adopted
        entry = self._index[number]
        return self._make(WIDTH[entry.kind], self._base + entry.offset, entry.chars)

    def blob(self, number: int) -> memoryview | None:
        """Look at the table beside a text, where it lies; read-only."""
        place = self._index.extras.tables.get(number)
        if place is None:
            return None
        offset, size = place
        area = (ctypes.c_char * size).from_address(self._base + offset)
        return memoryview(area).cast("B").toreadonly()

    def restore(self) -> None:
        """Rewrite the headers of adopted texts, should a cell have changed them.

        The bits that say a `str` is interned stay as they are: the interpreter's
        own table of interned strings must agree with them.
        """
        for address, pristine in self._pristine:
            now = ctypes.string_at(address, len(pristine))
            if now == pristine:
                continue
            header = bytearray(pristine)
            header[_STATE_AT] |= now[_STATE_AT] & _INTERNED_BITS
            ctypes.memmove(address, bytes(header), len(header))
        for address, edge in self._edges:
            if ctypes.string_at(address, len(edge)) != edge:
                ctypes.memmove(address, edge, len(edge))

    def _is_adoptable(self, entry: Entry, arena_fd: int) -> bool:
        """Whether a `str` may begin where a text lies, and the text is as wide as it looks."""
        if not entry.stretch:
            return True
        if entry.offset % _ALIGN:
            return False
        if entry.kind == ASCII:
            return True
        data = os.pread(arena_fd, _PROBE_BYTES, entry.offset)
        width = WIDTH[entry.kind]
        first = (ctypes.c_char * len(data)).from_buffer_copy(data)
        probe = self._make(width, ctypes.addressof(first), len(data) // width)
        return ord(max(probe)) > _NARROWER[entry.kind]

    def _adopt(self, number: int, arena_fd: int, headers: Headers, kernel: Kernel) -> None:
        """Put a text's header in front of it: private pages, shared ones, and a private one
        unless the arena itself has NUL behind the text.
        """
        entry = self._index[number]
        width = WIDTH[entry.kind]
        header = headers.of(entry)
        end = entry.offset + entry.size_bytes
        first = -(-entry.offset // PAGE) * PAGE
        ends_in_arena = os.pread(arena_fd, width, end) == bytes(width)
        last = -(-(end + width) // PAGE) * PAGE if ends_in_arena else end // PAGE * PAGE
        before = os.pread(arena_fd, first - entry.offset, entry.offset)
        front = -(-(len(header) + len(before)) // PAGE) * PAGE
        behind = 0 if ends_in_arena else PAGE
        base = kernel.reserve(front + last - first + behind)
        kernel.share(base + front, last - first, arena_fd, first)
        payload = base + front - len(before)
        self._copy_edge(payload, before)
        if behind:
            self._copy_edge(base + front + last - first, os.pread(arena_fd, end - last, last))
        self._adopted[number] = _bring_to_life(payload, header)
        self._pristine.append((payload - len(header), header))
        self.maps.append((base, front + last - first + behind))

    def _copy_edge(self, address: int, edge: bytes) -> None:
        if edge:
            ctypes.memmove(address, edge, len(edge))
            self._edges.append((address, edge))

    def _map(self, numbers: Sequence[int], arena_fd: int, kernel: Kernel) -> int:
        """Map the part of the arena that holds these texts, and all tables, at once."""
        offsets, sizes = self._index.offsets, self._index.sizes
        parts = [(offsets[number], sizes[number]) for number in numbers]
        parts += self._index.extras.tables.values()
        start = min(offset for offset, _ in parts) // PAGE * PAGE
        end = max(offset + size for offset, size in parts)
        size = max(PAGE, end - start)
        try:
            address = kernel.share(0, size, arena_fd, start)
        except OSError as error:
            self.notes.append(f"the context is copied into each REPL: {error}")
            address = kernel.reserve(size)
            target = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
            read = 0
            while read < size:
                got = os.preadv(arena_fd, [target[read : read + (1 << 30)]], start + read)
                if not got:
                    break
                read += got
        self.maps.append((address, -(-size // PAGE) * PAGE))
        return address - start


class View(ContextView):
    """What a REPL sees of a context. Made once, in the fork server, before lock-down.

    `maps` are the areas to be protected (`mseal`), `notes` what the user should
    know. The descriptors stay the caller's and are not needed afterwards.

    Raises:
        ValueError: if the descriptors do not hold a context.
    """

    def __init__(self, index_fd: int, arena_fd: int, kernel: Kernel | None = None) -> None:
        data = os.pread(index_fd, os.fstat(index_fd).st_size, 0)
        index = read_index(data, os.fstat(arena_fd).st_size)
        arena = Arena(index, arena_fd, kernel or Libc())
        super().__init__(index, arena.text, arena.blob)
        self.restore = arena.restore  # type: ignore[method-assign]
        """Make the view what it was. Called before every cell; microseconds."""
        self.maps = arena.maps
        self.notes = arena.notes


def _maker() -> Callable[[int, int, int], str]:
    """``(width, address, chars) -> str``. No decoder: surrogates in UCS-2 must not be joined."""
    make = ctypes.PyDLL(None).PyUnicode_FromKindAndData
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_ssize_t]
    return make


def _bring_to_life(payload: int, header: bytes) -> str:
    address = payload - len(header)
    ctypes.memmove(address, header, len(header))
    living: str = ctypes.cast(address, ctypes.py_object).value
    return living


def _self_test(headers: Headers, kernel: Kernel) -> None:
    """Adopt four texts that are known and compare what CPython makes of them.

    Raises:
        NotAdoptable: at the first difference.
    """
    for kind, sample in _SAMPLES.items():
        width = WIDTH[kind]
        known = ("x" + sample) * 500
        payload = known.encode({1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[width])
        base = kernel.reserve(3 * PAGE)
        ctypes.memmove(base + PAGE, payload, len(payload))
        header = headers.of(Entry(PAGE, len(payload), len(known), kind))
        living = _bring_to_life(base + PAGE, header)
        same = (
            type(living) is str
            and living == known
            and hash(living) == hash(known)
            and {known: kind}[living] == kind
            and living[3:40] == known[3:40]
            and living.encode() == known.encode()
            and living.split("x") == known.split("x")
            and living + "y" == known + "y"
            and sys.getsizeof(living) == sys.getsizeof(known[:] + "y") - width
        )
        if not same:
            raise NotAdoptable("an adopted text differs from the same text made by CPython")
