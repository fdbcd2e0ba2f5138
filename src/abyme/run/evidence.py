"""Evidence of an answer, looked up piece by piece: what stands where, and how it was computed.

Decides for how many refused quotes the nearest text is looked for. Each look is one call of a
thread, so that a deadline can come between. Does not judge: that is the context's.
"""

import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from msgspec import structs

from abyme.core import events as ev
from abyme.ports import Context

MOST_NEAREST: Final = 3
"""A second each, of a context of hundreds of megabytes."""
MOST_PLACES: Final = 50
"""Of a derivation, that are shown; the others are only looked at."""

Look = Callable[[Callable[[Context], Any]], Awaitable[Any]]


async def looked_up(
    look: Look, claims: Iterable[ev.Place | str]
) -> tuple[list[ev.Evidence], list[ev.Refused]]:
    """Give what was found, and what was not taken, each in the order given."""
    found: list[ev.Evidence] = []
    refused: list[ev.Refused] = []
    left = MOST_NEAREST
    for claim in claims:
        one = await look(functools.partial(_looked_up, claim))
        if isinstance(one, ev.Evidence):
            found.append(one)
            continue
        if one.why == "absent" and left:
            left -= 1
            quote = claim.quote if isinstance(claim, ev.Place) else claim
            near = await look(functools.partial(_nearest, quote))
            one = structs.replace(one, near=near)
        refused.append(one)
    return found, refused


async def placed(
    look: Look, computed: Sequence[ev.Computed], derivations: Sequence[ev.Derivation]
) -> list[ev.Derivation]:
    """Give derivations the places that their cells named, as far as they are there."""
    pairs = zip(computed, derivations, strict=True)
    return [await look(functools.partial(_with_places, *pair)) for pair in pairs]


def _looked_up(claim: ev.Place | str, context: Context) -> ev.Evidence | ev.Refused:
    return context.look_up(claim)


def _nearest(quote: str, context: Context) -> ev.Near | None:
    return context.nearest(quote)


def _with_places(claim: ev.Computed, derivation: ev.Derivation, context: Context) -> ev.Derivation:
    every = [context.place(*span) for span in claim.places]
    there = [place for place in every if place is not None]
    missing = len(every) - len(there)
    return structs.replace(derivation, places=there[:MOST_PLACES], missing=missing)
