"""A service that finds passages by words, in a full-text index of the arena that it builds.

Decides what is a passage (some thousand characters, cut between words), which of them are looked
at for a question (the best by BM25, and the texts whose names hold its words), and how they are
ranked: as `abyme.guest.search` does, over these alone. The index is SQLite's FTS5, in memory:
measured beside tantivy it is built four times as fast, in a thirtieth of the memory, and it
finds words by their beginnings. It grows while nobody asks, up to `MAX_INDEX_BYTES`.

Invariant: places are (document, start, end) in code points of the context that asks, and of no
other context on the same arena. Does not show texts: the REPL has them.
"""

import array
import bisect
import codecs
import itertools
import math
import mmap
import os
import re
import select
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from abyme.guest import search as ranking
from abyme.helpers.link import Link
from abyme.layout import UCS2, WIDTH, Entry, Index, read_index

PASSAGE_CHARS: Final = 1_000
SLACK_CHARS: Final = 100
"""How much shorter a passage may be, to end between words."""
WINDOW_CHARS: Final = 1 << 20
BATCH_BYTES: Final = 2 << 20
MAX_INDEX_BYTES: Final = 1_000_000_000
"""About twice as much text, in English."""
HASH_BYTES: Final = 32 << 20
LEAST_CANDIDATES, CANDIDATES_A_HIT = 200, 10
MAX_NAMED: Final = 20
"""Documents that are read whole because their names hold the words."""
MAX_NAMED_CHARS: Final = 1 << 20
CODEC: Final = {0: "ascii", 1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}
PLURALS: Final = ("s", "es")


def prepare(_order: Mapping[str, Any]) -> None:
    """Load what is needed, and see that this SQLite has FTS5.

    Raises:
        sqlite3.Error: it has not.
    """
    _table().close()
    for codec in CODEC.values():
        codecs.lookup(codec)


def serve(link: Link) -> None:
    """Answer until the host is gone; between questions the index is built."""
    first = link.receive()
    if first is None:
        return
    head, _, fds = first
    arena = Arena(fds[0], head["bytes"])
    passages = Passages(arena)
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


def _wait(passages: "Passages", wait_s: float) -> None:
    """Go on with the index, for as long as somebody may wait for it."""
    until = time.monotonic() + wait_s
    while not passages.ready and time.monotonic() < until:
        passages.grow()


def _answer(passages: "Passages", context: "Context", head: Mapping[str, Any]) -> dict[str, Any]:
    chosen = None if head["documents"] is None else frozenset(head["documents"])
    question = Question(head["words"], passages, context, chosen)
    return {
        "t": "found",
        "places": question.best(head["k"]),
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

    def documents_at(self, offset: int, end: int) -> Iterator[int]:
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

    def name(self, number: int) -> str:
        """Name a document; of a list they have none."""
        return self.index.names[number] if self.index.names else ""

    def named(self, stems: Sequence[str]) -> list[int]:
        """Find documents whose names hold one of these words, those that hold most first."""
        held: dict[int, int] = {}
        for stem in stems if self._joined else ():
            number = stem.lstrip("0") or "0"
            pattern = rf"(?<!\d)0*{number}(?!\d)" if stem.isdecimal() else re.escape(stem)
            hits = (match.start() for match in re.finditer(pattern, self._joined))
            every = {bisect.bisect_right(self._name_starts, at) - 1 for at in hits}
            for document in every:
                held[document] = held.get(document, 0) + 1
        return sorted(held, key=lambda document: (-held[document], document))


class Passages:
    """The index, as far as it has grown."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.indexed_bytes = self.wanted_bytes = 0
        self.full = False
        self._db = _table()
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
        rows: list[tuple[int, str]] = []
        size = 0
        while size < BATCH_BYTES:
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
            rows.append((len(self._offsets), text))
            size += self._ends[-1] - self._offsets[-1]
        with self._db:
            self._db.executemany("insert into passages(rowid, text) values (?, ?)", rows)
        self.indexed_bytes += size
        if not rows:
            self.indexed_bytes = self.wanted_bytes
        pages, page_bytes = (self._number(f"pragma {what}") for what in ("page_count", "page_size"))
        self.full = pages * page_bytes > MAX_INDEX_BYTES

    def holding(self, stem: str) -> int:
        """Count the passages that hold a word."""
        return self._number("select count(*) from passages where passages match ?", _query([stem]))

    def ranked(self, stems: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Give passages as (offset, end) in the arena, the best by BM25 first."""
        every = self._db.execute(
            "select rowid from passages where passages match ? order by bm25(passages), rowid",
            (_query(stems),),
        )
        for (row,) in every:
            yield self._offsets[row - 1], self._ends[row - 1]

    def _number(self, query: str, *values: str) -> int:
        return int(self._db.execute(query, values).fetchone()[0])


class Question:
    """One search."""

    def __init__(
        self,
        stems: Sequence[str],
        passages: Passages,
        context: Context,
        chosen: frozenset[int] | None,
    ) -> None:
        self._stems = stems
        self._passages = passages
        self._context = context
        self._chosen = chosen
        count = len(passages)
        self._weights = [math.log(1 + (1 + count) / (1 + passages.holding(stem))) for stem in stems]

    def best(self, k: int) -> list[list[int | float]]:
        """Give the `k` best places: document, start, end, score."""
        if not any(re.search(r"\w", stem) for stem in self._stems):
            return []
        found: list[tuple[float, int, int, int]] = []
        for document, windows in self._windows(max(LEAST_CANDIDATES, CANDIDATES_A_HIT * k)).items():
            found += self._scored(document, _merged(windows))
        found.sort(key=lambda one: (-one[0], *one[1:]))
        return [[document, start, end, score] for score, document, start, end in found[:k]]

    def _windows(self, most: int) -> dict[int, list[tuple[int, int]]]:
        """Choose where to look: document -> (start, end) in its characters."""
        windows: dict[int, list[tuple[int, int]]] = {}
        for document in self._named():
            chars = self._context.index[document].chars
            windows[document] = [(0, min(chars, MAX_NAMED_CHARS))]
        for offset, end in self._passages.ranked(self._stems):
            for document in filter(self._is_chosen, self._context.documents_at(offset, end)):
                entry = self._context.index[document]
                width = WIDTH[entry.kind]
                first = (offset - entry.offset) // width - ranking.REACH_CHARS
                last = (end - entry.offset) // width + ranking.REACH_CHARS
                span = max(0, first), min(entry.chars, last)
                windows.setdefault(document, []).append(span)
                most -= 1
            if most <= 0:
                break
        return windows

    def _named(self) -> Iterable[int]:
        named = (one for one in self._context.named(self._stems) if self._is_chosen(one))
        return itertools.islice(named, MAX_NAMED)

    def _is_chosen(self, document: int) -> bool:
        return self._chosen is None or document in self._chosen

    def _scored(
        self, document: int, windows: Iterable[tuple[int, int]]
    ) -> Iterator[tuple[float, int, int, int]]:
        entry = self._context.index[document]
        shares = ranking.in_name(self._context.name(document), self._stems)
        for begin, stop in windows:
            text = ranking.lowered(self._passages.arena.cut(entry, begin, stop))
            for score, start, end in ranking.passages_in(text, self._stems, self._weights, shares):
                yield score, document, begin + start, begin + end


def _table() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", check_same_thread=False)
    for pragma in ("page_size=8192", "journal_mode=off", "synchronous=off", "temp_store=memory"):
        db.execute(f"pragma {pragma}")
    db.execute(
        "create virtual table passages using "
        "fts5(text, content='', tokenize='unicode61 remove_diacritics 0')"
    )
    db.execute("insert into passages(passages, rank) values ('hashsize', ?)", (HASH_BYTES,))
    return db


def _query(stems: Iterable[str]) -> str:
    """Put a question together for FTS5; strings in quotes are its tokenizer's to cut."""
    words: list[str] = []
    for stem in stems:
        plain = stem.replace('"', " ")
        if not re.search(r"\w", plain):
            continue
        if len(stem) > ranking.LEAST_STEM:
            words.append(f'"{plain}"*')
        else:
            words += (f'"{plain}{ending}"' for ending in ("", *PLURALS))
    return " OR ".join(words) or '""'


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


def _merged(windows: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join stretches that touch, so that none is looked at twice."""
    begin, stop = -1, -1
    for start, end in sorted(windows):
        if start > stop:
            if stop >= 0:
                yield begin, stop
            begin, stop = start, end
        stop = max(stop, end)
    if stop >= 0:
        yield begin, stop


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
