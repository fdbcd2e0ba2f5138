"""Load a file of 40 and of 400 MB into the jail and run the first cell over it.

The start of the interpreter (0.1 s) is part of it.

Floors in the same run: reading the file, and reading and decoding it in this process.
Memory: private memory of every process of ours beyond one copy of the text.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from abyme.contexts.load import load_paths
from abyme.core.effects import Budget
from abyme.core.limits import Limits
from abyme.sandboxes.jail import Jail
from bench.measure import Figure, Noise, private_mb, timed

BUDGET = Budget(usd=None, calls=None, tokens=None, seconds=None, turns=1, depth=1)
ROUNDS = 3


def make(path: Path, size_mb: int) -> None:
    line = "The quick brown fox jumps over the lazy dog and reads record number {:012d}.\n"
    block = "".join(line.format(i) for i in range(13_000))[: 1 << 20].encode()
    with path.open("wb") as file:
        for _ in range(size_mb):
            file.write(block)


async def first_cell(jail: Jail, path: Path) -> float:
    """Load, seal, adopt, run a cell that touches both ends; private megabytes while it lives."""
    jail.warm_up()
    await asyncio.sleep(0)  # as `abyme ask` does: the interpreter boots while the file is read
    loaded = load_paths([path])
    run = await jail.begin(context=loaded.context, limits=Limits())
    session = await run.open(node="0", seed=1)
    finished = await session.run_cell(
        1,
        "print(len(context), context[0], context[-2])",
        restore=(),
        budget=BUDGET,
        on_event=lambda _: None,
    )
    assert finished.ended == "clean", finished
    memory = private_mb(_family(os.getpid()))
    await session.aclose()
    await run.aclose()
    loaded.context.close()
    return memory


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(p for child in children for p in _family(int(child)))]


async def measured(path: Path, noise: Noise) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {"read": [], "decode": [], "load": [], "memory": []}
    jail = Jail()
    warm = await jail.begin(context=load_paths([Path(__file__)]).context, limits=Limits())
    await warm.aclose()  # the first start also pays for bytecode and the page cache
    base_mb = private_mb(_family(os.getpid()))
    for _ in range(ROUNDS):
        noise.tick()
        taken["read"].append(timed(path.read_bytes))
        taken["decode"].append(timed(lambda: path.read_text(encoding="utf-8")))
        began = asyncio.get_running_loop().time()
        memory = await first_cell(jail, path)
        taken["load"].append(asyncio.get_running_loop().time() - began)
        taken["memory"].append(memory - base_mb)
    await jail.aclose()
    return taken


def run(noise: Noise) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for size_mb in (40, 400):
            path = Path(folder) / f"{size_mb}.txt"
            make(path, size_mb)
            taken = asyncio.run(measured(path, noise))
            goals = ("", "") if size_mb < 400 else ("< 0.5", "< 50")
            figures += [
                Figure(f"floor: read {size_mb} MB", "s", tuple(taken["read"])),
                Figure(f"floor: read and decode {size_mb} MB", "s", tuple(taken["decode"])),
                Figure(
                    f"{size_mb} MB into the jail, first cell done",
                    "s",
                    tuple(taken["load"]),
                    goals[0],
                ),
                Figure(
                    "  private memory of all processes beyond",
                    "MB",
                    tuple(taken["memory"]),
                    goals[1],
                ),
            ]
    return figures


if __name__ == "__main__":
    noise = Noise()
    print(*(figure.line() for figure in run(noise)), noise.line(), sep="\n")
