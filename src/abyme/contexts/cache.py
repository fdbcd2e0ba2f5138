"""The ingest cache: what was read before and has not changed is mapped, not read again.

Decides what a recipe is made of (every file as `lstat` has it, what was chosen, what reads it),
which recipes can be trusted, what is worth the disk, and how much of it is used. Storing goes on
behind the run, and is given up when the run ends first. Invariant: the cache never fails a run;
where it cannot be used, `notes` says so once. How entries lie on disk: `cached`.
"""

import contextlib
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from abyme.contexts import cached
from abyme.contexts.choice import Choice
from abyme.contexts.manifest import Manifest
from abyme.contexts.sealed import SealedContext
from abyme.errors import ContextError
from abyme.files import UnfitFile

if TYPE_CHECKING:
    from abyme.contexts.walk import Found, Walk

FOLDER: Final = "contexts"
"""In the user's cache folder."""

LEAST_FILES: Final = 500
LEAST_BYTES: Final = 64 << 20
"""What is less than both, and plain text, is read again as fast as it is looked up."""

MOST_BYTES: Final = 20_000_000_000
MOST_SHARE: Final = 0.1
"""Of the disk that is free; the smaller of the two is the bound."""

RACY_NS: Final = 2_000_000_000
"""A file changed so lately may change again without its times telling (they count in ticks, of
up to 2 s on FAT): git's "racily clean" index entries."""

_FORMAT: Final = "2026-11 2"
"""Changed whenever the same files give another context, or entries lie on disk in another way."""

_READERS: Final = (
    *("abyme", "charset-normalizer", "pyarrow", "pypdfium2", "python-calamine", "python-docx"),
    *("python-pptx", "selectolax", "zstandard"),
)
"""Packages that decide what comes of a file."""

_READ_SUFFIXES: Final = frozenset(
    (
        *(".bz2", ".csv", ".db", ".docx", ".eml", ".epub", ".gz", ".htm", ".html", ".ipynb"),
        *(".mbox", ".ods", ".parquet", ".pdf", ".pptx", ".sqlite", ".sqlite3", ".tar", ".tgz"),
        *(".tsv", ".xls", ".xlsx", ".xz", ".zip", ".zst"),
    )
)
"""Files that a reader parses, as far as names tell."""


class Recipe(NamedTuple):
    """What is to be read, as it is now."""

    name: str
    named: list[str]
    is_large: bool


class IngestCache:
    """Looks contexts up and stores them. One for a load: what is still being written when the
    context is closed is given up.

    Args:
        folder: private to the user; made when it is needed.
        max_bytes: None: 20 GB, or a tenth of the disk that is free where that is less.
        clock_ns: nanoseconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.folder = folder
        self.notes: list[str] = []
        """What the user should know: each thing once."""
        self._max_bytes = max_bytes
        self._clock_ns = clock_ns
        self._dropped = threading.Event()
        self._writer: threading.Thread | None = None

    def recipe(self, walk: "Walk", choice: Choice) -> Recipe | None:
        """Describe what is to be read; None: it is not worth it, or cannot be trusted."""
        size_bytes = sum(file.size_bytes or 0 for file in walk.found)
        is_large = len(walk.found) >= LEAST_FILES or size_bytes >= LEAST_BYTES
        if not is_large and not any(_is_parsed(file) for file in walk.found):
            return None
        if any(file.size_bytes is None or file.open is not None for file in walk.found):
            return None
        digest = hashlib.sha256(msgspec.json.encode((_FORMAT, choice, walk.single, _versions())))
        too_young = self._clock_ns() - RACY_NS
        try:
            for file in walk.found:
                status = os.lstat(file.path)
                if max(status.st_ctime_ns, status.st_mtime_ns) > too_young:
                    return None
                digest.update(repr((file.name, *_facts(status))).encode("utf-8", "surrogatepass"))
        except OSError:  # gone meanwhile: the loader says so
            return None
        digest.update(repr(tuple(walk.excluded)).encode("ascii"))
        for skipped in walk.skipped:
            digest.update(repr(tuple(skipped)).encode("utf-8", "surrogatepass"))
        return Recipe(digest.hexdigest(), list(walk.given), is_large)

    def find(self, recipe: Recipe) -> SealedContext | None:
        """Map what came of a recipe before, if it is there and whole."""
        try:
            cached.check_folder(self.folder)
            known = cached.read_recipe(self.folder, recipe.name)
            context = cached.opened(self.folder, known.key)
        except FileNotFoundError:  # of the recipe, or of what was dropped since
            cached.forget(self.folder, recipe.name)
            return None
        except (cached.Damaged, UnfitFile) as error:
            why = error.strerror if isinstance(error, UnfitFile) else error
            self._say(f"a cached context was not used and is removed: {why}")
            cached.forget(self.folder, recipe.name)
            return None
        except (OSError, ContextError) as error:
            self._say(f"the context cache cannot be used: {error}")
            return None
        context.sources = recipe.named
        return context

    def offer(self, recipe: Recipe, context: SealedContext) -> None:
        """Store what came of a recipe, if that is worth it, on a thread of its own.

        What may be otherwise on another day is not to be offered: `Loaded.has_passing`.
        """
        manifest = context.manifest
        parsed = any(facts.media for facts in manifest.documents)
        if not (recipe.is_large or parsed) or self._writer is not None:
            return
        fds = [os.dup(fd) for fd in context.fds]
        self._writer = threading.Thread(
            target=self._store, args=(recipe, fds, manifest), name="abyme-cache", daemon=True
        )
        context.at_close = self.close
        self._writer.start()

    def wait(self) -> None:
        """Wait until what was offered is stored."""
        if self._writer is not None:
            self._writer.join()

    def close(self) -> None:
        """Give up what is not stored yet; nothing is left of it. Safe to repeat."""
        self._dropped.set()
        self.wait()

    def _store(self, recipe: Recipe, fds: list[int], manifest: Manifest) -> None:
        try:
            self._stored(recipe, fds, manifest)
        except cached.Dropped:
            pass
        except cached.Damaged as error:
            self._say(f"the context cache is not used: {self.folder}: {error}")
        except OSError as error:
            self._say(f"the context is not cached in {self.folder}: {error.strerror or error}")
        finally:
            for fd in fds:
                os.close(fd)

    def _stored(self, recipe: Recipe, fds: list[int], manifest: Manifest) -> None:
        cached.check_folder(self.folder)
        size = sum(os.fstat(fd).st_size for fd in fds)
        most = default_bytes(self.folder) if self._max_bytes is None else self._max_bytes
        if size > most:
            return
        cached.shrink(self.folder, most - size)
        key = cached.store(self.folder, fds, manifest, self._dropped.is_set)
        cached.write_recipe(self.folder, recipe.name, cached.Recipe(key=key, named=recipe.named))

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def default_bytes(folder: Path) -> int:
    """Bound the cache: `MOST_BYTES`, or `MOST_SHARE` of what would be free without it."""
    with contextlib.suppress(OSError):
        disk = os.statvfs(folder)
        own = sum(entry.size_bytes for entry in cached.entries(folder))
        return min(MOST_BYTES, int((disk.f_bavail * disk.f_frsize + own) * MOST_SHARE))
    return MOST_BYTES


def _facts(status: os.stat_result) -> tuple[int, ...]:
    return (
        *(status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
        *(status.st_ino, status.st_dev),
    )


def _is_parsed(file: "Found") -> bool:
    dot = file.name.rfind(".")
    return dot >= 0 and file.name[dot:].lower() in _READ_SUFFIXES


def _versions() -> list[str]:
    """Name the readers that are installed, as their folders do: importlib.metadata takes 50 ms."""
    found: set[str] = set()
    for folder in sys.path:
        with contextlib.suppress(OSError):  # a zip, the empty name of the working directory
            found.update(
                name
                for name in os.listdir(folder)  # noqa: PTH208
                if name.endswith(".dist-info")
                and name.partition("-")[0].lower().replace("_", "-") in _READERS
            )
    return sorted(found)
