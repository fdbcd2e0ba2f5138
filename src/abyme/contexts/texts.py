"""Characters out of a sealed arena, on the host.

Invariant: what comes out equals what went in, lone surrogates included, and a
piece of a text costs that piece.
Does not keep anything: every call copies.
"""

import array
import mmap
from collections.abc import Iterator
from typing import Final

from abyme.contexts.arena import CODEC
from abyme.layout import UCS2, WIDTH, Index

WINDOW_CHARS: Final = 1 << 20


class Texts:
    """Read access to the texts of one context."""

    def __init__(self, index: Index, area: mmap.mmap) -> None:
        self.index = index
        self._view = memoryview(area)

    def __len__(self) -> int:
        return len(self.index)

    def whole(self, document: int) -> str:
        """Copy one text."""
        return self.piece(document, 0, self.index[document].chars)

    def piece(self, document: int, start: int, end: int) -> str:
        """Copy the characters from `start` to `end`, cut to what is there."""
        entry = self.index[document]
        start, end = max(0, start), min(entry.chars, end)
        if start >= end:
            return ""
        width = WIDTH[entry.kind]
        data = self._view[entry.offset + start * width : entry.offset + end * width]
        text = str(data, CODEC[entry.kind], "surrogatepass")
        if entry.kind == UCS2 and len(text) != end - start:
            # Two lone surrogates side by side are two characters here, one to the codec.
            wide = array.array("I", array.array("H", bytes(data)))
            text = str(wide.tobytes(), "utf-32-le", "surrogatepass")
        return text

    def windows(self, document: int, overlap: int = 0) -> Iterator[tuple[int, str]]:
        """Cut a text into pieces of about a million characters: (start, piece).

        Each piece reaches `overlap` characters into the next, and is at least as long itself.
        """
        chars = self.index[document].chars
        step = max(WINDOW_CHARS, overlap)
        for start in range(0, chars, step):
            yield start, self.piece(document, start, start + step + overlap)

    def close(self) -> None:
        """Let go of the memory."""
        self._view.release()
