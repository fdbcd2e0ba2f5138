"""What speaks for an answer that no quote shows, and what a model is told of refused evidence.

Decides how far `Computed`, which a cell could have made up, is believed: labels of an `llm_map`
are counted again in the results that the host has handed out itself, and the cell is the one it
was handed to. What cannot be counted again stays as the cell says, and is marked so: instruction
and places always, since no record has them.
Invariant: pure; a claim never counts as `checked` that no batch of this node answers to.
Does not look at the context: places are the driver's to resolve.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import structs

from abyme.core import events as ev
from abyme.core import fences
from abyme.core.effects import Asked, DoneCell

MAX_DERIVATIONS: Final = 20
MAX_LABELS: Final = 50
LABEL_CHARS: Final = 80
TOLD: Final = 3
QUOTE_CHARS: Final = 80


def derive(claims: Iterable[ev.Computed], done: Sequence[DoneCell]) -> tuple[ev.Derivation, ...]:
    """Count again what the host has itself; places are left out."""
    return tuple(_derive(claim, done) for claim in claims)


def _derive(claim: ev.Computed, done: Sequence[DoneCell]) -> ev.Derivation:
    plain = ev.Derivation(
        how=claim.how,
        cell=claim.cell,
        asked=claim.asked,
        scope=claim.scope,
        items=claim.items,
        labels=claim.labels,
        total=claim.total,
    )
    found = _batch(claim, done)
    if found is None:
        return plain
    cell, asked = found
    texts = [one.text for one in asked.results if one.failure is None and one.text is not None]
    labels = counted(map(json.loads, texts))
    claimed = {} if labels == claim.labels else claim.labels
    items = len(asked.results)
    plain = structs.replace(plain, cell=cell, items=items, total=min(claim.total, items))
    return structs.replace(plain, labels=labels, claimed=claimed, checked=True)


def _batch(claim: ev.Computed, done: Sequence[DoneCell]) -> tuple[int, Asked] | None:
    """Find the batch that a claim is of: by its first call and its size, the claim's cell first."""
    if claim.how != "llm_map" or claim.call is None:
        return None
    every = [
        (cell.run.cell, asked)
        for cell in done
        for asked in cell.asked
        if len(asked.results) == len(asked.keys) == claim.sent
        and asked.results
        and asked.results[0].call == claim.call
    ]
    return max(every, key=lambda one: (one[0] == claim.cell, one[0]), default=None)


def counted(values: Iterable[Any]) -> dict[str, int]:
    """Count values as the guest does: a text as it is, anything else as JSON."""
    counts = Counter(
        (one if isinstance(one, str) else json.dumps(one, sort_keys=True))[:LABEL_CHARS]
        for one in values
    )
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return dict(ordered[:MAX_LABELS])


def why_refused(missing: Sequence[str], refused: Sequence[ev.Refused], word: str) -> str:
    """Tell the model why its evidence was not taken; text of the input is fenced under `word`."""
    if not any(one.why in {"short", "common", "long"} or one.near for one in refused):
        shown = "; ".join(repr(quote[:QUOTE_CHARS]) for quote in missing[:TOLD])
        return (
            f"[answer held, but its evidence is not in the context word for word: {shown}; "
            "submit again with hits, exact quotes, or none if the answer was computed]"
        )
    said = "; ".join(map(reason, refused[:TOLD]))
    told = (
        f"[answer held, but its evidence was not taken: {said}; submit again with hits, exact "
        "quotes, cite() of what it was computed from, or none]"
    )
    near = [f"{one.near.path}:{one.near.line}: {one.near.text}" for one in refused if one.near]
    if not near:
        return told
    nearest = fences.data("\n".join(near[:TOLD]), word)
    return f"{told}\nNearest in the context, copy from here:\n{nearest}"


def reason(refused: ev.Refused) -> str:
    """Say in a few words why a piece of evidence was not taken."""
    shown = repr(refused.quote[:QUOTE_CHARS])
    match refused.why:
        case "short":
            return f'{shown} is too short to tell a place: give a hit, a chunk, or "name:line"'
        case "common":
            return (
                f"{shown} stands in more than 5 places: give a hit, a chunk, "
                'or "name:line", or more of the line'
            )
        case "long":
            return f"{shown} is too long a quote to look for: give a hit, a chunk, or a part of it"
        case "no_quote":
            return f"{shown} is no quote"
        case _ if refused.near is not None:
            return f"{shown} is not in the context word for word ({refused.near.differs})"
        case _:
            return f"{shown} is not in the context word for word"


def labels_of(labels: Mapping[str, int], most: int = 6) -> str:
    """Write ``person 33, place 32``."""
    shown = [f"{label} {count:,}" for label, count in list(labels.items())[:most]]
    more = len(labels) - most
    return ", ".join(shown) + (f", {more} more" if more > 0 else "")
