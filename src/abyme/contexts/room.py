"""Where a context lies: in sealed memory, or in a nameless file if memory would not hold it.

Decides how much of the memory that is free a context may take, and refuses one for which
neither memory nor the disk has room, before it is read. Invariant: a file that is made here
has no name, is 0600, and what is handed to a guest is opened for reading only.

A file is sealed less well than memory: no kernel keeps its owner's other processes from
writing to it through /proc. `stamp` tells that it was touched. Does not write texts (`arena`).
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from abyme.contexts.sizes import size_words
from abyme.errors import ContextError

MEMORY_SHARE: Final = 0.6
"""Of the memory that is available. The rest is for REPLs, the host, and the page cache."""

MEMORY_SHARE_ALONE: Final = 0.95
"""The same where there is no folder to go to: what is refused then cannot be read at all."""

DISK_SPARE_BYTES: Final = 256 << 20
"""Left free on the disk, whatever a context needs."""

_CGROUPS: Final = Path("/sys/fs/cgroup")


class Stamp(NamedTuple):
    """What of a file changes when somebody touches it."""

    size_bytes: int
    mtime_ns: int
    inode: int
    links: int
    ctime_ns: int

    def is_same(self, other: "Stamp") -> bool:
        """Whether nothing was written. To lose its name alone (the cache drops it) is none."""
        return self[:3] == other[:3] and (
            self.links != other.links or self.ctime_ns == other.ctime_ns
        )


def stamp(fd: int) -> Stamp:
    """Look at a file as it is now."""
    status = os.fstat(fd)
    return Stamp(
        status.st_size, status.st_mtime_ns, status.st_ino, status.st_nlink, status.st_ctime_ns
    )


class NoRoom(ContextError):
    """Neither memory nor the disk hold what is to be read."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much memory a context may take, and where it goes when that is not enough."""

    folder: Path | None = None
    """Private to the user; None: memory is all there is."""
    memory_bytes: int | None = None
    """None: a share of what is available now."""

    def most_memory_bytes(self) -> int:
        """Count the bytes of memory that a context may take."""
        if self.memory_bytes is not None:
            return self.memory_bytes
        share = MEMORY_SHARE_ALONE if self.folder is None else MEMORY_SHARE
        return int(available_bytes() * share)

    def check_disk(self, needed_bytes: int) -> Path:
        """See that the disk holds so many bytes more; the folder.

        Raises:
            NoRoom: it does not, or there is no folder.
        """
        most = size_words(self.most_memory_bytes())
        if self.folder is None:
            raise NoRoom(
                f"the input needs {size_words(needed_bytes)} and may take {most} of memory"
            )
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk = os.statvfs(self.folder)
        except OSError as error:
            raise ContextError(f"cannot use {self.folder}: {error.strerror}") from error
        free = disk.f_bavail * disk.f_frsize
        if needed_bytes + DISK_SPARE_BYTES > free:
            raise NoRoom(
                f"the input needs {size_words(needed_bytes)}: it may take {most} of memory, and "
                f"the disk of {self.folder} has {size_words(free)} free"
            )
        return self.folder


MEMORY_ONLY: Final = Room()


def nameless(folder: Path) -> int:
    """Make a file without a name, for reading and writing.

    Raises:
        ContextError: the folder cannot be written to.
    """
    try:
        with contextlib.suppress(OSError):  # not every file system has O_TMPFILE
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        import tempfile  # noqa: PLC0415

        fd, path = tempfile.mkstemp(prefix=".abyme-arena-", dir=folder)
        os.unlink(path)  # noqa: PTH108
    except OSError as error:
        raise ContextError(f"cannot write to {folder}: {error.strerror}") from error
    return fd


def only_for_reading(fd: int) -> int:
    """Open a file once more, for reading, and close the descriptor that can write to it."""
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(fd)
    return again


def available_bytes() -> int:
    """Memory that can be had: of the machine, and of the control groups this process is in."""
    return min([_machine_bytes(), *_cgroup_bytes()])


def _machine_bytes() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _cgroup_bytes() -> list[int]:
    """Of each group above this process that has a limit (cgroup v2), what is left of it."""
    left: list[int] = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        line = next(
            line
            for line in Path("/proc/self/cgroup").read_text("utf-8").splitlines()
            if line.startswith("0::")
        )
        group = _CGROUPS / line[3:].strip("/")
        while True:
            left += _left(group)
            if group == _CGROUPS:
                break
            group = group.parent
    return left


def _left(group: Path) -> list[int]:
    try:
        most = (group / "memory.max").read_text("ascii").strip()
        if most == "max":
            return []
        used = int((group / "memory.current").read_text("ascii"))
        facts = (group / "memory.stat").read_text("ascii").split()
        cached = int(facts[facts.index("inactive_file") + 1])
    except (OSError, ValueError, IndexError):
        return []
    return [max(0, int(most) - used + cached)]
