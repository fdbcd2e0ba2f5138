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
    """What a document that came out of a source is to be called."""

    wanted: str
    else_: str = ""
    """Where another has that name; if this is taken as well, a number tells them apart."""
    inner: bool = False
    """Of something in a container: it is a document, be it the only one."""


Named: TypeAlias = str | Name
"""A `str` is the name that the walk gave a source; no other source has it."""

_Shelved: TypeAlias = tuple[Order, int, Named, int, Source]
"""Order, number in the arena, name, characters, source. Plain: there may be 100,000."""


class Shelf:
    """Takes texts, gaps and notes; gives the sealed context. `close` drops what is not sealed."""

    def __init__(self, writer: ArenaWriter) -> None:
        self._writer = writer
        self.room = writer.room
        self._lock = threading.Lock()
        self._shelved: list[_Shelved] = []
        self._skipped: list[tuple[Order, Named, str]] = []
        self._notes: list[tuple[Order, Named, str]] = []
        self.has_passing = False
        """Something is missing that may be read on another day."""

    def decoded(self, order: Order, name: Named, text: Decoded) -> None:
        """Take a text that was read whole."""
        source = Source(text.encoding, text.source_bytes, text.source_sha256)
        with self._lock:
            self._writer.add(text.payload, text.kind, text.sealed_sha256)
            self._put(order, name, len(text.payload) // WIDTH[text.kind], source)
            if text.note:
                self._notes.append((order, name, text.note))

    def streamed(self, order: Order, name: Named, file: BinaryIO) -> None:
        """Take a plain text piece by piece from a file that can be sought.

        Raises:
            NotText: it is binary, or changed meanwhile.
            OSError: it cannot be read.
        """
        with self._lock:
            text = stream(file, self._writer)
            source = Source(text.encoding, text.source_bytes, text.source_sha256)
            self._put(order, name, text.chars, source)
            if text.note:
                self._notes.append((order, name, text.note))

    def text(
        self, order: Order, name: Named, text: str, source: Source, table: bytes | None = None
    ) -> None:
        """Take what a reader made of a file."""
        with self._lock:
            self._writer.add_text(text)
            if table:
                source = source._replace(table=self._writer.add_blob(table))
            self._put(order, name, len(text), source)

    def skip(self, order: Order, name: Named, reason: str) -> None:
        """Take note of what is not read."""
        with self._lock:
            self._skipped.append((order, name, reason))

    def note(self, order: Order, name: Named, note: str) -> None:
        """Take note of what is to be known of a document."""
        with self._lock:
            self._notes.append((order, name, note))

    def account(self) -> tuple[list[ReadFile], list[Skipped], list[Note]]:
        """Tell what was read, skipped and noted, in the order of the sources."""
        shelved = self._shelved = sorted(self._shelved, key=lambda one: one[0])
        names = _unique([name for _, _, name, _, _ in shelved])
        read = [
            ReadFile(
                name,
                chars,
                chars if source.size_bytes is None else source.size_bytes,
                source.encoding or "",
            )
            for name, (_, _, _, chars, source) in zip(names, shelved, strict=True)
        ]
        skipped = [Skipped(source_of(name), why) for _, name, why in _in_order(self._skipped)]
        at = dict(zip([one[0] for one in shelved], names, strict=True)) if self._notes else {}
        notes = [
            Note(at.get(order, wanted(name)), note) for order, name, note in _in_order(self._notes)
        ]
        return read, skipped, notes

    def sealed(
        self,
        account: tuple[list[ReadFile], list[Skipped], list[Note]],
        *,
        single: bool,
    ) -> Loaded:
        """Seal what was taken. `single`: one source was named, and it is a file."""
        read, skipped, notes = account
        alone = single and len(read) == 1 and not is_inner(self._shelved[0][2])
        context = finish(
            self._writer,
            "text" if alone else "documents",
            [file.name for file in read],
            [source for _, _, _, _, source in self._shelved],
            order=[number for _, number, _, _, _ in self._shelved],
        )
        context.manifest = structs.replace(
            context.manifest,
            skipped=[SkippedFacts(name=name, reason=reason) for name, reason in skipped],
            notes=[NoteFacts(name=name, note=note) for name, note in notes],
        )
        return Loaded(context, read, skipped, notes, has_passing=self.has_passing)

    def close(self) -> None:
        """Drop what is not sealed. Safe to repeat."""
        with self._lock:
            self._writer.close()

    def _put(self, order: Order, name: Named, chars: int, source: Source) -> None:
        self._shelved.append((order, len(self._shelved), name, chars, source))


def _in_order(told: list[tuple[Order, Named, str]]) -> list[tuple[Order, Named, str]]:
    return sorted(told, key=lambda one: one[0])


def wanted(name: Named) -> str:
    """Say what a document is to be called, if nothing else is called that."""
    return name if isinstance(name, str) else name.wanted


def source_of(name: Named) -> str:
    """Name what a document would have come out of, as a user sees it."""
    return name if isinstance(name, str) else name.else_ or name.wanted


def is_inner(name: Named) -> bool:
    """Whether it is of something in a container."""
    return isinstance(name, Name) and name.inner


def _unique(names: list[Named]) -> list[str]:
    """Call documents what they are to be called, as far as no other is called that."""
    taken = {name for name in names if isinstance(name, str)}
    if len(taken) == len(names):
        return [wanted(name) for name in names]
    unique: list[str] = []
    numbers: dict[str, int] = {}
    for name in names:
        if isinstance(name, str):
            unique.append(name)
            continue
        chosen = name.else_ if name.wanted in taken and name.else_ else name.wanted
        base = chosen
        while chosen in taken:
            numbers[base] = numbers.get(base, 1) + 1
            chosen = f"{base}~{numbers[base]}"
        taken.add(chosen)
        unique.append(chosen)
    return unique
