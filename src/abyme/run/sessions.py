"""The REPLs of one run and the contexts of its nodes: opened, run in, rebuilt, closed.

Each method performs one effect and gives back what happened, as an event; nothing is decided
here. Invariant: a node that was closed while its REPL was opening, or was being rebuilt, has
none afterwards; a context is closed after the last thread that reads it.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from abyme.core import effects as do
from abyme.core import events as ev
from abyme.core import fences
from abyme.core.ids import NodeId
from abyme.errors import AbymeError, SandboxError
from abyme.ports import Context, SandboxRun, Session
from abyme.sandboxes.wired.rebuild import gone, rebuild

T = TypeVar("T")


class Sessions:
    """What the nodes of one run have of the outside."""

    def __init__(
        self,
        sandbox: SandboxRun,
        context: Context,
        seed: int,
        seal: Callable[[str], Context],
        preview: Callable[[Context, str], str],
    ) -> None:
        self._sandbox = sandbox
        self._context = context
        self._seed = seed
        self._seal = seal
        self._preview = preview
        self._sessions: dict[NodeId, Session] = {}
        self._contexts: dict[NodeId, Context] = {}
        """Of nodes that have one of their own."""
        self._opening: set[NodeId] = set()
        self._unwanted: set[NodeId] = set()
        """Closed while they were opening."""
        self._checks: dict[NodeId, asyncio.Future[Any]] = {}

    @property
    def nodes(self) -> set[NodeId]:
        """Nodes that have a REPL or a context."""
        return {*self._sessions, *self._contexts}

    async def open(self, effect: do.OpenSession, question: str) -> ev.AnyEvent | None:
        """Start a node's REPL, and run its cells if it had one; None: nobody wants it any more.

        `question` is the node's: what a child is shown of a context of its own depends on it.
        """
        node = effect.node
        self._opening.add(node)
        try:
            happened: ev.AnyEvent = await self._opened(effect, question)
        except (AbymeError, OSError) as error:  # no descriptors left, no memory: this node's end
            happened = ev.SessionLost(why=str(error), fatal=True)
        finally:
            self._opening.discard(node)
        if node not in self._unwanted:
            return happened
        self._unwanted.discard(node)
        await self.close(node)
        return None

    async def run_cell(
        self,
        effect: do.RunCell,
        on_event: Callable[[ev.CallsRequested | ev.AnswerSubmitted], None],
    ) -> ev.CellFinished | ev.SessionLost:
        """Run a cell to its end."""
        try:
            return await self._sessions[effect.node].run_cell(
                effect.cell,
                effect.code,
                restore=effect.restore,
                budget=effect.budget,
                on_event=on_event,
            )
        except SandboxError as error:
            return ev.SessionLost(why=str(error), fatal=False)

    async def answer(self, effect: do.AnswerBatch) -> None:
        """Unblock a guest."""
        session = self._sessions.get(effect.node)
        if session is None:
            return
        try:
            await session.answer(
                effect.batch,
                results=effect.results,
                refused=effect.refused,
                budget=effect.budget,
            )
        except SandboxError:
            return  # the session is dead; the cell that runs in it reports that

    async def end_cell(self, node: NodeId, why: str) -> None:
        """End a cell; as a task it comes after that of a cell begun in the same group."""
        if session := self._sessions.get(node):
            session.end_cell(why)

    async def look_up(self, node: NodeId, look: Callable[[Context], T]) -> T:
        """Look into a node's context, in a thread; `close` waits for that."""
        context = self._contexts.get(node, self._context)
        looking = asyncio.get_running_loop().run_in_executor(None, look, context)
        self._checks[node] = looking
        try:
            return await asyncio.shield(looking)
        finally:
            if looking.done():
                del self._checks[node]

    async def close(self, node: NodeId) -> None:
        """Kill a node's REPL and let its context go. One that is opening is closed by `open`."""
        if node in self._opening:
            self._unwanted.add(node)
            if session := self._sessions.get(node):
                await session.aclose()  # it is being rebuilt, and its cells may take their time
            return
        session, context = self._sessions.pop(node, None), self._contexts.pop(node, None)
        if session is not None:
            await session.aclose()
        if check := self._checks.get(node):
            await asyncio.wait({check})
        if context is not None:
            context.close()

    async def settled(self) -> None:
        """Wait for threads that still read a context."""
        if self._checks:
            await asyncio.wait(set(self._checks.values()))

    async def _opened(
        self, effect: do.OpenSession, question: str
    ) -> ev.SessionOpened | ev.SessionRebuilt:
        node, preview = effect.node, None
        context = self._contexts.get(effect.of, self._context)
        if effect.context is not None:
            context = await asyncio.to_thread(self._part, context, effect.context)
            self._contexts[node] = context
            preview = self._preview(context, question)
        session = await self._start(node, context)
        if effect.cells is not None:
            return await self._rebuilt(node, effect.cells, context)
        facts = session.facts
        return ev.SessionOpened(
            python=facts.python,
            snapshots=facts.snapshots,
            layers=list(facts.layers),
            packages=list(facts.packages),
            preview=preview,
        )

    async def _rebuilt(
        self, node: NodeId, cells: tuple[do.DoneCell, ...], context: Context
    ) -> ev.SessionRebuilt:
        """Run a node's cells in its new REPL. If that dies over them, it gets an empty one."""
        try:
            differs = await rebuild(self._sessions[node], cells)
        except SandboxError as error:
            await self._sessions[node].aclose()
            differs = gone(cells, str(error))
            if node not in self._unwanted:
                await self._start(node, context)
        packages = list(self._sessions[node].facts.packages)
        return ev.SessionRebuilt(cells=len(cells), differs=differs, packages=packages)

    async def _start(self, node: NodeId, context: Context) -> Session:
        seed = fences.repl_seed(self._seed, node)
        session = await self._sandbox.open(node=node, seed=seed, context=context)
        self._sessions[node] = session
        return session

    def _part(self, parent: Context, part: ev.ContextPart) -> Context:
        """Make a child's context; reads and writes memory, so it belongs in a thread."""
        if part.text is not None:
            return self._seal(part.text)
        return parent.part(part.spans, part.shape)
