"""What the local 1.5B root gets right of 20 questions about the demo's code base.

The right answers are computed from the files by `demo.checks`. The prompts were tuned
with some of these questions, so this says what the demo can promise, not what another
corpus will give. Takes several minutes.
"""

import tempfile
import time
from pathlib import Path

from demo import checks, corpus

from abyme import RLM, Limits
from abyme.contexts.load import load_paths
from abyme.run.spec import cache_dir
from bench.measure import Figure, Noise

QUESTIONS = Path(__file__).with_name("localroot.json")


def run(noise: Noise) -> list[Figure]:
    code = corpus.fetch(cache_dir() / "demo")
    texts = checks.read(code)
    context = load_paths([code]).context
    right, seconds = 0, []
    questions = checks.load(QUESTIONS)
    with (
        tempfile.TemporaryDirectory() as runs,
        RLM("local:coder-1.5b", runs_dir=runs, limits=Limits(max_turns=8, timeout_s=180)) as rlm,
    ):
        for question in questions:
            noise.tick()
            began = time.perf_counter()
            answer = rlm.ask(question.text, context)
            seconds.append(time.perf_counter() - began)
            expected = checks.compute(question, texts)
            good = answer.status == "answered" and checks.is_right(answer.value, expected)
            right += good
            print(
                f"  {'right' if good else 'WRONG'}  {question.text}  {answer.value!r:.60}",
                flush=True,
            )
    return [
        Figure(f"right of {len(questions)} questions, local:coder-1.5b", "", (float(right),)),
        Figure("  seconds a question", "s", tuple(seconds)),
    ]


if __name__ == "__main__":
    noise = Noise()
    print(*(figure.line() for figure in run(noise)), noise.line(), sep="\n")
