"""What a planned batch is made of: asks, replies, and the moves that follow.

A job (`maps`, `reduces`) plans the calls of one `llm_map` or `llm_reduce`. Invariant: a job is
pure, and every seat of its batch gets exactly one result in the end, whatever replies say.
Does not make calls or spend: that is `planned`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from abyme.core import events as ev
from abyme.core.effects import Result
from abyme.core.ids import CallId


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call that a job wants."""

    positions: tuple[int, ...]
    """Seats of the batch that wait for it."""
    prompt: str
    """The instruction, without the material."""
    text: str
    """The material; it is fenced on its way."""
    form: dict[str, Any] | None = None
    """JSON Schema for `response_format`; the job itself checks what comes."""
    logprobs: bool = False
    sample: int = 0
    """Number of the vote; equal asks of one sample are one call."""
    output_tokens: int
    """To expect of the reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a call of a job brought."""

    call: CallId
    text: str
    cut: bool = False
    """It ended at the cap on output."""
    doubts: Sequence[ev.Doubt] | None = None
    """See `events.CallSettled.doubts`."""


@dataclass(frozen=True, slots=True)
class Moves:
    """What follows from a reply."""

    asks: list[Ask] = field(default_factory=list)
    results: list[tuple[int, Result]] = field(default_factory=list)
    """By seat; each seat once in a job's life."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What one call of a job is expected to take, beside what its model adds."""

    prompt_tokens: int
    output_tokens: int


class Job(Protocol):
    """A plan. Pure: same replies in, same moves out."""

    def expected(self) -> list[Expected]:
        """Say which calls to expect of the whole, in order, if every reply is of use."""

    def begin(self) -> Moves:
        """Say what can be asked at once; items that fit in no call have their failure."""

    def replied(self, ask: Ask, reply: Reply) -> Moves:
        """Take a reply in."""

    def failed(self, ask: Ask, call: CallId, failure: ev.Failure) -> Moves:
        """Take in that a call brought nothing."""
