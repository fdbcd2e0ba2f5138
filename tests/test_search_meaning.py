"""Contract: search by what passages say, with the model that wordllama brings along."""

import asyncio

import pytest

from abyme.contexts import searching
from abyme.contexts.confined import Confined, HelperUnavailable
from abyme.contexts.sealed import from_value
from abyme.core.events import Span
from abyme.core.seeks import Search
from abyme.helpers.embed import LINES_CHARS, _lines

FILES = {
    "boats.txt": "The vessel left the harbour at dawn. Its captain steered by the stars.\n" * 9,
    "money.txt": "Every member owes the club twenty crowns. The treasurer collects them.\n" * 9,
    "meals.txt": "Soup is boiled for an hour. Bread is baked in the oven each morning.\n" * 9,
}
NAMES = list(FILES)


def seek(context, question, k=1, documents=None):
    wanted = Search(words=["x"], meaning=question, k=k, documents=documents)
    return asyncio.run(context.seek(wanted))


@pytest.fixture(scope="module")
def context():
    made = from_value(FILES)
    try:
        seek(made, "x")
    except HelperUnavailable as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("sailors and their ships at sea", "boats.txt"),
        ("paying money to an association", "money.txt"),
        ("cooking food in a kitchen", "meals.txt"),
    ],
)
def test_what_says_the_same_in_other_words_is_found(context, question, name):
    [[document, start, end, line, _]] = seek(context, question).places

    assert NAMES[document] == name
    assert 0 < end - start <= LINES_CHARS
    assert line == FILES[name].count("\n", 0, start) + 1


def test_the_same_question_has_the_same_answer(context):
    assert seek(context, "food", k=3) == seek(context, "food", k=3)


def test_documents_narrow_it(context):
    assert {place[0] for place in seek(context, "food", k=9, documents=[0, 1]).places} == {0, 1}


def test_a_part_finds_its_own_texts_only(context):
    part = context.part([Span(document=1, start=10, end=200)], "text")
    try:
        places = seek(part, "food", k=9).places
        assert {place[0] for place in places} == {0}
        assert all(0 <= start < end <= 190 for _, start, end, *_ in places)
    finally:
        part.close()


@pytest.mark.parametrize("text", [" \n" * 50, "\ud800 lone", "\u4e2d\u6587" * 900, "\0"])
def test_texts_without_words_of_the_model_do_no_harm(text):
    context = from_value([text, "The vessel left the harbour."])
    try:
        assert seek(context, "ships").places[0][0] == 1
    except HelperUnavailable as error:
        pytest.skip(str(error))
    finally:
        context.close()


def test_without_the_extra_it_is_told_what_to_install(monkeypatch):
    class Lacks(Confined):
        def start(self):
            raise HelperUnavailable("the helper 'embed' does not start: No module named 'x'")

    monkeypatch.setattr(searching, "Confined", Lacks)
    context = from_value(["text"])
    try:
        sought = seek(context, "anything")
    finally:
        context.close()

    assert (sought.places, sought.complete) == ([], False)
    assert sought.note == searching.NO_MEANING
    assert "pip install 'abyme[semantic]'" in sought.note


@pytest.mark.parametrize(
    "text", ["", "a", "one. two.\nthree", "x" * 1000, "a sentence of some words. " * 40 + "y" * 700]
)
def test_a_passage_is_cut_without_a_gap(text):
    cuts = list(_lines(text))

    assert "".join(text[start:end] for start, end in cuts) == text
    assert all(0 < end - start <= LINES_CHARS for start, end in cuts)
