"""Runs a recorded run again, with no model: every cell, answered from the journal.

Two things are compared: the records with what the core makes of the events today, and what
each cell came out as with what it comes out as now. Invariant: no call is made, nothing is
spent, the run's folder is not changed. Cells that were rolled back left nothing and are not run.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from abyme.core import events as ev
from abyme.core import fences
from abyme.core.effects import OpenSession
from abyme.core.history import IMPOSSIBLE, Diverged, Retraced, believed
from abyme.core.ids import NodeId
from abyme.core.nodes import Node
from abyme.core.tree import Tree
from abyme.errors import SandboxError
from abyme.ports import Context, SandboxRun
from abyme.run import build, folders
from abyme.run.folders import Input, found
from abyme.run.waiting import Waiting
from abyme.sandboxes.wired.rebuild import gone, rebuild


@dataclass(frozen=True, slots=True)
class Apart:
    """A cell that came out in another way."""

    node: NodeId
    record: int
    """Number of the record that says how it came out before."""
    difference: ev.Difference


@dataclass(slots=True)
class Replayed:
    """What a replay brought."""

    records: int = 0
    """That count, and were made again from the events."""
    nodes: int = 0
    cells: int = 0
    diverged: str | None = None
    """Where the records are not what this version would have written; nothing was run then."""
    apart: list[Apart] = field(default_factory=list)
    """In the order of the journal."""

    @property
    def same(self) -> bool:
        """Whether all came out as recorded."""
        return self.diverged is None and not self.apart


def replay(
    run: Path | str,
    *,
    context: Input | None = None,
    runs_dir: Path | str | None = None,
    on_cell: Callable[[int, int], None] | None = None,
) -> Replayed:
    """Run a recorded run's cells again, answered from its journal, and compare.

    No model is asked and nothing is spent. `on_cell` is told how many cells are done, and of
    how many.

    Raises:
        ContextError: the input is not what it was.
        JournalError: there is no such run, or its journal is damaged.
    """
    work = areplay(run, context=context, runs_dir=runs_dir, on_cell=on_cell)
    with Waiting() as waiting:
        return waiting.run(work)


async def areplay(
    run: Path | str,
    *,
    context: Input | None = None,
    runs_dir: Path | str | None = None,
    on_cell: Callable[[int, int], None] | None = None,
) -> Replayed:
    """`replay` for asynchronous callers."""
    folder = found(run, runs_dir)
    recording = await asyncio.to_thread(folder.recording)
    again, owned = await asyncio.to_thread(folders.context_again, folder, context)
    sandbox = build.open_sandbox(recording.started.isolation.tier, 0)
    try:
        async with aclosing(await build.jail_again(sandbox, recording.started, again)) as jail:
            return await run_again(recording.records, again, jail, build.seal, on_cell)
    finally:
        await sandbox.aclose()
        if owned:
            again.close()


def retraced(records: list[ev.Record]) -> tuple[list[Node], Replayed]:
    """Make the records again from their events; the nodes that ran, with their cells."""
    counting = believed(records)
    first = counting[0].event
    assert isinstance(first, ev.RunStarted)
    path, nodes = Retraced(Tree(first)), dict[NodeId, Node]()
    result = Replayed(records=len(counting))
    try:
        for record in counting:
            for effect in path.take(record):
                node = path.tree.node(effect.node)
                if isinstance(effect, OpenSession) and node is not None:
                    nodes[node.id] = node
    except (Diverged, *IMPOSSIBLE) as error:
        result.diverged = str(error) or type(error).__name__
    return list(nodes.values()), result


async def run_again(
    records: list[ev.Record],
    context: Context,
    sandbox: SandboxRun,
    seal: Callable[[str], Context],
    on_cell: Callable[[int, int], None] | None = None,
) -> Replayed:
    """Run all cells of a journal again. `on_cell` is told how many are done, of how many."""
    nodes, result = retraced(records)
    if result.diverged is not None:
        return result
    total = sum(len(node.done) for node in nodes)
    numbers = {
        (record.node, record.event.cell): record.seq
        for record in believed(records)
        if isinstance(record.event, ev.CellFinished)
    }
    seed = records[0].event.seed  # type: ignore[union-attr]  # `retraced` has looked
    contexts = _Contexts(context, seal, {node.id: node for node in nodes})
    try:
        for node in nodes:
            if node.done:
                own = contexts.of(node.id)
                differs = await _run(node, own, sandbox, fences.repl_seed(seed, node.id))
                result.nodes += 1
                result.cells += len(node.done)
                result.apart += [Apart(node.id, numbers[node.id, one.cell], one) for one in differs]
            if on_cell is not None:
                on_cell(result.cells, total)
    finally:
        contexts.close()
    result.apart.sort(key=lambda apart: apart.record)
    return result


class _Contexts:
    """Contexts of nodes, made when they are wanted: one that could not be had is in no cell."""

    def __init__(
        self, whole: Context, seal: Callable[[str], Context], nodes: dict[NodeId, Node]
    ) -> None:
        self._whole = whole
        self._seal = seal
        self._nodes = nodes
        self._made: dict[NodeId, Context] = {}

    def of(self, node_id: NodeId) -> Context:
        """Give the context that a node works on."""
        node = self._nodes[node_id]
        if node.context is None:
            return self._whole if node.of == node_id else self.of(node.of)
        if node_id not in self._made:
            part = node.context
            self._made[node_id] = (
                self._seal(part.text)
                if part.text is not None
                else self.of(node.of).part(part.spans, part.shape)
            )
        return self._made[node_id]

    def close(self) -> None:
        """Let all of them go."""
        for context in self._made.values():
            context.close()


async def _run(node: Node, context: Context, sandbox: SandboxRun, seed: int) -> list[ev.Difference]:
    session = await sandbox.open(node=node.id, seed=seed, context=context)
    try:
        return await rebuild(session, node.done)
    except SandboxError as error:
        return gone(node.done, str(error))
    finally:
        await session.aclose()
