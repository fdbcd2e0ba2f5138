"""Contract: core/grounds. An answer that was typed and stands on nothing is doubted, once."""

import pytest

from abyme.core.grounds import doubt

QUESTION = "Who is the editor of note 12?"
SEEN = ["notes/note-0012.txt: Heading: Bridges, Editor: Nora Lind, 40 times, 1,809 in all"]


def doubted(value, code=None):
    return doubt(value, code=code or f"submit({value!r})", question=QUESTION, seen=SEEN)


@pytest.mark.parametrize("value", ["Nora Lind", "The editor is Nora Lind.", 40, 1809, "1,809"])
def test_what_was_shown_is_taken(value):
    assert doubted(value) is None


@pytest.mark.parametrize("value", ["note 12", "the editor", "Editor of Note 12"])
def test_words_of_the_question_are_no_answer(value):
    assert doubted(value) == "it only repeats the question"


@pytest.mark.parametrize("value", ["Sam Ito", 41, "41 times", "2021-04-15"])
def test_what_was_never_shown_is_doubted(value):
    assert doubted(value) == "it stands in no output"


@pytest.mark.parametrize("value", [0, "0"])
def test_zero_is_doubted(value):
    assert doubted(value) == "nothing was found in this way, perhaps it is under other words"


def test_what_the_cell_computed_is_taken():
    assert doubted(0, code="submit(len(hits))") is None
    assert doubted("Sam Ito", code="submit(places[0].text)") is None


@pytest.mark.parametrize("value", [True, ["Sam Ito"], {"a": "Sam Ito"}, None, "long " * 60])
def test_what_cannot_be_told_by_words_is_taken(value):
    assert doubted(value) is None
