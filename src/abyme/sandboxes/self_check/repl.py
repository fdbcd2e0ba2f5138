"""A REPL as an entry is run in it: cells in, everything that the host is told kept.

Decides what sub-calls bring: a prompt P brings ``<P>``, as JSON where a schema or a map asks for
that, and one that begins with ``fail`` brings a failure. Never raises what a session
raises: that the session died is part of what was seen.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from abyme.core import events as ev
from abyme.core.effects import Budget, Result
from abyme.core.ids import CallId
from abyme.errors import SandboxError
from abyme.ports import Context, Session
from abyme.sandboxes.self_check.behaviour import Seen

BUDGET: Final = Budget(usd=1.0, calls=10, tokens=100, seconds=60.0, turns=5, depth=2)
GRACE_S: Final = 10.0
"""Beyond its time limit, in which a cell must have ended by one step of the ladder or another."""
FAILURE: Final = ev.Failure(fault="server", message="it was asked to fail")


class Repl:
    """One session."""

    def __init__(self, session: Session, context: Context, *, cell_timeout_s: float) -> None:
        self._session = session
        self._context = context
        self._most_s = cell_timeout_s + GRACE_S
        self._number = 0
        self._calls = 0
        self._cells: list[ev.CellFinished] = []
        self._submitted: list[ev.AnswerSubmitted] = []
        self._batches: list[ev.CallsRequested] = []
        self._answering: set[asyncio.Task[None]] = set()
        self._results: list[Result] = []
        self._lost: SandboxError | None = None
        self.host_errors: list[str] = []
        """What went wrong on the host, untyped: never the fault of the code in a cell."""

    @property
    def seen(self) -> Seen:
        """All so far."""
        return Seen(
            cells=tuple(self._cells),
            submitted=tuple(self._submitted),
            batches=tuple(self._batches),
            context=self._context,
            facts=self._session.facts,
            lost=self._lost,
        )

    def said(self) -> list[str]:
        """All text that came out of it, whatever it stood in."""
        return [repr(one) for one in (*self._cells, *self._submitted, *self._batches)]

    async def cell(self, code: str) -> ev.CellFinished | None:
        """Run a cell and keep what is seen; None: the session is dead."""
        finished = await self._run(code)
        if finished is not None:
            self._cells.append(finished)
        return finished

    async def aside(self, code: str) -> ev.CellFinished | None:
        """Run a cell of the host's own, which is not part of what is judged."""
        return await self._run(code)

    async def aclose(self) -> None:
        """End it, within a moment."""
        for task in self._answering:
            task.cancel()
        try:
            await asyncio.wait_for(self._session.aclose(), GRACE_S)
        except TimeoutError:
            self.host_errors.append("the session could not be closed")

    async def _run(self, code: str) -> ev.CellFinished | None:
        if self._lost is not None or self.host_errors:
            return None
        self._number += 1
        try:
            return await asyncio.wait_for(self._session.run_cell(
                self._number,
                code,
                restore=self._results if self._rolled_back() else (),
                budget=BUDGET,
                on_event=self._on_event,
            ), self._most_s)  # fmt: skip
        except SandboxError as error:
            self._lost = error
        except TimeoutError:
            self.host_errors.append(f"the cell had not ended after {self._most_s:.0f} s")
        except Exception as error:  # noqa: BLE001 - whatever it is: a guest must not bring it about
            self.host_errors.append(f"the host raised {type(error).__name__}: {error}")
        return None

    def _rolled_back(self) -> bool:
        return bool(self._cells) and self._cells[-1].ended == "rolled_back"

    def _on_event(self, event: ev.CallsRequested | ev.AnswerSubmitted) -> None:
        if isinstance(event, ev.AnswerSubmitted):
            self._submitted.append(event)
            return
        self._batches.append(event)
        task = asyncio.get_running_loop().create_task(self._answer(event))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, asked: ev.CallsRequested) -> None:
        shaped = asked.purpose == "map" or (asked.task is not None and bool(asked.task.schema))
        results = []
        for request in asked.requests:
            self._calls += 1
            results.append(_brought(CallId(self._calls), request, shaped=shaped))
        self._results += results
        await self._session.answer(asked.batch, results=results, refused=None, budget=BUDGET)


def _brought(call: CallId, request: ev.Request, *, shaped: bool) -> Result:
    if request.prompt.startswith("fail"):
        return Result(call=call, failure=FAILURE)
    text = f"<{request.prompt}>"
    return Result(call=call, text=json.dumps(text) if shaped or request.schema else text)


def untyped(errors: Sequence[dict[str, object]]) -> list[str]:
    """Tell of errors that reached the event loop: nobody had expected them."""
    return [
        f"the host's event loop was told: {context.get('exception') or context.get('message')!r}"
        for context in errors
    ]
