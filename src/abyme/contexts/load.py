"""Paths and standard input -> a sealed context, and an account of what was read.

Small files are read, decoded and hashed on a few threads and sealed in order;
files of `STREAMED_BYTES` and more are taken piece by piece, so that memory stays
at a few pieces beside the arena itself.

Invariant: what is not read is in `Loaded.skipped`, with the reason; only a path
that does not exist, or an input without any text, is an error.
Does not choose files (`walk`) or encodings (`decode`).
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeAlias

from msgspec import structs

from abyme.contexts.arena import ArenaWriter
from abyme.contexts.cache import IngestCache
from abyme.contexts.choice import EVERYTHING, Choice
from abyme.contexts.decode import Decoded, NotText, decode
from abyme.contexts.ignored import open_plain
from abyme.contexts.manifest import SkippedFacts
from abyme.contexts.room import MEMORY_ONLY, Room
from abyme.contexts.sealed import SealedContext, Source, finish
from abyme.contexts.sizes import size_words
from abyme.contexts.stream import Streamed, spooled, stream
from abyme.contexts.walk import NO_ENV, STDIN, Found, Skipped, Walk
from abyme.errors import ContextError
from abyme.layout import WIDTH, Shape

STREAMED_BYTES: Final = 4 << 20
MAX_THREADS: Final = 4
_NAMED: Final = 3
"""Skipped files that one line names."""
_BATCH_FILES: Final = 64
_BATCH_BYTES: Final = 2 << 20


class ReadFile(NamedTuple):
    """A file that is in the context."""

    name: str
    chars: int
    size_bytes: int
    encoding: str


class Progress(NamedTuple):
    """How far reading has come."""

    files: int
    files_total: int
    size_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A sealed context and the account of it. Whoever takes the context closes it."""

    context: SealedContext
    read: list[ReadFile]
    skipped: list[Skipped]

    def summary(self) -> str:
        """One line: what was read and what was not."""
        size = size_words(sum(file.size_bytes for file in self.read))
        files = "1 file" if len(self.read) == 1 else f"{len(self.read):,} files"
        return ", ".join(filter(None, (f"read {files} ({size})", skipped_words(self.skipped))))


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
    with closing(Walk(paths, located, choice=choice, env=env)) as walk:
        recipe = cache.recipe(walk, choice) if cache else None
        if cache and recipe and (known := cache.find(recipe)):
            return _account(known)
        expected = sum(file.size_bytes or 0 for file in walk.found)
        loader = _Loader(walk, ArenaWriter(room, expected), stdin, choice, on_progress)
        try:
            loader.run()
            loaded = loader.finish()
        finally:
            loader.close()
        if cache and recipe:
            cache.offer(recipe, loaded.context)
        return loaded


def _account(context: SealedContext) -> Loaded:
    """Say of a context that comes from the cache what was said when it was read."""
    manifest = context.manifest
    read = [
        ReadFile(facts.name, facts.chars, facts.source_bytes or 0, facts.encoding or "")
        for facts in manifest.documents
    ]
    return Loaded(context, read, [Skipped(item.name, item.reason) for item in manifest.skipped])


class _Large:
    """Stands for a file that is to be taken piece by piece."""


_Outcome: TypeAlias = Decoded | Skipped | _Large


class _Loader:
    def __init__(
        self,
        walk: Walk,
        writer: ArenaWriter,
        stdin: BinaryIO | None,
        choice: Choice,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._walk = walk
        self._stdin = stdin
        self._choice = choice
        self._on_progress = on_progress
        self._skipped = list(walk.skipped)
        self._read: list[ReadFile] = []
        self._sources: list[Source] = []
        self._writer = writer
        self._threads = min(MAX_THREADS, (os.cpu_count() or 1) + 1)
        self._pool = ThreadPoolExecutor(self._threads, "abyme-read")

    def run(self) -> None:
        """Read everything, in order, a few batches ahead."""
        found = self._walk.found
        total = sum(file.size_bytes or 0 for file in found)
        batches = _batches(found)
        ahead: deque[tuple[list[Found], Future[list[_Outcome]]]] = deque()
        done = size = 0
        while True:
            while len(ahead) <= self._threads and (batch := next(batches, None)):
                ahead.append((batch, self._pool.submit(self._read_batch, batch)))
            if not ahead:
                return
            batch, future = ahead.popleft()
            for file, outcome in zip(batch, future.result(), strict=True):
                self._take(file, outcome)
                size += file.size_bytes or 0
            done += len(batch)
            if self._on_progress:
                self._on_progress(Progress(done, len(found), size, total))

    def finish(self) -> Loaded:
        """Seal what was read."""
        if not any(file.chars for file in self._read):
            if self._read:
                raise ContextError("nothing to read: the input is empty")
            if len(self._skipped) == 1:
                raise ContextError("nothing to read: {}: {}".format(*self._skipped[0]))
            why = skipped_words(self._skipped) or "the folder holds no file"
            raise ContextError(f"nothing to read: {why}")
        shape: Shape = "text" if self._walk.single else "documents"
        names = [file.name for file in self._read]
        context = finish(self._writer, shape, names, self._sources)
        context.sources = self._walk.given
        skipped = [SkippedFacts(name=item.name, reason=item.reason) for item in self._skipped]
        context.manifest = structs.replace(
            context.manifest,
            skipped=skipped,
            choice=self._choice,
            left_out=self._walk.excluded,
            revisions=self._walk.revisions,
        )
        return Loaded(context, self._read, self._skipped)

    def close(self) -> None:
        """Stop reading and drop what is not sealed."""
        self._pool.shutdown(cancel_futures=True)
        self._writer.close()

    def _read_batch(self, batch: list[Found]) -> list[_Outcome]:
        return [self._read_one(file) for file in batch]

    def _read_one(self, file: Found) -> _Outcome:
        """Read and decode a file, on a thread. Large ones are left to the main thread."""
        if file.size_bytes is None:
            return _Large()
        try:
            data = self._small(file)
            return _Large() if data is None else decode(data)
        except NotText as error:
            return Skipped(file.name, str(error))
        except OSError as error:
            return Skipped(file.name, why(error))

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

    def _take(self, file: Found, outcome: _Outcome) -> None:
        """Put what a thread has read into the arena."""
        if isinstance(outcome, _Large):
            try:
                with self._opened(file) as raw:
                    text = stream(raw, self._writer)
            except NotText as error:
                outcome = Skipped(file.name, str(error))
            except OSError as error:
                outcome = Skipped(file.name, why(error))
        elif isinstance(outcome, Decoded):
            self._writer.add(outcome.payload, outcome.kind, outcome.sealed_sha256)
            chars = len(outcome.payload) // WIDTH[outcome.kind]
            text = Streamed(chars, outcome.encoding, outcome.source_bytes, outcome.source_sha256)
        if isinstance(outcome, Skipped):
            self._skipped.append(outcome)
            return
        self._read.append(ReadFile(file.name, text.chars, text.source_bytes, text.encoding))
        self._sources.append(Source(text.encoding, text.source_bytes, text.source_sha256))

    def _opened(self, file: Found) -> BinaryIO:
        if file.path == STDIN:
            if self._stdin is None:
                raise ContextError("there is no standard input to read")
            return spooled(self._stdin)
        if file.size_bytes is None:
            with Path(file.path).open("rb") as pipe:
                return spooled(pipe)
        return _reopened(file)


def _reopened(file: Found) -> BinaryIO:
    if file.open is not None:
        return file.open()
    return open(file.path, "rb", buffering=0, opener=open_plain)


def _batches(found: Sequence[Found]) -> Iterator[list[Found]]:
    batch: list[Found] = []
    size = 0
    for file in found:
        batch.append(file)
        size += file.size_bytes or 0
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def skipped_words(skipped: Sequence[Skipped]) -> str:
    """Count what was skipped, and name the first few: ``skipped 2: a.bin (binary), b (link)``."""
    if not skipped:
        return ""
    named = [f"{item.name} ({item.reason})" for item in skipped[:_NAMED]]
    more = ["..."] if len(skipped) > _NAMED else []
    return f"skipped {len(skipped):,}: " + ", ".join([*named, *more])


def why(error: OSError) -> str:
    """Give a reason of the operating system's as a reason for skipping."""
    return (error.strerror or type(error).__name__).lower()
