"""Frames on their way through a REPL's process: between its wire and its interpreter.

Decides where a frame ends that the interpreter sends, and when what it was told is removed. Looks
into none: what a cell sends is judged by the host, what the host sends is believed. What is no
frame, and a wire without a host, end the process.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NoReturn

from abyme.sandboxes.wasm.stream import PacketStream
from abyme.wire import HEADER, MAX_FRAME_BYTES, PACKET_BYTES, PacketReader, encode, packets

TRAPPED: Final = 70
"""Exit status of a process whose interpreter has ended in a cell."""
CELL: Final = b'{"t":"cell",'
"""How the frame begins that says: run it."""
FINISHED: Final = b'{"t":"finished",'
LINGER_S: Final = 2.0
"""What a cell may still do when it has told its end: nobody counts its time any more."""


class Outbox:
    """What the interpreter sends, cut into frames, on its way to the host."""

    def __init__(self, wire: PacketStream) -> None:
        self._wire = wire
        self._bytes = bytearray()
        self._lingers: threading.Timer | None = None

    def cell_over(self) -> None:
        """Note that the interpreter has ended the cell that it has told the end of."""
        if self._lingers is not None:
            self._lingers.cancel()
            self._lingers = None

    def take(self, data: bytes) -> None:
        """Take the next bytes; called in a thread of the interpreter's."""
        self._bytes += data
        while len(self._bytes) >= HEADER.size:
            (size,) = HEADER.unpack_from(self._bytes)
            if size > MAX_FRAME_BYTES:
                end(1)  # a cell writes what is no frame: nothing can be told apart any more
            whole = HEADER.size + size
            if len(self._bytes) < whole:
                return
            frame = bytes(self._bytes[:whole])
            del self._bytes[:whole]
            if frame.startswith(FINISHED, HEADER.size) and self._lingers is None:
                self._lingers = threading.Timer(LINGER_S, end, [TRAPPED])
                self._lingers.start()
            self.send_all(packets(frame))

    def send(self, frame: dict[str, object]) -> None:
        """Send a frame of this program's own."""
        self.send_all(packets(encode(frame)))

    def send_all(self, ready: Iterable[bytes]) -> None:
        """Send packets; without a host there is nothing left to do."""
        try:
            for packet in ready:
                self._wire.send(packet)
        except OSError:
            end(0)


class Inbox:
    """What the host says, as files that the interpreter reads."""

    def __init__(self, wire: PacketStream, folder: Path) -> None:
        self.cells: queue.SimpleQueue[int] = queue.SimpleQueue()
        """Numbers of frames that begin a cell."""
        self._wire = wire
        self._folder = folder
        self._next = 0
        self._forgotten = 0

    def serve(self) -> None:
        """Read until the host is gone, and end the process then."""
        reader = PacketReader()
        with contextlib.suppress(OSError):
            while packet := self._wire.recv(PACKET_BYTES + 1):
                body = reader.feed(packet)
                if body is not None:
                    self._tell(body)
        end(0)

    def forget(self, cell: int) -> None:
        """Remove what was told up to the beginning of a cell: all of it was read."""
        told = range(self._forgotten, cell + 1)
        self._forgotten = told.stop
        for number in told:
            (self._folder / str(number)).unlink()

    def _tell(self, body: bytearray) -> None:
        coming = self._folder / "coming"
        coming.write_bytes(body)
        coming.replace(self._folder / str(self._next))
        number, self._next = self._next, self._next + 1
        if body.startswith(CELL):
            self.cells.put(number)


def end(status: int) -> NoReturn:
    """End the process now, whatever its threads do."""
    os._exit(status)
