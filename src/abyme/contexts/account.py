"""The account of a load: what was read, what was not and why, and how that is put in a line.

Does not read anything.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from abyme.contexts.sizes import size_words
from abyme.contexts.walk import Excluded

if TYPE_CHECKING:
    from abyme.contexts.sealed import SealedContext
    from abyme.contexts.walk import Skipped

_NAMED: Final = 3
"""Skipped files, and reasons, that one line names."""
_LASTING: Final = frozenset((errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG))
NEEDS: Final = "needs abyme["
"""Begins the reason of what only an extra can read."""


class ReadFile(NamedTuple):
    """A document that is in the context."""

    name: str
    chars: int
    size_bytes: int
    encoding: str
    """Of plain text; empty for what a reader of a format made."""


class Note(NamedTuple):
    """What is to be known of a document that was read: a part that could not be."""

    name: str
    note: str


class Progress(NamedTuple):
    """How far reading has come."""

    files: int
    files_total: int
    size_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A sealed context and the account of it. Whoever takes the context closes it."""

    context: "SealedContext"
    read: list[ReadFile]
    skipped: "list[Skipped]"
    notes: list[Note] = field(default_factory=list)
    cached: bool = False
    """Nothing had to be read: it was found as it had been sealed before."""
    has_passing: bool = False
    """Something is missing that may be read on another day."""

    def summary(self) -> str:
        """One line: what was read and what was not."""
        size = size_words(sum(file.size_bytes for file in self.read))
        files = "1 file" if len(self.read) == 1 else f"{len(self.read):,} files"
        left_out = Excluded(*self.context.manifest.left_out).words()
        read = f"read {files} ({size}{', from the cache' * self.cached})"
        words = (
            read,
            *self._commits(),
            left_out,
            skipped_words(self.skipped),
            note_words(self.notes),
            self._seal(),
        )
        return ", ".join(filter(None, words)) + install_words(self.skipped, self.notes)

    def _commits(self) -> list[str]:
        """Say at which commits repositories were read."""
        revisions = self.context.manifest.revisions.items()
        return [f"{source} at {commit[:12]}" for source, commit in revisions]

    def _seal(self) -> str:
        """Say where it lies, if that is not in memory that nobody can change."""
        return "" if self.context.is_sealed else "held in a file of your own, not in sealed memory"


def skipped_words(skipped: "Sequence[Skipped]") -> str:
    """Count what was skipped: each by name where these are few, by reasons where they are many.

    ``skipped 2: a.bin (binary), b (link)``; ``skipped 7: 6 binary (a, ...), 1 link (b)``.
    """
    if not skipped:
        return ""
    if len(skipped) <= _NAMED:
        named = [f"{item.name} ({item.reason})" for item in skipped]
        return f"skipped {len(skipped):,}: " + ", ".join(named)
    groups: dict[str, list[str]] = {}
    for item in skipped:
        groups.setdefault(item.reason, []).append(item.name)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    words = [_group(reason, names) for reason, names in ordered[:_NAMED]]
    rest = sum(len(names) for _, names in ordered[_NAMED:])
    more = [f"{rest:,} for other reasons"] if rest else []
    return f"skipped {len(skipped):,}: " + ", ".join([*words, *more])


def note_words(notes: Sequence[Note]) -> str:
    """Say what is to be known of documents that were read."""
    if not notes:
        return ""
    first = f"{notes[0].name}: {notes[0].note}"
    return f"{len(notes):,} in part ({first}{', ...' * (len(notes) > 1)})"


def install_words(skipped: "Sequence[Skipped]", notes: Sequence[Note]) -> str:
    """Say once how to get what is missing: ``; pip install 'abyme[documents]' reads them``."""
    told = [item.reason for item in skipped] + [item.note for item in notes]
    needs = sorted({reason.removeprefix("needs ") for reason in told if reason.startswith(NEEDS)})
    extras = ",".join(need.removeprefix("abyme[").removesuffix("]") for need in needs)
    return f"; to read them: pip install 'abyme[{extras}]'" if extras else ""


def why(error: OSError) -> str:
    """Give a reason of the operating system's as a reason for skipping."""
    return (error.strerror or type(error).__name__).lower()


def is_passing(error: OSError) -> bool:
    """Whether it is of the system as it is now, and not of the file."""
    return error.errno not in _LASTING


def _group(reason: str, names: Sequence[str]) -> str:
    return f"{len(names):,} {reason} ({names[0]}{', ...' * (len(names) > 1)})"
