"""What the host tells a guest, cut into frames that always fit.

Decides where a cell, its restored results and the answers to a batch are cut. A character
takes up to 12 bytes on the wire (two escaped surrogates), so texts are cut at
`PIECE_CHARS`: whatever a model or a provider wrote, a frame stays far below the cap, and
a guest never needs much more memory than the text itself.

Invariant: of a frame only the last piece of one text is in the frame itself; the pieces before
it go ahead in `part` frames, and `parts` says how many, so that a process
which missed some of them drops the frame instead of taking half a text for a whole one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from abyme.core.effects import Budget, Result
from abyme.core.events import Failure
from abyme.sandboxes.wired import frames

PIECE_CHARS = 1 << 20
GROUP_RESULTS = 10_000

Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Where:
    """What a REPL must know before a cell."""

    batch: int
    """The first number that is free."""
    roll_backs: int
    """Seen so far: a process that stands for another number drops the cell."""


def cell(
    number: int, code: str, *, where: Where, restore: Sequence[Result], budget: Budget
) -> Iterator[Told]:
    """Give the frames that begin a cell."""
    for group in _groups(restore):
        yield from _with_parts({"t": "restore", "results": group}, group[0], "text")
    told = {"t": "cell", "cell": number, "code": code, "budget": plain(budget)}
    told |= {"batch": where.batch, "roll_backs": where.roll_backs}
    yield from _with_parts(told, told, "code")


def begin(seed: int) -> Iterator[Told]:
    """Give the frame that a REPL waits for before its first cell."""
    yield {"t": "begin", "seed": seed, "parts": 0}


def keep(number: int) -> Iterator[Told]:
    """Give the frame that lets an interrupted cell keep its state."""
    yield {"t": "keep", "cell": number, "parts": 0}


def answer(
    batch: int, results: Sequence[Result], refused: Failure | None, budget: Budget
) -> Iterator[Told]:
    """Give the frames that answer a batch; the last one says that there are no more."""
    told = {"refused": frames.failure(refused), "budget": plain(budget)}
    groups = _groups(results) or [[]]
    for group in groups:
        more = group is not groups[-1]
        frame = {"t": "answer", "batch": batch, "results": group, "more": more, **told}
        yield from _with_parts(frame, group[0] if group else {}, "text")


def plain(budget: Budget) -> dict[str, object]:
    """Make a budget what a guest reads."""
    made: dict[str, object] = msgspec.to_builtins(budget)
    if budget.running_out is None:
        del made["running_out"]
    return made


def _groups(results: Sequence[Result]) -> list[list[Told]]:
    """Cut results into groups of about a piece; what is longer is alone in its group."""
    groups: list[list[Told]] = []
    room = 0
    for one in map(frames.result, results):
        size = len(one["text"] or "") + len(str(one["failure"] or ""))
        if not groups or size > room or len(groups[-1]) >= GROUP_RESULTS:
            groups.append([])
            room = PIECE_CHARS
        groups[-1].append(one)
        room -= size
    return groups


def _with_parts(frame: Told, holder: Told, key: str) -> Iterator[Told]:
    """Send all but the last piece of the text at `holder[key]` ahead of its frame."""
    text = holder.get(key) or ""
    starts = range(0, max(1, len(text) - 1), PIECE_CHARS)
    ahead, last = starts[:-1], starts[-1]
    for start in ahead:
        yield {"t": "part", "text": text[start : start + PIECE_CHARS]}
    if ahead:
        holder[key] = text[last:]
    yield {**frame, "parts": len(ahead)}
