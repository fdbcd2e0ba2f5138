"""Contract: search over contexts too large to be read each time, by an index in a helper."""

import asyncio
import os
import threading

import pytest

from abyme.contexts import searching
from abyme.contexts.confined import Confined, HelperFailed, HelperUnavailable
from abyme.contexts.sealed import from_value
from abyme.contexts.symbols import SymbolFinder
from abyme.core.events import Span
from abyme.core.limits import Limits
from abyme.core.seeks import Search
from abyme.errors import ContextError
from abyme.guest.adopt import View
from abyme.guest.search import ASKED_CHARS, stems_of
from abyme.helpers import index as indexing
from abyme.helpers.passages import Arena

FILLER = "\n".join(f"line {n} tells of wind and water and of nothing else" for n in range(2_000))
FILES = {
    "notes/note-0008.txt": "Note: 8\nHeading: Bridges\nEditor: Nora Lind\n" + "text\n" * 50,
    "notes/note-0081.txt": "Note: 81\nHeading: Mills\nEditor: Sam Ito\nsee note 8\n",
    **{f"filler/{n}.txt": FILLER for n in range(25)},
    "letter.txt": FILLER
    + "\nthe rowing club has forty members now.\nEach of them pays 25 crowns in spring.\n"
    + FILLER,
}
NAMES = list(FILES)


def seek(context, words, k=5, **rest):
    return asyncio.run(context.seek(Search(words=stems_of(words), k=k, **rest)))


@pytest.fixture(scope="module")
def context():
    made = from_value(FILES)
    try:
        seek(made, "rowing")
    except HelperUnavailable as error:
        pytest.skip(str(error))
    yield made
    made.close()


def quotes(texts, sought):
    return [(place[0], texts[place[0]][place[1] : place[2]]) for place in sought.places]


def test_the_place_that_holds_most_of_the_words_is_the_first(context):
    sought = seek(context, "How much do members of the rowing club pay?")
    document, start, end, line, _ = sought.places[0]

    assert NAMES[document] == "letter.txt"
    assert FILES["letter.txt"][start:end] == ("club has forty members now.\nEach of them pay")
    assert (line, sought.complete, sought.note) == (2001, True, None)


def test_it_ranks_as_a_repl_does_that_reads_the_texts_itself(context):
    for words in ("members of the rowing club", "editor of note 8", "editor of note 81", "mills"):
        by_index = seek(context, words, k=3)
        view = View(*context.fds)

        assert [(NAMES[p[0]], p[3]) for p in by_index.places[:1]] == [
            (hit.name, FILES[hit.name].count("\n", 0, by_index.places[0][1]) + 1)
            for hit in view.search(words, k=1)
        ]


def test_the_same_question_has_the_same_answer(context):
    assert seek(context, "wind water", k=50) == seek(context, "wind water", k=50)


def test_documents_narrow_it(context):
    sought = seek(context, "note", documents=[0, 1])

    assert {NAMES[place[0]] for place in sought.places} == set(NAMES[:2])
    assert seek(context, "rowing", documents=[0, 1]).places == []


def test_no_more_are_given_than_asked_for(context):
    assert len(seek(context, "wind", k=7).places) == 7


def test_words_that_stand_nowhere_bring_nothing(context):
    assert seek(context, "xylophone").places == []


@pytest.mark.parametrize("words", [["___"], ['"'], ['" OR "a'], ["*"], ["text:a"], ["a" * 200]])
def test_no_word_is_taken_for_the_language_of_the_index(context, words):
    assert asyncio.run(context.seek(Search(words=words, k=1))).places == []


def test_a_part_of_a_context_finds_its_own_texts_only(context):
    start = FILES["letter.txt"].index("the rowing")
    part = context.part([Span(document=len(NAMES) - 1, start=start, end=start + 200)], "text")
    try:
        sought = seek(part, "rowing club wind")
        texts = [FILES["letter.txt"][start : start + 200]]

        [quote] = [text for _, text in quotes(texts, sought)]
        assert quote.startswith("club has forty members now.\nEach of them pays 25 crowns")
        assert quote.endswith("line 0 tells of wind")
        assert all(place[2] <= 200 for place in sought.places)
    finally:
        part.close()


@pytest.mark.parametrize(
    "alphabet", ["a", "\u00e4", "\u4e2d", "\U0001f600", "\ud800\udc00"], ids=ascii
)
def test_texts_of_every_width_keep_their_places(alphabet):
    texts = [f"{alphabet} filler " * 500 + "the spare key lies here " + "more " * 500]
    context = from_value(texts)
    try:
        assert quotes(texts, seek(context, "spare key", k=1)) == [(0, "spare key")]
    except HelperUnavailable as error:
        pytest.skip(str(error))
    finally:
        context.close()


def test_what_is_written_without_spaces_is_found_by_pairs_of_characters():
    text = "前文。" * 300 + "北京的天气今天很好。我们用Python写程序。" + "后文。" * 300
    context = from_value([text])
    try:
        assert quotes([text], seek(context, "天气怎么样", k=1)) == [(0, "天气")]
        assert quotes([text], seek(context, "程序和Python", k=1)) == [(0, "Python写程序")]
        assert seek(context, "文天").places == []
    except HelperUnavailable as error:
        pytest.skip(str(error))
    finally:
        context.close()


def test_an_index_that_is_not_ready_says_how_far_it_looked(context):
    finder = searching.Finder(None, "index")

    class Where:
        index = (type("Entry", (), {"chars": 10}),)
        memory = type("Memory", (), {"line": lambda *_: 1})

    growing = finder._sought(
        {"places": [[0, 1, 2, 0.5]], "indexed_bytes": 5e6, "wanted_bytes": 2e7, "full": False},
        Where,
    )
    full = finder._sought(
        {"places": [], "indexed_bytes": 5e6, "wanted_bytes": 2e7, "full": True}, Where
    )

    assert (growing.complete, growing.places) == (False, [[0, 1, 2, 1, 0.5]])
    assert growing.note == (
        "search looked at the first 5 of 20 MB only; the index is still growing: search again "
        "later, or use grep"
    )
    assert full.note == (
        "search looked at the first 5 of 20 MB only; grep looks at all of it, docs= narrows a "
        "search"
    )


def test_only_the_first_question_waits_for_long():
    context = from_value(["the spare key"])
    memory = context._seeking._where.memory
    asked = []

    class Watched(Confined):
        def send(self, head, fds=(), body=b""):
            if head.get("t") == "search":
                asked.append(head["wait_s"])
            super().send(head, fds, body)

    try:
        seek(context, "key")
        memory._companions["index"]._helper.__class__ = Watched
        seek(context, "key")
    except HelperUnavailable as error:
        pytest.skip(str(error))
    finally:
        context.close()

    assert asked == [searching.WAIT_AGAIN_S]
    assert searching.WAIT_AGAIN_S < searching.WAIT_S < Limits().cell_timeout_s / 2


@pytest.mark.parametrize(
    "places",
    [
        [[9, 0, 1, 0.5]],
        [[0, -1, 1, 0.5]],
        [[0, 0, 11, 0.5]],
        [[0, 2, 1, 0.5]],
        [["0", 0, 1, 0.5]],
        7,
    ],
)
def test_places_that_are_none_are_not_believed(places):
    class Where:
        index = (type("Entry", (), {"chars": 10}),)

    with pytest.raises((ValueError, TypeError)):
        searching.Finder(None, "index")._sought({"places": places}, Where)


def test_a_helper_that_was_killed_is_started_again_once():
    context = from_value(["the spare key"])
    try:
        seek(context, "key")
        memory = context._seeking._where.memory
        for left in (True, False):
            memory._companions["index"]._helper._process.kill()
            memory._companions["index"]._helper._process.wait()
            with pytest.raises(HelperFailed, match="it was ended"):
                seek(context, "key")
            if left:
                assert seek(context, "key").total == 1
        with pytest.raises(HelperUnavailable, match="failed twice"):
            seek(context, "key")
    except HelperUnavailable as error:
        pytest.skip(str(error))
    finally:
        context.close()


def test_a_closed_context_ends_its_helper():
    context = from_value(["the spare key"])
    try:
        seek(context, "key")
    except HelperUnavailable as error:
        context.close()
        pytest.skip(str(error))
    process = context._seeking._where.memory._companions["index"]._helper._process
    context.close()

    assert process.returncode is not None
    with pytest.raises(ContextError):
        seek(context, "key")


def test_stretches_that_overlap_are_all_found(context):
    letter = len(NAMES) - 1
    at = FILES["letter.txt"].index("the rowing")
    spans = [(0, None), (at - 50, at + 90), (at, at + 40), (at, at + 40), (at + 40, at + 90)]
    part = context.part(
        [Span(document=letter, start=start, end=end) for start, end in spans], "documents"
    )
    try:
        found = seek(part, "forty club", k=9).places
        assert sorted({place[0] for place in found}) == [0, 1, 2, 3]
    finally:
        part.close()


def test_more_contexts_than_a_helper_remembers_are_told_again(context, monkeypatch):
    monkeypatch.setattr(searching, "MAX_CONTEXTS", 2)
    parts = [context.part([Span(document=n)], "documents") for n in range(4)]
    try:
        for _ in range(2):
            assert [seek(part, "note wind", k=1).total for part in parts] == [1, 1, 1, 1]
    finally:
        for part in parts:
            part.close()


def test_the_index_has_a_bound_and_stops_there(monkeypatch):
    monkeypatch.setattr(indexing, "MAX_INDEX_BYTES", 1)
    context = from_value(["some text " * 300_000, "the spare key"])
    arena = Arena(os.dup(context._seeking._where.memory.fd), _size(context))
    passages = indexing.Passages(arena)
    passages.want(context._seeking._where.index)
    passages.grow()

    passages._db.close()
    assert passages.full
    assert passages.ready
    assert 0 < passages.indexed_bytes < passages.wanted_bytes
    context.close()


def _size(context):
    return os.fstat(context._seeking._where.memory.fd).st_size


class Host:
    """Answers a view's questions with what it was made of."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def __call__(self, wanted):
        self.asked.append(wanted)
        return self.answer


def view_of(value, host):
    context = from_value(value)
    view = View(*context.fds)
    context.close()
    view.ask_by(host)
    return view


LARGE = "x" * ASKED_CHARS + "\nbefore\nthe spare key lies here\nbehind"
AT = LARGE.index("spare")


def test_a_repl_asks_the_host_about_large_texts_and_shows_whole_lines():
    host = Host({"places": [[0, AT, AT + 9, 3, 1.5]], "note": "said"})
    view = view_of(LARGE, host)
    [hit] = view.search("the spare keys", k=2)

    assert (hit.name, hit.line) == ("context", 2)
    assert hit.text == "before\nthe spare key lies here\nbehind"
    assert host.asked == [
        {
            "type": "search",
            "words": ["spar", "key"],
            "k": 2,
            "documents": None,
            "meaning": None,
        }
    ]
    assert view.take_notes() == ["said"]


def test_a_repl_reads_small_texts_itself():
    host = Host({"places": []})

    assert view_of("the spare key", host).search("key")[0].line == 1
    assert host.asked == []


def test_a_repl_reads_large_texts_itself_where_the_host_does_not_answer():
    host = Host(None)

    assert view_of(LARGE, host).search("spare key")[0].line == 2
    assert len(host.asked) == 1


def test_a_repl_reads_itself_what_an_index_has_not_reached():
    """An oom_badness that stands in mm/ was not found in mm/ while the rest was being indexed."""
    host = Host({"places": [], "complete": False, "note": "the first 3 of 9 MB are indexed"})
    view = view_of(LARGE, host)

    assert view.search("spare key")[0].line == 2
    assert len(host.asked) == 1
    assert view.take_notes() == []


def test_a_search_by_meaning_is_always_the_hosts():
    place = {"places": [[0, 4, 9, 1, 0.5]]}
    host = Host(place)

    assert view_of("the spare key", host).search("how to get in", meaning=True)[0].line == 1
    assert host.asked[0]["meaning"] == "how to get in"


def test_a_search_by_meaning_that_cannot_be_had_is_an_error_that_says_why():
    with pytest.raises(LookupError, match="not to be had here"):
        view_of("the spare key", Host(None)).search("key", meaning=True)
    with pytest.raises(LookupError, match="pip install"):
        view_of(
            "the spare key",
            Host({"places": [], "complete": False, "note": searching.NO_MEANING}),
        ).search("key", meaning=True)


@pytest.mark.parametrize("word", ["spare\0", "\ud800spare", 'spare" AND NEAR(', "\x1a"])
def test_what_no_index_takes_is_left_out_of_a_question(context, word):
    assert seek(context, "spare")
    asked = Search(words=[word, "spare"], k=3)
    assert asyncio.run(context.seek(asked)).complete
    assert asyncio.run(context.seek(Search(words=["spare"], k=3))).complete


def test_a_question_that_fails_by_itself_does_not_end_the_index(context, monkeypatch):
    seek(context, "key")
    finder = context._seeking._where.memory._companions["index"]
    process = finder._helper._process
    monkeypatch.setattr(searching, "_plain", lambda _: 7)
    for _ in range(3):
        with pytest.raises(ContextError, match="this search failed: AttributeError"):
            seek(context, "key")
    monkeypatch.undo()

    assert seek(context, "note").complete
    assert finder._helper._process is process


@pytest.mark.parametrize("finder", [lambda: searching.Finder(None, "index"), SymbolFinder])
def test_a_question_that_was_cancelled_before_its_turn_is_never_asked(finder, monkeypatch):
    begun, goes_on, asked = threading.Event(), threading.Event(), []

    def looks(_, *wanted):
        asked.append(wanted[0])
        begun.set()
        goes_on.wait(10)

    made = finder()
    name, ask = ("ask", "asked") if isinstance(made, searching.Finder) else ("find", "found")
    monkeypatch.setattr(type(made), name, looks)

    async def run():
        rest = [None] * (1 if name == "ask" else 2)
        first = asyncio.ensure_future(getattr(made, ask)("first", *rest))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(getattr(made, ask)("second", *rest))
        await asyncio.to_thread(begun.wait, 10)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        goes_on.set()
        await first

    asyncio.run(run())
    made.close()
    assert asked == ["first"]
