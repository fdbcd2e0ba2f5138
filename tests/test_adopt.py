"""Contract: contexts/adopt. A text beside a cell is the same str as the one that was sealed."""

import ctypes
import json
import os
import pickle
import random
import re
import sys
from pathlib import Path

import pytest

from abyme.contexts.sealed import from_value
from abyme.core.events import Span
from abyme.guest import adopt
from abyme.guest.adopt import Headers, Libc, NotAdoptable, View
from abyme.layout import ADOPT_BYTES

ALPHABETS = {
    "ascii": "abc XYZ\n\t09.,",
    "latin-1": "abcé ñ\n\xa0ÿ",
    "ucs-2": "ab日本 Ω\n\u2028\ud800\udc00",
    "ucs-4": "ab😀 日\n🂡é",
}


def adopted(text, **others):
    context = from_value({"text": text, **others})
    view = View(*context.fds)
    context.close()
    return view


def large(alphabet, *, seed=1):
    part = "".join(random.Random(seed).choices(alphabet, k=4099))
    return part * (ADOPT_BYTES // len(part) + 1)


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
def test_an_adopted_text_is_one_object_and_equals_the_original(alphabet):
    text = large(alphabet)
    view = adopted(text)

    assert view.notes == []
    assert view.context["text"] is view.context["text"]
    assert type(view.context["text"]) is str
    assert view.context["text"] == text


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
def test_str_methods_cannot_tell_an_adopted_text_from_a_plain_one(alphabet):
    text = large(alphabet)
    same = adopted(text).context["text"]
    rnd = random.Random(7)
    operations = [
        *(str.split, str.splitlines, str.upper, str.casefold, str.strip, str.title, str.isascii),
        *(hash, len, max, min, json.dumps, repr, ascii),
        lambda s: s.encode("utf-8", "surrogatepass"),
        lambda s: s.encode("utf-16", "surrogatepass"),
        lambda s: re.findall(r"\w+", s)[:2000],
        lambda s: [m.span() for m in re.finditer(r"\s", s)][:2000],
        lambda s: s.translate({97: "Q"}),
        lambda s: s[::-1] + "z",
        lambda s: "z" + s * 2,
        lambda s: f"{s}!",
        lambda s: pickle.loads(pickle.dumps(s)),
        lambda s: {s: 1}[text],
        lambda s: s.replace("a", "<>"),
    ]
    for operation in operations:
        assert operation(same) == operation(text)
    for _ in range(20):
        start, stop = sorted(rnd.randrange(len(text)) for _ in range(2))
        step = rnd.choice([1, 2, -1, 3])
        needle = text[start : start + 4]
        assert same[start:stop:step] == text[start:stop:step]
        assert (same.find(needle), same.rfind(needle)) == (text.find(needle), text.rfind(needle))
        assert same.count(needle) == text.count(needle)
        assert same.partition(needle) == text.partition(needle)


def test_growing_an_adopted_text_makes_a_new_one():
    """`+=` on the only reference may grow a str in place; never this one."""
    text = large("ab")
    view = adopted(text)
    grown = view.context["text"]
    grown += "tail"

    assert grown == text + "tail"
    assert view.context["text"] == text


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
def test_restore_undoes_what_was_written_into_a_header(alphabet):
    text = large(alphabet)
    view = adopted(text)
    same = view.context["text"]
    hash(same)
    ctypes.c_ssize_t.from_address(id(same) + 16).value = 3  # length
    ctypes.c_ssize_t.from_address(id(same) + 24).value = 12345  # hash
    assert len(same) == 3

    view.restore()

    assert (len(same), hash(same), same == text) == (len(text), hash(text), True)


def test_restore_keeps_an_interned_text_interned():
    text = large("abc", seed=2)
    view = adopted(text)
    assert sys.intern(view.context["text"]) is view.context["text"]

    view.restore()

    assert sys.intern(view.context["text"]) is view.context["text"]
    assert view.context["text"] == text


def test_small_texts_share_one_map_and_equal_the_original():
    texts = {f"{kind}/{n}": alphabet * n for kind, alphabet in ALPHABETS.items() for n in range(9)}
    context = from_value(texts)
    view = View(*context.fds)

    assert dict(view.context) == texts
    assert len(view.maps) == 1


def test_surrogates_side_by_side_stay_two_characters():
    text = "\ud83d\ude00"
    assert adopted(text).context["text"] == text
    assert len(adopted(text).context["text"]) == 2


def test_only_the_largest_texts_get_a_map_of_their_own(monkeypatch):
    monkeypatch.setattr(adopt, "MAX_MAPS", 2)
    texts = {str(n): chr(97 + n) * (ADOPT_BYTES + n) for n in range(4)}
    context = from_value(texts)
    view = View(*context.fds)

    assert len(view.maps) == 3
    assert [view.context[name] is view.context[name] for name in texts] == [
        False,
        False,
        True,
        True,
    ]
    assert dict(view.context) == texts


def test_a_lone_text_is_a_str_large_or_small():
    for text in ("é" * ADOPT_BYTES, "short", "\n"):
        context = from_value(text)
        assert View(*context.fds).context == text


class NoMaps(Libc):
    """A kernel that grants memory but no shared maps, as after lock-down."""

    def share(self, address, size_bytes, fd, offset):
        raise PermissionError(1, "Operation not permitted")


def test_without_shared_maps_texts_are_copied_and_it_is_said():
    texts = {"large": large("aé"), "small": "日本"}
    context = from_value(texts)
    view = View(*context.fds, kernel=NoMaps())

    assert dict(view.context) == texts
    assert [note.split(":")[0] for note in view.notes] == [
        "large texts are copied, not shared",
        "the context is copied into each REPL",
    ]


def test_an_unknown_interpreter_copies_and_it_is_said(monkeypatch):
    monkeypatch.setattr(adopt, "PYTHONS", ())
    text = large("ab")
    view = adopted(text)

    assert view.context["text"] == text
    assert view.context["text"] is not view.context["text"]
    assert view.notes[0].startswith("large texts are copied, not shared: unknown string layout")
    with pytest.raises(NotAdoptable):
        Headers()


def test_the_map_of_a_text_cannot_be_written():
    context = from_value(large("ab"))
    view = View(*context.fds)
    (area,) = view.maps
    maps = Path("/proc/self/maps").read_text().splitlines()
    modes = {line.split()[1] for line in maps if _inside(line, area)}
    assert modes == {"rw-p", "r--s"}


def _inside(line, area):
    start, end = (int(word, 16) for word in line.split()[0].split("-"))
    return area[0] <= start and end <= area[0] + area[1]


def test_the_view_needs_no_descriptor_once_it_is_made():
    context = from_value({"a": "x" * 10, "b": large("ab")})
    fds = [os.dup(fd) for fd in context.fds]
    view = View(*fds)
    for fd in fds:
        os.close(fd)
    context.close()

    assert view.context["a"] == "x" * 10
    assert view.grep("x")[0] == ("a", 1, "x" * 10)


def stretch(text, start, end, shape="text"):
    """A view of a part of a document that others stand around."""
    context = from_value({"before": "x" * 5, "text": text, "behind": "z" * 99})
    part = context.part([Span(document=1, start=start, end=end)], shape)
    view = View(*part.fds)
    part.close()
    context.close()
    return view


def is_adopted(view):
    """One map, and the text lies in it; a copy lies elsewhere."""
    ((base, size),) = view.maps
    return base <= id(view.context) < base + size


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
@pytest.mark.parametrize(
    ("start", "cut"), [(0, 1), (8, 0), (4096, 4096), (4088, 7), (8192, 5000), (4, 4), (3, 1)]
)
def test_a_large_stretch_is_adopted_where_it_is_aligned_and_equals_the_original(
    alphabet, start, cut
):
    text = large(alphabet)
    text += text[:20_000]
    end = len(text) - cut
    view = stretch(text, start, end)
    same = view.context
    width = {"ascii": 1, "latin-1": 1, "ucs-2": 2, "ucs-4": 4}[
        next(name for name, letters in ALPHABETS.items() if letters == alphabet)
    ]

    assert is_adopted(view) == (start * width % 8 == 0)
    assert view.notes == []
    assert same == text[start:end]
    assert hash(same) == hash(text[start:end])
    assert {same: 1}[text[start:end]] == 1
    assert same.find(text[-cut - 40 :] + "!") == -1
    assert same[-9:] + "!" == text[end - 9 : end] + "!"
    assert same.encode("utf-8", "surrogatepass") == text[start:end].encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("letter", ["\xe9", "\u4e00", "\U0001f600"])
def test_a_stretch_without_the_wide_letters_of_its_document_is_a_narrow_str(letter):
    """A wide `str` of narrow characters would equal no other and be found in no dict."""
    text = "plain " * (ADOPT_BYTES // 3) + letter
    view = stretch(text, 0, len(text) - 1)

    assert not is_adopted(view)
    assert view.context == text[:-1]
    assert {view.context: 1}[text[:-1]] == 1
    assert sys.getsizeof(view.context) == sys.getsizeof("a" * (len(text) - 1))


def test_restore_undoes_what_was_written_into_the_edges_of_a_stretch():
    text = large("ab")
    view = stretch(text, 8, len(text) - 3)
    same = view.context
    for at in (0, len(same) - 1):
        address = id(same) + sys.getsizeof("") - 1 + at
        ctypes.c_char.from_address(address).value = b"!"
    assert (same[0], same[-1]) == ("!", "!")

    view.restore()

    assert same == text[8:-3]


def test_a_part_maps_what_it_needs_of_the_arena():
    texts = {str(n): "x" * 100_000 for n in range(50)}
    context = from_value(texts)
    part = context.part([Span(document=7), Span(document=9, start=3, end=5)], "documents")
    ((_, size),) = View(*part.fds).maps

    assert size == 50 * 4096  # from the page where 7 begins to the one where 9 does
    part.close()
    context.close()


def test_stretches_of_one_text_may_overlap():
    text = large("ab")
    context = from_value(text)
    spans = [Span(document=0, start=n * 8, end=len(text) - n) for n in range(4)]
    part = context.part(spans, "list")
    view = View(*part.fds)

    assert view.context == [text[n * 8 : len(text) - n] for n in range(4)]
    assert [view.context[n] is view.context[n] for n in range(4)] == [True] * 4
    part.close()
    context.close()
