"""What git would ignore in a folder: `.gitignore` files and `.git/info/exclude`.

Decides which of them speak of a path (gitignore(5)): in a git work tree those beside it and
above it, elsewhere none, as git itself has it: in an unpacked archive nothing is a build product
only because a repository would not take it. Files that cannot be read say nothing.
Does not walk folders (`walk`), runs no git, and reads no settings of git's.
"""

# Paths are str here, as in `walk`.
# ruff: noqa: PTH110, PTH112, PTH118

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

GITIGNORE: Final = ".gitignore"
_RULES_BYTES: Final = 1 << 20
_POINTER_BYTES: Final = 4096


class Rules:
    """One file of patterns, relative to the folder that it speaks of."""

    def __init__(self, file: str, *, inside: str = "", above: str = "") -> None:
        """`inside`: that folder within the one that is read; `above`: the reverse."""
        self.source = GITIGNORE if file.endswith(GITIGNORE) else ".git/info/exclude"
        self._inside, self._above = inside, above
        self._spec: "GitIgnoreSpec | None" = None  # noqa: UP037  (imported below)
        try:
            with open(file, "rb", opener=open_plain) as opened:
                lines = opened.read(_RULES_BYTES).decode("utf-8", "surrogateescape")
        except OSError:
            return
        from pathspec import GitIgnoreSpec  # noqa: PLC0415  (only where there is such a file)

        try:
            self._spec = GitIgnoreSpec.from_lines(lines.removeprefix("\ufeff").splitlines())
        except ValueError:  # git itself reads on; a broken file must not end the walk
            return

    def verdict(self, within: str) -> bool | None:
        """Whether the file ignores a path, takes it back, or does not speak of it."""
        if self._spec is None:
            return None
        return self._spec.check_file(self._above + within[len(self._inside) :]).include


def ignored_by(rules: tuple[Rules, ...], within: str, *, folder: bool) -> str | None:
    """Ask the innermost file that speaks of a path; name it if it ignores the path."""
    path = within + "/" * folder
    for rule in reversed(rules):
        verdict = rule.verdict(path)
        if verdict is not None:
            return rule.source if verdict else None
    return None


def rules_above(folder: str) -> tuple[Rules, ...] | None:
    """Rules of the work tree that a folder lies in, the outermost first; None if it is in none.

    Empty if they ignore the folder itself: who names it wants it read.
    """
    path = os.path.realpath(folder)
    above = ""
    rules: list[Rules] = []
    while not os.path.exists(os.path.join(path, ".git")):
        path, name = os.path.split(path)
        if not name:
            return None
        above = f"{name}/{above}"
        rules.insert(0, Rules(os.path.join(path, GITIGNORE), above=above))
    rules.insert(0, Rules(os.path.join(_git_folder(path), "info", "exclude"), above=above))
    return () if above and ignored_by(tuple(rules), "", folder=False) else tuple(rules)


def open_plain(path: str, flags: int) -> int:
    """Open for reading; never waits for a pipe and never follows a link put in its place."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def _git_folder(tree: str) -> str:
    """Find the `.git` that all work trees of a repository share."""
    own = os.path.join(tree, ".git")
    if os.path.isdir(own):
        return own
    own = os.path.join(tree, _pointer(own).removeprefix("gitdir: "))
    return os.path.join(own, _pointer(os.path.join(own, "commondir")))


def _pointer(file: str) -> str:
    try:
        with open(file, "rb", opener=open_plain) as opened:
            return os.fsdecode(opened.read(_POINTER_BYTES)).rstrip("\r\n")
    except OSError:
        return ""
