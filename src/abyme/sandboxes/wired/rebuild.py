"""Runs a node's earlier cells in a new REPL, answered from what is known: no call is made.

Decides what counts as a difference: how a cell ended, its output, the names it left. A cell
that asks for what was not asked before is refused that, and so differs. Invariant: nothing
is spent. Does not decide which cells, or what the model is told (`core`).
"""

import asyncio
from collections.abc import Sequence

from abyme.core import effects as do
from abyme.core import events as ev
from abyme.core.recall import Recall, difference, keys
from abyme.ports import Session

PATIENCE = 4.0
"""What is run again has ended by itself before, within its time; now the machine may be busier."""
NOT_ASKED = ev.Failure(
    fault="cancelled",
    message="this cell is run again, and did not ask for this before: no call was made",
)


async def rebuild(session: Session, cells: Sequence[do.DoneCell]) -> list[ev.Difference]:
    """Run `cells` in order; what came out in another way.

    Raises:
        SandboxError: the session died over it.
    """
    differs: list[ev.Difference] = []
    for cell in cells:
        if cell.came_out.ended == "interrupted":
            differs.append(_lost(cell))
            continue
        finished = await _again(session, cell)
        if (apart := difference(cell.came_out, finished)) is not None:
            differs.append(apart)
    return differs


def gone(cells: Sequence[do.DoneCell], why: str) -> list[ev.Difference]:
    """Say of all cells that they could not be run again."""
    return [
        ev.Difference(
            cell=cell.run.cell,
            what=f"it could not be run again ({why}); what it had bound is gone",
            names=[name.name for name in cell.came_out.names],
        )
        for cell in cells
    ]


async def _again(session: Session, cell: do.DoneCell) -> ev.CellFinished:
    recall = Recall(cell.asked)
    run = cell.run
    answering: set[asyncio.Task[None]] = set()

    def on_event(event: ev.CallsRequested | ev.AnswerSubmitted) -> None:
        if isinstance(event, ev.AnswerSubmitted):
            return
        known = recall.answer(keys(event))
        task = asyncio.ensure_future(
            session.answer(
                event.batch,
                results=() if known is None else known.results,
                refused=NOT_ASKED if known is None else known.refused,
                budget=run.budget,
            )
        )
        answering.add(task)
        task.add_done_callback(answering.discard)

    try:
        return await session.run_cell(
            run.cell,
            run.code,
            restore=run.restore,
            budget=run.budget,
            on_event=on_event,
            patience=PATIENCE,
        )
    finally:
        await asyncio.gather(*answering, return_exceptions=True)


def _lost(cell: do.DoneCell) -> ev.Difference:
    return ev.Difference(
        cell=cell.run.cell,
        what="it had been interrupted, so it was not run again; what it had bound is gone",
        names=[name.name for name in cell.came_out.names],
    )
