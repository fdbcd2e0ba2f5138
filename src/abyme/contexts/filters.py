"""Which files a user's patterns leave in: include, exclude, and globs that no shell expanded.

Decides by names alone, with the rules of gitignore(5): a pattern without a slash fits at any
depth, one with a slash from the root on, one that fits a folder fits all that is in it, and
``!`` takes back what a pattern before it said. What lies in an excluded folder stays out.
Does not walk folders (`walk`), and does not look at sizes (`load`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from abyme.contexts.choice import Choice
from abyme.errors import ConfigError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_GLOB: Final = "*?["


class Filter:
    """A user's patterns, ready for many names.

    Raises:
        ConfigError: a pattern that git would not take.
    """

    def __init__(self, choice: Choice) -> None:
        self._include = _spec(choice.include, "include")
        self._exclude = _spec(choice.exclude, "exclude")

    def drops(self, name: str, *, folder: bool) -> bool:
        """Tell whether a file, or a whole folder, is left out by its name."""
        if self.excludes(name + "/" * folder):
            return True
        if folder or self._include is None:
            return False
        return not self._include.match_file(name)

    def excludes(self, name: str) -> bool:
        """Tell whether a member of an archive is left out; the archive itself was wanted."""
        return self._exclude is not None and self._exclude.match_file(name)


def split_glob(path: str) -> tuple[str, str]:
    """Split a path before its first part with a wildcard: folder, and pattern (maybe empty)."""
    parts = path.split("/")
    first = next((n for n, part in enumerate(parts) if any(c in part for c in _GLOB)), len(parts))
    folder = "/".join(parts[:first])
    return folder or ("/" if path.startswith("/") else "."), "/".join(parts[first:])


class Glob:
    """What a path with wildcards takes of the folder before them."""

    def __init__(self, pattern: str) -> None:
        self._parts = pattern.rstrip("/").split("/")
        self._whole = _spec(["/" + pattern], "glob")
        self._leads: dict[int, GitIgnoreSpec | None] = {}

    def drops(self, within: str, *, folder: bool) -> bool:
        """Tell whether a file does not fit, or nothing in a folder can."""
        depth = within.count("/") + 1
        if not folder or depth >= len(self._parts):
            path = within + "/" * folder
            deeper = folder and "**" in self._parts
            return not deeper and self._whole is not None and not self._whole.match_file(path)
        if "**" in self._parts[:depth]:
            return False
        if depth not in self._leads:
            self._leads[depth] = _spec(["/" + "/".join(self._parts[:depth])], "glob")
        lead = self._leads[depth]
        return lead is not None and not lead.match_file(within + "/")


def _spec(patterns: Sequence[str], option: str) -> "GitIgnoreSpec | None":
    if not patterns:
        return None
    from pathspec import GitIgnoreSpec  # noqa: PLC0415  (only where there are patterns)

    for pattern in patterns:
        if not pattern.strip() or pattern.startswith("#"):
            raise ConfigError(f"--{option} {pattern!r} fits nothing: it is empty or a comment")
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise ConfigError(f"--{option}: {error}") from None
