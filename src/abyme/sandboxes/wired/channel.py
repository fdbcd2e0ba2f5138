"""The host's end of a REPL's wire: packets in and out of one socket, never blocking.

Decides when a frame is whole, when one that has begun is overdue, when a guest that does not
read is owed no more, and when the wire is broken. Invariant: what `on_frame` gets has passed the
schema of `frames`, and `wants` its head; after `close` no callback is called. Does not know
what a frame means (`session`).
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable

from abyme.errors import ProtocolViolation, SandboxError
from abyme.sandboxes.wired import frames, told
from abyme.wire import PACKET_BYTES, PacketReader, WireError, encode, packets

FRAME_TIMEOUT_S = 10.0
"""From the beginning of a frame to its end; frames may follow each other without a pause."""
MAX_PACKETS_A_WAKE = 64
MAX_BYTES_A_WAKE = 128 << 10
"""Of frames that have ended: then whatever else the loop has to do comes first."""
MAX_UNREAD_REFUSALS = 10_000
"""Packets that wait for a guest which asks for what it is refused, and does not read that."""


class Channel:
    """Frames over one SOCK_SEQPACKET socket."""

    def __init__(
        self,
        wire: socket.socket,
        on_frame: Callable[[frames.GuestFrame], None],
        on_broken: Callable[[SandboxError | None], None],
        wants: Callable[[frames.Head, bytearray], bool],
    ) -> None:
        """`on_broken` is told why the wire cannot go on; None: the other end is gone. What is
        not wanted is dropped before anything is made of it.
        """
        self._wants = wants
        self._wire = wire
        self._on_frame = on_frame
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._reader = PacketReader(frames.MOST_BYTES)
        self._outgoing: deque[bytes] = deque()
        self._overdue: asyncio.TimerHandle | None = None
        self._closed = False
        self._was_reset = False
        wire.settimeout(0)
        self._loop.add_reader(wire, self._on_readable)

    def send(self, told_frames: Iterable[told.Told]) -> None:
        """Send frames, as far as the guest takes them now; what cannot be sent breaks the wire."""
        if self._closed:
            return
        try:
            for frame in told_frames:
                self._outgoing.extend(packets(encode(frame)))
        except (WireError, ValueError, MemoryError) as error:
            self._break(SandboxError(f"what the REPL was to be told cannot be sent: {error}"))
            return
        self._flush()

    def refuse(self, told_frames: Iterable[told.Told]) -> None:
        """Send frames that a guest has brought about on its own, as often as it likes.

        Raises:
            ProtocolViolation: it does not read them.
        """
        if len(self._outgoing) > MAX_UNREAD_REFUSALS:
            raise ProtocolViolation("the guest asks and does not read")
        self.send(told_frames)

    @property
    def unread_bytes(self) -> int:
        """What the guest has been told and has not read."""
        return sum(map(len, self._outgoing))

    def close(self) -> None:
        """Give the socket up. Safe to repeat."""
        if self._closed:
            return
        self._closed = True
        self._outgoing.clear()
        self._loop.remove_writer(self._wire)
        self._loop.remove_reader(self._wire)
        self._wire.close()
        self._frame_ended()

    def _on_readable(self) -> None:
        read_bytes = 0
        for _ in range(MAX_PACKETS_A_WAKE):
            if self._closed:
                return
            if read_bytes >= MAX_BYTES_A_WAKE:
                break
            try:
                packet = self._wire.recv(PACKET_BYTES + 1)
            except BlockingIOError:
                break
            except ConnectionResetError:
                if not self._was_reset:  # told once, before the last words of who has not read all
                    self._was_reset = True
                    continue
                packet = b""
            except OSError:
                packet = b""
            if not packet:
                self._break(None)
                return
            read_bytes += self._take(packet)
        self._watch()

    def _take(self, packet: bytes) -> int:
        """Take a packet, and give the size of the frame that it has ended."""
        body = None
        try:
            body = self._reader.feed(packet)
            if body is not None:
                self._frame_ended()
                begun = frames.head(body)
                if self._wants(begun, body):
                    self._on_frame(frames.frame_of(begun, body))
        except WireError:
            self._break(ProtocolViolation("the guest sent bytes that are not a frame"))
        except ProtocolViolation as error:
            self._break(error)
        return len(body or b"")

    def _watch(self) -> None:
        """See that a frame that has begun ends soon."""
        if self._closed or self._overdue is not None or not self._reader.partial:
            return
        violation = ProtocolViolation("the guest began a frame and did not end it")
        self._overdue = self._loop.call_later(FRAME_TIMEOUT_S, self._break, violation)

    def _frame_ended(self) -> None:
        """Stop the clock of the frame that had begun, if one had."""
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _flush(self) -> None:
        if self._closed:
            return
        try:
            while self._outgoing:
                self._wire.send(self._outgoing[0])
                self._outgoing.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._wire, self._flush)
            return
        except OSError:
            self._outgoing.clear()  # it has ended: its last words are read first, and then its end
        self._loop.remove_writer(self._wire)

    def _break(self, error: SandboxError | None) -> None:
        if not self._closed:
            self._on_broken(error)
