"""Contract: contexts/sealed, parts. A child reads stretches of its parent's memory, not copies."""

import asyncio
import json
import os
import random
import resource
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jail_doubles import BUDGET, bench

from abyme.contexts import sealed, texts
from abyme.contexts.preview import preview
from abyme.contexts.sealed import from_value
from abyme.core.events import ContextPart, Evidence, Place, Request, Span
from abyme.core.limits import Limits
from abyme.errors import ContextError, ProtocolViolation, SandboxError
from abyme.guest import parts
from abyme.guest.adopt import View
from abyme.guest.parts import Part, Sources
from abyme.sandboxes.wired import frames
from abyme.sandboxes.wired.batches import Batches, TooMuch

FILES = {
    "a.py": "import os\n\ndef first():\n    return 1\n",
    "b.py": "# größer\ndef first():\n    return 2\n",
    "日.txt": "一二三\n四五六\n\ud800 lone\n",
    "emoji": "x😀y\n",
}


def span(document, start=0, end=None):
    return Span(document=document, start=start, end=end)


@pytest.fixture
def context():
    made = from_value(FILES)
    yield made
    made.close()


def open_files():
    """Which descriptors are open, counted without needing one more."""
    return sum(map(is_open, range(4096)))


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@contextmanager
def descriptors(spare):
    """Leave this process that many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(spare):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def all_of(*waited):
    return await asyncio.gather(*waited)


def contents(context):
    return [context.text(number) for number in range(context.documents)]


def test_a_part_holds_no_copy_of_its_texts(context):
    part = context.part([span(2), span(0)], "documents")
    assert os.fstat(part.fds[1]).st_ino == os.fstat(context.fds[1]).st_ino
    assert part.names == ["日.txt", "a.py"]
    assert contents(part) == [FILES["日.txt"], FILES["a.py"]]
    assert (part.chars, part.documents, part.shape) == (15 + 37, 2, "documents")
    part.close()


def test_a_part_names_and_measures_its_documents_and_hashes_none(context):
    part = context.part([span(3), span(1, 2, 4)], "documents")
    facts = part.manifest.documents
    assert [(f.name, f.chars, f.sealed_sha256) for f in facts] == [
        *(("emoji", 4, None), ("b.py[2:4]", 2, None)),
    ]
    part.close()


def test_a_quote_in_a_stretch_is_found_where_it_stands_in_the_document(context):
    part = context.part([span(1, 9, 30)], "text")
    assert part.text(0) == "def first():\n    retu"
    place = Place(document=0, start=4, end=9, quote="first")
    expected = Evidence(path="b.py", line=2, start=13, end=18, quote="first")
    assert part.check([place, "first", "größer"]) == ([expected, expected], ["größer"])
    part.close()


def test_a_line_that_a_child_names_is_a_line_of_what_it_has(context):
    part = context.part([span(0, 11, 37)], "text")
    found, missing = part.check(["a.py:2", "a.py:9"])
    assert [(e.line, e.start, e.quote) for e in found] == [(4, 28, "return 1")]
    assert missing == ["a.py:9"]
    part.close()


def test_a_part_of_a_part_leads_back_to_the_input(context):
    part = context.part([span(1, 2, 30), span(0)], "list")
    below = part.part([span(0, 7, 19), span(1, 11)], "list")
    part.close()
    context.close()
    assert contents(below) == ["def first():", FILES["a.py"][11:]]
    found, _ = below.check(["def", Place(document=1, start=17, end=25, quote="return 1")])
    assert [(e.path, e.line, e.start) for e in found] == [("b.py", 2, 9), ("a.py", 4, 28)]
    below.close()


def test_documents_without_names_keep_their_place_in_the_input():
    context = from_value(["zero", "one\ntwo"])
    part = context.part([span(1, 4)], "text")
    assert part.check(["two"])[0] == [
        Evidence(path="context[1]", line=2, start=4, end=7, quote="two")
    ]
    assert part.names == []
    named = context.part([span(1), span(0)], "documents")
    assert named.names == ["context[1]", "context[0]"]
    for one in (part, named, context):
        one.close()


def test_stretches_of_one_document_have_names_of_their_own():
    context = from_value({"a": "0123456789", "a (2)": "x"})
    twice = [span(0), span(0), span(1), span(0, 2, 5), span(0, 2, 5), span(0, 5, 7)]
    part = context.part(twice, "documents")
    assert part.names == ["a", "a (2)", "a (2) (2)", "a[2:5]", "a[2:5] (2)", "a[5:7]"]
    assert part.check(["01", "x", "a[5:7]"])[0] == [
        Evidence(path="a", line=1, start=0, end=2, quote="01"),
        Evidence(path="a (2)", line=1, start=0, end=1, quote="x"),
        Evidence(path="a", line=1, start=5, end=7, quote="56"),
    ]
    part.close()
    context.close()


@pytest.mark.parametrize(
    ("spans", "shape", "message"),
    [
        ([], "list", "a part has 1 to 100,000 stretches, not 0"),
        ([span(0)] * 100_001, "list", "a part has 1 to 100,000 stretches, not 100,001"),
        ([span(0), span(1)], "text", "a text is one stretch, not 2"),
        ([span(4)], "text", "a part is of document 4, which is not there"),
        ([span(-1)], "text", "a part is of document -1, which is not there"),
        ([span(1 << 50)], "text", "a part is of document 1125899906842624, which is not there"),
        *(
            (
                [span(3, start, end)],
                "text",
                f"a part is of the characters {start} to {end} of document 3, which has 4",
            )
            for start, end in ((-1, 2), (3, 2), (0, 5), (1 << 50, 1 << 50))
        ),
        ([span(3, 2, 2), span(0, 37)], "list", "nothing to read: the part is empty"),
    ],
)
def test_a_stretch_that_is_not_there_is_refused(context, spans, shape, message):
    before = open_files()
    with pytest.raises(ContextError) as caught:
        context.part(spans, shape)
    assert str(caught.value) == message
    assert open_files() == before


def test_a_closed_context_has_no_parts(context):
    context.close()
    with pytest.raises(ContextError) as caught:
        context.part([span(0)], "text")
    assert str(caught.value) == "the context is closed"


def test_the_memory_goes_with_the_last_context_that_looks_at_it():
    before = open_files()
    context = from_value(FILES)
    parts = [context.part([span(n)], "text") for n in range(4)]
    assert open_files() == before + 3 + 4  # an index for each part
    context.close()
    for part in parts:
        assert part.text(0)
        part.close()
        part.close()
    assert open_files() == before


def test_many_stretches_make_one_part():
    context = from_value({"a": "0123456789" * 100})
    spans = [span(0, n % 900, n % 900 + 5) for n in range(100_000)]
    part = context.part(spans, "documents")
    assert part.documents == len(set(part.names)) == sealed.MAX_SPANS
    assert part.text(99_999) == context.piece(0, 99, 104)
    part.close()
    context.close()


def test_the_preview_of_a_part_is_that_of_the_same_text(context):
    part = context.part([span(0, 11)], "text")
    alone = from_value(FILES["a.py"][11:])
    assert preview(part) == preview(alone)
    part.close()
    alone.close()


@given(st.data())
def test_a_guest_sees_and_a_host_finds_the_same_stretch(data):
    """Any text, any stretches of stretches: what Python slices, down to lone surrogates."""
    values = data.draw(st.lists(st.text(st.characters(exclude_categories=())), min_size=1))
    context, expected = from_value([*values, "x"]), [*values, "x"]
    where = [(number, 0) for number in range(len(expected))]
    opened = [context]
    for _ in range(2):
        spans, texts_now, where_now = [], [], []
        for _ in range(data.draw(st.integers(1, 4))):
            number = data.draw(st.integers(0, len(expected) - 1))
            start = data.draw(st.integers(0, len(expected[number])))
            end = data.draw(st.integers(start, len(expected[number])))
            spans.append(span(number, start, end))
            texts_now.append(expected[number][start:end])
            where_now.append((where[number][0], where[number][1] + start))
        if not any(texts_now):
            break
        opened.append(opened[-1].part(spans, "list"))
        expected, where = texts_now, where_now
    part = opened[-1]
    assert contents(part) == expected
    assert View(*part.fds).context == expected
    for number, (text, (source, start)) in enumerate(zip(expected, where, strict=True)):
        if not text.strip():
            continue
        (found,), _ = part.check([Place(document=number, start=0, end=len(text), quote=text)])
        line = [*values, "x"][source].count("\n", 0, start) + 1
        assert (found.path, found.start, found.end, found.line) == (
            *(f"context[{source}]", start, start + len(text), line),
        )
    for one in opened:
        one.close()


def test_lines_are_counted_over_the_borders_of_windows(monkeypatch):
    monkeypatch.setattr(texts, "WINDOW_CHARS", 7)
    text = "one\ntwo\nthree four five\nsix\n"
    context = from_value({"doc": text})
    for start in range(len(text)):
        part = context.part([span(0, start)], "text")
        quote = text[start:]
        if quote.strip():
            (found,), _ = part.check([quote])
            assert (found.start, found.line) == (start, text.count("\n", 0, start) + 1)
        part.close()
    context.close()


WHOLE = ContextPart(spans=[span(1, 0, 35)])
"""`b.py` of `FILES`."""


@pytest.fixture(scope="module")
def jail():
    with bench(context=FILES) as made:
        yield made


@pytest.fixture
def repl(jail):
    with jail.repl() as made:
        yield made


def asked(repl, code):
    """The context that the one child was asked with."""
    repl.batches.clear()
    repl.out(code)
    (batch,) = repl.batches
    (request,) = batch.requests
    return request.context


class TestWhatAChildIsGiven:
    """In the jail: what travels as stretches, what as text, and what is refused."""

    def test_a_str_that_is_a_document_travels_as_a_stretch(self, repl):
        assert asked(repl, "rlm_query('q', context['b.py'])") == WHOLE
        assert asked(repl, "rlm_query('q', ''.join(list(context['b.py'])))") == WHOLE

    def test_any_other_str_is_sent(self, repl):
        part = ContextPart(text=FILES["b.py"][1:])
        assert asked(repl, "rlm_query('q', context['b.py'][1:])") == part
        assert asked(repl, "rlm_query('q', 'b.py')") == ContextPart(text="b.py")

    def test_a_hit_of_grep_travels_as_its_line(self, repl):
        part = ContextPart(spans=[span(0, 11, 23)])
        assert asked(repl, "rlm_query('q', grep('first')[0])") == part
        both = ContextPart(spans=[span(0, 11, 23), span(1, 9, 21)], shape="list")
        assert asked(repl, "rlm_query('q', grep('first'))") == both

    def test_documents_travel_as_stretches_in_the_order_given(self, repl):
        spans = [span(3, 0, 4), span(0, 0, 37)]
        code = "rlm_query('q', {n: context[n] for n in ('emoji', 'a.py')})"
        assert asked(repl, code) == ContextPart(spans=spans, shape="documents")
        code = "rlm_query('q', [context['emoji'], context['a.py']])"
        assert asked(repl, code) == ContextPart(spans=spans, shape="list")

    def test_all_that_the_parent_has_is_the_parents_own(self, repl):
        for code in ("context", "dict(context)", "context.copy()", "None"):
            assert asked(repl, f"rlm_query('q', {code})") is None

    def test_a_document_under_another_name_is_told(self, repl):
        finished = repl.cell("rlm_query('q', {'old': context['b.py']})")
        assert repl.batches[0].requests[0].context == ContextPart(
            spans=WHOLE.spans, shape="documents"
        )
        assert finished.notes == ["the child has 'old' under the name it has here: 'b.py'"]

    def test_children_of_a_batch_have_one_context_each(self, repl):
        repl.out("rlm_query_batched(['p', 'q', 'r'], [context['b.py'], 'text', None])")
        contexts = [request.context for request in repl.batches[0].requests]
        assert contexts == [WHOLE, ContextPart(text="text"), None]

    @pytest.mark.parametrize(
        ("given", "error"),
        [
            (
                "{'b.py': context['b.py'] + '!'}",
                (
                    "TypeError: context['b.py'] is no document of your context as a whole: join "
                    "your texts to one str, with a heading for each, or give whole documents"
                ),
            ),
            (
                "list(context)",
                (
                    "TypeError: context[0] is no document of your context as a whole: join your "
                    "texts to one str, with a heading for each, or give whole documents"
                ),
            ),
            ("[b'x']", "TypeError: context[0] must be a str, not bytes"),
            ("[]", "ValueError: context is empty; without one the child has yours"),
            ("{}", "ValueError: context is empty; without one the child has yours"),
        ],
    )
    def test_a_mapping_or_list_of_foreign_texts_is_refused(self, repl, given, error):
        finished = repl.cell(f"rlm_query('q', {given})")
        assert finished.error.rstrip().splitlines()[-1] == error
        assert repl.batches == []

    def test_a_hit_of_another_context_is_refused(self, jail):
        own = from_value({"a.py": "only one line here"})
        with jail.repl(context=own) as child:
            child.out("hit = type(grep('one')[0])('a.py', 1, 'import os', (0, 0, 9))")
            finished = child.cell("rlm_query('q', hit)")
        assert finished.error.rstrip().endswith("ValueError: that hit is not of this context")
        own.close()

    def test_a_child_reads_its_part_and_asks_with_it(self, jail):
        part = jail.context.part([span(1, 9), span(2), span(0)], "documents")
        with jail.repl(context=part) as child:
            assert child.out("dict(context.items())") == (
                repr({"b.py[9:35]": FILES["b.py"][9:], **{n: FILES[n] for n in ("日.txt", "a.py")}})
                + "\n"
            )
            assert child.out("[tuple(hit) for hit in grep('first')]") == (
                "[('b.py[9:35]', 1, 'def first():'), ('a.py', 3, 'def first():')]\n"
            )
            given = asked(child, "rlm_query('q', context['a.py'])")
            assert given == ContextPart(spans=[span(2, 0, 37)])
            below = part.part(given.spans, given.shape)
            assert below.check(["return 1"])[0][0].line == 4
            below.close()
        part.close()

    def test_documents_of_one_size_are_told_apart(self, jail):
        own = from_value([f"document {n:05}" for n in range(3000)])
        with jail.repl(context=own) as child:
            code = "rlm_query('q', ''.join(['document ', '02997']))"
            assert asked(child, code) == ContextPart(spans=[span(2997, 0, 14)])
            assert asked(child, "rlm_query('q', 'document 99999')").text == "document 99999"
        own.close()

    def test_a_lone_text_is_the_parents_own_and_a_hit_in_it_a_stretch(self, jail):
        own = from_value("alpha\nbeta " + "x" * 500 + "\n")
        with jail.repl(context=own) as child:
            assert asked(child, "rlm_query('q', context)") is None
            assert asked(child, "rlm_query('q', context[:-1] + chr(10))") is None
            assert asked(child, "rlm_query('q', [context])").shape == "list"
            (where,) = asked(child, "rlm_query('q', grep('beta')[0])").spans
            assert (where.start, where.end) == (6, 511)
        own.close()


LETTERS = "".join(random.Random(3).choices("abcdefgh \n", k=40_000))


def sources(*documents):
    names = [f"doc {number}" for number in range(len(documents))]
    shape = "documents" if len(documents) > 1 else "text"
    return Sources(shape, None, names, list(map(len, documents)), documents.__getitem__)


class TestChunks:
    """A text that was cut from a document is found again there, or sent."""

    @pytest.mark.parametrize("step", [10_000, 9_000, 11_000])
    def test_chunks_that_follow_one_another_are_found_whatever_their_overlap(self, step):
        own = sources("head", LETTERS)
        starts = range(0, 30_001, step)
        for start in starts:
            part = own.part(LETTERS[start : start + 10_000])
            assert part == Part(spans=[(1, start, start + 10_000)])

    def test_a_chunk_from_anywhere_is_found(self):
        own = sources("x" * 2_000, LETTERS, LETTERS[::-1])
        assert own.part(LETTERS[::-1][30_000:]).spans == [(2, 30_000, 40_000)]
        assert own.part(LETTERS[123:5_000]).spans == [(1, 123, 5_000)]
        assert own.part([LETTERS[7_000:9_000], "x" * 2_000]) == Part(
            spans=[(1, 7_000, 9_000), (0, 0, 2_000)], shape="list"
        )

    def test_equal_chunks_are_told_apart_by_their_order(self):
        own = sources("z" + "ab" * 4_000)
        found = [own.part(("ab" * 4_000)[start : start + 2_000]) for start in (0, 2_000, 4_000)]
        assert [part.spans for part in found] == [
            *([(0, 1, 2_001)], [(0, 2_001, 4_001)], [(0, 4_001, 6_001)]),
        ]

    def test_a_text_that_is_none_of_the_documents_is_sent(self):
        own = sources(LETTERS, "x" * 5_000)
        for text in (LETTERS[:999], LETTERS[:2_000] + "!", LETTERS + LETTERS, "x" * 5_001):
            assert own.part(text) == Part(text=text)

    def test_looking_for_chunks_ends_with_the_cells_share_of_it(self, monkeypatch):
        monkeypatch.setattr(parts, "SEARCH_CHARS", 50_000)
        own = sources(LETTERS, "y" * 40_000)
        assert own.part("!" * 2_000).text == "!" * 2_000
        assert own.part(LETTERS[20_000:30_000]).text == LETTERS[20_000:30_000]
        assert own.part(LETTERS[:10_000]).spans == [(0, 0, 10_000)]  # where one may begin
        own.take_notes()
        assert own.part(LETTERS[20_000:30_000]).spans == [(0, 20_000, 30_000)]

    def test_a_document_of_repeated_characters_is_not_looked_through_for_long(self):
        own = sources("a" * 1_000_000 + "b" * 5_000)
        text = "a" * 1_000 + "b" * 1_000
        assert own.part(text) == Part(text=text)
        assert own.part("b" * 1_000).spans == [(0, 1_000_000, 1_001_000)]

    def test_a_chunk_reaches_the_host_as_a_stretch(self, jail):
        own = from_value(LETTERS)
        with jail.repl(context=own) as child:
            child.out("chunks = [context[n:n + 10_000] for n in range(0, 40_000, 10_000)]")
            child.out("rlm_query_batched(['q'] * 4, chunks)")
            contexts = [request.context for request in child.batches[0].requests]
            assert contexts == [
                ContextPart(spans=[span(0, n, n + 10_000)]) for n in range(0, 40_000, 10_000)
            ]
        own.close()


class TestManyChildren:
    """REPLs of one run side by side, each on a stretch of its own."""

    def test_a_hundred_children_read_one_memory(self):
        text = "".join(f"{n:07}\n" for n in range(100 * 100))
        limits = Limits(cell_timeout_s=20, memory_bytes=64 << 20)
        with bench(context=text, limits=limits, snapshots=False) as made:
            before = open_files()
            spans = [span(0, n * 800, n * 800 + 800) for n in range(100)]
            parts = [made.context.part([one], "text") for one in spans]
            sessions = [
                made.wait(made.run.open(node=f"0.{n}", seed=n, context=part))
                for n, part in enumerate(parts)
            ]
            assert open_files() - before == 4 * 100  # index, wire, control, pidfd
            cells = (
                session.run_cell(
                    1, "int(context[:7])", restore=(), budget=BUDGET, on_event=lambda _: None
                )
                for session in sessions
            )
            ended = made.wait(all_of(*cells))
            assert [one.output for one in ended] == [f"{n * 100}\n" for n in range(100)]
            made.wait(all_of(*(session.aclose() for session in sessions)))
            for part in parts:
                part.close()
            assert open_files() == before

    @pytest.mark.parametrize("spare", range(4))
    def test_without_descriptors_another_repl_is_refused_and_the_others_go_on(self, jail, spare):
        """Whichever of its descriptors is the one too many."""
        with jail.repl() as repl, descriptors(spare):
            before = open_files()
            if spare == 3:
                jail.wait(jail.wait(jail.run.open(node="0.1", seed=1)).aclose())
            else:
                with pytest.raises(SandboxError) as caught:
                    jail.wait(jail.run.open(node="0.1", seed=1))
                assert str(caught.value).startswith("another REPL cannot be had: ")
            assert open_files() == before
            assert repl.out("1 + 1") == "2\n"


class TestHostileFrames:
    """What a guest may send of spans and schemas, and what of it is believed."""

    def wanted(self, **changes):
        request = {"prompt": "q", "text": None, "model": None, "fresh": False, **changes}
        frame = {"t": "calls", "cell": 1, "batch": 0, "purpose": "rlm", "requests": [request]}
        return {**frame, "more": False}

    def take(self, frame, purpose="rlm"):
        decoded = frames.decode(json.dumps({**frame, "purpose": purpose}).encode())
        return Batches().calls(decoded).requests

    def test_spans_and_shape_arrive_as_a_part(self):
        (request,) = self.take(self.wanted(spans=[[1, 2, 3], [0, 0, 0]], shape="list"))
        part = ContextPart(spans=[span(1, 2, 3), span(0, 0, 0)], shape="list")
        assert request == Request(prompt="q", context=part)

    @pytest.mark.parametrize(
        "changes",
        [
            {"spans": [[0, 0]]},
            {"spans": [[0, 0, -1]]},
            {"spans": [[0, 0, 1 << 51]]},
            {"spans": [[0, 0.5, 1]]},
            {"spans": [[0, 0, None]]},
            {"spans": [[0, 0, 1]] * 100_001},
            {"spans": [[0, 0, 1]], "text": "t"},
            {"spans": None},
            {"shape": "tuple"},
            {"schema": {"type": "object"}},
            {"schema": "{}"},  # of a child
        ],
    )
    def test_what_is_not_in_the_schema_ends_the_session(self, changes):
        with pytest.raises(ProtocolViolation):
            self.take(self.wanted(**changes))

    @pytest.mark.parametrize(
        "schema",
        [
            *("[]", "no JSON", '{"a": NaN}', '{"a": 1e999}', "1"),
            '{"a": ' * 22 + "{}" + "}" * 22,
            '{"a": 1000000000000000000}',
            '{"a": "' + "x" * 8192 + '"}',
            "[" * 4096,
        ],
    )
    def test_a_schema_that_no_guest_of_ours_sends_ends_the_session(self, schema):
        with pytest.raises(ProtocolViolation):
            self.take(self.wanted(schema=schema), purpose="llm")

    def test_a_schema_is_read_once_for_a_batch(self):
        frame = self.wanted(schema='{"enum": ["\\ud800", 1.5, 7]}')
        requests = self.take({**frame, "requests": frame["requests"] * 3}, purpose="llm")
        assert requests[0].schema == {"enum": ["\ud800", 1.5, 7]}
        assert requests[0].schema is requests[1].schema is requests[2].schema

    def test_spans_for_a_sub_model_end_the_session(self):
        with pytest.raises(ProtocolViolation):
            self.take(self.wanted(spans=[[0, 0, 1]]), purpose="llm")

    def test_spans_count_for_what_a_session_may_hold(self):
        frame = self.wanted(spans=[[0, 0, 0]] * 100_000)
        batches = Batches()
        taken = frames.decode(json.dumps({**frame, "more": True}).encode())
        for _ in range(13):  # 20 MB each
            assert batches.calls(taken) is None
        with pytest.raises(TooMuch):
            batches.calls(frames.decode(json.dumps(frame).encode()))

    def test_a_frame_of_calls_is_shorter_than_what_the_wire_allows(self):
        frame = self.wanted(text="t" * (25 << 20))
        with pytest.raises(ProtocolViolation) as caught:
            self.take(frame)
        assert str(caught.value) == "the guest sent a frame that is too long for its kind"
