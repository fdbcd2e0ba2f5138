"""How a sealed context lies in memory: written by `contexts`, read by `guest`.

Two descriptors: an *index* and an *arena*. The arena holds the texts one after
another, each as CPython keeps it (PEP 393: 1, 2 or 4 bytes a character, the
narrowest that fits). A text of `ADOPT_BYTES` and more begins on a page and is
followed by a NUL character, so that a guest can adopt it as a `str` without a
copy; smaller ones are packed, each at a multiple of 4, and become `str` when they
are touched.

Several indexes may point into one arena: that of a child's context holds whole texts,
and *stretches* of texts, which begin at any character, are not followed by NUL, and may
hold nothing as wide as their kind.

The index: `HEAD` (magic, shape, count, bytes of the names), then `count` times five
little-endian 64-bit words (offset, bytes, chars, kind, 1 for a stretch), then the names as
UTF-8 with surrogates passed, joined by NUL (a name never holds one), then, where there is
something to tell, `Extras` as JSON: pages, media types, and where tables lie in the arena in
binary form beside their text.

Invariant: an index that `read_index` accepts has every text inside the arena.
Standard library only: both sides import it.
"""

import array
import itertools
import json
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Shape: TypeAlias = Literal["text", "documents", "list"]

MAGIC: Final = b"abyme\0\0\2"
HEAD: Final = struct.Struct("<8sQQQ")
WORDS: Final = 5
SHAPES: Final[tuple[Shape, ...]] = ("text", "documents", "list")
PAGE: Final = 4096
ADOPT_BYTES: Final = 1 << 20

ASCII, LATIN1, UCS2, UCS4 = 0, 1, 2, 4
WIDTH: Final = {ASCII: 1, LATIN1: 1, UCS2: 2, UCS4: 4}
"""Kind -> bytes a character."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One text of the arena."""

    offset: int
    size_bytes: int
    chars: int
    kind: int
    stretch: bool = False
    """Part of a longer text: without what `ADOPT_BYTES` promises."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What only some documents have, by their numbers."""

    pages: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Code points at which pages begin, the first of them included."""
    words: Mapping[int, str] = field(default_factory=dict)
    """What a page is called where it is none: ``slide``, ``chapter``, ``row``."""
    media: Mapping[int, str] = field(default_factory=dict)
    """Media types, of what is not plain text."""
    tables: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """(offset, bytes) of an Arrow IPC file in the arena that holds the same rows."""

    def __bool__(self) -> bool:
        return bool(self.pages or self.media or self.tables)


NO_EXTRAS: Final = Extras()


@dataclass(frozen=True, slots=True)
class Index:
    """What a guest needs to find every text.

    `names` is empty for a list, and for a text that came without a name.
    """

    shape: Shape
    words: "array.array[int]"  # quoted: a subscript only from 3.12 on
    names: list[str]
    extras: Extras = NO_EXTRAS

    def __len__(self) -> int:
        return len(self.words) // WORDS

    @property
    def offsets(self) -> "array.array[int]":
        """Where every text begins."""
        return self.words[0::WORDS]

    @property
    def sizes(self) -> "array.array[int]":
        """Bytes of every text."""
        return self.words[1::WORDS]

    @property
    def chars(self) -> "array.array[int]":
        """Characters of every text."""
        return self.words[2::WORDS]

    def __getitem__(self, number: int) -> Entry:
        at = number * WORDS
        offset, size_bytes, chars, kind, stretch = self.words[at : at + WORDS]
        return Entry(offset, size_bytes, chars, kind, bool(stretch))


def write_index(
    shape: Shape, entries: Sequence[Entry], names: Sequence[str], extras: Extras = NO_EXTRAS
) -> bytes:
    """Bytes of an index."""
    words = array.array("Q")
    for entry in entries:
        words.extend((entry.offset, entry.size_bytes, entry.chars, entry.kind, entry.stretch))
    if sys.byteorder == "big":
        words.byteswap()
    joined = "\0".join(names).encode("utf-8", "surrogatepass")
    head = HEAD.pack(MAGIC, SHAPES.index(shape), len(entries), len(joined))
    return head + words.tobytes() + joined + _extras_bytes(extras)


def read_index(data: bytes, arena_bytes: int) -> Index:
    """Read an index and check it against the arena's size.

    Raises:
        ValueError: if it is not an index, or a text would lie outside of the arena.
    """
    magic, shape, count, names_bytes = HEAD.unpack_from(data.ljust(HEAD.size, b"\0"))
    end = HEAD.size + count * WORDS * 8
    if magic != MAGIC or shape >= len(SHAPES) or end + names_bytes > len(data):
        msg = "not a context index"
        raise ValueError(msg)
    words = array.array("Q", data[HEAD.size : end])
    if sys.byteorder == "big":
        words.byteswap()
    columns = zip(*(words[column::WORDS] for column in range(4)), strict=True)
    for number, (offset, size_bytes, chars, kind) in enumerate(columns):
        if kind not in WIDTH or offset + size_bytes > arena_bytes:
            msg = f"text {number} lies outside of the arena"
            raise ValueError(msg)
        if chars * WIDTH[kind] != size_bytes:
            msg = f"text {number} has {size_bytes} bytes for {chars} characters"
            raise ValueError(msg)
    names = _names(data[end : end + names_bytes])
    extras = _extras(data[end + names_bytes :], words, arena_bytes)
    return Index(SHAPES[shape], words, names, extras)


def _names(data: bytes) -> list[str]:
    return data.decode("utf-8", "surrogatepass").split("\0") if data else []


def _extras_bytes(extras: Extras) -> bytes:
    if not extras:
        return b""
    parts = (extras.pages, extras.words, extras.media, extras.tables)
    return json.dumps([dict(part) for part in parts], separators=(",", ":")).encode("ascii")


def _extras(data: bytes, words: "array.array[int]", arena_bytes: int) -> Extras:
    """Read extras, and see that they are of documents that are there.

    Raises:
        ValueError: they are not.
    """
    if not data:
        return NO_EXTRAS
    chars = words[2::WORDS]
    try:
        parts = [{int(key): value for key, value in part.items()} for part in json.loads(data)]
        pages, page_words, media, tables = parts
        spots = {number: (int(offset), int(size)) for number, (offset, size) in tables.items()}
        known = all(0 <= number < len(chars) for part in parts for number in part)
        sound = known and all(_rise(starts, chars[number]) for number, starts in pages.items())
        sound = sound and all(min(one) >= 0 and sum(one) <= arena_bytes for one in spots.values())
        texts = {number: str(word) for number, word in page_words.items()}
        types = {number: str(word) for number, word in media.items()}
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError):
        sound = False
    if not sound:
        msg = "the extras of a context index are damaged"
        raise ValueError(msg)
    return Extras(pages, texts, types, spots)


def _rise(starts: Sequence[int], chars: int) -> bool:
    """Whether pages begin at 0, one behind the other, inside of their text."""
    pairs = itertools.pairwise(starts)
    return starts[0] == 0 and starts[-1] <= chars and all(a <= b for a, b in pairs)
