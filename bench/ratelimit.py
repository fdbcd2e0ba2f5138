"""A provider that limits, against a client that was told the limit: wall time and refused calls.

1,000 calls of 2 KB; latencies as wide as models' (log-normal, sigma 1, mean 0.5 s), the same
one for a prompt each time. Both clients make attempts over the same pooled connections and repeat a
refused call by the core's rule; one has the limiter of the product, the other is told. The
endpoint is `abyme.testing`'s, simulated, in a process of its own, a new one for each run.
"""

import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from abyme.core import retry
from abyme.core.events import Failure
from abyme.core.profile import Message
from abyme.errors import ModelError
from abyme.models.limiter import Limited
from abyme.models.names import resolve
from abyme.models.openai_compatible import OpenAICompatible
from abyme.ports import Model, ModelReply, ModelRequest
from abyme.run.clock import MonotonicClock
from bench.measure import Figure, Noise

CALLS = 1000
MEAN_MS = 500
SEEDS = (1, 2)


@dataclass(frozen=True)
class Case:
    name: str
    options: tuple[str, ...]
    at_once: int | None = None
    rate: float | None = None
    burst: int = 1


CASES = (
    Case("no limit", ()),
    Case("48 at once, 429", ("--concurrent", "48"), at_once=48),
    Case(
        "48 at once, 429 with Retry-After 1 s",
        ("--concurrent", "48", "--retry-after-s", "1"),
        at_once=48,
    ),
    Case("100 a second, 429", ("--calls-per-s", "100", "--burst", "100"), rate=100.0, burst=100),
    Case(
        "100 a second, 429 with Retry-After 1 s",
        ("--calls-per-s", "100", "--burst", "100", "--retry-after-s", "1"),
        rate=100.0,
        burst=100,
    ),
    Case("48 at once, the others queue silently", ("--concurrent", "48", "--queues"), at_once=48),
)


class Told:
    """A model behind the limit that the endpoint has."""

    def __init__(self, model: Model, case: Case) -> None:
        self.model = model
        self._places = asyncio.Semaphore(case.at_once or CALLS)
        self._rate, self._burst = case.rate, case.burst
        self._next_s = 0.0

    async def complete(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        async with self._places:
            if self._rate:
                now_s = time.perf_counter()
                earliest_s = now_s - (self._burst - 1) / self._rate
                self._next_s = max(self._next_s, earliest_s) + 1 / self._rate
                await asyncio.sleep(max(0.0, self._next_s - 1 / self._rate - now_s))
            return await self.model.complete(request, on_text)

    async def aclose(self) -> None:
        await self.model.aclose()


async def batch(model: Limited | Told) -> tuple[float, int, int]:
    """Seconds, refused calls, and how many may be in flight at the end."""
    refused = 0
    jitter = random.Random(1)

    async def one(number: int) -> None:
        nonlocal refused
        text = f"{number} " + "x" * 2000
        request = ModelRequest(messages=[Message("user", text)], max_output_tokens=100)
        for attempt in range(1, 100):
            try:
                await model.complete(request)
            except ModelError as error:
                if error.failure != "rate_limited":
                    raise
                refused += 1
                failure = Failure(
                    fault=error.failure,
                    message="",
                    retryable=True,
                    retry_after_s=error.retry_after_s,
                )
                delay_s = retry.delay_s(failure, attempt)
                assert delay_s is not None, f"given up after {attempt} attempts"
                await asyncio.sleep(delay_s * jitter.uniform(1.0, 1.25))
            else:
                return

    began = time.perf_counter()
    async with aclosing(model):
        await asyncio.gather(*(one(number) for number in range(CALLS)))
    width = model.window.width if isinstance(model, Limited) else 0
    return time.perf_counter() - began, refused, width


def measured(case: Case, seed: int, script: Path, wrap: Callable[[Model], Limited | Told]):
    command = [sys.executable, "-m", "abyme.testing", "--script", str(script)]
    latency = ["--latency-ms", str(MEAN_MS), "--latency-sigma", "1", "--seed", str(seed)]
    with subprocess.Popen([*command, *latency, *case.options], stdout=subprocess.PIPE) as endpoint:
        assert endpoint.stdout is not None
        url = endpoint.stdout.readline().decode().strip()
        try:
            model = OpenAICompatible(resolve("any", base_url=url, api_key=None, env={}))

            async def run() -> tuple[float, int, int]:
                return await batch(wrap(model))

            return asyncio.run(run())
        finally:
            endpoint.terminate()


def run(noise: Noise) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "replies.json"
        script.write_text('{"": "fine"}')
        for case in CASES:
            told, found = [], []
            for seed in SEEDS:
                noise.tick()
                told.append(measured(case, seed, script, lambda m, case=case: Told(m, case)))
                found.append(measured(case, seed, script, lambda m: Limited(m, MonotonicClock())))
            ratios = tuple(f[0] / t[0] for f, t in zip(found, told, strict=True))
            goal = "< 1.1"
            figures += [
                Figure(f"told: {case.name}", "s", tuple(t[0] for t in told)),
                Figure("  found, against told", "x", ratios, goal),
                Figure("  refused calls", "", tuple(float(f[1]) for f in found)),
                Figure(
                    "  calls allowed in flight at the end", "", tuple(float(f[2]) for f in found)
                ),
            ]
    return figures


if __name__ == "__main__":
    noise = Noise()
    print(*(figure.line() for figure in run(noise)), noise.line(), sep="\n")
