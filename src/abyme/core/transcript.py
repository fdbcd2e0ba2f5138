"""What a node's model has been told so far, as messages.

A prefix does not change while the prompt fits its model's window, so that provider and
llama.cpp prompt caches hit; when it does not, older turns are folded in one big step
(`folding`). The system text, the examples, the question and the last turn always stand.
Everything that comes from a REPL stands where the profile's template puts it, in bounds: between
data fences, but for `weak-local` (`fences` says why), whose model sees output as bare text.
Templates are filled in one pass, never by `str.format`: texts hold braces.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from abyme.core import fences, folding, pricing, tokens, words
from abyme.core.effects import Budget
from abyme.core.events import CellFinished, Difference, ModelFacts
from abyme.core.profile import Message, Profile
from abyme.core.slots import fill

MAX_ERROR_CHARS = 9_000
MAX_GUEST_NOTES = 12
MAX_NOTE_CHARS = 300
MAX_CHANGED = 40
MAX_DIFFERENCES = 8
"""Bounds on what a guest can put into a prompt beside its output."""
PREVIEW_CUT = "\n[the rest of this description is left out: the window is small]"
LEAST_CHARS = 400
"""Of the last output, and of the reply that asked for it, however small the window."""
SHRUNK_SHARE = 10
"""A fold that saves less than this part of a prompt is not worth another attempt."""

WARN_TURNS = 2
"""Turns before the last at which the model is warned."""
MILLION = 1_000_000
DIME = 0.1


@dataclass(slots=True)
class Told:
    """A user's message: a template, what fills it, and what was added since."""

    template: str
    slots: dict[str, str]
    status: str = ""
    finished: CellFinished | None = None
    """The cell whose output it shows."""
    output_chars: int = 0
    error_chars: int = MAX_ERROR_CHARS
    remarks: list[str] = field(default_factory=list)
    _text: str | None = None

    @property
    def text(self) -> str:
        """The message as it stands."""
        if self._text is None:
            slots = self.slots | {"status": self.status}
            if self.finished is not None:
                shown = _output(self.finished, self.output_chars, self.error_chars)
                slots["output"] = shown or slots["output"]
            said = fill(self.template, **slots)
            said = said if self.finished is None else said.rstrip()
            self._text = "\n".join([*([said] if said else []), *self.remarks])
        return self._text

    def add(self, remark: str) -> None:
        """Add a line."""
        self.remarks.append(remark)
        self._text = None

    def restate(self, status: str) -> None:
        """Say anew what is left."""
        self.status, self._text = status, None

    def cut(self, chars: int) -> None:
        """Show less of the output, and of the error."""
        self.output_chars, self.error_chars = chars, min(chars, self.error_chars)
        self._text = None

    def fill(self, **slots: str) -> None:
        """Say something else in some slots."""
        self.slots, self._text = self.slots | slots, None


@dataclass(slots=True)
class Turn:
    """A reply, and what came of it."""

    number: int
    reply: str
    code: str | None
    told: Told | None = None
    _counted: tuple[int, int, int] = (-1, 0, 0)
    """Lengths of both texts, and the tokens that were counted of them."""

    @property
    def messages(self) -> list[Message]:
        """What the model sees of it."""
        said = Message("assistant", self.reply)
        return [said] if self.told is None else [said, Message("user", self.told.text)]

    @property
    def tokens(self) -> int:
        """What it takes of the prompt, estimated."""
        told = self.told.text if self.told is not None else ""
        if self._counted[:2] != (len(self.reply), len(told)):
            self._counted = len(self.reply), len(told), _counted(self.reply) + _counted(told)
        return self._counted[2]

    @property
    def trace(self) -> folding.Trace:
        """What is left of it when it is folded."""
        return folding.trace(self.number, self.code, self.told.finished if self.told else None)


class Transcript:
    """Messages of one node."""

    def __init__(self, profile: Profile, *, seed: int, node: str) -> None:
        self._profile = profile
        self._seed = seed
        self._node = node
        self._head = (Message("system", profile.system), *profile.examples)
        self._head_tokens: int | None = None
        self._opened_counted = ("", 0)
        self._opening = Told("", {})
        self._folded = folding.Folded(fences.nonce(seed, node, "folded"))
        self._turns: list[Turn] = []

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt of the next turn."""
        turns = (message for turn in self._turns for message in turn.messages)
        return (*self._head, Message("user", self._opened()), *turns)

    @property
    def tokens(self) -> int:
        """How long the prompt is, estimated."""
        return self._fixed + sum(turn.tokens for turn in self._turns)

    @property
    def _fixed(self) -> int:
        """How much of it is not turns."""
        if self._head_tokens is None:
            head = [*(message.content for message in self._head), self._profile.prefill]
            self._head_tokens = sum(map(_counted, head))
        opened = self._opened()
        if self._opened_counted[0] != opened:
            self._opened_counted = opened, _counted(opened)
        return self._head_tokens + self._opened_counted[1]

    def question(self, question: str, preview: str, status: str) -> None:
        """Open the conversation."""
        slots = {"question": question, "preview": preview}
        self._opening = Told(self._profile.question, slots, status)

    def reply(self, kept: str, *, turn: int, code: str | None) -> None:
        """Add what the model said, up to the end of the block that ran."""
        self._turns.append(Turn(turn, kept, code))

    def nothing_ran(self, status: str) -> None:
        """Tell the model that its reply held nothing to run."""
        slots = {"told": self._profile.no_code}
        self._turns[-1].told = Told("{told}\n{status}", slots, status)

    def cell(self, finished: CellFinished, *, notes: list[str], status: str) -> None:
        """Add what a cell brought. All that a guest has worded stands inside the fence."""
        profile = self._profile
        shown = [name for name in finished.changed if not name.aside]
        changed = ", ".join(map(folding.name_and_size, shown[:MAX_CHANGED]))
        slots = {
            "nonce": fences.nonce(self._seed, self._node, finished.cell),
            "output": NO_OUTPUT if _is_told(profile, finished, changed) else profile.no_output,
            "guest_notes": "\n".join(_line(note) for note in finished.notes[:MAX_GUEST_NOTES]),
            "changed": f"[new or changed: {changed}]" if changed else "",
            "notes": "\n".join(f"[{note}]" for note in (*_endings(finished, changed), *notes)),
        }
        chars = _with_slack(profile.output_chars)
        self._turns[-1].told = Told(profile.output, slots, status, finished, chars)

    def remark(self, text: str) -> None:
        """Tell the model something that no cell brought. Joins a message it has not answered."""
        self._last().add(text)

    def restate(self, status: str) -> None:
        """Say anew what is left, in the message that the model has not answered."""
        self._last().restate(status)

    def fit(self, room_tokens: int | None) -> None:
        """Fold older turns if the prompt is longer than its room: to half of it, so that the
        prefix then stands for many turns.
        """
        if room_tokens is not None and self.tokens > room_tokens:
            beside = room_tokens - self._fixed
            self._fold(max(room_tokens // 2, self._fixed + beside // 4), room_tokens)

    def halve(self) -> bool:
        """Fold to half of what was sent; tell whether that has made it shorter."""
        sent = self.tokens
        self._fold(sent // 2, sent // 2)
        return self.tokens < sent - sent // SHRUNK_SHARE

    def _fold(self, target: int, most: int) -> None:
        """Fold the oldest turns down to `target` tokens. The last one stays; only if it alone
        makes the prompt longer than `most` it is cut, and then the preview.
        """
        lines = max(0, min(most, 2 * (most - self._fixed)))
        while len(self._turns) > 1 and self.tokens > target:
            self._folded.add(self._turns.pop(0).trace, lines)
        if self._turns:
            self._cut_last(self._turns[-1], most)
        self.cut_preview(most)

    def _cut_last(self, last: Turn, most: int) -> None:
        """Cut the middle of a turn's output, then of its reply, then what else a guest says."""
        cell = last.told if last.told is not None and last.told.finished is not None else None
        if cell is not None:
            chars = len(cell.text)
            while self.tokens > most and chars > LEAST_CHARS:
                chars = max(LEAST_CHARS, chars * 3 // 4)
                cell.cut(chars)
        whole, chars = last.reply, len(last.reply)
        while self.tokens > most and chars > LEAST_CHARS:
            chars = max(LEAST_CHARS, chars * 3 // 4)
            last.reply = cut(whole, chars)
        if cell is not None and self.tokens > most:
            said = {name: cell.slots[name] for name in ("guest_notes", "changed")}
            cell.fill(**{name: cut(text, LEAST_CHARS // 2) for name, text in said.items()})

    def cut_preview(self, most: int) -> None:
        """Leave lines at the end of the preview out while the prompt is longer than `most`."""
        lines = self._opening.slots.get("preview", "").removesuffix(PREVIEW_CUT).splitlines()
        while self.tokens > most and len(lines) > 1:
            del lines[len(lines) * 3 // 4 :]
            self._opening.fill(preview="\n".join(lines) + PREVIEW_CUT)

    def _opened(self) -> str:
        """Give the first message: the question, and after it what is folded."""
        folded = self._folded.text
        return f"{self._opening.text}\n\n{folded}" if folded else self._opening.text

    def _last(self) -> Told:
        if not self._turns:
            return self._opening
        turn = self._turns[-1]
        if turn.told is None:
            turn.told = Told("{status}", {})
        return turn.told


def status_line(
    budget: Budget,
    *,
    turn: int,
    max_turns: int,
    sub: ModelFacts | None = None,
    cell_s: float | None = None,
) -> str:
    """One line on what is left; with `sub` and `cell_s` also what holds for every sub-call and
    every cell.
    """
    left = []
    if budget.usd is not None:
        left.append(f"${budget.usd:.2f}" if budget.usd >= DIME else f"${budget.usd:.4f}")
    if budget.calls is not None:
        left.append(f"{budget.calls:,} model call{'s' * (budget.calls != 1)}")
    if budget.tokens is not None:
        left.append(f"{_short(budget.tokens)} tokens")
    if budget.seconds is not None:
        left.append(f"{max(0, round(budget.seconds)):,} s")
    parts = [f"turn {turn} of {max_turns}"]
    if left:
        parts.append(f"left: {', '.join(left)}")
    if cell_s is not None:
        parts.append(f"a cell may compute {cell_s:g} s")
    if sub is not None and budget.depth > 0:
        parts.append(_sub_model(sub))
    return "[" + " · ".join(parts) + "]"


def end_nears(budget: Budget, more_turns: int) -> str:
    """Say that few turns are left after this one; nothing where there are many, or none."""
    if 0 < more_turns <= WARN_TURNS:
        turns = f"{more_turns} more turn{'s' * (more_turns != 1)}"
        return f"\n[{turns} after this one: submit soon]"
    if more_turns > 0 and budget.running_out is not None:
        return f"\n[{budget.running_out} leaves about {WARN_TURNS} more turns: submit soon]"
    return ""


def _counted(text: str) -> int:
    """Tokens of a message, estimated."""
    return tokens.estimate(text) + pricing.MESSAGE_TOKENS


def _short(count: int) -> str:
    return f"{count / MILLION:.1f}M".replace(".0M", "M") if count >= MILLION else f"{count:,}"


def _sub_model(sub: ModelFacts) -> str:
    window = "" if sub.window_tokens is None else f"{sub.window_tokens:,} tokens a call, "
    at_once = "batches run in parallel" if sub.at_once is None else f"{sub.at_once} calls at once"
    if sub.at_once == 1:
        at_once = "one call at a time"
    return f"sub-model: {window}{at_once}"


def _output(finished: CellFinished, output_chars: int, error_chars: int) -> str:
    """Give what a cell printed, then its error."""
    shown = cut(finished.output.rstrip("\n"), output_chars)
    error = cut((finished.error or "").rstrip(), error_chars)
    return "\n".join(part for part in (shown, error) if part)


NO_OUTPUT = "(no output)"
"""Of a cell that has done something else: to be told to print would read as a fault."""


def _is_told(profile: Profile, finished: CellFinished, changed: str) -> bool:
    """Tell whether a message says, beside the output, what a cell did."""
    did = changed or finished.notes or finished.ended != "clean"
    return bool(did) and "{changed}" in profile.output


PASSED = {
    "cell_timeout_s": ("its limit of computing time", "do less in one cell"),
    "memory_bytes": ("its limit of memory", "hold less at once"),
    "max_processes": ("its limit of processes", "make fewer processes and threads"),
    "refused_calls": ("the limit of refused sub-calls", "make fewer of them, see budget()"),
}
"""By the limit that ended a cell: its words, and what to do."""
RUN_ENDS = {
    "stopped": "the user stops the run",
    "timeout_s": "the time of the run is nearly over (timeout_s)",
}
"""By what ended a cell together with its run."""
CALLS_KEPT = "results of sub-calls are in `calls`"


def _endings(finished: CellFinished, changed: str) -> list[str]:
    """Say how a cell ended by force, what that means for its names, and what to do."""
    limit = words.plain(finished.limit or "", MAX_NOTE_CHARS)
    match finished.ended:
        case "raised" if changed:
            return ["the cell raised; what it had bound is kept"]
        case "interrupted":
            why, to_do = _cause(finished, "interrupted")
            return [f"{why}: what it had bound is kept{to_do}"]
        case "rolled_back":
            why, to_do = _cause(finished, "undone")
            return [f"{why}: names are as before it, {CALLS_KEPT}{to_do}"]
        case "lost":
            lost = f"the session was lost: {limit}" if limit else "the session was lost"
            back = "a new one has run the cells before this one again"
            return [f"{lost}; {back}; {CALLS_KEPT}"]
        case _:
            return []


def _cause(finished: CellFinished, came_to: str) -> tuple[str, str]:
    """Say why a cell came to its end, and what to do about it."""
    limit = words.plain(finished.limit or "", MAX_NOTE_CHARS)
    if limit in PASSED:
        passed, advice = PASSED[limit]
        reached = f": {finished.reached}" if finished.reached else ""
        return f"the cell passed {passed} ({limit}{reached}) and was {came_to}", f"; {advice}"
    if limit in RUN_ENDS:
        return f"{RUN_ENDS[limit]}; the cell was {came_to}", ""
    return f"the cell was {came_to}" + (f" ({limit})" if limit else ""), ""


def went_on(differs: Sequence[Difference]) -> str:
    """Say that the run was cut off and goes on in a new session, and what is not as it was."""
    same = differences(differs) or "nothing has changed for you"
    return f"the run was interrupted and goes on: the session was rebuilt from its cells; {same}"


def differences(cells: Sequence[Difference]) -> str:
    """Say which cells came out in another way when they were run again; nothing if none did."""
    if not cells:
        return ""
    told = [
        f"cell {one.cell}: {words.plain(one.what, MAX_NOTE_CHARS)}{_names(one.names)}"
        for one in cells[:MAX_DIFFERENCES]
    ]
    more = len(cells) - len(told)
    rest = f"; and {more} more" if more else ""
    return f"not all came out as before: {'; '.join(told)}{rest}; look before you rely on them"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(map(words.name, names[:MAX_CHANGED]))
    return f" ({shown})" if shown else ""


def loaded(packages: Sequence[str]) -> str:
    """Name the packages that a cell can import; nothing where there are none."""
    return f"\n\n[packages that can be imported: {_packages(packages)}]" if packages else ""


def other_packages(packages: Sequence[str]) -> str:
    """Say that the packages are no longer those that the model was told of."""
    return f"packages that can be imported now: {_packages(packages) or 'none'}"


def _packages(packages: Sequence[str]) -> str:
    return ", ".join(words.plain(one, MAX_NOTE_CHARS) for one in packages[:MAX_CHANGED])


def answer_shape(schema: dict[str, Any] | None) -> str:
    """Tell of the schema that the answer must fit; nothing where there is none."""
    if schema is None:
        return ""
    text = json.dumps(schema, ensure_ascii=False)
    return (
        "\n\nA value that does not fit is not taken: you are told why and may submit again, twice. "
        f"The value that you submit must fit this JSON Schema:\n{text}"
    )


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
    return f"[{words.plain(note, MAX_NOTE_CHARS)}]"
