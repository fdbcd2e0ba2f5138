"""Contract: evidence. Looked up byte for byte, judged, and what is nearest to what is not there."""

import pytest

from abyme.contexts import texts
from abyme.contexts.arena import ArenaWriter
from abyme.contexts.nearest import difference
from abyme.contexts.sealed import Source, finish, from_value
from abyme.core.events import Evidence, Near, Place, Refused, Span

POEM = (
    "The Committee approved the budget\non 3 March, after a long debate.\n"
    "“It is done,” said the chair — and left.\n"
    "number 7\n"
)
FILES = {"minutes.txt": POEM, "log.txt": "all is well here\n" * 6 + "all is lost here\n" * 3}


@pytest.fixture
def context():
    sealed = from_value(FILES)
    yield sealed
    sealed.close()


def why(context, quote):
    found = context.look_up(quote)
    return found.why if isinstance(found, Refused) else None


def test_a_quote_is_found_with_its_place(context):
    found = context.look_up("after a long debate")
    assert found == Evidence(
        path="minutes.txt", line=2, start=46, end=65, quote="after a long debate"
    )


@pytest.mark.parametrize("quote", ["chair", "the chair", "number 7", "3", "…done…"])
def test_a_short_quote_needs_its_place(context, quote):
    assert context.look_up(quote) == Refused(quote=quote, why="short")


def test_a_short_quote_with_its_place_is_taken(context):
    start = POEM.index("number 7")
    place = Place(document=0, start=start, end=start + 8, quote="number 7")
    placed = [place, "minutes.txt:4", "minutes.txt:4: number 7", 'minutes.txt:4 "7"']
    assert [context.look_up(one).line for one in placed] == [4, 4, 4, 4]
    assert context.look_up(placed[3]).quote == "7"


def test_a_place_whose_quote_is_not_on_that_line_is_none(context):
    assert why(context, "minutes.txt:1: number 7") == "absent"


def test_a_quote_that_stands_in_six_places_needs_one_of_them(context):
    assert why(context, "all is well here") == "common"
    assert context.look_up("log.txt:4: all is well here").line == 4


def test_of_a_quote_in_a_few_places_the_first_is_taken_and_their_number_said(context):
    found = context.look_up("all is lost here")
    assert (found.line, found.places) == (7, 3)


def test_places_are_counted_over_the_borders_of_windows(monkeypatch):
    monkeypatch.setattr(texts, "WINDOW_CHARS", 5)
    for times in (1, 4, 5, 6):
        sealed = from_value("one two six; " * times)
        found = sealed.look_up("one two six; ")
        assert (found.why if times > 5 else found.places) == ("common" if times > 5 else times)
        sealed.close()


@pytest.mark.parametrize("quote", ["", " \n", 7])
def test_what_is_no_quote_is_refused_and_does_not_raise(context, quote):
    assert why(context, quote) == "no_quote"


@pytest.mark.parametrize(
    ("quote", "line", "text", "differs"),
    [
        (
            "the committee approved the budget on 3 March",
            *(1, "The Committee approved the budget\non 3 March", "white space and capitals"),
        ),
        (
            '"It is done," said the chair - and left.',
            *(3, "It is done,” said the chair — and left", "quotation marks or dashes"),
        ),
        (
            "after a very long debate",
            *(2, "after a long debate", "'very' is not there"),
        ),
        (
            "The Committee rejected the budget",
            *(1, "The Committee approved the budget", "there it says 'approved', not 'rejected'"),
        ),
    ],
)
def test_the_nearest_text_is_found_and_how_it_differs(context, quote, line, text, differs):
    assert why(context, quote) == "absent"
    expected = Near(path="minutes.txt", line=line, text=text, differs=differs)
    assert context.nearest(quote) == expected


def test_what_is_like_nothing_has_no_nearest(context):
    assert context.nearest("purple elephants dance at midnight") is None
    assert context.nearest("!!! ...") is None


def test_the_nearest_of_chinese_text_is_found_by_characters():
    sealed = from_value("春眠不觉晓,处处闻啼鸟。\n夜来风雨声,花落知多少。\n")
    near = sealed.nearest("夜来风雪声,花落知多少")
    assert (near.line, near.text) == (2, "夜来风雨声,花落知多少")
    assert near.differs == "there it says '雨', not '雪'"
    sealed.close()


def test_no_more_of_a_context_is_read_than_is_allowed(monkeypatch):
    from abyme.contexts import nearest

    monkeypatch.setattr(nearest, "LOOKED_CHARS", 10)
    monkeypatch.setattr(texts, "WINDOW_CHARS", 1000)
    sealed = from_value(["x" * 5000, "the needle in the haystack"])
    assert sealed.nearest("the needle in a haystack") is None
    sealed.close()


def test_differences_are_told_together():
    assert difference("a  b", "a b") == "white space"
    assert difference("a b.", "a b!") == "punctuation"
    assert difference("A 'b'", "a\n‘b’") == (  # noqa: RUF001
        "white space and quotation marks or dashes and capitals"
    )


def test_evidence_of_a_document_with_pages_names_the_page():
    writer = ArenaWriter()
    text = "first page\fsecond page with more words\fthird"
    writer.add_text(text)
    pages = (0, 11, 39)
    source = Source(media="application/pdf", pages=pages, page_word="slide")
    sealed = finish(writer, "documents", ["talk.pptx"], [source])
    writer.close()
    found = sealed.look_up("with more words")
    assert (found.page, found.page_word) == (2, "slide")
    part = sealed.part([Span(document=0, start=12)], "text")
    assert part.look_up("with more words").page == 2
    part.close()
    sealed.close()
