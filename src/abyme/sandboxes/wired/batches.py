"""Batches of sub-calls on their way in: pieces and parts put together, in bounds.

Decides when a batch is complete and what is too much. The guest chooses the number of
a batch and may be hostile: a number is used once in a session, and what has not arrived
whole is dropped with its cell. All texts of a session that wait here or for an answer take at
most `MAX_OPEN_BYTES`; a batch that does not fit is refused, not believed.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

from abyme.core.events import ContextPart, Request, Span, Task
from abyme.errors import ProtocolViolation
from abyme.sandboxes.wired import frames

OVERHEAD_BYTES = 200
"""Of a request or a piece beside its text, and of a span."""
SCHEMA_TIMES = 25
"""What JSON takes in memory, at most, of its length."""
PLANNED = ("map", "reduce")
"""Purposes whose requests are items of a task."""


class TooMuch(Exception):
    """A batch has arrived that would not fit beside those that are open. It was dropped."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A batch that is complete."""

    requests: list[Request]
    task: Task | None


@dataclass(slots=True)
class Batch:
    """One batch that is still coming in."""

    requests: list[frames.Wanted] = field(default_factory=list)
    pieces: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: bool = False
    """It does not fit: the rest is thrown away as it comes."""

    def request(self, position: int, purpose: str) -> Request:
        """One request, its pieces joined.

        Raises:
            ProtocolViolation: it has what its purpose does not take.
        """
        given = self.requests[position]
        if purpose in PLANNED and (given != _item(given.prompt) or self._has_text(position)):
            raise ProtocolViolation("the guest gave an item more than its text")
        prompt = "".join(self.pieces.get((position, "prompt"), ())) or given.prompt
        text = "".join(self.pieces.get((position, "text"), ())) or given.text
        if given.spans and (purpose != "rlm" or text is not None):
            raise ProtocolViolation("the guest gave spans and a text")
        if purpose != "rlm":
            schema = self._schema(given.schema)
            return Request(
                prompt=prompt, text=text, model=given.model, schema=schema, fresh=given.fresh
            )
        if given.schema is not None:
            raise ProtocolViolation("the guest gave a child a schema")
        context = None
        if text is not None:
            context = ContextPart(text=text)
        elif given.spans:
            spans = [
                Span(document=number, start=start, end=end) for number, start, end in given.spans
            ]
            context = ContextPart(spans=spans, shape=given.shape)
        return Request(prompt=prompt, context=context, model=given.model, fresh=given.fresh)

    def task(self, given: frames.Task | None, purpose: str) -> Task | None:
        """Read a task.

        Raises:
            ProtocolViolation: it is not one, or its purpose has none.
        """
        if (given is not None) != (purpose in PLANNED):
            raise ProtocolViolation("the guest gave a task where there is none, or none at all")
        if given is None:
            return None
        labels = given.labels
        if labels is not None and (purpose == "reduce" or given.schema is not None):
            raise ProtocolViolation("the guest gave labels where a task takes none")
        if labels is not None and len(set(labels)) < len(labels):
            raise ProtocolViolation("the guest gave a label twice")
        if not self.requests:
            raise ProtocolViolation("the guest gave a task and nothing to do it with")
        return Task(
            instruction=given.instruction,
            labels=labels,
            schema=self._schema(given.schema),
            samples=given.samples,
            pack=given.pack,
            model=given.model,
            fresh=given.fresh,
            price_only=given.price_only,
        )

    def _has_text(self, position: int) -> bool:
        return (position, "text") in self.pieces

    def _schema(self, text: str | None) -> dict[str, Any] | None:
        """Read a schema; as a rule all requests of a batch have the same."""
        if text is None:
            return None
        if text not in self.schemas:
            self.schemas[text] = frames.schema(text)
        return self.schemas[text]


@dataclass(slots=True)
class Batches:
    """All batches of a session; those of the running cell are kept."""

    next: int = 0
    """The lowest number that no batch has had."""
    _coming: dict[int, Batch] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)
    _highest: int = -1
    _bytes: dict[int, int] = field(default_factory=dict)
    """What each batch takes that is coming or not answered."""

    def piece(self, frame: frames.Piece) -> None:
        """Take a part of a long prompt or text.

        Raises:
            ProtocolViolation: if it does not fit the rules.
        """
        batch = self._open(frame.batch)
        if not self._fits(frame.batch, _bytes(frame.text)):
            return
        batch.pieces.setdefault((frame.position, frame.part), []).append(frame.text)

    def calls(self, frame: frames.Calls) -> Arrived | None:
        """Take requests; gives the batch if it is complete.

        Raises:
            ProtocolViolation: if they do not fit the rules.
            TooMuch: if there is no room for them; the session goes on.
        """
        batch = self._open(frame.batch)
        size = sum(map(_request_bytes, frame.requests)) + _task_bytes(frame.task)
        if self._fits(frame.batch, size):
            batch.requests += frame.requests
        if len(batch.requests) > frames.MAX_BATCH:
            raise ProtocolViolation(f"a batch has more than {frames.MAX_BATCH:,} calls")
        if frame.more and frame.task is not None:
            raise ProtocolViolation("the guest gave a task before the end of its batch")
        if frame.more:
            return None
        del self._coming[frame.batch]
        self._done.add(frame.batch)
        if batch.dropped:
            raise TooMuch
        task, size = batch.task(frame.task, frame.purpose), len(batch.requests)
        return Arrived([batch.request(position, frame.purpose) for position in range(size)], task)

    def cell_begins(self) -> int:
        """Give the first number that is free for a cell."""
        self.next = max(self.next, self._highest + 1)
        return self.next

    def cell_ended(self) -> None:
        """Forget what did not arrive; the next cell's numbers are new ones."""
        self.next = max(self.next, self._highest + 1)
        self._coming.clear()
        self._done.clear()
        self._bytes.clear()

    def answered(self, number: int) -> None:
        """Make room: nobody waits for the batch any more."""
        self._bytes.pop(number, None)

    def _fits(self, number: int, size: int) -> bool:
        """Count bytes of a batch; where there is no room for them, drop all of it."""
        batch = self._coming[number]
        if batch.dropped or size + sum(self._bytes.values()) > frames.MAX_OPEN_BYTES:
            batch.dropped = True
            batch.requests.clear()
            batch.pieces.clear()
            self._bytes.pop(number, None)
            return False
        self._bytes[number] = self._bytes.get(number, 0) + size
        return True

    def late(self, number: int) -> None:
        """Note that a number was used for a cell that has ended."""
        if self.next <= number <= self.next + frames.MAX_BATCH:
            self._highest = max(self._highest, number)
            self._done.add(number)

    def _open(self, number: int) -> Batch:
        if number < self.next or number in self._done or number > self.next + frames.MAX_BATCH:
            raise ProtocolViolation("the guest used the number of another batch")
        self._highest = max(self._highest, number)
        return self._coming.setdefault(number, Batch())


def _bytes(text: str) -> int:
    return sys.getsizeof(text) + OVERHEAD_BYTES


def _request_bytes(one: frames.Wanted) -> int:
    texts = _bytes(one.prompt) + _bytes(one.text or "")
    return texts + len(one.spans) * OVERHEAD_BYTES + len(one.schema or "") * SCHEMA_TIMES


def _task_bytes(task: frames.Task | None) -> int:
    if task is None:
        return 0
    schema_bytes = len(task.schema or "") * SCHEMA_TIMES
    return _bytes(task.instruction) + sum(map(_bytes, task.labels or ())) + schema_bytes


def _item(prompt: str) -> frames.Wanted:
    return frames.Wanted(prompt=prompt, text=None, model=None, fresh=False)
