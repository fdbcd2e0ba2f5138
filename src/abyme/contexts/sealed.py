"""A sealed context: the host's own copy of the input, the one that counts.

Implements `ports.Context` over the layout of `abyme.layout`. Guests get the
descriptors; evidence, hashes and children are taken from here.

Invariant: the memory is sealed before anybody else can see it.
Does not read files (`load`) or decide what a quote proves.
"""

import mmap
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from abyme.contexts.arena import ArenaWriter, sealed_bytes
from abyme.contexts.evidence import Checker
from abyme.contexts.manifest import DocumentFacts, Manifest
from abyme.contexts.texts import Texts
from abyme.core.events import Evidence, Place, Span
from abyme.errors import ContextError
from abyme.layout import Index, Shape, read_index, write_index


class Source(NamedTuple):
    """Where a text came from, for the manifest."""

    encoding: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None


class SealedContext:
    """Texts in sealed memory. Owns its descriptors; `close` lets go of them."""

    def __init__(self, index_fd: int, arena_fd: int, index: Index, manifest: Manifest) -> None:
        self._index = index
        self._fds: tuple[int, ...] = (index_fd, arena_fd)
        self._area = mmap.mmap(arena_fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        self._chars = index.chars
        self._texts = Texts(index, self._area)
        self._checker = Checker(self._texts, self.label)
        self.manifest = manifest
        self.sources: Sequence[str] = ()
        """Paths that it was read from, as they were given."""

    @property
    def shape(self) -> Shape:
        """What the guest's `context` is: a str, a mapping, or a list."""
        return self._index.shape

    @property
    def fds(self) -> Sequence[int]:
        """The index, then the arena."""
        return self._fds

    @property
    def names(self) -> Sequence[str]:
        """Of the documents, in order; empty for a list and for a text without a name."""
        return self._index.names

    @property
    def documents(self) -> int:
        """How many texts."""
        return len(self._index)

    @property
    def chars(self) -> int:
        """Of all texts."""
        return self.manifest.chars

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
        """Name a document as a user reads it."""
        if self._index.names:
            return self._index.names[document]
        return "context" if self.shape == "text" else f"context[{document}]"

    def check(self, evidence: Sequence[Place | str]) -> tuple[list[Evidence], list[str]]:
        """Look evidence up: what was found, and the quotes that are not there.

        Reads the whole context for a quote that is not there (about 1 s for a gigabyte).
        """
        return self._checker.check(evidence)

    def part(self, spans: Sequence[Span], shape: Shape) -> "SealedContext":
        """Make a context of stretches of this one."""
        texts = [self.piece(s.document, s.start, s.end or self.size(s.document)) for s in spans]
        names = [self.label(s.document) for s in spans] if shape == "documents" else []
        return seal(texts, names, shape)

    def close(self) -> None:
        """Let go of the memory. Safe to repeat."""
        fds, self._fds = self._fds, ()
        for fd in fds:
            os.close(fd)
        if fds:
            self._texts.close()
            self._area.close()


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
    writer: ArenaWriter, shape: Shape, names: Sequence[str], sources: Sequence[Source]
) -> SealedContext:
    """Seal what was written and put the index beside it."""
    arena_fd, placed = writer.seal()
    data = write_index(shape, [sealed.entry for sealed in placed], names)
    index = read_index(data, os.fstat(arena_fd).st_size)
    facts = [
        DocumentFacts(
            name=name,
            chars=sealed.entry.chars,
            kind=sealed.entry.kind,
            encoding=source.encoding,
            source_bytes=source.size_bytes,
            source_sha256=source.sha256,
            sealed_sha256=sealed.sha256,
        )
        for name, sealed, source in zip(names or [""] * len(placed), placed, sources, strict=True)
    ]
    manifest = Manifest(shape=shape, documents=facts)
    return SealedContext(sealed_bytes(data, "abyme-index"), arena_fd, index, manifest)


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
