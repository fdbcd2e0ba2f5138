"""``python -m bench surface [--data FOLDER]``: what the local 1.5B root gets right.

Two sets of 20 questions, three runs each: one about the demo's code base, on which the
prompts were tuned, and one on other corpora that no prompt was ever tuned on: the running
Python's own library, and (``--data``) specifications, a novel, contracts. What is not there
is left out, and said. The right answers are computed from the texts by `demo.checks`.

Takes half an hour. Judges an answer by what it says, not by how it was found.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from demo import checks

from abyme import RLM, Limits
from abyme.core.ids import ROOT
from abyme.ports import Context
from abyme.run.folders import open_context
from bench.measure import Figure, Noise
from bench.surface import corpora

HERE = Path(__file__).parent
MODEL = "local:coder-1.5b"
SETS = ("tuning", "heldout")
RUNS = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one question."""

    question: checks.Question
    expected: str
    value: object
    right: bool
    turns: int
    prompt_tokens: int
    cached_tokens: int
    seconds: float
    folder: Path


def run(noise: Noise, data: Path | None = None, runs: int = RUNS) -> list[Figure]:
    """Ask every set `runs` times."""
    figures = []
    for name in SETS:
        questions = checks.load(HERE / f"{name}.json")
        taken = []
        for number in range(1, runs + 1):
            print(f"  {name}, run {number} of {runs}", flush=True)
            taken.append(ask_all(questions, data, noise))
        figures += _figures(name, taken)
    return figures


def ask_all(questions: Sequence[checks.Question], data: Path | None, noise: Noise) -> list[Outcome]:
    """Ask every question whose corpus is there."""
    outcomes = []
    with (
        tempfile.TemporaryDirectory() as runs,
        RLM(MODEL, runs_dir=runs, limits=Limits(max_turns=8, timeout_s=300)) as rlm,
    ):
        for name, group in groupby(questions, key=lambda question: question.corpus):
            try:
                texts = corpora.load(name, data)
            except corpora.Absent as absent:
                print(f"  left out: {len(list(group))} questions about {name}: {absent}")
                continue
            with _sealed(texts) as context:
                for question in group:
                    noise.tick()
                    outcomes.append(ask(rlm, question, context, texts))
    return outcomes


def ask(rlm: RLM, question: checks.Question, context: Context, texts: corpora.Texts) -> Outcome:
    """Ask one question and judge its answer."""
    expected = checks.compute(question, {"": texts} if isinstance(texts, str) else texts)
    assert expected, f"{question.text} has no answer in this version of its corpus"
    began = time.perf_counter()
    answer = rlm.ask(question.text, context)
    seconds = time.perf_counter() - began
    good = answer.status == "answered" and checks.is_right(answer.value, expected, question.right)
    mark = "right" if good else "WRONG"
    print(f"  {mark}  {question.text}  {answer.value!r:.70} ({expected:.40})", flush=True)
    return Outcome(
        question=question,
        expected=expected,
        value=answer.value,
        right=good,
        turns=answer.usage.by_cell[ROOT, None].calls,
        prompt_tokens=answer.usage.prompt_tokens,
        cached_tokens=answer.usage.cached_tokens,
        seconds=seconds,
        folder=answer.run,
    )


@contextmanager
def _sealed(texts: corpora.Texts) -> Iterator[Context]:
    context, _ = open_context(texts)
    try:
        yield context
    finally:
        context.close()


def _figures(name: str, runs: Sequence[Sequence[Outcome]]) -> list[Figure]:
    every = [outcome for taken in runs for outcome in taken]
    right = tuple(float(sum(one.right for one in taken)) for taken in runs)
    tokens = sum(one.prompt_tokens for one in every)
    cached = sum(one.cached_tokens for one in every) / max(1, tokens)
    return [
        Figure(f"{name}: right of {len(runs[0])}, {MODEL}", "", right),
        Figure("  turns a question", "", tuple(float(one.turns) for one in every)),
        Figure("  prompt tokens a question", "", tuple(float(o.prompt_tokens) for o in every)),
        Figure("  of them cached", "", (cached,)),
        Figure("  seconds a question", "s", tuple(one.seconds for one in every)),
    ]
