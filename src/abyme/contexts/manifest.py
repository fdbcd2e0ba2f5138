"""What went into a context: names, sizes, hashes. Data for the journal."""

from msgspec import Struct

from abyme.contexts.choice import EVERYTHING, Choice
from abyme.layout import Shape


class DocumentFacts(Struct, frozen=True, kw_only=True):
    """One document as it was sealed."""

    name: str
    """Empty for a text or a list item that came without one."""
    chars: int
    kind: int
    """How CPython keeps it, see `abyme.layout`: 0 ASCII, 1 Latin-1, 2 UCS-2, 4 UCS-4."""
    encoding: str | None = None
    """Of the source; None for a Python value."""
    source_bytes: int | None = None
    source_sha256: str | None = None
    sealed_sha256: str | None = None
    """Of the characters as they lie in the arena; None in a part of a context."""
    media: str | None = None
    """Media type of the source, as in ``application/pdf``; None: plain text."""
    pages: list[int] = []
    """Code points at which its pages begin, the first of them included; empty: it has none."""
    page_word: str = "page"
    """What a page is called: page, slide, chapter, row, message, cell."""
    table: tuple[int, int] | None = None
    """(offset, bytes) of the same rows in the arena as an Arrow IPC file."""
    table_sha256: str | None = None


class SkippedFacts(Struct, frozen=True, kw_only=True):
    """Something that was met and is not in the context."""

    name: str
    reason: str


class NoteFacts(Struct, frozen=True, kw_only=True):
    """What is to be known of a document that is in the context: a part that could not be read."""

    name: str
    note: str


class Manifest(Struct, frozen=True, kw_only=True):
    """A context as it was sealed, in the order of its documents."""

    shape: Shape
    documents: list[DocumentFacts]
    skipped: list[SkippedFacts] = []
    notes: list[NoteFacts] = []
    in_file: bool = False
    """The arena is a file, and not sealed memory: the user's own processes could change it."""
    choice: Choice = EVERYTHING
    """What the user wanted of the sources."""
    left_out: tuple[int, int] = (0, 0)
    """Files and whole folders that the user's patterns left out."""
    revisions: dict[str, str] = {}
    """Source of a git repository -> the commit that was read."""

    @property
    def chars(self) -> int:
        """Of all documents."""
        return sum(facts.chars for facts in self.documents)
