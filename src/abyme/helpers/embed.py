"""A service that finds passages by what they say, in other words too.

Decides how: the vectors of wordllama, whose wheel carries its model, so that nothing is
downloaded; the passages most like the question, and in each of them the lines that are.
Vectors of all passages are kept, up to `MAX_VECTOR_BYTES`. What has been taken in so far
answers. Invariant: the model is loaded before lock-down, from the package's own folder.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from abyme.helpers import passages
from abyme.helpers.link import Link
from abyme.helpers.passages import Arena, Context, Growing

if TYPE_CHECKING:
    import numpy as np

MAX_VECTOR_BYTES: Final = 1_000_000_000
"""A passage takes as many bytes as it has characters: 256 numbers of 4."""
LINES_CHARS: Final = 300
"""About as much as is shown of a passage."""

SENTENCE: Final = re.compile(r"[^\n]*?(?:\.\s|\n|\Z)")

_model: list[Any] = []


def prepare(_order: Mapping[str, Any]) -> None:
    """Load the model, with one thread, and all that using it loads."""
    import wordllama  # noqa: PLC0415 - an extra, and slow

    folder = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    model.embed(["one", "two"], norm=True)
    _model.append(model)
    passages.load_codecs()


def serve(link: Link) -> None:
    """Answer until the host is gone."""
    passages.serve(link, Vectors)


class Vectors(Growing):
    """Passages as vectors, as far as they have been made."""

    batch_bytes = 256 << 10

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self._blocks: list[np.ndarray] = []

    def take_in(self, texts: Sequence[str]) -> bool:
        """Make the vectors of more passages."""
        self._blocks.append(_vectors(texts))
        return sum(block.nbytes for block in self._blocks) > MAX_VECTOR_BYTES

    def best(self, head: Mapping[str, Any], context: Context) -> list[list[int | float]]:
        """Give the places most like a question."""
        if not self._blocks:
            return []
        asked = _vectors([head["meaning"]])[0]
        found: list[list[int | float]] = []
        for number in self._ranked(asked):
            for document, first, last in context.shares_of(*self.place(number)):
                chars = context.index[document].chars
                span = max(0, first), min(chars, last)
                if span[0] < span[1]:
                    found.append(self._within(document, span, asked, context))
            if len(found) >= head["k"]:
                break
        return sorted(found[: head["k"]], key=lambda one: (-one[3], *one[:3]))

    def _ranked(self, asked: "np.ndarray") -> Iterator[int]:
        import numpy as np  # noqa: PLC0415 - loaded with the model

        likeness = np.concatenate([block @ asked for block in self._blocks])
        yield from map(int, np.argsort(-likeness, kind="stable"))

    def _within(
        self, document: int, span: tuple[int, int], asked: "np.ndarray", context: Context
    ) -> list[int | float]:
        """Find the lines of a passage that are most like the question."""
        text = self.arena.cut(context.index[document], *span)
        cuts = list(_lines(text))
        likeness = _vectors([text[start:end] for start, end in cuts]) @ asked
        best = int(likeness.argmax())
        start, end = cuts[best]
        return [document, span[0] + start, span[0] + end, float(likeness[best])]


def _vectors(texts: Sequence[str]) -> "np.ndarray":
    """Make vectors of length 1; of a text without a word, zeros."""
    import numpy as np  # noqa: PLC0415 - loaded with the model

    sound = [text.encode("utf-8", "replace").decode() for text in texts]
    with np.errstate(all="ignore"):
        made = _model[0].embed([text if text.strip() else "." for text in sound], norm=True)
    vectors: np.ndarray = np.nan_to_num(made).astype(np.float32)
    return vectors


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Cut a passage at line ends and sentences into stretches of up to `LINES_CHARS`."""
    begin, stop = 0, 0
    for match in SENTENCE.finditer(text):
        if match.end() - begin > LINES_CHARS and stop > begin:
            yield begin, stop
            begin = stop
        stop = match.end()
        while stop - begin > LINES_CHARS:
            yield begin, begin + LINES_CHARS
            begin += LINES_CHARS
    if stop > begin:
        yield begin, stop
