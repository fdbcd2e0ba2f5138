"""The guest's end of the wire: any number of threads may wait for an answer at once.

Decides who reads. There is no reader thread, because a snapshot needs a process
with a single one: of the threads that wait, one leads, reads frames, and puts
those of the others into their letter boxes; when it has its own, it hands on.

Invariant: an interrupt leaves neither half a frame nor a lead that nobody has.
After a roll-back an older process goes on with the same socket: it may find
answers that nobody waits for, and drops them. Does not know what frames mean
beyond the kind and the batch they carry.
"""

import _thread
import os
import select
import socket
from typing import Any

from abyme.guest.interrupts import Interrupts
from abyme.wire import PACKET_BYTES, PacketReader, decode, encode, packets

WAKE_MS = 50
"""A thread that waits for the host looks this often whether its cell is over."""
CELL = -1
"""The letter box for the next cell; the others are numbers of batches."""

Frame = dict[str, Any]


class HostGone(BaseException):
    """The host has closed the wire. Nothing is left to do."""


class Abandoned(Exception):
    """The cell that asked was stopped before the answer came."""


class _Waiter:
    """A thread that waits for one letter box."""

    def __init__(self) -> None:
        self.wake = _thread.allocate_lock()
        self.wake.acquire()
        self.frames: list[Frame] = []
        self.follows = False
        """Its thread sleeps and can be given the lead."""
        self.abandoned = False


class Client:
    """Sends and receives frames for the whole process."""

    _socket: socket.socket
    _fd: int
    _identity: tuple[int, int]

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._poll = select.poll()
        self._reader = PacketReader()
        self._parts: list[str] = []
        """Pieces of the text that the next frame ends."""
        self._sending = _thread.allocate_lock()
        self._guard = _thread.allocate_lock()
        self._waiters: dict[int, _Waiter] = {}
        self._led = False
        self._main = _thread.get_ident()

    def connect(self, fd: int) -> None:
        """Take a descriptor for the host's; before that nothing can be sent."""
        self._socket = socket.socket(fileno=fd)
        self._put, self._take = self._socket.send, self._socket.recv  # a cell may patch the class
        self._dont_wait = int(socket.MSG_DONTWAIT)
        self._fd = fd
        self._identity = _identity(fd)
        self._poll.register(fd, select.POLLIN)

    def send(self, frame: Frame) -> None:
        """Send one frame whole.

        Raises:
            WireError: if it is longer than the wire allows; nothing was sent.
            HostGone: if nobody listens.
        """
        self.send_packets(list(packets(encode(frame))))

    def send_packets(self, ready: list[bytes]) -> None:
        """Send a frame that has been made ready before, when more could go wrong.

        Raises:
            HostGone: if nobody listens.
        """
        with self._interrupts, self._sending:
            try:
                for packet in ready:
                    self._send(packet)
            except OSError:
                raise HostGone from None

    def _send(self, packet: bytes) -> None:
        try:
            self._put(packet)
        except BlockingIOError:  # a cell has set a flag that outlives it
            os.set_blocking(self._fd, True)
            self._put(packet)

    def connected(self) -> bool:
        """Tell whether the descriptor is still the host's and the host still there."""
        try:
            if _identity(self._fd) != self._identity:
                return False  # a cell has put something else there
        except OSError:
            return False
        bad = select.POLLHUP | select.POLLERR | select.POLLNVAL
        poll = select.poll()  # another thread may be in the other one
        poll.register(self._fd, select.POLLIN)
        return not any(event & bad for _, event in poll.poll(0))

    def expect(self, box: int) -> None:
        """Open a letter box before asking, so that no answer can be missed."""
        with self._interrupts, self._guard:
            self._waiters[box] = _Waiter()

    def receive(self, box: int) -> Frame:
        """Wait for the next frame for a letter box that `expect` has opened.

        Raises:
            Abandoned: if `abandon` was called meanwhile.
            HostGone: if nobody will ever answer.
        """
        waiter = self._waiters[box]
        while True:
            with self._interrupts, self._guard:
                if waiter.frames:
                    return waiter.frames.pop(0)
                if waiter.abandoned:
                    raise Abandoned
                leads = not self._led
                self._led = True
                waiter.follows = not leads
            try:
                if leads:
                    self._lead(waiter)
                else:
                    waiter.wake.acquire()
            finally:
                self._hand_on(waiter, led=leads)

    def close(self, box: int) -> None:
        """Forget a letter box; whatever still comes for it is dropped."""
        with self._interrupts, self._guard:
            self._waiters.pop(box, None)

    def abandon(self) -> bool:
        """Wake all threads that wait for a batch: their cell is over. Tells if there were any."""
        with self._interrupts, self._guard:
            waiting = [waiter for box, waiter in self._waiters.items() if box != CELL]
            for waiter in waiting:
                waiter.abandoned = True
                self._wake(waiter)
        return bool(waiting)

    def _lead(self, waiter: _Waiter) -> None:
        """Read until there is a frame for this waiter."""
        patience_ms = None if _thread.get_ident() == self._main else WAKE_MS
        while not waiter.frames and not waiter.abandoned:
            self._poll.poll(patience_ms)  # an interrupt is raised here, with no byte taken
            with self._interrupts:
                self._read()

    def _hand_on(self, waiter: _Waiter, *, led: bool) -> None:
        """Stop leading or following. If nobody leads now, wake one who will."""
        with self._interrupts, self._guard:
            waiter.follows = False
            if led:
                self._led = False
            if self._led:
                return
            for other in self._waiters.values():
                if other.follows:
                    self._wake(other)
                    return

    def _read(self) -> None:
        try:
            packet = self._take(PACKET_BYTES + 1, self._dont_wait)
        except BlockingIOError:
            return
        except OSError:
            raise HostGone from None
        if not packet:
            raise HostGone
        body = self._reader.feed(packet)
        if body is not None:
            self._deliver(decode(body))

    def _deliver(self, frame: Frame) -> None:
        """Put a frame into its letter box."""
        if frame["t"] == "part":
            self._parts.append(frame["text"])
            return
        parts, self._parts = self._parts, []
        if not _join(frame, parts):
            return
        box = frame["batch"] if frame["t"] == "answer" else CELL
        with self._guard:
            waiter = self._waiters.get(box)
            if waiter is not None:
                waiter.frames.append(frame)
                self._wake(waiter)

    @staticmethod
    def _wake(waiter: _Waiter) -> None:
        """Only under the guard."""
        if waiter.follows and waiter.wake.locked():
            waiter.wake.release()


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _join(frame: Frame, parts: list[str]) -> bool:
    """Make a long text whole. False if its beginning went to a process that is gone."""
    wanted = frame["parts"]
    if len(parts) < wanted:
        return False
    if wanted:
        holder, key = (frame, "code") if frame["t"] == "cell" else (frame["results"][0], "text")
        holder[key] = "".join([*parts[-wanted:], holder[key]])
    return True
