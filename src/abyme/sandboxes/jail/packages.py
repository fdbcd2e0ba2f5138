"""Guest packages on the host: where they lie, and how the fork server is told of them.

Decides which folders the fork server looks into for them: those that this very interpreter would
take them from, so a guest package is one that the user has installed beside abyme.
Imports none of them. Whether one can be loaded, only the fork server sees.
"""

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from abyme.errors import ConfigError

ONE_THREAD = MappingProxyType(
    {
        "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's allocator starts one
    }
    | dict.fromkeys(
        (
            *("BLIS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS"),
            *("OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"),
        ),
        "1",
    )
)
"""A process with threads cannot be forked whole; the environment is emptied before any cell."""
SITE = frozenset({"site-packages", "dist-packages"})
"""Folders of packages, by their own name (see Python's `site`)."""


@dataclass(frozen=True, slots=True)
class Load:
    """Packages to be loaded, and the folders they and what they need lie in."""

    names: tuple[str, ...]
    folders: tuple[str, ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The order to the fork server; it refuses to load for another version of Python."""
        tag = sys.implementation.cache_tag
        return (json.dumps({"names": self.names, "folders": self.folders, "python": tag}),)


def find(names: Sequence[str]) -> Load:
    """Find packages by the names they are imported by.

    Raises:
        ConfigError: one is not installed beside abyme, or is none.
    """
    folders = [entry for entry in sys.path if Path(entry).name in SITE and Path(entry).is_dir()]
    for name in names:
        folder = _folder(name)
        if folder not in folders:
            folders.append(folder)
    return Load(tuple(dict.fromkeys(names)), tuple(folders))


def _folder(name: str) -> str:
    if not name.isidentifier():
        raise ConfigError(f"guest package {name!r}: give the name that it is imported by")
    if name in sys.stdlib_module_names or name == "abyme":
        raise ConfigError(
            f"guest package {name!r}: it is no package of yours; see `imports` for what is there"
        )
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ConfigError(
            f"guest package {name!r} is not installed in the Python that abyme runs in; "
            f"install it there: {Path(sys.executable).name} -m pip install {name}"
        )
    places = list(spec.submodule_search_locations or ()) or [spec.origin or ""]
    return str(Path(places[0]).resolve().parent)
