"""A git repository at a revision -> its files, read out of the object store.

Decides how git is started. Invariant: nothing of the repository's own making runs and nothing
is written into it: no checkout, so no hooks, filters, attributes or links; only `rev-parse`,
`ls-tree` and `cat-file`, which start no programs; no settings but git's own defaults and what
this file says; a repository on this machine is read without any transport, so that no missing
object is fetched by what its settings name. One on another machine is fetched first, one
commit deep, into a bare repository of ours.
Names come out of the tree, which says what it likes: they lead nowhere, and those that would
are skipped. Does not read working trees (`walk`).
"""

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import PurePosixPath
from typing import BinaryIO, Final, Self

from abyme.contexts.decode import NotText
from abyme.contexts.places import is_local, repository, without_secrets
from abyme.contexts.remote import Elsewhere
from abyme.contexts.sizes import size_words
from abyme.contexts.walk import Found, Skipped
from abyme.errors import ContextError

MOST_FILES: Final = 1_000_000
"""Of one revision: a tree may name another ten times, and so on, ten levels deep."""
MOST_BYTES: Final = 10**9
"""Of one file: it is unpacked into memory, and may have been packed a thousandfold."""
IDLE_S: Final = 30
_PIECE_BYTES: Final = 1 << 20
_SAID_BYTES: Final = 64 << 10
_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES: Final = 1024
_MISSING: Final = "missing in the repository"
_KINDS: Final = {b"120000": "link", b"160000": "submodule"}
_PASSED_ON: Final = ("HOME", "PATH", "SSH_AUTH_SOCK")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def revision_of(source: str, *, env: Mapping[str, str], closing: ExitStack) -> Elsewhere:
    """List the files of ``git+PLACE@REV``.

    Raises:
        ContextError: there is no git, no such repository or revision, or git refuses it.
    """
    place, revision = repository(source)
    if is_local(place):
        if not os.path.isdir(place):  # noqa: PTH112
            raise ContextError("there is no such folder")
        git = _Git(place, env, protocols="none")
    else:
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="abyme-git-"))
        git = _Git(folder, env, protocols="http:https:ssh")
        _fetch(git, place, revision)
        git, revision = _Git(folder, env, protocols="none"), "FETCH_HEAD"
    commit = _commit(git, revision)
    blobs = _Blobs(git)
    closing.callback(blobs.close)
    found: list[Found] = []
    skipped: list[Skipped] = []
    listed = git.stream("ls-tree", "-r", "-z", "-l", "--full-name", commit)
    for number, entry in enumerate(listed, 1):
        if number > MOST_FILES:
            raise ContextError(f"more than {MOST_FILES:,} files")
        facts, _, path = entry.partition(b"\t")
        mode, _, oid, size = facts.split()
        name = os.fsdecode(path)
        if (reason := _KINDS.get(mode) or _leads_out(name)) is not None:
            skipped.append(Skipped(name, reason))
        elif not size.isdigit():
            skipped.append(Skipped(name, _MISSING))
        elif int(size) > MOST_BYTES:
            skipped.append(Skipped(name, f"over {size_words(MOST_BYTES)}"))
        else:
            opened = partial(blobs.open, oid, int(size))
            found.append(Found(name, f"{commit[:12]}:{name}", int(size), opened))
    name = PurePosixPath(os.path.abspath(place) if is_local(place) else place).name  # noqa: PTH100
    name = name.removesuffix(".git") or "repository"
    return Elsewhere(name=name, found=found, skipped=skipped, revision=commit)


def _commit(git: "_Git", revision: str) -> str:
    try:
        return git.line("rev-parse", "--verify", "--end-of-options", revision + "^{commit}")
    except ContextError as error:
        if "single revision" in str(error):
            raise ContextError(f"there is no revision {revision!r}") from None
        raise


class _Git:
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

    def start(self, *args: str, stdin: int = subprocess.DEVNULL) -> "_Process":
        """Start a command of git's."""
        settings = [
            *("core.fsmonitor=false", f"core.hooksPath={os.devnull}", "gc.auto=0"),
            *("http.lowSpeedLimit=1", f"http.lowSpeedTime={IDLE_S}"),
            *(f"safe.directory={folder}" for folder in self._trusted),
        ]
        options = [word for setting in settings for word in ("-c", setting)]
        return _Process(["git", "-C", self._folder, *options, *args], self._env, stdin)

    def stream(self, *args: str) -> Iterator[bytes]:
        """Yield what a command writes, record by record (each ends in NUL)."""
        with self.start(*args) as process:
            held = b""
            while piece := process.read(_PIECE_BYTES):
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
            with _Process(command, self._user, subprocess.DEVNULL) as process:
                found += filter(None, _whole(process).split("\0"))
        return found


def _whole(process: "_Process") -> str:
    """Read all that comes, as far as it is of a sensible size."""
    held = b""
    while len(held) < _PIECE_BYTES and (piece := process.read(_PIECE_BYTES)):
        held += piece
    return os.fsdecode(held)


def _check(process: "_Process") -> None:
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


class _Blobs:
    """Files of a repository, out of one `cat-file`; safe in threads, one at a time."""

    def __init__(self, git: _Git) -> None:
        self._git = git
        self._lock = threading.Lock()
        self._process: _Process | None = None

    def open(self, oid: bytes, size: int) -> BinaryIO:
        """Unpack one into memory.

        Raises:
            NotText: it stands for a file that is kept elsewhere.
            OSError: the repository is broken.
        """
        spool = os.fdopen(os.memfd_create("abyme-blob", os.MFD_CLOEXEC), "w+b", buffering=0)
        try:
            with self._lock:
                self._copy(oid, size, spool.fileno())
            _refuse_pointer(spool.fileno(), size)
            spool.seek(0)
        except BaseException:
            spool.close()
            raise
        return spool

    def close(self) -> None:
        """End git."""
        if self._process is not None:
            self._process.__exit__(None, None, None)
            self._process = None

    def _copy(self, oid: bytes, size: int, spool: int) -> None:
        """Copy ``OID blob SIZE``, the content, and a line end."""
        if self._process is None:
            self._process = self._git.start("cat-file", "--batch", stdin=subprocess.PIPE)
        self._process.order(oid)
        held = self._process.read(_PIECE_BYTES)
        while b"\n" not in held and (piece := self._process.read(_PIECE_BYTES)):
            held += piece
        head, _, held = held.partition(b"\n")
        if head.split()[1:] != [b"blob", str(size).encode()]:
            raise OSError(0, _MISSING)
        left = size + 1
        while True:
            _write(spool, held[: left - 1] if len(held) >= left else held)
            left -= len(held)
            if left <= 0:
                return
            held = self._process.read(min(left, _PIECE_BYTES))
            if not held:
                raise OSError(0, "the repository is broken")


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _refuse_pointer(spool: int, size: int) -> None:
    if size <= _POINTER_BYTES and os.pread(spool, len(_POINTER), 0) == _POINTER:
        raise NotText("Git LFS pointer: its content is not in the repository")


class _Process:
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


def _fetch(git: _Git, url: str, revision: str) -> None:
    """Fetch one commit, without its history, into a new repository without hooks."""
    if any(char in revision for char in ":+*^~ ") or revision.startswith("/"):
        raise ContextError(f"{revision!r}: of a remote a branch, a tag or a whole hash is read")
    git.line("init", "-q", "--bare", "--template=")
    fetch = ("--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-commit-graph")
    try:
        git.line("fetch", "-q", *fetch, "--", url, revision)
    except ContextError as error:
        raise ContextError(str(error).replace(url, without_secrets(url))) from None


def _leads_out(name: str) -> str | None:
    """Give the reason to skip a name that no honest tree has."""
    parts = name.split("/")
    if name.startswith("/") or any(part in {"", ".", ".."} for part in parts):
        return "its name leads out of the repository"
    return "inside a .git folder" if ".git" in map(str.lower, parts) else None
