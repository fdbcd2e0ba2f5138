"""What the kernel tells of the processes of a REPL: time, memory, which are on their way out.

Decides nothing. Used on both sides: a host looks at a tree below a process, a container at all
that it has. Invariant: a process or thread that vanishes while it is looked at costs what is
told of it, and of no other. The first thread of a process may have ended while others go on: then
the kernel tells of memory only in their files.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from abyme.wire import ENGINE_PROCESSES

PROC: Final = "/proc"
PF_EXITING: Final = 0x4
"""In the flags of /proc/PID/stat (include/linux/sched.h)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One process."""

    parent: int
    ticks: int
    """Of processor time, with that of the children it has collected."""
    ending: bool
    """All its threads are on their way out, or wait to be collected."""


def seen(pid: int, proc: str = PROC) -> Seen | None:
    """Look at a process; None: it is gone."""
    words = _words_of_stat(f"{proc}/{pid}/stat")
    if not words:
        return None
    ending = _exits(words) and _all_end(pid, proc)
    return Seen(int(words[1]), sum(map(int, words[11:15])), ending)


def children(pid: int, proc: str = PROC) -> list[int]:
    """List the children of all threads of a process, the eldest first."""
    found: list[int] = []
    for task in _tasks(pid, proc):
        found += map(int, _read(f"{task}/children").split())
    return found


def private_bytes(pid: int, proc: str = PROC) -> int:
    """Look up the anonymous memory of a process; what it shares since a fork is counted too."""
    pages = _private_pages(f"{proc}/{pid}")
    if pages == 0:
        pages = max(map(_private_pages, _tasks(pid, proc)), default=0)
    return pages * os.sysconf("SC_PAGE_SIZE")


def add_up(found: Mapping[int, Seen], engine: set[int], proc: str = PROC) -> dict[str, Any]:
    """Tell what processes use; see `Use` of the host's side, whose fields these are."""
    return {
        "cpu_s": sum(one.ticks for one in found.values()) / os.sysconf("SC_CLK_TCK"),
        "processes": len(found),
        "ending": any(one.ending for one in found.values()),
        "forks_bytes": sum(private_bytes(pid, proc) for pid in found if pid not in engine),
    }


def engine(found: Mapping[int, Seen], supervisor: int) -> set[int]:
    """Tell which processes are the engine's own: each is the eldest child of the one before."""
    chain = [supervisor]
    while len(chain) < ENGINE_PROCESSES:
        below = (pid for pid, one in found.items() if one.parent == chain[-1])
        eldest = next(below, None)
        if eldest is None:
            break
        chain.append(eldest)
    return set(chain)


def _all_end(pid: int, proc: str) -> bool:
    threads = [words for task in _tasks(pid, proc) if (words := _words_of_stat(f"{task}/stat"))]
    return all(map(_exits, threads))


def _exits(words: list[bytes]) -> bool:
    return bool(int(words[6]) & PF_EXITING)


def _private_pages(folder: str) -> int:
    words = _read(f"{folder}/statm").split()
    return int(words[1]) - int(words[2]) if words else 0


def _tasks(pid: int, proc: str) -> list[str]:
    folder = f"{proc}/{pid}/task"
    try:
        names = sorted(os.listdir(folder), key=int)  # noqa: PTH208 - names only
    except OSError:
        return []
    return [f"{folder}/{name}" for name in names]


def _words_of_stat(path: str) -> list[bytes]:
    """Give what stands behind the name, from the state on."""
    return _read(path).rpartition(b")")[2].split()


def _read(path: str) -> bytes:
    """Read a file of the kernel's; nothing, if what it is of is gone."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib is dear in a guest
            return file.read()
    except OSError:
        return b""
