"""What a REPL leaves behind on the host once it is closed: processes, descriptors.

Decides how they are counted: before it was opened and after. Where the system does not tell
(no /proc), nothing is counted. What takes a moment to go, as a container does, has that moment.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

LOOK_S: Final = 0.005
LOOKS: Final = 10
MOMENT_LOOKS: Final = 600


@dataclass(frozen=True, slots=True)
class Census:
    """How many descendants and open descriptors this process has. A REPL at rest has as many at
    any time, though not the same: each cell has a process of its own.
    """

    processes: int
    descriptors: int

    @classmethod
    def now(cls) -> Self:
        """Count."""
        try:
            descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
        except OSError:
            return cls(0, 0)
        return cls(sum(1 for _ in _below("self")), descriptors)

    def left_by(self, now: "Census") -> list[str]:
        """Tell what there is `now` that was not there before."""
        found = []
        if now.processes > self.processes:
            found.append(f"it left {now.processes - self.processes} processes behind")
        if now.descriptors > self.descriptors:
            found.append(f"it left {now.descriptors - self.descriptors} descriptors open")
        return found


async def at_rest() -> Census:
    """Count once nothing comes or goes any more."""
    same, before = 0, Census.now()
    while same < LOOKS:
        await asyncio.sleep(LOOK_S)
        now = Census.now()
        same, before = (same + 1 if now == before else 0), now
    return before


def most(one: Census, other: Census) -> Census:
    """Allow what either has: a sandbox may keep a REPL ready for the next that is asked for."""
    return Census(max(one.processes, other.processes), max(one.descriptors, other.descriptors))


async def left_since(before: Census) -> list[str]:
    """Tell what is left, once it has had a moment to go."""
    for _ in range(MOMENT_LOOKS):
        if not (found := before.left_by(Census.now())):
            return []
        await asyncio.sleep(LOOK_S)
    return found


def _below(process: str) -> Iterator[int]:
    """Walk the tree of processes. One that ends meanwhile is not there."""
    try:
        tasks = os.listdir(f"/proc/{process}/task")  # noqa: PTH208 - names only
    except OSError:
        return
    for task in tasks:
        try:
            text = Path(f"/proc/{process}/task/{task}/children").read_text(encoding="ascii")
        except OSError:
            continue
        for child in text.split():
            yield int(child)
            yield from _below(child)
