"""The guest's end of the wire without sockets: bytes out through the interpreter, files in.

Decides how a cell waits for an answer in the middle of its code: the interpreter can call its
host only from code that awaits, and a cell's calls do not. So a frame goes out on the channel
that the interpreter keeps for output, and what the host says lies in a read-only folder, one
file a frame, numbered from 0, which is looked at again and again: 5 us a look, and a nap between
two of them. One thread; nothing interrupts.
"""

import os
import time
from collections.abc import Callable
from typing import Final

from abyme.guest.client import Client, Frame
from abyme.guest.interrupts import Interrupts
from abyme.wire import decode

STREAM: Final = 0
PIECE_BYTES: Final = 1 << 20
FAST_LOOKS: Final = 100
"""Half a millisecond without a nap: what is known already comes at once."""
NAPS_S: Final = (0.0005, 0.005)
"""The first and the longest."""


class FileClient(Client):
    """Sends and receives frames for the whole interpreter."""

    def __init__(self, folder: str, report: Callable[[int, bytes], None]) -> None:
        """`folder` is where the host's frames appear, `report` takes bytes for it."""
        super().__init__(Interrupts())
        self._folder = folder
        self._report = report
        self._next = 0

    def send_packets(self, ready: list[bytes]) -> None:
        """Send a frame that has been made ready before, when more could go wrong."""
        data = b"".join([packet[1:] for packet in ready])
        for start in range(0, len(data), PIECE_BYTES):
            self._report(STREAM, data[start : start + PIECE_BYTES])

    def connected(self) -> bool:
        """There is no descriptor that a cell could have closed."""
        return True

    def receive(self, box: int) -> Frame:
        """Wait for the next frame for a letter box that `expect` has opened."""
        waiter = self._waiters[box]
        while not waiter.frames:
            self._deliver(decode(self._next_told()))
        return waiter.frames.pop(0)

    def _next_told(self) -> bytes:
        """Wait for the next file."""
        path = f"{self._folder}/{self._next}"
        looks, nap_s = 0, NAPS_S[0]
        while True:
            try:
                file = os.open(path, os.O_RDONLY)
                break
            except FileNotFoundError:
                looks += 1
            if looks > FAST_LOOKS:
                time.sleep(nap_s)
                nap_s = min(nap_s * 1.1, NAPS_S[1])
        self._next += 1
        with open(file, "rb") as told:  # noqa: PTH123 - a descriptor
            return told.read()
