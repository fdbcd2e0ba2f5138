"""A running container as the host sees it: its stream, and its end.

Decides how it is ended: by closing its stream, after which its first process ends and
everything in it; where that does not happen soon, by the engine. Passes packets and words between
the stream and a session's two sockets; what they mean it does not know. Implements
`abyme.sandboxes.wired.body.Body`.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

from abyme.errors import SandboxError, SandboxUnavailable
from abyme.sandboxes.container.engine import Engine
from abyme.sandboxes.wired.body import Use
from abyme.wire import PACKET_BYTES, Channel, MessageReader, WireError, message

READ_BYTES = 1 << 18
OPEN_TIMEOUT_S = 60.0
END_GRACE_S = 3.0
"""For a container to end by itself and be removed; then the engine is told to kill it."""

NOT_OF_THE_RELAY = (ValueError, KeyError, TypeError, OverflowError, RecursionError)
"""What reading JSON of another shape raises."""


class Link:
    """One container."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._process: asyncio.subprocess.Process | None = None
        self._answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._sockets: dict[Channel, socket.socket] = {}
        self._pumps: list[asyncio.Task[None]] = []
        self._use: Use | None = None
        self._said = bytearray()

    async def start(
        self,
        command: Sequence[str],
        order: dict[str, object],
        wire: socket.socket,
        control: socket.socket,
    ) -> dict[str, Any]:
        """Start the container and the REPL in it, on these ends of its sockets.

        Raises:
            SandboxUnavailable: if it does not come up, or lacks a layer.
        """
        self._sockets = {Channel.WIRE: wire, Channel.CONTROL: control}
        for one in self._sockets.values():
            one.settimeout(0)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxUnavailable(f"{command[0]} cannot be run: {error}") from None
        self._pumps = [
            asyncio.create_task(self._from_container(self._process)),
            asyncio.create_task(self._listen(self._process)),
        ]
        self._send(Channel.ORDER, json.dumps(order).encode())
        try:
            opened = await asyncio.wait_for(asyncio.shield(self._answered), OPEN_TIMEOUT_S)
        except TimeoutError:
            raise SandboxUnavailable("the container does not answer") from None
        if opened["t"] != "opened":
            raise SandboxUnavailable(opened["why"])
        for channel in self._sockets:
            self._pumps.append(asyncio.create_task(self._to_container(channel)))
        return opened

    def interrupt(self) -> None:
        """Signal the REPL itself."""
        self._send(Channel.INTERRUPT)

    def kill(self) -> None:
        """Close the stream: the container ends."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def gone(self) -> None:
        """Wait until the container is gone, with force where it has to be."""
        process = self._process
        if process is None:
            return
        try:
            await asyncio.wait_for(process.wait(), END_GRACE_S)
        except TimeoutError:
            with contextlib.suppress(SandboxError):
                await self._engine.kill(self._name)
            try:
                await asyncio.wait_for(process.wait(), END_GRACE_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._close_sockets()

    def use(self) -> Use | None:
        """Give what was told last, and ask to be told anew."""
        self._send(Channel.USE)
        return self._use

    def _send(self, channel: Channel, body: bytes = b"") -> None:
        stdin = self._process.stdin if self._process is not None else None
        if stdin is not None and not stdin.is_closing():
            stdin.write(message(channel, body))

    async def _from_container(self, process: asyncio.subprocess.Process) -> None:
        """Take what comes until the stream ends, then end the session."""
        assert process.stdout is not None
        reader = MessageReader()
        try:
            while data := await process.stdout.read(READ_BYTES):
                for channel, body in reader.feed(data):
                    await self._take(channel, body)
        except (WireError, OSError, *NOT_OF_THE_RELAY):
            self.kill()  # whoever wrote that, it is not the relay
        if not self._answered.done():
            await process.wait()
            self._answered.set_result({"t": "ended", "why": self._why()})
        self._close_sockets()

    async def _take(self, channel: Channel, body: bytes) -> None:
        if channel in self._sockets:
            await asyncio.get_running_loop().sock_sendall(self._sockets[channel], body)
        elif channel == Channel.ORDER and not self._answered.done():
            answer = json.loads(body)
            if not isinstance(answer, dict) or not isinstance(answer.get("t"), str):
                raise TypeError("no answer to an order")
            self._answered.set_result({"why": "it did not say", **answer})
        elif channel == Channel.USE:
            told = json.loads(body)
            self._use = Use(
                cpu_s=float(told["cpu_s"]),
                processes=int(told["processes"]),
                forks_bytes=int(told["forks_bytes"]),
            )
        elif channel == Channel.ENDED:
            self._close_sockets()

    async def _to_container(self, channel: Channel) -> None:
        """Pass on what a session sends on one of its sockets."""
        loop, one = asyncio.get_running_loop(), self._sockets[channel]
        with contextlib.suppress(OSError):
            while packet := await loop.sock_recv(one, PACKET_BYTES + 1):
                self._send(channel, packet)
                assert self._process is not None
                assert self._process.stdin is not None
                await self._process.stdin.drain()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Keep the end of what the engine says, for an error's text."""
        assert process.stderr is not None
        while data := await process.stderr.read(READ_BYTES):
            self._said += data
            del self._said[:-4096]

    def _why(self) -> str:
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        return f"the container did not start: {lines[-1] if lines else 'the engine said nothing'}"

    def _close_sockets(self) -> None:
        """Let the session see that its REPL is gone."""
        loop = asyncio.get_running_loop()
        for one in self._sockets.values():
            if one.fileno() >= 0:
                loop.remove_reader(one)
                loop.remove_writer(one)
                one.close()
