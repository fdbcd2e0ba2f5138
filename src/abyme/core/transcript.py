"""What a node's model has been told so far, as messages.

Append-only: a prefix never changes, so that provider and llama.cpp prompt
caches hit. Everything that comes from a REPL stands between data fences, in bounds.
Templates are filled in one pass, never by `str.format`: texts hold braces.
"""

import json
from collections.abc import Sequence
from typing import Any

from abyme.core import fences
from abyme.core.effects import Budget
from abyme.core.events import CellFinished, Difference, ModelFacts, Name
from abyme.core.profile import Message, Profile
from abyme.core.slots import fill

MAX_ERROR_CHARS = 9_000
MAX_GUEST_NOTES = 12
MAX_NOTE_CHARS = 300
MAX_CHANGED = 40
MAX_DIFFERENCES = 8
"""Bounds on what a guest can put into a prompt beside its output."""

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
        text = fill(self._profile.question, question=question, preview=preview, status=status)
        self._messages.append(Message("user", text))

    def reply(self, kept: str) -> None:
        """Add what the model said, up to the end of the block that ran."""
        self._messages.append(Message("assistant", kept))

    def cell(self, finished: CellFinished, *, notes: list[str], status: str) -> None:
        """Add what a cell brought. All that a guest has worded stands inside the fence."""
        profile = self._profile
        shown = cut(finished.output.rstrip("\n"), _with_slack(profile.output_chars))
        if finished.error:
            error = cut(finished.error.rstrip(), MAX_ERROR_CHARS)
            shown = f"{shown}\n{error}" if shown else error
        changed = ", ".join(_name(name) for name in finished.changed[:MAX_CHANGED])
        text = fill(
            profile.output,
            nonce=fences.nonce(self._seed, self._node, finished.cell),
            output=shown or profile.no_output,
            guest_notes="\n".join(_line(note) for note in finished.notes[:MAX_GUEST_NOTES]),
            changed=f"[new or changed: {changed}]" if changed else "",
            notes="\n".join(f"[{note}]" for note in (*_endings(finished), *notes)),
            status=status,
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
        parts.append(f"{budget.calls:,} model calls left")
    if budget.usd is not None:
        parts.append(f"${budget.usd:.2f} left")
    if budget.tokens is not None:
        parts.append(f"{budget.tokens:,} tokens left")
    if budget.seconds is not None:
        parts.append(f"{max(0, round(budget.seconds)):,} s left")
    if sub.window_tokens is not None and budget.depth > 0:
        parts.append(f"sub-model window {sub.window_tokens:,} tokens")
    line = "[" + " · ".join(parts) + "]"
    left = max_turns - turn
    if 0 < left <= WARN_TURNS:
        line += f"\n[{left} more turn{'s' * (left != 1)} after this one: submit soon]"
    elif budget.running_out is not None:
        line += f"\n[{budget.running_out} leaves about {WARN_TURNS} more turns: submit soon]"
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
            back = "a new one has run the cells before this one again"
            return [f"the session was lost{why}; {back}; results of sub-calls are in `calls`"]
        case _:
            return []


def differences(cells: Sequence[Difference]) -> str:
    """Say which cells came out in another way when they were run again; nothing if none did."""
    if not cells:
        return ""
    told = [f"cell {one.cell}: {one.what}{_names(one.names)}" for one in cells[:MAX_DIFFERENCES]]
    more = len(cells) - len(told)
    rest = f"; and {more} more" if more else ""
    return (
        "the session was started again and its cells were run again; not all came out as before: "
        f"{'; '.join(told)}{rest}; look before you rely on them"
    )


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(n[:60] if n.isidentifier() else "?" for n in names[:MAX_CHANGED])
    return f" ({shown})" if shown else ""


def answer_shape(schema: dict[str, Any] | None) -> str:
    """Tell of the schema that the answer must fit; nothing where there is none."""
    if schema is None:
        return ""
    text = json.dumps(schema, ensure_ascii=False)
    return f"\n\nThe value that you submit must fit this JSON Schema:\n{text}"


def cut(text: str, max_chars: int) -> str:
    """Keep head and tail. The jail has cut before; this is for a guest that did not."""
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters cut ...]\n{text[-half:]}"


def _with_slack(output_chars: int) -> int:
    """Room for what the jail leaves over its limit, and for its own remark."""
    return output_chars * 9 // 8 + 100


def _line(note: str) -> str:
    return f"[{' '.join(note.split())[:MAX_NOTE_CHARS]}]"


def _name(name: Name) -> str:
    label = name.name if name.name.isidentifier() else "?"
    kind = "".join(name.type.split())[:40]
    return f"{label[:60]}: {kind}" + (f"[{name.size:,}]" if name.size is not None else "")
