"""Jobs for readers in the background: when each is worked on, and how far they have come.

A few files are read at the same time, each level of nesting on threads of its own, so that
an archive may wait for its members while these are read.

Invariant: no thread waits for one of its own level or of one above. Does not read (`members`).
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from abyme.contexts import unpacked
from abyme.contexts.account import is_passing, why
from abyme.contexts.choice import Choice
from abyme.contexts.filters import Filter
from abyme.contexts.kinds import Kind
from abyme.contexts.members import Desk, Job, look_at
from abyme.contexts.reading import Readers
from abyme.contexts.shelf import Order, Shelf

_AHEAD: Final = 4
"""Spooled members that wait for each thread."""
_TICK_S: Final = 0.1


class Unpacking:
    """Works on jobs; `wait` sees them through, `close` drops what is left."""

    def __init__(self, shelf: Shelf, choice: Choice, *, threads: int, memory_bytes: int) -> None:
        self._threads = threads
        self._readers = Readers()
        self._stopping = threading.Event()
        allowance = unpacked.of_load(memory_bytes)
        self._desk = Desk(
            shelf,
            choice,
            self._readers,
            allowance,
            self._stopping,
            self._hand_on,
            Filter(choice),
        )
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._slots: dict[int, threading.Semaphore] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open_jobs = 0
        self._failed: BaseException | None = None
        self._reading: dict[Order, int] = {}
        """Sources that are being read, by their descriptors."""
        self._done_files = self._done_bytes = 0

    def submit(self, job: Job) -> None:
        """Have a source read."""
        pool = self._pool(0)
        with self._lock:
            self._open_jobs += 1
        pool.submit(self._run, job)

    @property
    def left_out(self) -> int:
        """Count the members that the user's patterns left out."""
        return len(self._desk.left_out)

    def instead(self, kind: Kind) -> str | None:
        """Say why a file is not given to its reader; empty if that is the user's wish."""
        return self._desk.instead(kind)

    def wait(self, report: Callable[[], None]) -> None:
        """Wait until everything is read; `report` is called now and then.

        Raises:
            ContextError: there is no room for the context.
        """
        while True:
            with self._changed:
                done = self._changed.wait_for(self._is_over, _TICK_S)
            if self._failed:
                raise self._failed
            report()
            if done:
                return

    def progress(self) -> tuple[int, int]:
        """Tell how many sources were read, and how many bytes of sources."""
        with self._lock:
            within = 0
            for fd in self._reading.values():
                with suppress(OSError):
                    within += os.lseek(fd, 0, os.SEEK_CUR)
            return self._done_files, self._done_bytes + within

    def close(self) -> None:
        """End the readers, and wait for the threads. Safe to repeat."""
        self._stopping.set()
        self._readers.close()
        for depth in sorted(self._pools):
            self._pools[depth].shutdown()

    def _is_over(self) -> bool:
        return self._open_jobs == 0 or self._failed is not None

    def _pool(self, depth: int) -> ThreadPoolExecutor:
        with self._lock:
            if depth not in self._pools:
                self._pools[depth] = ThreadPoolExecutor(self._threads, f"abyme-unpack-{depth}")
                self._slots[depth] = threading.Semaphore(self._threads * _AHEAD)
            return self._pools[depth]

    def _hand_on(self, job: Job) -> None:
        """Have a member read, as soon as few enough are waiting."""
        pool = self._pool(job.depth)
        while not self._slots[job.depth].acquire(timeout=_TICK_S):
            if self._stopping.is_set():
                break
        with self._lock:
            self._open_jobs += 1
        pool.submit(self._run, job)

    def _run(self, job: Job) -> None:
        size_bytes = 0
        try:
            with job.open() as file:
                size_bytes = os.fstat(file.fileno()).st_size
                with self._lock:
                    if job.depth == 0:
                        self._reading[job.order] = file.fileno()
                try:
                    if not self._stopping.is_set():
                        look_at(self._desk, job, file)
                finally:
                    with self._lock:
                        self._reading.pop(job.order, None)
        except OSError as error:
            if is_passing(error):
                self._desk.shelf.has_passing = True
            self._desk.shelf.skip(job.order, job.name, why(error))
        except BaseException as error:  # noqa: BLE001 - raised again by `wait`, on its thread
            self._stopping.set()
            with self._lock:
                self._failed = self._failed or error
        finally:
            self._end(job, size_bytes)

    def _end(self, job: Job, size_bytes: int) -> None:
        if job.depth:
            self._slots[job.depth].release()
        with self._changed:
            self._open_jobs -= 1
            if not job.depth:
                self._done_files += 1
                self._done_bytes += size_bytes
            self._changed.notify_all()
