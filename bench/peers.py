"""The same work by abyme and by its peers, each a whole process in an environment of its own.

A file is read, becomes the context, and a scripted model's one turn counts its characters in the
REPL. Seconds from reading to answer (without imports, which `bench imports` has), the process from
start to end, and the memory of the process and its children at their peak (PSS, sampled).
``rlms`` and ``dspy`` are installed by pip on the first run, in the user's cache folder. dspy's own
default needs a network beyond a package index (deno fetches modules); where that cannot be had
its interpreter without a sandbox is taken, and said. rlms' default has no sandbox either.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import platformdirs

from abyme.testing import ScriptedEndpoint
from bench.loads import make
from bench.measure import Figure, Noise

HERE = Path(__file__).parent
SIZES_MB = (4, 40, 400)
ROUNDS = 3
LONGEST_S = 300.0
OFFICIAL = "```repl\nanswer['content'] = str(len(context)); answer['ready'] = True\n```"
FIELDS = (
    "[[ ## reasoning ## ]]\ncount\n\n[[ ## code ## ]]\n```python\nSUBMIT(len(context))\n```\n\n"
    "[[ ## completed ## ]]"
)


@dataclass(frozen=True, slots=True)
class Engine:
    """One of those that are compared."""

    name: str
    command: tuple[str, ...]
    """Before FILE and BASE_URL."""
    reply: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    seconds: float
    process_s: float
    peak_mb: float
    engine: str


def engines() -> list[Engine]:
    found = [Engine("abyme", (sys.executable, str(HERE / "peer_abyme.py")), OFFICIAL)]
    rlms, dspy = installed("rlms", "rlms==0.1.3"), installed("dspy", "dspy==3.4.1", "deno")
    if rlms:
        found.append(Engine("rlms", (rlms, str(HERE / "peer_rlms.py")), OFFICIAL))
    if dspy:
        isolated = Engine("dspy", (dspy, str(HERE / "peer_dspy.py")), FIELDS)
        local = Engine("dspy", isolated.command, FIELDS, ("local",))
        found.append(isolated if works(isolated) else local)
    return found


def installed(name: str, *packages: str) -> str | None:
    """The interpreter of a peer's own environment; None where pip cannot get it."""
    folder = platformdirs.user_cache_path("abyme") / "bench-peers" / name
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        print(f"  installing {' '.join(packages)}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "-q", *packages]
        if subprocess.run(pip, check=False, capture_output=True).returncode:
            print(f"  {name} cannot be installed here: left out")
            return None
        (folder / "done").touch()
    return str(python)


def works(engine: Engine) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "small.txt")
        path.write_text("small\n" * 100)
        try:
            measured(engine, path)
        except (RuntimeError, subprocess.TimeoutExpired):
            print(f"  {engine.name}'s own sandbox cannot be had here")
            return False
    return True


def measured(engine: Engine, path: Path) -> Taken:
    """Run one engine over a file.

    Raises:
        RuntimeError: it gave no answer, or a wrong one.
    """
    reply = engine.reply
    with ScriptedEndpoint(lambda _: reply) as endpoint, tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        bin_folder = str(Path(engine.command[0]).parent)
        process = subprocess.Popen(
            [*engine.command, str(path), endpoint.url, *engine.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env={
                "PATH": f"{bin_folder}{os.pathsep}{os.defpath}",
                "HOME": home,
                "NO_PROXY": "127.0.0.1",
                "PYTHONPATH": os.pathsep.join(sys.path) if engine.name == "abyme" else "",
            },
        )
        with Peak(process.pid) as peak:
            out, _ = process.communicate(timeout=LONGEST_S)
        took = time.perf_counter() - began
    told = _told(out)
    if str(told.get("value")) != str(path.stat().st_size):
        raise RuntimeError(f"{engine.name} gave {told or out[-300:]!r}")
    return Taken(told["seconds"], took, peak.mb, told["engine"])


def _told(out: bytes) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        return {}
    return told


class Peak:
    """Looks at what a process and its children hold, until it ends."""

    def __init__(self, pid: int) -> None:
        self.mb = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.03):
            self.mb = max(self.mb, sum(map(_pss_mb, _family(self._pid))))


def _family(pid: int) -> list[int]:
    try:
        tasks = [*Path(f"/proc/{pid}/task").iterdir()]
        kids = [kid for task in tasks for kid in (task / "children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(p for kid in kids for p in _family(int(kid)))]


def _pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def run(noise: Noise) -> list[Figure]:
    figures = []
    others = engines()
    with tempfile.TemporaryDirectory() as folder:
        for size_mb in SIZES_MB:
            path = Path(folder) / f"{size_mb}.txt"
            make(path, size_mb)
            path.read_bytes()
            figures += _figures(others, path, size_mb, noise)
    return figures


def _figures(others: list[Engine], path: Path, size_mb: int, noise: Noise) -> list[Figure]:
    taken: dict[str, list[Taken]] = {}
    for _ in range(ROUNDS):
        for engine in others:
            noise.tick()
            try:
                one = measured(engine, path)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                print(f"  {size_mb} MB: {str(error)[:200]}")
                continue
            taken.setdefault(one.engine, []).append(one)
    columns: list[tuple[str, str, Callable[[Taken], float]]] = [
        ("read, ask, answer", "s", lambda one: one.seconds),
        ("  whole process", "s", lambda one: one.process_s),
        ("  memory at its peak beyond one copy", "MB", lambda one: one.peak_mb - size_mb),
    ]
    return [
        Figure(f"{size_mb} MB, {engine}: {what.strip()}", unit, tuple(map(of, every)))
        for what, unit, of in columns
        for engine, every in taken.items()
    ]
