"""`chunks(...)`: what is cut, and by what.

Decides what a value that was given to be cut means: a name, a text of the context, found again
by `parts.Sources`, or any other text, whose chunks know no place. What can be cut where is
`cuts`; what a chunk is, `chunks`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from abyme.guest.chunks import Chunk, Chunks, Stretch
from abyme.guest.cuts import BY, MOST_SIZE, Cutter
from abyme.guest.parts import Sources
from abyme.guest.places import Hit

MAX_NOTES: Final = 3
MAX_NAME_CHARS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Way:
    """How the model wants texts to be cut."""

    by: Any
    size: Any
    overlap: Any

    def checked(self) -> "Way":
        """Give it back.

        Raises:
            ValueError: there is no such unit, or a number is none.
        """
        if self.by not in BY:
            raise ValueError(f"by must be one of {', '.join(BY)}, not {self.by!r:.80}")
        for name, given, least in (("size", self.size, 1), ("overlap", self.overlap, 0)):
            if given is None and name == "size":
                continue
            if type(given) is not int or not least <= given <= MOST_SIZE:
                raise ValueError(f"{name} must be a whole number from {least}, not {given!r:.80}")
        if self.size is not None and self.overlap >= self.size:
            raise ValueError(f"overlap={self.overlap} must be less than size={self.size}")
        return self


@dataclass(slots=True)
class Chunking:
    """`chunks` over the texts of one context."""

    context: object
    names: Sequence[str | int]
    text_of: Callable[[int], str]
    pages: Mapping[int, Sequence[int]]
    sources: Sources
    chosen: Callable[[Any], Sequence[int]]
    seek: Callable[[dict[str, Any]], dict[str, Any] | None]
    _notes: dict[str, None] = field(default_factory=dict)

    def chunks(self, given: Any, docs: Any, way: Way) -> Chunks:
        """Cut what is given, or the documents that are.

        Raises:
            TypeError: it is neither a name nor a text.
            ValueError: the way is none.
            KeyError: no such document.
        """
        way.checked()
        cutter = Cutter(way.by, way.size, way.overlap, self._symbols, self._note)
        if given is not None and docs is not None:
            raise ValueError("give a text, a name or docs=, not two of them")
        if given is None or given is self.context:
            return Chunks(self._documents(self.chosen(docs)), cutter)
        if isinstance(given, Hit):
            number, start, end = given.span
            given = Chunk(self.text_of(number)[start:end], given.span, given.name)
        if isinstance(given, int) and not isinstance(given, bool):
            return Chunks(self._documents(self.chosen([given])), cutter)
        if not isinstance(given, str):
            kind = type(given).__name__
            raise TypeError(f"chunks cuts a str or a document by its name, not {kind}")
        if len(given) < MAX_NAME_CHARS and (given in self.names or self._means_a_name(given)):
            return Chunks(self._documents(self.chosen([given])), cutter)
        return Chunks([self._stretch(given)], cutter)

    def take_notes(self) -> list[str]:
        """Say what was cut in another way since the last call."""
        notes, self._notes = list(self._notes)[:MAX_NOTES], {}
        return notes

    def _means_a_name(self, given: str) -> bool:
        """Tell whether a text can only be meant as a name: then it is one, or is refused."""
        if isinstance(given, Chunk) or not self.names or not isinstance(self.names[0], str):
            return False
        return (
            ("." in given or "/" in given)
            and not any(map(str.isspace, given))
            and any(map(str.isalnum, given))
        )

    def _documents(self, numbers: Sequence[int]) -> list[Stretch]:
        def text_of(number: int) -> Callable[[], str]:
            return lambda: self.text_of(number)

        return [Stretch(text_of(n), n, self.names[n], pages=self.pages.get(n, ())) for n in numbers]

    def _stretch(self, text: str) -> Stretch:
        span = self.sources.span_of(text)
        plain = str.__str__(text)
        if span is None:
            return Stretch(lambda: plain)
        number, start, _ = span
        line = self.text_of(number).count("\n", 0, start) + 1
        pages = self.pages.get(number, ())
        return Stretch(lambda: plain, number, self.names[number], start, pages, line)

    def _symbols(self, document: int) -> Sequence[Sequence[Any]] | None:
        sought = self.seek({"type": "symbols", "document": document})
        if sought is None or not sought["complete"]:
            return None
        places: Sequence[Sequence[Any]] = sought["places"]
        return places or None

    def _note(self, words: str) -> None:
        self._notes[words] = None
