"""Contract: contexts/preview. What a root model is told of an input before its first turn."""

import pytest

from abyme.contexts.preview import preview
from abyme.contexts.records import pattern_of
from abyme.contexts.sealed import from_value

RECORD = "Date: Jan {:02}, 2023 || User: {} || Instance: What is number {}?"
RECORDS = "\n".join(RECORD.format(n % 28 + 1, n * 7919 % 1000, n) for n in range(500)) + "\n"


def shown(value, budget=1400):
    context = from_value(value)
    text = preview(context, budget)
    context.close()
    return text


def test_a_short_text_is_shown_whole():
    assert shown("one\ntwo\n") == (
        "context is a str: 8 characters, about 2 tokens, 2 lines (longest: 3 characters)\n"
        "text:\n| one\n| two\n|"
    )


def test_a_record_file_shows_its_pattern_head_and_tail():
    lines = shown(RECORDS).split("\n")
    assert lines[:2] == [
        (
            "context is a str: 32,332 characters, about 8,500 tokens, "
            "500 lines (longest: 64 characters)"
        ),
        "lines look like:",
    ]
    assert lines[2] == "| Date: Jan ..., 2023 || User: ... || Instance: What is number ...?"
    assert lines[3:5] == ["begins:", "| " + RECORD.format(1, 0, 0)]
    assert lines[-1] == "| " + RECORD.format(24, 581, 499)


def test_documents_show_kinds_folders_and_names():
    files = {f"src/m{n}.py": f"x = {n}\n" * n for n in range(1, 30)} | {"docs/a.md": "# A\n"}
    lines = shown(files).split("\n")
    assert lines[0].startswith("context is a mapping of 30 names to texts: ")
    assert lines[1:3] == ["kinds: .py 29, .md 1", "folders: src/ 29, docs/ 1"]
    assert lines[3] == "largest: 'src/m29.py' (203), 'src/m28.py' (196) characters"
    assert lines[4].startswith("names: 'src/m1.py', 'src/m2.py', ")
    assert lines[5] == "'src/m15.py' begins:"
    assert lines[6] == "| x = 15"


def test_a_list_shows_how_its_first_items_begin():
    lines = shown(["What is one?", "What is two?", "And three?", "four"]).split("\n")
    assert lines == [
        (
            "context is a list of 4 str: 38 characters, about 10 tokens, "
            "4 lines (longest: 12 characters)"
        ),
        *("context[0] begins:", "| What is one?", "context[1] begins:", "| What is two?"),
        *("context[2] begins:", "| And three?"),
    ]


@pytest.mark.parametrize("budget", [40, 120, 300, 500, 1400, 4000])
@pytest.mark.parametrize(
    "value",
    [
        "x",
        "a" * 100_000,
        RECORDS,
        "\n" * 5000,
        "日本語" * 3000,
        {"a" * 300: "b" * 9000, "c\n|\x1b": "\x1b[2J" * 90},
        {f"{n}/" * 40: "text\n" * n for n in range(99)},
        ["é" * 5000] * 7,
    ],
)
def test_the_budget_holds_and_the_input_cannot_pass_for_the_preview(value, budget):
    text = shown(value, budget)
    assert len(text) <= budget
    assert text.startswith("context is a "[:budget])
    assert "\x1b" not in text
    ours = ("context", "text:", "begins:", "ends:", "lines look", "kinds:", "folders:")
    for line in text.split("\n")[:-1]:  # the last may be cut
        assert line.startswith(("|", "'", "…", "names:", "largest:", *ours)), line


def test_lines_of_prose_and_code_have_no_pattern():
    prose = "The quick brown fox jumps. It is lazy.\nNobody knows why, but the dog does.\n" * 9
    code = "import os\n\ndef f(x):\n    return x + 1\n\nclass A:\n    def g(self): pass\n" * 5
    for text in (prose.split("\n"), code.split("\n"), ["x"] * 50, [], [""] * 50):
        assert pattern_of(text) is None


def test_a_pattern_survives_a_few_lines_that_differ():
    lines = [f'{{"id": {n}, "name": "n{n * 31 % 17}"}}' for n in range(50)]
    lines[0] = "[header]"
    assert pattern_of(lines) == '{"id": ..., "name": "n..."}'
    assert (
        pattern_of([f"{n},{n * 7},{n % 3},x{n},{n}" for n in range(40)]) == "...,...,...,x...,..."
    )
