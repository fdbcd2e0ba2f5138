"""How a kind of root model is spoken to. Data only; `run/profiles` reads the files."""

from msgspec import Struct


class Message(Struct, frozen=True):
    """One message of a prompt."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    content: str


class Profile(Struct, frozen=True, kw_only=True):
    """Prompt texts and habits for one kind of root model. A new one is a data file."""

    name: str
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
    no_code: str
    """Said when a reply holds nothing to run."""
    no_output: str
    """Stands in for the output of a cell that printed nothing."""
    last_turn: str
    """Said before the last turn; ``{reason}``."""
    prefill: str = ""
    """What the assistant's reply is made to begin with, where the endpoint allows it."""
    look_first: bool = False
    """Take no answer before some output has been seen."""
    output_chars: int = 10_000
    """Of a cell's output, shown to this model."""
    max_output_tokens: int = 4096
    temperature: float | None = None
    """None leaves it to the endpoint."""
    stop: list[str] = []
