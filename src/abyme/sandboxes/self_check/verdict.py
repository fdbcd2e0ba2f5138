"""What an entry came to: held, a hole, broken, or passed over.

Decides it from what the host saw, in this order: a goal that was reached is a hole, whatever
the cells say; so is state that is lost where that is not documented. An entry must then say
`HELD` itself, or have been ended in a way of its own; else it is broken and proves
nothing. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from abyme.sandboxes.self_check.behaviour import HELD, HOLE, LOST, Behaviour, Seen

Outcome = Literal["held", "hole", "broken", "passed_over"]

MAX_SHOWN_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Result:
    """One entry on one tier."""

    entry: Behaviour
    outcome: Outcome
    words: str = ""
    """What was seen, or why it was passed over; empty if it held."""
    took_s: float = 0.0


def judged(entry: Behaviour, seen: Seen, reached: Sequence[str], *, state_kept: bool) -> Result:
    """Judge an entry that was run.

    `reached`: goals on the host, other REPLs included; `state_kept`: what was bound before it is
    bound still.
    """
    outcome, words = next(_findings(entry, seen, reached, state_kept=state_kept))
    return Result(entry, outcome, _short(words))


def _findings(
    entry: Behaviour, seen: Seen, reached: Sequence[str], *, state_kept: bool
) -> Iterator[tuple[Outcome, str]]:
    """Find all that there is to say, the gravest first."""
    failed: Outcome = "hole" if entry.kind == "attack" else "broken"
    if reached:
        yield "hole", "; ".join(reached)
    said = [line for cell in seen.cells for line in cell.output.splitlines() if HOLE in line]
    if said:
        yield failed, said[0]
    if not (state_kept or entry.loses) and seen.facts.snapshots:
        yield failed, f"what was bound before is lost: {_shown(seen)}"
    if forced := _forced(entry, seen):
        yield "broken", forced
    if entry.judge is not None and (wrong := entry.judge(seen)):
        yield failed, wrong
    if _says_held(entry, seen):
        yield "held", ""
    yield "broken", f"it proves nothing: {_shown(seen)}"


def _forced(entry: Behaviour, seen: Seen) -> str:
    """Tell of a cell that was ended in a way that is not among the entry's own."""
    ways = [cell.limit for cell in seen.cells if cell.limit is not None]
    if seen.lost is not None:
        ways.append(f"{LOST}: {type(seen.lost).__name__}")
    for way in ways:
        allowed = way.startswith(entry.ends) if entry.ends else False
        no_way_back = way.startswith(LOST) and entry.ends and not seen.facts.snapshots
        if not allowed and not no_way_back:
            return f"it was ended by {way}" + (f" ({seen.lost})" if seen.lost else "")
    return ""


def _says_held(entry: Behaviour, seen: Seen) -> bool:
    if entry.kind == "semantics" and entry.judge is not None:
        return True
    if seen.lost is not None:
        return True  # in a way of its own, or it would have been told of above
    if len(seen.cells) < len(entry.cells):
        return False
    last = seen.cells[-1]
    if last.limit is not None:
        return True
    return last.output.rstrip().splitlines()[-1:] == [HELD]


def _shown(seen: Seen) -> str:
    if seen.lost is not None or not seen.cells:
        return f"the session has died: {seen.lost}"
    cell = seen.cells[-1]
    error = (cell.error or "").strip().splitlines()[-1:]
    ended = cell.limit or cell.ended
    return f"{ended}, output {cell.output[-100:]!r}, error {' '.join(error)!r}"


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."
