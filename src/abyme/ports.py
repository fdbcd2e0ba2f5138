"""The seams. Every outside thing the driver touches, on one page.

Adapters implement these and never import one another; tests implement them in
a few lines. Nothing here has behaviour.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from abyme.core.effects import Budget, Result
from abyme.core.events import (
    AnswerSubmitted,
    CallsRequested,
    CellFinished,
    Doubt,
    Evidence,
    Failure,
    Near,
    Place,
    Record,
    Refused,
    Span,
    Usage,
)
from abyme.core.ids import BatchId
from abyme.core.isolation import DEFAULT, Isolation
from abyme.core.limits import Limits
from abyme.core.profile import Message
from abyme.core.seeks import Seek, Sought


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One attempt at one completion."""

    messages: Sequence[Message]
    max_output_tokens: int
    temperature: float | None = None
    stop: Sequence[str] = ()
    prefill: str = ""
    """Begin the assistant's reply with this, where the endpoint can; the reply excludes it."""
    seed: int | None = None
    schema: dict[str, Any] | None = None
    """JSON Schema for the reply, to be passed on where the endpoint takes one."""
    fresh: bool = False
    """Not to be answered from a cache."""
    fence: str = ""
    """Word that fences data in the prompt, another one in each run; a reply may repeat it."""
    logprobs: bool = False
    """Say in `ModelReply.doubts` which tokens were unsure, where the endpoint tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """What an attempt brought."""

    text: str
    finish: str
    usage: Usage
    doubts: Sequence[Doubt] | None = None
    """Tokens that were less than `events.SURE` likely; None: not known."""


class Model(Protocol):
    """A model at an endpoint. One call of `complete` is one attempt; retries are the core's."""

    async def complete(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """One attempt. With `on_text` the reply is streamed, piece by piece, as it arrives.

        Raises:
            ModelError: typed, whatever went wrong. An empty reply is an error.
        """
        ...

    async def aclose(self) -> None:
        """Give back connections and processes. Safe to repeat."""
        ...


class Context(Protocol):
    """A sealed input, owned by the host: the only copy that evidence is taken from."""

    @property
    def shape(self) -> Literal["text", "documents", "list"]:
        """What the guest's `context` is: a str, a mapping name -> str, or a list of str."""
        ...

    @property
    def fds(self) -> Sequence[int]:
        """Descriptors for a guest: the index (see `abyme.layout`) first, then the arenas."""
        ...

    @property
    def chars(self) -> int:
        """Code points of all texts together."""
        ...

    @property
    def documents(self) -> int:
        """Number of texts."""
        ...

    @property
    def sources(self) -> Sequence[str]:
        """Paths as the user gave them; empty for a context made of Python values."""
        ...

    @property
    def manifest(self) -> object:
        """Names, sizes and hashes, for the run's folder."""
        ...

    def label(self, document: int) -> str:
        """Name a document for people."""
        ...

    def size(self, document: int) -> int:
        """Count the code points of a document."""
        ...

    def piece(self, document: int, start: int, end: int) -> str:
        """Copy code points of a document, cut to what is there."""
        ...

    def check(self, evidence: Sequence[Place | str]) -> tuple[list[Evidence], list[str]]:
        """Look evidence up: what was found, and the quotes that are not there."""
        ...

    def look_up(self, claim: Place | str) -> Evidence | Refused:
        """Look one piece of evidence up and judge it: where it stands, or why it is not taken."""
        ...

    def nearest(self, quote: str) -> Near | None:
        """Find what is most like a quote that is not there."""
        ...

    def place(self, document: int, start: int, end: int) -> Evidence | None:
        """Give what stands at a stretch; None: there is none."""
        ...

    async def seek(self, wanted: Seek) -> Sought:
        """Find lines, passages or symbols for a REPL.

        Raises:
            ContextError: it cannot be done here; the guest has a plainer way of its own.
        """
        ...

    def part(self, spans: Sequence[Span], shape: Literal["text", "documents", "list"]) -> "Context":
        """Make a context of stretches of this one, on the same memory; close it by itself.

        Raises:
            ContextError: a stretch is not there.
        """
        ...

    def close(self) -> None:
        """Let go of the memory. Safe to repeat."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What a session says of itself once it is open."""

    python: str
    snapshots: bool
    layers: tuple[str, ...]
    packages: tuple[str, ...] = ()
    """Guest packages with their versions."""


class Session(Protocol):
    """One live interpreter. Dead after any `SandboxError`, never shared."""

    @property
    def facts(self) -> SessionFacts:
        """Known once the session is open."""
        ...

    async def run_cell(  # noqa: PLR0913 - what a cell is run with
        self,
        cell: int,
        code: str,
        *,
        restore: Sequence[Result],
        budget: Budget,
        on_event: Callable[[CallsRequested | AnswerSubmitted], None],
        patience: float = 1.0,
    ) -> CellFinished:
        """Run one cell; what it asks for meanwhile goes to `on_event`. It may take `patience`
        times what a cell may.

        Raises:
            SandboxError: the session is dead. A cell that raises, hangs, crashes or
                is killed is a `CellFinished` all the same, as long as the session lives.
        """
        ...

    async def answer(
        self, batch: BatchId, *, results: Sequence[Result], refused: Failure | None, budget: Budget
    ) -> None:
        """Unblock the guest that asked for `batch`."""
        ...

    def end_cell(self, why: str) -> None:
        """Interrupt the running cell by the ladder; `run_cell` returns soon. `why` is its limit."""
        ...

    async def aclose(self) -> None:
        """Kill every process of the session. Safe to repeat; returns when they are gone."""
        ...


class SandboxRun(Protocol):
    """The sandbox of one run: one interpreter family, one hash seed, one context."""

    @property
    def hash_seed(self) -> int:
        """``PYTHONHASHSEED`` of every session."""
        ...

    async def open(self, *, node: str, seed: int, context: Context | None = None) -> Session:
        """Start a REPL on `context`, by default the run's own.

        Raises:
            SandboxUnavailable: if a promised layer is not on.
        """
        ...

    async def aclose(self) -> None:
        """Kill every session and the fork server. Safe to repeat."""
        ...


class Sandbox(Protocol):
    """A way to isolate guest code. Fails closed: no weaker jail as a fallback."""

    def warm_up(self) -> None:
        """Start in the background what the next `begin` needs. Only a hint."""
        ...

    async def begin(
        self,
        *,
        context: Context,
        limits: Limits,
        isolation: Isolation = DEFAULT,
        hash_seed: int | None = None,
    ) -> SandboxRun:
        """Prepare a run; with `hash_seed` the interpreter of an earlier run is built again.

        Raises:
            SandboxUnavailable: if the host lacks a mechanism that this sandbox promises, a layer
                that `isolation` requires, or a package.
        """
        ...

    async def aclose(self) -> None:
        """Let go of interpreters kept warm. Safe to repeat."""
        ...


class Journal(Protocol):
    """Where a run's records go. What `flush` has returned from survives a kill."""

    def append(self, record: Record) -> None:
        """Add a record to the group."""
        ...

    def flush(self) -> None:
        """Hand the group to the operating system.

        Raises:
            JournalError: disk full, folder gone. Nothing of the group may be acted on.
        """
        ...

    def alive(self, elapsed_s: float) -> None:
        """Leave word of how long the run has been at work, for when it has nothing to record.
        Never raises.
        """
        ...

    def close(self) -> None:
        """Make everything durable. Safe to repeat."""
        ...


class Clock(Protocol):
    """Time, so that tests can own it."""

    def now_s(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait."""
        ...
