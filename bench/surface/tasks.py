"""The questions of the strong model's bench, by name, built from folders of data.

    pairs-1 .. pairs-20    OOLONG-Pairs over one window of 8K tokens
    count-1 .. count-6     lines of one label in a window of 16K tokens
    real-1 .. real-16      questions over contracts, PEPs, Django and a novel

The folders hold ``trec/trec_coarse.jsonl``, ``oolong_pairs/oolong_pairs_queries.json``,
``real_tasks.json``, ``docs_peps/peps.tar.xz``, ``cuad/full_contract_txt.tar.xz``,
``books/*.txt.xz`` and ``django-5.2*.whl`` (``pip download --no-deps django==5.2.19``). Each is
read when a question needs it. Invariant: a task is the same for every engine, and what is asked
never holds the gold.
"""

import json
import lzma
import re
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from bench.surface import oolong, scores

PAIRS_TOKENS, COUNT_TOKENS = 8192, 16_384
PAIRS_SEED, COUNT_SEED = 5, 9
"""Windows in which every query has an answer."""
FIVE: Final = ("pairs-1", "pairs-11", "pairs-16", "count-5", "real-6")
"""One of each kind that engines have been compared on by hand."""
NAMES: Final = (
    *(f"pairs-{n}" for n in range(1, 21)),
    *(f"count-{n}" for n in range(1, 7)),
    *(f"real-{n}" for n in range(1, 17)),
)
FORTY: Final = tuple(name for name in NAMES if name not in ("count-1", "count-2"))
"""The twenty pairs and twenty others."""


class DataMissing(Exception):
    """What a task needs is in none of the folders."""


@dataclass(frozen=True, slots=True)
class Data:
    """Folders that are looked through in order."""

    folders: tuple[Path, ...]

    def file(self, pattern: str) -> Path:
        """The first file of that name, or glob.

        Raises:
            DataMissing: there is none.
        """
        for folder in self.folders:
            for found in sorted(folder.glob(pattern)):
                return found
        raise DataMissing(f"{pattern} is not in {', '.join(map(str, self.folders))}")


@dataclass(frozen=True, slots=True)
class Task:
    """One question, and how right an answer to it is."""

    name: str
    question: str
    context: str | dict[str, str]
    gold: Any
    scorer: Callable[[Any, Any], float]

    def score(self, answer: Any) -> float:
        """From 0 to 1."""
        return self.scorer(answer, self.gold)


def task(name: str, data: Data) -> Task:
    """Build a task.

    Raises:
        DataMissing: a file is not there.
        KeyError: no task has that name.
    """
    if name not in NAMES:
        raise KeyError(name)
    kind, _, number = name.partition("-")
    return {"pairs": _pairs, "count": _count, "real": _real}[kind](name, int(number), data)


def _pairs(name: str, number: int, data: Data) -> Task:
    queries = _json(data.file("oolong_pairs/oolong_pairs_queries.json"))
    query = next(one for one in queries["tasks"] if one["id"] == number)
    lines = oolong.window(_pool(data), oolong.lines_in(PAIRS_TOKENS), PAIRS_SEED)
    gold = oolong.pairs(lines, query)
    question = f"{query['query']} {queries['suffix']}"
    return Task(name, question, oolong.text_of(lines), gold, scores.pairs_f1)


def _count(name: str, number: int, data: Data) -> Task:
    label = oolong.LABELS[number - 1]
    lines = oolong.window(_pool(data), oolong.lines_in(COUNT_TOKENS), COUNT_SEED)
    question = (
        f"In the above data, how many data points should be classified as label '{label}'? "
        "Answer with the number alone."
    )
    gold = oolong.label_count(lines, label)
    return Task(name, question, oolong.text_of(lines), gold, scores.count)


def _real(name: str, number: int, data: Data) -> Task:
    real = _json(data.file("real_tasks.json"))[number - 1]
    gold, scorer = _scored(real["answer"], real["scoring"])
    return Task(name, real["question"], _corpus(real["corpus"], data), gold, scorer)


def _scored(gold: Any, scoring: str) -> tuple[Any, Callable[[Any, Any], float]]:
    """The scorer that `real_tasks.json` describes."""
    if scoring.startswith("contains "):
        return re.split(r", | or ", scoring.removeprefix("contains ")), scores.contains
    of_numbers = isinstance(gold, list) and isinstance(gold[0], int)
    by_words: dict[str, Callable[[Any, Any], float]] = {
        "set F1": scores.numbers_f1 if of_numbers else scores.names_f1,
        "set F1 of pairs": scores.ordered_pairs_f1,
        "0.75^|err|": scores.count,
        "0.75^|err|, and relative error": scores.count,
        "exact match": scores.exact,
        "exact name, 0.75^|err| for the number": scores.named_count,
        "normalised date match": scores.day,
    }
    return gold, by_words[scoring]


@cache
def _pool(data: Data) -> dict[str, list[str]]:
    """Training questions of TREC by label."""
    pool = defaultdict(list)
    with data.file("trec/trec_coarse.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["split"] == "train":
                pool[row["label"]].append(row["text"])
    return dict(pool)


@cache
def _corpus(name: str, data: Data) -> str | dict[str, str]:
    match name:
        case "cuad":
            return _tar(data.file("cuad/full_contract_txt.tar.xz"))
        case "peps":
            return _tar(data.file("docs_peps/peps.tar.xz"))
        case "sherlock":
            return lzma.decompress(data.file("books/*.txt.xz").read_bytes()).decode("utf-8-sig")
        case "django-5.2":
            return _zip(data.file("[Dd]jango-5.2*.whl"))
        case _:
            raise DataMissing(f"no corpus is known as {name!r}")


def _tar(path: Path) -> dict[str, str]:
    """Text files by name, without the folder that they all lie in."""
    texts = {}
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda one: one.name):
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                name = Path(member.name).name
                texts[name] = file.read().decode("utf-8", errors="replace")
    return texts


def _zip(path: Path) -> dict[str, str]:
    """Text files of a wheel by path."""
    texts = {}
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            try:
                texts[name] = archive.read(name).decode("utf-8")
            except UnicodeDecodeError:
                continue  # binary
    return texts


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
