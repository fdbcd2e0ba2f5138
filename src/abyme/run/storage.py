"""Where contexts lie beside memory, in the folder that a spec names: data for `contexts`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abyme.contexts.cache import IngestCache
    from abyme.contexts.room import Room


def folder(cache_dir: Path) -> Path:
    """Name the folder of contexts in a cache folder."""
    from abyme.contexts.cache import FOLDER  # noqa: PLC0415

    return cache_dir / FOLDER


def room(cache_dir: Path) -> "Room":
    """Say where a context goes that memory would not hold."""
    from abyme.contexts.room import Room  # noqa: PLC0415

    return Room(folder(cache_dir))


def ingest_cache(cache_dir: Path, *, wanted: bool) -> "IngestCache | None":
    """Make a cache for one load, if it is wanted."""
    from abyme.contexts.cache import IngestCache  # noqa: PLC0415

    return IngestCache(folder(cache_dir)) if wanted else None
