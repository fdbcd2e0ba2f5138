"""Starts git, with nothing of the user's or the repository's settings but what is said here.

Decides its environment and options. Invariant: no transport but those that are named, no
prompt, no hook and no monitor; no process of it is left, whatever happens meanwhile, and none
waits for ever because nobody reads what it says. Which commands are run `git` decides.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, Self

from abyme.errors import ContextError

IDLE_S: Final = 30
PIECE_BYTES: Final = 1 << 20
_SAID_BYTES: Final = 64 << 10
_PASSED_ON: Final = ("HOME", "PATH", "SSH_AUTH_SOCK")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Git:
    """Starts git for one repository, with nothing of the user's or the repository's settings."""

    def __init__(self, folder: str, env: Mapping[str, str], *, protocols: str) -> None:
        self._folder = folder
        self._trusted: list[str] = []
        kept = {name: env[name] for name in _PASSED_ON if name in env}
        if protocols != "none":
            names = [*_PROXIES, *map(str.upper, _PROXIES)]
            kept |= {name: env[name] for name in names if name in env}
        self._user = {"PATH": os.defpath, **kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
        self._env = {
            **self._user,
            "GIT_ALLOW_PROTOCOL": protocols,
            "GIT_ASKPASS": "",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_SSH_COMMAND": f"ssh -oBatchMode=yes -oConnectTimeout={IDLE_S}",
        }

    def start(self, *args: str, stdin: int = subprocess.DEVNULL) -> "Process":
        """Start a command of git's."""
        settings = [
            *("core.fsmonitor=false", f"core.hooksPath={os.devnull}", "gc.auto=0"),
            *("http.lowSpeedLimit=1", f"http.lowSpeedTime={IDLE_S}"),
            *(f"safe.directory={folder}" for folder in self._trusted),
        ]
        options = [word for setting in settings for word in ("-c", setting)]
        return Process(["git", "-C", self._folder, *options, *args], self._env, stdin)

    def stream(self, *args: str) -> Iterator[bytes]:
        """Yield what a command writes, record by record (each ends in NUL)."""
        with self.start(*args) as process:
            held = b""
            while piece := process.read(PIECE_BYTES):
                *whole, held = (held + piece).split(b"\0")
                yield from whole
            _check(process)

    def line(self, *args: str) -> str:
        """Return the one line that a command writes.

        Raises:
            ContextError: it fails.
        """
        try:
            return self._line(args)
        except _Untrusted:
            self._trusted = self._users_own()
        try:
            return self._line(args)
        except _Untrusted:
            raise ContextError(
                "it belongs to somebody else, and git refuses it: if you trust it, "
                "`git config --global --add safe.directory` with its absolute path"
            ) from None

    def _line(self, args: Sequence[str]) -> str:
        with self.start(*args) as process:
            line = _whole(process)
            _check(process)
        return line.strip()

    def _users_own(self) -> list[str]:
        """Read which repositories of others this user trusts; nothing else of the settings."""
        found: list[str] = []
        for scope in ("--system", "--global"):
            command = ["git", "config", scope, "--get-all", "-z", "safe.directory"]
            with Process(command, self._user, subprocess.DEVNULL) as process:
                found += filter(None, _whole(process).split("\0"))
        return found


def _whole(process: "Process") -> str:
    """Read all that comes, as far as it is of a sensible size."""
    held = b""
    while len(held) < PIECE_BYTES and (piece := process.read(PIECE_BYTES)):
        held += piece
    return os.fsdecode(held)


def _check(process: "Process") -> None:
    code, lines = process.end()
    if code == 0:
        return
    if any("dubious ownership" in line for line in lines):
        raise _Untrusted
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
    words = fatal[0].partition(": ")[2] or fatal[0] if fatal else f"git ended with {code}"
    raise ContextError(words)


class _Untrusted(ContextError):
    pass


class Process:
    """A started git. Leaves nothing behind, whatever happens meanwhile."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], stdin: int) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603  (words; names follow options)
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        except FileNotFoundError:
            raise ContextError("git is not installed") from None
        except ValueError as error:  # a NUL
            raise ContextError(str(error)) from None
        self._said = bytearray()
        self._listens = threading.Thread(target=self._listen, daemon=True)
        self._listens.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listens.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def read(self, size: int) -> bytes:
        """Read up to so many bytes as they come."""
        return os.read(self._out, size)

    def order(self, line: bytes) -> None:
        """Write a line to its input."""
        if self._process.stdin is not None:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()

    def end(self) -> tuple[int, list[str]]:
        """Wait for its end: exit code, and what it said."""
        code = self._process.wait()
        self._listens.join()
        return code, os.fsdecode(bytes(self._said)).strip().splitlines()

    @property
    def _out(self) -> int:
        return self._process.stdout.fileno() if self._process.stdout else -1

    def _listen(self) -> None:
        """Take what it says: who writes to a full pipe would wait for ever."""
        fd = self._process.stderr.fileno() if self._process.stderr else -1
        while piece := os.read(fd, _SAID_BYTES):
            self._said += piece[: _SAID_BYTES - len(self._said)]
