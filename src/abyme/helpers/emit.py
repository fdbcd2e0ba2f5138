"""What a reader makes of a source: documents, members that are read by themselves, gaps.

The seam between a reader and whoever runs it: a confined process in production, a test in a test.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol


class Unreadable(Exception):
    """The source cannot be read; the message is the reason that the user is shown, in a few
    words: ``encrypted``, ``broken (no page tree)``, ``more than 1.0 GB when unpacked``.
    """


class Emit(Protocol):
    """Takes what a reader finds, in order. Names are relative to the source; ``""`` is itself."""

    def document(  # noqa: PLR0913 - what is known of a document, by name
        self,
        name: str,
        text: str,
        *,
        media: str,
        pages: Sequence[int] = (),
        page_word: str = "page",
        table: bytes | memoryview | None = None,
        note: str | None = None,
    ) -> None:
        """Give a text. `pages`: code points at which pages begin, the first one 0; `table`: the
        same rows as an Arrow IPC file; `note`: what of it could not be read.
        """
        ...

    def member(self, name: str, data: Iterable[bytes], size_bytes: int | None = None) -> None:
        """Give a file that lies in this one; it is looked at as any other file."""
        ...

    def skipped(self, name: str, reason: str) -> None:
        """Tell of something that was met and cannot be read."""
        ...
