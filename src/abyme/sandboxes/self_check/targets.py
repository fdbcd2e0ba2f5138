"""The things on the host that attacks aim at, each with a look at whether it was reached.

Decides what counts as reached: a file that came, went or changed; a listener that was spoken to; a
process that is not as it was; an object of the system that bears our mark. Each looks for
itself, and puts right what it finds, so that one hole is told of once.

Everything is of this user and as open as a careless host: if an attack fails, the sandbox
has stopped it.
"""

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

CANARY: Final = "canary"
OPEN_FOLDER, OPEN_FILE = 0o777, 0o666
SHARED_FOLDERS: Final = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue")  # noqa: S108 - looked at only
SYSTEM_V: Final = ("/proc/sysvipc/shm", "/proc/sysvipc/msg", "/proc/sysvipc/sem")
WATCHED: Final = ("State", "TracerPid", "Uid", "Gid", "SigCgt", "SigIgn", "SigPnd", "ShdPnd")
"""Lines of /proc/PID/status that do not change of a process which nobody touches."""
RUNNING: Final = "R (running)"
SLEEPING: Final = "S (sleeping)"
MAX_PEERS: Final = 100


class Target(Protocol):
    """One of them."""

    @property
    def placeholders(self) -> Mapping[str, str]:
        """What code may hold, and what stands for it."""
        ...

    def reached(self) -> list[str]:
        """Tell what was reached since the last look, and put it right."""
        ...

    def close(self) -> None:
        """Take it away. Safe to repeat."""
        ...


class Folder:
    """A folder that anybody may write, with a file that anybody may read and write."""

    def __init__(self, path: Path, secret: str) -> None:
        self._path = path
        self._secret = secret
        path.mkdir()
        self._fill()

    @property
    def placeholders(self) -> Mapping[str, str]:
        """See `Target`."""
        return {"{dir}": str(self._path), "{canary}": self._secret}

    def reached(self) -> list[str]:
        """See `Target`."""
        now = self._contents()
        if now == self._was:
            return []
        names = sorted(name for name, _ in now ^ self._was)
        self._fill()
        return [f"in a folder of the host came, went or changed: {', '.join(names)}"]

    def close(self) -> None:
        """See `Target`."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _fill(self) -> None:
        shutil.rmtree(self._path)
        self._path.mkdir()
        self._path.chmod(OPEN_FOLDER)
        file = self._path / CANARY
        file.write_text(self._secret, encoding="ascii")
        file.chmod(OPEN_FILE)
        self._was = self._contents()

    def _contents(self) -> set[tuple[str, object]]:
        found: set[tuple[str, object]] = {(".", self._path.stat().st_mode)}
        for path in self._path.rglob("*"):
            stat = path.lstat()
            told = (stat.st_ino, stat.st_mode, stat.st_nlink, stat.st_mtime_ns, stat.st_ctime_ns)
            found.add((str(path.relative_to(self._path)), told))
        return found


class Listeners:
    """Sockets that anybody of this host can reach: two of the internet, two local ones."""

    def __init__(self, path: Path, abstract: str) -> None:
        self._path = path
        self._abstract = abstract
        tcp = _bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self._port = tcp.getsockname()[1]
        self._sockets = {
            "a TCP port": tcp,
            "a UDP port": _bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", self._port)),
            "an abstract unix socket": _bound(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{abstract}"),
            "a unix socket": _bound(socket.AF_UNIX, socket.SOCK_STREAM, str(path)),
        }
        path.chmod(OPEN_FOLDER)

    @property
    def placeholders(self) -> Mapping[str, str]:
        """See `Target`."""
        own = {"{port}": str(self._port), "{abstract}": self._abstract}
        return {**own, "{unix}": str(self._path)}

    def reached(self) -> list[str]:
        """See `Target`."""
        return [f"{name} of the host was spoken to" for name, one in self._sockets.items()
                if _heard(one)]  # fmt: skip

    def close(self) -> None:
        """See `Target`."""
        for one in self._sockets.values():
            one.close()
        self._path.unlink(missing_ok=True)


class Victim:
    """A process of the same user that does nothing and may be signalled."""

    def __init__(self) -> None:
        self._start()

    @property
    def placeholders(self) -> Mapping[str, str]:
        """See `Target`."""
        return {"{pid}": str(self._process.pid), "{host}": str(os.getpid())}

    def reached(self) -> list[str]:
        """See `Target`."""
        now = self._looks()
        if now == self._was:
            return []
        changed = sorted(name for name, _ in set(now.items()) ^ set(self._was.items()))
        self.close()
        self._start()
        return [f"a process of the host is not as it was: {', '.join(changed)}"]

    def close(self) -> None:
        """See `Target`."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _start(self) -> None:
        program = "import sys; print(flush=True); sys.stdin.read()"  # ends with its parent
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        with self._process.stdout as ready:
            ready.readline()
        self._was = self._looks()

    def _looks(self) -> dict[str, str]:
        if self._process.poll() is not None:
            return {"it has ended": str(self._process.returncode)}
        pid = self._process.pid
        found = {"priority": str(os.getpriority(os.PRIO_PROCESS, pid))}
        if sys.platform == "linux":
            found["processors"] = str(sorted(os.sched_getaffinity(pid)))
            found["limits"] = str(resource.prlimit(pid, resource.RLIMIT_NOFILE))
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
            lines = (line.partition(":\t") for line in status.splitlines())
            found |= {name: value for name, _, value in lines if name in WATCHED}
        if found.get("State") == RUNNING:  # on its way into the pause
            found["State"] = SLEEPING
        return found


class Marks:
    """Objects of the system that any process of the user may make, known by name or key."""

    def __init__(self, mark: str, key: int) -> None:
        self._mark = mark
        self._key = key

    @property
    def placeholders(self) -> Mapping[str, str]:
        """See `Target`."""
        return {"{mark}": self._mark, "{key}": str(self._key)}

    def reached(self) -> list[str]:
        """See `Target`."""
        return [*self._files(), *self._system_v()]

    def close(self) -> None:
        """See `Target`."""
        self._files()

    def _files(self) -> Iterator[str]:
        for folder in SHARED_FOLDERS:
            try:
                names = os.listdir(folder)  # noqa: PTH208 - names only
            except OSError:
                continue
            for name in names:
                if self._mark in name:
                    path = Path(folder, name)
                    with contextlib.suppress(OSError):
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                    yield f"a file was made in {folder}"

    def _system_v(self) -> Iterator[str]:
        for name in SYSTEM_V:
            with contextlib.suppress(OSError):
                lines = Path(name).read_text(encoding="ascii").splitlines()
                if any(line.split()[:1] == [str(self._key)] for line in lines):
                    yield f"an object of System V was made: {name}"


def _bound(family: int, kind: int, address: object) -> socket.socket:
    made = socket.socket(family, kind)
    try:
        made.bind(address)  # type: ignore[arg-type]
        if kind == socket.SOCK_STREAM:
            made.listen(MAX_PEERS)
        made.settimeout(0)
    except OSError:
        made.close()
        raise
    return made


def _heard(listener: socket.socket) -> bool:
    heard = False
    for _ in range(MAX_PEERS):
        try:
            if listener.type == socket.SOCK_STREAM:
                listener.accept()[0].close()
            else:
                listener.recv(1)
        except BlockingIOError:
            break
        except OSError:
            pass
        heard = True
    return heard
