"""One REPL as the host sees it: cells in, typed events out, over packets of JSON.

Decides what a guest's frame means and when the session is dead. The schema of the frames
is in `frames`, on top of that file; here is what follows from it. Invariant: the
guest may be hostile. Frames are bounded in size, number and time; a frame out of
place (of a cell that never was, of a batch that is open already) ends the session with
`ProtocolViolation`; what a thread sends for a cell that has ended is dropped;
nothing a guest sends moves a budget, a deadline or the run's end.

Does not decide what is asked of a model, or whether: that is `on_event`'s receiver.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import structs

from abyme.core import events as ev
from abyme.core.effects import Budget, Result
from abyme.core.ids import BatchId
from abyme.errors import ProtocolViolation, SandboxError, SandboxUnavailable
from abyme.ports import SessionFacts
from abyme.sandboxes.wired import endings, frames, told
from abyme.sandboxes.wired.batches import Batches, TooMuch
from abyme.sandboxes.wired.body import Body, Use
from abyme.sandboxes.wired.ceilings import Ceilings, Idle
from abyme.sandboxes.wired.channel import Channel
from abyme.sandboxes.wired.ladder import Ladder, Step
from abyme.sandboxes.wired.seeking import Ask, Seeking
from abyme.sandboxes.wired.words import INTERRUPT, ROLL_BACK, Words
from abyme.wire import ENGINE_PROCESSES

OnEvent = Callable[[ev.CallsRequested | ev.AnswerSubmitted], None]

READY_TIMEOUT_S = 20.0
MAX_SUBMITS = 16
"""Told of as they come; of later ones only the last, which is read when the cell has ended."""
MAX_SUBMITS_SENT = 100_000
MAX_SUBMITTED_BYTES = 256 << 20
MAX_LATE_FRAMES = 20_000
"""Of threads whose cell has ended, until the next one ends."""
MAX_LATE_BYTES = frames.MAX_OPEN_BYTES
MAX_IDLE_DEATHS = 3
"""Between two cells, which nothing but the host's own processes can bring about."""
MAX_UNREAD_ANSWERS_BYTES = 64 << 20
"""Of questions to the context, which wait for a guest that asks on and on and does not read."""
LOOK_S = 0.2
"""What a cell uses is looked at this often, while it matters."""
TOO_LATE = ev.Failure(fault="cancelled", message="the cell that asked has ended")
TOO_MUCH = ev.Failure(
    fault="limit",
    message=f"calls that are open at once may have {frames.MAX_OPEN_BYTES >> 20} MB of text: "
    "make several batches, one after the other",
)
UNREAD = ev.Failure(
    fault="limit",
    message=f"answers of the context that are not read yet may have "
    f"{MAX_UNREAD_ANSWERS_BYTES >> 20} MB: ask for less, or one after the other",
)
NOTHING_LEFT = Budget(usd=None, calls=None, tokens=None, seconds=None, turns=0, depth=0)


@dataclass(slots=True)
class _Cell:
    """The running cell."""

    number: int
    on_event: OnEvent
    ladder: Ladder
    ended: asyncio.Future[ev.CellFinished]
    waiting: set[int] = field(default_factory=set)
    submits: int = 0
    submitted_bytes: int = 0
    last_submit: bytearray | None = None
    """As it came."""
    cpu_before_s: float | None = None
    report: frames.Finished | None = None
    """What the guest has said of its end; not the end yet while it is held."""
    may_keep: bool = False
    """The guest was told that it may keep the state of a cell that was interrupted."""
    compute_s: float = 0.0


class WiredSession:
    """Implements `abyme.ports.Session`, for any tier."""

    def __init__(  # noqa: PLR0913 - two sockets and the limits
        self,
        wire: socket.socket,
        control: socket.socket,
        *,
        cell_timeout_s: float,
        output_chars: int,
        max_processes: int | None,
        memory_bytes: int | None = None,
        seek: Ask | None = None,
    ) -> None:
        """`max_processes`: to be watched from here, where the kernel does not count them; `seek`
        answers what a cell asks of its context.
        """
        self.facts = SessionFacts(python="", snapshots=False, layers=())
        self._channel = Channel(wire, self._receive, self._broken, self._wants)
        self._words = Words(control)
        self._ceilings = Ceilings(cell_timeout_s, output_chars, max_processes, memory_bytes)
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[frames.Ready] = self._loop.create_future()
        self._body: Body | None = None
        self._gone = False
        self._cell: _Cell | None = None
        self._coming = False
        """`run_cell` was called, and its cell has not begun."""
        self._stopped_before: str | None = None
        """Why the cell that is coming must not begin."""
        self._timer: asyncio.TimerHandle | None = None
        self._can_roll_back = False
        self._batches = Batches()
        self._seeking = Seeking(seek, self._sought)
        self._cells_ended: set[int] = set()
        self._late_frames = 0
        self._late_bytes = 0
        self._roll_backs = 0
        self._died_idle = 0
        """Roll-backs since the last cell ended."""
        self._idle_timer: asyncio.TimerHandle | None = None
        """Set from then on, where what goes on between cells is looked at."""
        self._dead: SandboxError | None = None
        self.last_end: endings.End | None = None
        """How the cell ended with which the session died, if one ran."""

    def begin(self, seed: int) -> None:
        """Tell the REPL the seed of its `random`; no cell can run before."""
        self._channel.send(told.begin(seed))

    async def opened(self, body: Body, python: str, packages: tuple[str, ...] = ()) -> None:
        """Wait until the REPL says which layers it has verified.

        Raises:
            SandboxUnavailable: if one is missing, or it does not come up.
        """
        self._body = body
        try:
            ready = await asyncio.wait_for(asyncio.shield(self._ready), READY_TIMEOUT_S)
        except (SandboxError, TimeoutError) as error:
            await self.aclose()
            raise SandboxUnavailable(f"the jail did not come up: {error or 'no answer'}") from None
        self._can_roll_back = ready.snapshots
        layers = tuple(ready.layers)
        self.facts = SessionFacts(
            python=python, snapshots=ready.snapshots, layers=layers, packages=packages
        )

    @property
    def closed(self) -> bool:
        """Whether all its processes are gone."""
        return self._dead is not None and (self._body is None or self._gone)

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
        """Run one cell; see `abyme.ports.Session.run_cell`.

        From this call on, not only once it is awaited, `end_cell` means this cell.
        """
        if self._cell is None:
            self._coming, self._stopped_before = True, None
        return self._run_cell(cell, code, restore, budget, on_event, patience)

    async def _run_cell(  # noqa: PLR0913, PLR0917 - as `run_cell`
        self,
        cell: int,
        code: str,
        restore: Sequence[Result],
        budget: Budget,
        on_event: OnEvent,
        patience: float,
    ) -> ev.CellFinished:
        if self._cell is not None:
            raise SandboxError("a cell is running already")
        await self._words.all_heard()
        if self._dead is not None:
            raise self._dead
        self._stop_idle_looks()
        now_s = self._loop.time()
        timeout_s = self._ceilings.cell_timeout_s * patience
        ladder = Ladder(now_s, timeout_s, self._can_roll_back)
        running = _Cell(cell, on_event, ladder, self._loop.create_future())
        self._cell, self._coming = running, False
        why, self._stopped_before = self._stopped_before, None
        if why is not None:
            code = ""  # stopped before it began: what is restored is told all the same
        try:
            where = told.Where(self._batches.cell_begins(), self._roll_backs)
            self._channel.send(told.cell(cell, code, where=where, restore=restore, budget=budget))
            self._set_timer(running)
            finished = await running.ended
            if why is not None and finished.ended == "clean":
                return structs.replace(finished, ended="interrupted", limit=why)
            return finished
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._cell = None

    async def answer(
        self,
        batch: BatchId,
        *,
        results: Sequence[Result],
        refused: ev.Failure | None,
        budget: Budget,
    ) -> None:
        """Unblock the guest. An answer that came too late is dropped."""
        running = self._cell
        if self._dead is not None or running is None or batch not in running.waiting:
            return
        running.waiting.discard(batch)
        self._batches.answered(batch)
        running.ladder.calls_closed(self._loop.time())
        self._channel.send(told.answer(batch, results, refused, budget))

    def end_cell(self, why: str) -> None:
        """Interrupt the running cell by the ladder."""
        if self._cell is not None and self._dead is None:
            self._take(self._cell.ladder.stop(why, self._loop.time()))
            self._set_timer(self._cell)
        elif self._coming:
            self._stopped_before = why

    async def aclose(self) -> None:
        """Kill every process of the session. Safe to repeat."""
        self._die(SandboxError("the session was closed"))
        if self._body is not None:
            self._body.kill()
            await self._body.gone()
            self._gone = True

    def _broken(self, error: SandboxError | None) -> None:
        self._die(error or SandboxError(self._why_gone()))

    def _receive(self, frame: frames.GuestFrame) -> None:
        match frame:
            case frames.Ready() if not self._ready.done():
                self._ready.set_result(frame)
            case frames.Refused() if not self._ready.done():
                self._die(SandboxUnavailable(f"this layer is not on: {frame.layer}"))
            case frames.Piece() | frames.Calls() | frames.Submit():
                self._in_cell(frame)
            case frames.Seeks():
                self._current(frame.cell)
                self._seeking.begin(frame.batch, frame.wanted)
            case frames.Finished():
                self._ended(frame)
            case frames.Kept():
                self._kept(self._current(frame.cell))
            case frames.RolledBack():
                self._rolled_back(frame)
            case _:
                raise ProtocolViolation("the guest sent a frame that does not belong here")

    def _wants(self, head: frames.Head, body: bytearray) -> bool:
        """Tell whether a frame is to be read now. What comes in any number is not: what
        is late, and answers of which only the last will count.
        """
        if head.t not in frames.OF_A_CELL:
            return True
        if head.cell in self._cells_ended:
            self._too_late(head, len(body))
            return False
        running = self._current(head.cell)
        if running.report is not None:
            self._too_late(head, len(body))
            return False
        if head.t != "submit":
            return True
        running.submits += 1
        running.submitted_bytes += len(body)
        if running.submits > MAX_SUBMITS_SENT or running.submitted_bytes > MAX_SUBMITTED_BYTES:
            raise ProtocolViolation("the guest submitted too much in one cell")
        if running.submits < MAX_SUBMITS:
            return True
        running.last_submit = body
        return False

    def _in_cell(self, frame: frames.Piece | frames.Calls | frames.Submit) -> None:
        running = self._current(frame.cell)
        if isinstance(frame, frames.Submit):
            running.on_event(_submitted(frame))
            return
        if isinstance(frame, frames.Piece):
            self._batches.piece(frame)
            return
        try:
            arrived = self._batches.calls(frame)
        except TooMuch:
            self._channel.refuse(told.answer(frame.batch, (), TOO_MUCH, NOTHING_LEFT))
            return
        if arrived is None:
            return
        running.waiting.add(frame.batch)
        running.ladder.calls_opened(self._loop.time())
        if running.cpu_before_s is None and (now := self._look()) is not None:
            running.cpu_before_s = now.cpu_s
        self._set_timer(running)
        asked = ev.CallsRequested(
            cell=frame.cell,
            batch=BatchId(frame.batch),
            purpose=frame.purpose,
            requests=arrived.requests,
            task=arrived.task,
        )
        running.on_event(asked)

    def _too_late(self, head: frames.Head, size: int) -> None:
        """Drop what a thread has sent that outlived its cell; it is told, if it waits."""
        self._late_frames += 1
        self._late_bytes += size
        if self._late_frames > MAX_LATE_FRAMES or self._late_bytes > MAX_LATE_BYTES:
            raise ProtocolViolation("the guest sends on and on for a cell that has ended")
        if head.t == "submit":
            return
        if head.t == "seek":
            self._channel.refuse(told.answer(head.batch, (), TOO_LATE, NOTHING_LEFT))
            return
        self._batches.late(head.batch)
        if head.t == "calls" and not head.more:
            self._channel.refuse(told.answer(head.batch, (), TOO_LATE, NOTHING_LEFT))

    def _sought(self, batch: int, result: Result | None, failure: ev.Failure | None) -> None:
        results = () if result is None else (result,)
        if result is not None:
            size = len(result.text or "") + self._channel.unread_bytes
            if size > MAX_UNREAD_ANSWERS_BYTES:
                results, failure = (), UNREAD
        try:
            self._channel.refuse(told.answer(batch, results, failure, NOTHING_LEFT))
        except ProtocolViolation as error:  # also where no frame of the guest is being read
            self._die(error)

    def _ended(self, frame: frames.Finished) -> None:
        running = self._current(frame.cell)
        if running.ended.done() or running.report is not None:
            raise ProtocolViolation("the guest ended a cell twice")
        now_s = self._loop.time()
        running.compute_s = round(running.ladder.compute_s(now_s, self._cpu_s(running)), 4)
        running.report = frame
        if frame.held:
            self._take(running.ladder.felt(now_s))
            self._set_timer(running)
        else:
            self._kept(running)

    def _kept(self, running: _Cell) -> None:
        """End the running cell with its state kept."""
        report = running.report
        if report is None or running.ended.done() or (report.held and not running.may_keep):
            raise ProtocolViolation("the guest kept what it was not told to")
        self._can_roll_back = report.can_roll_back
        self._over(
            running,
            endings.finished(
                report,
                self._end(running, running.ladder.limit),
                output_chars=self._ceilings.output_chars,
            ),
        )

    def _rolled_back(self, frame: frames.RolledBack) -> None:
        if frame.number != self._roll_backs + 1:
            raise ProtocolViolation("the guest has miscounted its roll-backs")
        self._roll_backs = frame.number
        self._can_roll_back = True
        running = self._cell
        if running is None or running.ended.done():
            self._died_idle += 1  # nothing is lost: the snapshot is as the process was
            if self._died_idle > MAX_IDLE_DEATHS:
                self._die(SandboxError("the REPL dies again and again while no cell runs"))
            return
        if running.report is None:
            used = self._use(running)
            running.compute_s = round(running.ladder.compute_s(self._loop.time(), used.cpu_s), 4)
        self._over(
            running,
            endings.rolled_back(
                running.number,
                running.report,
                self._end(running, running.ladder.limit or endings.crash(frame.code)),
                output_chars=self._ceilings.output_chars,
            ),
        )

    def _end(self, running: _Cell, limit: str | None) -> endings.End:
        """Put together what is known of a cell's end."""
        reached = running.ladder.reached
        if limit == "cell_timeout_s":
            reached = self._ceilings.compute(running.compute_s)
        elif limit == "memory_bytes" and reached is None:
            reached = self._ceilings.memory()
        return endings.End(limit, reached, running.compute_s)

    def _over(self, running: _Cell, finished: ev.CellFinished) -> None:
        last = None if running.last_submit is None else frames.decode(running.last_submit)
        self._batches.cell_ended()
        self._seeking.cancel()
        self._cells_ended.add(running.number)
        self._late_frames = self._late_bytes = 0
        self._died_idle = 0
        if isinstance(last, frames.Submit):
            running.on_event(_submitted(last))
        running.ended.set_result(finished)
        if self._watches:
            idle = Idle(self._ceilings, running.number, snapshots=self.facts.snapshots)
            self._idle_timer = self._loop.call_later(idle.wait_s, self._look_idle, idle)

    def _look_idle(self, idle: Idle) -> None:
        """Look at what a cell has left running, or one that has only said that it ended."""
        used = self._look()
        if used is None or self._dead is not None:
            return
        why = idle.looked(used, self._loop.time(), can_roll_back=self._can_roll_back)
        if why is not None:
            self._die(SandboxError(why))
        else:
            self._idle_timer = self._loop.call_later(idle.wait_s, self._look_idle, idle)

    def _stop_idle_looks(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _current(self, cell: int) -> _Cell:
        running = self._cell
        if running is None or cell != running.number:
            raise ProtocolViolation("the guest spoke of a cell that is not running")
        return running

    def _tick(self) -> None:
        """Take the step that is due when the cell's timer went off."""
        running = self._cell
        if running is None or running.ended.done() or self._dead is not None:
            return
        self._timer = None
        used, now_s = self._use(running), self._loop.time()
        running.ladder.looked(now_s, forked=used.processes > ENGINE_PROCESSES)
        step = running.ladder.due(now_s, used.cpu_s, ending=used.ending)
        if step is None and (passed := self._ceilings.passed(used)) is not None:
            limit, reached = passed
            step = running.ladder.stop(limit, now_s, reached)
        self._take(step)
        self._set_timer(running, used.cpu_s)

    def _set_timer(self, running: _Cell, cpu_s: float = 0.0) -> None:
        """Come back when the next step may be due, or to look at what the cell uses.

        A look that is due is never put off: a cell that calls all the time would not be seen.
        """
        now_s = self._loop.time()
        wait_s = running.ladder.wait_s(now_s, cpu_s)
        if running.ladder.step is None and (running.waiting or self._watches):
            wait_s = min(wait_s, LOOK_S)
        if self._timer is not None:
            wait_s = min(wait_s, self._timer.when() - now_s)
            self._timer.cancel()
            self._timer = None
        if self._dead is None:
            self._timer = self._loop.call_later(wait_s, self._tick)

    @property
    def _forks(self) -> bool:
        """Tell whether there is a PID namespace: only there a cell can fork."""
        return "pid_namespace" in self.facts.layers

    def _take(self, step: Step | None) -> None:
        """Take a step of the ladder."""
        if step is None:
            return
        running = self._cell
        if step == "kill":
            self._die(SandboxError(self._why_gone()))
        elif step == "keep" and running is not None:
            running.may_keep = True
            self._channel.send(told.keep(running.number))
        elif self._forks:
            self._words.say(INTERRUPT if step == "interrupt" else ROLL_BACK)
        elif self._body is not None:
            self._body.interrupt()

    def _use(self, running: _Cell) -> Use:
        """Processor time since the cell first waited for a call, 0 before; processes now."""
        looks = running.cpu_before_s is not None or running.ladder.step or self._watches
        now = self._look() if looks else None
        if now is None:
            return Use(0.0, 0)
        before_s = running.cpu_before_s
        return replace(now, cpu_s=0.0 if before_s is None else max(0.0, now.cpu_s - before_s))

    def _cpu_s(self, running: _Cell) -> float:
        """Processor time since the cell first waited for a call; a cell that never did is not
        looked at for it, which costs a third of an empty one.
        """
        return 0.0 if running.cpu_before_s is None else self._use(running).cpu_s

    @property
    def _watches(self) -> bool:
        """Tell whether a cell may use what nobody counts but this session."""
        most = self._ceilings
        return most.max_processes is not None or (self._forks and most.memory_bytes is not None)

    def _look(self) -> Use | None:
        return None if self._body is None else self._body.use()

    def _why_gone(self) -> str:
        running = self._cell
        if running is None:
            return "the REPL has ended"
        ladder = running.ladder
        if not running.ended.done():
            running.compute_s = round(ladder.compute_s(self._loop.time(), self._cpu_s(running)), 4)
        end = self._end(running, ladder.limit)
        cause = f" after {end.limit}" if end.limit else ""
        cause += f" ({end.reached})" if end.reached else ""
        back = "there was no snapshot to go back to" if not ladder.can_roll_back else ""
        tail = f": {back}" if back else ""
        return f"the REPL was lost in cell {running.number}{cause}{tail}"

    def _die(self, error: SandboxError) -> None:
        if self._dead is not None:
            return
        self._dead = error
        self._seeking.cancel()
        self._stop_idle_looks()
        self._channel.close()
        self._words.close()
        if self._body is not None:
            self._body.kill()
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # it may never be asked for
        running = self._cell
        if running is not None and not running.ended.done():
            running.compute_s = round(running.ladder.compute_s(self._loop.time()), 4)
            self.last_end = self._end(running, running.ladder.limit)
            running.ended.set_exception(error)
            running.ended.exception()  # its task may be cancelled before it asks


def _submitted(frame: frames.Submit) -> ev.AnswerSubmitted:
    return ev.AnswerSubmitted(
        cell=frame.cell,
        value=frame.value,
        evidence=list(frame.evidence),
        derivations=list(frame.derivations),
    )
