"""How texts are put into prompts: slots of a template filled, material numbered, room for it.

Invariants: what is put in is never read as a template, so that a value which holds a slot's
name stays as it is; and of numbered texts only ours begin a line with a number, whatever
stands in them. Pure.
"""

import re
from collections.abc import Sequence
from typing import Final

from abyme.core.events import ModelFacts

INDENT: Final = "   "
"""Before each line of a numbered text but its first, which the number stands before."""
NUMBER_TOKENS: Final = 5
"""Of a number, its dot and the line break; digits cost one each in some vocabularies."""
FENCE_TOKENS: Final = 48
"""Of two data tags, their eight hexadecimal digits, and a chat template."""
ASSUMED_WINDOW_TOKENS: Final = 32_000
"""Where a model's window is not known."""

_SLOT: Final = re.compile(r"\{(\w+)\}")


def fill(template: str, **values: str) -> str:
    """Fill ``{name}`` slots in one pass: a value that holds a slot's name is left alone.

    A line that holds nothing but empty slots goes with its line end.
    """
    filled = (_fill_line(line, values) for line in template.split("\n"))
    return "\n".join(line for line in filled if line is not None)


def indented(text: str) -> str:
    """Indent all lines but the first, at every break that `str.splitlines` knows."""
    return INDENT.join(text.splitlines(keepends=True))


def numbered(texts: Sequence[str]) -> str:
    """Lay texts out for a prompt: numbers from 1, further lines of a text indented."""
    return "\n".join(f"{number}. {indented(text)}" for number, text in enumerate(texts, 1))


def window_tokens(model: ModelFacts) -> int:
    """Tokens that prompt and reply of a call may have together."""
    return ASSUMED_WINDOW_TOKENS if model.window_tokens is None else model.window_tokens


def room_tokens(model: ModelFacts, beside_tokens: int) -> int:
    """Tokens of material that fit into a call beside its instruction and the reply; may be
    negative. A reply is given its cap, but not more than half of the window.
    """
    window = window_tokens(model)
    return window - min(model.max_output_tokens, window // 2) - beside_tokens - FENCE_TOKENS


def too_large(what: str, tokens: int, room: int, model: ModelFacts) -> str:
    """Say that a text fits into no call, and what to do."""
    assumed = " assumed" if model.window_tokens is None else ""
    if room <= 0:
        window = f"{window_tokens(model):,} tokens{assumed}"
        return f"the instruction leaves no room in the sub-model's window ({window}): shorten it"
    return (
        f"{what} has about {tokens:,} tokens, but {room:,} fit into one call beside instruction "
        f"and reply (the sub-model's window: {window_tokens(model):,} tokens{assumed}): split it"
    )


def _fill_line(line: str, values: dict[str, str]) -> str | None:
    text = _SLOT.sub(lambda found: values.get(found[1], found[0]), line)
    return text if text or not _SLOT.search(line) else None
