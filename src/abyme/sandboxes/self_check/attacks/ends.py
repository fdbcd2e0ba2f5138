"""Entries that use up what a cell has, and what must be said of their end.

Decides the ceilings under which they run, and when an end holds: a cell that a limit has ended
names it and the number reached, and was not charged with much more than it had. How long it took is
measured, not judged: a busy machine fails nothing.
"""

from collections.abc import Iterable
from typing import Final

from abyme.core.limits import Limits
from abyme.sandboxes.self_check.behaviour import Behaviour, Need, Seen

LIMITS: Final = Limits(cell_timeout_s=0.3, memory_bytes=300 << 20, max_processes=16)
SLACK_S: Final = 5.0
"""Of compute beyond the limit; with a processor of its own it is less than 1 s."""
TIME: Final = "cell_timeout_s"
MEMORY: Final = "memory_bytes"
PROCESSES: Final = "max_processes"
CRASHED: Final = "crashed"
EXITED: Final = "exited"


def ended(  # noqa: PLR0913 - a row of a table
    id: str,  # noqa: A002 - the field's name
    sentence: str,
    source: str,
    *cells: str,
    by: Iterable[str] = (TIME,),
    needs: Iterable[Need] = (),
    loses: str = "",
) -> Behaviour:
    """Make an entry of cells of which the last, if not another, is ended by one of the limits `by`,
    or says that it held.
    """
    return Behaviour(
        id=id,
        sentence=sentence,
        source=source,
        cells=cells,
        ends=tuple(by),
        needs=frozenset(needs),
        loses=loses,
        limits=LIMITS,
        judge=says_how_far,
    )


def says_how_far(seen: Seen) -> str:
    """Tell what is wrong with the ends of cells; nothing if all is well."""
    for cell in seen.cells:
        if cell.limit in (TIME, MEMORY, PROCESSES) and not cell.reached:
            return f"{cell.limit} is named, but not how far the cell went"
        if cell.compute_s > LIMITS.cell_timeout_s + SLACK_S:
            return f"{cell.compute_s:.1f} s of compute were not ended"
    return ""
