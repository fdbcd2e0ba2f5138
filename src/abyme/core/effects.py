"""What to do next. The driver performs effects; it never invents one."""

from typing import Any, Literal

from msgspec import Struct

from abyme.core.events import CallReserved, Evidence, Failure, Place
from abyme.core.ids import BatchId, CallId, NodeId
from abyme.core.profile import Message


class Effect(Struct, frozen=True, kw_only=True):
    """Base of all effects."""

    node: NodeId


class OpenSession(Effect, frozen=True, kw_only=True):
    """Start the node's REPL."""

    text: str | None
    """The node's own context; None: the whole context of the run."""


class CloseSession(Effect, frozen=True, kw_only=True):
    """Kill the node's REPL and everything in it."""


class AskModel(Effect, frozen=True, kw_only=True):
    """Journal `reserved`, then make one attempt, not before `not_before_s`."""

    reserved: CallReserved
    messages: tuple[Message, ...]
    prefill: str = ""
    max_output_tokens: int
    temperature: float | None
    stop: tuple[str, ...] = ()
    delay_s: float = 0.0
    """Wait so long first; the driver adds jitter."""


class CancelCall(Effect, frozen=True, kw_only=True):
    """Drop an attempt in flight: nobody waits for it any more."""

    call: CallId


class Result(Struct, frozen=True, kw_only=True):
    """What one sub-call brought: a text or a failure, never one as the other."""

    call: CallId
    text: str | None = None
    failure: Failure | None = None


class Budget(Struct, frozen=True, kw_only=True):
    """What is left, as the model is told. None: no ceiling."""

    usd: float | None
    calls: int | None
    tokens: int | None
    seconds: float | None
    turns: int
    depth: int
    """Levels below this node that are still allowed."""


class RunCell(Effect, frozen=True, kw_only=True):
    """Execute code in the node's REPL."""

    cell: int
    code: str
    restore: tuple[Result, ...] = ()
    """Results that a roll-back took from the guest's `calls`; give them back first."""
    budget: Budget


class EndCell(Effect, frozen=True, kw_only=True):
    """Stop the running cell: interrupt, then roll back, then kill."""

    why: Literal["stopped", "timeout_s"]


class AnswerBatch(Effect, frozen=True, kw_only=True):
    """Unblock the guest: one result for each request, or one refusal for the whole."""

    batch: BatchId
    results: tuple[Result, ...] = ()
    refused: Failure | None = None
    budget: Budget


class CheckEvidence(Effect, frozen=True, kw_only=True):
    """Look the evidence up in the host's own copy."""

    evidence: tuple[Place | str, ...]


class Finish(Effect, frozen=True, kw_only=True):
    """End the run."""

    status: Literal["answered", "partial", "failed", "stopped"]
    value: Any
    evidence: tuple[Evidence, ...] = ()
    reason: str | None = None


AnyEffect = (
    OpenSession
    | CloseSession
    | AskModel
    | CancelCall
    | RunCell
    | EndCell
    | AnswerBatch
    | CheckEvidence
    | Finish
)
