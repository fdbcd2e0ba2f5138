"""A program of ours that runs confined beside the host: started, spoken to, ended.

Decides how the interpreter of `abyme.helpers.program` is started: by path, with none of the
user's settings, in a session of its own, with the folders of packages that this interpreter
imports from, which it can see until it has confined itself. Invariant: nothing that a
helper sends is believed: frames are bounded, heads are JSON objects, and what does not keep
to that ends the helper.

Blocking: for worker threads, one owner at a time; `close` may come from any.
"""

import contextlib
import importlib.util
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

import abyme.helpers
from abyme.errors import ContextError

HEADER: Final = struct.Struct("!II")
MAX_HEAD_BYTES: Final = 1 << 20
MAX_BODY_BYTES: Final = 64 << 20
START_TIMEOUT_S: Final = 60.0
END_TIMEOUT_S: Final = 10.0
OUT_OF_MEMORY, OUT_OF_TIME, OF_SIGNAL = 65, 66, 128
"""Exit statuses of the program."""
SITE: Final = frozenset({"site-packages", "dist-packages"})
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
ENVIRONMENT: Final = MappingProxyType(
    {
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "TZ": "UTC0",
        **dict.fromkeys(
            ("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"),
            "1",
        ),
    }
)
"""One thread where libraries would start some: namespaces are entered and forked with one."""
BROKE_THE_RULES: Final = "broke the rules"


class HelperUnavailable(ContextError):
    """No helper can be confined on this system, or the program does not start; says what to do."""


class HelperFailed(ContextError):
    """A helper ended, or did not keep its rules.

    `why`: ``crashed (signal 11)``, ``out of memory``, ``more than 60 s``, ``broke the rules``.
    """

    def __init__(self, job: str, why: str) -> None:
        super().__init__(f"the helper {job!r} failed: {why}")
        self.job = job
        self.why = why


class Confined:
    """A helper. `needs`: modules that its job imports, to find their folders by."""

    def __init__(  # noqa: PLR0913 - one argument a bound
        self,
        job: str,
        *,
        memory_bytes: int,
        cpu_s: int | None = None,
        mapped_bytes: int = 0,
        order: Mapping[str, Any] = NOTHING,
        needs: Sequence[str] = (),
    ) -> None:
        self._job = job
        self._cpu_s = cpu_s
        self._first = {
            "order": dict(order),
            "folders": folders_of(needs),
            "memory_bytes": memory_bytes,
            "mapped_bytes": mapped_bytes,
            "cpu_s": cpu_s,
        }
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Lock()
        self.layers: tuple[str, ...] = ()
        """What it has verified."""

    def start(self) -> None:
        """Launch it and wait until it says that it is confined.

        Raises:
            HelperUnavailable: it is not.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with tempfile.TemporaryFile() as errors:
            try:
                with theirs:
                    self._process = self._launch(theirs.fileno(), errors)
                self._socket = ours
                self.send(self._first)
                ready, _ = self.receive(START_TIMEOUT_S)
            except OSError as error:
                ours.close()
                raise HelperUnavailable(f"a helper cannot be started: {error}") from error
            except HelperFailed as error:
                self.close()
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace").strip().splitlines()
                why = said[-1] if said else error.why
                raise HelperUnavailable(f"the helper {self._job!r} does not start: {why}") from None
        layers = ready.get("layers")
        if ready.get("t") != "ready" or not isinstance(layers, list):
            self.close()
            raise HelperUnavailable(
                f"the helper {self._job!r} cannot be confined here ({ready.get('why')}); "
                "`abyme doctor` shows what this system offers"
            )
        self.layers = tuple(str(layer) for layer in layers)

    def send(self, head: Mapping[str, Any], fds: Sequence[int] = (), body: bytes = b"") -> None:
        """Send a frame, with descriptors that stay the caller's as well.

        Raises:
            HelperFailed: it is gone.
        """
        words = json.dumps(head).encode("ascii")
        link = self._link()
        try:
            link.settimeout(START_TIMEOUT_S)
            if fds:
                socket.send_fds(link, [HEADER.pack(len(words), len(body))], list(fds))
            else:
                link.sendall(HEADER.pack(len(words), len(body)))
            link.sendall(words)
            link.sendall(body)
        except OSError:
            raise self._failed() from None

    def receive(self, timeout_s: float | None) -> tuple[dict[str, Any], bytes]:
        """Wait for a frame: head and body.

        Raises:
            HelperFailed: it ended, broke the rules, or took longer, and was ended.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            head_bytes, body_bytes = HEADER.unpack(self._exactly(HEADER.size, deadline))
            _must(head_bytes <= MAX_HEAD_BYTES and body_bytes <= MAX_BODY_BYTES)
            head = json.loads(self._exactly(head_bytes, deadline))
            _must(isinstance(head, dict))
            body = self._exactly(body_bytes, deadline)
        except TimeoutError:
            self.close()
            raise HelperFailed(self._job, f"more than {timeout_s:g} s") from None
        except (ValueError, RecursionError):
            self.close()
            raise HelperFailed(self._job, BROKE_THE_RULES) from None
        except (OSError, EOFError):
            raise self._failed() from None
        return head, bytes(body)

    def fileno(self) -> int:
        """Tell the descriptor that is readable when a frame comes, or the helper has ended."""
        return self._link().fileno()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """Kill it and wait for its end. Safe to repeat."""
        with self._ending:
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
                self._process.wait()
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                self._socket.close()

    def _launch(self, fd: int, errors: IO[bytes]) -> "subprocess.Popen[bytes]":
        program = Path(abyme.helpers.__file__).parent / "program.py"
        python = str(getattr(sys, "_base_executable", None) or sys.executable)
        return subprocess.Popen(  # noqa: S603 - our own program, by full path
            [python, "-s", "-S", "-P", str(program), self._job, str(fd)],
            pass_fds=[fd],
            env=dict(ENVIRONMENT),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd="/",
            start_new_session=True,
        )

    def _link(self) -> socket.socket:
        if self._socket is None or self._socket.fileno() < 0:
            raise HelperFailed(self._job, "it is not running")
        return self._socket

    def _exactly(self, size: int, deadline: float | None) -> bytearray:
        link = self._link()
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            link.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
            got = link.recv_into(view[at:])
            if not got:
                raise EOFError
            at += got
        return data

    def _failed(self) -> HelperFailed:
        """Word its end by how it ended."""
        status = self._end_status()
        self.close()
        if status == OUT_OF_MEMORY:
            return HelperFailed(self._job, "out of memory")
        if status == OUT_OF_TIME:
            return HelperFailed(self._job, f"more than {self._cpu_s} s")
        if status is not None and status > OF_SIGNAL:
            return HelperFailed(self._job, f"crashed (signal {status - OF_SIGNAL})")
        if status is not None and status < 0:
            return HelperFailed(self._job, "it was ended")
        return HelperFailed(self._job, f"crashed (exit status {status})")

    def _end_status(self) -> int | None:
        if self._process is None:
            return None
        try:
            return self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return None


def _must(holds: bool) -> None:  # noqa: FBT001 - an assertion
    if not holds:
        raise ValueError


def folders_of(needs: Sequence[str]) -> list[str]:
    """Find the folders of packages of this interpreter, and of modules that lie elsewhere."""
    folders = [entry for entry in sys.path if Path(entry).name in SITE and Path(entry).is_dir()]
    for name in needs:
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin not in {None, "built-in", "frozen"}:
                places = list(spec.submodule_search_locations or ()) or [spec.origin or ""]
                folder = str(Path(places[0]).resolve().parent)
                if folder not in folders and name not in sys.stdlib_module_names:
                    folders.append(folder)
    return folders
