"""The host's end of a fork server: starts it, sends it a context, asks it for REPLs.

Decides how the interpreter is started: by path, with none of the user's settings, an
environment of three names (with guest packages also those that keep them to one thread), in a
session of its own so that Ctrl-C at the terminal does not
reach it. Invariant: one fork server serves one run, so no two runs share a hash
seed or addresses. What it answers is believed; no line of a model's runs in it.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import abyme.guest
from abyme.errors import SandboxError, SandboxUnavailable
from abyme.sandboxes.jail.packages import ONE_THREAD, Load

MAX_MESSAGE_BYTES = 1 << 16
START_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 30.0
MAX_HASH_SEED = 4_294_967_295
NO_MORE = "another REPL cannot be had: {why} (each takes 3 descriptors; see `ulimit -n`)"

Reply = tuple[dict[str, Any], list[int]]


class Zygote:
    """A running fork server."""

    def __init__(self, hash_seed: int) -> None:
        self.hash_seed = hash_seed
        self.python = ""
        self.counts_processes = True
        """The kernel limits the processes of each REPL; else its session has to."""
        self.packages: tuple[str, ...] = ()
        """Those that it has loaded, with their versions."""
        self.notes: list[str] = []
        self._socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(0)
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._turn = asyncio.Lock()
        self._dead = False

    @property
    def ended(self) -> bool:
        """Whether it can open nothing any more."""
        return self._dead

    async def start(self, python: str | None = None, load: Load | None = None) -> None:
        """Start the interpreter, load packages into it, and wait until it is confined.

        Raises:
            SandboxUnavailable: if it cannot be, with the reason.
        """
        with tempfile.TemporaryFile() as errors:
            try:
                self._process = self._launch(python or interpreter(), errors, load)
            except OSError as error:
                self._end("it did not start")
                raise SandboxUnavailable(f"the jail's interpreter cannot start: {error}") from None
            finally:
                self._theirs.close()
            asyncio.get_running_loop().add_reader(self._socket, self._on_readable)
            try:
                hello, _ = await self._expect(START_TIMEOUT_S)
            except SandboxError:
                await self.aclose()
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
                why = said[0] if said else "it said nothing"
                raise SandboxUnavailable(f"the jail's interpreter did not start: {why}") from None
        if hello["t"] == "refused":
            await self.aclose()
            raise SandboxUnavailable(hello["why"])
        self.python = hello["python"]
        self.counts_processes = hello["counts_processes"]
        self.packages = tuple(hello["packages"])

    async def adopt(self, fds: Sequence[int], spare: dict[str, Any] | None = None) -> None:
        """Give it the run's context, which every REPL will share; `spare` is the order to expect.

        Raises:
            SandboxError: if it cannot read it.
        """
        answer, _ = await self._ask({"t": "adopt", "spare": spare}, fds)
        self.notes += answer["notes"]

    async def open(
        self, order: dict[str, Any], own: Sequence[int]
    ) -> tuple[int, socket.socket, socket.socket]:
        """Fork a REPL, on a context of its `own` if there is one.

        Returns a pidfd of its first process, its wire, and the control channel.

        Raises:
            SandboxError: if it cannot.
        """
        _, got = await self._ask({"t": "open", **order}, own)
        if len(got) < 3:  # recvmsg(2) drops what it has no number for; the REPL ends with its wire
            for fd in got:
                os.close(fd)
            raise SandboxError(NO_MORE.format(why="no descriptor is left"))
        pidfd, wire, control = got
        return pidfd, socket.socket(fileno=wire), socket.socket(fileno=control)

    async def aclose(self) -> None:
        """End it, and every REPL with it. Safe to repeat."""
        self._end("the fork server was closed")
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await asyncio.get_running_loop().run_in_executor(None, process.wait)

    def _launch(self, python: str, errors: Any, load: Load | None) -> subprocess.Popen[bytes]:
        program = Path(abyme.guest.__file__).parent / "zygote.py"
        fd = self._theirs.fileno()
        return subprocess.Popen(  # noqa: S603 - our own program, by full path
            [python, "-s", "-S", "-P", str(program), str(fd), *(load.arguments if load else ())],
            pass_fds=[fd],
            env={
                "LC_ALL": "C.UTF-8",
                "PYTHONHASHSEED": str(self.hash_seed),
                "TZ": "UTC0",
                **(ONE_THREAD if load else {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd="/",
            start_new_session=True,
        )

    async def _ask(self, message: dict[str, Any], fds: Sequence[int]) -> Reply:
        async with self._turn:  # hundreds at once would not fit into the socket
            if self._dead:
                raise SandboxError("the fork server is gone, and every REPL of the run with it")
            try:
                socket.send_fds(self._socket, [json.dumps(message).encode()], list(fds))
            except OSError as error:
                raise SandboxError(f"the fork server does not listen: {error}") from None
            reply = await self._expect(REPLY_TIMEOUT_S)
        if reply[0]["t"] == "failed":
            raise SandboxError(reply[0]["why"])
        return reply

    async def _expect(self, timeout_s: float) -> Reply:
        """Wait for the next reply; they come in the order of the questions."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await asyncio.wait_for(asyncio.shield(future), timeout_s)
        except TimeoutError:
            self._end("the fork server does not answer")
            raise SandboxError("the fork server does not answer") from None

    def _on_readable(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE_BYTES, 4)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._end("the fork server has ended")
            return
        waiting = self._waiting.popleft() if self._waiting else None
        if waiting is not None and not waiting.done():
            waiting.set_result((json.loads(data), fds))
        else:
            for fd in fds:
                os.close(fd)

    def _end(self, why: str) -> None:
        if self._dead:
            return
        self._dead = True
        if self._socket.fileno() >= 0:
            with contextlib.suppress(RuntimeError):  # the loop may be closed already
                asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(SandboxError(why))
                waiting.exception()  # whoever asked may be gone


def interpreter() -> str:
    """Find the real interpreter behind a virtual environment: it needs no file of the latter."""
    base = getattr(sys, "_base_executable", None)
    return str(base or sys.executable)
