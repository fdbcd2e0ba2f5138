"""The same code over the same text inside the jail and in this process; then grep and search.

Each snippet is timed where it runs. The text is 40 MB of lines in which words of a made vocabulary
stand as often as words do (Zipf), once ASCII and once with Chinese characters, which take two bytes
each in memory. grep by the host's helpers (RE2) is beside `re` over the same text in this process,
line by line as `grep` counts; the first search builds the index.
"""

import asyncio
import bisect
import itertools
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from abyme.contexts.load import load_paths
from abyme.core.limits import Limits
from abyme.sandboxes.jail import Jail
from bench.measure import Figure, Noise, in_turn
from bench.sandbox import Open

SIZE_CHARS = 40_000_000
ROUNDS = 5
SNIPPETS = {
    "findall": r"len(re.findall(r'\b[a-z]+ing\b', context))",
    "split": "len(context.split())",
    "lines": "sum(1 for line in context.splitlines() if 'ra' in line)",
    "chunk loop": "sum(context[i:i + 5000].count('e') for i in range(0, len(context), 5000))",
    "count": "context.count('the')",
    "hash": "hash(context[:-1])",
}
GREPS = {
    "literal": "needle 7332",
    "ignoring case": "(?i)NEEDLE 7332",
    "alternation": "zzyzx|needle 73[0-9]2|qqq",
    "words": r"\b\w+ing needle\b",
}


def prose(chars: int, *, wide: bool) -> str:
    """Lines of made words, seeded; with `wide` some of Chinese characters."""
    chance = random.Random(6)
    vowels, others = "aeiou", "bcdfghklmnprstvw"
    syllables = [a + b for a in others for b in vowels] + ["the", "ing", "needle"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(20_000)]
    words += ["needle", "testing"]
    if wide:
        words[::3] = [
            "".join(chance.choices("的一是不了人我在有他这中大来上", k=3)) for _ in words[::3]
        ]
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(words))))
    block = []
    size = 0
    while size < min(chars, 2_000_000):
        count = chance.randint(5, 20)
        picks = [bisect.bisect(weights, chance.random() * weights[-1]) for _ in range(count)]
        block.append(" ".join(words[min(pick, len(words) - 1)] for pick in picks))
        size += len(block[-1]) + 1
    whole = "\n".join(block)
    parts = [f"{whole}\nline {n} needle {n * 611}\n" for n in range(chars // len(whole))]
    return "".join(parts)


class Bench:
    """A text in the jail and here."""

    def __init__(self, text: str, path: Path) -> None:
        path.write_text(text, encoding="utf-8")
        self.text = text
        self.loop = asyncio.new_event_loop()
        self._jail = Jail()
        self._context = load_paths([path]).context
        self._run = self._wait(
            self._jail.begin(context=self._context, limits=Limits(cell_timeout_s=120.0))
        )
        self._repl = Open(self._wait(self._run.open(node="0", seed=1)))

    def _wait(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def inside_ms(self, code: str) -> float:
        """Milliseconds of an expression in a cell."""
        told = self._wait(
            self._repl.cell(
                f"import re, time\n_at = time.perf_counter()\n_got = {code}\n"
                "print(time.perf_counter() - _at)"
            )
        )
        assert told.ended == "clean", told
        return float(told.output.split()[-1]) * 1e3

    def here_ms(self, code: str) -> float:
        names = {"re": re, "context": self.text}
        compiled = compile(code, "<bench>", "eval")
        began = time.perf_counter()
        eval(compiled, names)
        return (time.perf_counter() - began) * 1e3

    def close(self) -> None:
        self._wait(self._run.aclose())
        self._wait(self._jail.aclose())
        self._context.close()
        self.loop.close()


def run(noise: Noise) -> list[Figure]:
    figures = []
    for wide in (False, True):
        name = "mixed CJK" if wide else "ASCII"
        text = prose(SIZE_CHARS, wide=wide)
        with TemporaryDirectory() as folder:
            made = Bench(text, Path(folder, "text.txt"))
            try:
                figures += _figures(made, name, noise)
            finally:
                made.close()
    return figures


def _figures(made: Bench, name: str, noise: Noise) -> list[Figure]:
    works: list[tuple[str, Callable[[], float]]] = []
    for what, code in SNIPPETS.items():
        works.append((f"{name}, {what}: floor, this process", lambda c=code: made.here_ms(c)))  # type: ignore[misc]
        works.append((f"{name}, {what}: in the jail", lambda c=code: made.inside_ms(c)))  # type: ignore[misc]
    for what, pattern in GREPS.items():
        floor = f"sum(1 for _ in re.finditer({pattern!r}, context, re.M))"
        works.append((f"{name}, grep {what}: floor, re here", lambda c=floor: made.here_ms(c)))  # type: ignore[misc]
        grep = f"len(grep({pattern!r}, limit=None))"
        works.append((f"{name}, grep {what}: grep", lambda c=grep: made.inside_ms(c)))  # type: ignore[misc]
    first = made.inside_ms("search('testing needle 7332')")
    print(f"  {name}: the first search, with its index, took {first:,.0f} ms", flush=True)
    works.append((f"{name}, search", lambda: made.inside_ms("search('testing needle 7332')")))
    figures = in_turn(works, rounds=ROUNDS, unit="ms", noise=noise)
    by_name = {figure.name: figure.median for figure in figures}
    for what in SNIPPETS:
        floor_ms = by_name[f"{name}, {what}: floor, this process"]
        inside_ms = by_name[f"{name}, {what}: in the jail"]
        print(f"  {name}, {what}: in the jail / here = {inside_ms / floor_ms:.2f}   goal < 1.05")
    return figures
