"""How a cell ended, in the words of the journal.

Decides what becomes of the report of a cell that is rolled back: its output, error and draft are
passed on, so that the model sees how far it came; its changes are not, because its names are
as before. Pure. What a guest says of itself is not believed beyond what it describes: the
limit and how far the cell went beyond it are the host's.
"""

import signal
from dataclasses import dataclass
from typing import Literal

from abyme.core import events as ev
from abyme.sandboxes.wired import frames
from abyme.wire import OUT_OF_MEMORY

OUTPUT_SLACK_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class End:
    """What the host knows of a cell's end."""

    limit: str | None
    reached: str | None
    compute_s: float


def finished(frame: frames.Finished, end: End, *, output_chars: int) -> ev.CellFinished:
    """Tell of a cell whose state is kept."""
    ended: Literal["clean", "raised", "interrupted"] = "raised" if frame.error else "clean"
    if frame.interrupted and end.limit:
        ended = "interrupted"
    by_force = ended == "interrupted"
    return ev.CellFinished(
        cell=frame.cell,
        output=_cut(frame.output, output_chars),
        dropped_chars=frame.dropped_chars,
        error=frame.error,
        ended=ended,
        limit=end.limit if by_force else None,
        reached=end.reached if by_force else None,
        changed=[
            ev.Name(name=one.name, type=one.type, size=one.size, digest=one.digest, aside=one.aside)
            for one in frame.changed
        ],
        draft=frame.draft,
        notes=frame.notes,
        violations=frame.violations,
        compute_s=end.compute_s,
    )


def rolled_back(
    cell: int, report: frames.Finished | None, end: End, *, output_chars: int
) -> ev.CellFinished:
    """Tell of a cell whose state is gone; `report` is what its process still said, if it did."""
    if report is None:
        return ev.CellFinished(
            cell=cell,
            output="",
            ended="rolled_back",
            limit=end.limit,
            compute_s=end.compute_s,
            reached=end.reached,
        )
    return ev.CellFinished(
        cell=cell,
        output=_cut(report.output, output_chars),
        dropped_chars=report.dropped_chars,
        error=report.error,
        ended="rolled_back",
        limit=end.limit,
        draft=report.draft,
        notes=report.notes,
        violations=report.violations,
        compute_s=end.compute_s,
        reached=end.reached,
    )


def crash(code: int) -> str:
    """Name what ended a process that no limit of the host's has ended."""
    if code == OUT_OF_MEMORY:
        return "memory_bytes"
    if code == -signal.SIGBUS:
        return f"crashed (signal {-code}: memory that is gone, as of a context whose file was cut)"
    return f"crashed (signal {-code})" if code < 0 else f"exited (status {code})"


def _cut(output: str, output_chars: int) -> str:
    """Cut what a guest should have cut."""
    return output[: output_chars * 2 + OUTPUT_SLACK_CHARS]
