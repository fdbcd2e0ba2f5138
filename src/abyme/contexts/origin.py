"""Where the documents of a context lie in the input as it was read.

Decides what a document is called in evidence. For the context of a run that is the
context itself; a part of it, or a part of a part, leads back to it.

Invariant: an origin never leads to another part.
Does not hold memory: it is numbers and names.
"""

import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from abyme.layout import Entry, Index


@dataclass(frozen=True, slots=True)
class Origin:
    """Document by document: of which one of the input it is, and where it begins there."""

    input: Index
    documents: Sequence[int]
    starts: Sequence[int]
    """In code points."""

    def label(self, document: int) -> str:
        """Name the document of the input, as a user reads it."""
        number = self.documents[document]
        if self.input.names:
            return self.input.names[number]
        return "context" if self.input.shape == "text" else f"context[{number}]"

    def source(self, document: int) -> Entry:
        """Look the document of the input up."""
        return self.input[self.documents[document]]

    def page(self, document: int, at: int) -> tuple[int | None, str]:
        """Tell on which page of the document of the input a character stands, from 1, and what a
        page is called there. None: it has no pages.
        """
        number, extras = self.documents[document], self.input.extras
        pages = extras.pages.get(number)
        if not pages:
            return None, "page"
        return bisect_right(pages, self.starts[document] + at), extras.words.get(number, "page")

    def part(self, spans: Sequence[tuple[int, int]]) -> "Origin":
        """Follow stretches of these documents, each (document, start)."""
        documents = array.array("Q", [self.documents[document] for document, _ in spans])
        starts = array.array("Q", [self.starts[document] + start for document, start in spans])
        return Origin(self.input, documents, starts)


def whole(index: Index) -> Origin:
    """Make the origin of the input itself."""
    return Origin(index, range(len(index)), array.array("Q", bytes(8 * len(index))))
