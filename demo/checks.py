"""What the right answers are: computed from the files by plain Python, beside abyme.

The expected answers in ``questions.json`` are checked against this before anything is
asked, so that a question that drifts from the corpus fails the demo instead of abyme.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its answer."""

    text: str
    expected: str
    computed: dict[str, str]


QUESTIONS = Path(__file__).with_name("questions.json")


def load(path: Path = QUESTIONS) -> list[Question]:
    """Read questions."""
    items: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return [Question(item["question"], item["expected"], item["computed"]) for item in items]


def read(code: Path) -> dict[str, str]:
    """Every text of the corpus by its name."""
    texts = {}
    for path in sorted(code.rglob("*")):
        if path.is_file():
            try:
                texts[path.relative_to(code).as_posix()] = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                continue  # binary: abyme leaves it out too
    return texts


def compute(question: Question, texts: dict[str, str]) -> str:
    """Work the answer out."""
    pattern = re.compile(question.computed["pattern"], re.MULTILINE)
    hits = {name: len(pattern.findall(text)) for name, text in texts.items()}
    match question.computed["kind"]:
        case "file":
            return ", ".join(name for name, count in hits.items() if count)
        case "files":
            return str(sum(count > 0 for count in hits.values()))
        case "matches":
            return str(sum(hits.values()))
        case kind:
            raise ValueError(f"unknown kind {kind}")


def is_right(answer: object, expected: str) -> bool:
    """Tell whether an answer says what is expected, and no other number."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    if expected.isdigit():
        return set(re.findall(r"\d+", re.sub(r"(?<=\d),(?=\d{3})", "", text))) == {expected}
    return expected in text
