"""What a load has read so far: texts go into the arena as they come, from any thread.

Decides the order of documents (that of the sources, whatever was ready first) and that every
name occurs once. Invariant: one thread at a time writes to the arena, and what is skipped or
noted is told under the name that its document would have.
Does not read files.
"""

import threading
from typing import BinaryIO, NamedTuple, TypeAlias

from msgspec import structs

from abyme.contexts.account import Loaded, Note, ReadFile
from abyme.contexts.arena import ArenaWriter
from abyme.contexts.decode import Decoded
from abyme.contexts.manifest import NoteFacts, SkippedFacts
from abyme.contexts.sealed import Source, finish
from abyme.contexts.stream import stream
from abyme.contexts.walk import Skipped
from abyme.layout import WIDTH

Order: TypeAlias = tuple[int, ...]
"""Where something stands: number of the source, of the member in it, of the member in that."""


class Name(NamedTuple):
    """What a document is to be called."""

    wanted: str
    else_: str = ""
    """Where another has that name; if this is taken as well, a number tells them apart."""
    given: bool = False
    """By the walk, which has seen to it that no other source has it."""
    inner: bool = False
    """Of something in a container: it is a document, be it the only one."""


class _Shelved(NamedTuple):
    order: Order
    number: int
    """In the arena."""
    name: Name
    file: ReadFile
    source: Source


class Shelf:
    """Takes texts, gaps and notes; gives the sealed context. `close` drops what is not sealed."""

    def __init__(self, writer: ArenaWriter) -> None:
        self._writer = writer
        self._lock = threading.Lock()
        self._shelved: list[_Shelved] = []
        self._skipped: list[tuple[Order, Name, str]] = []
        self._notes: list[tuple[Order, Name, str]] = []

    def decoded(self, order: Order, name: Name, text: Decoded) -> None:
        """Take a text that was read whole."""
        file = ReadFile("", len(text.payload) // WIDTH[text.kind], text.source_bytes, text.encoding)
        source = Source(text.encoding, text.source_bytes, text.source_sha256)
        with self._lock:
            self._writer.add(text.payload, text.kind, text.sealed_sha256)
            self._put(order, name, file, source)

    def streamed(self, order: Order, name: Name, file: BinaryIO) -> int:
        """Take a plain text piece by piece from a file that can be sought; its characters.

        Raises:
            NotText: it is binary, or changed meanwhile.
            OSError: it cannot be read.
        """
        with self._lock:
            text = stream(file, self._writer)
            read = ReadFile("", text.chars, text.source_bytes, text.encoding)
            source = Source(text.encoding, text.source_bytes, text.source_sha256)
            self._put(order, name, read, source)
        return text.chars

    def text(
        self, order: Order, name: Name, text: str, source: Source, table: bytes | None = None
    ) -> None:
        """Take what a reader made of a file."""
        size_bytes = len(text) if source.size_bytes is None else source.size_bytes
        with self._lock:
            self._writer.add_text(text)
            if table:
                source = source._replace(table=self._writer.add_blob(table))
            self._put(order, name, ReadFile("", len(text), size_bytes, ""), source)

    def skip(self, order: Order, name: Name, reason: str) -> None:
        """Take note of what is not read."""
        with self._lock:
            self._skipped.append((order, name, reason))

    def note(self, order: Order, name: Name, note: str) -> None:
        """Take note of what is to be known of a document."""
        with self._lock:
            self._notes.append((order, name, note))

    def account(self) -> tuple[list[ReadFile], list[Skipped], list[Note]]:
        """Tell what was read, skipped and noted, in the order of the sources."""
        self._shelved.sort(key=lambda one: one.order)
        names = _unique([one.name for one in self._shelved])
        read = [
            one.file._replace(name=name) for one, name in zip(self._shelved, names, strict=True)
        ]
        skipped = [Skipped(name.wanted, why) for _, name, why in sorted(self._skipped)]
        by_order = {one.order: file.name for one, file in zip(self._shelved, read, strict=True)}
        notes = [
            Note(by_order.get(order, name.wanted), note)
            for order, name, note in sorted(self._notes)
        ]
        return read, skipped, notes

    def sealed(self, *, single: bool) -> Loaded:
        """Seal what was taken. `single`: one source was named, and it is a file."""
        read, skipped, notes = self.account()
        alone = single and len(read) == 1 and not self._shelved[0].name.inner
        context = finish(
            self._writer,
            "text" if alone else "documents",
            [file.name for file in read],
            [one.source for one in self._shelved],
            order=[one.number for one in self._shelved],
        )
        context.manifest = structs.replace(
            context.manifest,
            skipped=[SkippedFacts(name=name, reason=reason) for name, reason in skipped],
            notes=[NoteFacts(name=name, note=note) for name, note in notes],
        )
        return Loaded(context, read, skipped, notes)

    def close(self) -> None:
        """Drop what is not sealed. Safe to repeat."""
        with self._lock:
            self._writer.close()

    def _put(self, order: Order, name: Name, file: ReadFile, source: Source) -> None:
        self._shelved.append(_Shelved(order, len(self._shelved), name, file, source))


def _unique(names: list[Name]) -> list[str]:
    """Call documents what they are to be called, as far as no other is called that."""
    taken = {name.wanted for name in names if name.given}
    unique: list[str] = []
    numbers: dict[str, int] = {}
    for name in names:
        chosen = name.wanted
        if not name.given:
            if chosen in taken and name.else_:
                chosen = name.else_
            base = chosen
            while chosen in taken:
                numbers[base] = numbers.get(base, 1) + 1
                chosen = f"{base}~{numbers[base]}"
            taken.add(chosen)
        unique.append(chosen)
    return unique
