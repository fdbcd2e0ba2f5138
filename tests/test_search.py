"""Contract: guest/search. Passages by words: rare words first, names count."""

import pytest

from abyme.contexts.sealed import from_value
from abyme.guest.adopt import View

LETTER = "\n".join(
    [
        "Dear Ann,",
        "the rowing club has forty members now.",
        "Each of them pays 25 crowns in spring.",
        *["The weather is as it was, and the boats are dry."] * 30,
        "Members of the choir pay nothing.",
    ]
)
FILES = {
    "notes/note-0008.txt": "Note: 8\nHeading: Bridges\nEditor: Nora Lind\n" + "text\n" * 50,
    "notes/note-0081.txt": "Note: 81\nHeading: Mills\nEditor: Sam Ito\nsee note 8\n",
    "letter.txt": LETTER,
}


def view_of(value):
    context = from_value(value)
    view = View(*context.fds)
    context.close()
    return view


@pytest.fixture
def view():
    return view_of(FILES)


def test_the_best_passage_holds_most_of_the_words(view):
    first = view.search("How much do members of the rowing club pay?")[0]

    assert (first.name, first.line) == ("letter.txt", 1)
    assert "rowing club has forty members now.\nEach of them pays 25 crowns" in first.text


def test_a_passage_is_a_place_whose_quote_stands_where_it_says(view):
    for place in view.search("members pay editor", k=5):
        document, start, end = place.span
        assert list(FILES.values())[document][start:end] == place.quote
        assert list(FILES)[document] == place.name


def test_a_number_in_a_documents_name_counts_with_and_without_zeros(view):
    assert view.search("editor of note 8", k=1)[0].name == "notes/note-0008.txt"
    assert view.search("editor of note 81", k=1)[0].name == "notes/note-0081.txt"


def test_case_and_endings_of_words_do_not_matter(view):
    assert view.search("PAYING MEMBERS OF CLUBS", k=1)[0].line == 1


def test_there_are_no_more_passages_than_asked_for_and_none_twice(view):
    places = view.search("weather boats", k=2)

    assert len(places) == len({place.span for place in places}) == 2


def test_docs_narrow_a_search_as_they_narrow_grep(view):
    assert {p.name for p in view.search("note", docs="notes/*")} == {
        "notes/note-0008.txt",
        "notes/note-0081.txt",
    }
    with pytest.raises(KeyError, match="no document is named"):
        view.search("note", docs="nothing.txt")


def test_a_long_line_is_cut_around_the_words(view):
    place = view_of("x " * 5000 + "the spare key lies here " + "y " * 5000).search("spare key")[0]

    assert "the spare key lies here" in place.text
    assert len(place.quote) <= 520
    assert (place.text[0], place.text[-1]) == ("…", "…")


def test_common_words_count_only_where_there_are_no_others(view):
    assert view.search("what is the weather", k=1)[0].text.count("weather") > 0
    assert view_of("to be or not to be").search("to be")[0].text == "to be or not to be"


def test_words_that_stand_nowhere_bring_nothing_and_are_told_of(view):
    assert view.search("xylophone") == view.search("zither") == []
    assert view.take_notes() == [
        'no passage has any of these words; try others, or grep(r"(?i)part of a word")'
    ]
    assert view.search("boats", docs="notes/*") == []
    [note] = view.take_notes()
    assert note.startswith("no passage of these docs has any of these words; try others")


@pytest.mark.parametrize("k", [0, -1, None, "5"])
def test_a_number_of_passages_that_is_none_is_an_error(view, k):
    with pytest.raises(ValueError, match=f"^k must be a whole number from 1, not {k!r}$"):
        view.search("boats", k)


def test_no_word_is_an_error(view):
    with pytest.raises(ValueError, match="no word to look for"):
        view.search("?!")


def test_texts_whose_lower_case_is_longer_keep_their_places():
    text = "İİİ spare key\nother"
    place = view_of(text).search("spare key")[0]

    assert text[place.span[1] : place.span[2]] == place.quote
    assert place.quote.startswith("İİİ spare key")


def test_what_is_written_without_spaces_is_found_by_pairs_of_characters():
    text = "前文。" * 300 + "北京的天气今天很好。我们用Python写程序。" + "后文。" * 300

    for words in ("天气怎么样", "Python 程序", "京"):
        assert "今天很好" in view_of(text).search(words)[0].text


@pytest.mark.parametrize("tool", ["grep", "count"])
def test_a_pattern_without_a_match_is_told_of_case(view, tool):
    getattr(view, tool)("^editor: nora")

    assert view.take_notes() == [
        "nothing matches '^editor: nora'; ignoring case, (?i), there are 1 matches"
    ]


def test_a_pattern_that_matches_nothing_is_told_of_search(view):
    assert (view.count("zebra"), view.grep("zebra")) == (0, [])
    [note] = view.take_notes()
    assert note.startswith("nothing matches 'zebra', in capitals or not; search(words) finds")
