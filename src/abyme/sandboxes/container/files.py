"""A run's contexts as files that containers can be given.

Decides where they lie: in a folder that nobody but this user can enter. A container cannot be given
the sealed memory itself (a bind mount needs a file), so this is a copy, one for all REPLs of
a run; nothing on the host reads it back. Invariant: while a run lives, a lock is held in its
folder; a folder whose lock is free was left by a host that was killed, and is swept away.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from abyme.errors import SandboxError

PREFIX = "abyme-container-"
STEP_BYTES = 1 << 30


class Files:
    """The folder of a run."""

    def __init__(self) -> None:
        """Make it.

        Raises:
            SandboxError: if that is not allowed.
        """
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock = _locked(self.folder)
        except OSError as error:
            raise SandboxError(f"no folder for the context of containers: {error}") from None
        self._known: dict[tuple[int, int], Path] = {}

    @property
    def name(self) -> str:
        """The run's name, for its containers."""
        return self.folder.name

    def of(self, fds: Sequence[int]) -> list[Path]:
        """Copy what is sealed behind descriptors into files, once.

        Raises:
            SandboxError: if the disk is full.
        """
        return [self._file(fd) for fd in fds]

    def close(self) -> None:
        """Remove the folder. Safe to repeat."""
        if self._lock >= 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def _file(self, fd: int) -> Path:
        facts = os.fstat(fd)
        key = (facts.st_dev, facts.st_ino)
        if key not in self._known:
            path = self.folder / f"{len(self._known)}"
            try:
                _copy(fd, path, facts.st_size)
            except OSError as error:
                path.unlink(missing_ok=True)
                raise SandboxError(
                    f"the context cannot be copied for containers: {error}"
                ) from None
            self._known[key] = path
        return self._known[key]


def left() -> list[Path]:
    """Find folders that nobody holds any more."""
    found = []
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid():
                os.close(_locked(folder))
                found.append(folder)
    return found


def _locked(folder: Path) -> int:
    """Take a folder's lock.

    Raises:
        OSError: if somebody has it.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _copy(fd: int, path: Path, size: int) -> None:
    with path.open("xb") as file:
        done = 0
        while done < size:
            done += os.sendfile(file.fileno(), fd, done, min(STEP_BYTES, size - done))
    path.chmod(0o444)  # for the container's user; nobody else comes through the folder
