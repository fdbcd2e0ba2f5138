"""What ``import abyme`` and the public names cost, beside a bare interpreter."""

import subprocess
import sys

from bench.measure import Figure, Noise

PROBE = """
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, peak.split()[1])
"""


def cost(code: str) -> tuple[float, float]:
    """CPU seconds and peak megabytes of a process that runs `code`."""
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\n{PROBE}"], capture_output=True, text=True, check=True
    ).stdout.split()
    return float(out[0]), float(out[1]) / 1024


def run(noise: Noise) -> list[Figure]:
    works = {
        "floor: bare interpreter": "pass",
        "import abyme": "import abyme",
        "from abyme import RLM, Limits": "from abyme import RLM, Limits",
    }
    cpu: dict[str, list[float]] = {name: [] for name in works}
    memory: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(5):
        for name, code in works.items():
            noise.tick()
            seconds, megabytes = cost(code)
            cpu[name].append(seconds)
            memory[name].append(megabytes)
    figures = []
    for name in works:
        bare = name.startswith("floor")
        figures += [
            Figure(f"{name}: CPU", "s", tuple(cpu[name]), "" if bare else "< 0.1"),
            Figure(f"{name}: peak memory", "MB", tuple(memory[name]), "" if bare else "< 30"),
        ]
    return figures


if __name__ == "__main__":
    noise = Noise()
    print(*(figure.line() for figure in run(noise)), noise.line(), sep="\n")
