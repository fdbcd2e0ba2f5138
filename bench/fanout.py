"""1,000 sub-calls of 2 KB against an endpoint with 200 ms latency, journal on, default settings.

Floor: a bare pooled aiohttp client that sends the same bodies at once, in the same run.
The endpoint is `abyme.testing`'s, simulated, in a process of its own.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from abyme import RLM, Limits
from abyme.core import events as ev
from bench.measure import Figure, Noise

CALLS = 1000
CELL = """```repl
prompts = [f"{i} " + "x" * 2000 for i in range(1000)]
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


def run(noise: Noise) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "replies.json"
        script.write_text(json.dumps({"Question": CELL, "bench": CELL, "x": "fine"}))
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
            endpoint.terminate()
    return [
        Figure(f"floor: bare aiohttp, {CALLS:,} calls at 200 ms", "s", tuple(floors)),
        Figure(
            f"llm_query_batched, {CALLS:,} calls at 200 ms", "s", tuple(samples), "< 1.3 x floor"
        ),
    ]


if __name__ == "__main__":
    noise = Noise()
    print(*(figure.line() for figure in run(noise)), noise.line(), sep="\n")
