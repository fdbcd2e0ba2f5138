"""What happened. A run's journal is a list of `Record`s, and nothing else.

An event is a fact in the past tense, immutable and complete: feeding the records
of a run to `Tree` again yields the same effects. An event carries no clock of its
own: the driver stamps the record, and a timeout is itself an event.
Fields are added, never renamed or reused; `SCHEMA` counts the incompatible changes.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from abyme.core.ids import BatchId, CallId, NodeId
from abyme.core.isolation import Isolation
from abyme.core.limits import Limits
from abyme.core.profile import Profile
from abyme.errors import Fault

SCHEMA = 3
MAX_SAMPLES = 99
SURE = 0.99

Count: TypeAlias = Annotated[int, Meta(ge=0)]
"""What a journal that was tampered with must not make negative: it would lift a ceiling."""


class Refusal(Struct, frozen=True, kw_only=True):
    """Figures of a refusal, for code in a cell. Dollars as micro-dollars."""

    limit: str
    used: int
    """Spent, held for calls in flight, and kept back for the last turn."""
    asked: int
    """What the whole batch is expected to take."""
    ceiling: int
    fit: int
    """How many calls of the batch, from its beginning, would fit."""


class Failure(Struct, frozen=True, kw_only=True):
    """Why a call has no result. `message` says what to do about it."""

    fault: Fault
    message: str
    retryable: bool = False
    retry_after_s: float | None = None
    status: int | None = None
    """HTTP status, where there was one."""
    refusal: Refusal | None = None
    """Of a batch that a limit did not allow."""


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens and money of one attempt. Tokens as the provider counts them."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    cached_tokens: Count = 0
    """Part of `prompt_tokens` that the provider had cached."""
    reasoning_tokens: Count = 0
    """Part of `completion_tokens` that was thinking."""
    cost_usd_micro: Count | None = None
    """The provider's own figure, where it gives one."""
    estimated: bool = False
    """The provider gave no usage; tokens are our estimate."""


class Price(Struct, frozen=True, kw_only=True):
    """Micro-dollars for a million tokens."""

    input_usd_micro: Count
    output_usd_micro: Count
    cached_usd_micro: Count | None = None
    """For input that the provider had cached; None: as for other input."""


class ModelFacts(Struct, frozen=True, kw_only=True):
    """What the ledger and the prompts must know of a model."""

    name: str
    """``provider:model``."""
    price: Price | None
    """None: unknown, allowed only without a dollar ceiling. Free is a price of zero."""
    window_tokens: int | None = None
    max_output_tokens: Count = 4096
    at_once: Count | None = None
    """Calls that it can work on at the same time, where that is known."""


class Place(Struct, frozen=True, kw_only=True):
    """A stretch of the sealed context. Offsets are code points of that document."""

    document: int
    start: int
    end: int
    quote: str


class Evidence(Struct, frozen=True, kw_only=True):
    """A place that the host has found in its own copy."""

    path: str
    line: int
    """From 1."""
    start: int
    end: int
    quote: str
    page: int | None = None
    """From 1, where the document has pages."""
    page_word: str = "page"
    """What it calls them: page, slide, chapter, cell."""
    places: Count = 1
    """Where the quote stands, this being the first; of a place that was given only that counts."""


class Near(Struct, frozen=True, kw_only=True):
    """What is most like a quote that is not there."""

    path: str
    line: int
    text: str
    differs: str
    """In what, in words: white space, capitals, a word."""


class Refused(Struct, frozen=True, kw_only=True):
    """A piece of evidence that was not taken."""

    quote: str
    why: Literal["absent", "short", "common", "no_quote", "long"]
    """`short`, `common`: it says nothing without a place. `long`: it was not looked for."""
    near: Near | None = None


class Computed(Struct, frozen=True, kw_only=True):
    """How a cell says that it came to something that no quote shows: a count, an aggregate."""

    how: Literal["llm_map", "grep", "search", "count", "chunks", "selected"]
    """`selected`: a list of places that the cell has put together."""
    cell: Count
    asked: Annotated[str, Meta(max_length=2_000)]
    """The instruction or the pattern, cut."""
    scope: Annotated[str, Meta(max_length=500)] = ""
    """Of a search: the documents, flags and limit that it was narrowed to."""
    items: Count = 0
    """Judged, found or counted."""
    call: CallId | None = None
    """Of `llm_map`: the call that brought the first value, by which the host has the others."""
    sent: Count = 0
    """Of `llm_map`: the items that were no blank ones."""
    labels: Annotated[dict[Annotated[str, Meta(max_length=80)], Count], Meta(max_length=50)] = {}
    """Of `llm_map`: values, the most frequent first, with the number of items of each."""
    places: Annotated[list[tuple[Count, Count, Count]], Meta(max_length=1_000)] = []
    """Document, start and end of the first items."""
    total: Count = 0
    """Items that have a place."""


class Derivation(Struct, frozen=True, kw_only=True):
    """`Computed`, as far as the host could check it."""

    how: str
    cell: int
    asked: str
    """As the cell says, always: no record of the host has it."""
    scope: str = ""
    items: int
    """By the host's own records where `checked`."""
    labels: dict[str, int] = {}
    """By the host's own records of the replies where `checked`, else as the cell says."""
    claimed: dict[str, int] = {}
    """What the cell says, where that differs: it has changed values, or made them up."""
    checked: bool = False
    places: list[Evidence] = []
    """The first of those that are there."""
    total: int = 0
    """Places, as the cell says."""
    missing: int = 0
    """Of the places that came with it: those that are not in the context."""


class Name(Struct, frozen=True, kw_only=True):
    """A variable that a cell made or changed."""

    name: str
    type: str
    size: int | None = None
    """``len()``, where the type has one."""
    digest: str | None = None
    """Of the value, so that a cell that is run again can be compared; None: not looked at."""
    aside: bool = False
    """Not worth showing to the model."""


class Span(Struct, frozen=True, kw_only=True):
    """A stretch of a node's own context. Offsets are code points of that document."""

    document: int
    start: int = 0
    end: int | None = None
    """None: to the document's end."""


class ContextPart(Struct, frozen=True, kw_only=True):
    """What a child is given as its context: a text of its own, or stretches of its parent's."""

    text: str | None = None
    spans: list[Span] = []
    """Used where `text` is None; without a copy."""
    shape: Literal["text", "documents", "list"] = "text"
    """What `spans` look like to the child; ``text`` takes exactly one."""


class Request(Struct, frozen=True, kw_only=True):
    """One sub-call as a guest asked for it."""

    prompt: str
    text: str | None = None
    """For `llm`: data for the prompt, kept apart from the instruction."""
    context: ContextPart | None = None
    """For `rlm`: the child's context; None gives it the parent's own."""
    model: str | None = None
    schema: dict[str, Any] | None = None
    """JSON Schema (`core/shapes` says which part of it) that the reply must fit."""
    fresh: bool = False
    """Do not answer from an equal call made before."""


class Task(Struct, frozen=True, kw_only=True):
    """What `llm_map` does with each item of a batch, `llm_reduce` with all of them."""

    instruction: str
    labels: list[str] | None = None
    """For `map`: a value is one of these."""
    schema: dict[str, Any] | None = None
    """For `map`, of each value; for `reduce`, of the one that it comes to."""
    samples: Annotated[int, Meta(ge=1, le=MAX_SAMPLES)] = 1
    """Replies for each item, of which the most frequent one is taken."""
    pack: Count = 0
    """At most so many items in one call; 0: what the sub-model's profile says."""
    model: str | None = None
    fresh: bool = False
    """Do not answer from an equal item of an equal task before."""
    price_only: bool = False
    """Tell what it is expected to cost, and do nothing."""


class Doubt(Struct, frozen=True, kw_only=True):
    """A token of a reply that the model was not sure of. Offsets are code points of the text."""

    start: Count
    end: Count
    logprob: float
    """Natural logarithm of its probability."""


class Difference(Struct, frozen=True, kw_only=True):
    """A cell that was run again and came out in another way."""

    cell: int
    what: str
    """In words for the model: its output, its error, how it ended."""
    names: list[str] = []
    """Variables that are not what they were."""


class Carried(Struct, frozen=True, kw_only=True):
    """What a resumed run takes over as spent, beside what its believed records say."""

    calls: Count = 0
    tokens: Count = 0
    usd_micro: Count = 0
    unknown_calls: Count = 0
    """Part of `calls`: in flight when the run was cut off, at their worst case."""
    unknown_usd_micro: Count = 0
    """Part of `usd_micro`."""


class Event(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of all events."""


class RunStarted(Event, frozen=True, kw_only=True, tag="run_started"):
    """Everything that decides the run, settled once. Always the first record."""

    schema: int = SCHEMA
    question: str
    preview: str
    """What the root is shown of the context."""
    context_chars: int
    context_documents: int
    limits: Limits
    root: ModelFacts
    sub: ModelFacts
    profile: Profile
    seed: int
    """Seeds `random` in every REPL and the fences; not known to a guest."""
    hash_seed: int
    """``PYTHONHASHSEED`` of every REPL, so that set order repeats."""
    started_at: str
    """ISO 8601, UTC."""
    answer_schema: dict[str, Any] | None = None
    """JSON Schema that the root's answer must fit."""
    sub_profile: Profile | None = None
    """How a child is spoken to whose turns the sub-model takes; None: as the root."""
    isolation: Isolation = Isolation()
    """How its REPLs are kept apart, and what they may import."""


class SessionOpened(Event, frozen=True, kw_only=True, tag="session_opened"):
    """The node's REPL is ready."""

    python: str
    snapshots: bool
    """A cell that must be killed is rolled back, not lost."""
    layers: list[str]
    """Isolation layers that were verified from inside."""
    preview: str | None = None
    """What a child is shown of a context of its own."""
    packages: list[str] = []
    """Guest packages with their versions, as in ``numpy 2.1.3``."""


class SessionLost(Event, frozen=True, kw_only=True, tag="session_lost"):
    """The node's REPL could not be opened or is gone, and with it the node's variables."""

    why: str
    fatal: bool
    """Another one cannot be had."""


class SessionRebuilt(Event, frozen=True, kw_only=True, tag="session_rebuilt"):
    """The node has a REPL again: its earlier cells were run anew, their sub-calls answered
    from the journal. After a lost REPL, or a run that was resumed.
    """

    cells: int
    """How many were run."""
    differs: list[Difference] = []
    """Cells that did not come out as they had."""
    packages: list[str] = []
    """As in `SessionOpened`; they may have been brought up to date meanwhile."""


class CallReserved(Event, frozen=True, kw_only=True, tag="call_reserved"):
    """The ledger holds the worst case and the attempt is about to be sent."""

    call: CallId
    attempt: Count
    """From 1."""
    model: str
    purpose: Literal["turn", "sub"]
    worst_usd_micro: Count
    worst_tokens: Count
    batch: BatchId | None = None
    """Of a sub-call: the batch that asked for it first, and its place there from 0."""
    position: int | None = None


class CallSettled(Event, frozen=True, kw_only=True, tag="call_settled"):
    """The attempt brought a reply."""

    call: CallId
    text: str
    finish: str
    """``stop``, ``length``, or what else the provider says."""
    usage: Usage
    wrong: str | None = None
    """Why the text does not fit the schema that was asked for; None: it does, or none was."""
    doubts: list[Doubt] | None = None
    """Tokens that were less than `SURE` likely; None: the endpoint gave no log-probabilities."""


class CallFailed(Event, frozen=True, kw_only=True, tag="call_failed"):
    """The attempt brought none. Whether there is another one is the core's decision."""

    call: CallId
    failure: Failure
    usage: Usage | None = None
    """What was billed all the same; None when nothing is known to have been."""
    sent: bool = True
    """False: it never left this machine, so that it cost nothing."""


class CellStarted(Event, frozen=True, kw_only=True, tag="cell_started"):
    """The node's REPL was given code."""

    cell: int
    """From 1 within the node."""
    code: str


class CallsRequested(Event, frozen=True, kw_only=True, tag="calls_requested"):
    """Guest code asked for sub-calls, one or a thousand, and waits for all of them."""

    cell: int
    batch: BatchId
    purpose: Literal["llm", "rlm", "map", "reduce"]
    requests: list[Request]
    """Of `map` and `reduce`: the items, each as `Request.prompt`."""
    task: Task | None = None
    """Of `map` and `reduce`."""
    unread: int = 0
    """Calls that were thrown away with their texts, `requests` being empty then: the run had
    asked for too much that was refused, and this would have been refused too."""


class BatchConfirmed(Event, frozen=True, kw_only=True, tag="batch_confirmed"):
    """The user was asked whether a batch may cost what it is expected to."""

    batch: BatchId
    allowed: bool


class AnswerSubmitted(Event, frozen=True, kw_only=True, tag="answer_submitted"):
    """Guest code called `submit`. It counts when its cell ends cleanly; the last one wins."""

    cell: int
    value: Any
    """JSON."""
    evidence: list[Place | str]
    """Places, or quotes that the host must find."""
    derivations: list[Computed] = []
    """How it was computed, where that is what speaks for it."""


class CellFinished(Event, frozen=True, kw_only=True, tag="cell_finished"):
    """A cell ended, by itself or by force."""

    cell: int
    output: str
    """Standard output, standard error and echo in order, head and tail kept."""
    dropped_chars: int = 0
    """Cut out of the middle of `output`."""
    error: str | None = None
    """The traceback of the model's own frames; names bound before it survive."""
    ended: Literal["clean", "raised", "interrupted", "rolled_back", "lost"]
    """How: `interrupted` kept the state, `rolled_back` restored it, `lost` lost it."""
    limit: str | None = None
    """What ended it by force: ``cell_timeout_s``, ``stopped``, ``crashed (signal 11)``..."""
    changed: list[Name] = []
    draft: Any = None
    """``answer["content"]`` as the cell left it."""
    notes: list[str] = []
    """What the model must know of the cell beside its output."""
    compute_s: float = 0.0
    reached: str | None = None
    """How far the cell went beyond `limit`, as in ``15.2 s of compute, 15 s allowed``."""
    violations: list[str] = []
    """Modules that it tried to import against the import policy."""


class EvidenceChecked(Event, frozen=True, kw_only=True, tag="evidence_checked"):
    """The host has looked up what was submitted as evidence."""

    found: list[Evidence]
    missing: list[str]
    """Quotes that are not in the context, or were not taken without a place."""
    refused: list[Refused] = []
    """Why, one for each of `missing`. Empty in older journals."""
    derivations: list[Derivation] = []
    wrong: str | None = None
    """Why the answer does not fit the schema that was asked for; None: it does, or none was."""


class ChildEnded(Event, frozen=True, kw_only=True, tag="child_ended"):
    """A child of the tree is over. Of its own node; its parent is the id without the last part."""

    status: Literal["answered", "partial", "failed", "cut_off"]
    """`cut_off`: its parent's cell ended first."""
    value: Any
    reason: str | None = None


class RunResumed(Event, frozen=True, kw_only=True, tag="run_resumed"):
    """The run goes on in another process.

    Calls that were in flight may have been billed: they are carried as spent at their worst.
    """

    believed: Count
    """Records before this number count; those from it up to here are set aside: what they
    cost is in `carried`, nothing else of them holds."""
    limits: Limits
    """From here on."""
    carried: Carried
    next_call: Count
    """The first number that no call has had."""
    held: Any = None
    """What the root had held when the run ended; it stands until there is something better."""
    evidence: list[Evidence] = []
    """Of `held`."""
    derivations: list[Derivation] = []
    """Of `held`."""
    resumed_at: str
    """ISO 8601, UTC."""


class DeadlinePassed(Event, frozen=True, kw_only=True, tag="deadline_passed"):
    """It is time to close: ``Limits.timeout_s`` is nearly over."""

    final: bool = False
    """It is over, or the grace that a closing turn was given is."""


class StopRequested(Event, frozen=True, kw_only=True, tag="stop_requested"):
    """The user pressed Ctrl-C: finish with what is there."""


class RunFinished(Event, frozen=True, kw_only=True, tag="run_finished"):
    """Always the last record of a run that ended."""

    status: Literal["answered", "partial", "failed", "stopped"]
    value: Any
    evidence: list[Evidence]
    reason: str | None
    """What kept it from being `answered`."""
    derivations: list[Derivation] = []


AnyEvent = (
    RunStarted
    | RunResumed
    | SessionOpened
    | SessionLost
    | SessionRebuilt
    | CallReserved
    | CallSettled
    | CallFailed
    | CellStarted
    | CallsRequested
    | BatchConfirmed
    | AnswerSubmitted
    | CellFinished
    | EvidenceChecked
    | ChildEnded
    | DeadlinePassed
    | StopRequested
    | RunFinished
)


class Record(Struct, frozen=True, kw_only=True):
    """One line of a journal: the driver stamps an event on arrival."""

    seq: int
    """Position in the run, from 0, without gaps."""
    at_s: Annotated[float, Meta(ge=0)]
    """Seconds since the run began."""
    node: NodeId
    event: AnyEvent
