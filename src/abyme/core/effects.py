"""What to do next. The driver performs effects; it never invents one."""

from typing import Any, Literal

from msgspec import Struct

from abyme.core.events import (
    CallReserved,
    ChildEnded,
    Computed,
    ContextPart,
    Derivation,
    Evidence,
    Failure,
    Name,
    Place,
)
from abyme.core.ids import BatchId, CallId, NodeId
from abyme.core.profile import Message


class Effect(Struct, frozen=True, kw_only=True):
    """Base of all effects."""

    node: NodeId


class OpenSession(Effect, frozen=True, kw_only=True):
    """Start the node's REPL."""

    context: ContextPart | None
    """The node's own context; None: that of `of` as it is."""
    of: NodeId
    """Whose context that is a piece of: the parent, or for None the node that has it. The
    root's own is the run's."""
    cells: "tuple[DoneCell, ...] | None" = None
    """Not None: the node had a REPL. Run these in the new one and say what differs."""


class CloseSession(Effect, frozen=True, kw_only=True):
    """Kill the node's REPL and everything in it."""

    ended: ChildEnded | None = None
    """Journal that the child is over."""


class AskModel(Effect, frozen=True, kw_only=True):
    """Journal `reserved`, then make one attempt, not before `not_before_s`."""

    reserved: CallReserved
    messages: tuple[Message, ...]
    prefill: str = ""
    max_output_tokens: int
    temperature: float | None
    stop: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None
    """JSON Schema for the reply; `CallSettled.wrong` says how it does not fit."""
    fresh: bool = False
    """Not to be answered from a cache."""
    fence: str = ""
    """Word that fences data in the prompt."""
    form: dict[str, Any] | None = None
    """JSON Schema to be passed on where the endpoint takes one; the core checks the reply."""
    logprobs: bool = False
    """Ask for log-probabilities where the endpoint gives them."""
    delay_s: float = 0.0
    """Wait so long first; the driver adds jitter."""


class CancelCall(Effect, frozen=True, kw_only=True):
    """Drop an attempt in flight: nobody waits for it any more."""

    call: CallId


class Result(Struct, frozen=True, kw_only=True):
    """What one sub-call brought: a text or a failure, never one as the other. With both, the
    text is what came before the failure.
    """

    call: CallId
    text: str | None = None
    """Of an item of `llm_map`: its value as JSON."""
    failure: Failure | None = None
    confidence: float | None = None
    """Of an item of `llm_map`, from 0 to 1: by log-probabilities, or the share of its votes."""
    asked: str = ""
    """How its prompt begins, where it is given back to a guest that has forgotten it."""


class Budget(Struct, frozen=True, kw_only=True):
    """What is left, as the model is told. None: no ceiling."""

    usd: float | None
    calls: int | None
    tokens: int | None
    seconds: float | None
    turns: int
    depth: int
    """Levels below this node that are still allowed."""
    running_out: str | None = None
    """A limit that allows the root at most two more turns, the closing one not counted."""


class RunCell(Effect, frozen=True, kw_only=True):
    """Execute code in the node's REPL."""

    cell: int
    code: str
    restore: tuple[Result, ...] = ()
    """Results that a roll-back took from the guest's `calls`; give them back first."""
    budget: Budget


class Asked(Struct, frozen=True, kw_only=True):
    """A batch that was answered: what is needed to answer it again, the same way."""

    keys: tuple[bytes, ...]
    """`recall.key` of each request, in order."""
    results: tuple[Result, ...] = ()
    refused: Failure | None = None


class CellDigest(Struct, frozen=True, kw_only=True):
    """What a cell came out as, in short."""

    output: bytes
    """Digest of output and error."""
    ended: str
    names: tuple[Name, ...]
    """That it made or changed."""


class DoneCell(Struct, frozen=True, kw_only=True):
    """A cell that has changed its REPL's state. Run again with the same answers, it rebuilds it."""

    run: RunCell
    asked: tuple[Asked, ...]
    came_out: CellDigest


class Confirm(Effect, frozen=True, kw_only=True):
    """Ask the user whether a batch may be made."""

    batch: BatchId
    calls: int
    usd_micro: int
    """What it is expected to cost."""


class EndCell(Effect, frozen=True, kw_only=True):
    """Stop the running cell: interrupt, then roll back, then kill."""

    why: Literal["stopped", "timeout_s", "refused_calls"]


class AnswerBatch(Effect, frozen=True, kw_only=True):
    """Unblock the guest: one result for each request, or one refusal for the whole."""

    batch: BatchId
    results: tuple[Result, ...] = ()
    refused: Failure | None = None
    budget: Budget


class CheckEvidence(Effect, frozen=True, kw_only=True):
    """Look the evidence up in the host's own copy, and the answer's shape."""

    evidence: tuple[Place | str, ...]
    value: Any = None
    schema: dict[str, Any] | None = None
    computed: tuple[Computed, ...] = ()
    """Whose places are to be looked up."""
    derivations: tuple[Derivation, ...] = ()
    """One for each of `computed`, without its places."""


class Finish(Effect, frozen=True, kw_only=True):
    """End the run."""

    status: Literal["answered", "partial", "failed", "stopped"]
    value: Any
    evidence: tuple[Evidence, ...] = ()
    reason: str | None = None
    derivations: tuple[Derivation, ...] = ()


AnyEffect = (
    OpenSession
    | CloseSession
    | AskModel
    | CancelCall
    | RunCell
    | Confirm
    | EndCell
    | AnswerBatch
    | CheckEvidence
    | Finish
)
