"""Contract: helpers/find. By RE2 a pattern finds what it finds by `re`, hit for hit."""

import array
import os
import random
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
    "ucs-2": "aΣς日ſ 1\n\rbé\u2028K",
    "ucs-4": "a\U0001f600𝐀 1\n\rbß\U00010400",
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
    job = Job(os.dup(context.fds[1]))
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


@settings(max_examples=400, deadline=None)
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
