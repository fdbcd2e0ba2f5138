"""A service that finds passages by words, in a full-text index of the arena that it builds.

Decides which passages are looked at for a question (the best by BM25, and the texts whose names
hold its words), and how they are ranked: as `abyme.guest.search` does, over these alone. The
index is SQLite's FTS5, in memory: measured beside tantivy it is built four times as fast, in a
tenth of the memory, and it finds words by their beginnings. It grows up to `MAX_INDEX_BYTES`.

Invariant: places are (document, start, end) in code points of the context that asks, and of no
other context on the same arena. Does not show texts: the REPL has them.
"""

import itertools
import math
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from abyme.guest import search as ranking
from abyme.helpers import passages
from abyme.helpers.link import Link
from abyme.helpers.passages import Arena, Context, Growing

MAX_INDEX_BYTES: Final = 1_000_000_000
"""About twice as much text, in English."""
HASH_BYTES: Final = 32 << 20
LEAST_CANDIDATES, CANDIDATES_A_HIT = 200, 10
MAX_NAMED: Final = 20
"""Documents that are read whole because their names hold the words."""
MAX_NAMED_CHARS: Final = 1 << 20
PLURALS: Final = ("s", "es")


def prepare(_order: Mapping[str, Any]) -> None:
    """Load what is needed, and see that this SQLite has FTS5.

    Raises:
        sqlite3.Error: it has not.
    """
    _table().close()
    passages.load_codecs()


def serve(link: Link) -> None:
    """Answer until the host is gone."""
    passages.serve(link, Passages)


class Passages(Growing):
    """The index, as far as it has grown."""

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self._db = _table()

    def take_in(self, texts: Sequence[str]) -> bool:
        """Put more passages into the index."""
        rows = enumerate(map(_spaced, texts), len(self) - len(texts) + 1)
        with self._db:
            self._db.executemany("insert into passages(rowid, text) values (?, ?)", rows)
        pages, page_bytes = (self._number(f"pragma {what}") for what in ("page_count", "page_size"))
        return pages * page_bytes > MAX_INDEX_BYTES

    def best(self, head: Mapping[str, Any], context: Context) -> list[list[int | float]]:
        """Give the best places for some words."""
        return Question(head["words"], self, context).best(head["k"])

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
            yield self.place(row - 1)

    def _number(self, query: str, *values: str) -> int:
        return int(self._db.execute(query, values).fetchone()[0])


class Question:
    """One search."""

    def __init__(self, stems: Sequence[str], index: Passages, context: Context) -> None:
        self._stems = stems
        self._index = index
        self._context = context
        count = len(index)
        self._weights = [math.log(1 + (1 + count) / (1 + index.holding(stem))) for stem in stems]

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
        for offset, end in self._index.ranked(self._stems):
            for document, first, last in self._context.shares_of(offset, end):
                chars = self._context.index[document].chars
                reach = ranking.REACH_CHARS
                span = max(0, first - reach), min(chars, last + reach)
                windows.setdefault(document, []).append(span)
                most -= 1
            if most <= 0:
                break
        return windows

    def _named(self) -> Iterable[int]:
        named = filter(self._context.is_chosen, self._context.named(self._stems))
        return itertools.islice(named, MAX_NAMED)

    def _scored(
        self, document: int, windows: Iterable[tuple[int, int]]
    ) -> Iterator[tuple[float, int, int, int]]:
        entry = self._context.index[document]
        shares = ranking.in_name(self._context.name(document), self._stems)
        for begin, stop in windows:
            text = ranking.lowered(self._index.arena.cut(entry, begin, stop))
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


def _spaced(text: str) -> str:
    """Make words of characters that are written without spaces: the index has no other ones."""
    if text.isascii() or not ranking.UNSPACED.search(text):
        return text
    return ranking.UNSPACED.sub(lambda run: f" {' '.join(run.group())} ", text)


def _query(stems: Iterable[str]) -> str:
    """Put a question together for FTS5; strings in quotes are its tokenizer's to cut."""
    words: list[str] = []
    for stem in stems:
        plain = stem.replace('"', " ")
        if not re.search(r"\w", plain):
            continue
        if ranking.UNSPACED.search(plain):
            words.append(f'"{_spaced(plain)}"')
        elif len(stem) > ranking.LEAST_STEM:
            words.append(f'"{plain}"*')
        else:
            words += (f'"{plain}{ending}"' for ending in ("", *PLURALS))
    return " OR ".join(words) or '""'


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
