"""The only loop that waits. It performs effects through ports and feeds events back.

Rule 1: a record is in the journal before anything it causes is done (write ahead).
Rule 2: an attempt is journalled as reserved before it is sent.
Rule 3: the driver decides nothing: what to do comes from `Tree`, what happened from a port.
Invariant: when `run` returns or raises, no task, call or session of the run is left.
"""

import asyncio
import functools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec import structs

from abyme.core import effects as do
from abyme.core import events as ev
from abyme.core import shapes
from abyme.core.history import Past, written_for
from abyme.core.ids import ROOT, CallId, NodeId
from abyme.core.limits import CLOSING_S, closing_s
from abyme.core.tally import Tally
from abyme.core.tree import Tree
from abyme.errors import ModelError
from abyme.ports import Clock, Context, Journal, Model, ModelRequest, SandboxRun
from abyme.run import evidence
from abyme.run.sessions import Sessions

T = TypeVar("T")


BEAT_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Every outside thing of one run."""

    journal: Journal
    sandbox: SandboxRun
    context: Context
    models: Mapping[str, Model]
    clock: Clock
    seal: Callable[[str], Context]
    """A child's own text -> its context."""
    preview: Callable[[Context, str], str]
    """What a child is shown of a context of its own, and is asked -> the first look at it."""
    confirm: Callable[[int, float], Awaitable[bool]] | None = None
    """Calls, expected dollars -> the user's word; None: nobody can be asked."""
    misfit: Callable[[Any], str | None] | None = None
    """Why the run's answer is not of the shape that the user gave; None: the schema says all."""
    on_record: Callable[[ev.Record], None] | None = None
    on_text: Callable[[NodeId, str], None] | None = None


class Driver:
    """Drives one run."""

    def __init__(
        self, begins: ev.RunStarted | ev.RunResumed, ports: Ports, past: Past | None = None
    ) -> None:
        """`begins` is the first record; of a run that is resumed, with its `past`."""
        if past is not None:
            self.tree, self.tally = past.retraced.tree, past.tally
        else:
            assert isinstance(begins, ev.RunStarted)
            self.tree, self.tally = Tree(begins), Tally()
        self._begins = begins
        self._limits = begins.limits
        self._ports = ports
        self._began_s = ports.clock.now_s() - (past.retraced.at_s if past else 0.0)
        self._seq = past.next_seq if past else 0
        self._inbox: deque[tuple[NodeId, ev.AnyEvent]] = deque()
        self._wake = asyncio.Event()
        self._seed = self.tree.started.seed
        self._sessions = Sessions(
            ports.sandbox, ports.context, self._seed, ports.seal, ports.preview
        )
        self._closings: set[asyncio.Task[None]] = set()
        self._sent: set[CallId] = set()
        """Attempts that were handed to a model."""
        self._calls: dict[CallId, asyncio.Task[Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._broken: BaseException | None = None
        self._jitter = random.Random(self._seed)  # noqa: S311 - spreads retries, hides nothing

    async def run(self) -> ev.RunFinished:
        """Drive the run to its end.

        Raises:
            JournalError: a record could not be written; nothing was done on account of it.
        """
        self.post(ROOT, self._begins)
        self._spawn(self._beat())
        if self._limits.timeout_s is not None:
            for_closing_s = closing_s(self._limits.timeout_s)
            first_s = self._limits.timeout_s - for_closing_s - self.elapsed_s
            self._spawn(self._deadlines(max(0.0, first_s), for_closing_s))
        try:
            while self.tree.finished is None:
                await self._wake.wait()
                self._wake.clear()
                if self._broken is not None:
                    raise self._broken
                self._drain()
            await self._settle_down()
            return self._finish(self.tree.finished)
        finally:
            await self._abandon()

    def post(self, node: NodeId, event: ev.AnyEvent) -> None:
        """Bring a fact in. Call it in the loop's own thread."""
        self._inbox.append((node, event))
        self._wake.set()

    def stop(self) -> None:
        """Ask for an end: the first time with what is there, the second time at once."""
        if self.tree.finished is None:
            self.post(ROOT, ev.StopRequested())
            self._spawn(self._grace())

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return self._ports.clock.now_s() - self._began_s

    # -- the ring ----------------------------------------------------------------

    def _drain(self) -> None:
        """Take everything that has arrived as one group: record, flush, then act."""
        effects: list[do.AnyEffect] = []
        records: list[ev.Record] = []
        while self._inbox:
            node, event = self._inbox.popleft()
            effects += self._record(node, event, records)
        for effect in effects:
            if (written := written_for(effect)) is not None:
                self._record(effect.node, written, records)
        self._ports.journal.flush()
        if self._ports.on_record is not None:
            for record in records:
                self._ports.on_record(record)
        for effect in effects:
            self._perform(effect)

    def _record(
        self, node: NodeId, event: ev.AnyEvent, records: list[ev.Record]
    ) -> list[do.AnyEffect]:
        if isinstance(event, ev.CallsRequested) and self.tree.throws_away(node, event):
            event = structs.replace(event, requests=[], unread=len(event.requests))
        record = ev.Record(seq=self._seq, at_s=round(self.elapsed_s, 6), node=node, event=event)
        self._seq += 1
        self._ports.journal.append(record)
        records.append(record)
        self.tally.take(record)
        if isinstance(event, ev.RunFinished):
            return []
        return self.tree.step(record)

    def _perform(self, effect: do.AnyEffect) -> None:  # noqa: C901 - one case an effect
        match effect:
            case do.AskModel():
                self._send(effect)
            case do.CancelCall(call=call):
                if task := self._calls.get(call):
                    task.cancel()
            case do.RunCell():
                self._spawn(self._run_cell(effect))
            case do.AnswerBatch():
                self._spawn(self._sessions.answer(effect))
            case do.OpenSession():
                self._spawn(self._open(effect))
            case do.CloseSession(node=node):
                self._begin_close(node)
            case do.Confirm():
                self._spawn(self._confirm(effect))
            case do.EndCell(node=node, why=why):
                self._spawn(self._sessions.end_cell(node, why))
            case do.CheckEvidence():
                self._spawn(self._check(effect))
            case do.Finish():
                pass  # `run` sees it in the tree

    # -- effects -----------------------------------------------------------------

    def _send(self, effect: do.AskModel) -> None:
        task = self._spawn(self._attempt(effect))
        self._calls[effect.reserved.call] = task
        task.add_done_callback(lambda task: self._attempt_over(effect, task))

    async def _attempt(self, effect: do.AskModel) -> ev.CallSettled | ev.CallFailed:
        reserved = effect.reserved
        if effect.delay_s:
            await self._ports.clock.sleep(effect.delay_s * self._jitter.uniform(1.0, 1.25))
        request = ModelRequest(
            messages=effect.messages,
            max_output_tokens=effect.max_output_tokens,
            temperature=effect.temperature,
            stop=effect.stop,
            prefill=effect.prefill,
            schema=effect.schema or effect.form,
            logprobs=effect.logprobs,
            fresh=effect.fresh,
            fence=effect.fence,
        )
        model = self._ports.models[reserved.model]
        self._sent.add(reserved.call)
        try:
            reply = await model.complete(request, self._listener(effect))
        except ModelError as error:
            return ev.CallFailed(
                call=reserved.call, failure=_failure(error), usage=error.usage, sent=error.sent
            )
        wrong = None
        if effect.schema is not None:
            wrong = await asyncio.to_thread(shapes.reply_misfit, effect.schema, reply.text)
        return ev.CallSettled(
            call=reserved.call,
            text=reply.text,
            finish=reply.finish,
            usage=reply.usage,
            wrong=wrong,
            doubts=None if reply.doubts is None else list(reply.doubts),
        )

    def _attempt_over(
        self, effect: do.AskModel, task: asyncio.Task[ev.CallSettled | ev.CallFailed]
    ) -> None:
        """Journal the end of an attempt, of one cancelled before it began too."""
        call = effect.reserved.call
        del self._calls[call]
        sent = call in self._sent
        self._sent.discard(call)
        if task.cancelled():
            failure = ev.Failure(fault="cancelled", message="cancelled: nobody waits for it")
            self.post(effect.node, ev.CallFailed(call=call, failure=failure, sent=sent))
        elif task.exception() is None:
            self.post(effect.node, task.result())

    def _listener(self, effect: do.AskModel) -> Callable[[str], None] | None:
        on_text = self._ports.on_text
        if on_text is None or effect.reserved.purpose != "turn":
            return None
        return lambda piece: on_text(effect.node, piece)

    async def _open(self, effect: do.OpenSession) -> None:
        node = self.tree.node(effect.node)
        asked = node.machine.question if node is not None else ""
        if (happened := await self._sessions.open(effect, asked)) is not None:
            self.post(effect.node, happened)

    def _begin_close(self, node: NodeId) -> None:
        closing = asyncio.get_running_loop().create_task(self._sessions.close(node))
        self._closings.add(closing)
        closing.add_done_callback(self._closings.discard)
        closing.add_done_callback(self._done)

    async def _run_cell(self, effect: do.RunCell) -> None:
        node = effect.node
        self.post(node, await self._sessions.run_cell(effect, lambda event: self.post(node, event)))

    async def _confirm(self, effect: do.Confirm) -> None:
        confirm = self._ports.confirm
        allowed = confirm is not None and await confirm(effect.calls, effect.usd_micro / 1e6)
        self.post(effect.node, ev.BatchConfirmed(batch=effect.batch, allowed=allowed))

    async def _check(self, effect: do.CheckEvidence) -> None:
        node = effect.node
        look = functools.partial(self._sessions.look_up, node)
        found, refused = await evidence.looked_up(look, effect.evidence)
        derivations = await evidence.placed(look, effect.computed, effect.derivations)
        wrong = None
        if effect.schema is not None:
            wrong = await asyncio.to_thread(shapes.misfit, effect.schema, effect.value)
        if wrong is None and node == ROOT and self._ports.misfit is not None:
            wrong = await asyncio.to_thread(self._ports.misfit, effect.value)
        checked = ev.EvidenceChecked(
            found=found,
            missing=[one.quote for one in refused],
            wrong=wrong,
            refused=refused,
            derivations=derivations,
        )
        self.post(node, checked)

    async def _beat(self) -> None:
        """Note how long the run has been at work: a kill must not give it its time back."""
        while True:
            await self._ports.clock.sleep(BEAT_S)
            self._ports.journal.alive(self.elapsed_s)

    async def _deadlines(self, first_s: float, second_s: float) -> None:
        await self._ports.clock.sleep(first_s)
        self.post(ROOT, ev.DeadlinePassed())
        await self._ports.clock.sleep(second_s)
        self.post(ROOT, ev.DeadlinePassed(final=True))

    async def _grace(self) -> None:
        await self._ports.clock.sleep(CLOSING_S)
        self.post(ROOT, ev.DeadlinePassed(final=True))

    # -- the end -----------------------------------------------------------------

    async def _settle_down(self) -> None:
        """Wait for attempts that were cut off, so that each is journalled with its end."""
        while self._calls:
            await asyncio.wait(set(self._calls.values()))
            await asyncio.sleep(0)  # lets the callbacks of what has ended post it
        self._drain()

    def _finish(self, finish: do.Finish) -> ev.RunFinished:
        finished = ev.RunFinished(
            status=finish.status,
            value=finish.value,
            evidence=list(finish.evidence),
            derivations=list(finish.derivations),
            reason=finish.reason,
        )
        records: list[ev.Record] = []
        self._record(ROOT, finished, records)
        self._ports.journal.flush()
        if self._ports.on_record is not None:
            self._ports.on_record(records[0])
        return finished

    async def _abandon(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._sessions.settled()
        for node in self._sessions.nodes:
            self._begin_close(node)
        await asyncio.gather(*self._closings, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = self._broken or error
            self._wake.set()


def _failure(error: ModelError) -> ev.Failure:
    return ev.Failure(
        fault=error.failure,
        message=str(error),
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        status=error.status,
    )
