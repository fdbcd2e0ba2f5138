"""What a node's model has been told so far, as messages.

Append-only: a prefix never changes, so that provider and llama.cpp prompt
caches hit. Everything that comes from a REPL stands between data fences.
Templates are filled in one pass, never by `str.format`: texts hold braces.
"""

import re

from abyme.core import fences
from abyme.core.effects import Budget
from abyme.core.events import CellFinished, ModelFacts, Name
from abyme.core.profile import Message, Profile

_SLOT = re.compile(r"\{(\w+)\}")
WARN_TURNS = 2
"""Turns before the last at which the model is warned."""


class Transcript:
    """Messages of one node."""

    def __init__(self, profile: Profile, *, seed: int, node: str) -> None:
        self._profile = profile
        self._seed = seed
        self._node = node
        self._messages = [Message("system", profile.system), *profile.examples]

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt of the next turn."""
        return tuple(self._messages)

    def question(self, question: str, preview: str, status: str) -> None:
        """Open the conversation."""
        text = _fill(self._profile.question, question=question, preview=preview, status=status)
        self._messages.append(Message("user", text))

    def reply(self, kept: str) -> None:
        """Add what the model said, up to the end of the block that ran."""
        self._messages.append(Message("assistant", kept))

    def cell(self, finished: CellFinished, *, notes: list[str], status: str) -> None:
        """Add what a cell brought."""
        profile = self._profile
        shown = finished.output.rstrip("\n")
        if finished.error:
            shown = f"{shown}\n{finished.error.rstrip()}" if shown else finished.error.rstrip()
        lines = [f"[{note}]" for note in (*finished.notes, *_endings(finished), *notes)]
        changed = ", ".join(map(_name, finished.changed))
        word = fences.nonce(self._seed, self._node, finished.cell)
        text = _fill(
            profile.output,
            nonce=word,
            notes="\n".join(lines),
            changed=f"[new or changed: {changed}]" if changed else "",
            status=status,
            output=shown or profile.no_output,
        )
        self._messages.append(Message("user", text.rstrip()))

    def remark(self, text: str) -> None:
        """Tell the model something that no cell brought. Joins a message it has not answered."""
        last = self._messages[-1]
        if last.role == "user":
            self._messages[-1] = Message("user", f"{last.content}\n{text}")
        else:
            self._messages.append(Message("user", text))


def status_line(budget: Budget, *, turn: int, max_turns: int, sub: ModelFacts) -> str:
    """One line on what is left."""
    parts = [f"turn {turn} of {max_turns}"]
    if budget.calls is not None:
        parts.append(f"{budget.calls:,} calls left")
    if budget.usd is not None:
        parts.append(f"${budget.usd:.2f} left")
    if budget.tokens is not None:
        parts.append(f"{budget.tokens:,} tokens left")
    if budget.seconds is not None:
        parts.append(f"{max(0, round(budget.seconds)):,} s left")
    if budget.depth > 0:
        window = "unknown" if sub.window_tokens is None else f"{sub.window_tokens:,} tokens"
        parts.append(f"sub-model window {window}")
    line = "[" + " · ".join(parts) + "]"
    left = max_turns - turn
    if 0 < left <= WARN_TURNS:
        line += f"\n[{left} more turn{'s' * (left != 1)} after this one: submit soon]"
    return line


def _endings(finished: CellFinished) -> list[str]:
    """Say how a cell ended by force, and what that means for its names."""
    why = f": {finished.limit}" if finished.limit else ""
    match finished.ended:
        case "raised" if finished.changed:
            return ["the cell raised; what it had bound is kept"]
        case "interrupted":
            return [f"the cell was interrupted{why}; what it had bound is kept"]
        case "rolled_back":
            back = "the session is back at its state before this cell"
            return [f"the cell was stopped{why}; {back}; results of its sub-calls are in `calls`"]
        case "lost":
            return [f"the session was lost{why}; a new one has started, earlier names are gone"]
        case _:
            return []


def _name(name: Name) -> str:
    return f"{name.name}: {name.type}" + (f"[{name.size:,}]" if name.size is not None else "")


def _fill(template: str, **values: str) -> str:
    """Fill ``{name}`` slots in one pass: a value that holds a slot's name is left alone."""
    return _SLOT.sub(lambda found: values.get(found[1], found[0]), template)
