"""The nodes of the tree: which there are, which wait for a place, who is whose ancestor.

Decides when a child may have a REPL. Invariant: at depth 1 at most `MAX_LIVE_CHILDREN` are
open, below it `MAX_LIVE_BELOW` at each depth, and a node that was forgotten is never opened.
Does not decide what a node does (`machine`) or what it may spend (`ledger`).
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from abyme.core import events as ev
from abyme.core import recall
from abyme.core.effects import Asked, DoneCell, OpenSession, Result, RunCell
from abyme.core.ids import ROOT, BatchId, CallId, NodeId
from abyme.core.machine import Machine
from abyme.core.recall import Recall

MAX_LIVE_CHILDREN = 100
MAX_LIVE_BELOW = 32
"""REPLs of children open at once, at depth 1 and at each depth below; the others wait their
turn. Each takes 5 MB and up to 6 descriptors, of 1,024 mostly. A limit over all depths would
let parents that wait for children take the places that these need."""


@dataclass(slots=True)
class Node:
    """A node, and what the tree keeps for it."""

    id: NodeId
    machine: Machine
    model: ev.ModelFacts
    """Whose turns these are."""
    depth: int = 0
    context: ev.ContextPart | None = None
    """Its own context; None: that of `of` as it is."""
    of: NodeId = ROOT
    """Whose context that is a piece of."""
    seat: tuple[NodeId, BatchId, int] | None = None
    """Where its parent waits for it."""
    call: CallId = CallId(0)  # noqa: RUF009 - a number
    """Its number among the run's calls."""
    children: int = 0
    results: list[Result] = field(default_factory=list)
    """Of all its cells, in order: the guest's `calls`."""
    of_cell: int = 0
    """Length of `results` when the running cell began."""
    restore: tuple[Result, ...] = ()
    running: RunCell | None = None
    asked: list[Asked] = field(default_factory=list)
    """What the running cell was answered."""
    refusals: int = 0
    """Batches of the running cell that were refused."""
    done: list[DoneCell] = field(default_factory=list)
    """Cells whose work is in the REPL."""
    known: Recall = field(default_factory=Recall)
    """What the running cell had, before the process that ran it was killed."""
    asked_as: bytes = b""
    """`recall.key` of the request that it answers."""
    parked: bool = False
    """It lived when the run was cut off, and waits for its parent's cell to ask for it again."""

    def cell_begins(self, run: RunCell) -> None:
        """Note what is needed to run it again."""
        self.of_cell = len(self.results)
        self.running, self.refusals = run, 0
        self.asked.clear()

    def cell_over(
        self, event: ev.CellFinished | ev.SessionLost, late: Sequence[Result] = ()
    ) -> None:
        """Keep what a cell has done; of one that was undone, only the results of its calls.

        `late` are results that came before the cell ended and that it was not told of.
        """
        self.results += late
        undone = isinstance(event, ev.SessionLost) or event.ended in ("rolled_back", "lost")
        if undone:
            self.restore = (*self.restore, *self.results[self.of_cell :])
        else:
            self.restore = tuple(late)
            assert isinstance(event, ev.CellFinished)
            assert self.running is not None
            came_out = recall.cell_digest(event)
            self.done.append(DoneCell(run=self.running, asked=tuple(self.asked), came_out=came_out))
        self.running = None
        self.asked.clear()
        self.known = Recall()

    def cell_again(self) -> None:
        """Let the running cell begin anew; what it was answered waits to be asked for again."""
        del self.results[self.of_cell :]
        self.known = self.known.after(self.asked)
        self.asked.clear()


@dataclass(slots=True)
class Nodes:
    """Open nodes by id, and children that wait for a place."""

    _open: dict[NodeId, Node] = field(default_factory=dict)
    _waiting: deque[Node] = field(default_factory=deque)
    _live: Counter[int] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[NodeId]:
        return iter(list(self._open))

    def __getitem__(self, node: NodeId) -> Node:
        return self._open[node]

    def get(self, node: NodeId) -> Node | None:
        """Look an open node up."""
        return self._open.get(node)

    def add(self, node: Node) -> None:
        """Take a node in that needs no place: the root."""
        self._open[node.id] = node

    def wait(self, node: Node) -> None:
        """Let a child wait for a place."""
        self._waiting.append(node)

    def admitted(self) -> list[Node]:
        """Give places to those who wait, as far as there are any."""
        admitted: list[Node] = []
        full: deque[Node] = deque()
        for node in self._waiting:
            most = MAX_LIVE_CHILDREN if node.depth == 1 else MAX_LIVE_BELOW
            if self._live[node.depth] >= most:
                full.append(node)
                continue
            self._live[node.depth] += 1
            self._open[node.id] = node
            admitted.append(node)
        self._waiting = full
        return admitted

    def below(self, parent: NodeId) -> list[Node]:
        """List the open children of a node."""
        return [n for n in self._open.values() if n.seat is not None and n.seat[0] == parent]

    def forget_waiting(self, parent: NodeId) -> None:
        """Never open the children of a node that are not open yet."""
        self._waiting = deque(n for n in self._waiting if n.seat and n.seat[0] != parent)

    def restart(self) -> None:
        """Forget those who wait for a place; they have cost nothing and are asked for again."""
        self._waiting.clear()

    def drop(self, node: NodeId) -> None:
        """Let an open child go; its place is free."""
        gone = self._open.pop(node, None)
        if gone is not None:
            self._live[gone.depth] -= 1

    def is_cycle(self, node: Node, request: ev.Request) -> bool:
        """Tell whether a request repeats an ancestor's question on the ancestor's context."""
        context, of = context_of(node, request)
        above: Node | None = node
        while above is not None:
            same = above.context == context and (above.of == of or context is None)
            if same and above.machine.question == request.prompt:
                return True
            above = self._open.get(above.seat[0]) if above.seat else None
        return False


def context_of(parent: Node, request: ev.Request) -> tuple[ev.ContextPart | None, NodeId]:
    """Tell what a child's context is, and whose it is a piece of. None: the parent's own, which
    may itself be a piece of another node's.
    """
    if request.context is None:
        return parent.context, parent.of
    return request.context, parent.id


def opening(node: Node) -> OpenSession:
    """Start a REPL for a node that has had none."""
    return OpenSession(node=node.id, context=node.context, of=node.of)


def reopening(node: Node) -> OpenSession:
    """Start a REPL in place of one that is gone, and run its cells again."""
    if not node.machine.resumable:
        return opening(node)
    node.machine.reopen()
    return rebuilding(node)


def rebuilding(node: Node) -> OpenSession:
    """Start a REPL and run the node's cells in it."""
    return OpenSession(node=node.id, context=node.context, of=node.of, cells=tuple(node.done))
