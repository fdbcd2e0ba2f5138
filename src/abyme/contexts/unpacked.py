"""What lies in archives: how much of it is taken, and what it is called.

A source may unpack to 256 MB and a hundred times its size besides, never to more than 16 GB, in
at most 200,000 files: prose packs 3 to 10 to one and logs up to 50, bombs a thousand and more
(deflate's most is 1,032). All sources of a load together may take what memory there is
for a context, since small bombs may be many.

Invariant: a name that comes out of here stays below its archive and can be shown.
Does not unpack.
"""

import re
import threading
from typing import Final

from abyme.contexts.sizes import size_words
from abyme.contexts.walk import shown
from abyme.helpers.emit import Unreadable

RATIO: Final = 100
ALWAYS_BYTES: Final = 256_000_000
MOST_BYTES: Final = 16_000_000_000
MOST_FILES: Final = 200_000
MOST_READ_S: Final = 1_800.0
"""Of all readers together, for what lies in one source."""
MAX_DEPTH: Final = 4
"""Archives within archives."""
MAX_LISTED: Final = 1_000
"""Entries of one source that are listed as skipped one by one."""
MAX_NAME_CHARS: Final = 1_000

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_NOT_ESCAPES: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_PACKED: Final = re.compile(
    r"(.*[^/])\.(gz|xz|bz2|zst|zstd|tgz|txz|tbz2?|tzst)", re.IGNORECASE | re.DOTALL
)


class Exceeded(Unreadable):
    """A source holds more than is taken; `is_passing`: than is taken just now."""

    is_passing = False


class Allowance:
    """Bytes and files that may still be unpacked. For any thread."""

    def __init__(self, left_bytes: int, says: str, above: "Allowance | None" = None) -> None:
        self._left_bytes = left_bytes
        self._left_files = MOST_FILES
        self._left_listed = MAX_LISTED
        self._left_s = MOST_READ_S
        self._says = says
        self._above = above
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> None:
        """Count bytes that are kept.

        Raises:
            Exceeded: they are too many.
        """
        with self._lock:
            self._left_bytes -= size_bytes
            over = self._left_bytes < 0
        if over:
            raise self._exceeded()
        if self._above:
            self._above.take(size_bytes)

    def _exceeded(self) -> Exceeded:
        error = Exceeded(self._says)
        error.is_passing = self._above is None  # by the memory that is free
        return error

    def take_file(self) -> None:
        """Count a file.

        Raises:
            Exceeded: there are too many.
        """
        with self._lock:
            self._left_files -= 1
            over = self._left_files < 0
        if over:
            raise Exceeded(f"more than {MOST_FILES:,} files")

    def spend(self, wall_s: float) -> None:
        """Count time that a reader took for a file in this source."""
        with self._lock:
            self._left_s -= wall_s

    def check_time(self) -> None:
        """See that there is time for one more file.

        Raises:
            Exceeded: all of it is spent.
        """
        with self._lock:
            over = self._left_s <= 0
        if over:
            error = Exceeded(f"what it lies in takes more than {MOST_READ_S / 60:g} min to read")
            error.is_passing = True
            raise error

    def lists(self) -> bool:
        """Count an entry that is skipped; whether there is room to list it."""
        with self._lock:
            self._left_listed -= 1
            return self._left_listed >= 0


def of_load(memory_bytes: int) -> Allowance:
    """Allow all sources of a load what memory there is for a context."""
    most = min(MOST_BYTES, memory_bytes)
    return Allowance(most, f"all archives are more than {size_words(most)} when unpacked")


def of_source(size_bytes: int, above: Allowance) -> Allowance:
    """Allow one source what its size lets expect."""
    most = min(MOST_BYTES, ALWAYS_BYTES + RATIO * size_bytes)
    return Allowance(most, f"more than {size_words(most)} when unpacked", above)


def inner_name(name: str) -> str:
    """Make a relative path of what an archive calls a file: ``../../etc/x`` is ``etc/x``."""
    name = _NOT_ESCAPES.sub("\ufffd", name)
    if "/" not in name:
        name = name.replace("\\", "/")
    name = _DRIVE.sub("", name, count=1) if _DRIVE.match(name) else name
    parts = [part for part in name.split("/") if part not in {"", ".", ".."}]
    name = shown("/".join(parts)) or "unnamed"
    if len(name) > MAX_NAME_CHARS:
        half = MAX_NAME_CHARS // 2 - 2
        name = f"{name[:half]}...{name[-half:]}"
    return name


def unpacked_name(name: str) -> str:
    """Name what a compressed file holds: ``a.txt`` for ``a.txt.gz``."""
    packed = _PACKED.fullmatch(name)
    return packed[1] if packed else name
