"""What the user wants of the files that were named: data, part of a run's spec.

Does not choose: `walk` does by names, `load` by sizes and formats.
"""

from typing import Final

from msgspec import Struct


class Choice(Struct, frozen=True, kw_only=True):
    """None and empty mean everything."""

    include: tuple[str, ...] = ()
    """Patterns as in .gitignore: only files that one of them matches."""
    exclude: tuple[str, ...] = ()
    """The same: no file that one of them matches."""
    max_file_bytes: int | None = None
    """Larger files are skipped, members of archives too."""
    as_is: bool = False
    """Formats that are text as well (HTML, e-mail, notebooks, CSV) are read as they lie there."""
    no_ignore: bool = False
    """Read what git would ignore as well."""


EVERYTHING: Final = Choice()
