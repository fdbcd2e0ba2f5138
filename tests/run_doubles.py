"""A sandbox without a jail for driver tests: cells are Python callables, nothing is executed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from abyme.core import events as ev
from abyme.core.ids import BatchId
from abyme.ports import SessionFacts

Cell = Callable[["FakeSession", int], Awaitable[ev.CellFinished]]


class FakeSession:
    """Answers `run_cell` from a table: code (stripped) -> what happens."""

    facts = SessionFacts(python="3.11.0", snapshots=True, layers=("fake",))

    def __init__(self, cells: dict[str, Cell]):
        self._cells = cells
        self._batches: dict[BatchId, asyncio.Future[Any]] = {}
        self._ended: asyncio.Future[str] | None = None
        self.closed = False
        self.on_event: Callable[[Any], None] = lambda event: None

    async def run_cell(self, cell, code, *, restore, budget, on_event, patience=1.0):
        self.on_event = on_event
        self._ended = asyncio.get_running_loop().create_future()
        work = asyncio.ensure_future(self._cells[code.strip()](self, cell))
        try:
            done, _ = await asyncio.wait({work, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        if work in done:
            return work.result()
        why = self._ended.result()
        return ev.CellFinished(cell=cell, output="", ended="interrupted", limit=why)

    async def ask(self, cell, *prompts, batch=1, purpose="llm"):
        self._batches[BatchId(batch)] = asyncio.get_running_loop().create_future()
        requests = [ev.Request(prompt=prompt) for prompt in prompts]
        self.on_event(
            ev.CallsRequested(cell=cell, batch=BatchId(batch), purpose=purpose, requests=requests)
        )
        return await self._batches[BatchId(batch)]

    def submit(self, cell, value, evidence=()):
        self.on_event(ev.AnswerSubmitted(cell=cell, value=value, evidence=list(evidence)))

    async def answer(self, batch, *, results, refused, budget):
        self._batches[batch].set_result(refused or results)

    def end_cell(self, why):
        self._ended.set_result(why)

    async def aclose(self):
        self.closed = True


class FakeSandbox:
    """Implements `ports.SandboxRun`."""

    hash_seed = 1

    def __init__(self, cells: dict[str, Cell]):
        self._cells = cells
        self.sessions: list[FakeSession] = []

    async def open(self, *, node, seed, context=None):
        session = FakeSession(self._cells)
        self.sessions.append(session)
        return session

    async def aclose(self):
        pass


class ListJournal:
    """Implements `ports.Journal` in memory; can be full."""

    def __init__(self, full_after: int | None = None):
        self.records: list[ev.Record] = []
        self.flushed = 0
        self._full_after = full_after

    def append(self, record):
        self.records.append(record)

    def flush(self):
        from abyme.errors import JournalError

        if self._full_after is not None and len(self.records) > self._full_after:
            raise JournalError("disk full")
        self.flushed = len(self.records)

    def alive(self, elapsed_s):
        pass

    def close(self):
        pass


class NoEvidence:
    """A context in which nothing is found."""

    shape = "text"
    fds = ()
    chars = 3
    documents = 1
    manifest: object = None

    def check(self, evidence):
        return [], [e if isinstance(e, str) else e.quote for e in evidence]

    def look_up(self, claim):
        quote = claim if isinstance(claim, str) else claim.quote
        return ev.Refused(quote=quote, why="absent")

    def nearest(self, quote):
        return None

    def place(self, document, start, end):
        return None

    def close(self):
        pass
