"""Write a run's records so that nothing that was acted on is ever lost.

Decides how durable a record is, and when. `flush` hands the group to the kernel with
write(2) before it returns: from then on the death of any process, SIGKILL included,
loses nothing. Against power loss a thread calls fdatasync(2) at most every
`sync_interval_s`, and `close` does once more.

Invariant: the file is whole lines. When the kernel takes only a part (disk full,
EFBIG, EDQUOT), that part is cut off again and the group is kept for another try.
Does not order, number or judge records. One writer a file, held by flock(2).
"""

import fcntl
import os
import threading
from pathlib import Path
from typing import Self

from abyme.core.events import Record
from abyme.errors import JournalError
from abyme.journals.codec import encode

SYNC_INTERVAL_S = 0.2


class JournalWriter:
    """The journal of one run; implements `ports.Journal`. Not for several threads at once."""

    def __init__(self, path: Path, *, sync_interval_s: float = SYNC_INTERVAL_S) -> None:
        """Open `path` for appending and lock it; make it, mode 0600, if it is absent.

        To go on with a run whose last line is torn, cut the file to
        `Recording.intact_bytes` first (`truncate`).

        Raises:
            JournalError: if it cannot be opened, or another process is writing it.
        """
        self._path = path
        self._group: list[bytes] = []
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd: int | None = os.open(path, flags, 0o600)
        except OSError as error:
            raise JournalError(f"cannot open {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise JournalError(f"{path.parent.name} is being written by another process") from None
        except OSError:
            pass  # a file system without locks: then nothing guards against a second writer
        self._end_bytes = os.fstat(self._fd).st_size
        self._syncer = _Syncer(self._fd, sync_interval_s)

    def append(self, record: Record) -> None:
        """Add a record to the group.

        Raises:
            JournalError: if it cannot be written as JSON.
        """
        self._group.append(encode(record))

    def flush(self) -> None:
        """Hand the group to the kernel. A group that could not be written is kept.

        Raises:
            JournalError: disk full, file gone, or an earlier fdatasync failed.
        """
        self._syncer.check(self._path)
        if not self._group:
            return
        if self._fd is None:
            raise JournalError(f"{self._path} is closed")
        group = b"\n".join(self._group) + b"\n"
        try:
            _write_all(self._fd, group)
        except OSError as error:
            os.ftruncate(self._fd, self._end_bytes)
            raise JournalError(f"cannot write {self._path}: {error.strerror}") from error
        self._end_bytes += len(group)
        self._group.clear()
        self._syncer.mark()

    def close(self) -> None:
        """Flush, make everything durable, unlock. Safe to repeat.

        Raises:
            JournalError: as `flush`; the file is closed all the same.
        """
        if self._fd is None:
            return
        try:
            self.flush()
        finally:
            self._syncer.stop()
            os.close(self._fd)
            self._fd = None
        self._syncer.check(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def truncate(path: Path, intact_bytes: int) -> None:
    """Cut a torn last line off, so that a run can be continued.

    Raises:
        JournalError: if the file cannot be changed.
    """
    try:
        os.truncate(path, intact_bytes)
    except OSError as error:
        raise JournalError(f"cannot repair {path}: {error.strerror}") from error


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class _Syncer:
    """Calls fdatasync in a thread of its own, at most every `interval_s`."""

    def __init__(self, fd: int, interval_s: float) -> None:
        self._fd = fd
        self._interval_s = interval_s
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None

    def mark(self) -> None:
        """There is something new to make durable."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
            self._thread.start()
        self._wake.set()

    def check(self, path: Path) -> None:
        if self._failure is not None:
            raise JournalError(f"cannot write {path}: {self._failure.strerror}") from self._failure

    def stop(self) -> None:
        if self._thread is None:
            return
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        self._thread = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._failure = error
                return
            self._stopping.wait(self._interval_s)
        if self._wake.is_set():
            self._wake.clear()
            self._sync_last()

    def _sync_last(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._failure = error
