"""What the finders of passages share: the arena, who may see what of it, and how it is cut.

Decides what is a passage (some thousand characters, cut between words), that each stretch of the
arena is taken in once however many contexts have it, and that taking in goes on while nobody
asks. Does not rank: `index` and `embed` do.
"""

import array
import bisect
import codecs
import itertools
import mmap
import os
import re
import select
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from abyme.helpers.link import Link
from abyme.layout import UCS2, WIDTH, Entry, Index, read_index

PASSAGE_CHARS: Final = 1_000
SLACK_CHARS: Final = 100
"""How much shorter a passage may be, to end between words."""
WINDOW_CHARS: Final = 1 << 20
MAX_NAME_HITS: Final = 1_000
"""A word that stands in more names tells none of them apart."""
CODEC: Final = {0: "ascii", 1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}


def load_codecs() -> None:
    """Load what nothing can be loaded for any more after lock-down."""
    for codec in CODEC.values():
        codecs.lookup(codec)


def serve(link: Link, make: "Callable[[Arena], Growing]") -> None:
    """Answer until the host is gone; between questions passages are taken in."""
    first = link.receive()
    if first is None:
        return
    head, _, fds = first
    arena = Arena(fds[0], head["bytes"])
    passages = make(arena)
    contexts: dict[int, Context] = {}
    poll = select.poll()
    poll.register(link.fileno(), select.POLLIN)
    while True:
        while not passages.ready and not poll.poll(0):
            passages.grow()
        asked = link.receive()
        if asked is None:
            return
        head, _, fds = asked
        if head["t"] == "context":
            contexts[head["id"]] = Context(_whole(fds[0]), arena.size_bytes)
            os.close(fds[0])
            passages.want(contexts[head["id"]].index)
        elif head["t"] == "forget":
            contexts.pop(head["id"], None)
        else:
            _wait(passages, head["wait_s"])
            link.send(_answer(passages, contexts[head["id"]], head))


def _wait(passages: "Growing", wait_s: float) -> None:
    """Go on taking in, for as long as somebody may wait for it."""
    until = time.monotonic() + wait_s
    while not passages.ready and time.monotonic() < until:
        passages.grow()


def _answer(passages: "Growing", context: "Context", head: Mapping[str, Any]) -> dict[str, Any]:
    try:
        context.choose(head["documents"])
        places = passages.best(head, context)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - one question's: the index goes on
        return {"t": "failed", "why": f"{type(error).__name__}: {error}"[:200]}
    return {
        "t": "found",
        "places": places,
        "indexed_bytes": passages.indexed_bytes,
        "wanted_bytes": passages.wanted_bytes,
        "full": passages.full,
    }


class Arena:
    """The texts, mapped."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._map = mmap.mmap(fd, size_bytes, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        os.close(fd)

    def cut(self, entry: Entry, start: int, end: int) -> str:
        """Copy characters of a text."""
        width = WIDTH[entry.kind]
        data = self._map[entry.offset + start * width : entry.offset + end * width]
        text = data.decode(CODEC[entry.kind], "surrogatepass")
        if entry.kind == UCS2 and len(text) != end - start:  # lone surrogates side by side
            wide = array.array("I", array.array("H", data))
            text = wide.tobytes().decode("utf-32-le", "surrogatepass")
        return text


class Context:
    """Which stretches of the arena a context consists of, and what they are called."""

    def __init__(self, data: bytes, arena_bytes: int) -> None:
        self.index = read_index(data, arena_bytes)
        self._chosen: frozenset[int] | None = None
        offsets = self.index.offsets
        self._order = sorted(range(len(offsets)), key=offsets.__getitem__)
        self._starts = array.array("Q", [offsets[number] for number in self._order])
        ends = (self.index[number] for number in self._order)
        reach = itertools.accumulate((one.offset + one.size_bytes for one in ends), max)
        self._reach = array.array("Q", reach)
        """How far the stretches up to each one go."""
        names = [name.lower() for name in self.index.names]
        self._joined = "\0".join(names)
        self._name_starts = array.array("Q", _starts_of(names))

    def _documents_at(self, offset: int, end: int) -> Iterator[int]:
        """Find the documents that have a share in these bytes of the arena."""
        at = max(0, bisect.bisect_right(self._starts, offset) - 1)
        while at and self._reach[at - 1] > offset:  # stretches may overlap
            at -= 1
        while at < len(self._starts) and self._starts[at] < end:
            number = self._order[at]
            entry = self.index[number]
            if entry.offset + entry.size_bytes > offset:
                yield number
            at += 1

    def choose(self, documents: Sequence[int] | None) -> None:
        """Narrow what follows to these documents; None: all."""
        self._chosen = None if documents is None else frozenset(documents)

    def is_chosen(self, document: int) -> bool:
        """Tell whether a document is one of them."""
        return self._chosen is None or document in self._chosen

    def shares_of(self, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Find the chosen documents that have a share in these bytes of the arena, and where in
        their characters that is; it may lie before or behind them in part.
        """
        for document in filter(self.is_chosen, self._documents_at(offset, end)):
            entry = self.index[document]
            width = WIDTH[entry.kind]
            yield document, (offset - entry.offset) // width, (end - entry.offset) // width

    def name(self, number: int) -> str:
        """Name a document; of a list they have none."""
        return self.index.names[number] if self.index.names else ""

    def named(self, stems: Sequence[str]) -> list[int]:
        """Find documents whose names hold one of these words, those that hold most first."""
        held: dict[int, int] = {}
        for stem in stems if self._joined else ():
            if self._joined.count(stem) > MAX_NAME_HITS:
                continue
            number = stem.lstrip("0") or "0"
            pattern = rf"(?<!\d)0*{number}(?!\d)" if stem.isdecimal() else re.escape(stem)
            hits = (match.start() for match in re.finditer(pattern, self._joined))
            every = {bisect.bisect_right(self._name_starts, at) - 1 for at in hits}
            for document in every:
                held[document] = held.get(document, 0) + 1
        return sorted(held, key=lambda document: (-held[document], document))


class Growing(ABC):
    """Passages, as far as they have been taken in."""

    batch_bytes = 2 << 20

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.indexed_bytes = self.wanted_bytes = 0
        self.full = False
        self._todo: deque[Entry] = deque()
        self._open: Iterator[tuple[Entry, int, str]] = iter(())
        self._covered: list[tuple[int, int]] = []
        self._offsets = array.array("Q")
        self._ends = array.array("Q")

    @property
    def ready(self) -> bool:
        """Whether there is nothing to do."""
        return self.full or self.indexed_bytes >= self.wanted_bytes

    def __len__(self) -> int:
        return len(self._offsets)

    def want(self, index: Index) -> None:
        """Take note of the texts of a context, those that another one has brought left out."""
        before, fresh = self._covered, []
        starts = [start for start, _ in before]
        for entry in (index[number] for number in range(len(index))):
            end = entry.offset + entry.size_bytes
            at = bisect.bisect_right(starts, entry.offset) - 1
            if entry.size_bytes and not (at >= 0 and end <= before[at][1]):
                fresh.append(entry)
        fresh.sort(key=lambda entry: entry.offset)
        self._todo.extend(fresh)
        self.wanted_bytes += sum(entry.size_bytes for entry in fresh)
        spans = sorted([*before, *((one.offset, one.offset + one.size_bytes) for one in fresh)])
        self._covered = list(_without_inner(spans))

    def grow(self) -> None:
        """Put some more passages into the index."""
        texts: list[str] = []
        size = 0
        while size < self.batch_bytes:
            piece = next(self._open, None)
            if piece is None:
                if not self._todo:
                    break
                self._open = _pieces(self.arena, self._todo.popleft())
                continue
            entry, start, text = piece
            width = WIDTH[entry.kind]
            self._offsets.append(entry.offset + start * width)
            self._ends.append(entry.offset + (start + len(text)) * width)
            if entry.kind >= UCS2:
                text = text.encode("utf-8", "replace").decode()
            texts.append(text)
            size += self._ends[-1] - self._offsets[-1]
        if texts:
            self.full = self.take_in(texts)
        self.indexed_bytes = self.indexed_bytes + size if texts else self.wanted_bytes

    @abstractmethod
    def take_in(self, texts: Sequence[str]) -> bool:
        """Take in more passages; whether there is no room for others."""

    @abstractmethod
    def best(self, head: Mapping[str, Any], context: Context) -> list[list[int | float]]:
        """Give the best places of the documents that were chosen: document, start, end, score."""

    def place(self, number: int) -> tuple[int, int]:
        """Tell where a passage lies in the arena, by the order in which they were taken in."""
        return self._offsets[number], self._ends[number]


def _pieces(arena: Arena, entry: Entry) -> Iterator[tuple[Entry, int, str]]:
    """Cut a text into passages: (its entry, start, characters)."""
    at = 0
    while at < entry.chars:
        window = arena.cut(entry, at, min(entry.chars, at + WINDOW_CHARS))
        start = 0
        while start < len(window):
            end = start + PASSAGE_CHARS
            if end < len(window):
                space = window.rfind(" ", end - SLACK_CHARS, end)
                end = space + 1 if space >= 0 else end
            yield entry, at + start, window[start:end]
            start = end
        at += len(window)


def _without_inner(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Leave out stretches that lie in one before them."""
    reach = -1
    for start, end in spans:
        if end > reach:
            yield start, end
            reach = end


def _starts_of(names: Sequence[str]) -> Iterator[int]:
    at = 0
    for name in names:
        yield at
        at += len(name) + 1


def _whole(fd: int) -> bytes:
    parts, at = [], 0
    while part := os.pread(fd, 1 << 24, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)
