"""Write a run's records so that nothing that was acted on is ever lost.

Decides how durable a record is, and when. `flush` hands the group to the kernel with
write(2) before it returns: from then on the death of any process, SIGKILL included,
loses nothing. Against power loss a thread calls fdatasync(2) at most every
`sync_interval_s`, and `close` does once more.

Invariant: the file is whole lines. When the kernel takes only a part (disk full,
EFBIG, EDQUOT), that part is cut off again and the group is kept for another try.
A file that was deleted or changed by somebody else is noticed by the next `flush`, which
refuses: what nobody can read back must not be acted on. A link is not followed.
Does not order, number or judge records. One writer a file, held by flock(2).
"""

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path
from typing import Self

from abyme.core.events import Record
from abyme.errors import JournalError
from abyme.files import create_anew, open_regular
from abyme.journals.codec import encode

SYNC_INTERVAL_S = 0.2
SIGN = "alive"
"""File for signs of life."""
_LOCK_TRIES, _LOCK_PAUSE_S = 5, 0.01
"""Whoever looks whether a run is running holds its lock for an instant."""


class JournalWriter:
    """The journal of one run; implements `ports.Journal`. Not for several threads at once."""

    def __init__(self, path: Path, *, sync_interval_s: float = SYNC_INTERVAL_S) -> None:
        """Open `path` for appending and lock it; make it, mode 0600, if it is absent.

        To go on with a run, open it first, read it then, and `cut` it to what was intact:
        only under the lock does nobody else do the same.

        Raises:
            JournalError: if it cannot be opened, or another process is writing it.
        """
        self._path = path
        self._group: list[bytes] = []
        self._half_taken = False
        """The kernel has a part of a group that could not be cut off."""
        self._sign_fd: int | None = None
        try:
            self._fd: int | None = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise JournalError(f"cannot open {path}: {error.strerror}") from error
        try:
            _lock(self._fd, path)
            self._end_bytes = os.fstat(self._fd).st_size
            self._torn = self._ends_torn(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        self._syncer = _Syncer(self._fd, sync_interval_s)

    def append(self, record: Record) -> None:
        """Add a record to the group.

        Raises:
            JournalError: if it cannot be written as JSON.
        """
        self._group.append(encode(record))

    def cut(self, intact_bytes: int) -> None:
        """Cut off what is behind `Recording.intact_bytes`, so that the run can go on.

        Raises:
            JournalError: if the file cannot be changed, or is closed.
        """
        fd = self._open()
        try:
            os.ftruncate(fd, intact_bytes)
        except OSError as error:
            raise JournalError(f"cannot repair {self._path}: {error.strerror}") from error
        self._end_bytes = intact_bytes
        self._half_taken = False
        self._torn = self._ends_torn(fd)

    def flush(self) -> None:
        """Hand the group to the kernel. A group that could not be written is kept.

        Raises:
            JournalError: disk full; the file was deleted or changed by somebody else; its last
                line is torn; an earlier fdatasync failed.
        """
        self._syncer.check(self._path)
        if not self._group:
            return
        fd = self._open()
        self._check_ours(fd)
        group = b"\n".join(self._group) + b"\n"
        try:
            _write_all(fd, group)
        except OSError as error:
            self._take_back(fd)
            raise JournalError(f"cannot write {self._path}: {error.strerror}") from error
        self._end_bytes += len(group)
        self._group.clear()
        self._syncer.mark()

    def alive(self, elapsed_s: float) -> None:
        """Leave word, beside the journal, of how long the run has been at work. One that only
        waits has nothing to record, and a kill must not give it its time back. Never raises.
        """
        if self._fd is None:
            return
        with contextlib.suppress(OSError):
            if self._sign_fd is None:
                self._sign_fd = create_anew(self._path.with_name(SIGN))
            os.pwrite(self._sign_fd, b"%016.3f\n" % elapsed_s, 0)  # all of it, or nothing

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
            if self._sign_fd is not None:
                os.close(self._sign_fd)
                self._sign_fd = None
        self._syncer.check(self._path)

    def _open(self) -> int:
        if self._fd is None:
            raise JournalError(f"{self._path} is closed")
        return self._fd

    def _check_ours(self, fd: int) -> None:
        """Make sure that the file is where it was, and ends where we left it."""
        if self._half_taken:
            self._take_back(fd)
        status = os.fstat(fd)
        if not status.st_nlink:
            raise JournalError(f"{self._path} was deleted while it was written")
        if self._half_taken or self._torn:
            raise JournalError(f"{self._path} ends in a torn line, which must be cut off first")
        if status.st_size != self._end_bytes:
            raise JournalError(
                f"{self._path} was changed by somebody else: it has {status.st_size:,} bytes "
                f"where {self._end_bytes:,} were written"
            )

    def _take_back(self, fd: int) -> None:
        """Cut off the part of a group that the kernel took before it refused the rest."""
        try:
            os.ftruncate(fd, self._end_bytes)
        except OSError:
            self._half_taken = True  # the next flush tries again
        else:
            self._half_taken = False

    def _ends_torn(self, fd: int) -> bool:
        end = self._end_bytes
        return end > 0 and os.pread(fd, 1, end - 1) != b"\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lock(fd: int, path: Path) -> None:
    """Take the lock of a file that is still there."""
    for tries_left in reversed(range(_LOCK_TRIES)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not tries_left:
                message = f"{path.parent.name} is being written by another process"
                raise JournalError(message) from None
            time.sleep(_LOCK_PAUSE_S)
        except OSError:
            break  # a file system without locks: then nothing guards against a second writer
    if not os.fstat(fd).st_nlink:
        raise JournalError(f"{path} was deleted while it was opened")


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
