"""Load texts into the jail and run the first cell over them: 40 MB, 400 MB, 4 GB, wide, many files.

The start of the interpreter (0.1 s) is part of it. Floors in the same run: reading the bytes as
``cat`` does, and reading and decoding them in this process. Memory: private memory of every process
of ours beyond one copy of the text. The ingest cache is not used, except where it says so.
What needs more memory or disk than there is, is left out and said.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from abyme.contexts.load import load_paths
from abyme.core.limits import Limits
from abyme.sandboxes.jail import Jail
from abyme.sandboxes.jail.jail import JailRun
from bench.measure import Figure, Noise, private_mb, timed
from bench.sandbox import Open

ROUNDS = 3
SIZES_MB = (40, 400, 4000)
WIDE_MB = 400
FILES = 100_000
REPLS = (8, 64)
CELLS = 20
GOALS = {
    "400 MB ASCII": ("< 0.5", "< 50"),
    "4000 MB ASCII": ("< 5", ""),
    f"{FILES:,} files": ("< 20", ""),
}


@dataclass(slots=True)
class Taken:
    read_s: list[float] = field(default_factory=list)
    decode_s: list[float] = field(default_factory=list)
    load_s: list[float] = field(default_factory=list)
    beyond_mb: list[float] = field(default_factory=list)
    spawn_ms: list[float] = field(default_factory=list)
    cell_ms: list[float] = field(default_factory=list)
    repls_mb: dict[int, float] = field(default_factory=dict)
    """Private memory that so many REPLs add."""


def make(path: Path, size_mb: int) -> None:
    line = "The quick brown fox jumps over the lazy dog and reads record number {:012d}.\n"
    block = "".join(line.format(i) for i in range(13_000))[: 1 << 20].encode()
    with path.open("wb") as file:
        for _ in range(size_mb):
            file.write(block[: 10**6])


def make_wide(path: Path, size_mb: int) -> None:
    """Half of the lines are Chinese, as UTF-8; in memory a character takes two bytes."""
    line = "Record {:07d} in English.\n这是第 {:07d} 条用中文写的记录, 它比英文短.\n"
    block = "".join(line.format(i, i) for i in range(13_000)).encode()
    with path.open("wb") as file:
        for _ in range(size_mb * 10**6 // len(block)):
            file.write(block)


def make_many(folder: Path, files: int) -> None:
    text = "".join(f"line {n} of a small file\n" for n in range(48))
    for at in range(files):
        if at % 1000 == 0:
            (folder / f"d{at // 1000:03}").mkdir()
        (folder / f"d{at // 1000:03}" / f"f{at % 1000:03}.txt").write_text(f"file {at}\n{text}")


async def loaded(jail: Jail, path: Path, taken: Taken, base_mb: float) -> None:
    """Load, seal, adopt, run a cell that touches both ends; then more cells and more REPLs."""
    began = time.perf_counter()
    jail.warm_up()
    await asyncio.sleep(0)  # as `abyme ask` does: the interpreter boots while the file is read
    source = load_paths([path])
    run = await jail.begin(context=source.context, limits=Limits())
    repl = Open(await run.open(node="0", seed=1))
    code = "t = context if isinstance(context, str) else list(context.values())[-1]"
    told = await repl.cell(f"{code}; print(len(t), t[0], t[-2])")
    taken.load_s.append(time.perf_counter() - began)
    assert told.ended == "clean", told
    taken.beyond_mb.append(private_mb(_family(os.getpid())) - base_mb)
    for _ in range(CELLS):
        began = time.perf_counter()
        assert (await repl.cell("")).ended == "clean"
        taken.cell_ms.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(0.01)  # a model thinks at least so long
    taken.spawn_ms.append(await _spawn_ms(run))
    if not taken.repls_mb:
        for count in REPLS:
            taken.repls_mb[count] = await _repls_mb(run, count)
    await run.aclose()
    source.context.close()


async def _spawn_ms(run: JailRun) -> float:
    began = time.perf_counter()
    session = await run.open(node="0.0", seed=2)
    took = time.perf_counter() - began
    await session.aclose()
    return took * 1e3


async def _repls_mb(run: JailRun, count: int) -> float:
    before_mb = private_mb(_family(os.getpid()))
    opened = await asyncio.gather(*(run.open(node=f"0.{n}", seed=n) for n in range(count)))
    for session in opened:
        told = await Open(session).cell("n = len(context)")
        assert told.ended == "clean", told
    grown_mb = private_mb(_family(os.getpid())) - before_mb
    await asyncio.gather(*(session.aclose() for session in opened))
    return grown_mb


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(p for child in children for p in _family(int(child)))]


async def measured(path: Path, noise: Noise, floors: Callable[[Path, Taken], None]) -> Taken:
    taken = Taken()
    jail = Jail()
    warm = await jail.begin(context=load_paths([Path(__file__)]).context, limits=Limits())
    await warm.aclose()  # the first start also pays for bytecode and the page cache
    base_mb = private_mb(_family(os.getpid()))
    for _ in range(ROUNDS):
        noise.tick()
        floors(path, taken)
        await loaded(jail, path, taken, base_mb)
    await jail.aclose()
    return taken


def _cat(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(1 << 20)
        while file.readinto(buffer):
            pass


def _floors(path: Path, taken: Taken) -> None:
    taken.read_s.append(timed(lambda: _cat(path)))
    if path.stat().st_size < 2 * 10**9:
        taken.decode_s.append(timed(lambda: path.read_text(encoding="utf-8")))


def _floors_of_many(folder: Path, taken: Taken) -> None:
    def read() -> None:
        for path in sorted(folder.rglob("*.txt")):
            path.read_bytes()

    taken.read_s.append(timed(read))


def run(noise: Noise) -> list[Figure]:
    figures: list[Figure] = []
    works = [(f"{mb} MB ASCII", lambda path, mb=mb: make(path, mb), mb) for mb in SIZES_MB]
    works.append((f"{WIDE_MB} MB half Chinese", lambda path: make_wide(path, WIDE_MB), WIDE_MB))
    works.append((f"{FILES:,} files", _folder, FILES // 1000))
    for name, write, size_mb in works:
        with tempfile.TemporaryDirectory() as folder:
            if lacking := _lacking(folder, size_mb):
                print(f"  {name} left out: {lacking}")
                continue
            path = Path(folder, "input")
            write(path)
            floors = _floors_of_many if path.is_dir() else _floors
            taken = asyncio.run(measured(path, noise, floors))
        figures += _figures(name, taken)
    return figures


def _folder(path: Path) -> None:
    path.mkdir()
    make_many(path, FILES)


def _lacking(folder: str, size_mb: int) -> str:
    free_mb = shutil.disk_usage(folder).free / 1e6
    meminfo = Path("/proc/meminfo").read_text(encoding="ascii").split("MemAvailable:")[1]
    memory_mb = int(meminfo.split()[0]) / 1e3
    if free_mb < 1.2 * size_mb:
        return f"{free_mb:,.0f} MB of disk are free"
    return f"{memory_mb:,.0f} MB of memory are free" if memory_mb < 2.5 * size_mb else ""


def _figures(name: str, taken: Taken) -> list[Figure]:
    load, memory = GOALS.get(name, ("", ""))
    rows = [
        ("floor: read", "s", taken.read_s, ""),
        ("floor: read and decode", "s", taken.decode_s, ""),
        ("loaded and first cell done", "s", taken.load_s, load),
        ("  private memory of all processes beyond the text", "MB", taken.beyond_mb, memory),
        ("  a further REPL", "ms", taken.spawn_ms, "< 10"),
        ("  a further empty cell, with snapshot", "ms", taken.cell_ms, "< 3"),
    ]
    rows += [
        (f"  private memory of {n} REPLs together", "MB", [mb], "< 60" if n == 8 else "")
        for n, mb in taken.repls_mb.items()
    ]
    return [
        Figure(f"{name}: {what}", unit, tuple(got), goal) for what, unit, got, goal in rows if got
    ]
