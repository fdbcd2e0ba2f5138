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
    """Empty: what is computed counts."""
    computed: dict[str, str]
    corpus: str = ""
    """Which texts it is about, where there are several."""
    right: str = ""
    """Regular expression of an answer that is right, where there are several ways to say it."""


QUESTIONS = Path(__file__).with_name("questions.json")


def load(path: Path = QUESTIONS) -> list[Question]:
    """Read questions: a list, or what a file with words about itself holds as ``questions``."""
    held: Any = json.loads(path.read_text(encoding="utf-8"))
    items: list[dict[str, Any]] = held if isinstance(held, list) else held["questions"]
    return [
        Question(
            text=item["question"],
            expected=item.get("expected", ""),
            computed=item["computed"],
            corpus=item.get("corpus", ""),
            right=item.get("right", ""),
        )
        for item in items
    ]


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
    """Work the answer out.

    Kinds: ``file`` (names of the texts that match), ``files`` (how many), ``matches`` (how
    many in all of them), ``said`` (the first group of the first match, in texts whose names
    hold `within`, blanks as one).
    """
    pattern = re.compile(question.computed["pattern"], re.MULTILINE)
    within = question.computed.get("within", "")
    chosen = {name: text for name, text in texts.items() if within in name}
    hits = {name: len(pattern.findall(text)) for name, text in chosen.items()}
    match question.computed["kind"]:
        case "said":
            found = next(filter(None, map(pattern.search, chosen.values())), None)
            return " ".join(found[1].split()) if found else ""
        case "file":
            return ", ".join(name for name, count in hits.items() if count)
        case "files":
            return str(sum(count > 0 for count in hits.values()))
        case "matches":
            return str(sum(hits.values()))
        case kind:
            raise ValueError(f"unknown kind {kind}")


MOST_CHARS = 400
"""Of an answer: one that lists everything says nothing."""


def is_right(answer: object, expected: str, right: str = "") -> bool:
    """Tell whether an answer says what is expected, and no other number.

    `right` is a regular expression that stands for what is expected in other words.
    """
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    if len(text) > MOST_CHARS:
        return False
    if right:
        return re.search(right, text) is not None
    if expected.isdigit():
        return set(re.findall(r"\d+", re.sub(r"(?<=\d),(?=\d{3})", "", text))) == {expected}
    return expected in text
