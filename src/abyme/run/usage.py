"""What a run used, as its user is told: the tally of its records, in dollars."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from abyme.core.tally import Spent, Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """A part of what a run used."""

    calls: int
    """Attempts that were sent, failed ones included."""
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Part of `prompt_tokens` that a provider had cached."""
    reasoning_tokens: int
    """Part of `completion_tokens` that was thinking."""
    cost_usd: float | None
    """By the provider's own figure, or the declared price; None when a price is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage(Used):
    """What a run used, every descendant included. Each of the divisions adds up to it."""

    wall_s: float
    overrun_usd: float = 0.0
    """Part of `cost_usd` that a provider billed beyond the worst case by the declared price."""
    unknown_usd: float = 0.0
    """Part of `cost_usd`: calls of which nobody knows what was billed, at their worst. Their
    reply was lost, or the run was cut off while they were in flight."""
    unknown_calls: int = 0
    """Part of `calls`."""
    estimated_calls: int = 0
    """Part of `calls`: their tokens are our estimate, no provider gave plausible ones."""
    by_model: Mapping[str, Used] = field(default_factory=dict)
    by_depth: Mapping[int, Used] = field(default_factory=dict)
    """0: the root's turns and its sub-calls, 1: its children's, and so on."""
    by_cell: Mapping[tuple[str, int | None], Used] = field(default_factory=dict)
    """Node and cell -> its sub-calls; cell None: the turns of that node."""


def usage_of(tally: Tally, *, wall_s: float) -> Usage:
    """Make a run's usage of its tally."""
    total = tally.total
    return Usage(
        **_figures(total),
        wall_s=round(wall_s, 3),
        overrun_usd=total.overrun_usd_micro / 1e6,
        unknown_usd=total.unknown.usd_micro / 1e6,
        unknown_calls=total.unknown.calls,
        estimated_calls=total.estimated,
        by_model={name: Used(**_figures(one)) for name, one in tally.by_model.items()},
        by_depth={depth: Used(**_figures(one)) for depth, one in sorted(tally.by_depth.items())},
        by_cell={place: Used(**_figures(one)) for place, one in tally.by_cell.items()},
    )


def _figures(spent: Spent) -> dict[str, Any]:
    return {
        "calls": spent.amount.calls,
        "failed": spent.failed,
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.completion_tokens,
        "cached_tokens": spent.cached_tokens,
        "reasoning_tokens": spent.reasoning_tokens,
        "cost_usd": None if spent.unpriced else spent.amount.usd_micro / 1e6,
    }
