"""The host's words to a REPL's supervisor: interrupt what runs, or roll it back.

Decides nothing about cells. The channel cannot be reached by code in a cell. Invariant: a word is
unheard until the supervisor has said that it was passed on; no cell may begin before, or a
late word would hit it.
"""

import asyncio
import contextlib
import socket

INTERRUPT, ROLL_BACK = b"i", b"r"


class Words:
    """One byte a word, echoed when it was passed on."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._unheard = 0
        self._heard = asyncio.Event()
        self._closed = False
        control.settimeout(0)
        self._loop.add_reader(control, self._on_readable)

    def say(self, word: bytes) -> None:
        """Send a word; if nobody listens any more, the REPL's wire ends too."""
        self._unheard += 1
        with contextlib.suppress(OSError):
            self._control.send(word)

    async def all_heard(self) -> None:
        """Wait until every word was passed on, or cannot be."""
        while self._unheard and not self._closed:
            self._heard.clear()
            await self._heard.wait()

    def close(self) -> None:
        """Give the socket up: the supervisor ends its REPL. Safe to repeat."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._control)
            self._control.close()
            self._heard.set()

    def _on_readable(self) -> None:
        try:
            heard = self._control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if heard:
            self._unheard -= len(heard)
        else:
            self._loop.remove_reader(self._control)
            self._unheard = 0
        self._heard.set()
