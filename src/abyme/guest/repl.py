"""The loop of one REPL: a snapshot is left behind, a cell comes, runs, is told of.

Decides when there is a snapshot. Before a cell comes the process forks: the child runs
the cell and carries the state on; the parent stays behind as it was, and takes over
if the child dies. When the cell is done the child ends every other process of its
PID namespace: the snapshot, and whatever the cell has left running. A process with
other threads cannot be forked whole, so then the cell commits in place, and the
model is told. Invariant: exactly one process answers for a cell.

Nothing of this is seen by the code in a cell: no fork hook runs, and a seeded
`random` goes on over several cells as in plain CPython.
"""

import _signal  # type: ignore[import-not-found]  # see `interrupts`
import contextlib
import json
import mmap
import os
from _thread import _count as other_threads  # not from `threading`, which a cell may patch
from dataclasses import dataclass
from typing import Any, Final

from abyme.guest import cell as cells
from abyme.guest.calls import Calls
from abyme.guest.client import CELL, Client, Frame
from abyme.guest.interpreter import Builtins
from abyme.guest.interrupts import Interrupts
from abyme.guest.kernel.libc import fork_unseen
from abyme.guest.sink import Sink, show
from abyme.guest.surface import Surface, View
from abyme.wire import OUT_OF_MEMORY, encode, packets

RESERVE_BYTES: Final = 32 << 20
MAX_NOTES: Final = 20
MAX_NOTE_CHARS: Final = 500
MAX_DRAFT_CHARS: Final = 1 << 20
ROLL_BACK: Final = _signal.SIGUSR1
"""From the supervisor to the process that waits as the snapshot."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What a REPL is made of."""

    client: Client
    interrupts: Interrupts
    calls: Calls
    view: View
    maps: tuple[tuple[int, int], ...]
    """Memory of the view, to be sealed: (address, bytes)."""
    sink: Sink
    surface: Surface
    namespace: cells.Namespace


class Repl:
    """Serves cells until the host is gone."""

    def __init__(self, kit: Kit, *, output_chars: int, alone: bool, snapshots: bool) -> None:
        self._kit = kit
        self._output_chars = output_chars
        self._alone = alone
        self._snapshots = snapshots
        put_back = Builtins().restore
        self._runner = cells.Runner(kit.namespace, kit.sink, kit.interrupts, put_back)
        self._forked = False
        """The running cell has a snapshot behind it."""
        self._waits = False
        """This process is a snapshot."""
        self._on_roll_back = self._roll_back  # one bound method, to be compared by identity

    def serve(self, ready: Frame) -> None:
        """Say `ready` and run cells; ends with `HostGone`."""
        kit = self._kit
        kit.client.expect(CELL)
        kit.interrupts.install()
        if self._snapshots:
            _signal.signal(ROLL_BACK, self._on_roll_back)
        kit.interrupts.remember()
        kit.client.send(ready)
        while True:
            self._leave_snapshot()
            restored: list[Frame] = []
            while (frame := kit.client.receive(CELL))["t"] == "restore":
                restored += frame["results"]
            self._run({**frame, "restore": restored})

    def _leave_snapshot(self) -> None:
        """Fork, where that is possible, while the model thinks: no cell waits for it.

        Returns in the child, which will run the cell; in the parent after each roll-back
        a new child is made.
        """
        self._forked = self._snapshots and not other_threads()
        if not self._forked:
            return
        while (pid := fork_unseen()) != 0:
            self._waits = True
            _, status = os.waitpid(pid, 0)
            kill_others()
            self._waits = False
            code = os.waitstatus_to_exitcode(status)
            self._kit.client.send({"t": "rolled_back", "code": code})
        self._rehearse()

    def _rehearse(self) -> None:
        """Go through the motions of a cell.

        A page is copied on its first write after a fork; 300 of them are written by every
        cell, and that is best done while the model thinks.
        """
        kit = self._kit
        engine = kit.surface.names
        with contextlib.suppress(Exception):  # what a cell has broken is for the next to tell
            kit.view.restore()
            kit.namespace.update(engine)
            before = cells.fingerprints(kit.namespace, engine)
            self._runner.rehearse()
            frame = {"t": "finished", "changed": cells.changed(before, before), "draft": None}
            encode({**frame, "notes": self._taken_back(), "output": show("", 0, 1).text})
            kit.client.connected()
            kit.surface.draft()

    def _roll_back(self, *_: object) -> None:
        """Handle `ROLL_BACK`, which every process is sent: the snapshot ends the others."""
        if self._waits:
            kill_others()

    def _run(self, frame: Frame) -> None:
        kit, own_pid = self._kit, os.getpid()
        engine = kit.surface.names
        self._prepare(frame)
        before = cells.fingerprints(kit.namespace, engine)
        outcome = self._runner.run(frame["cell"], frame["code"])
        if os.getpid() != own_pid:
            os._exit(0)  # a fork of the cell's own fell out of the cell
        cells.adopt_streams(kit.sink)
        if self._forked and not kit.client.connected():
            os._exit(1)  # the cell has closed the wire; the snapshot still has it
        if self._forked and not has_room():
            os._exit(OUT_OF_MEMORY)  # what the cell keeps leaves no room to go on: roll back
        if outcome.text is None:
            kit.surface.settle()
        notes = [*outcome.notes, *kit.surface.notes, *kit.view.take_notes(), *self._taken_back()]
        finished = self._finished(frame["cell"], outcome, notes)
        finished["changed"] = cells.changed(before, cells.fingerprints(kit.namespace, engine))
        self._commit(finished)

    def _prepare(self, frame: Frame) -> None:
        kit = self._kit
        kit.view.restore()
        kit.namespace.update(kit.surface.names)
        kit.surface.begin()
        kit.interrupts.install()
        cells.adopt_streams(kit.sink)
        kit.calls.begin(frame)

    def _taken_back(self) -> list[str]:
        """Put the engine's names back, and say so."""
        kit, missing = self._kit, object()
        engine = kit.surface.names
        lost = [n for n, value in engine.items() if kit.namespace.get(n, missing) is not value]
        return [f"`{name}` belongs to the engine and was put back" for name in lost]

    def _finished(self, number: int, outcome: cells.Outcome, notes: list[str]) -> Frame:
        kit = self._kit
        text, lost_chars = kit.sink.take()
        kit.surface.names["last_output"] = text
        shown = show(text, lost_chars, self._output_chars)
        if self._snapshots and other_threads():
            notes.append("threads of this cell live on: until they end, no cell can be rolled back")
        return {
            "t": "finished",
            "cell": number,
            "output": shown.text,
            "dropped_chars": shown.dropped_chars,
            "error": outcome.text,
            "interrupted": outcome.interrupted,
            "draft": _short(kit.surface.draft()),
            "notes": [note[:MAX_NOTE_CHARS] for note in notes[:MAX_NOTES]],
            "can_roll_back": self._snapshots and not other_threads(),
        }

    def _commit(self, finished: Frame) -> None:
        kit = self._kit
        if finished["interrupted"]:
            kit.client.abandon()
        ready = list(packets(encode(finished)))  # what fails until here is rolled back
        if self._alone:
            kill_others()
            reap()
        kit.calls.open = False
        kit.client.send_packets(ready)


def has_room() -> bool:
    """Tell whether the engine can still work in what the limit on memory leaves."""
    try:
        mmap.mmap(-1, RESERVE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:  # address space is asked for and no page of it touched: 8,000 faults saved
        return False
    return True


def kill_others() -> None:
    """End every process of this PID namespace but the first one and this one."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, _signal.SIGKILL)


def reap() -> None:
    """Collect what `kill_others` has ended of this process's own children."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _short(draft: Any) -> Any:
    if isinstance(draft, str):
        return draft[:MAX_DRAFT_CHARS]
    try:
        return draft if len(json.dumps(draft)) <= MAX_DRAFT_CHARS else None
    except ValueError:  # a number of thousands of digits
        return None
