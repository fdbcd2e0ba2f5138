"""What a cell may use, and how far one went that used more.

Decides when the processes of a cell have passed a limit that no kernel holds for this tier, and
the words for the number reached. Data and words only: when to look, and what comes of it, is
the session's business. `memory_bytes` binds each process by the kernel; here it binds what a cell
forks, all together. So a REPL holds at most three times as much: the process of the cell, its
snapshot and the forks, and what these take between two looks.

Between cells as well: a thread may outlive its cell, and code may say that its cell has ended and
go on. Whoever does is ended with the REPL, because there is no telling what its names are then.
"""

from dataclasses import dataclass, field

from abyme.sandboxes.wired.body import Use
from abyme.wire import ENGINE_PROCESSES, RESERVE_BYTES


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Limits of a cell, as far as a session has a part in them."""

    cell_timeout_s: float
    output_chars: int
    max_processes: int | None
    """To be watched by the session; None: the kernel counts."""
    memory_bytes: int | None
    """Of each process, which the tier sees to, and of all forks of a cell together, as far as
    the tier can tell of them."""

    def passed(self, used: Use) -> tuple[str, str] | None:
        """Name the limit that a cell's processes have passed, and how far."""
        most = self.max_processes
        if most is not None and (has := used.processes - ENGINE_PROCESSES) > most:
            return "max_processes", f"{has:,} processes, {most:,} allowed"
        most = self.memory_bytes
        if most is not None and used.forks_bytes > most:
            bytes_ = f"{used.forks_bytes:,} bytes in processes that the cell has forked"
            return "memory_bytes", f"{bytes_}, {most:,} allowed"
        return None

    def compute(self, compute_s: float) -> str:
        """Word the compute of a cell that had too much of it."""
        return f"{compute_s:.1f} s of compute, {self.cell_timeout_s:g} s allowed"

    def memory(self) -> str | None:
        """Word what the process of a cell holds that has left the engine no room."""
        most = self.memory_bytes
        if most is None:
            return None
        return f"more than {max(0, most - RESERVE_BYTES):,} bytes, {most:,} allowed"


IDLE_LOOK_S = 0.5
"""From the end of a cell to the first look after it, and between looks while it has left much."""
IDLE_LOOK_MAX_S = 8.0
"""Between looks at a REPL that has shown nothing; each takes twice as long to come as the last."""
AGAIN_S = 0.2
"""To a second look, where something is over its limit: what was seen first may be on its way out,
or be what a tier was told before."""
COLLECT_S = 2.0
"""For processes that were ended to be collected: until then they are counted."""


@dataclass(slots=True)
class Idle:
    """What the processes of a REPL do after one of its cells."""

    ceilings: Ceilings
    cell: int
    snapshots: bool
    """Threads that are left can be told from none."""
    wait_s: float = IDLE_LOOK_S
    """Until the next look."""
    _over_since_s: float | None = field(default=None)

    def looked(self, used: Use, now_s: float, *, can_roll_back: bool) -> str | None:
        """Take what was seen; why the REPL must end, if it must."""
        passed = self.ceilings.passed(used)
        if passed is not None:
            limit, reached = passed
            if self._over_since_s is None:
                self._over_since_s = now_s
            grace_s = AGAIN_S if limit == "memory_bytes" else COLLECT_S
            if now_s - self._over_since_s >= grace_s:
                went_on = f"what cell {self.cell} has left running went on after it"
                return f"the REPL was ended after {limit} ({reached}): {went_on}"
            self.wait_s = AGAIN_S
            return None
        self._over_since_s = None
        leaves = (self.snapshots and not can_roll_back) or used.processes > ENGINE_PROCESSES
        self.wait_s = IDLE_LOOK_S if leaves else min(2 * self.wait_s, IDLE_LOOK_MAX_S)
        return None
