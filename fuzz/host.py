"""A real session of the host, and a hostile guest at the other end of its wire.

Decides which promises hold after every step: only a typed error of the sandbox comes out, its
text holds nothing of the guest's and nothing of the host's, what waits in memory is
bounded, a session that has seen a violation is dead and can be closed, and what is told to
the run belongs to the cell that runs. Time is a number here; nothing waits.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import Coroutine
from typing import Any

from abyme.core import events as ev
from abyme.core.effects import Budget, Result
from abyme.errors import ProtocolViolation, SandboxError
from abyme.sandboxes.container.link import Link
from abyme.sandboxes.wired import channel, frames
from abyme.sandboxes.wired.body import Use
from abyme.sandboxes.wired.session import WiredSession
from abyme.wire import (
    MAX_FRAME_BYTES,
    PACKET_BYTES,
    Channel,
    PacketReader,
    WireError,
    encode,
    packets,
)
from fuzz.choices import Choices
from fuzz.frames import FRAMES, MARK, spoil, valid

BUDGET = Budget(usd=1.0, calls=10, tokens=100, seconds=60.0, turns=5, depth=2)
MAX_STEPS = 60
ENDS = ("clean", "raised", "interrupted", "rolled_back")
PLAIN_WORDS = re.compile(r"[A-Za-z0-9 .,:;()_'-]*")


class HandClock(asyncio.SelectorEventLoop):
    """An event loop whose time is moved by hand, and that never waits."""

    now_s = 1_000.0

    def time(self) -> float:
        return self.now_s

    def settle(self) -> None:
        """Run whatever can run now."""
        for _ in range(4):
            self.call_soon(self.stop)
            self.run_forever()


class FakeBody:
    """Processes that there are not."""

    killed = False
    cpu_s = 0.0

    def interrupt(self) -> None:
        """Nobody to interrupt."""

    def kill(self) -> None:
        self.killed = True

    async def gone(self) -> None:
        """They are."""

    def use(self) -> Use | None:
        return Use(self.cpu_s, 3)


class Play:
    """One session from its beginning to its end."""

    def __init__(self, loop: HandClock, choices: Choices) -> None:
        self.loop = loop
        self.choices = choices
        self.body = FakeBody()
        self.number = 0
        self.running: asyncio.Task[ev.CellFinished] | None = None
        self.open: list[ev.CallsRequested] = []
        self.events = 0
        self.error: SandboxError | None = None
        wire, self.wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, self.control = socket.socketpair()
        self.wire.setblocking(False)
        self.control.setblocking(False)
        self.session = self.run(_made(wire, control))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def go(self) -> None:
        """Open it, do what the bytes say, close it."""
        self.say({"t": "ready", "layers": ["pid_namespace"], "snapshots": True})
        self.run(self.session.opened(self.body, "3.12.1"))
        steps = (
            self.say_right, self.say_right, self.say_right, self.say_right, self.begin, self.begin,
            self.answer, self.read, self.stop, self.pass_time, self.say_wrong, self.send_raw,
            self.send_body, self.begin_frame,
        )  # fmt: skip
        self.begin()
        for _ in range(MAX_STEPS):
            if not self.choices.left or self.session._dead is not None:
                break
            self.choices.pick(steps)()
            self.loop.settle()
            self.check()
        self.close()

    def begin(self) -> None:
        if self.running is not None:
            return
        self.hear_words()
        self.number += 1
        restore = [Result(call=1, text="kept")] if self.number % 2 else []
        run = self.session.run_cell(
            self.number, "pass", restore=restore, budget=BUDGET, on_event=self.on_event
        )
        self.running = self.loop.create_task(run)

    def on_event(self, event: ev.CallsRequested | ev.AnswerSubmitted) -> None:
        assert event.cell == self.number, "an event of another cell"
        assert self.running is not None, "an event while no cell runs"
        self.events += 1
        if isinstance(event, ev.CallsRequested):
            assert event.batch not in {one.batch for one in self.open}, "a batch twice"
            assert len(event.requests) <= frames.MAX_BATCH
            self.open.append(event)

    def frame(self) -> dict[str, Any]:
        batches = self.session._batches
        return valid(
            self.choices.pick(FRAMES),
            cell=self.number - self.choices.pick((0,) * 14 + (1, -1)),
            batch=batches.next + self.choices.pick((0, 0, 0, 1, 2, 3, 4)),
            roll_back=self.session._roll_backs + 1,
        )

    def say_right(self) -> None:
        self.say(self.frame())

    def say_wrong(self) -> None:
        frame = self.frame()
        spoil(frame, self.choices)
        self.say(frame)

    def say(self, frame: dict[str, Any]) -> None:
        for packet in packets(encode(frame)):
            self.send(packet)

    def send_raw(self) -> None:
        self.send(self.choices.some())

    def send_body(self) -> None:
        """A frame whose body is anything, or JSON with a piece of it replaced."""
        body = self.choices.some()
        if body[:1] == b"{":
            whole = encode(self.frame())[4:]
            at = self.choices.byte() % len(whole)
            body = whole[:at] + body[1:] + whole[at + self.choices.byte() % 8 :]
        self.send(b"\1" + len(body).to_bytes(4, "big") + body)

    def begin_frame(self) -> None:
        """A beginning and, sooner or later, something else."""
        size = self.choices.pick(
            (0, 1, 100, 1 << 16, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, 1 << 31)
        )
        self.send(b"\1" + size.to_bytes(4, "big") + self.choices.some())

    def send(self, packet: bytes) -> None:
        try:
            self.wire.send(packet)
        except BlockingIOError:
            self.loop.settle()
        except OSError:
            assert self.session._dead is not None, "a living session does not listen"

    def answer(self) -> None:
        if self.open:
            asked = self.open.pop(0)
            results = [Result(call=1, text="x") for _ in asked.requests]
            self.run(self.session.answer(asked.batch, results=results, refused=None, budget=BUDGET))

    def stop(self) -> None:
        self.session.end_cell(self.choices.pick(("stopped", "timeout_s", "max_usd")))
        self.loop.settle()
        self.hear_words()

    def hear_words(self) -> None:
        """What the supervisor does with the host's words."""
        try:
            self.control.send(self.control.recv(64))
        except OSError:
            return

    def read(self) -> None:
        try:
            while self.wire.recv(PACKET_BYTES + 1):
                continue
        except OSError:
            return

    def pass_time(self) -> None:
        self.loop.now_s += self.choices.pick((0.1, 0.6, 2.1, 9.0, 30.0))
        self.body.cpu_s += 0.1
        self.loop.settle()
        self.hear_words()

    def check(self) -> None:
        """What must hold, whatever was said."""
        session = self.session
        held = session._batches._bytes
        assert sum(held.values()) <= frames.MAX_OPEN_BYTES
        assert len(session._channel._outgoing) <= channel.MAX_UNREAD_REFUSALS + 100
        assert len(session._channel._reader._body or b"") <= MAX_FRAME_BYTES + PACKET_BYTES
        if self.running is not None and self.running.done():
            task, self.running = self.running, None
            self.open.clear()
            self.ended(task)
        if session._dead is not None:
            self.is_dead(session._dead)

    def ended(self, task: asyncio.Task[ev.CellFinished]) -> None:
        error = task.exception()
        if error is None:
            finished = task.result()
            assert (finished.cell, finished.ended in ENDS) == (self.number, True)
            assert finished.compute_s >= 0
            assert MARK not in str(finished.limit)
        elif not isinstance(error, SandboxError):
            raise error

    def is_dead(self, error: SandboxError) -> None:
        assert self.body.killed
        text = str(error)
        assert MARK not in text, f"the guest's words in an error: {text}"
        assert PLAIN_WORDS.fullmatch(text), f"an error with more than words: {text}"
        assert error.__cause__ is None, "an error that carries another"
        self.read()
        with contextlib.suppress(ConnectionResetError):
            assert self.wire.recv(1) == b"", "a dead session still speaks"
        if isinstance(error, ProtocolViolation):
            again = self.loop.create_task(
                self.session.run_cell(
                    self.number + 1, "", restore=[], budget=BUDGET, on_event=self.on_event
                )
            )
            self.loop.settle()
            assert again.done(), "a dead session waits"
            assert again.exception() is error or self.running is not None

    def close(self) -> None:
        self.run(self.session.aclose())
        self.loop.settle()
        self.check()
        assert self.session.closed
        assert self.running is None, "a cell outlived its session"
        assert self.loop._selector.get_map() is None or not self._watched(), "a socket is watched"
        self.wire.close()
        self.control.close()
        assert not [one for one in asyncio.all_tasks(self.loop) if not one.done()]

    def _watched(self) -> list[int]:
        ours = self.loop._ssock.fileno()
        return [fd for fd in self.loop._selector.get_map() if fd != ours]


async def _made(wire: socket.socket, control: socket.socket) -> WiredSession:
    return WiredSession(wire, control, cell_timeout_s=15, output_chars=50, max_processes=8)


def session(data: bytes) -> None:
    """A session's state machine, played by a guest that does what `data` says."""
    loop = HandClock()
    try:
        Play(loop, Choices(data)).go()
    finally:
        loop.close()


def one_frame(data: bytes) -> None:
    """A body as it came: a frame of the schema, or a violation without a trace of it."""
    try:
        frame = frames.decode(data)
    except ProtocolViolation as error:
        assert PLAIN_WORDS.fullmatch(str(error)), error
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
        return
    assert isinstance(frame, frames.Frame)


def many_packets(data: bytes) -> None:
    """Packets cut anywhere: a body is as long as was announced, or there is none."""
    choices, reader = Choices(data), PacketReader(max_bytes=1_000)
    while choices.left:
        try:
            body = reader.feed(choices.pick((b"", b"\0", b"\1")) + choices.some())
        except WireError:
            return
        assert body is None or len(body) == reader._length <= 1_000
        assert reader._body is None or len(reader._body) < reader._length


def stream(data: bytes) -> None:
    """A container's stream: a session's wire gets no more than came, and sees its end."""
    loop = HandClock()
    try:
        loop.run_until_complete(_linked(Choices(data)))
    finally:
        loop.close()


async def _linked(choices: Choices) -> None:
    link = Link(engine=None, name="none")  # type: ignore[arg-type]  # nothing is asked of it
    pairs = {channel: socket.socketpair() for channel in (Channel.WIRE, Channel.CONTROL)}
    link._sockets = {channel: ours for channel, (ours, _) in pairs.items()}
    for ours in link._sockets.values():
        ours.settimeout(0)
    process, sent = FakeProcess(), b""
    while choices.left:
        body = choices.some()
        channel = choices.pick((*Channel, 0, 7, 255))
        size = len(body) + choices.pick((0, 0, 0, 0, 0, 0, 1, 200))
        piece = channel.to_bytes(1, "big") + size.to_bytes(4, "big") + body
        process.stdout.feed_data(piece)
        sent += piece
    process.stdout.feed_eof()
    await link._from_container(process)  # type: ignore[arg-type]
    assert link._answered.done()
    for ours, theirs in pairs.values():
        assert ours.fileno() == -1, "a session is not told that its container is gone"
        theirs.settimeout(0)
        got = b"".join(iter(lambda one=theirs: one.recv(1 << 16), b""))  # type: ignore[misc]
        assert len(got) <= len(sent)
        theirs.close()


class FakeProcess:
    """A container that has ended when its stream has."""

    def __init__(self) -> None:
        self.stdout = asyncio.StreamReader()

    async def wait(self) -> int:
        return 0
