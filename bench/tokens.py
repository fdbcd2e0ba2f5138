"""Estimated tokens over those that OpenAI's vocabularies make (`bpe-openai`), by kind of text.

Not below 1; English not above 1.25, Chinese not above 2.1 times o200k. The time is that of one
estimate of 2 KB.
"""

import time

import bpe_openai

from abyme.core import tokens
from bench.measure import Figure, Noise
from bench.token_samples import SAMPLES

ROUNDS = 5
TIMES = 200


def run(noise: Noise) -> list[Figure]:
    vocabularies = {name: bpe_openai.get_encoding(f"{name}_base") for name in ("o200k", "cl100k")}
    figures = []
    for kind, text in SAMPLES.items():
        for name, vocabulary in vocabularies.items():
            ratio = tokens.estimate(text) / len(vocabulary.encode(text))
            goal = "1 to 1.25" if kind.startswith("English") else ">= 1"
            figures.append(Figure(f"{kind}: estimated over {name}", "times", (ratio,), goal))
    text = (SAMPLES["English, a novel"] * 2)[:2048]
    took_us = []
    for _ in range(ROUNDS):
        noise.tick()
        began = time.perf_counter()
        for _ in range(TIMES):
            tokens.estimate(text)
        took_us.append((time.perf_counter() - began) / TIMES * 1e6)
    return [*figures, Figure("an estimate of 2 KB of English", "us", tuple(took_us))]


if __name__ == "__main__":
    print(*(figure.line() for figure in run(Noise())), sep="\n")
