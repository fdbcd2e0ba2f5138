"""Tokens of the first request, counted with o200k (`bpe-openai`), preview included."""

import tempfile
from pathlib import Path

import bpe_openai

from abyme import RLM, Limits
from abyme.testing import ScriptedModel
from bench.measure import Figure, Noise

RECORDS = 50_000
CODE = "def function_{}(x):\n    return x\n"


def records() -> str:
    return "".join(f"Date: 2024-01-{i % 28:02d} || User: {i} || text {i}\n" for i in range(RECORDS))


def modules(count: int) -> dict[str, str]:
    return {f"src/package{i % 40}/module_{i}.py": CODE.format(i) * 20 for i in range(count)}


def prose() -> str:
    parts = (
        f"CHAPTER {n}\n\n" + f"It was in the spring of the year {n} that we met again.\n" * 90
        for n in range(1800, 1840)
    )
    return "\n".join(parts)


def agreements() -> dict[str, str]:
    """Long names, long lines, and one that the question names."""
    clause = "The parties agree that nothing in this agreement limits what they owe each other. "
    return {
        f"COMPANY NUMBER {n}, INC_2020-EX-10.{n}-MASTER SERVICES AGREEMENT (AMENDED).txt": (
            f"MASTER SERVICES AGREEMENT {n}\n\n" + clause * 40 + "\n"
        )
        * 9
        for n in range(500)
    }


CONTEXTS = {
    "one text of records": records,
    "one text of prose": prose,
    "2,000 documents": lambda: modules(2000),
    "20,000 documents": lambda: modules(20_000),
    "500 agreements": agreements,
}
QUESTION = "Which limit is stated in module_7.py, and which in 'COMPANY NUMBER 7, INC_2020-EX-10.7-MASTER SERVICES AGREEMENT (AMENDED).pdf'?"  # noqa: E501


def tokens(context: str | dict[str, str], runs_dir: Path) -> float:
    model = ScriptedModel(["```repl\nsubmit(1)\n```"])
    with RLM(model=model, runs_dir=runs_dir, limits=Limits()) as rlm:
        rlm.ask(QUESTION, context)
    text = "\n".join(message.content for message in model.requests[0].messages)
    return float(len(bpe_openai.get_encoding("o200k_base").encode(text)))


def run(noise: Noise) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for name, made in CONTEXTS.items():
            noise.tick()
            count = tokens(made(), Path(folder))
            figures.append(Figure(f"first request, {name}", "tokens", (count,), "< 1300"))
    return figures


if __name__ == "__main__":
    noise = Noise()
    print(*(figure.line() for figure in run(noise)), sep="\n")
