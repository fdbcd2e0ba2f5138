"""Contract: evidence. Looked up byte for byte, judged, and what is nearest to what is not there."""

import json
import re

import pytest

from abyme import RLM
from abyme.apps.cli.answers import references, why_left_out
from abyme.contexts import texts
from abyme.contexts.arena import ArenaWriter
from abyme.contexts.nearest import difference
from abyme.contexts.sealed import Source, finish, from_value
from abyme.core.events import Evidence, Near, Place, Refused, Span
from abyme.journals.folder import RunFolder
from abyme.run.answers import recorded
from abyme.testing import ScriptedModel

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
    assert sealed.look_up("talk.pptx, slide 2").quote == "second page with more words"
    assert sealed.look_up("talk.pptx, page 2: more words").start == 28
    assert sealed.look_up("talk.pptx, page 9") == Refused(quote="talk.pptx, page 9", why="absent")
    part = sealed.part([Span(document=0, start=12)], "text")
    assert part.look_up("talk.pptx, page 2").quote == "econd page with more words"
    assert part.look_up("with more words").page == 2
    part.close()
    sealed.close()


def test_a_quote_that_is_too_long_to_look_for_is_refused_and_one_of_blanks_is_read_in_a_line(
    context,
):
    long = "x:1:a" + " " * 100_000 + "b"
    assert context.look_up(long) == Refused(quote=long[:300], why="long")
    assert context.check([long]) == ([], [long[:300]])
    assert why(context, long[-90_000:]) == "short"
    assert why(context, "minutes.txt:1:a" + " " * 90_000 + "b") == "absent"


def test_a_place_that_stands_is_taken_however_long_it_is():
    text = "many words " * 10_000
    sealed = from_value(text)
    whole = Place(document=0, start=0, end=len(text), quote=text)
    assert (sealed.look_up(whole).end, len(text)) == (110_000, 110_000)
    assert len(sealed.check([whole])[0]) == 1
    sealed.close()


def test_of_a_long_quote_the_beginning_is_compared_and_only_so_much_around_it(monkeypatch):
    from abyme.contexts import nearest

    looked = []
    words = nearest.words
    monkeypatch.setattr(nearest, "words", lambda text: looked.append(len(text)) or words(text))
    sealed = from_value("one two three four five six seven. " * 200_000)
    sealed.nearest("one two three four five seven eight. " * 2_500)
    sealed.close()
    assert sum(looked) < nearest.COMPARED_CHARS + 100_000


@pytest.mark.parametrize(
    ("said", "line", "quote"),
    [
        ("minutes.txt:2: …after a long debate…", 2, "after a long debate"),
        ('minutes.txt:2: "...after a long debate"', 2, "after a long debate"),
        ("minutes.txt: after a long debate", 2, "after a long debate"),
        ("minutes.txt:4: after a long debate", 2, "after a long debate"),
        ("minutes.txt:99: after a long debate", 2, "after a long debate"),
        ("...after a long debate...", 2, "after a long debate"),
    ],
)
def test_a_quote_with_its_document_is_found_as_models_write_it(context, said, line, quote):
    found = context.look_up(said)
    assert (found.path, found.line, found.quote) == ("minutes.txt", line, quote)


def test_a_wrong_quote_with_a_place_is_compared_without_the_place(context):
    said = "minutes.txt:2: after a very long debate"
    assert why(context, said) == "absent"
    assert context.nearest(said).differs == "'very' is not there"


def test_the_end_of_a_name_is_enough_where_only_one_document_has_it():
    sealed = from_value({"a/one.txt": "first\nsecond", "a/two.txt": "x y z", "b/two.txt": "x y z"})
    assert (sealed.look_up("one.txt:2").path, sealed.look_up("one.txt:2").line) == ("a/one.txt", 2)
    assert why(sealed, "two.txt:1") == "absent"
    assert sealed.look_up("b/two.txt:1").path == "b/two.txt"
    sealed.close()


# -- what was computed


def code(*lines):
    return "```repl\n" + "\n".join(lines) + "\n```"


LINES = "".join(f"Who is {n}?\n" if n % 2 else f"Where is {n}?\n" for n in range(12))


def judged(request):
    """Answer an `llm_map` over the lines of `LINES`."""
    text = request.messages[-1].content
    items = re.findall(r"^(\d+)\W+(Who|Where) is", text, re.MULTILINE)
    return json.dumps({n: "person" if word == "Who" else "place" for n, word in items})


@pytest.fixture
def ask(tmp_path):
    def run(*cells):
        turns = [code(*lines) for lines in cells]

        def answer(request):
            is_map = any("numbered items" in one.content for one in request.messages)
            return judged(request) if is_map else turns.pop(0)

        with RLM(model=ScriptedModel(answer), runs_dir=tmp_path) as rlm:
            return rlm.ask("How many?", {"q.txt": LINES, "b.txt": "alpha beta gamma\n"})

    return run


MAP = "kinds = llm_map(grep('is'), 'What is asked?', labels=['person', 'place'])"


def test_labels_of_a_map_are_counted_again_by_the_host_and_lead_to_their_lines(ask):
    answer = ask((MAP,), ("submit(kinds.count('person'), evidence=cite(kinds, 'person'))",))

    (one,) = answer.derivations
    assert (answer.value, one.how, one.cell, one.asked) == (6, "llm_map", 1, "What is asked?")
    assert (one.labels, one.checked, one.claimed) == ({"person": 6, "place": 6}, True, {})
    assert [(place.path, place.line) for place in one.places[:2]] == [("q.txt", 2), ("q.txt", 4)]
    assert (one.total, one.missing) == (6, 0)


def test_values_that_a_cell_has_changed_are_told_apart_from_the_hosts_record(ask):
    answer = ask((MAP, "kinds[0] = 'person'", "submit(7, evidence=kinds)"))

    (one,) = answer.derivations
    assert one.labels == {"person": 6, "place": 6}
    assert one.claimed == {"person": 7, "place": 5}


def test_hits_and_counts_are_evidence_as_the_cell_says(ask):
    answer = ask(
        ("hits = grep('Who')", "n = count('Where')", "submit(n, evidence=[cite(hits), n])")
    )

    hits, count = answer.derivations
    assert (hits.how, hits.asked, hits.items, hits.checked) == ("grep", "Who", 6, False)
    assert [place.line for place in hits.places] == [2, 4, 6, 8, 10, 12]
    assert (count.how, count.asked, count.items, count.total) == ("count", "Where", 6, 0)


def test_a_derivation_that_was_made_up_is_not_checked_and_its_places_are_not_there(ask):
    forged = (
        "made = cite(grep('Who'))",
        "made.update(how='llm_map', call=99, sent=6, labels={'person': 6})",
        "made['places'] = [[0, 5, 3], [9, 0, 1]]",
        "submit(6, evidence=[made])",
    )
    (one,) = ask(forged).derivations
    assert (one.checked, one.places, one.missing) == (False, [], 2)


def test_of_a_checked_map_the_number_of_items_is_the_hosts(ask):
    forged = (
        "made = cite(kinds)",
        "made.update(items=9000, total=8000)",
        "submit(6, evidence=made)",
    )
    answer = ask((MAP,), forged)
    (one,) = answer.derivations
    assert (one.checked, one.items, one.total) == (True, 12, 12)
    (line,) = references(answer.evidence, answer.derivations)
    assert "; instruction and places as the cell says (first places" in line


def test_what_a_search_was_narrowed_to_is_told(ask):
    cell = (
        "hits = grep('who', 'q.txt', 2, re.I)",
        "n = count('alpha', 'b.txt')",
        "submit(2, evidence=[cite(hits), n])",
    )
    answer = ask(("import re", *cell))
    narrowed, places = "docs='q.txt', flags=2, the first 2 of more", "first places: q.txt:2, :4"
    assert list(references(answer.evidence, answer.derivations)) == [
        f"  [1] computed in cell 1: grep('who', {narrowed}): 2 ({places}), as the cell says",
        "  [2] computed in cell 1: count('alpha', docs='b.txt'): 1, as the cell says",
    ]


def test_of_two_counts_that_are_equal_none_is_taken_for_the_other(ask):
    cell = (
        "a = count('Who'); b = count('Where')",
        "try: cite(a)",
        "except TypeError as error: submit(str(error))",
    )
    assert ask(cell).value.startswith("cite() cannot tell how this int was made: give it a hit")


def test_hits_that_were_sorted_out_are_evidence_by_their_places(ask):
    answer = ask(
        (
            "hits = grep('is')",
            "some = [hit for hit in hits if 'Who' in hit.text]",
            "print(cite(some))",
            "submit(6, evidence=[cite(some), hits[:2], ['alpha beta gamma']])",
        )
    )
    assert [(one.path, one.line) for one in answer.evidence] == [
        ("q.txt", 1),
        ("q.txt", 2),
        ("b.txt", 1),
    ]
    places = "first places: q.txt:2, :4, :6, 3 more"
    assert list(references((), answer.derivations)) == [
        f"  [1] selected in cell 1: 6 places ({places}), as the cell says"
    ]


def test_rows_and_chunks_are_cited_together_and_only_the_first_of_many_are_made():
    from abyme.guest.derived import MAX_PLACES, selected

    class Piece:
        span = (0, 1, 2)

    class Many:
        made = 0

        def __len__(self):
            return 5_000

        def __iter__(self):
            for _ in range(5_000):
                self.made += 1
                yield Piece()

    many = Many()
    told = selected(many, 3)
    assert (told["items"], told["total"], len(told["places"])) == (5_000, 5_000, MAX_PLACES)
    assert many.made == MAX_PLACES


def test_what_has_no_place_cannot_be_cited_and_a_derivation_is_shown_in_short(ask):
    cell = (
        "said = [repr(cite(grep('Who')))]",
        "for thing in ({'a': 1}, 7, [], [1, 2, 3], None):",
        "    try: cite(thing)",
        "    except TypeError as error: said.append(str(error)[:37])",
        "submit(said)",
    )
    assert ask(cell).value == [
        "<grep('Who') in cell 1: 6 items, 6 places>",
        *(
            f"cite() cannot tell how this {kind} was made"[:37]
            for kind in ("dict", "int", "list", "list", "NoneType")
        ),
    ]


def test_references_are_numbered_together(ask):
    answer = ask(
        ("hits = grep('Who')", "submit(6, evidence=['alpha beta gamma', cite(hits), 'b.txt:1'])")
    )
    places = "first places: q.txt:2, :4, :6, 3 more"
    assert list(references(answer.evidence, answer.derivations)) == [
        '  [1] b.txt:1  "alpha beta gamma"',
        '  [2] b.txt:1  "alpha beta gamma"',
        f"  [3] computed in cell 1: grep('Who'): 6 ({places}), as the cell says",
    ]


def test_a_run_is_read_back_with_what_it_was_derived_from(ask):
    answer = ask((MAP, "submit(6, evidence=kinds)"))
    again = recorded(RunFolder(answer.run).recording().records, run=answer.run)
    assert again.derivations == answer.derivations
    assert RunFolder(answer.run).answer().derivations == answer.derivations


def test_a_model_is_told_what_is_nearest_to_its_quote_and_may_submit_again(tmp_path):
    model = ScriptedModel(
        [
            code("submit(1, evidence=['Alpha  beta delta'])"),
            code("submit(1, evidence=['alpha beta gamma'])"),
        ]
    )
    with RLM(model=model, runs_dir=tmp_path) as rlm:
        answer = rlm.ask("What?", {"b.txt": "alpha beta gamma\n"})

    told = model.requests[1].messages[-1].content
    said = "'Alpha  beta delta' is not in the context word for word (there it says 'gamma', not"
    assert said in told
    assert re.search(r"<data \w{8}>\nb.txt:1: alpha beta gamma\n</data \w{8}>", told)
    assert [place.quote for place in answer.evidence] == ["alpha beta gamma"]
    assert (answer.missing, answer.refused) == ([], [])


def test_what_was_refused_is_told_with_the_answer(ask):
    answer = ask(("submit(1, evidence=['alpha beta gamma', 'Where', 'alpha beta delta'])",))
    assert [(one.quote, one.why) for one in answer.refused] == [
        ("Where", "short"),
        ("alpha beta delta", "absent"),
    ]
    assert list(why_left_out(answer.missing, answer.refused)) == [
        "1 piece of evidence was not found in the context and is left out: 'alpha beta delta'",
        "    nearest: b.txt:1  \"alpha beta gamma\" (there it says 'gamma', not 'delta')",
        "'Where' is too short or too common to be evidence without a place: left out",
    ]
