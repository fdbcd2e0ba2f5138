"""Contract: chunks. Pieces of texts that know where they stand; joined they are the text."""

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abyme.estimates import estimate
from abyme.guest import cuts
from abyme.guest.chunking import Way
from abyme.guest.chunks import Chunk
from abyme.guest.cuts import BY
from abyme.guest.view import ContextView
from abyme.layout import Entry, Extras, Shape, read_index, write_index

PROSE = "# One\n\nIt was late.\nNobody came.\n\n## Two\n\nThe end was near, they said.\n" * 40
CODE = '''"""Head."""
import os

# above first
@cached
def first():
    return 1


class Second:
    """Twice."""

    def inner(self):
        return 2

    def other(self):
        return 3


third = 3
'''


def view(texts, names=(), shape: Shape = "documents", extras=None):
    entries = [Entry(0, len(text), len(text), 0) for text in texts]
    names = list(names) or [f"{n}.txt" for n in range(len(texts))]
    data = write_index(shape, entries, names if shape != "list" else [], extras or Extras())
    return ContextView(read_index(data, 1 << 40), list(texts).__getitem__)


def cut(text, **way):
    way = Way(**{"by": "tokens", "size": None, "overlap": 0, **way})
    return list(view([text]).chunks(None, None, way))


texts = st.text(
    st.sampled_from("ab é四\n\n\n #=-.,\t\r1:😀\u2028") | st.characters(exclude_categories=()),
    max_size=400,
)


@settings(max_examples=150, deadline=None)
@given(texts, st.sampled_from(BY), st.integers(1, 40) | st.none())
def test_chunks_joined_are_the_text_and_each_stands_at_its_span(text, by, size):
    found = cut(text, by=by, size=size)
    assert "".join(found) == text
    for chunk in found:
        _, start, end = chunk.span
        assert str(chunk) == text[start:end] != ""
        assert chunk.line == text.count("\n", 0, start) + 1
        if size is not None:
            most = chunk.count("\n") if by == "lines" else estimate(str(chunk))
            assert most <= size or len(chunk) == 1


@settings(max_examples=80, deadline=None)
@given(texts, st.sampled_from(BY), st.integers(3, 40), st.integers(1, 2))
def test_overlap_adds_to_the_front_of_a_chunk_and_changes_nothing_else(text, by, size, overlap):
    plain, wide = cut(text, by=by, size=size), cut(text, by=by, size=size, overlap=overlap)
    assert [one.span[2] for one in plain] == [one.span[2] for one in wide]
    for before, one, other in zip([None, *plain], plain, wide, strict=False):
        assert text[other.span[1] : other.span[2]] == str(other)
        assert (before.span[1] if before else 0) <= other.span[1] <= one.span[1]


def test_lines_overlap_by_lines():
    found = cut("1\n2\n3\n4\n5\n", by="lines", size=2, overlap=1)
    assert list(map(str, found)) == ["1\n2\n", "2\n3\n4\n", "4\n5\n"]


def test_headings_are_told_and_packed_only_where_there_is_a_size():
    found = cut(PROSE, by="headings")
    assert [one.heading for one in found[:3]] == ["One", "Two", "One"]
    assert len(found) == 80
    packed = cut(PROSE, by="headings", size=200)
    assert len(packed) < 20
    assert all(estimate(str(one)) <= 200 for one in packed)


def test_headings_of_restructured_text_and_chapters():
    text = "Title\n=====\n\nText.\n\nAbstract\n--------\n\nMore.\n\nCHAPTER IV\n\nLast.\n"
    assert [one.heading for one in cut(text, by="headings")] == ["Title", "Abstract", "CHAPTER IV"]


def test_symbols_of_python_go_with_what_stands_above_them():
    found = cut(CODE, by="symbols")
    assert [one.symbol for one in found] == [None, "first", "Second"]
    assert found[1].startswith("# above first\n@cached\ndef first")
    nested = cut(CODE, by="symbols", size=14)
    assert [one.symbol for one in nested][-2:] == ["inner", "other"] or "other" in {
        one.symbol for one in nested
    }


def test_symbols_come_from_the_host_where_it_gives_them():
    one = view(["int a() {}\nint b() {}\n"], ["a.c"])
    asked = []

    def seek(wanted):
        asked.append(wanted)
        places = [[0, 10, 1, 0, "function", "a"], [11, 21, 2, 0, "function", "b"]]
        return {"places": places, "total": 2, "complete": True, "note": None}

    one.ask_by(seek)
    found = list(one.chunks("a.c", None, Way("symbols", None, 0)))
    assert [chunk.symbol for chunk in found] == ["a", "b"]
    assert asked == [{"type": "symbols", "document": 0}]


def test_what_cannot_be_parsed_is_cut_at_blank_lines_and_that_is_said():
    one = view(["int a() {\n\n  x;\n}\n\nint b() {}\n"], ["a.c"])
    found = list(one.chunks("a.c", None, Way("symbols", None, 0)))
    assert list(map(str, found)) == ["int a() {\n\n  x;\n}\n\n", "int b() {}\n"]
    assert one.take_notes() == ["chunks: no symbols can be told in 'a.c': it is cut at blank lines"]


def test_a_chunk_is_a_str_and_a_slice_of_it_knows_its_span():
    chunk = cut("alpha\nbeta\ngamma\n", by="lines", size=2)[1]
    assert (chunk, chunk.span, chunk.line, chunk.name) == ("gamma\n", (0, 11, 17), 3, "0.txt")
    whole = Chunk("alpha\nbeta", (3, 100, 110), "a", 7)
    part = whole[6:]
    assert (part, part.span, part.line) == ("beta", (3, 106, 110), 8)
    assert whole[-4:-1].span == (3, 106, 109)
    assert whole[8:2].span == (3, 108, 108)
    assert type(whole[0]) is type(whole[::2]) is type(whole.strip()) is str
    assert hash(whole) == hash("alpha\nbeta")
    for again in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        assert (again, again.span, again.line) == (whole, whole.span, 7)


def test_a_list_of_chunks_is_made_as_far_as_it_is_touched(monkeypatch):
    measured = []
    monkeypatch.setattr(cuts, "estimate", lambda text: measured.append(1) or len(text) // 4 + 1)
    found = view([PROSE] * 1000).chunks(None, None, Way("tokens", 100, 0))
    assert found[0].span[1] == 0
    assert [one.span[0] for one in found[:2]] == [0, 0]
    few = len(measured)
    assert few < 30
    assert len(found) % 1000 == 0
    assert found[-1].span[2] == len(PROSE)
    assert found[len(found) // 2].span[:2] == (500, 0)
    assert (found[len(found) - 3 :], found[5:3]) == (list(found)[-3:], [])
    with pytest.raises(IndexError):
        found[len(found)]


def test_documents_are_cut_by_name_by_glob_or_all():
    one = view(["aaa", "bbb", ""], ["a.txt", "b.md", "empty"])
    way = Way("lines", None, 0)
    assert list(one.chunks(None, None, way)) == ["aaa", "bbb"]
    assert list(one.chunks("b.md", None, way)) == ["bbb"]
    assert list(one.chunks(None, "*.txt", way)) == ["aaa"]
    assert list(one.chunks(one.context, None, way)) == ["aaa", "bbb"]
    assert [c.span for c in one.chunks("bbb", None, way)] == [(1, 0, 3)]
    assert [c.span for c in one.chunks("not of the context", None, way)] == [None]


def test_a_chunk_of_a_chunk_stands_in_the_document():
    text = "x\n" * 600 + "needle\n" + "y\n" * 600
    one = view([text])
    first = list(one.chunks(None, None, Way("lines", 500, 0)))
    again = list(one.chunks(first[1], None, Way("lines", 60, 0)))
    assert again[0].span == (0, 1000, 1120)
    assert (again[1].line, "needle" in again[1]) == (561, True)


def test_a_chunk_is_evidence_and_a_childs_context_by_its_span():
    one = view(["alpha\nbeta\n", "gamma\n"])
    chunk = one.chunks("0.txt", None, Way("lines", 1, 0))[1]
    assert one.place_of(chunk) == {"document": 0, "start": 6, "end": 11, "quote": "beta\n"}
    assert one.part_of(chunk).spans == [(0, 6, 11)]
    every = one.part_of(one.chunks(None, None, Way("lines", 1, 0)))
    assert (every.shape, every.spans) == ("list", [(0, 0, 6), (0, 6, 11), (1, 0, 6)])
    forged = Chunk("omega", (0, 0, 5), "0.txt")
    assert (one.part_of(forged).text, one.part_of(forged).spans) == ("omega", [])


def test_a_chunk_knows_its_page():
    one = view(
        ["aa\nbb\ncc\n"], ["a.pdf"], extras=Extras({0: [0, 3, 6]}, {}, {0: "application/pdf"})
    )
    assert [c.page for c in one.chunks("a.pdf", None, Way("lines", 1, 0))] == [1, 2, 3]


@pytest.mark.parametrize(
    ("way", "message"),
    [
        (Way("words", None, 0), "by must be one of tokens, lines, paragraphs, headings, symbols"),
        (Way("lines", 0, 0), "size must be a whole number from 1, not 0"),
        (Way("lines", 5, 5), "overlap=5 must be less than size=5"),
    ],
)
def test_a_way_that_is_none_is_refused_in_words(way, message):
    with pytest.raises(ValueError, match=message):
        view(["a"]).chunks(None, None, way)


@pytest.mark.parametrize("by", ["tokens", "lines", "paragraphs"])
def test_small_documents_are_told_to_be_one_chunk_without_an_estimate(monkeypatch, by):
    seen = []
    monkeypatch.setattr(cuts, "estimate", lambda text: seen.append(text) or estimate(text))
    found = view(["It was late.\n\nNobody came.\n"] * 50).chunks(None, None, Way(by, None, 0))
    assert len(found) == 50
    assert [one.span for one in found][-1] == (49, 0, 27)
    assert seen == []


def test_a_chunk_of_a_hit_stands_where_the_hit_does():
    seen = view(["one\ntwo here\nthree\n"])
    (hit,) = seen.grep("two")
    (chunk,) = seen.chunks(hit, None, Way("tokens", None, 0))
    assert (chunk, chunk.span, chunk.name, chunk.line) == ("two here", (0, 4, 12), "0.txt", 2)


def test_what_can_only_be_a_name_and_is_none_is_refused_with_the_nearest():
    seen = view(["a", "b"], ["src/main.py", "notes.txt"])
    with pytest.raises(KeyError, match=r"src/main\.py"):
        seen.chunks("src/mian.py", None, Way("tokens", None, 0))
    (chunk,) = seen.chunks("a text that is none of ours.", None, Way("tokens", None, 0))
    assert chunk.span is None


def headings(text, name="a.md"):
    found = view([text], [name]).chunks(None, None, Way("headings", None, 0))
    return [one.heading for one in found]


def test_hashes_in_a_fence_or_a_script_are_no_headings():
    text = "# One\n\n```\n# chvt 3\n```\n\n# Two\n\n```\n# not\n```\nend\n# Three\n"
    assert headings(text) == ["One", "Two", "Three"]
    assert headings("a=1\n# note\nb=2\n", "x.sh") == [None]


def test_chapters_of_a_novel_are_headings_and_sentences_are_not():
    text = "a\nADVENTURE I. A SCANDAL\nb\nPART THREE\nc\nINTRODUCTION\nd\n第一章 风\ne\n"
    heads = [None, "ADVENTURE I. A SCANDAL", "PART THREE", "INTRODUCTION", "第一章 风"]
    assert headings(text) == heads
    assert headings("the\npart I like is\nbook 3 of it\n") == [None]


def test_a_hit_as_a_childs_context_is_its_line_without_the_lines_end():
    seen = view(["one\r\ntwo here\r\nthree\r\n"])
    (hit,) = seen.grep("two")
    assert seen.part_of(hit).spans == [(0, 5, 13)]
