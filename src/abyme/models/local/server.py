"""`LocalModel`: weights on this machine, served by llama.cpp in a child process.

Starts the server with the first call and stops it in `aclose`; starts it anew if it
has died. The server listens on a free port of loopback with a key of its own, so
that other users of the machine cannot use it; the key travels through a pipe, not
through an environment or a command line. It is in a session of its own: Ctrl-C in
the terminal reaches it only through us. How it ends with us: `serve`.

Decides which of the server's slots takes a call: a turn (its prompt begins with a system
text) the first, a sub-call one of the others. So however many sub-calls come between two
turns, the server still knows the prompt of the turn before; left to itself it gives a slot
to whoever comes, and forgets the longest unused prompt after `serve.CACHE_MIB`.

Fetches nothing: absent weights are a `ConfigError` that names the command.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from abyme.errors import ConfigError, ModelError
from abyme.models.local import prefix
from abyme.models.local.weights import locate
from abyme.models.names import LOCAL_AT_ONCE, LOCAL_WINDOW_TOKENS, Endpoint
from abyme.models.openai_compatible import OpenAICompatible
from abyme.ports import ModelReply, ModelRequest

SLOTS: Final = 1 + LOCAL_AT_ONCE
"""Prompts whose state the server keeps: a turn's, and those of sub-calls."""
IDLE_TIMEOUT_S: Final = 600.0
ENDING_S: Final = 1.0
LOG_TAIL_CHARS: Final = 300


class LocalModel:
    """A model of `WEIGHTS`. Implements `abyme.ports.Model`.

    Used in one event loop at a time; after `aclose` it may be used again. `folder` holds
    the weights and the server's log. `threads`: None chooses by what the machine has idle.

    Raises:
        ConfigError: at construction, if the weights or the extra `local` are absent.
    """

    def __init__(self, endpoint: Endpoint, folder: Path, *, threads: int | None = None) -> None:
        self._path = locate(endpoint.model, folder)
        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigError(
                f"{endpoint.name} needs the extra `local`: pip install 'abyme[local]'"
            )
        self.endpoint = endpoint
        self._prefixes = folder / "prefixes"
        self.log = folder / f"{endpoint.model}.log"
        self._threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._models: tuple[OpenAICompatible, ...] = ()
        """One for each slot, the first being that of turns."""
        self._starting: asyncio.Lock | None = None
        self._free: tuple[asyncio.Queue[int], asyncio.Queue[int]] | None = None
        """Slots for turns, and for sub-calls, that nothing is at work in."""

    @property
    def pid(self) -> int | None:
        """Process id of the server, while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    async def complete(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """One attempt; see `abyme.ports.Model`. The first one starts the server."""
        if self._free is None or self._starting is None:
            self._free, self._starting = _all_free(), asyncio.Lock()
        free = self._free[0 if _is_turn(request) else 1]
        slot = await free.get()  # wait here, where waiting is not taken for a hung server
        try:
            async with self._starting:
                model = (await self._running(request))[slot]
            try:
                return await model.complete(request, on_text)
            except ModelError as error:
                if error.failure in {"stream_cut", "unreachable"} and await self._has_ended():
                    raise self._died() from None
                raise
        finally:
            free.put_nowait(slot)

    async def aclose(self) -> None:
        """Stop the server. Safe to repeat."""
        self._starting = self._free = None
        await self._let_go()

    async def _running(self, request: ModelRequest) -> tuple[OpenAICompatible, ...]:
        if self._models and self.pid is not None:
            return self._models
        await self._let_go()
        key = secrets.token_urlsafe(24)
        process = self._start(key)
        try:
            said = await asyncio.to_thread(_first_line, process)
        except asyncio.CancelledError:
            _stop(process)
            raise
        if "url" not in said:
            _stop(process)
            raise self._died(said.get("error"))
        served = replace(self.endpoint, base_url=f"{said['url']}/v1", api_key=key)
        self._process = process
        await prefix.warm(served, self._prefixes, str(said.get("runtime")), request.messages)
        self._models = tuple(_at_slot(served, slot) for slot in range(SLOTS))
        return self._models

    async def _has_ended(self) -> bool:
        """Tell whether a server that broke a connection is ending: sockets close first."""
        process = self._process
        if process is None:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, ENDING_S)
        return process.poll() is not None

    async def _let_go(self) -> None:
        models, self._models = self._models, ()
        process, self._process = self._process, None
        try:
            for model in models:
                await model.aclose()
        finally:
            if process is not None:
                _stop(process)

    def _start(self, key: str) -> subprocess.Popen[bytes]:
        paths = [entry for entry in sys.path if os.path.isabs(entry)]  # noqa: PTH117
        process = subprocess.Popen(
            [sys.executable, "-s", "-m", "abyme.models.local.serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(paths), "LC_ALL": "C.UTF-8"},
            cwd="/",
            start_new_session=True,
        )
        order = {
            "path": str(self._path.resolve()),
            "alias": self.endpoint.model,
            "prefixes": str(self._prefixes.resolve()),
            "log": str(self.log.resolve()),
            "key": key,
            "slots": SLOTS,
            "window_tokens": self.endpoint.window_tokens or LOCAL_WINDOW_TOKENS,
            "threads": self._threads,
            "parent": os.getpid(),
            "main_thread": threading.current_thread() is threading.main_thread(),
        }
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died; what it said tells why
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        return process

    def _died(self, why: str | None = None) -> ModelError:
        tail = ""
        with contextlib.suppress(OSError):
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARS:]
        lines = [line for line in tail.splitlines()[1:] if line.strip()]
        said = why or (lines[-1] if lines else "it said nothing")
        return ModelError(
            f"{self.endpoint.name}: its server has ended ({said}); its log is {self.log}. "
            "Is there enough memory?",
            failure="unreachable",
            retryable=True,
        )


def _is_turn(request: ModelRequest) -> bool:
    return bool(request.messages) and request.messages[0].role == "system"


def _all_free() -> tuple[asyncio.Queue[int], asyncio.Queue[int]]:
    turns, subs = asyncio.Queue[int](), asyncio.Queue[int]()
    turns.put_nowait(prefix.SLOT)
    for slot in range(SLOTS):
        if slot != prefix.SLOT:
            subs.put_nowait(slot)
    return turns, subs


def _at_slot(served: Endpoint, slot: int) -> OpenAICompatible:
    preset = replace(served.preset, extra=(*served.preset.extra, ("id_slot", slot)))
    return OpenAICompatible(replace(served, preset=preset), idle_timeout_s=IDLE_TIMEOUT_S)


def _first_line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    try:
        said = json.loads(process.stdout.readline() or b"{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the server, which has nothing to save, and wait until it is gone."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.kill()
    process.wait()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
