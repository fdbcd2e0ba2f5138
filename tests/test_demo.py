"""Contract: the demo's checks. A wrong answer fails it; so does a question that has drifted."""

from pathlib import Path

import pytest
from demo import checks, corpus


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        (196, "196", True),
        ("there are 1,196 files", "1196", True),
        ("196 files", "196", True),
        ("196 of 2997 files", "196", False),
        (1960, "196", False),
        (None, "196", False),
        ("a/b.py, line 7", "a/b.py", True),
        (["a/b.py"], "a/b.py", True),
        ("a/c.py", "a/b.py", False),
    ],
)
def test_an_answer_is_right_only_if_it_says_what_is_expected(answer, expected, right) -> None:
    assert checks.is_right(answer, expected) is right


@pytest.mark.parametrize(
    ("kind", "expected"), [("file", "a.py, b.py"), ("files", "2"), ("matches", "3")]
)
def test_expected_answers_are_computed_from_the_files(tmp_path: Path, kind, expected) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 2\n")
    (tmp_path / "b.py").write_text("x = 3\n")
    (tmp_path / "c.py").write_text(" x = 4\n")
    (tmp_path / "d.bin").write_bytes(b"x = \xff")

    question = checks.Question("?", "", {"kind": kind, "pattern": "^x ="})

    assert checks.compute(question, checks.read(tmp_path)) == expected


def test_what_a_text_says_is_read_from_the_text_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Status: Draft\n")
    (tmp_path / "b.txt").write_text("Status:  in two\n  words\nend\n")
    computed = {"kind": "said", "within": "b.txt", "pattern": "^Status: ([\\w\\s]+)\\nend"}

    question = checks.Question("?", "", computed)

    assert checks.compute(question, checks.read(tmp_path)) == "in two words"


@pytest.mark.parametrize(
    ("answer", "right"),
    [("PEP 498", True), ("pep-0498.rst, line 2", True), ("1498", False), ("498 " * 200, False)],
)
def test_an_answer_may_be_right_in_other_words_but_not_in_all_words(answer, right) -> None:
    assert checks.is_right(answer, "pep-0498.rst", r"\b0*498\b") is right


def test_the_sets_of_questions_that_are_kept_apart_share_no_corpus() -> None:
    folder = Path(checks.__file__).parent.parent / "bench" / "surface"
    tuned = [*checks.load(folder / "tuning.json"), *checks.load(folder / "further.json")]
    kept = checks.load(folder / "heldout.json")

    assert len(kept) == 20
    assert {question.corpus for question in tuned}.isdisjoint(q.corpus for q in kept)


def test_every_package_is_pinned_by_a_whole_hash() -> None:
    lines = corpus.REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    pins = [line.partition(" --hash=sha256:") for line in lines if not line.startswith("#")]

    assert [pin[0].partition("==")[0] for pin in pins] == ["sympy", "django", "networkx"]
    assert [len(bytes.fromhex(pin[2])) for pin in pins] == [32, 32, 32]


def test_there_are_three_questions_of_a_known_kind() -> None:
    kinds = [question.computed["kind"] for question in checks.load()]

    assert kinds == ["file", "file", "matches"]


def test_a_package_that_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch) -> None:
    for name in ("sympy", "django", "networkx"):
        (tmp_path / "code" / name).mkdir(parents=True)
    monkeypatch.setattr(corpus.subprocess, "run", None)

    assert corpus.fetch(tmp_path) == tmp_path / "code"
