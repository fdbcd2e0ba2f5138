"""What a run used, as the commands print it: lines for people, an object for programs.

Decides when a division is worth a line: where there is more than one model, or depth.
Does not add up (`core.tally`, `run.usage`).
"""

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from abyme.apps.amounts import count, duration, money, tokens, usd

if TYPE_CHECKING:
    from abyme.run.usage import Usage, Used

DIVISIONS = frozenset({"by_model", "by_depth", "by_cell"})


def in_a_line(usage: "Usage") -> str:
    """Write calls, tokens, money and time."""
    cost = money(_micro(usage.cost_usd), _micro(usage.unknown_usd), _micro(usage.overrun_usd))
    return " · ".join([count(usage.calls, "call"), _tokens(usage), cost, duration(usage.wall_s)])


def divided(usage: "Usage") -> Iterator[str]:
    """One line a model and one a depth, where there are several."""
    by_depth = {f"depth {depth}": used for depth, used in usage.by_depth.items()}
    for division in (usage.by_model, by_depth):
        for name, used in division.items() if len(division) > 1 else ():
            cost = usd(_micro(used.cost_usd))
            yield f"  {name}: {count(used.calls, 'call')} · {_tokens(used)} · {cost}"


def as_object(usage: "Usage") -> dict[str, Any]:
    """Everything; of the cells, `cell` is null for the turns of the node."""
    whole = {f.name: getattr(usage, f.name) for f in fields(usage) if f.name not in DIVISIONS}
    whole["by_model"] = {name: _figures(used) for name, used in usage.by_model.items()}
    whole["by_depth"] = {str(depth): _figures(used) for depth, used in usage.by_depth.items()}
    whole["by_cell"] = [
        {"node": node, "cell": cell, **_figures(used)}
        for (node, cell), used in usage.by_cell.items()
    ]
    return whole


def _figures(used: "Used") -> dict[str, Any]:
    return {f.name: getattr(used, f.name) for f in fields(used)}


def _tokens(used: "Used") -> str:
    return tokens(
        used.prompt_tokens, used.completion_tokens, used.cached_tokens, used.reasoning_tokens
    )


def _micro(dollars: float | None) -> Any:
    return None if dollars is None else round(dollars * 1e6)
