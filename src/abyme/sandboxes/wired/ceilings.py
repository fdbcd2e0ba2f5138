"""What a cell may use, and how far one went that used more.

Decides when the processes of a cell have passed a limit that no kernel holds for this tier, and
the words for the number reached. Data and words only: when to look, and what comes of it, is
the session's business. `memory_bytes` binds each process by the kernel; here it binds what a cell
forks, all together. So a REPL holds at most three times as much: the process of the cell, its
snapshot and the forks, and what these take between two looks.
"""

from dataclasses import dataclass

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
