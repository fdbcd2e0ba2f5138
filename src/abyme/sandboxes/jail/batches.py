"""Batches of sub-calls on their way in: pieces and parts put together, in bounds.

Decides when a batch is complete and what is too much. The guest chooses the number of
a batch and may be hostile: a number is used once in a session, and what has not arrived
whole is dropped with its cell.
"""

from dataclasses import dataclass, field

from abyme.core.events import Request
from abyme.errors import ProtocolViolation
from abyme.sandboxes.jail import frames


@dataclass(slots=True)
class Batch:
    """One batch that is still coming in."""

    requests: list[frames.Wanted] = field(default_factory=list)
    pieces: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    chars: int = 0

    def add(self, chars: int) -> None:
        """Count characters.

        Raises:
            ProtocolViolation: if they are too many.
        """
        self.chars += chars
        if self.chars > frames.MAX_BATCH_CHARS:
            raise ProtocolViolation(f"a batch has more than {frames.MAX_BATCH_CHARS:,} characters")

    def request(self, position: int) -> Request:
        """One request, its pieces joined."""
        given = self.requests[position]
        prompt = "".join(self.pieces.get((position, "prompt"), ())) or given.prompt
        text = "".join(self.pieces.get((position, "text"), ())) or given.text
        return Request(prompt=prompt, text=text, model=given.model, fresh=given.fresh)


@dataclass(slots=True)
class Batches:
    """All batches of a session; those of the running cell are kept."""

    next: int = 0
    """The lowest number that no batch has had."""
    _coming: dict[int, Batch] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)
    _highest: int = -1

    def piece(self, frame: frames.Piece) -> None:
        """Take a part of a long prompt or text.

        Raises:
            ProtocolViolation: if it does not fit the rules.
        """
        batch = self._open(frame.batch)
        batch.add(len(frame.text))
        batch.pieces.setdefault((frame.position, frame.part), []).append(frame.text)

    def calls(self, frame: frames.Calls) -> list[Request] | None:
        """Take requests; all of the batch if it is complete.

        Raises:
            ProtocolViolation: if they do not fit the rules.
        """
        batch = self._open(frame.batch)
        batch.add(sum(len(one.prompt) + len(one.text or "") for one in frame.requests))
        batch.requests += frame.requests
        if len(batch.requests) > frames.MAX_BATCH:
            raise ProtocolViolation(f"a batch has more than {frames.MAX_BATCH:,} calls")
        if frame.more:
            return None
        del self._coming[frame.batch]
        self._done.add(frame.batch)
        return [batch.request(position) for position in range(len(batch.requests))]

    def cell_begins(self) -> int:
        """Give the first number that is free for a cell."""
        self.next = max(self.next, self._highest + 1)
        return self.next

    def cell_ended(self) -> None:
        """Forget what did not arrive; the next cell's numbers are new ones."""
        self.next = max(self.next, self._highest + 1)
        self._coming.clear()
        self._done.clear()

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
