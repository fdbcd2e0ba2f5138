"""Contract: contexts/finding, guest/asked. Who looks for a pattern changes nothing but the time."""

import asyncio
import random

import msgspec
import pytest
from jail_doubles import bench

from abyme.contexts import finding
from abyme.contexts.arena import ArenaWriter
from abyme.contexts.confined import HelperUnavailable
from abyme.contexts.sealed import Source, finish, from_value
from abyme.core.events import Span
from abyme.core.seeks import Grep, Seek
from abyme.errors import ContextError
from abyme.guest import asked
from abyme.guest.adopt import View
from abyme.guest.places import Finder

LONG = "".join(f"line {n} of the long text\r\n" if n % 5 else "\n" for n in range(20_000))
"""Many windows long, see `windows`."""
MIXED = {
    "long": LONG,
    "small": "foo bar\nfoot\n",
    "latin": "une journée\nà la fête, foot\n",
    "wide": "日本語の foot\n二行目 fo\n" * 3000,
    "astral": "\U0001f600 foot\n",
    "surrogates": "\ud800\udc00 foot\nfoo\ud800",
    "empty": "",
}
PATTERNS = [
    *(r"foo\w?", r"^fo+\b", r"(?i)LINE 1\d* of", r"of the \w+ text$", r"\s+line 19\d+5\b", "é[et]"),
    *(r"(?:foo|bar)t?$", r"行目|journ.e", r"^\s*$", r"fo(?=ot)", r"(o)\1", r"[^\n]+0000 of"),
]


class Host:
    """A context, and the loop that its questions are asked on."""

    def __init__(self, value):
        self.loop = asyncio.new_event_loop()
        self.context = from_value(value) if isinstance(value, str | dict | list) else value
        self.questions = []

    def seek(self, wanted):
        return self.loop.run_until_complete(self.context.seek(wanted))

    def answer(self, wanted):
        """What a cell's question brings, as `wired.seeking` does it."""
        self.questions.append(wanted)
        try:
            sought = self.seek(msgspec.convert(wanted, Seek))
        except ContextError as error:
            if isinstance(error, HelperUnavailable):
                pytest.skip(str(error))
            return None
        return msgspec.json.decode(msgspec.json.encode(sought))

    def view(self, *, asks=True):
        made = View(*self.context.fds)
        if asks:
            made.ask_by(self.answer)
        return made

    def close(self):
        self.context.close()
        self.loop.close()


@pytest.fixture(scope="module", autouse=True)
def windows():
    """Small ones, so that a small text has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finding, "WINDOW_BYTES", 1 << 14)
        patch.setattr(finding, "FIRST_BYTES", 1 << 10)
        yield


@pytest.fixture(scope="module")
def mixed(windows):
    made = Host(MIXED)
    yield made
    made.close()


@pytest.fixture
def always(monkeypatch):
    """Small texts are asked about too."""
    monkeypatch.setattr(asked, "ASKED_CHARS", 0)


def shown(hits):
    return [(*hit, hit.span, hit.quote) for hit in hits]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_hits_and_counts_are_those_of_re_in_texts_of_every_kind(mixed, pattern):
    here, there = mixed.view(asks=False), mixed.view()
    for docs in (None, "long", ["small", "latin", "wide", "surrogates"]):
        assert shown(there.grep(pattern, docs)) == shown(here.grep(pattern, docs))
        assert there.count(pattern, docs) == here.count(pattern, docs)
    assert mixed.questions


@pytest.mark.usefixtures("always")
def test_line_numbers_go_on_through_the_windows_of_a_long_text(mixed):
    hits = mixed.view().grep(r"line \d+4999 of")

    assert [(hit.name, hit.line) for hit in hits] == [
        ("long", 15_000),
    ]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("limit", [0, 1, 7, 999, 1_000, 1_001, 1_600, None])
def test_a_limit_cuts_at_the_same_hit_and_says_so(mixed, limit, monkeypatch):
    """Beyond what an answer holds `re` goes on."""
    monkeypatch.setattr(asked, "MAX_PLACES", 1_000)
    here, there = mixed.view(asks=False), mixed.view()
    expected, found = (
        here.grep(r"line \d*[13] ", limit=limit),
        there.grep(r"line \d*[13] ", limit=limit),
    )

    assert [hit.line for hit in found] == [hit.line for hit in expected]
    assert (found.complete, there.take_notes()) == (expected.complete, here.take_notes())


def test_a_pattern_that_re_never_ends_with_is_answered_at_once():
    host = Host("a" * 1_000_000 + "b\n" + "a" * 1_000 + "\n")
    try:
        view = host.view()
        assert view.count(r"(a+)+$") == 1
        assert [hit.line for hit in view.grep(r"(a*)*b$", limit=1)] == [1]
        assert [hit.line for hit in view.grep(r"(a|aa)+$")] == [2]
    finally:
        host.close()


def test_small_texts_and_plain_words_are_looked_at_in_the_guest():
    host = Host({"a": "one two\n", "b": "x" * 2_000_000})
    try:
        view = host.view()
        assert len(view.grep("one")) == 1
        assert len(view.grep(r"o\w+", docs="a")) == 1
        assert host.questions == []
        assert view.count(r"x{1000}", docs="b") == 2_000
        assert [question["documents"] for question in host.questions] == [[1, 2]]
    finally:
        host.close()


def test_a_part_of_a_context_is_searched_by_the_same_helpers_in_its_own_numbers(mixed):
    part = mixed.context.part(
        [Span(document=3, start=9, end=20), Span(document=1, start=0)], "list"
    )
    try:
        found = mixed.loop.run_until_complete(part.seek(Grep(pattern="f[o]+")))
        assert found.places == [[0, 1, 7, 5, 7, 2], [1, 0, 7, 0, 3, 1], [1, 8, 12, 8, 11, 2]]
        assert found.complete
    finally:
        part.close()


@pytest.mark.parametrize("documents", [[3], [2, 1], [0, 99], [1, 1]])
def test_documents_that_are_not_there_are_refused(mixed, documents):
    with pytest.raises(ContextError, match="no such documents"):
        mixed.seek(Grep(pattern="f[o]+", documents=documents))


@pytest.mark.parametrize("pattern", ["a*?", "(?<!x)\n", "(a", r"(?:a{1000}){1000}", r"\Bé"])
def test_what_re2_has_no_words_for_is_refused_with_the_reason(mixed, pattern):
    with pytest.raises(ContextError, match=r"\w"):
        mixed.seek(Grep(pattern=pattern))
    assert mixed.seek(Grep(pattern="f[o]+t", count=True)).total == 3004


def test_a_question_that_nobody_waits_for_ends_its_helper_and_no_other_question():
    host = Host("a" * 60 + "é\nfoo\n")

    async def ask():
        stuck = asyncio.ensure_future(host.context.seek(Grep(pattern=r"(a+)+\b")))
        companion = None
        while companion is None or not companion.at_work:
            await asyncio.sleep(0)
            companion = host.context._memory._companions.get("find")
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck
        return await host.context.seek(Grep(pattern="f[o]+"))

    try:
        found = host.loop.run_until_complete(ask())
        assert found.places == [[0, 62, 65, 62, 65, 2]]
    except HelperUnavailable as error:
        pytest.skip(str(error))
    finally:
        host.close()


def test_helpers_end_with_the_memory_they_look_at():
    host = Host("foo\n" * 10)
    assert host.seek(Grep(pattern="f[o]+", count=True)).total == 10
    helpers = list(host.context._memory._companions["find"]._all)

    host.close()

    assert [helper._confined.alive for helper in helpers] == [False] * len(helpers)
    with pytest.raises(ContextError, match="closed"):
        asyncio.run(host.context.seek(Grep(pattern="f[o]+")))


def test_a_hit_knows_its_page_where_the_document_has_pages():
    writer = ArenaWriter()
    for text in ("one\ntwo\nthree\n", "two\n"):
        writer.add_text(text)
    pages = Source(media="application/pdf", pages=[0, 4, 8])
    host = Host(finish(writer, "documents", ["a.pdf", "b.txt"], [pages, Source()]))
    writer.close()
    try:
        hits = host.view().grep("t")
        assert [(hit.name, hit.line, hit.page) for hit in hits] == [
            *(("a.pdf", 2, 2), ("a.pdf", 3, 3), ("b.txt", 1, None)),
        ]
    finally:
        host.close()


def test_lines_around_a_hit_are_part_of_it_and_of_its_place():
    text = "1\n2\n3 x\n4\n5\n6 x"
    hits = Finder(["t"], lambda _: text).grep("x", around=1)

    assert [tuple(hit) for hit in hits] == [("t", 3, "2\n3 x\n4"), ("t", 6, "5\n6 x")]
    assert [text[start:end] for _, start, end in (hit.span for hit in hits)] == [
        hit.quote for hit in hits
    ]
    assert [hit.text for hit in Finder(["t"], lambda _: text).grep("3", around=9)] == [text]


def test_a_choice_of_documents_is_told_as_stretches():
    assert asked.ranges_of(range(5)) == [0, 5]
    assert asked.ranges_of([]) == []
    assert asked.ranges_of([0, 1, 2, 7, 9, 10]) == [0, 3, 7, 8, 9, 11]
    chosen = sorted(random.Random(1).sample(range(1000), 300))
    runs = asked.ranges_of(chosen)
    pairs = zip(runs[::2], runs[1::2], strict=True)
    assert [number for first, behind in pairs for number in range(first, behind)] == chosen


def test_a_cell_in_the_jail_gets_its_lines_from_the_host():
    context = from_value({"a.txt": "a" * 1_000_000 + "b\n", "b.txt": "see page 7\n"})
    with bench() as jail, jail.repl(context=context) as repl:
        assert repl.out("count(r'(a+)+$')") == "0\n"
        assert repl.out(r"grep(r'page \d')") == "[('b.txt', 1, 'see page 7')]\n"
    context.close()


def test_contexts_that_come_back_after_many_others_are_still_known():
    """Host and helper forget in the same order."""
    whole = Host([f"foot {n}" for n in range(70)])
    parts = [whole.context.part([Span(document=n)], "documents") for n in range(70)]
    try:
        for part in (*parts[:66], *parts[:1], *parts[60:], *parts[:40], *parts[:1]):
            assert len(whole.loop.run_until_complete(part.seek(Grep(pattern="foot"))).places) == 1
    except HelperUnavailable as error:
        pytest.skip(str(error))
    finally:
        for part in parts:
            part.close()
        whole.close()


def test_a_character_by_its_name_is_looked_for():
    host = Host(["room 1", "room 2"])
    try:
        assert len(host.seek(Grep(pattern=r"m \N{DIGIT ONE}")).places) == 1
    except HelperUnavailable as error:
        pytest.skip(str(error))
    finally:
        host.close()
