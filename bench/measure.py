"""How a figure is taken: repeated in turn with its floor, given as median and range.

Nothing here judges. A ratio is of two medians of one run on one machine; the noise
is the spread of a fixed amount of work, repeated all along the run.
"""

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured several times. `unit` is of every sample."""

    name: str
    unit: str
    samples: tuple[float, ...]
    goal: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def line(self) -> str:
        low, high = min(self.samples), max(self.samples)
        goal = f"   goal {self.goal}" if self.goal else ""
        return (
            f"{self.name:<58} {self.median:>10.3f} {self.unit:<6}"
            f" ({low:.3f} to {high:.3f}, n={len(self.samples)}){goal}"
        )


@dataclass(slots=True)
class Noise:
    """The same work over and over: how steady is this machine?"""

    samples: list[float] = field(default_factory=list)

    def tick(self) -> None:
        began = time.perf_counter()
        sum(range(400_000))
        self.samples.append((time.perf_counter() - began) * 1e3)

    def line(self) -> str:
        spread = max(self.samples) / min(self.samples)
        return (
            f"machine noise: fixed work took {statistics.median(self.samples):.1f} ms,"
            f" slowest over fastest {spread:.2f}"
        )


def in_turn(
    works: Sequence[tuple[str, Callable[[], float]]],
    *,
    rounds: int,
    unit: str,
    noise: Noise,
    goals: dict[str, str] | None = None,
) -> list[Figure]:
    """Measure several works round by round, so that a drift of the machine meets them all.

    Each work returns its own sample.
    """
    taken: dict[str, list[float]] = {name: [] for name, _ in works}
    for _ in range(rounds):
        for name, work in works:
            noise.tick()
            taken[name].append(work())
    goals = goals or {}
    return [Figure(n, unit, tuple(samples), goals.get(n, "")) for n, samples in taken.items()]


def timed(work: Callable[[], object], *, scale: float = 1.0) -> float:
    """Seconds that `work` takes, times `scale`."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * scale


def ratio(figures: Sequence[Figure], name: str, floor: str) -> str:
    by_name = {figure.name: figure.median for figure in figures}
    return f"{name} / {floor} = {by_name[name] / by_name[floor]:.2f}"


def machine() -> str:
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"CPython {platform.python_version()}"
    )


def peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def private_mb(pids: Sequence[int]) -> float:
    """Private memory of processes (proc(5), smaps_rollup): what is theirs alone."""
    total_kb = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:  # noqa: PTH123
                lines = file.readlines()
        except OSError:
            continue
        total_kb += sum(
            int(line.split()[1])
            for line in lines
            if line.startswith(("Private_Clean", "Private_Dirty"))
        )
    return total_kb / 1024
