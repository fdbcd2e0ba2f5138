"""Starts git, with nothing of the user's or the repository's settings but what is said here.

Decides its environment and options. Invariant: no transport but those that are named, no
prompt, no hook and no monitor; no process of it is left, whatever happens meanwhile, not even
where this one is killed, and none waits for ever: not because nobody reads what it says, nor
for what never comes. Which commands are run `git` decides.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, Self

from abyme.errors import ContextError

IDLE_S: Final = 30
SILENCE_S: Final = 120.0
"""A command that reads what lies here and says nothing for so long hangs: on a FIFO, say."""
PIECE_BYTES: Final = 1 << 20
_SAID_BYTES: Final = 64 << 10
_RECORD_BYTES: Final = 1 << 20
_DIES_WITH_US: Final = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Runs before git: `preexec_fn` is not safe where there are threads."""
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

    def start(
        self, *args: str, stdin: int = subprocess.DEVNULL, silence_s: float = SILENCE_S
    ) -> "Process":
        """Start a command of git's."""
        settings = [
            *("core.fsmonitor=false", f"core.hooksPath={os.devnull}", "gc.auto=0"),
            *("http.lowSpeedLimit=1", f"http.lowSpeedTime={IDLE_S}"),
            *(f"safe.directory={folder}" for folder in self._trusted),
        ]
        options = [word for setting in settings for word in ("-c", setting)]
        command = ["git", "-C", self._folder, *options, *args]
        return Process(command, self._env, stdin, silence_s)

    def stream(self, *args: str) -> Iterator[bytes]:
        """Yield what a command writes, record by record (each ends in NUL)."""
        with self.start(*args) as process:
            held = b""
            while piece := process.read(PIECE_BYTES):
                *whole, held = (held + piece).split(b"\0")
                yield from whole
                if len(held) > _RECORD_BYTES:
                    raise ContextError("it has a name of over 1 MB")
            _check(process)

    def line(self, *args: str, silence_s: float = SILENCE_S) -> str:
        """Return the one line that a command writes.

        Raises:
            ContextError: it fails.
        """
        try:
            return self._line(args, silence_s)
        except _Untrusted:
            self._trusted = self._users_own()
        try:
            return self._line(args, silence_s)
        except _Untrusted:
            raise ContextError(
                "it belongs to somebody else, and git refuses it: if you trust it, "
                "`git config --global --add safe.directory` with its absolute path"
            ) from None

    def _line(self, args: Sequence[str], silence_s: float) -> str:
        with self.start(*args, silence_s=silence_s) as process:
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

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        stdin: int,
        silence_s: float = SILENCE_S,
    ) -> None:
        if shutil.which(command[0], path=env.get("PATH", os.defpath)) is None:
            raise ContextError("git is not installed")
        if any("\0" in word for word in command):
            raise ContextError("embedded null byte")
        self._silence_s = silence_s
        self._said = bytearray()
        self._failed: OSError | None = None
        started = threading.Event()
        self._listens = threading.Thread(
            target=self._run, args=(command, env, stdin, started), daemon=True
        )
        self._listens.start()
        started.wait()
        if self._failed is not None:
            raise ContextError(f"git cannot be started ({self._failed.strerror})")

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
        """Read up to so many bytes as they come.

        Raises:
            ContextError: none come for too long.
        """
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        if not poll.poll(self._silence_s * 1000):
            raise self._silent()
        return os.read(self._out, size)

    def order(self, line: bytes) -> None:
        """Write a line to its input."""
        if self._process.stdin is not None:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()

    def end(self) -> tuple[int, list[str]]:
        """Wait for its end: exit code, and what it said."""
        try:
            code = self._process.wait(self._silence_s)
        except subprocess.TimeoutExpired:
            raise self._silent() from None
        self._listens.join()
        return code, os.fsdecode(bytes(self._said)).strip().splitlines()

    @property
    def _out(self) -> int:
        return self._process.stdout.fileno() if self._process.stdout else -1

    def _silent(self) -> ContextError:
        return ContextError(f"git has said nothing for {self._silence_s:g} s")

    def _run(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        stdin: int,
        started: threading.Event,
    ) -> None:
        """Start it and take what it says: who writes to a full pipe would wait for ever.

        It is this thread that starts it: the kernel ends it with the thread that did.
        """
        try:
            self._process = subprocess.Popen(  # noqa: S603  (words; names follow options)
                [sys.executable, "-I", "-S", "-c", _DIES_WITH_US, str(os.getpid()), *command],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        except OSError as error:
            self._failed = error
            return
        finally:
            started.set()
        fd = self._process.stderr.fileno() if self._process.stderr else -1
        while piece := os.read(fd, _SAID_BYTES):
            self._said += piece[: _SAID_BYTES - len(self._said)]
