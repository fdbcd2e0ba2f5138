"""Batches of sub-calls on their way in: pieces and parts put together, in bounds.

Decides when a batch is complete and what is too much. The guest chooses the number of
a batch and may be hostile: a number is used once in a session, and what has not arrived
whole is dropped with its cell. All texts of a session that wait here or for an answer take at
most `MAX_OPEN_BYTES`; a batch that does not fit is refused, not believed.
"""

import sys
from dataclasses import dataclass, field

from abyme.core.events import ContextPart, Request
from abyme.errors import ProtocolViolation
from abyme.sandboxes.jail import frames

OVERHEAD_BYTES = 200
"""Of a request or a piece beside its text."""


class TooMuch(Exception):
    """A batch has arrived that would not fit beside those that are open. It was dropped."""


@dataclass(slots=True)
class Batch:
    """One batch that is still coming in."""

    requests: list[frames.Wanted] = field(default_factory=list)
    pieces: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    dropped: bool = False
    """It does not fit: the rest is thrown away as it comes."""

    def request(self, position: int, purpose: str) -> Request:
        """One request, its pieces joined."""
        given = self.requests[position]
        prompt = "".join(self.pieces.get((position, "prompt"), ())) or given.prompt
        text = "".join(self.pieces.get((position, "text"), ())) or given.text
        if purpose == "rlm":
            context = None if text is None else ContextPart(text=text)
            return Request(prompt=prompt, context=context, model=given.model, fresh=given.fresh)
        return Request(prompt=prompt, text=text, model=given.model, fresh=given.fresh)


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
        if not self._fits(frame.batch, frame.text):
            return
        batch.pieces.setdefault((frame.position, frame.part), []).append(frame.text)

    def calls(self, frame: frames.Calls) -> list[Request] | None:
        """Take requests; all of the batch if it is complete.

        Raises:
            ProtocolViolation: if they do not fit the rules.
            TooMuch: if there is no room for them; the session goes on.
        """
        batch = self._open(frame.batch)
        texts = [text for one in frame.requests for text in (one.prompt, one.text or "")]
        if self._fits(frame.batch, *texts):
            batch.requests += frame.requests
        if len(batch.requests) > frames.MAX_BATCH:
            raise ProtocolViolation(f"a batch has more than {frames.MAX_BATCH:,} calls")
        if frame.more:
            return None
        del self._coming[frame.batch]
        self._done.add(frame.batch)
        if batch.dropped:
            raise TooMuch
        return [batch.request(position, frame.purpose) for position in range(len(batch.requests))]

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

    def _fits(self, number: int, *texts: str) -> bool:
        """Count texts of a batch; where there is no room for them, drop all of it."""
        batch = self._coming[number]
        size = sum(sys.getsizeof(text) + OVERHEAD_BYTES for text in texts)
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
