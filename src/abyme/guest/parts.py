"""How a child's context travels: as stretches of one's own where it is made of them.

Decides what a value that was given as a child's context means. A `str` that equals a
document, a chunk of one that is found again, a hit of `grep`, and a mapping or list of such
are stretches, which the child reads from the same memory; any other `str` is sent. A mapping
or a list with other texts in it is refused, and nothing is taken for the name of a document.

Invariant: what the child sees equals what was given, character by character. Looking for
chunks costs a cell a fraction of a second, however many there are.
Does not ask the host: it checks every stretch again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from abyme.guest.chunks import Chunk, Chunks
from abyme.guest.places import Hit

MAX_SPANS: Final = 100_000
MAX_NOTES: Final = 3
CHUNK_CHARS: Final = 1_000
"""A shorter text is sent: that costs less than to look for it."""
SEARCH_CHARS: Final = 128 << 20
"""What a cell may look through for chunks that are not where the last ones make them likely."""
_HEAD_CHARS: Final = 64
_TRIES: Final = 32
_FEW: Final = 4
"""Documents of one length that are compared one by one; more are told apart by their hash."""

Span = tuple[int, int, int]
"""Document, start, end."""


@dataclass(frozen=True, slots=True)
class Part:
    """A child's context: a text, or stretches; with neither it is all that its parent has, so
    that the host can tell when a child is asked the same as its parent was.
    """

    text: str | None = None
    spans: list[Span] = field(default_factory=list)
    shape: str = "text"


class Sources:
    """The documents that a part can be made of."""

    def __init__(
        self,
        shape: str,
        context: object,
        names: Sequence[str | int],
        chars: Sequence[int],
        text_of: Callable[[int], str],
    ) -> None:
        """`context` is what the model has; `chars` are the sizes of the documents."""
        self._shape = shape
        self._context = context
        self._names = names
        self._chars = chars
        self._text_of = text_of
        self._numbers: dict[str | int, int] = {}
        self._by_size: dict[int, list[int]] = {}
        self._by_hash: dict[int, dict[int, list[int]]] = {}
        self._notes: list[str] = []
        self._last: Span = (0, 0, 0)
        self._stride = 0
        """From the chunk before the last one to the last one."""
        self._searched = 0

    def part(self, given: Any) -> Part:
        """Make a child's context of a value.

        Raises:
            TypeError: it is none, or holds a text that is not one's own.
            ValueError: it is empty.
        """
        if given is None or given is self._context:
            return Part()
        if isinstance(given, Hit):
            return Part(spans=[self._line(given)])
        if isinstance(given, Chunk) and given.span is not None and given and self.holds(given):
            return self._stretch(given.span)
        if isinstance(given, str):
            return self._text(str.__str__(given))
        if isinstance(given, Mapping):
            return self._several("documents", self._documents(given))
        if isinstance(given, list | tuple | Chunks):
            items = [self._item(item, f"[{n}]") for n, item in enumerate(given)]
            return self._several("list", items)
        raise TypeError(
            "context must be a str, a hit of grep, or a dict or list of documents of yours, "
            f"not {type(given).__name__}"
        )

    def _several(self, shape: str, spans: list[Span]) -> Part:
        if not any(end > start for _, start, end in spans):
            raise ValueError("context is empty; without one the child has yours")
        if len(spans) > MAX_SPANS:
            raise ValueError(f"context has {len(spans):,} texts; {MAX_SPANS:,} are allowed")
        if shape == self._shape and spans == [(n, 0, c) for n, c in enumerate(self._chars)]:
            return Part()
        return Part(spans=spans, shape=shape)

    def take_notes(self) -> list[str]:
        """Say what the last cell should be told, and begin another one."""
        self._searched = 0
        notes, self._notes = self._notes[:MAX_NOTES], []
        return notes

    def _text(self, text: str) -> Part:
        if not text:
            raise ValueError("context is empty; without one the child has yours")
        span = self.span_of(text)
        return Part(text=text) if span is None else self._stretch(span)

    def _stretch(self, span: Span) -> Part:
        if self._shape == "text" and span == (0, 0, self._chars[0]):
            return Part()
        return Part(spans=[span])

    def span_of(self, text: str) -> Span | None:
        """Find the document that a text is, or the stretch of one that it was cut from."""
        if isinstance(text, Chunk) and self.holds(text):
            return text.span
        return self._whole(text) or self._chunk(text)

    def holds(self, chunk: Chunk) -> bool:
        """Tell whether a chunk stands where it says; a cell can have made it."""
        if chunk.span is None:
            return False
        number, start, end = chunk.span
        return 0 <= number < len(self._chars) and self._text_of(number)[start:end] == chunk

    def _documents(self, given: Mapping[Any, Any]) -> list[Span]:
        spans: list[Span] = []
        for name, item in given.items():
            span = self._item(item, f"[{name!r}]", name)
            spans.append(span)
            own = self._names[span[0]]
            if own != name and not isinstance(item, Hit):
                self._notes.append(f"the child has {name!r} under the name it has here: {own!r}")
        return spans

    def _item(self, item: Any, where: str, name: Any = None) -> Span:
        if isinstance(item, Hit):
            return self._line(item)
        if not isinstance(item, str):
            raise TypeError(f"context{where} must be a str, not {type(item).__name__}")
        if isinstance(item, Chunk) and item.span is not None and self.holds(item):
            return item.span
        text = str.__str__(item)
        span = self._whole(text, name) or (self._chunk(text) if name is None else None)
        if span is None:
            raise TypeError(
                f"context{where} is no document of your context as a whole: join your texts to "
                "one str, with a heading for each, or give whole documents"
            )
        return span

    def _line(self, place: Hit) -> Span:
        """Find the line of a hit; a long one is shown cut, and given whole."""
        number, start, end = place.span
        text = self._text_of(number)
        if text[start:end] != place.quote:
            raise ValueError("that hit is not of this context")
        begin = text.rfind("\n", 0, start) + 1
        stop = text.find("\n", end)
        if stop > end and text[stop - 1] == "\r":
            stop -= 1  # it belongs to the line's end, as in what the hit shows
        return number, begin, len(text) if stop < 0 else stop

    def _whole(self, text: str, name: Any = None) -> Span | None:
        """Find the document that a text is all of; the one of that name, if it is it."""
        named = self._named(name)
        first = [named] if named is not None and self._chars[named] == len(text) else []
        for number in (*first, *self._candidates(text)):
            if self._text_of(number) == text:
                return number, 0, len(text)
        return None

    def _chunk(self, text: str) -> Span | None:
        """Find the stretch of a document that a text was cut from: where the last chunk ended, as
        far from its beginning as that was from the one before, or anywhere.
        """
        size = len(text)
        if size < CHUNK_CHARS:
            return None
        number, start, end = self._last
        for at in (end, start + self._stride):
            if at + size <= self._chars[number] and self._text_of(number).startswith(text, at):
                return self._found(number, at, size)
        for number, chars in enumerate(self._chars):
            left = SEARCH_CHARS - self._searched
            if left <= 0:
                return None
            if chars > size and (at := self._search(self._text_of(number), text, left)) >= 0:
                return self._found(number, at, size)
        return None

    def _search(self, document: str, text: str, left: int) -> int:
        """Find a text by its first characters; -1 if it is not among the first `left`."""
        head = text[:_HEAD_CHARS]
        at = document.find(head, 0, left)
        for _ in range(_TRIES):
            if at < 0:
                break
            if document.startswith(text, at):
                self._searched += at
                return at
            at = document.find(head, at + 1, left)
        self._searched += min(left, len(document))
        return -1

    def _found(self, number: int, start: int, size: int) -> Span:
        last, began, _ = self._last
        self._stride = start - began if last == number else size
        self._last = (number, start, start + size)
        return self._last

    def _named(self, name: object) -> int | None:
        if not self._numbers:
            self._numbers = {name: number for number, name in enumerate(self._names)}
        return self._numbers.get(name) if isinstance(name, str | int) else None

    def _candidates(self, text: str) -> Iterable[int]:
        size = len(text)
        if not self._by_size:
            for number, chars in enumerate(self._chars):
                self._by_size.setdefault(chars, []).append(number)
        same = self._by_size.get(size, [])
        if len(same) <= _FEW:
            return same
        if size not in self._by_hash:
            hashed: dict[int, list[int]] = {}
            for number in same:
                hashed.setdefault(hash(self._text_of(number)), []).append(number)
            self._by_hash[size] = hashed
        return self._by_hash[size].get(hash(text), ())
