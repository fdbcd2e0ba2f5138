"""How a kind of root model is spoken to. Data only; `run/profiles` reads the files."""

from msgspec import Struct


class Message(Struct, frozen=True):
    """One message of a prompt."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    content: str


class SubPrompts(Struct, frozen=True, kw_only=True):
    """How a sub-model is spoken to. Slots in braces are filled in one pass."""

    data_remark: str
    """Said after fenced material."""
    json_only: str
    """Said before a JSON Schema that the reply must fit."""
    repair: str
    """Said of a reply that does not fit; ``{wrong}``."""
    map: str
    """Instruction of a call of `llm_map`; ``{instruction}``, ``{count}``, ``{values}``. The
    numbered items follow as fenced material."""
    map_labels: str
    """Stands for ``{values}`` where there are labels; ``{labels}``."""
    map_codes: str = ""
    """The same where labels are long, and each is replied as a letter; empty: never."""
    map_doubt: str = ""
    """Added where labels may be marked by a question mark; empty: they may not."""
    map_schema: str
    """Stands for ``{values}`` where there is a schema; ``{schema}``."""
    map_text: str
    """Stands for ``{values}`` where there is neither."""
    map_again: str
    """Added when items are asked for again; ``{wrong}``."""
    map_items: int
    """Items in one call, at most."""
    reduce: str
    """Instruction of a call of `llm_reduce`; ``{instruction}``, ``{count}``."""
    reduce_more: str
    """The same above the first level, where the texts are results of the level below."""


class Profile(Struct, frozen=True, kw_only=True):
    """Prompt texts and habits for one kind of root model. A new one is a data file."""

    name: str
    models: list[str] = []
    """Regular expressions: a model whose name one of them finds gets this profile."""
    system: str
    examples: list[Message] = []
    """Worked turns, put between the system text and the question."""
    question: str
    """Template of the first message: ``{question}``, ``{preview}``, ``{status}``."""
    output: str
    """Template of what a cell brought.

    Slots: ``{nonce}``; ``{output}``, ``{guest_notes}``, ``{changed}`` in the guest's words;
    ``{notes}``, ``{status}`` in the engine's.
    """
    sub: SubPrompts
    """For sub-calls that a model of this kind answers."""
    no_code: str
    """Said when a reply holds nothing to run."""
    no_output: str
    """Stands in for the output of a cell that printed nothing. Where `output` has ``{changed}``,
    only if there is nothing else to tell of the cell."""
    last_turn: str
    """Said before the last turn; ``{reason}``."""
    prefill: str = ""
    """What the assistant's reply is made to begin with, where the endpoint allows it."""
    look_first: bool = False
    """Take no answer before some output has been seen."""
    doubt: str = ""
    """Said, once, of an answer that stands on nothing (`core/grounds`); ``{why}``, and
    ``{question}`` as a Python literal. Empty: such an answer is taken. Goes with `look_first`."""
    output_chars: int = 10_000
    """Of a cell's output, shown to this model."""
    max_output_tokens: int = 4096
    temperature: float | None = None
    """None leaves it to the endpoint."""
    stop: list[str] = []
