"""What a REPL sees of a context, wherever its texts lie: `context` itself, and what finds things.

Decides the shape of `context` and the names that places have. Does not decide how a text
becomes a `str`: `adopt` maps sealed memory, `wasm/view` reads files.
"""

import bisect
from collections.abc import Callable, Sequence
from typing import Any

from abyme.guest.asked import Asked
from abyme.guest.chunking import Chunking, Way
from abyme.guest.chunks import Chunk, Chunks
from abyme.guest.documents import Documents, Texts
from abyme.guest.parts import Part, Sources
from abyme.guest.places import Finder, Hits
from abyme.guest.search import Search
from abyme.guest.tables import UNKNOWN, BlobOf, Row, Table, Tables, Written, no_blob
from abyme.layout import Index

Seek = Callable[[dict[str, Any]], dict[str, Any] | None]


def _nobody(_: dict[str, Any]) -> dict[str, Any] | None:
    return None


class ContextView:
    """A context as ordinary Python objects. Implements `abyme.guest.surface.View`."""

    def __init__(
        self, index: Index, text_of: Callable[[int], str], blob_of: BlobOf = no_blob
    ) -> None:
        """`text_of` makes a text from its number, `blob_of` gives the table beside one."""
        self.context: str | Documents | Texts
        self.seek: Seek = _nobody
        """Asks the host; None: look for yourself."""
        names: Sequence[str | int] = index.names
        if index.shape == "documents":
            self.context = Documents(index.names, sum(index.chars), text_of, self.table)
        elif index.shape == "list":
            names = range(len(index))
            items = [text_of(number) for number in range(len(index))]
            self.context = Texts(items)
            text_of = items.__getitem__
        else:
            self.context = text_of(0)
            names = names or ("context",)
            text_of = [self.context].__getitem__
        asked = Asked(index.chars, text_of, self._ask)
        self._finder = Finder(names, text_of, asked)
        self._pages = index.extras.pages
        self._tables = Tables(names, text_of, index.extras.media, blob_of, self._finder.chosen)
        self._search = Search(names, text_of, index.chars, self._ask)
        self._sources = Sources(index.shape, self.context, names, index.chars, text_of)

        self._chunking = Chunking(
            context=self.context,
            names=names,
            text_of=text_of,
            pages=index.extras.pages,
            sources=self._sources,
            chosen=self._finder.chosen,
            seek=self._ask,
        )

    def ask_by(self, seek: "Seek") -> None:
        """Take the way to the host, who looks into its own copy; see `Calls.seek`."""
        self.seek = seek

    def _ask(self, wanted: dict[str, Any]) -> dict[str, Any] | None:
        return self.seek(wanted)

    def restore(self) -> None:
        """Make the view what it was."""

    def grep(
        self,
        pattern: Any,
        docs: Any = None,
        limit: int | None = 1000,
        flags: int = 0,
        around: int = 0,
    ) -> Hits:
        """Lines that a regular expression matches; see `Finder.grep`."""
        return self._paged(self._finder.grep(pattern, docs, limit, flags, around))

    def count(self, pattern: Any, docs: Any = None, flags: int = 0) -> int:
        """How often a regular expression matches; see `Finder.count`."""
        return self._finder.count(pattern, docs, flags)

    def search(self, words: Any, k: int = 5, docs: Any = None, *, meaning: bool = False) -> Hits:
        """Passages in which the words stand; see `Search.find`."""
        return self._paged(self._search.find(words, self._finder.chosen(docs), k, meaning=meaning))

    def table(self, name: Any = None, written: Written = UNKNOWN) -> Table:
        """Give a document as rows; see `Tables.table`."""
        return self._tables.table(name, written)

    def chunks(self, given: Any, docs: Any, way: Way) -> Chunks:
        """Cut a text or documents; see `Chunking.chunks`."""
        return self._chunking.chunks(given, docs, way)

    def place_of(self, thing: object) -> dict[str, int | str] | str:
        """Make evidence of a thing: a dict for what knows its place, a quote for anything else."""
        return thing.place() if isinstance(thing, Row | Chunk) else self._finder.place_of(thing)

    def part_of(self, given: Any) -> Part:
        """Make a child's context of a value; see `Sources.part`."""
        return self._sources.part(given)

    def _paged(self, hits: Hits) -> Hits:
        """Tell on which page each hit stands, of documents that have pages."""
        if self._pages:
            for hit in hits:
                number, start, _ = hit.span
                pages = self._pages.get(number)
                hit.page = bisect.bisect_right(pages, start) if pages else None
        return hits

    def take_notes(self) -> list[str]:
        """Say what was not found or left out, and what a child got, since the last call."""
        notes = self._finder.take_notes() + self._search.take_notes()
        return notes + self._chunking.take_notes() + self._sources.take_notes()
