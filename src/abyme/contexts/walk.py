"""Paths that a user named -> the files to read, and what is left out and why.

Decides names and what is not followed. Folders are walked in sorted order;
what git ignores is left out (`ignored`), `.git` is never entered; a link inside a folder is not
followed (its target is read where it lies, or lies outside of what was named).

Invariant: every name occurs once, and so does every file, by its real path;
nothing that was met is left out silently, but for the content of a `.git` folder.
Does not open files, and never blocks on a pipe or a device.
"""

# Paths are str here: pathlib takes five times as long, and there may be 100,000 of them.
# ruff: noqa: PTH100, PTH110, PTH116, PTH117, PTH118, PTH119, PTH120

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from abyme.contexts.ignored import GITIGNORE, Rules, ignored_by, rules_above
from abyme.errors import ContextError

STDIN: Final = "-"
_SPACES: Final = "\xa0\u202f\u3000"
_PIPES: Final = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


class Found(NamedTuple):
    """A file to read."""

    name: str
    path: str
    size_bytes: int | None
    """As the directory has it, a hint; None for standard input and pipes, which are read once."""


class Skipped(NamedTuple):
    """Something that was met and not read."""

    name: str
    reason: str


class Walk:
    """Collects the files that paths stand for.

    Names come from `paths`; they are looked up at `located`, the same paths as they are
    found from this working directory.

    Raises:
        ContextError: a path that does not exist.
    """

    def __init__(
        self, paths: Sequence[str | Path], located: Sequence[str | Path] | None = None
    ) -> None:
        self.found: list[Found] = []
        self.skipped: list[Skipped] = []
        self.single = False
        """One file alone, or standard input: the context is a text."""
        self._taken: set[str] = set()
        self._met: set[str] = set()
        """Real paths of what was named, and of the files that are read."""
        self.given = [os.fspath(path) for path in paths]
        if not self.given:
            raise ContextError("nothing to read: no path was given")
        places = self.given if located is None else [os.fspath(place) for place in located]
        for path, place in zip(self.given, places, strict=True):
            self._take(path, place, alone=len(set(self.given)) == 1)

    def _take(self, path: str, place: str, *, alone: bool) -> None:
        real = path if path == STDIN else os.path.realpath(place)
        if real in self._met:
            return
        self._met.add(real)
        if path == STDIN:
            self.single = alone
            self.found.append(Found(self._unique("stdin", path), STDIN, None))
            return
        try:
            status = os.stat(place)
        except OSError as error:
            raise ContextError(f"cannot read {shown(path)!r}: {error.strerror}") from error
        except ValueError as error:  # a NUL in the path
            raise ContextError(f"cannot read {shown(path)!r}: {error}") from error
        if stat.S_ISDIR(status.st_mode):
            name = "" if alone else _file_name(path)
            prefix = self._unique(name or "root", real) + "/" if name not in {"", "."} else ""
            self._folder(place, real, prefix)
            return
        name = self._unique(_file_name(path), real)
        self.single = alone
        if stat.S_ISREG(status.st_mode):
            self.found.append(Found(name, real, status.st_size))
        elif stat.S_ISFIFO(status.st_mode) and is_read_once(path):
            self.found.append(Found(name, path, None))
        else:
            self.skipped.append(Skipped(name, _kind(status.st_mode)))

    def _folder(self, root: str, real: str, prefix: str) -> None:
        """Walk a folder, depth first, without recursion: depth is the input's choice."""
        waiting: list[tuple[str, str, tuple[Rules, ...]]] = [(root, "", rules_above(root))]
        while waiting:
            path, inside, rules = waiting.pop()
            try:
                with os.scandir(path) as scan:
                    entries = sorted(scan, key=lambda entry: entry.name)
            except OSError as error:
                self.skipped.append(Skipped(shown(prefix + inside or root), _why(error)))
                continue
            if any(entry.name == GITIGNORE for entry in entries):
                rules = (*rules, Rules(os.path.join(path, GITIGNORE), inside=inside))
            folders = []
            for entry in entries:
                within = inside + entry.name
                folder = entry.is_dir(follow_symlinks=False)
                if entry.name == ".git":  # a file in a worktree
                    continue
                source = ignored_by(rules, within, folder=folder)
                if source is not None:
                    name = shown(prefix + within + "/" * folder)
                    self.skipped.append(Skipped(name, f"ignored by {source}"))
                elif folder:
                    folders.append((entry.path, within + "/", rules))
                else:
                    self._entry(entry, prefix + within, os.path.join(real, within))
            waiting += reversed(folders)

    def _entry(self, entry: os.DirEntry[str], name: str, real: str) -> None:
        if real in self._met:
            return
        self._met.add(real)
        name = self._unique(name, entry.path)
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            self.skipped.append(Skipped(name, _why(error)))
            return
        if stat.S_ISREG(status.st_mode):
            self.found.append(Found(name, entry.path, status.st_size))
        elif stat.S_ISLNK(status.st_mode):
            reason = "link" if os.path.exists(entry.path) else "broken link"
            self.skipped.append(Skipped(name, reason))
        else:
            self.skipped.append(Skipped(name, _kind(status.st_mode)))

    def _unique(self, name: str, path: str) -> str:
        """Make a name that can be shown and is not taken yet."""
        name = shown(name)
        if name in self._taken:
            parent = os.path.basename(os.path.dirname(os.path.abspath(path)))
            name = shown(f"{parent}/{name}")
        base, number = name, 2
        while name in self._taken:
            name = f"{base}~{number}"
            number += 1
        self._taken.add(name)
        return name


def is_read_once(path: str) -> bool:
    """Tell standard input and pipes of the shell by their names."""
    return path == STDIN or path.startswith(_PIPES)


def shown(name: str) -> str:
    """Escape what is not UTF-8 in a name, and what would command a terminal."""
    if name.isprintable():
        return name
    name = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() or char in _SPACES else char.encode("unicode_escape").decode()
        for char in name
    )


def _file_name(path: str) -> str:
    """Name a relative path as it was given, any other by its last part."""
    plain = os.path.normpath(path)
    outside = os.path.isabs(plain) or plain.startswith(os.pardir)
    return os.path.basename(plain) if outside else plain


def _why(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISLNK, "link"))
    return next((name for test, name in kinds if test(mode)), "device")
