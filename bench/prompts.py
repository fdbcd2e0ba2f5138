"""Tokens of the first request, counted with o200k (`bpe-openai`), preview included."""

import tempfile
from pathlib import Path

import bpe_openai

from abyme import RLM, Limits
from abyme.testing import ScriptedModel
from bench.measure import Figure, Noise


def context(documents: int) -> str | dict[str, str]:
    if documents == 1:
        return "".join(
            f"Date: 2024-01-{i % 28:02d} || User: {i} || text {i}\n" for i in range(50_000)
        )
    return {
        f"src/package{i % 40}/module_{i}.py": f"def function_{i}(x):\n    return x\n" * 20
        for i in range(documents)
    }


def tokens(documents: int, runs_dir: Path) -> float:
    model = ScriptedModel(["```repl\nsubmit(1)\n```"])
    with RLM(model=model, runs_dir=runs_dir, limits=Limits()) as rlm:
        rlm.ask(
            "In which module is function_7 defined, and what does it return?", context(documents)
        )
    text = "\n".join(message.content for message in model.requests[0].messages)
    return float(len(bpe_openai.get_encoding("o200k_base").encode(text)))


def run(noise: Noise) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for documents in (1, 2000, 20_000):
            noise.tick()
            count = tokens(documents, Path(folder))
            name = f"first request, {documents:,} document{'s' * (documents > 1)}"
            figures.append(Figure(name, "tokens", (count,), "< 1300"))
    return figures


if __name__ == "__main__":
    noise = Noise()
    print(*(figure.line() for figure in run(noise)), sep="\n")
