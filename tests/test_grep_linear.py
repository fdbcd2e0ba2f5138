"""Contract: helpers/find. By RE2 a pattern finds what it finds by `re`, hit for hit."""

import array
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abyme.contexts.sealed import from_value
from abyme.guest import linear
from abyme.guest.linear import Linear, NotLinear
from abyme.guest.patterns import Pattern
from abyme.guest.places import Finder
from abyme.helpers import find
from abyme.helpers.find import Job
from abyme.layout import ASCII, LATIN1, UCS2, UCS4

UNITS = {
    "ascii": "ab 1_\n\n\r",
    "latin-1": "aé\xa0\xb5 1\n\rb\xaa",
    "ucs-2": "aΣς日\u017f 1\n\rbé\u2028K",
    "ucs-4": "a\U0001f600\U0001d400 1\n\rbß\U00010400",
    "surrogates": "a\ud800\udc00 1\n\rb日",
}
ATOMS = [
    *("a", "b", "1", " ", "_", r"\w", r"\s", r"\d", r"\W", r"\S", r"\D", ".", "é", "日", "Σ", "k"),
    *("[ab]", "[^a]", r"[^\s]", r"[\w ]", r"[a-z]", r"[^\W\d]", r"\n", r"\r", "S", "\U00010428"),
]
MARKS = ["^", "$", r"\b", r"\B", "", "", "", ""]
TIMES = ["", "", "", "*", "+", "?", "{2}", "{1,3}", "*?", "+?", "??", "{2,}"]
FLAGS = [0, 0, re.IGNORECASE, re.DOTALL, re.ASCII, re.IGNORECASE | re.ASCII]


@st.composite
def patterns(draw, depth=2):
    """Expressions of Python's, most of which RE2 has words for."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 9))
        if depth and kind == 0:
            inner = f"({draw(patterns(depth - 1))})"
        elif depth and kind == 1:
            inner = f"(?:{draw(patterns(depth - 1))}|{draw(patterns(depth - 1))})"
        elif depth and kind == 2 and draw(st.booleans()):
            ahead = draw(st.sampled_from(["(?=", "(?!", "(?i:"]))
            inner = f"{ahead}{draw(patterns(depth - 1))})"
        else:
            inner = draw(st.sampled_from(ATOMS))
        parts.append(draw(st.sampled_from(MARKS)) + inner + draw(st.sampled_from(TIMES)))
    return "".join(parts) + draw(st.sampled_from(MARKS))


def asked(job, pattern, flags, units, *, count=False, limit=None):
    head = {"t": "find", "key": 0, "pattern": pattern, "flags": flags, "units": units}
    told, body = job.answer({**head, "count": count, "limit": limit})
    numbers = array.array("q", body)
    return told, [tuple(numbers[at : at + 6]) for at in range(0, len(numbers), 6)]


def job_of(texts):
    context = from_value(texts)
    job = Job(os.dup(context.fds[1]), 64)
    job.add(0, os.dup(context.fds[0]))
    context.close()
    return job


def by_re(texts, pattern, flags):
    """What `Finder` finds where nobody is asked: lines, and the count."""
    finder = Finder(range(len(texts)), texts.__getitem__)
    hits = finder.grep(pattern, None, None, flags)
    return [(hit.span, hit.line, hit.name) for hit in hits], finder.count(pattern, None, flags)


def by_re2(texts, pattern, flags, units=None):
    job = job_of(texts)
    units = units or [[0, len(texts), find.ALL]]
    told, places = asked(job, pattern, flags, units)
    if "refused" in told:
        return None
    total, _ = asked(job, pattern, flags, units, count=True)
    hits = []
    for number, begin, stop, _, _, line in places:
        end = stop - (stop > begin and texts[number][stop - 1] == "\r")
        hits.append(((number, begin, end), line, number))
    return hits, total["total"]


@settings(max_examples=150, deadline=None)
@given(patterns(), st.sampled_from(FLAGS), st.data())
def test_random_patterns_find_the_same_in_random_texts(pattern, flags, data):
    units = UNITS[data.draw(st.sampled_from(sorted(UNITS)))]
    texts = data.draw(st.lists(st.text(units, max_size=30), min_size=1, max_size=3))
    try:
        Pattern(pattern, flags)
    except ValueError:
        return
    if not any(texts):
        return
    found = by_re2(texts, pattern, flags)
    if found is not None:
        assert found == by_re(texts, pattern, flags)


@settings(max_examples=150, deadline=None)
@given(patterns(), st.sampled_from(FLAGS), st.data())
def test_windows_of_a_text_find_what_the_whole_does(pattern, flags, data):
    units = UNITS[data.draw(st.sampled_from(sorted(UNITS)))]
    texts = [data.draw(st.text(units, min_size=1, max_size=200))]
    kinds = [ASCII, LATIN1, UCS2, UCS4]
    plan, _ = job_of(texts).answer(
        {"t": "plan", "pattern": pattern, "flags": flags, "kinds": kinds}
    )
    if "refused" in plan or plan["crosses"]:
        return
    hits, total = by_re(texts, pattern, flags)
    windows = [[0, 1, number] for number in range(20)]
    found = by_re2(texts, pattern, flags, windows)
    assert ([span for span, _, _ in found[0]], found[1]) == ([span for span, _, _ in hits], total)


@pytest.mark.parametrize("kind", [ASCII, LATIN1, UCS2, UCS4])
@pytest.mark.parametrize("flags", [0, re.ASCII])
def test_letters_without_case_are_the_characters_that_re_takes_for_them(kind, flags):
    every = linear._every_char(kind)
    flags |= re.IGNORECASE
    for letter in "ksiåßǅ\u03c3Ω\u0131İ\u1e9e\U00010428":
        tree = Pattern(letter, flags).tree
        runs = linear._runs((tree[0][0], tree[0][1]), tree.state.flags, kind)
        taken = {code for low, high in runs for code in range(low, high + 1)} & set(map(ord, every))
        assert {chr(code) for code in taken} == set(re.findall(letter, every, flags))


def test_what_cannot_be_said_in_re2s_words_is_known_by_the_pattern():
    for pattern in ["a*?", "(?:|a)b*", "x(?=\n)", r"(?!a\Wb)", "a{2000}", r"(?:a??)*"]:
        with pytest.raises(NotLinear):
            Linear.of(Pattern(pattern).tree, 0, ASCII)
    told = {
        pattern: Linear.of(Pattern(pattern).tree, 0, LATIN1)
        for pattern in ["a+", "(a+)+", r"\bx", '"[^"]+"', "ab+b", "^a$"]
    }
    assert [one.exact for one in told.values()] == [True, True, False, True, True, True]
    assert [one.nests for one in told.values()] == [False, True, False, False, False, False]
    assert [one.crosses for one in told.values()] == [False, False, False, True, False, False]
    assert [one.easy for one in told.values()] == [False, False, False, True, True, False]
    assert told["^a$"].opens_ends
    assert told["a+"].pattern == r"(?:[\x{61}]){1,}"
