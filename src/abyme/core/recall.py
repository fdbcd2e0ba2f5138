"""What is known already: a cell that is run again is answered from here, not by calls.

Matched by what was asked and how often it was asked before, never by order of arrival:
a cell that asks from threads gets to each question the answer that it had.
Invariant: an answer is given out as often as it was asked for, not more.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from abyme.core import events as ev
from abyme.core.effects import Asked, CellDigest, Result
from abyme.core.ids import NodeId

Thing = Result | NodeId
"""A result that was had, or a child that lives and will have one."""


class Recall:
    """What one cell was answered, and what it had not been answered yet when it was cut off."""

    def __init__(self, asked: Iterable[Asked] = ()) -> None:
        self._batches = list(asked)
        self._whole: dict[tuple[bytes, ...], deque[int]] = {}
        self._single: dict[bytes, deque[tuple[int, Thing]]] = {}
        self._spent: set[int] = set()
        """Batches that were given out whole."""
        self._broken: set[int] = set()
        """Batches of which a part was given out."""
        for number, batch in enumerate(self._batches):
            self._whole.setdefault(batch.keys, deque()).append(number)
            for name, result in zip(batch.keys, batch.results, strict=False):
                if result.failure is None:
                    self._put(name, number, result)

    def add(self, name: bytes, thing: Thing) -> None:
        """Know a single thing that was in no batch that was answered."""
        self._put(name, LOOSE, thing)

    def whole(self, keys: tuple[bytes, ...]) -> Asked | None:
        """Answer a batch exactly as it was answered before: with results or a refusal."""
        numbers = self._whole.get(keys, deque())
        while numbers:
            number = numbers.popleft()
            if number not in self._broken:
                self._spent.add(number)
                return self._batches[number]
        return None

    def has_whole(self, keys: tuple[bytes, ...]) -> bool:
        """Tell whether `whole` would find it."""
        return any(number not in self._broken for number in self._whole.get(keys, ()))

    def one(self, name: bytes) -> Thing | None:
        """Answer a request of a batch that was cut in another way. Failures are asked anew."""
        things = self._single.get(name, deque())
        while things:
            number, thing = things.popleft()
            if number not in self._spent:
                self._broken.add(number)
                return thing
        return None

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Tell for which of `keys`, by position, `one` would have nothing."""
        left = {
            name: sum(number not in self._spent for number, _ in self._single.get(name, ()))
            for name in keys
        }
        positions: list[int] = []
        for position, name in enumerate(keys):
            left[name] -= 1
            if left[name] < 0:
                positions.append(position)
        return positions

    def answer(self, keys: tuple[bytes, ...]) -> Asked | None:
        """Answer a batch whole, or put together from what is known; None if a part is not."""
        if (whole := self.whole(keys)) is not None:
            return whole
        if self.missing(keys):
            return None
        found = [self.one(name) for name in keys]
        return Asked(keys=keys, results=tuple(one for one in found if isinstance(one, Result)))

    def after(self, asked: Iterable[Asked]) -> "Recall":
        """Make one that knows these first, and then what is left of this one."""
        gone = self._spent | self._broken
        left = [batch for number, batch in enumerate(self._batches) if number not in gone]
        both = Recall([*asked, *left])
        for name, things in self._single.items():
            for number, thing in things:
                if number == LOOSE or number in self._broken:
                    both.add(name, thing)
        return both

    def _put(self, name: bytes, number: int, thing: Thing) -> None:
        self._single.setdefault(name, deque()).append((number, thing))


LOOSE = -1


def keys(event: ev.CallsRequested) -> tuple[bytes, ...]:
    """Digest what each result of a batch answers: a request, or all of them together."""
    each, task = item_keys(event), event.task
    if task is None or (event.purpose == "map" and not task.price_only):
        return each
    what = b"price %d" % task.pack if task.price_only else b"whole"
    return (hashlib.blake2b(what + b"".join(each), digest_size=16).digest(),)


def item_keys(event: ev.CallsRequested) -> tuple[bytes, ...]:
    """Digest each request of a batch, with what is to be done with it."""
    if event.task is None:
        return tuple(key(event.purpose, request) for request in event.requests)
    plain = msgspec.structs.replace(event.task, pack=0, fresh=False, price_only=False)
    begun = hashlib.blake2b(event.purpose.encode(), digest_size=16)
    begun.update(msgspec.json.encode(plain, order="deterministic"))
    found = []
    for request in event.requests:  # which are a prompt each, and may be very many
        digest = begun.copy()
        digest.update(request.prompt.encode("utf-8", "surrogatepass"))
        found.append(digest.digest())
    return tuple(found)


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
        "fresh" if request.fresh else "",
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
