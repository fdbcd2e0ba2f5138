"""What a context is read from, as a Python program says it.

Data only: `folders` opens it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from abyme.contexts.choice import Choice
from abyme.errors import ConfigError


@dataclass(frozen=True, slots=True, init=False)
class Sources:
    """Files, folders, globs, URLs, git revisions, and which of their files are wanted.

    >>> Sources("docs/", "git+.@v1.0", include=["*.md"], exclude="drafts/").choice.include
    ('*.md',)

    Args:
        paths: as on the command line; text and `Path` alike.
        include: patterns as in .gitignore; only files that one of them fits.
        exclude: the same; no file that one of them fits.
        max_file_bytes: larger files are skipped.
        as_is: HTML, e-mail, notebooks and CSV are read as the text that they are.
        no_ignore: in a git work tree, what its .gitignore files leave out is read as well.

    Raises:
        ConfigError: no path, or a value that cannot be.
    """

    paths: tuple[str, ...]
    choice: Choice

    def __init__(
        self,
        *paths: str | os.PathLike[str],
        include: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        max_file_bytes: int | None = None,
        as_is: bool = False,
        no_ignore: bool = False,
    ) -> None:
        if not paths:
            raise ConfigError("Sources() names nothing: give a path, a URL, or git+PATH@REV")
        if max_file_bytes is not None and max_file_bytes < 0:
            raise ConfigError(f"max_file_bytes must be 0 or more, got {max_file_bytes!r}")
        choice = Choice(
            include=_patterns(include),
            exclude=_patterns(exclude),
            max_file_bytes=max_file_bytes,
            as_is=as_is,
            no_ignore=no_ignore,
        )
        object.__setattr__(self, "paths", tuple(map(os.fspath, paths)))
        object.__setattr__(self, "choice", choice)


def _patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
