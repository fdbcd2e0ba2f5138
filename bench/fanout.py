"""1,000 sub-calls of 2 KB against an endpoint with 200 ms latency, journal on, default settings.

Floor: a bare pooled aiohttp client that sends the same bodies at once, in the same run.
The endpoint is `abyme.testing`'s, simulated, in a process of its own.

Memory: what the process with the engine grows by from 1,000 and from 10,000 calls of one cell,
at the peak and after four runs of it; a new process for each (`python -m bench.fanout`).
"""

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from abyme import RLM, Limits
from abyme.core import events as ev
from bench.measure import Figure, Noise, peak_rss_mb

CALLS = 1000
MANY = 10_000
RUNS = 4
CELL = """```repl
prompts = [f"{{i}} " + "x" * 2000 for i in range({calls})]
texts = llm_query_batched(prompts)
submit(len(texts))
```"""


async def bare(url: str) -> float:
    """Seconds of a client that does nothing else."""
    bodies = [
        {"model": "m", "messages": [{"role": "user", "content": f"{i} " + "x" * 2000}]}
        for i in range(CALLS)
    ]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(body: dict[str, object]) -> None:
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.json()

        began = time.perf_counter()
        await asyncio.gather(*(one(body) for body in bodies))
        return time.perf_counter() - began


def ours(url: str, runs_dir: Path) -> float:
    """Seconds from the guest's request to its answer, by the journal."""
    records: list[ev.Record] = []
    with RLM(
        model="scripted",
        base_url=url,
        runs_dir=runs_dir,
        profile="strong",
        limits=Limits(cell_timeout_s=60),
        on_record=records.append,
    ) as rlm:
        answer = rlm.ask("bench", "nothing")
    assert answer.value == CALLS, answer
    asked = next(r.at_s for r in records if isinstance(r.event, ev.CallsRequested))
    last = max(r.at_s for r in records if isinstance(r.event, ev.CellFinished))
    return last - asked


def grown_mb(url: str, calls: int) -> tuple[float, float]:
    """Megabytes that a process of its own grows by: at the peak of a run, after several."""
    command = [sys.executable, "-m", "bench.fanout", url, str(calls)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    peak_mb, after_mb = done.stdout.split()
    return float(peak_mb), float(after_mb)


def child(url: str, calls: int) -> None:
    """Ask several times for so many calls; print the growth in megabytes."""
    limits = Limits(cell_timeout_s=120, max_calls=None, max_tokens=None)
    with (
        tempfile.TemporaryDirectory() as folder,
        RLM(
            model="scripted", base_url=url, runs_dir=folder, profile="strong", limits=limits
        ) as rlm,
    ):
        rlm.ask("ten", "nothing")  # loads what any run loads
        before_mb, peak_mb = rss_mb(), 0.0
        for _ in range(RUNS):
            answer = rlm.ask("many" if calls == MANY else "bench", "nothing")
            assert answer.value == calls, answer
            peak_mb = peak_mb or peak_rss_mb()
        print(peak_mb - before_mb, rss_mb() - before_mb)


def rss_mb() -> float:
    """Resident memory of this process now (proc(5), statm)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def run(noise: Noise) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "replies.json"
        cells = {"ten": 10, "many": MANY, "bench": CALLS}
        replies = {f"{name}\n": CELL.format(calls=n) for name, n in cells.items()}
        script.write_text(json.dumps(replies | {"xxx": "fine"}))
        command = [sys.executable, "-m", "abyme.testing", "--port", "0", "--script", str(script)]
        with subprocess.Popen(
            [*command, "--latency-ms", "200"], stdout=subprocess.PIPE
        ) as endpoint:
            assert endpoint.stdout is not None
            url = endpoint.stdout.readline().decode().strip()
            floors, samples = [], []
            for _ in range(3):
                noise.tick()
                floors.append(asyncio.run(bare(url)))
                samples.append(ours(url, Path(folder) / "runs"))
            memory = [(n, grown_mb(url, n)) for n in (CALLS, MANY)]
            endpoint.terminate()
    return [
        Figure(f"floor: bare aiohttp, {CALLS:,} calls at 200 ms", "s", tuple(floors)),
        Figure(
            f"llm_query_batched, {CALLS:,} calls at 200 ms", "s", tuple(samples), "< 1.3 x floor"
        ),
        *(
            Figure(f"  the engine's process grows by, {n:,} calls, {when}", "MB", (mb,))
            for n, grown in memory
            for when, mb in zip(("peak", f"after {RUNS} runs"), grown, strict=True)
        ),
    ]


if __name__ == "__main__":
    if sys.argv[1:]:
        child(sys.argv[1], int(sys.argv[2]))
        sys.exit()
    noise = Noise()
    print(*(figure.line() for figure in run(noise)), noise.line(), sep="\n")
