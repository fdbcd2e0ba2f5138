"""How a cell ended, in the words of the journal.

Decides what becomes of the report of a cell that is rolled back: its output, error and draft are
passed on, so that the model sees how far it came; its changes are not, because its names are
as before. Pure. What a guest says of itself is not believed beyond what it describes: the
limit is the host's.
"""

from typing import Literal

from abyme.core import events as ev
from abyme.sandboxes.wired import frames
from abyme.wire import OUT_OF_MEMORY

OUTPUT_SLACK_CHARS = 1_000


def finished(
    frame: frames.Finished, *, limit: str | None, compute_s: float, output_chars: int
) -> ev.CellFinished:
    """Tell of a cell whose state is kept."""
    ended: Literal["clean", "raised", "interrupted"] = "raised" if frame.error else "clean"
    if frame.interrupted and limit:
        ended = "interrupted"
    return ev.CellFinished(
        cell=frame.cell,
        output=_cut(frame.output, output_chars),
        dropped_chars=frame.dropped_chars,
        error=frame.error,
        ended=ended,
        limit=limit if ended == "interrupted" else None,
        changed=[
            ev.Name(name=one.name, type=one.type, size=one.size, digest=one.digest, aside=one.aside)
            for one in frame.changed
        ],
        draft=frame.draft,
        notes=frame.notes,
        compute_s=compute_s,
    )


def rolled_back(
    cell: int,
    report: frames.Finished | None,
    *,
    limit: str,
    compute_s: float,
    output_chars: int,
) -> ev.CellFinished:
    """Tell of a cell whose state is gone; `report` is what its process still said, if it did."""
    if report is None:
        return ev.CellFinished(
            cell=cell, output="", ended="rolled_back", limit=limit, compute_s=compute_s
        )
    return ev.CellFinished(
        cell=cell,
        output=_cut(report.output, output_chars),
        dropped_chars=report.dropped_chars,
        error=report.error,
        ended="rolled_back",
        limit=limit,
        draft=report.draft,
        notes=report.notes,
        compute_s=compute_s,
    )


def crash(code: int) -> str:
    """Name what ended a process that no limit of the host's has ended."""
    if code == OUT_OF_MEMORY:
        return "memory_bytes"
    return f"crashed (signal {-code})" if code < 0 else f"exited (status {code})"


def _cut(output: str, output_chars: int) -> str:
    """Cut what a guest should have cut."""
    return output[: output_chars * 2 + OUTPUT_SLACK_CHARS]
