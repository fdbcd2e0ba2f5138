"""How something was computed, as evidence: by an `llm_map`, a search of hits, a count.

Decides what a derivation tells the host: the cell, the instruction or pattern, how many items,
their labels, and the places of the first of them. What a list was made by is remembered beside
it and not in it, so that equal values stay equal when a cell is run again.
Invariant: bounded, whatever is cited.
Does not vouch for any of it: the host counts labels again in its own records and looks every
place up.
"""

import json
import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Sequence, Sized
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

Span = tuple[int, int, int]
"""Document, start, end."""

MAX_PLACES: Final = 1_000
MAX_LABELS: Final = 50
LABEL_CHARS: Final = 80
ASKED_CHARS: Final = 500
SHOWN_CHARS: Final = 80
MAX_COUNTS: Final = 1_000
MAX_DERIVATIONS: Final = 20


class Derivation(dict[str, Any]):
    """What `cite` makes of something that was computed."""

    def __repr__(self) -> str:
        how, asked = self.get("how"), str(self.get("asked"))[:SHOWN_CHARS]
        items, places = self.get("items"), self.get("total")
        return f"<{how}({asked!r}) in cell {self.get('cell')}: {items} items, {places} places>"


@dataclass(frozen=True, slots=True)
class Origin:
    """By what a list was made."""

    how: str
    asked: str
    cell: int
    spans: Sequence[Span | None] | None = None
    """Of each item, where it stands, if it knows; None: the items are hits."""
    call: int | None = None
    """Of `llm_map`: that brought the first value; by it the host finds its record of all."""
    sent: int = 0
    """Of `llm_map`: items that were no blank ones."""
    scope: str = ""
    """Documents, flags and limit."""


@dataclass(slots=True)
class Origins:
    """What was made by what, as long as it lives."""

    _of: dict[int, tuple["weakref.ref[Any]", Origin]] = field(default_factory=dict)
    _counts: dict[int, Origin | None] = field(default_factory=dict)
    """An int carries no more than its value; None: several counts came to it."""

    def made(self, thing: Any, origin: Origin) -> None:
        """Remember by what a list was made."""
        key, known = id(thing), self._of
        known[key] = (weakref.ref(thing, lambda _: known.pop(key, None)), origin)

    def counted(self, value: int, pattern: object, cell: int, scope: str = "") -> None:
        """Remember a count. Of different ones that are equal nobody can tell which is meant."""
        made = Origin("count", shown(pattern), cell, scope=scope)
        before = self._counts.pop(value, made)
        same = before is not None and (before.asked, before.scope) == (made.asked, made.scope)
        self._counts[value] = made if same else None
        if len(self._counts) > MAX_COUNTS:
            del self._counts[next(iter(self._counts))]

    def derivation(self, thing: Any, label: object = None) -> Derivation | None:
        """Tell how a list or a number was computed; None: not by what is remembered."""
        if isinstance(thing, Derivation):
            return thing
        if type(thing) is int:
            counted = self._counts.get(thing)
            return None if counted is None else _derivation(counted, thing, ())
        entry = self._of.get(id(thing))
        if entry is None or id(entry[0]()) != id(thing):
            return None
        origin = entry[1]
        wanted: list[Span] = []
        spans = origin.spans if origin.spans is not None else [hit.span for hit in thing]
        for span, value in zip(spans, thing, strict=False):
            if span is not None and (label is None or value == label):
                wanted.append(span)
        made = _derivation(origin, len(thing), wanted)
        if origin.how == "llm_map":
            made.update(call=origin.call, sent=origin.sent, labels=_labels(thing))
        return made


def _derivation(origin: Origin, items: int, spans: Sequence[Span]) -> Derivation:
    places = [list(span) for span in spans[:MAX_PLACES]]
    asked = origin.asked[:ASKED_CHARS]
    told = {"how": origin.how, "cell": origin.cell, "asked": asked, "items": items}
    if origin.scope:
        told["scope"] = origin.scope[:ASKED_CHARS]
    return Derivation(told, places=places, total=len(spans))


def selected(things: Collection[Any], cell: int) -> Derivation | None:
    """Tell of hits, rows or chunks that a cell has put together; None: others are among the first.

    Chunks are made when touched, so only as many are as are told.
    """
    every = list(islice(things, MAX_PLACES))
    spans = [getattr(one, "span", None) for one in every]
    there = [span for span in spans if isinstance(span, tuple)]
    if not every or len(there) < len(every):
        return None
    made = _derivation(Origin("selected", "", cell), len(things), there)
    made["total"] = len(things)
    return made


def scope_of(docs: object, flags: int, limit: str = "") -> str:
    """Write what a search was narrowed to."""
    narrowed = [] if docs is None else [f"docs={_short(docs)}"]
    if flags:
        narrowed.append(f"flags={int(flags)}")
    return ", ".join([*narrowed, limit] if limit else narrowed)


def _short(docs: object) -> str:
    if isinstance(docs, str):
        return repr(docs[:ASKED_CHARS])
    return f"{len(docs):,} names" if isinstance(docs, Sized) else type(docs).__name__


def _labels(values: Iterable[Any]) -> dict[str, int]:
    """Count values as the host does: a text as it is, anything else as JSON."""
    counts = Counter(
        (one if isinstance(one, str) else json.dumps(one, sort_keys=True, default=repr))[
            :LABEL_CHARS
        ]
        for one in values
        if one is not None
    )
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MAX_LABELS])


def shown(pattern: object) -> str:
    """Write a pattern or words, cut."""
    return str(getattr(pattern, "pattern", pattern))[:ASKED_CHARS]
