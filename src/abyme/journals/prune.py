"""Runs off the disk: how large one is, and how it is removed.

Invariant: a run that is being written is never removed, and nobody begins to write one that
is (its lock is held meanwhile); a run is there whole or not at all, because it is renamed
before it is deleted. What a Ctrl-C leaves under the other name goes the next time.
Does not choose which runs go.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from abyme.errors import JournalError
from abyme.files import UnfitFile, open_regular
from abyme.journals.folder import RunFolder

_TRASH: Final = ".abyme-trash-"
"""Of our own making: a user may keep other things in the folder of the runs."""


def size_bytes(run: RunFolder) -> int:
    """Count the bytes of a run's files."""
    if run.path.is_symlink():
        return 0
    try:
        return sum(file.lstat().st_size for file in run.path.rglob("*") if not file.is_dir())
    except OSError:  # somebody removes it just now
        return 0


def remove(run: RunFolder) -> None:
    """Remove a run. Of a link, only the link.

    Raises:
        JournalError: it is running, or its folder cannot be changed.
    """
    try:
        if run.path.is_symlink():
            run.path.unlink()
            return
        with _held(run):
            trash = run.path.rename(run.path.with_name(_TRASH + run.id))
            shutil.rmtree(trash)
    except OSError as error:
        raise JournalError(f"cannot remove {run.path}: {error.strerror}") from error


def empty_trash(runs_dir: Path) -> None:
    """Delete what an earlier `remove` was kept from deleting, as far as it can be."""
    for path in runs_dir.glob(f"{_TRASH}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _held(run: RunFolder) -> Iterator[None]:
    """Hold the lock of a run's journal; a run without one has none, nor has what is no file."""
    try:
        fd = open_regular(run.events_path, os.O_RDONLY)
    except (FileNotFoundError, UnfitFile):
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise JournalError(f"{run.id} is running") from None
    finally:
        os.close(fd)
