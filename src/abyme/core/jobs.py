"""What a planned batch is made of: asks, replies, and the moves that follow.

A job (`maps`, `reduces`) plans the calls of one `llm_map` or `llm_reduce`. Invariant: a job is
pure, and every seat of its batch gets exactly one result in the end, whatever replies say.
Asks hold texts of their items, and no copies: laid out they are when their call is made, so
that what is only priced or waits takes little room. Does not make calls or spend: that is
`planned`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from abyme.core import events as ev
from abyme.core import slots
from abyme.core.effects import Result
from abyme.core.ids import CallId


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call that a job wants."""

    positions: tuple[int, ...]
    """Seats of the batch that wait for it."""
    prompt: str
    """The instruction, without the material."""
    texts: tuple[str, ...]
    """The material."""
    form: dict[str, Any] | None = None
    """JSON Schema for `response_format`; the job itself checks what comes."""
    logprobs: bool = False
    sample: int = 0
    """Number of the vote; equal asks of one sample are one call."""
    again: bool = False
    """It stands in for one that brought nothing of use: what a price does not count."""
    prompt_tokens: int
    """To expect of instruction and material."""
    output_tokens: int
    """To expect of the reply."""

    @property
    def text(self) -> str:
        """Lay the material out; it is fenced on its way."""
        return slots.numbered(self.texts)


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
    """What follows from a reply, or stands at the beginning."""

    asks: Iterable[Ask] = field(default_factory=list)
    """Those of the beginning are made one by one as they are taken, and taken once."""
    results: list[tuple[int, Result]] = field(default_factory=list)
    """By seat; each seat once in a job's life."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What calls of a job are expected to take, beside what their model adds."""

    prompt_tokens: int
    """Of one of them."""
    output_tokens: int
    form: dict[str, Any] | None = None
    """As in `Ask`."""
    calls: int = 1
    """Equal ones: the votes over the same items."""
    items: int = 1
    """That they serve."""


class Job(Protocol):
    """A plan. Pure: same replies in, same moves out."""

    def expected(self) -> list[Expected]:
        """Say which calls to expect beside those already asked for, if every reply is of use."""

    def begin(self) -> Moves:
        """Say what can be asked at once; items that fit in no call have their failure."""

    def replied(self, ask: Ask, reply: Reply) -> Moves:
        """Take a reply in."""

    def failed(self, ask: Ask, call: CallId, failure: ev.Failure) -> Moves:
        """Take in that a call brought nothing."""
