"""Paths and standard input -> a sealed context, and an account of what was read.

Small plain files are read, decoded and hashed on a few threads and sealed in order; files of
`STREAMED_BYTES` and more are taken piece by piece, so that memory stays at a few pieces beside
the arena itself. What needs a reader is read in the background meanwhile (`unpacking`).

Invariant: what is not read is in `Loaded.skipped`, with the reason; only a path
that does not exist, or an input without any text, is an error.
Does not choose files (`walk`), formats (`kinds`) or encodings (`decode`).
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeAlias

from msgspec import structs

from abyme.contexts import kinds
from abyme.contexts.account import (
    Loaded,
    Note,
    Progress,
    ReadFile,
    install_words,
    is_passing,
    skipped_words,
    why,
)
from abyme.contexts.arena import ArenaWriter
from abyme.contexts.cache import IngestCache
from abyme.contexts.choice import EVERYTHING, Choice
from abyme.contexts.decode import Decoded, NotText, decode, look
from abyme.contexts.ignored import open_plain
from abyme.contexts.kinds import Kind
from abyme.contexts.members import Job
from abyme.contexts.room import MEMORY_ONLY, NoRoom, Room
from abyme.contexts.sealed import SealedContext
from abyme.contexts.shelf import Shelf
from abyme.contexts.sizes import size_words
from abyme.contexts.stream import spooled
from abyme.contexts.unpacking import Unpacking
from abyme.contexts.walk import NO_ENV, STDIN, Excluded, Found, Skipped, Walk
from abyme.errors import ContextError

__all__ = ["Loaded", "Note", "Progress", "ReadFile", "load_paths", "size_words", "skipped_words"]

STREAMED_BYTES: Final = 4 << 20
MAX_THREADS: Final = 4
_LARGEST: Final = 3
"""Files that are named where there is no room."""
_BATCH_FILES: Final = 64
_BATCH_BYTES: Final = 2 << 20


def load_paths(  # noqa: PLR0913 - what a user says of sources; data, no modes
    paths: Sequence[str | Path],
    *,
    located: Sequence[str | Path] | None = None,
    stdin: BinaryIO | None = None,
    choice: Choice = EVERYTHING,
    env: Mapping[str, str] = NO_ENV,
    on_progress: Callable[[Progress], None] | None = None,
    room: Room = MEMORY_ONLY,
    cache: IngestCache | None = None,
) -> Loaded:
    """Read files, folders and standard input (``-``) into a sealed context.

    One file alone, or standard input alone, is a text; anything else documents. `located`
    says where `paths` are now, if they were given in another working directory; `env` has what
    URLs and git need (see `remote`). What memory would not hold goes where `room` says; what
    `cache` knows and has not changed is mapped, and what it does not know is offered to it.

    Raises:
        ContextError: a path that does not exist, nothing to read, no memory to seal it in.
    """

    def fetched(done: int, total: int) -> None:
        if on_progress:
            on_progress(Progress(0, len(paths), done, total))

    with closing(Walk(paths, located, choice=choice, env=env, on_fetch=fetched)) as walk:
        recipe = cache.recipe(walk, choice) if cache else None
        if cache and recipe and (known := cache.find(recipe)):
            return _account(known)
        try:
            loaded = _read(walk, stdin, choice, room, on_progress)
        except NoRoom as error:
            raise NoRoom(f"{error}{_largest(walk.found)}") from error
        if cache and recipe and not loaded.has_passing:
            cache.offer(recipe, loaded.context)
        return loaded


def _read(
    walk: Walk,
    stdin: BinaryIO | None,
    choice: Choice,
    room: Room,
    on_progress: Callable[[Progress], None] | None,
) -> Loaded:
    """Read what was found, and seal it."""
    memory_bytes = room.most_memory_bytes()
    shelf = Shelf(ArenaWriter(room, _expected_bytes(walk.found, choice, memory_bytes)))
    unpacking = Unpacking(shelf, choice, threads=os.cpu_count() or 1, memory_bytes=memory_bytes)
    loader = _Loader(walk, shelf, unpacking, stdin, choice)
    try:
        loader.run(on_progress)
        return loader.finish()
    finally:
        loader.close()


def _expected_bytes(found: Sequence[Found], choice: Choice, memory_bytes: int) -> int:
    """Sum what is to be sealed, as far as it is known: where it matters, by a look at heads."""
    limit = choice.max_file_bytes
    sizes = [file.size_bytes or 0 for file in found]
    total = sum(size for size in sizes if limit is None or size <= limit)
    if total <= memory_bytes:
        return total
    for file, size in zip(found, sizes, strict=True):
        if size >= STREAMED_BYTES and (limit is None or size <= limit) and not _is_plain(file):
            total -= size
    return total


def _is_plain(file: Found) -> bool:
    """Whether a file is read as it lies there, as far as its beginning tells."""
    try:
        with _reopened(file) as raw:
            head = os.pread(raw.fileno(), kinds.HEAD_BYTES, 0)
        look(head)
    except (NotText, OSError):
        return False
    return kinds.choose(file.name, head) is None


def _largest(found: Sequence[Found]) -> str:
    """Say which files take so much, and what can be done."""
    by_size = sorted(found, key=lambda file: -(file.size_bytes or 0))[:_LARGEST]
    named = [f"{file.name} ({size_words(file.size_bytes)})" for file in by_size if file.size_bytes]
    if not named:
        return ""
    return f"; the largest: {', '.join(named)}; --max-file-size or --exclude leave files out"


def _account(context: SealedContext) -> Loaded:
    """Say of a context that comes from the cache what was said when it was read."""
    manifest = context.manifest
    read = [
        ReadFile(facts.name, facts.chars, facts.source_bytes or 0, facts.encoding or "")
        for facts in manifest.documents
    ]
    skipped = [Skipped(item.name, item.reason) for item in manifest.skipped]
    notes = [Note(one.name, one.note) for one in manifest.notes]
    return Loaded(context, read, skipped, notes, cached=True)


class _Large:
    """Stands for a file that is to be taken piece by piece."""


class _Noted(NamedTuple):
    """A text, and what is to be known of it."""

    text: Decoded
    note: str


_Outcome: TypeAlias = Decoded | _Noted | Skipped | _Large | Kind


class _Loader:
    def __init__(
        self,
        walk: Walk,
        shelf: Shelf,
        unpacking: Unpacking,
        stdin: BinaryIO | None,
        choice: Choice,
    ) -> None:
        self._walk = walk
        self._stdin = stdin
        self._choice = choice
        self._shelf = shelf
        self._unpacking = unpacking
        self._threads = min(MAX_THREADS, (os.cpu_count() or 1) + 1)
        self._pool = ThreadPoolExecutor(self._threads, "abyme-read")
        self._jobs = self._files = self._bytes = self._told = 0
        """Files for readers; others that are done, and their bytes; bytes that were reported."""
        for number, (name, reason) in enumerate(walk.skipped):
            shelf.skip((-1, number), name, reason)

    def run(self, on_progress: Callable[[Progress], None] | None) -> None:
        """Read everything, in order, a few batches ahead."""
        found = self._walk.found
        total = sum(file.size_bytes or 0 for file in found)

        def report() -> None:
            files, size = self._unpacking.progress()
            if on_progress:  # readers may go back in a file; what was told stays told
                self._told = max(self._told, min(total, self._bytes + size))
                on_progress(Progress(self._files + files, len(found), self._told, total))

        batches = _batches(found)
        ahead: deque[tuple[int, list[Found], Future[list[_Outcome]]]] = deque()
        while True:
            while len(ahead) <= self._threads and (batch := next(batches, None)):
                ahead.append((*batch, self._pool.submit(self._read_batch, batch[1])))
            if not ahead:
                break
            first, files, future = ahead.popleft()
            for number, (file, outcome) in enumerate(
                zip(files, future.result(), strict=True), start=first
            ):
                self._take(number, file, outcome)
            report()
        if self._jobs:
            self._unpacking.wait(report)

    def finish(self) -> Loaded:
        """Seal what was read."""
        account = read, skipped, notes = self._shelf.account()
        if not any(file.chars for file in read):
            if read:
                raise ContextError("nothing to read: the input is empty")
            hint = install_words(skipped, notes)
            if len(skipped) == 1:
                raise ContextError("nothing to read: {}: {}".format(*skipped[0]) + hint)
            words = (self._left_out().words(), skipped_words(skipped))
            reason = ", ".join(filter(None, words)) or "the folder holds no file"
            raise ContextError(f"nothing to read: {reason}{hint}")
        loaded = self._shelf.sealed(account, single=self._walk.single)
        loaded.context.sources = self._walk.given
        loaded.context.manifest = structs.replace(
            loaded.context.manifest,
            choice=self._choice,
            left_out=self._left_out(),
            revisions=self._walk.revisions,
        )
        return loaded

    def _left_out(self) -> Excluded:
        files, folders = self._walk.excluded
        return Excluded(files + self._unpacking.left_out, folders)

    def close(self) -> None:
        """Stop reading and drop what is not sealed."""
        self._pool.shutdown(cancel_futures=True)
        self._unpacking.close()
        self._shelf.close()

    def _read_batch(self, batch: list[Found]) -> list[_Outcome]:
        return [self._read_one(file) for file in batch]

    def _read_one(self, file: Found) -> _Outcome:
        """Read and decode a file, on a thread. Large ones are left to the main thread."""
        if file.size_bytes is None:
            return _Large()
        try:
            data = self._small(file)
            return _Large() if data is None else self._decoded(file, data)
        except NotText as error:
            return Skipped(file.name, str(error))
        except OSError as error:
            return self._failed(file, error)

    def _failed(self, file: Found, error: OSError) -> Skipped:
        if is_passing(error):
            self._shelf.has_passing = True
        return Skipped(file.name, why(error))

    def _decoded(self, file: Found, data: bytes) -> _Outcome:
        kind = kinds.choose(file.name, data[: kinds.HEAD_BYTES])
        if kind is None:
            return decode(data)
        reason = self._unpacking.instead(kind)
        if reason is None:
            return kind
        if not kind.is_text:
            raise NotText(reason)
        return _Noted(decode(data), reason)

    def _small(self, file: Found) -> bytes | None:
        """Read a file, unless it is to be streamed."""
        limit = self._choice.max_file_bytes
        with _reopened(file) as raw:
            status = os.fstat(raw.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NotText("changed while it was read")
            if limit is not None and status.st_size > limit:
                raise NotText(f"over {size_words(limit)}")
            return raw.read() if status.st_size < STREAMED_BYTES else None

    def _take(self, number: int, file: Found, outcome: _Outcome) -> None:
        """Put what a thread has read on the shelf, or have it read."""
        if isinstance(outcome, Kind):
            self._have_read(Job((number,), file.name, outcome, lambda: _reopened(file)))
            return
        if isinstance(outcome, _Large):
            try:
                if self._take_large(number, file):
                    return
            except NotText as error:
                outcome = Skipped(file.name, str(error))
            except OSError as error:
                outcome = self._failed(file, error)
        self._files += 1
        self._bytes += file.size_bytes or 0
        if isinstance(outcome, _Noted):
            if outcome.note:
                self._shelf.note((number,), file.name, outcome.note)
            outcome = outcome.text
        if isinstance(outcome, Skipped):
            self._shelf.skip((number,), file.name, outcome.reason)
        elif isinstance(outcome, Decoded):
            self._shelf.decoded((number,), file.name, outcome)

    def _take_large(self, number: int, file: Found) -> bool:
        """Take a file piece by piece, or have it read: then True."""
        raw = self._opened(file)
        kind = kinds.choose(file.name, os.pread(raw.fileno(), kinds.HEAD_BYTES, 0))
        if kind is not None:
            self._have_read(Job((number,), file.name, kind, lambda: raw))
            return True
        with raw:
            self._shelf.streamed((number,), file.name, raw)
        return False

    def _have_read(self, job: Job) -> None:
        self._jobs += 1
        self._unpacking.submit(job)

    def _opened(self, file: Found) -> BinaryIO:
        if file.path == STDIN:
            if self._stdin is None:
                raise ContextError("there is no standard input to read")
            return spooled(self._stdin, self._shelf.room)
        if file.size_bytes is None:
            with Path(file.path).open("rb") as pipe:
                return spooled(pipe, self._shelf.room)
        return _reopened(file)


def _reopened(file: Found) -> BinaryIO:
    if file.open is not None:
        return file.open()
    return open(file.path, "rb", buffering=0, opener=open_plain)


def _batches(found: Sequence[Found]) -> Iterator[tuple[int, list[Found]]]:
    """Give files a few at a time, and the number of the first of them."""
    batch: list[Found] = []
    first = size = 0
    for file in found:
        batch.append(file)
        size += file.size_bytes or 0
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield first, batch
            first += len(batch)
            batch, size = [], 0
    if batch:
        yield first, batch
