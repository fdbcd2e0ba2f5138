"""A sealed context: the host's own copy of the input, the one that counts.

Implements `ports.Context` over the layout of `abyme.layout`. Guests get the
descriptors; evidence, hashes and children are taken from here.

Invariant: the memory is sealed before anybody else can see it.
Does not read files (`load`) or decide what a quote proves.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from abyme.contexts import origin as origins
from abyme.contexts.arena import ArenaWriter, sealed_bytes
from abyme.contexts.evidence import Checker
from abyme.contexts.manifest import DocumentFacts, Manifest
from abyme.contexts.seeking import Seeking
from abyme.contexts.texts import Memory, Texts
from abyme.core.events import Evidence, Near, Place, Refused, Span
from abyme.core.seeks import Seek, Sought
from abyme.errors import ContextError
from abyme.layout import (
    NO_EXTRAS,
    WIDTH,
    Entry,
    Extras,
    Index,
    Shape,
    read_index,
    write_index,
)

MAX_SPANS: Final = 100_000
"""In one part."""


class Source(NamedTuple):
    """Where a text came from, for the manifest."""

    encoding: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    media: str | None = None
    pages: Sequence[int] = ()
    page_word: str = "page"
    table: tuple[int, int] | None = None
    """Where `ArenaWriter.add_blob` put its rows."""


class SealedContext:
    """Texts in sealed memory. Owns its descriptors; `close` lets go of them."""

    def __init__(
        self, index_fd: int, memory: Memory, index: Index, origin: origins.Origin | None = None
    ) -> None:
        self._index = index
        self._index_fd = index_fd
        self._memory = memory
        self._chars = index.chars
        self._texts = Texts(index, memory)
        self._origin = origin or origins.whole(index)
        self._checker = Checker(self._texts, memory, self._origin)
        self._seeking = Seeking(memory, index, index_fd)
        self.chars = sum(self._chars)
        """Of all texts."""
        self.sources: Sequence[str] = ()
        """Paths that it was read from, as they were given."""
        self.at_close: Callable[[], None] | None = None
        """Called once, before the memory is let go of."""

    @cached_property
    def manifest(self) -> Manifest:
        """Names and sizes. A part is not hashed again; what was read from sources says more."""
        names = self._index.names or [""] * len(self._index)
        facts = [
            DocumentFacts(name=name, chars=self._index[n].chars, kind=self._index[n].kind)
            for n, name in enumerate(names)
        ]
        return Manifest(shape=self.shape, documents=facts)

    @property
    def shape(self) -> Shape:
        """What the guest's `context` is: a str, a mapping, or a list."""
        return self._index.shape

    @property
    def is_sealed(self) -> bool:
        """Whether it lies in memory that nobody can change; else in a file, see `room`."""
        return self._memory.is_sealed

    @property
    def fds(self) -> Sequence[int]:
        """The index, then the arena; none once it is closed."""
        return (self._index_fd, self._memory.fd) if self._index_fd >= 0 else ()

    @property
    def names(self) -> Sequence[str]:
        """Of the documents, in order; empty for a list and for a text without a name."""
        return self._index.names

    @property
    def documents(self) -> int:
        """How many texts."""
        return len(self._index)

    def text(self, document: int) -> str:
        """Copy one text."""
        return self._texts.whole(document)

    def size(self, document: int) -> int:
        """Count the characters of one text."""
        return self._chars[document]

    def piece(self, document: int, start: int, end: int) -> str:
        """Copy the characters from `start` to `end` of one text, cut to what is there."""
        return self._texts.piece(document, start, end)

    def label(self, document: int) -> str:
        """Name a document as a user reads it; of a mapping, as its guest does."""
        if self.shape == "documents":
            return self._index.names[document]
        return self._origin.label(document)

    async def seek(self, wanted: Seek) -> Sought:
        """Find lines, passages or symbols; see `abyme.core.seeks`.

        Raises:
            ContextError: it cannot be done here; the message says why.
        """
        return await self._seeking.seek(wanted)

    def check(self, evidence: Sequence[Place | str]) -> tuple[list[Evidence], list[str]]:
        """Look evidence up: what was found, and the quotes that are not there.

        Reads the whole context for a quote that is not there (about 1 s for a gigabyte).
        """
        return self._checker.check(evidence)

    def look_up(self, claim: Place | str) -> Evidence | Refused:
        """Find one piece of evidence and judge it; see `abyme.contexts.evidence`."""
        return self._checker.look_up(claim)

    def nearest(self, quote: str) -> Near | None:
        """Find what is most like a quote that is not there; reads 400 M characters at most."""
        return self._checker.nearest(quote)

    def place(self, document: int, start: int, end: int) -> Evidence | None:
        """Give what stands at a stretch; None: there is none."""
        return self._checker.place(document, start, end)

    def part(self, spans: Sequence[Span], shape: Shape) -> "SealedContext":
        """Make a context of stretches of this one, on the same memory. They may overlap.

        Documents have the names they have here; a stretch of one, or a second of the same
        name, is told apart by ``[start:end]`` or a number behind it.

        Raises:
            ContextError: a stretch is not there, there are too many or, for a text, not
                exactly one, or no character is in them.
        """
        if not 0 < len(spans) <= MAX_SPANS:
            raise ContextError(f"a part has 1 to {MAX_SPANS:,} stretches, not {len(spans):,}")
        if shape == "text" and len(spans) != 1:
            raise ContextError(f"a text is one stretch, not {len(spans):,}")
        entries = [self._stretch(span) for span in spans]
        if not any(entry.chars for entry in entries):
            raise ContextError("nothing to read: the part is empty")
        origin = self._origin.part([(span.document, span.start) for span in spans])
        names: list[str] = []
        if shape == "documents":
            names = _told_apart(origin, entries)
        elif shape == "text" and origin.input.names:
            names = [origin.label(0)]
        extras = self._extras_of(spans, entries)
        return _indexed(shape, entries, names, self._memory.share(), origin, extras)

    def _extras_of(self, spans: Sequence[Span], entries: Sequence[Entry]) -> Extras:
        """Take over what is known of whole documents; of a stretch it would not be true."""
        have = self._index.extras
        whole = {n: span.document for n, span in enumerate(spans) if not entries[n].stretch}
        if not have:
            return NO_EXTRAS
        return Extras(
            {n: have.pages[at] for n, at in whole.items() if at in have.pages},
            {n: have.words[at] for n, at in whole.items() if at in have.words},
            {n: have.media[at] for n, at in whole.items() if at in have.media},
            {n: have.tables[at] for n, at in whole.items() if at in have.tables},
        )

    def _stretch(self, span: Span) -> Entry:
        if not 0 <= span.document < len(self._index):
            raise ContextError(f"a part is of document {span.document}, which is not there")
        entry = self._index[span.document]
        end = entry.chars if span.end is None else span.end
        if not 0 <= span.start <= end <= entry.chars:
            raise ContextError(
                f"a part is of the characters {span.start} to {end} "
                f"of document {span.document}, which has {entry.chars}"
            )
        if end - span.start == entry.chars:
            return entry
        width = WIDTH[entry.kind]
        offset = entry.offset + span.start * width
        chars = end - span.start
        return Entry(offset, chars * width, chars, entry.kind, stretch=True)

    def close(self) -> None:
        """Let go of the memory; parts of it keep what they need. Safe to repeat."""
        fd, self._index_fd = self._index_fd, -1
        if fd >= 0:
            if self.at_close is not None:
                self.at_close()
            os.close(fd)
            self._memory.release()


def _told_apart(origin: origins.Origin, entries: Sequence[Entry]) -> list[str]:
    """Name the documents of a part; no two have the same name."""
    names: dict[str, int] = {}
    for document, entry in enumerate(entries):
        wanted = origin.label(document)
        if entry.stretch:
            start = origin.starts[document]
            wanted += f"[{start}:{start + entry.chars}]"
        name = wanted
        while name in names:
            names[wanted] += 1
            name = f"{wanted} ({names[wanted]})"
        names[name] = 1
    return list(names)


def seal(texts: Iterable[str], names: Sequence[str], shape: Shape) -> SealedContext:
    """Seal Python texts; `names` is empty for a list, and may be for a text.

    Raises:
        ContextError: if there is no sealable memory, or no room is left in it.
    """
    writer = ArenaWriter()
    try:
        count = 0
        for text in texts:
            writer.add_text(text)
            count += 1
        return finish(writer, shape, names, [Source()] * count)
    finally:
        writer.close()


def finish(
    writer: ArenaWriter,
    shape: Shape,
    names: Sequence[str],
    sources: Sequence[Source],
    order: Sequence[int] | None = None,
) -> SealedContext:
    """Seal what was written and put the index beside it.

    `order` numbers the texts as they were written in the order of `names` and `sources`, where
    that is another one.
    """
    arena_fd, placed = writer.seal()
    if order is not None:
        placed = [placed[number] for number in order]
    memory = Memory(arena_fd)
    facts = [
        DocumentFacts(
            name=name,
            chars=sealed.entry.chars,
            kind=sealed.entry.kind,
            encoding=source.encoding,
            source_bytes=source.size_bytes,
            source_sha256=source.sha256,
            sealed_sha256=sealed.sha256,
            media=source.media,
            pages=list(source.pages),
            page_word=source.page_word,
            table=source.table,
            table_sha256=writer.blobs[source.table[0]] if source.table else None,
        )
        for name, sealed, source in zip(names or [""] * len(placed), placed, sources, strict=True)
    ]
    entries = [sealed.entry for sealed in placed]
    context = _indexed(shape, entries, names, memory, extras=_extras(sources))
    context.manifest = Manifest(shape=shape, documents=facts, in_file=not memory.is_sealed)
    return context


def _indexed(  # noqa: PLR0913, PLR0917 - what a context is made of
    shape: Shape,
    entries: Sequence[Entry],
    names: Sequence[str],
    memory: Memory,
    origin: origins.Origin | None = None,
    extras: Extras = NO_EXTRAS,
) -> SealedContext:
    """Put an index beside memory, which is released if that fails."""
    try:
        data = write_index(shape, entries, names, extras)
        index = read_index(data, os.fstat(memory.fd).st_size)
        return SealedContext(sealed_bytes(data, "abyme-index"), memory, index, origin)
    except BaseException:
        memory.release()
        raise


def _extras(sources: Sequence[Source]) -> Extras:
    told = [(number, source) for number, source in enumerate(sources) if source.media]
    return Extras(
        {number: list(source.pages) for number, source in told if source.pages},
        {n: source.page_word for n, source in told if source.pages and source.page_word != "page"},
        {number: source.media for number, source in told if source.media},
        {number: source.table for number, source in told if source.table},
    )


def from_value(value: object) -> SealedContext:
    """Seal a `str`, a list or tuple of `str`, or a mapping of names to `str`.

    Raises:
        ContextError: if it is none of these, or holds no character.
    """
    texts: list[str]
    names: list[str] = []
    shape: Shape
    if isinstance(value, str):
        shape, texts = "text", [value]
    elif isinstance(value, dict):
        shape, names, texts = "documents", list(value), list(value.values())
    elif isinstance(value, list | tuple):
        shape, texts = "list", list(value)
    else:
        raise ContextError(
            f"a context is a str, a list of str or a dict of str, not {type(value).__name__}"
        )
    for number, name in enumerate(names):
        if not isinstance(name, str):
            kind = type(name).__name__
            raise ContextError(f"names in a context are str, but key {number} is {kind}: {name!r}")
        if "\0" in name:
            raise ContextError(f"a name in a context holds a NUL character: {name!r}")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            where = f"[{names[number]!r}]" if names else f"[{number}]"
            raise ContextError(f"context{where} is {type(text).__name__}, not str")
    if not any(texts):
        raise ContextError("nothing to read: the context is empty")
    return seal(texts, names, shape)
