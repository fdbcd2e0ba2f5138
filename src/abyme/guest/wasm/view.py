"""A context whose texts lie in files: each becomes a `str` by a copy when it is touched.

Decides how the bytes of a text become characters. A single text, and the texts of a list, are
held as long as the REPL lives; of named documents only what a cell holds on to. While a text
is made, its bytes are in memory as well.
"""

import array
import os
import sys

from abyme.guest.view import ContextView
from abyme.layout import UCS2, UCS4, Entry, read_index


class FileView(ContextView):
    """What a REPL sees of a context.

    Raises:
        ValueError: if the files do not hold a context.
    """

    def __init__(self, folder: str) -> None:
        """`folder` has the files ``index`` and ``arena``; see `abyme.layout`."""
        with open(f"{folder}/index", "rb") as file:  # noqa: PTH123 - no pathlib inside
            data = file.read()
        arena = f"{folder}/arena"
        index = read_index(data, os.stat(arena).st_size)  # noqa: PTH116
        self.maps: tuple[tuple[int, int], ...] = ()
        self._arena = arena
        super().__init__(index, lambda number: self._text(index[number]))

    def _text(self, entry: Entry) -> str:
        with open(self._arena, "rb") as file:  # noqa: PTH123
            file.seek(entry.offset)
            data = file.read(entry.size_bytes)
        return decoded(data, entry.kind, entry.chars)


def decoded(data: bytes, kind: int, chars: int) -> str:
    """Make a text of its bytes. Lone surrogates stay as they are, also two that would pair."""
    if kind == UCS4:
        return data.decode("utf-32-le", "surrogatepass")
    if kind != UCS2:
        return data.decode("latin-1")
    text = data.decode("utf-16-le", "surrogatepass")
    if len(text) == chars:
        return text
    words = array.array("H", data)
    if sys.byteorder == "big":
        words.byteswap()
    return "".join(map(chr, words))
