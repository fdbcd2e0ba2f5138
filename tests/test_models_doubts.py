"""Contract: models/doubts. What is returned is all the doubt within the text, or None."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.core.events import SURE, Doubt
from abyme.models import doubts as under_test
from abyme.models.doubts import read

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def sent(*tokens: tuple[str | bytes, float]) -> dict[str, Any]:
    """Build ``choices[0].logprobs`` as OpenAI and llama.cpp send it."""
    content = []
    for token, logprob in tokens:
        raw = token if isinstance(token, bytes) else token.encode("utf-8", "surrogatepass")
        text = raw.decode("utf-8", "replace")
        content.append({"token": text, "logprob": logprob, "bytes": list(raw)})
    return {"content": content}


def doubt(start: int, end: int, logprob: float) -> Doubt:
    return Doubt(start=start, end=end, logprob=logprob)


def test_tokens_below_the_limit_are_placed_in_the_text_and_sure_ones_are_not_listed() -> None:
    given = sent(("The", -0.5), (" cat", -0.001), (" sat", -2.25))

    assert read(given, "The cat sat") == [doubt(0, 3, -0.5), doubt(7, 11, -2.25)]


def test_the_limit_is_a_probability_of_99_percent() -> None:
    below, above = math.log(SURE) - 1e-6, math.log(SURE) + 1e-6

    assert read(sent(("a", below), ("b", above)), "ab") == [doubt(0, 1, -0.0101)]


def test_a_text_without_any_doubt_is_known_to_have_none() -> None:
    assert read(sent(("a", -0.0001), ("b", 0.0)), "ab") == []


def test_offsets_are_code_points() -> None:
    given = sent(("é漢", -1.0), ("😀", -2.0), ("x", -3.0))

    assert read(given, "é漢😀x") == [doubt(0, 2, -1.0), doubt(2, 3, -2.0), doubt(3, 4, -3.0)]


def test_each_piece_of_a_character_is_a_doubt_about_that_character() -> None:
    smile = "😀".encode()
    given = sent(("a", -0.001), (smile[:2], -1.0), (smile[2:3], -2.0), (smile[3:] + b"b", -3.0))

    assert read(given, "a😀b") == [doubt(1, 2, -1.0), doubt(1, 2, -2.0), doubt(1, 3, -3.0)]


def test_a_token_without_bytes_is_taken_by_its_text() -> None:
    given = {"content": [{"token": "ß", "logprob": -1.0, "bytes": None}]}

    assert read(given, "ß") == [doubt(0, 1, -1.0)]


@pytest.mark.parametrize(
    ("tokens", "text", "expected"),
    [
        ([("<think>hm</think>\n", -1.0), ("yes", -2.0)], "yes", [doubt(0, 3, -2.0)]),
        ([("```json\n", -1.0), ('"A"', -2.0), ("\n```", -3.0)], '"A"', [doubt(0, 3, -2.0)]),
        ([("yes", -2.0), ("<|im_end|>", -1.0)], "yes", [doubt(0, 3, -2.0)]),
        ([("```\nye", -2.0), ("s\n", -1.0)], "yes", [doubt(0, 2, -2.0), doubt(2, 3, -1.0)]),
        ([("yes", -1.0), (" or ", -2.0), ("yes", -3.0)], "yes", [doubt(0, 3, -3.0)]),
    ],
)
def test_a_text_that_is_less_than_was_generated_is_found_in_it(
    tokens: list[tuple[str, float]], text: str, expected: list[Doubt]
) -> None:
    assert read(sent(*tokens), text) == expected


def test_a_text_that_is_in_several_places_or_in_none_is_not_guessed_at() -> None:
    given = sent(("yes or yes", -1.0), ("!", -1.0))

    assert read(given, "yes") is None
    assert read(given, "no") is None


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        "content",
        {},
        {"content": None},
        {"content": []},
        {"content": ["a"]},
        {"content": [{"token": "a"}]},
        {"content": [{"token": "a", "logprob": "-1"}]},
        {"content": [{"token": "a", "logprob": True}]},
        {"content": [{"token": "a", "logprob": None}]},
        {"content": [{"token": "a", "logprob": math.nan}]},
        {"content": [{"token": "a", "logprob": -math.inf}]},
        {"content": [{"token": "a", "logprob": math.inf}]},
        {"content": [{"token": "a", "logprob": 0.5}]},
        {"content": [{"token": "a", "logprob": -(10**400)}]},
        {"content": [{"token": 7, "logprob": -1.0}]},
        {"content": [{"token": "a", "logprob": -1.0, "bytes": [256]}]},
        {"content": [{"token": "a", "logprob": -1.0, "bytes": [-1]}]},
        {"content": [{"token": "a", "logprob": -1.0, "bytes": [10**30]}]},
        {"content": [{"token": "a", "logprob": -1.0, "bytes": [97.0]}]},
        {"content": [{"token": "a", "logprob": -1.0}, {"token": "", "logprob": math.nan}]},
        {"tokens": ["a"], "token_logprobs": [-1.0]},
    ],
)
def test_what_cannot_be_used_is_not_known_and_no_error(given: Any) -> None:
    assert read(given, "a") is None


@pytest.mark.parametrize("logprobs", [(0, 0), (-9999.0, 0.0), (-9999, -9999)])
def test_figures_that_stand_in_for_absent_ones_are_not_believed(logprobs: Any) -> None:
    assert read(sent(("a", logprobs[0]), ("b", logprobs[1])), "ab") is None


def test_a_logarithm_that_was_rounded_above_zero_is_zero() -> None:
    assert read(sent(("a", 1e-7), ("b", -1.0)), "ab") == [doubt(1, 2, -1.0)]


def test_a_reply_with_more_doubts_than_are_kept_is_not_known() -> None:
    most = under_test.MOST_DOUBTS
    many = sent(*[("a", -1.0)] * (most + 1))

    assert read(many, "a" * (most + 1)) is None
    assert len(read(sent(*[("a", -1.0)] * most), "a" * most) or []) == most


def test_a_list_longer_than_any_reply_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "MOST_TOKENS", 2)

    assert read(sent(("a", -1.0), ("b", -1.0)), "ab") is not None
    assert read(sent(("a", -1.0), ("b", -1.0), ("c", -1.0)), "abc") is None


@given(JSON, st.text(max_size=5))
def test_whatever_is_sent_there_is_no_error(given: Any, text: str) -> None:
    entry = {"token": "a", "logprob": given, "bytes": given}

    for one in (given, {"content": given}, {"content": [given]}, {"content": [entry]}):
        found = read(one, text)
        assert found is None or all(0 <= d.start < d.end <= len(text) for d in found)


@given(st.text(min_size=1), st.data())
def test_any_cut_into_tokens_gives_the_same_doubt_at_every_character(
    text: str, data: st.DataObject
) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)))))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    found = read(sent(*[(piece, -1.0) for piece in pieces]), text)

    assert found is not None
    assert len(found) == sum(1 for piece in pieces if piece)
    covered = {place for one in found for place in range(one.start, one.end)}
    assert covered == set(range(len(text)))
