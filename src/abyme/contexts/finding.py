"""Lines of a context for a REPL: a question of grep's, cut up for helpers on all cores.

Decides how the texts are cut into units (whole documents, or windows of long ones), which
helper takes which, and when enough was found. The helpers (`abyme.helpers.find`) belong to
the memory, start with its first question, and keep its map. Invariant: places come in the
order of the texts, whichever helper was first; a question that is dropped ends the helpers that
are at work on it. Does not read a pattern: it comes from a model.
"""

import array
import asyncio
import bisect
import itertools
import os
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from abyme.contexts.confined import BROKE_THE_RULES, Confined, HelperFailed, HelperUnavailable
from abyme.contexts.texts import Memory
from abyme.core.seeks import Grep, Sought
from abyme.errors import ContextError
from abyme.layout import WIDTH, WORDS, Index

if TYPE_CHECKING:
    from abyme.contexts.seeking import Where

WINDOW_BYTES: Final = 8 << 20
"""Of a text that is longer: what a helper is given at once."""
FIRST_BYTES: Final = 1 << 20
"""Of the first unit: often it has enough."""
ALL: Final = -1
MAX_PLACES: Final = 200_000
MAX_REASON_CHARS: Final = 500
PLACE: Final = 6
"""Numbers of a place: document, line's start and end, match's start and end, line number."""
MAX_HELPERS: Final = 8
MEMORY_BYTES: Final = 1 << 30
MAX_CONTEXTS: Final = 32
"""Whose indexes a helper keeps; it drops the oldest in the same order."""
UNIT_TIMEOUT_S: Final = 600.0
WINDOWS_A_QUESTION: Final = 4
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]

Unit = list[tuple[int, int, int]]
"""First document, the one behind the last, window or `ALL`; several runs of short documents, or
one of a long one.
"""


async def grep(wanted: Grep, where: "Where") -> Sought:
    """Find lines, or count matches.

    Raises:
        ContextError: it cannot be done here, or only by `re`.
    """
    companion = where.memory.companion("find", lambda: Finders(where.memory))
    assert isinstance(companion, Finders)
    return await companion.grep(wanted, where)


class Finders:
    """The helpers of one memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._most = min(MAX_HELPERS, len(os.sched_getaffinity(0)))
        self._threads = ThreadPoolExecutor(self._most, "abyme-grep")
        self._free: list[_Helper] = []
        self._all: set[_Helper] = set()
        self._guard = threading.Lock()
        self._keys: OrderedDict[object, _Cut] = OrderedDict()
        self._numbers = itertools.count()
        self._ends: dict[tuple[int, int, int], int] = {}
        """Line ends of a window of a text, by its place in memory."""
        self._closed: ContextError | None = None

    @property
    def at_work(self) -> int:
        """How many helpers are."""
        return len(self._all) - len(self._free)

    async def grep(self, wanted: Grep, where: "Where") -> Sought:
        """See `grep`."""
        if self._closed is not None:
            raise self._closed
        cut = self._cut(where)
        runs = cut.runs(wanted.documents)
        question = _Question(where, cut.key, {"pattern": wanted.pattern, "flags": wanted.flags})
        try:
            plan, _ = await self._run(question, {"t": "plan", "kinds": cut.kinds(runs)})
            units = cut.units(runs, whole=plan.crosses)
            if wanted.count:
                total = 0
                async for _, told, _ in self._each(question, units, count=True, limit=0):
                    total += told.total
                return Sought(total=total)
            return await self._lines(question, units, wanted.limit, cut)
        except BaseException:
            question.stop()
            raise
        finally:
            self._memory.check_untouched()

    async def _lines(
        self, question: "_Question", units: Iterator[Unit], limit: int | None, cut: "_Cut"
    ) -> Sought:
        most = MAX_PLACES if limit is None else min(limit, MAX_PLACES)
        places: list[list[int | float | str]] = []
        windows: dict[int, int] = {}
        crossed, complete = False, True
        async for unit, told, found in self._each(question, units, count=False, limit=most):
            crossed = crossed or told.crossed
            before, room, window = len(places), most - len(places), unit[0][2]
            places += found[:room]
            if window > 0:
                windows.update(dict.fromkeys(range(before, len(places)), window))
            complete = told.complete and len(found) <= room
            if not complete:
                break
        await self._number(question, places, windows, cut)
        return Sought(places=places, total=len(places), complete=complete, crossed=crossed)

    async def _number(
        self,
        question: "_Question",
        places: list[list[int | float | str]],
        windows: Mapping[int, int],
        cut: "_Cut",
    ) -> None:
        """Add the lines of the windows before a place's own to its line number."""
        last: dict[int, int] = {}
        for position, window in windows.items():
            doc = int(places[position][0])
            last[doc] = max(last.get(doc, 0), window)
        missing = [
            (doc, window)
            for doc, end in last.items()
            for window in range(end)
            if (*cut.place(doc), window) not in self._ends
        ]
        several = [
            missing[at : at + WINDOWS_A_QUESTION]
            for at in range(0, len(missing), WINDOWS_A_QUESTION)
        ]
        heads: list[dict[str, Any]] = [{"t": "ends", "units": list(batch)} for batch in several]
        asked = [asyncio.ensure_future(self._run(question, head)) for head in heads]
        for batch, answer in zip(several, await asyncio.gather(*asked), strict=True):
            for (doc, window), ends in zip(batch, answer[0].ends, strict=True):
                self._ends[*cut.place(doc), window] = ends
        for position, window in windows.items():
            place = places[position]
            spot = cut.place(int(place[0]))
            before = sum(self._ends[*spot, number] for number in range(window))
            place[5] = int(place[5]) + before

    async def _each(
        self, question: "_Question", units: Iterator[Unit], *, count: bool, limit: int
    ) -> AsyncIterator[tuple[Unit, "_Told", "_Places"]]:
        """Have units looked at, several at once; what was found, in order."""
        pending: deque[tuple[Unit, asyncio.Future[tuple[Any, _Places]]]] = deque()
        try:
            while True:
                while len(pending) <= self._most and (unit := next(units, None)) is not None:
                    head = {"t": "find", "units": unit, "count": count, "limit": limit}
                    pending.append((unit, asyncio.ensure_future(self._run(question, head))))
                if not pending:
                    return
                unit, future = pending.popleft()
                told, found = await future
                yield unit, told, found
        finally:
            for _, future in pending:
                future.cancel()

    async def _run(self, question: "_Question", head: dict[str, Any]) -> tuple[Any, "_Places"]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._ask, question, head)

    def _ask(self, question: "_Question", head: dict[str, Any]) -> tuple[Any, "_Places"]:
        """Ask one helper and wait. On a worker thread."""
        helper = self._take(head)
        try:
            answer = _checked(question.where.index, head, *helper.ask(question, head))
        except BaseException:
            self._drop(helper)
            raise
        with self._guard:
            self._free.append(helper)
        if isinstance(answer[0], _Refused):
            raise ContextError(answer[0].refused[:MAX_REASON_CHARS])
        return answer

    def _take(self, head: Mapping[str, Any]) -> "_Helper":
        """Take a helper that is free, by choice the one that had this unit before."""
        first, _, window = head["units"][0] if head["t"] == "find" else (0, 0, 0)
        with self._guard:
            if self._closed is not None:
                raise self._closed
            self._free.sort(key=lambda one: one.number == (first + window) % self._most)
            if self._free:
                return self._free.pop()
            taken = {one.number for one in self._all}
            helper = _Helper(self._memory, min(set(range(self._most + 1)) - taken))
            self._all.add(helper)
        try:
            helper.start()
        except HelperUnavailable as error:
            self._closed = error
            raise
        return helper

    def _drop(self, helper: "_Helper") -> None:
        helper.close()
        with self._guard:
            self._all.discard(helper)

    def _cut(self, where: "Where") -> "_Cut":
        """Give what is known of a context, kept for the last few."""
        cut = self._keys.pop(where.key, None) or _Cut(where, next(self._numbers))
        self._keys[where.key] = cut
        if len(self._keys) > MAX_CONTEXTS:
            self._keys.popitem(last=False)
        return cut

    def close(self) -> None:
        """End the helpers."""
        with self._guard:
            self._closed = ContextError("the context is closed")
            helpers, self._all = list(self._all), set()
            self._free.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for helper in helpers:
            helper.close()


_Places = list[list[Any]]


class _Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    crosses: bool


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    total: _Count
    crossed: bool
    complete: bool


class _Ends(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ends: list[_Count]


class _Refused(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    refused: str


ANSWERS: Final = {"plan": _Plan, "find": _Told, "ends": _Ends}
"""What a question may be answered with."""


def _checked(
    index: Index, head: Mapping[str, Any], told: Mapping[str, Any], body: bytes
) -> tuple[Any, _Places]:
    """Believe nothing of an answer but what can be.

    Raises:
        HelperFailed: it cannot.
    """
    if told.get("t") == "refused":  # its program's word: the job itself has failed
        raise HelperFailed("find", str(told.get("why"))[:MAX_REASON_CHARS])
    try:
        answer = msgspec.convert(told, _Refused if "refused" in told else ANSWERS[head["t"]])
        numbers = array.array("q", body)
        places = [numbers[at : at + PLACE].tolist() for at in range(0, len(numbers), PLACE)]
        if isinstance(answer, _Ends):
            _must_be(len(answer.ends) == len(head["units"]))
        if places:
            _check(places, index, head)
    except (ValueError, msgspec.ValidationError):
        raise HelperFailed("find", BROKE_THE_RULES) from None
    return answer, places


def _check(places: _Places, index: Index, head: Mapping[str, Any]) -> None:
    """See that places lie in the texts that were asked about.

    Raises:
        ValueError: they do not.
    """
    units, sizes = head.get("units", ()), index.words[2::WORDS]
    _must_be(head["t"] == "find" and not head["count"])
    _must_be(len(places) <= min(head["limit"], MAX_PLACES))
    pieces = iter(units)
    first, behind, _ = next(pieces)
    for doc, begin, stop, start, end, line in places:
        while doc >= behind:  # they come in the order of the texts
            first, behind, _ = next(pieces, (doc + 1, doc + 1, ALL))
        chars = sizes[doc] if first <= doc else -1
        _must_be(0 <= begin <= stop <= chars and 0 <= start <= end <= chars)
        _must_be(1 <= line <= chars + 1)


def _must_be(holds: bool) -> None:  # noqa: FBT001 - an assertion
    if not holds:
        raise ValueError


@dataclass(slots=True, eq=False)
class _Question:
    """One question, and who is at work on it."""

    where: "Where"
    key: int
    common: Mapping[str, Any]
    at_work: set["_Helper"] = field(default_factory=set)
    stopped: bool = False

    def stop(self) -> None:
        """Nobody waits for it any more."""
        self.stopped = True
        for helper in tuple(self.at_work):
            helper.close()


class _Helper:
    """One helper, and what it knows."""

    def __init__(self, memory: Memory, number: int) -> None:
        self.number = number
        self._fd = memory.fd
        mapped = os.fstat(memory.fd).st_size
        self._confined = Confined(
            "find", memory_bytes=MEMORY_BYTES, mapped_bytes=mapped, needs=("re2",)
        )
        self._known: OrderedDict[int, None] = OrderedDict()

    def start(self) -> None:
        self._confined.start()
        self._confined.send({"t": "arena", "window_bytes": WINDOW_BYTES}, [self._fd])

    def ask(self, question: _Question, head: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        question.at_work.add(self)
        try:
            if question.stopped:
                raise ContextError("nobody waits for it any more")
            if question.key not in self._known:
                self._confined.send(
                    {"t": "context", "key": question.key}, [question.where.index_fd]
                )
                self._known[question.key] = None
                if len(self._known) > MAX_CONTEXTS:
                    self._known.popitem(last=False)
            self._confined.send({**question.common, **head, "key": question.key})
            return self._confined.receive(UNIT_TIMEOUT_S)
        finally:
            question.at_work.discard(self)

    def close(self) -> None:
        self._confined.close()


class _Cut:
    """How the texts of one context are cut into units."""

    def __init__(self, where: "Where", key: int) -> None:
        self.key = key
        index = where.index
        self._count = len(index)
        self._offsets, self._sizes = index.offsets, index.sizes
        self._kinds = index.words[3::WORDS]
        self._sums = array.array("Q", itertools.accumulate(self._sizes, initial=0))
        self._large = [n for n, size in enumerate(self._sizes) if size > WINDOW_BYTES]

    def runs(self, documents: Sequence[int] | None) -> list[tuple[int, int]]:
        """Read a choice of documents.

        Raises:
            ContextError: it is none.
        """
        if documents is None:
            return [(0, self._count)]
        rises = all(a < b for a, b in itertools.pairwise(documents))
        if len(documents) % 2 or not rises or (documents and documents[-1] > self._count):
            raise ContextError("no such documents")
        return list(zip(documents[::2], documents[1::2], strict=True))

    def kinds(self, runs: Sequence[tuple[int, int]]) -> list[int]:
        """List the kinds of the texts."""
        found: set[int] = set()
        for first, behind in runs:
            found.update(self._kinds[first:behind])
            if len(found) == len(WIDTH):
                break
        return sorted(found)

    def place(self, doc: int) -> tuple[int, int]:
        """Tell a text from all others of the memory."""
        return self._offsets[doc], self._sizes[doc]

    def units(self, runs: Sequence[tuple[int, int]], *, whole: bool) -> Iterator[Unit]:
        """Cut runs of documents into units; long documents into windows, unless `whole`."""
        most, gathered = FIRST_BYTES, 0
        pieces: Unit = []
        for first, behind in runs:
            at = first
            while at < behind:
                if self._sizes[at] > WINDOW_BYTES:
                    if pieces:
                        yield pieces
                    pieces, gathered, most = [], 0, WINDOW_BYTES
                    windows = 1 if whole else -(-self._sizes[at] // WINDOW_BYTES)
                    yield from ([(at, at + 1, ALL if whole else n)] for n in range(windows))
                    at += 1
                    continue
                end = self._end(at, behind, most - gathered)
                pieces.append((at, end, ALL))
                gathered += self._sums[end] - self._sums[at]
                at = end
                if gathered >= most or at < behind:
                    yield pieces
                    pieces, gathered, most = [], 0, WINDOW_BYTES
        if pieces:
            yield pieces

    def _end(self, at: int, behind: int, room: int) -> int:
        """Find how many documents from one on have room, up to the next long one; one at least."""
        end = bisect.bisect_right(self._sums, self._sums[at] + max(0, room)) - 1
        large = bisect.bisect_left(self._large, at)
        stop = self._large[large] if large < len(self._large) else behind
        return max(at + 1, min(end, stop, behind))
