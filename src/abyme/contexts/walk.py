"""Paths that a user named -> the files to read, and what is left out and why.

Decides names and what is not followed. Folders are walked in sorted order;
what git ignores is left out (`ignored`), `.git` is never entered; a link inside a folder is not
followed (its target is read where it lies, or lies outside of what was named). A path with
wildcards that is not there by that name is the folder before them, and what fits in it.

Invariant: every name occurs once, and so does every file, by its real path;
nothing that was met is left out silently, but for the content of a `.git` folder; what the
user's own patterns leave out is counted.
Does not open files, and never blocks on a pipe or a device. What lies elsewhere (URLs, git
revisions) comes from `remote`, opened by a callable.
"""

# Paths are str here: pathlib takes five times as long, and there may be 100,000 of them.
# ruff: noqa: PTH100, PTH110, PTH112, PTH116, PTH117, PTH118, PTH119, PTH120

import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from abyme.contexts.choice import EVERYTHING, Choice
from abyme.contexts.filters import Filter, Glob, split_glob
from abyme.contexts.ignored import GITIGNORE, Rules, ignored_by, rules_above
from abyme.contexts.places import at_home, is_elsewhere, without_secrets
from abyme.errors import ContextError

if TYPE_CHECKING:
    from abyme.contexts.remote import Elsewhere, Report

NO_ENV: Final[Mapping[str, str]] = MappingProxyType({})
STDIN: Final = "-"
ONLY_WEB: Final = "only http and https are fetched"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SPACES: Final = "\xa0\u202f\u3000"
_PIPES: Final = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


class Found(NamedTuple):
    """A file to read."""

    name: str
    path: str
    size_bytes: int | None
    """As the directory has it, a hint; None for standard input and pipes, which are read once."""
    open: Callable[[], BinaryIO] | None = None
    """Opens what lies at no path of this machine (then `path` is words for people): unbuffered,
    with a descriptor that can be sought. May be called in any thread, again and again."""


class Skipped(NamedTuple):
    """Something that was met and not read."""

    name: str
    reason: str


class Excluded(NamedTuple):
    """How much the user's own patterns left out."""

    files: int = 0
    folders: int = 0
    """Whole ones; what is in them was not looked at."""

    def words(self) -> str:
        """Say it in a line; nothing if there is nothing."""
        counts = ((self.folders, "folder"), (self.files, "file"))
        parts = [f"{n:,} {what}{'s' * (n != 1)}" for n, what in counts if n]
        return f"left out {' and '.join(parts)} by --include and --exclude" if parts else ""


class Walk:
    """Collects the files that paths stand for. To be closed when they have been read.

    Names come from `paths`; they are looked up at `located`, the same paths as they are
    found from this working directory. Of `env` are read HOME, and what `remote` says.

    Raises:
        ContextError: a path that does not exist, a URL or revision that cannot be had.
        ConfigError: a pattern that git would not take.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        located: Sequence[str | Path] | None = None,
        *,
        choice: Choice = EVERYTHING,
        env: Mapping[str, str] = NO_ENV,
        on_fetch: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
    ) -> None:
        self.found: list[Found] = []
        self.skipped: list[Skipped] = []
        self.excluded = Excluded()
        self.single = False
        """One file alone, or standard input: the context is a text."""
        self.revisions: dict[str, str] = {}
        """Source of a git repository, as given -> the commit that was read."""
        self._choice = choice
        self._filter = Filter(choice)
        self._taken: set[str] = set()
        self._met: set[str] = set()
        """Real paths of what was named, and of the files that are read."""
        self.given = [at_home(os.fspath(path), env) for path in paths]
        if not self.given:
            raise ContextError("nothing to read: no path was given")
        places = self.given if located is None else [os.fspath(place) for place in located]
        self._closing = ExitStack()
        try:
            named = dict(zip(self.given, places, strict=True))
            self._elsewhere = self._reach(named, choice, env, on_fetch)
            for path, place in named.items():
                self._take(path, place, alone=len(named) == 1)
        except BaseException:
            self._closing.close()
            raise
        self.given = [without_secrets(path) for path in self.given]

    def close(self) -> None:
        """End the programs and drop the copies that files elsewhere are read from."""
        self._closing.close()

    def _reach(
        self,
        named: Mapping[str, str],
        choice: Choice,
        env: Mapping[str, str],
        report: "Report",
    ) -> "dict[str, Elsewhere]":
        """Fetch what lies elsewhere, all at once."""
        wanted = {path: place for path, place in named.items() if is_elsewhere(path)}
        if not wanted:
            return {}
        from abyme.contexts.remote import reach  # noqa: PLC0415  (only where it is needed)

        return reach(wanted, choice=choice, env=env, closing=self._closing, report=report)

    def _take(self, path: str, place: str, *, alone: bool) -> None:
        if path in self._elsewhere:
            self._remote(path, self._elsewhere[path], alone=alone)
            return
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
        except FileNotFoundError as error:
            if self._glob(path, place):
                return
            why = ONLY_WEB if _SCHEME.match(path) else error.strerror
            raise ContextError(f"cannot read {shown(path)!r}: {why}") from error
        except OSError as error:
            raise ContextError(f"cannot read {shown(path)!r}: {error.strerror}") from error
        except ValueError as error:  # a NUL in the path
            raise ContextError(f"cannot read {shown(path)!r}: {error}") from error
        if stat.S_ISDIR(status.st_mode):
            name = "" if alone else _file_name(path)
            prefix = self._unique(name or "root", real) + "/" if name not in {"", "."} else ""
            self._folder(place, real, prefix)
        elif not self._drops(_file_name(path), folder=False):
            name = self._unique(_file_name(path), real)
            self.single = alone
            self._named(path, name, real, status)

    def _named(self, path: str, name: str, real: str, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            self.found.append(Found(name, real, status.st_size))
        elif stat.S_ISFIFO(status.st_mode) and is_read_once(path):
            self.found.append(Found(name, path, None))
        else:
            self.skipped.append(Skipped(name, _kind(status.st_mode)))

    def _glob(self, path: str, place: str) -> bool:
        """Take a path with wildcards; False if it has none, or no folder before them."""
        base, pattern = split_glob(os.path.normpath(place))
        if not pattern or not os.path.isdir(base):
            return False
        named = _file_name(split_glob(path)[0])
        inside = not os.path.isabs(path) and named not in {".", ""} and not path.startswith("..")
        if not self._folder(base, os.path.realpath(base), f"{named}/" * inside, Glob(pattern)):
            raise ContextError(f"no file matches {shown(path)!r}")
        return True

    def _folder(self, root: str, real: str, prefix: str, glob: Glob | None = None) -> bool:
        """Walk a folder, depth first, without recursion: depth is the input's choice.

        Tells whether a file was met that fits.
        """
        met = False
        above = None if self._choice.no_ignore else rules_above(root)
        waiting: list[tuple[str, str, tuple[Rules, ...] | None]] = [(root, "", above)]
        while waiting:
            path, inside, rules = waiting.pop()
            try:
                with os.scandir(path) as scan:
                    entries = sorted(scan, key=lambda entry: entry.name)
            except OSError as error:
                self.skipped.append(Skipped(shown(prefix + inside or root), _why(error)))
                continue
            rules = self._rules(rules, path, inside, {entry.name for entry in entries})
            folders = []
            for entry in entries:
                within = inside + entry.name
                folder = entry.is_dir(follow_symlinks=False)
                if entry.name == ".git":  # a file in a worktree
                    continue
                if glob is not None and glob.drops(within, folder=folder):
                    continue
                met = met or not folder
                source = ignored_by(rules or (), within, folder=folder)
                if source is not None:
                    name = shown(prefix + within + "/" * folder)
                    self.skipped.append(Skipped(name, f"ignored by {source}"))
                elif self._drops(prefix + within, folder=folder):
                    continue
                elif folder:
                    folders.append((entry.path, within + "/", rules))
                else:
                    self._entry(entry, prefix + within, os.path.join(real, within))
            waiting += reversed(folders)
        return met

    def _rules(
        self, above: tuple[Rules, ...] | None, path: str, inside: str, names: set[str]
    ) -> tuple[Rules, ...] | None:
        """Add what a folder says to ignore, if it is in a work tree, or begins one."""
        if above is None and (".git" not in names or self._choice.no_ignore):
            return None
        own = (Rules(os.path.join(path, GITIGNORE), inside=inside),) if GITIGNORE in names else ()
        return (*(above or ()), *own)

    def _drops(self, name: str, *, folder: bool) -> bool:
        """Count what the user's patterns leave out."""
        if not self._filter.drops(name, folder=folder):
            return False
        files, folders = self.excluded
        self.excluded = Excluded(files + (not folder), folders + folder)
        return True

    def _remote(self, path: str, source: "Elsewhere", *, alone: bool) -> None:
        self.single = alone and source.single
        if source.revision is not None:
            self.revisions[without_secrets(path)] = source.revision
        prefix = "" if alone or source.single else self._unique(source.name, None) + "/"
        for file in source.found:
            if not self._drops(prefix + file.name, folder=False):
                name = self._unique(prefix + file.name, None)
                self.found.append(file._replace(name=name))
        for name, reason in source.skipped:
            if not self._drops(prefix + name, folder=False):
                self.skipped.append(Skipped(shown(prefix + name), reason))

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

    def _unique(self, name: str, path: str | None) -> str:
        """Make a name that can be shown and is not taken yet."""
        name = shown(name)
        if name in self._taken and path is not None:
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
