"""Files that a reader must look at: what happens to each thing that it tells of.

Texts go to the shelf; members are looked at as files of their own: plain text here, all else
handed on to a reader again. Memory: a few pieces, and the member that is being spooled.

Invariant: whatever a file holds, it ends as documents, or as skipped with the reason.
Does not decide what a file is (`kinds`), how much may be unpacked (`unpacked`), or when it is
worked on (`unpacking`).
"""

import hashlib
import importlib.util
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from abyme.contexts import kinds, unpacked
from abyme.contexts.account import NEEDS, is_passing, why
from abyme.contexts.choice import Choice
from abyme.contexts.confined import HelperUnavailable
from abyme.contexts.decode import NotText, decode, look
from abyme.contexts.filters import Filter
from abyme.contexts.kinds import Kind
from abyme.contexts.reading import (
    DocumentItem,
    Item,
    MemberItem,
    Passing,
    Readers,
    ReadLimits,
    SkippedItem,
    Unreadable,
)
from abyme.contexts.sealed import Source
from abyme.contexts.shelf import Name, Named, Order, Shelf, is_inner, wanted
from abyme.contexts.sizes import size_words
from abyme.contexts.stream import PIECE_BYTES
from abyme.contexts.unpacked import Allowance, Exceeded
from abyme.errors import ContextError

WHOLE_BYTES: Final = 4 << 20
"""A member up to this size is held whole; a larger one is spooled."""
LARGEST_PARSED_BYTES: Final = 100_000_000
"""Of formats that are text as well: a reader holds what it makes of one in memory."""
ARCHIVES: Final = frozenset(
    (kinds.ZIP, kinds.TAR, kinds.GZIP, kinds.XZ, kinds.BZIP2, kinds.ZSTD, kinds.MBOX, kinds.MAIL)
)
ARCHIVE_LIMITS: Final = ReadLimits(cpu_s=300, out_bytes=unpacked.MOST_BYTES)
"""Much of the work is unpacking; how much may come out is bounded by `unpacked`."""
DOCUMENT_LIMITS: Final = ReadLimits()


@dataclass(frozen=True, slots=True)
class Job:
    """A file that a reader is to look at."""

    order: Order
    name: Named
    kind: Kind
    open: Callable[[], BinaryIO]
    """Called once; what it gives can be sought, and is closed here."""
    depth: int = 0
    allowance: Allowance | None = None
    """Of the source that it lies in; None: it is one."""
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """What all jobs of a load share."""

    shelf: Shelf
    choice: Choice
    readers: Readers
    allowance: Allowance
    stopping: threading.Event
    hand_on: Callable[[Job], None]
    """Has a member read by a reader, and may wait until few enough are waiting."""
    filter: Filter
    missing: dict[Kind, str | None] = field(default_factory=dict)
    """What is known of libraries so far: which extra brings the one that is not there."""
    left_out: list[str] = field(default_factory=list)
    """Names of members that the user's patterns leave out."""

    def instead(self, kind: Kind) -> str | None:
        """Say why a file is not given to its reader; empty if that is not worth telling."""
        if kind.is_text and self.choice.as_is:
            return ""
        if kind not in self.missing:
            found = [importlib.util.find_spec(module) for module in kind.needs]
            needs = "" if kind.keeps_text else f"{NEEDS}{kind.extra}]"
            self.missing[kind] = None if all(found) else needs
        return self.missing[kind]

    def plain(self, job: Job, file: BinaryIO, note: str) -> None:
        """Read a format that is text as well as it lies there."""
        try:
            self.shelf.streamed(job.order, job.name, file)
        except NotText as error:
            self.shelf.skip(job.order, job.name, str(error))
        else:
            if note:
                self.shelf.note(job.order, job.name, note)


def look_at(desk: Desk, job: Job, file: BinaryIO) -> None:
    """Read a file.

    Raises:
        OSError: it cannot be read.
        ContextError: no room is left for the context.
    """
    size_bytes = os.fstat(file.fileno()).st_size
    limit = desk.choice.max_file_bytes
    reason = desk.instead(job.kind)
    if limit is not None and size_bytes > limit:
        desk.shelf.skip(job.order, job.name, f"over {size_words(limit)}")
    elif reason is None and job.kind.is_text and size_bytes > LARGEST_PARSED_BYTES:
        desk.plain(job, file, f"as plain text: over {size_words(LARGEST_PARSED_BYTES)}")
    elif reason is None:
        before = _touched(file)
        _Reading(desk, job, file, size_bytes).run()
        if _touched(file) != before:
            desk.shelf.note(job.order, job.name, "changed while it was read")
    elif job.kind.is_text:
        desk.plain(job, file, reason)
    else:
        desk.shelf.skip(job.order, job.name, reason)


class _Reading:
    """One file in the hands of its reader."""

    def __init__(self, desk: Desk, job: Job, file: BinaryIO, size_bytes: int) -> None:
        self._desk = desk
        self._shelf = desk.shelf
        self._job = job
        self._file = file
        self._size_bytes = size_bytes
        self._allowance = job.allowance or unpacked.of_source(size_bytes, desk.allowance)
        self._sha256 = job.sha256
        self._taken = self._unlisted = 0

    def run(self) -> None:
        """Take everything that the reader tells of."""
        job = self._job
        limits = ARCHIVE_LIMITS if job.kind in ARCHIVES else DOCUMENT_LIMITS
        fd, name = self._file.fileno(), wanted(job.name)
        number = -1
        began_s = time.monotonic()
        try:
            if job.depth:
                self._allowance.check_time()
            with closing(self._desk.readers.open(fd, job.kind, name, limits)) as items:
                for number, item in enumerate(items):
                    if self._desk.stopping.is_set():
                        return
                    self._item((*job.order, number), item)
        except (Unreadable, HelperUnavailable) as error:
            self._saw(error)
            self._gave_up((*job.order, number + 1), str(error))
        else:
            if number < 0:
                self._shelf.skip(job.order, job.name, "nothing is in it")
        finally:
            if job.kind not in ARCHIVES:  # these wait for what lies in them
                self._allowance.spend(time.monotonic() - began_s)
        if self._unlisted:
            more = f"{self._unlisted:,} more entries that cannot be read"
            self._shelf.skip((*job.order, number + 2), job.name, more)

    def _saw(self, error: Exception) -> None:
        """Remember that something may be read on another day."""
        passing = isinstance(error, Passing | HelperUnavailable)
        passing = passing or (isinstance(error, Exceeded) and error.is_passing)
        if passing or (isinstance(error, OSError) and is_passing(error)):
            self._shelf.has_passing = True

    def _gave_up(self, order: Order, reason: str) -> None:
        job = self._job
        if self._desk.stopping.is_set():  # readers were ended
            return
        if not self._taken and job.kind.is_text:
            self._desk.plain(job, self._file, f"as plain text: {reason}")
            return
        if self._taken:
            reason += f" after {self._taken:,} file{'s' * (self._taken > 1)}"
        self._shelf.skip(order, job.name, reason)

    def _item(self, order: Order, item: Item) -> None:
        if item.name and self._desk.filter.excludes(wanted(self._name(item.name))):
            self._desk.left_out.append(item.name)
        elif isinstance(item, SkippedItem):
            self._skip(order, self._name(item.name), item.reason)
        elif isinstance(item, DocumentItem):
            self._document(order, item)
        else:
            self._member(order, item)

    def _skip(self, order: Order, name: Named, reason: str) -> None:
        if self._allowance.lists():
            self._shelf.skip(order, name, reason)
        else:
            self._unlisted += 1

    def _document(self, order: Order, item: DocumentItem) -> None:
        self._allowance.take_file()
        self._allowance.take(len(item.text) + len(item.table or b""))
        if self._sha256 is None:
            self._sha256 = _digest(self._file)
        source = Source(
            size_bytes=None if item.name else self._size_bytes,
            sha256=self._sha256,
            media=item.media,
            pages=item.pages,
            page_word=item.page_word,
        )
        name = self._name(item.name)
        text = item.text.replace("\0", "\ufffd") if "\0" in item.text else item.text
        self._shelf.text(order, name, text, source, item.table)
        self._taken += 1
        if item.note:
            self._shelf.note(order, name, item.note)

    def _member(self, order: Order, item: MemberItem) -> None:
        self._allowance.take_file()
        name = self._member_name(item.name)
        try:
            self._take(order, name, item)
        except NotText as error:
            self._skip(order, name, str(error))
        except OSError as error:
            self._saw(error)
            self._skip(order, name, why(error))
        except Exceeded:
            raise
        except Unreadable as error:
            self._saw(error)
            self._skip(order, name, str(error))

    def _take(self, order: Order, name: Named, item: MemberItem) -> None:
        limit = self._desk.choice.max_file_bytes
        if limit is not None and (item.size_bytes or 0) > limit:
            raise NotText(f"over {size_words(limit)}")
        pieces = self._bounded(item.data, limit)
        head = b"".join(_first(pieces, WHOLE_BYTES))
        kind = kinds.choose(wanted(name), head[: kinds.HEAD_BYTES])
        reason = None if kind is None else self._desk.instead(kind)
        if kind is not None and reason is None:
            self._hand_on(order, name, kind, _joined(head, pieces))
            return
        if kind is not None and not kind.is_text:
            raise NotText(reason or "")
        if len(head) < WHOLE_BYTES:
            text = decode(head)
            self._allowance.take(max(0, len(text.payload) - len(head)))
            self._shelf.decoded(order, name, text)
        else:
            look(head[: kinds.HEAD_BYTES])  # before a large binary is spooled
            with _spool() as spool:
                _fill(spool, _joined(head, pieces))
                self._streamed(order, name, spool)
        self._taken += 1
        if reason:
            self._shelf.note(order, name, reason)

    def _streamed(self, order: Order, name: Named, spool: BinaryIO) -> None:
        try:
            self._shelf.streamed(order, name, spool)
        except ContextError as error:  # as wide as it is; the arena is what it was
            self._shelf.has_passing = True
            raise NotText(str(error)) from error

    def _hand_on(self, order: Order, name: Named, kind: Kind, pieces: Iterator[bytes]) -> None:
        if kind in ARCHIVES and self._job.depth + 1 >= unpacked.MAX_DEPTH:
            raise NotText(f"more than {unpacked.MAX_DEPTH} archives within each other")
        spool = _spool()
        digest = hashlib.sha256()
        try:
            _fill(spool, _hashed(pieces, digest))
        except BaseException:
            spool.close()
            raise
        self._taken += 1
        depth = self._job.depth + 1
        job = Job(order, name, kind, lambda: spool, depth, self._allowance, digest.hexdigest())
        self._desk.hand_on(job)

    def _bounded(self, data: Iterator[bytes], limit: int | None) -> Iterator[bytes]:
        size = 0
        for piece in data:
            size += len(piece)
            if limit is not None and size > limit:
                raise NotText(f"over {size_words(limit)}")
            self._allowance.take(len(piece))
            yield piece

    def _name(self, name: str) -> Named:
        """Name a document; one without a name of its own is the file itself."""
        if not name:
            return self._job.name
        return Name(f"{wanted(self._job.name)}/{unpacked.inner_name(name)}", inner=True)

    def _member_name(self, name: str) -> Named:
        """Name a member; one without a name of its own is what is packed in the file."""
        if name:
            return self._name(name)
        packed = wanted(self._job.name)
        plain = unpacked.unpacked_name(packed)
        if plain == packed:
            return self._job.name
        return Name(plain, else_=packed, inner=is_inner(self._job.name))


def _touched(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _first(pieces: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
    """Give pieces until there are so many bytes; the others stay where they are."""
    for piece in pieces:
        yield piece
        size_bytes -= len(piece)
        if size_bytes <= 0:
            return


def _joined(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


def _spool() -> BinaryIO:
    """Memory that can be read as a file."""
    return os.fdopen(os.memfd_create("abyme-spool", os.MFD_CLOEXEC), "w+b", buffering=0)


def _fill(spool: BinaryIO, pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[spool.write(view) :]
    spool.seek(0)


def _hashed(pieces: Iterator[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _digest(file: BinaryIO) -> str:
    """Hash a file without moving its position."""
    digest = hashlib.sha256()
    at = 0
    while piece := os.pread(file.fileno(), PIECE_BYTES, at):
        digest.update(piece)
        at += len(piece)
    return digest.hexdigest()
