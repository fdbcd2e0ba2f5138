"""Contract: contexts/sealed, parts. A child reads stretches of its parent's memory, not copies."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.contexts import sealed, texts
from abyme.contexts.preview import preview
from abyme.contexts.sealed import from_value
from abyme.core.events import Evidence, Place, Span
from abyme.errors import ContextError
from abyme.guest.adopt import View

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
    return len(list(Path("/proc/self/fd").iterdir()))


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
