"""Contract: models/usage. What a provider says of a reply's cost is believed if it can be."""

import pytest
from msgspec import structs

from abyme.core.events import Price, Usage
from abyme.models import usage as under_test

PRICE = Price(input_usd_micro=1_000_000, output_usd_micro=10_000_000)
PROMPT = "the quick brown fox " * 100  # 400 words
REPLY = "jumps over the lazy dog " * 20  # 100 words


def read(given, *, sent=PROMPT, received=REPLY, thought_chars=0, price=PRICE):
    return under_test.read(
        given, sent=[sent], received=received, thought_chars=thought_chars, price=price
    )


def told(prompt=450, completion=110, **more):
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


def test_what_is_plausible_is_taken_as_it_is():
    inner = {"prompt_tokens_details": {"cached_tokens": 300}}
    outer = {"completion_tokens_details": {"reasoning_tokens": 5}}

    assert read(told(**inner, **outer)) == Usage(
        prompt_tokens=450, completion_tokens=110, cached_tokens=300, reasoning_tokens=5
    )


@pytest.mark.parametrize("prompt", [-1, None, "450", 450.5, True, 10**30])
def test_prompt_tokens_that_are_no_number_are_estimated(prompt):
    usage = read(told(prompt, prompt_tokens_details={"cached_tokens": 400}))

    assert usage == Usage(prompt_tokens=420, completion_tokens=110, estimated=True)


@pytest.mark.parametrize("prompt", [0, 1, 199])
def test_too_few_prompt_tokens_for_what_was_sent_are_estimated_upward(prompt):
    usage = read(told(prompt, prompt_tokens_details={"cached_tokens": 400}))

    assert usage == Usage(prompt_tokens=667, completion_tokens=110, estimated=True)


@pytest.mark.parametrize(
    ("completion", "estimate"), [(0, 160), (49, 160), (None, 105), (False, 105)]
)
def test_too_few_completion_tokens_for_what_came_are_estimated_upward(completion, estimate):
    usage = read(told(450, completion))

    assert (usage.prompt_tokens, usage.estimated) == (450, True)
    assert usage.completion_tokens == estimate


def test_half_a_token_a_word_is_still_believed():
    assert not read(told(200, 50)).estimated


def test_runs_of_one_character_may_be_few_tokens():
    assert not read(told(10, 1), sent="-" * 10_000, received="=" * 10_000).estimated


def test_chinese_is_asked_for_by_its_bytes():
    chinese = "人人生而自由在尊严和权利上一律平等" * 10  # 510 bytes

    assert read(told(64, 110), sent=chinese) == Usage(prompt_tokens=64, completion_tokens=110)
    assert read(told(40, 110), sent=chinese).prompt_tokens == 210


def test_no_text_may_cost_nothing():
    assert read({"prompt_tokens": 0, "completion_tokens": 0}, sent="", received="") == Usage()


def test_reasoning_that_came_beside_a_reply_without_figures_is_counted():
    usage = read({}, thought_chars=3000)

    assert (usage.completion_tokens, usage.estimated) == (1105, True)


def test_reasoning_that_only_the_total_tells_of_is_paid():
    usage = read(told(450, 110, total_tokens=900))

    assert (usage.completion_tokens, usage.reasoning_tokens) == (450, 340)


def test_a_total_that_is_the_cached_input_more_is_no_reasoning():
    inner = {"prompt_tokens_details": {"cached_tokens": 300}}

    assert read(told(450, 110, total_tokens=860, **inner)).completion_tokens == 110


def test_the_providers_figure_in_dollars_is_taken():
    assert read(told(cost=0.0008)).cost_usd_micro == 800
    assert read(told(cost="0.0008"), price=None).cost_usd_micro == 800


DECLARED = 450 + 110 * 10  # micro-dollars


@pytest.mark.parametrize(("cost", "taken"), [(0.000698, True), (0.000697, False)])
def test_a_figure_of_less_than_45_percent_of_the_declared_price_is_not_believed(cost, taken):
    usage = read(told(cost=cost))

    assert (usage.cost_usd_micro is not None, usage.estimated) == (taken, not taken)
    assert 697 < 0.45 * DECLARED < 698


@pytest.mark.parametrize("times", [2.3, 50, 99, 1000])
def test_a_figure_many_times_too_low_is_not_believed_and_flagged(times):
    usage = read(told(cost=DECLARED / times / 1e6))

    assert (usage.cost_usd_micro, usage.estimated) == (None, True)
    assert (usage.prompt_tokens, usage.completion_tokens) == (450, 110)


@pytest.mark.parametrize(
    ("cached_price", "cost", "taken"),
    [
        (None, 0.000522, True),  # 45% of 50 + 400 / 50 + 1100, rounded up
        (None, 0.000521, False),
        (500_000, 0.000522, True),  # a dearer declared price does not count
        (5_000, 0.000518, False),  # a cheaper one does: 45% of 50 + 2 + 1100
        (5_000, 0.000519, True),
    ],
)
def test_cached_input_may_cost_a_fiftieth_or_its_declared_price(cached_price, cost, taken):
    price = structs.replace(PRICE, cached_usd_micro=cached_price)
    usage = read(told(cost=cost, prompt_tokens_details={"cached_tokens": 400}), price=price)

    assert (usage.cost_usd_micro is not None, usage.estimated) == (taken, not taken)


def test_without_a_declared_price_any_figure_stands():
    assert read(told(cost=0.000001), price=None) == Usage(
        prompt_tokens=450, completion_tokens=110, cost_usd_micro=1
    )


@pytest.mark.parametrize("cost", [0, None, "x", -1])
def test_no_figure_is_no_lie(cost):
    assert not read(told(cost=cost)).estimated


@pytest.mark.parametrize("cost", [0, -1, 0.000014, "nan", "x", None, True, 2_000_000, [1]])
def test_a_figure_below_nothing_or_absurd_is_not_taken(cost):
    assert read(told(cost=cost)).cost_usd_micro is None  # 1550 at the declared price


def test_from_who_lies_about_tokens_only_a_higher_figure_is_taken():
    declared = 420 + 110 * 10

    assert read(told(1, cost=0.001)).cost_usd_micro is None
    assert read(told(1, cost=0.01)).cost_usd_micro == 10_000
    assert declared < 10_000


def test_with_a_key_of_ones_own_the_upstream_bill_comes_on_top():
    details = {"upstream_inference_cost": 0.02}

    assert read(told(cost=0.001, is_byok=True, cost_details=details)).cost_usd_micro == 21_000
    assert read(told(cost=0.001, is_byok=False, cost_details=details)).cost_usd_micro == 1000
