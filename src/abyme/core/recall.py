"""What is known already: a cell that is run again is answered from here, not by calls.

Matched by what was asked and how often it was asked before, never by order of arrival:
a cell that asks from threads gets to each question the answer that it had.
Invariant: an answer is given out as often as it was asked for, not more.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from abyme.core import events as ev
from abyme.core.effects import Asked, CellDigest, Result

T = TypeVar("T")


@dataclass(slots=True)
class Known(Generic[T]):
    """Things by key, each given out once, in the order they were put in."""

    _things: dict[bytes, deque[T]] = field(default_factory=dict)

    def put(self, name: bytes, thing: T) -> None:
        """Add one."""
        self._things.setdefault(name, deque()).append(thing)

    def take(self, name: bytes) -> T | None:
        """Take the next one out; None when there is none left."""
        things = self._things.get(name)
        return things.popleft() if things else None

    def missing(self, names: Sequence[bytes]) -> list[int]:
        """Tell which of `names`, by position, could not be taken if all were."""
        left = {name: len(self._things.get(name, ())) for name in names}
        positions: list[int] = []
        for position, name in enumerate(names):
            left[name] -= 1
            if left[name] < 0:
                positions.append(position)
        return positions

    def rest(self) -> list[T]:
        """List what was not taken."""
        return [thing for things in self._things.values() for thing in things]


class Recall:
    """Answers to the batches of one cell."""

    def __init__(self, asked: Iterable[Asked]) -> None:
        self._batches: Known[Asked] = Known()
        for batch in asked:
            self._batches.put(b"".join(batch.keys), batch)
        self._results: Known[Result] | None = None

    def answer(self, purpose: str, requests: Sequence[ev.Request]) -> Asked | None:
        """Answer a batch as it was answered before; None if a part of it was never asked.

        A batch that was cut in another way is put together from single results.
        """
        keys = tuple(key(purpose, request) for request in requests)
        if (whole := self._batches.take(b"".join(keys))) is not None:
            return whole
        if self._results is None:
            self._results = Known()
            for batch in self._batches.rest():
                for name, result in zip(batch.keys, batch.results, strict=False):
                    self._results.put(name, result)
        found = [self._results.take(name) for name in keys]
        results = tuple(result for result in found if result is not None)
        return Asked(keys=keys, results=results) if len(results) == len(keys) else None


def key(purpose: str, request: ev.Request) -> bytes:
    """Digest of one request: the same one asks for the same thing."""
    context = request.context
    spans = [] if context is None else [(s.document, s.start, s.end) for s in context.spans]
    parts = (
        purpose,
        request.prompt,
        _or_none(request.text),
        _or_none(None if context is None else context.text),
        "" if context is None else f"{context.shape}{spans}",
        _or_none(request.model),
        "" if request.schema is None else json.dumps(request.schema, sort_keys=True),
    )
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()


def cell_digest(finished: ev.CellFinished) -> CellDigest:
    """Note what a cell came out as, to be compared when it is run again."""
    shown = f"{finished.output}\0{finished.dropped_chars}\0{finished.error}"
    data = shown.encode("utf-8", "surrogatepass")
    return CellDigest(
        output=hashlib.blake2b(data, digest_size=16).digest(),
        ended=finished.ended,
        names=tuple(finished.changed),
    )


def difference(was: CellDigest, finished: ev.CellFinished) -> ev.Difference | None:
    """Say how a cell that was run again came out in another way; None: it did not."""
    now = cell_digest(finished)
    before, after = ({name.name: name for name in one.names} for one in (was, now))
    every = before.keys() | after.keys()
    names = sorted(name for name in every if not _same(before.get(name), after.get(name)))
    what = [
        words
        for words, differs in (
            (f"it ended {now.ended}, before {was.ended}", now.ended != was.ended),
            ("its output differs", now.output != was.output),
        )
        if differs
    ]
    if not what and not names:
        return None
    return ev.Difference(
        cell=finished.cell, what=", ".join(what) or "its names differ", names=names
    )


def _same(one: ev.Name | None, other: ev.Name | None) -> bool:
    if one is None or other is None or (one.type, one.size) != (other.type, other.size):
        return False
    return one.digest == other.digest or None in (one.digest, other.digest)


def _or_none(text: str | None) -> str:
    return "" if text is None else f"={text}"
