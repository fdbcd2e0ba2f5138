"""The loop of one REPL: a snapshot is left behind, a cell comes, runs, is told of.

Decides when there is a snapshot. Before a cell comes the process forks: the child runs
the cell and carries the state on; the parent stays behind as it was, and takes over
if the child dies. When the cell is done the child ends every other process of its
PID namespace: the snapshot, and whatever the cell has left running. A cell that was
interrupted is told of first, and then waits for the host's word: to keep what it has, or to be
rolled back. A process with other threads cannot be forked whole, so then the cell commits in
place, and the model is told. Invariant: exactly one process answers for a cell; which one is
counted in roll-backs, so that a cell sent to one that is gone is run by none.

Nothing of this is seen by the code in a cell: no fork hook runs, and a seeded
`random` goes on over several cells as in plain CPython.
"""

import _signal  # type: ignore[import-not-found]  # see `interrupts`
import builtins
import contextlib
import json
import mmap
import os
import random
from _thread import _count as other_threads  # not from `threading`, which a cell may patch
from dataclasses import dataclass, field
from errno import ENOMEM
from time import sleep  # as above
from typing import Any, Final, NoReturn

from abyme.guest import cell as cells
from abyme.guest.calls import Calls
from abyme.guest.client import CELL, Client, Frame
from abyme.guest.digest import Room, digest
from abyme.guest.ground import Ground
from abyme.guest.imports import Gate
from abyme.guest.interrupts import Interrupts
from abyme.guest.kernel.libc import fork_unseen
from abyme.guest.names import Watch
from abyme.guest.sink import Sink, show
from abyme.guest.surface import Surface, View
from abyme.wire import OUT_OF_MEMORY, RESERVE_BYTES, encode, packets

MAX_NOTES: Final = 20
MAX_NOTE_CHARS: Final = 500
MAX_DRAFT_CHARS: Final = 1 << 20
THREAD_LOOK_S: Final = 0.005
THREAD_LOOKS: Final = 40
"""Until threads that were called off have ended, if they do."""
SUPERVISOR: Final = 1
"""Its process number. It inherits the process of a cell whose snapshot somebody has killed."""
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
    gate: Gate = field(default_factory=Gate)
    """What cells may import; open, unless somebody has closed it."""


class Repl:
    """Serves cells until the host is gone."""

    def __init__(self, kit: Kit, *, output_chars: int, alone: bool, snapshots: bool) -> None:
        self._kit = kit
        self._builtins = kit.namespace.get("__builtins__")
        self._output_chars = output_chars
        self._alone = alone
        self._snapshots = snapshots
        vars(builtins).update(kit.surface.lent)
        put_back = Ground().restore
        self._runner = cells.Runner(kit.namespace, kit.sink, kit.interrupts, put_back)
        self._forked = False
        """The running cell has a snapshot behind it."""
        self._waits = False
        """This process is a snapshot."""
        self._held = False
        """The running cell is told of, and waits beside its snapshot for the host's word."""
        self._roll_backs = 0
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
        random.seed(kit.client.receive(CELL)["seed"])  # before there is a snapshot to go back to
        while True:
            self._leave_snapshot()
            self.run_next()

    def run_next(self) -> None:
        """Wait for a cell, run it and tell of it."""
        own_pid = os.getpid()
        try:
            self._run(self._next_cell())
        except (MemoryError, OSError) as error:
            if not self._alone or not _lacks_memory(error):
                raise
            os._exit(OUT_OF_MEMORY if os.getpid() == own_pid else 0)

    def _next_cell(self) -> Frame:
        """Wait for a cell. What was meant for a process that is gone is dropped."""
        restored: list[Frame] = []
        while True:
            frame = self._kit.client.receive(CELL)
            if frame["t"] == "restore":
                restored += frame["results"]
            elif frame["t"] == "cell" and frame["roll_backs"] == self._roll_backs:
                return {**frame, "restore": restored}
            else:
                restored.clear()

    def _leave_snapshot(self) -> None:
        """Fork, where that is possible, while the model thinks: no cell waits for it.

        Returns in the child, which will run the cell; in the parent after each roll-back
        a new child is made.
        """
        self._forked = self._snapshots and not other_threads()
        if not self._forked:
            return
        while (pid := _fork()) != 0:
            if pid is None:
                self._forked = False
                return
            self._waits = True
            _, status = os.waitpid(pid, 0)
            kill_others()
            self._waits = False
            self._roll_backs += 1
            code = os.waitstatus_to_exitcode(status)
            self._kit.client.send({"t": "rolled_back", "code": code, "number": self._roll_backs})
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
            kit.gate.begin()
            watch = Watch(kit.namespace, engine, "")
            self._runner.rehearse()
            digest([""], Room())
            frame = {"t": "finished", "changed": watch.changed(), "draft": None}
            encode({**frame, "notes": self._taken_back(), "output": show("", 0, 1).text})
            kit.client.connected()
            kit.surface.draft()

    def _roll_back(self, *_: object) -> None:
        """Handle `ROLL_BACK`, which every process is sent: the snapshot ends the others."""
        if self._waits:
            kill_others()
        elif self._held and os.getppid() == SUPERVISOR:
            os._exit(1)  # the snapshot was killed meanwhile: there is nothing to go back to

    def _run(self, frame: Frame) -> None:
        kit, own_pid = self._kit, os.getpid()
        engine = kit.surface.names
        self._prepare(frame)
        watch = Watch(kit.namespace, engine, frame["code"])
        outcome = self._runner.run(frame["cell"], frame["code"])
        if os.getpid() != own_pid:
            os._exit(0)  # a fork of the cell's own fell out of the cell
        kit.interrupts.install()
        cells.adopt_streams(kit.sink)
        if self._forked and not kit.client.connected():
            os._exit(1)  # the cell has closed the wire; the snapshot still has it
        if self._forked and not has_room():
            self._give_up(frame["cell"], outcome)
        if other_threads() and not outcome.hit:
            self._call_threads_off()
        if outcome.text is None:
            kit.surface.settle()
        finished = self._finished(frame["cell"], outcome)
        finished["changed"] = watch.changed(self._runner.take_tree())
        self._commit(finished)

    def _call_threads_off(self) -> None:
        """End sub-calls of threads that outlive their cell: no answer would come, and while the
        threads wait, there is no snapshot.
        """
        self._kit.calls.open = False
        if self._kit.client.abandon():
            for _ in range(THREAD_LOOKS):
                if not other_threads():
                    return
                sleep(THREAD_LOOK_S)

    def _give_up(self, number: int, outcome: cells.Outcome) -> NoReturn:
        """Roll back, because what the cell keeps leaves no room to go on. Says what it can."""
        with contextlib.suppress(Exception):
            finished = {**self._finished(number, outcome), "changed": [], "held": True}
            self._kit.client.send(finished)
        os._exit(OUT_OF_MEMORY)

    def _prepare(self, frame: Frame) -> None:
        kit = self._kit
        kit.view.restore()
        kit.namespace.update(kit.surface.names)
        kit.namespace["__builtins__"] = self._builtins
        kit.surface.begin()
        kit.gate.begin()
        kit.interrupts.install()
        cells.adopt_streams(kit.sink)
        kit.calls.begin(frame)

    def _taken_back(self) -> list[str]:
        """Put the engine's names back, and say so."""
        kit, missing = self._kit, object()
        engine = kit.surface.names
        lost = [n for n, value in engine.items() if kit.namespace.get(n, missing) is not value]
        for name in lost:  # now: what goes may have a finalizer, which is this cell's
            kit.namespace[name] = engine[name]
        return [f"`{name}` belongs to the engine and was put back" for name in lost]

    def _finished(self, number: int, outcome: cells.Outcome) -> Frame:
        kit = self._kit
        notes = [*outcome.notes, *kit.surface.notes, *kit.view.take_notes(), *self._taken_back()]
        text, lost_chars = kit.sink.take()
        kit.surface.names["last_output"] = text
        shown = show(text, lost_chars, self._output_chars)
        held = outcome.hit and self._forked and os.getppid() != SUPERVISOR
        if self._snapshots and other_threads() and not held:
            notes.append("threads of this cell live on: until they end, no cell can be rolled back")
        return {
            "t": "finished",
            "cell": number,
            "output": shown.text,
            "dropped_chars": shown.dropped_chars,
            "error": outcome.text,
            "interrupted": outcome.interrupted or (outcome.hit and not held),
            "draft": _short(kit.surface.draft()),
            "notes": [note[:MAX_NOTE_CHARS] for note in notes[:MAX_NOTES]],
            "can_roll_back": self._snapshots and not other_threads(),
            "held": held,
            "violations": kit.gate.attempts(),
        }

    def _commit(self, finished: Frame) -> None:
        kit = self._kit
        number, held = finished["cell"], finished["held"]
        if finished["interrupted"] or held:
            kit.client.abandon()
        if held:
            kit.calls.open = False
            self._held = True
            kit.client.send(finished)
            while kit.client.receive(CELL) != {"t": "keep", "cell": number, "parts": 0}:
                pass
            self._held = False
            finished = {"t": "kept", "cell": number}
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


def _fork() -> int | None:
    """Fork; None: the kernel has no process to give. It counts threads until they are collected,
    which is a moment after they have ended.
    """
    for _ in range(THREAD_LOOKS):
        try:
            return fork_unseen()
        except OSError:
            sleep(THREAD_LOOK_S)
    return None


def kill_others() -> None:
    """End every process of this PID namespace but the first one and this one."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, _signal.SIGKILL)


def _lacks_memory(error: MemoryError | OSError) -> bool:
    """Tell whether the engine's own steps found no memory, beside what the cell keeps."""
    return isinstance(error, MemoryError) or error.errno == ENOMEM


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
