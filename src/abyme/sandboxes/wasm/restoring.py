"""A session whose REPL may die in a cell: it makes another one and runs the earlier cells again.

Decides what a cell that was ended by force has come to: rolled back, if every earlier cell comes
out as it did (their sub-calls are answered from what is known, and none is made); else the session
is dead, and the run decides. What it takes is the time of all earlier cells. A guest that has
broken the rules of the wire is not brought back.
"""

from collections.abc import Coroutine, Sequence
from typing import Any, Final, Protocol

from abyme.core import effects as do
from abyme.core import events as ev
from abyme.core.effects import Budget, Result
from abyme.core.ids import BatchId, NodeId
from abyme.core.recall import cell_digest, keys
from abyme.errors import ProtocolViolation, SandboxError
from abyme.ports import SessionFacts
from abyme.sandboxes.wasm.passing import TRAPPED
from abyme.sandboxes.wired.endings import End, crash, rolled_back
from abyme.sandboxes.wired.rebuild import rebuild
from abyme.sandboxes.wired.session import OnEvent, WiredSession

CRASHED: Final = "crashed (in the interpreter)"


class Repls(Protocol):
    """Where the REPLs of one session live, one after the other."""

    async def again(self) -> WiredSession:
        """Open another one like the first."""
        ...

    async def died(self, session: WiredSession) -> int:
        """Tell the exit status of one."""
        ...

    async def leave(self) -> None:
        """Remove what they had. Safe to repeat."""
        ...


class RestoringSession:
    """Implements `abyme.ports.Session`."""

    def __init__(self, node: NodeId, session: WiredSession, place: Repls) -> None:
        self._node = node
        self._session = session
        self._place = place
        self._closed = False
        self._done: list[do.DoneCell] = []
        self._asked: dict[BatchId, tuple[bytes, ...]] = {}
        """Batches of the running cell that wait for an answer."""
        self._answered: list[do.Asked] = []

    @property
    def facts(self) -> SessionFacts:
        """Known once the session is open."""
        return self._session.facts

    @property
    def closed(self) -> bool:
        """Whether all its processes are gone, and no others will be made."""
        return self._closed and self._session.closed

    def run_cell(  # noqa: PLR0913 - as the port has it
        self,
        cell: int,
        code: str,
        *,
        restore: Sequence[Result],
        budget: Budget,
        on_event: OnEvent,
        patience: float = 1.0,
    ) -> Coroutine[Any, Any, ev.CellFinished]:
        """Run one cell; see `abyme.ports.Session.run_cell`."""
        run = do.RunCell(
            node=self._node, cell=cell, code=code, restore=tuple(restore), budget=budget
        )
        self._asked.clear()
        self._answered = []
        running = self._session.run_cell(
            cell,
            code,
            restore=restore,
            budget=budget,
            on_event=lambda e: self._heard(e, on_event),
            patience=patience,
        )
        return self._ran(run, running)

    async def answer(
        self,
        batch: BatchId,
        *,
        results: Sequence[Result],
        refused: ev.Failure | None,
        budget: Budget,
    ) -> None:
        """Unblock the guest, and remember what it was told."""
        asked = self._asked.pop(batch, None)
        if asked is not None:
            self._answered.append(do.Asked(keys=asked, results=tuple(results), refused=refused))
        await self._session.answer(batch, results=results, refused=refused, budget=budget)

    def end_cell(self, why: str) -> None:
        """End the running cell by force."""
        self._session.end_cell(why)

    async def aclose(self) -> None:
        """Kill every process of the session. Safe to repeat."""
        self._closed = True
        await self._session.aclose()
        await self._place.leave()

    def _heard(self, event: ev.CallsRequested | ev.AnswerSubmitted, on_event: OnEvent) -> None:
        if isinstance(event, ev.CallsRequested):
            self._asked[event.batch] = keys(event)
        on_event(event)

    async def _ran(
        self, run: do.RunCell, running: Coroutine[Any, Any, ev.CellFinished]
    ) -> ev.CellFinished:
        try:
            finished = await running
        except ProtocolViolation:
            raise
        except SandboxError as error:
            end = self._session.last_end
            if end is None or self._closed:
                raise
            return await self._rolled_back(run.cell, end, error)
        self._done.append(
            do.DoneCell(run=run, asked=tuple(self._answered), came_out=cell_digest(finished))
        )
        return finished

    async def _rolled_back(self, cell: int, end: End, error: SandboxError) -> ev.CellFinished:
        """Make another REPL, as the last one was before the cell.

        Raises:
            SandboxError: it cannot be made, or is not as it was.
        """
        status = await self._place.died(self._session)
        if end.limit is None:
            why = CRASHED if status == TRAPPED else crash(status)
            end = End(why, end.reached, end.compute_s)
        self._session = await self._place.again()
        if self._closed:
            await self._session.aclose()
            raise error
        if await rebuild(self._session, self._done):
            await self._session.aclose()
            raise error
        return rolled_back(cell, None, end, output_chars=0)
