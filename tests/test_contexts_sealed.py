"""Contract: contexts/sealed. One copy that nobody can change, and evidence checked against it."""

import hashlib
import mmap
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.contexts import evidence, texts
from abyme.contexts.arena import STEP_CHARS, kind_of
from abyme.contexts.sealed import from_value, seal
from abyme.core.events import Evidence, Place
from abyme.errors import ContextError
from abyme.layout import ADOPT_BYTES, ASCII, LATIN1, PAGE, UCS2, UCS4, read_index

FILES = {
    "a.py": "import os\n\ndef first():\n    return 1\n",
    "b.py": "# größer\ndef first():\n    return 2\n",
    "日.txt": "一二三\n四五六\n\ud800 lone\n",
    "emoji": "x😀y\n",
}


def place(document, start, end, quote):
    return Place(document=document, start=start, end=end, quote=quote)


@pytest.fixture
def context():
    sealed = from_value(FILES)
    yield sealed
    sealed.close()


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=40), min_size=1))
def test_what_comes_out_is_what_went_in(values):
    if not any(values):
        return
    sealed = from_value(values)
    assert [sealed.text(n) for n in range(sealed.documents)] == values
    assert sealed.chars == sum(map(len, values))
    sealed.close()


@pytest.mark.parametrize("char", ["a", "\xe9", "\u4e00", "\U0001f600", "\ud800"])
def test_large_texts_of_every_width_are_sealed_in_steps(char):
    text = "x" * STEP_CHARS + char * 9 + "y" * ADOPT_BYTES
    sealed = from_value([text, "small"])
    assert sealed.text(0) == text
    assert sealed.text(1) == "small"
    assert sealed.piece(0, STEP_CHARS - 1, STEP_CHARS + 2) == "x" + char * 2
    sealed.close()


def test_the_kind_of_a_text_is_its_widest_character():
    tail = "b" * STEP_CHARS
    for char, kind in (("a", ASCII), ("\xff", LATIN1), ("\u0100", UCS2), ("\U00010000", UCS4)):
        assert kind_of("a" + char + tail) == kind_of(tail + char) == kind
    assert kind_of("\ud83d\ude00") == UCS2
    assert kind_of("") == ASCII


def test_kind_does_not_depend_on_a_cached_form_of_the_text():
    """A str that was encoded once carries its UTF-8, and getsizeof tells a larger size."""
    text = ("x" + chr(0x4E00)) * 500
    hash(text), text.encode(), os.fsencode(text)
    sealed = from_value(text)
    assert (sealed.text(0), sealed.manifest.documents[0].kind) == (text, UCS2)
    sealed.close()


def test_nobody_can_write_shrink_or_grow_the_memory(context):
    for fd in context.fds:
        for change in (
            lambda fd: os.pwrite(fd, b"x", 0),
            lambda fd: os.ftruncate(fd, 0),
            lambda fd: os.ftruncate(fd, 1 << 20),
            lambda fd: mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
        ):
            with pytest.raises(PermissionError):
                change(fd)


def test_large_texts_begin_on_a_page_and_end_with_nul():
    sealed = from_value(["tiny", "é" * ADOPT_BYTES, "x" * 5, "日" * ADOPT_BYTES])
    index_fd, arena_fd = sealed.fds
    size = os.fstat(arena_fd).st_size
    index = read_index(os.pread(index_fd, os.fstat(index_fd).st_size, 0), size)
    for number in (1, 3):
        entry = index[number]
        assert entry.offset % PAGE == 0
        assert os.pread(arena_fd, 2, entry.offset + entry.size_bytes) == b"\0\0"
    assert [index[number].offset % 4 for number in (0, 2)] == [0, 0]
    sealed.close()


def test_the_manifest_names_sizes_and_hashes(context):
    facts = context.manifest.documents
    assert [f.name for f in facts] == list(FILES)
    assert [f.chars for f in facts] == [len(text) for text in FILES.values()]
    assert [f.kind for f in facts] == [ASCII, LATIN1, UCS2, UCS4]
    assert facts[0].sealed_sha256 == hashlib.sha256(FILES["a.py"].encode()).hexdigest()
    assert facts[1].sealed_sha256 == hashlib.sha256(FILES["b.py"].encode("latin-1")).hexdigest()
    assert facts[0].source_sha256 is None


def test_a_large_text_has_the_hash_of_its_characters():
    text = "日本" * (ADOPT_BYTES // 2)
    sealed = from_value(text)
    expected = hashlib.sha256(text.encode("utf-16-le")).hexdigest()
    assert sealed.manifest.documents[0].sealed_sha256 == expected
    sealed.close()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "nothing to read: the context is empty"),
        ([], "nothing to read: the context is empty"),
        ({"a": "", "b": ""}, "nothing to read: the context is empty"),
        (3, "a context is a str, a list of str or a dict of str, not int"),
        (None, "a context is a str, a list of str or a dict of str, not NoneType"),
        (["a", b"b"], "context[1] is bytes, not str"),
        ({"a": "b", "c": None}, "context['c'] is NoneType, not str"),
        ({1: "b"}, "names in a context are str, but key 0 is int: 1"),
        ({"a\0b": "b"}, "a name in a context holds a NUL character: 'a\\x00b'"),
    ],
)
def test_what_cannot_be_a_context_is_refused_in_words(value, message):
    with pytest.raises(ContextError) as caught:
        from_value(value)
    assert str(caught.value) == message


def test_closing_twice_is_safe_and_frees_the_descriptors():
    sealed = from_value("text")
    fds = sealed.fds
    sealed.close()
    sealed.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


class TestEvidence:
    def test_a_place_that_holds_its_quote_is_found_with_its_line(self, context):
        quote = "def first():"
        found, missing = context.check([place(1, 9, 21, quote)])
        assert found == [Evidence(path="b.py", line=2, start=9, end=21, quote=quote)]
        assert missing == []

    def test_a_wrong_place_is_searched_in_its_document_first(self, context):
        found, _ = context.check([place(1, 0, 12, "def first():"), "def first():"])
        assert [(e.path, e.line) for e in found] == [("b.py", 2), ("a.py", 3)]

    def test_a_quote_is_found_in_texts_of_every_width(self, context):
        found, missing = context.check(["größer", "四五", "😀y", "\ud800 lone"])
        assert [(e.path, e.line, e.start) for e in found] == [
            *(("b.py", 1, 2), ("日.txt", 2, 4), ("emoji", 1, 1), ("日.txt", 3, 8)),
        ]
        assert missing == []

    def test_a_quote_is_never_found_across_characters(self):
        """Bytes of two neighbours can look like a third character."""
        sealed = from_value(["\u4142\u4142\u4142", "\U00010101\U00010101"])
        assert sealed.check(["\u4241", "\u0101"]) == ([], ["\u4241", "\u0101"])
        sealed.close()

    def test_a_surrogate_pair_is_not_the_character_it_would_make(self):
        sealed = from_value("\ud83d\ude00")
        assert sealed.check(["\U0001f600"]) == ([], ["\U0001f600"])
        sealed.close()

    def test_hostile_places_do_not_match_and_do_not_raise(self, context):
        hostile = [
            *(place(-1, 0, 5, "nope1"), place(99, 0, 5, "nope1"), place(1 << 80, 0, 5, "nope1")),
            *(place(0, -5, 0, "nope1"), place(0, 5, 0, "nope1"), place(0, 0, 1 << 90, "nope1")),
            *(
                place("0", None, [], "nope1"),
                place(True, 0, 5, "nope1"),
                place(0, 0.0, 5.0, "nope1"),
            ),
            "nope1",
        ]
        assert context.check(hostile) == ([], ["nope1"] * len(hostile))
        assert context.check([place(0, 0, 0, ""), "", " \n", 7, place(0, 0, 1, 7)]) == (
            *([], ["", "", " \n", "(not a quote: int)", "(not a quote: int)"]),
        )

    def test_hostile_numbers_do_not_keep_a_true_quote_from_being_found(self, context):
        found, missing = context.check([place(-1, 5, 2, "return 2"), place(0, True, 9, "return 2")])
        assert [(e.path, e.line) for e in found] == [("b.py", 3)] * 2
        assert missing == []

    def test_a_name_and_a_line_are_a_place(self, context):
        found, missing = context.check(["b.py:3", "a.py", "a.py:99", "a.py:0", "c.py:1"])
        assert [(e.path, e.line, e.quote) for e in found] == [
            *(("b.py", 3, "return 2"), ("a.py", 1, "import os")),
        ]
        assert missing == ["a.py:99", "a.py:0", "c.py:1"]

    def test_a_long_quote_is_checked_whole_and_shown_short(self):
        text = "".join(random.Random(1).choices("ab \n", k=5000))
        sealed = from_value(text)
        found, missing = sealed.check([text[100:4000], text[100:4000] + "!"])
        assert (found[0].start, found[0].end, found[0].quote) == (100, 4000, text[100:400])
        assert missing == [text[100:400]]
        sealed.close()

    def test_a_line_that_grep_cut_is_found_by_what_is_left(self):
        sealed = from_value("a" * 900 + " needle")
        (found,), missing = sealed.check(["…aaaa needle"])
        assert (found.start, found.end, missing) == (896, 907, [])
        sealed.close()

    def test_windows_hide_nothing(self, monkeypatch):
        """Quotes and line ends that lie across the border of two windows."""
        monkeypatch.setattr(texts, "WINDOW_CHARS", 7)
        monkeypatch.setattr(evidence, "WINDOW_CHARS", 7)
        text = "one\ntwo\nthree four five\nsix\n"
        sealed = seal([text], ["doc"], "text")
        for start in range(len(text)):
            for end in range(start + 1, len(text) + 1):
                quote = text[start:end]
                if not quote.strip():
                    continue
                (found,), _ = sealed.check([quote])
                first = text.find(quote)
                assert (found.start, found.line) == (first, text.count("\n", 0, first) + 1)
        lines = sealed.check([f"doc:{n}" for n in (1, 2, 3, 4, 5)])
        assert [(e.line, e.start) for e in lines[0]] == [(1, 0), (2, 4), (3, 8), (4, 24)]
        sealed.close()

    def test_documents_without_names_are_called_by_their_position(self):
        sealed = from_value(["a", "b"])
        assert sealed.check(["b"])[0][0].path == "context[1]"
        alone = from_value("b")
        assert alone.check(["b"])[0][0].path == "context"
        sealed.close()
        alone.close()
