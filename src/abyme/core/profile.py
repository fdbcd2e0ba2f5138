"""How a kind of root model is spoken to. Data only; `run/profiles` reads and checks the files.

A text with `Slots` is a template: ``{word}`` stands for what the engine puts there. Which
slots a template has is said here and nowhere else. All other texts, the examples too, are sent
as they are, braces and all.
"""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from msgspec import Struct

GUESTS_WORDS = ("output", "guest_notes", "changed")
"""Slots of `Profile.output` that code in the jail fills, and documents through it."""


@dataclass(frozen=True, slots=True)
class Slots:
    """What a template may hold in braces."""

    needs: tuple[str, ...]
    """Without them something that the model must be told would be lost."""
    may: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """What a number in a file may be, ends included. A journal's may be any: old ones have 0."""

    least: int
    most: int

    def holds(self, number: float) -> bool:
        """Tell whether a number lies in it; what is no number does not."""
        return self.least <= number <= self.most


Cap: TypeAlias = Annotated[int, Range(1, 1_000_000_000)]
"""Tokens or characters at most. Beyond a thousand million it is a slip of the pen."""


class Message(Struct, frozen=True):
    """One message of a prompt."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    content: str


class SubPrompts(Struct, frozen=True, kw_only=True):
    """How a sub-model is spoken to. Slots are filled in one pass."""

    data_remark: str
    """Said after fenced material."""
    json_only: str
    """Said before a JSON Schema that the reply must fit."""
    repair: Annotated[str, Slots(("wrong",))]
    """Said of a reply that does not fit."""
    map: Annotated[str, Slots(("instruction", "values"), ("count",))]
    """Instruction of a call of `llm_map`. The numbered items follow as fenced material."""
    map_labels: Annotated[str, Slots(("labels",))]
    """Stands for ``{values}`` of `map` where there are labels."""
    map_codes: Annotated[str, Slots(("labels",))] = ""
    """The same where labels are long, and each is replied as a letter; empty: never."""
    map_doubt: str = ""
    """Added where labels may be marked by a question mark; empty: they may not."""
    map_schema: Annotated[str, Slots(("schema",))]
    """Stands for ``{values}`` where there is a schema."""
    map_text: str
    """Stands for ``{values}`` where there is neither."""
    map_again: Annotated[str, Slots(("wrong",))]
    """Added when items are asked for again."""
    map_items: Annotated[int, Range(1, 10_000)]
    """Items in one call, at most."""
    reduce: Annotated[str, Slots(("instruction",), ("count",))]
    """Instruction of a call of `llm_reduce`."""
    reduce_more: Annotated[str, Slots(("instruction",), ("count",))]
    """The same above the first level, where the texts are results of the level below."""
    temperature: Annotated[float | None, Range(0, 2)] = None
    """None leaves it to the endpoint, as does whatever is asked afresh, or for votes."""


class Profile(Struct, frozen=True, kw_only=True):
    """Prompt texts and habits for one kind of root model. A new one is a data file."""

    name: str
    models: list[str] = []
    """Regular expressions: a model whose name one of them finds gets this profile."""
    system: str
    examples: list[Message] = []
    """Worked turns, put between the system text and the question."""
    question: Annotated[str, Slots(("question",), ("preview", "status"))]
    """The first message."""
    output: Annotated[
        str, Slots(("output",), ("nonce", "guest_notes", "changed", "notes", "status"))
    ]
    """What a cell brought: `GUESTS_WORDS`, which ``{nonce}`` fences on both sides, then the
    engine's ``{notes}`` and ``{status}``."""
    sub: SubPrompts
    """For sub-calls that a model of this kind answers."""
    no_code: str
    """Said when a reply holds nothing to run."""
    no_output: str
    """Stands in for the output of a cell that printed nothing. Where `output` has ``{changed}``,
    only if there is nothing else to tell of the cell."""
    last_turn: Annotated[str, Slots(("reason",))]
    """Said before the last turn."""
    prefill: str = ""
    """What the assistant's reply is made to begin with, where the endpoint allows it."""
    look_first: bool = False
    """Take no answer before some output has been seen."""
    doubt: Annotated[str, Slots((), ("why", "question"))] = ""
    """Said, once, of an answer that stands on nothing (`core/grounds`); ``{question}``
    is a Python literal. Empty: such an answer is taken. Goes with `look_first`."""
    output_chars: Cap = 10_000
    """Of a cell's output, shown to this model."""
    max_output_tokens: Cap = 4096
    """Of a reply, what a model thinks included."""
    temperature: Annotated[float | None, Range(0, 2)] = None
    """None leaves it to the endpoint."""
    stop: list[str] = []
