"""Contract: core/pricing. Worst cases hold, what is paid is what the usage says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.core import pricing
from abyme.core.events import Failure, ModelFacts, Price, Usage
from abyme.core.ledger import Amount
from abyme.core.profile import Message

PRICE = Price(input_usd_micro=1_000_000, output_usd_micro=8_000_000, cached_usd_micro=100_000)
MODEL = ModelFacts(name="a:b", price=PRICE)
WORST = Amount(1, 5000, 900)


def test_cached_input_is_paid_at_its_own_price():
    usage = Usage(prompt_tokens=1000, cached_tokens=400, completion_tokens=10)

    assert pricing.actual(MODEL, usage) == Amount(1, 1010, 600 + 40 + 80)


def test_without_a_price_of_its_own_cached_input_costs_as_any():
    price = Price(input_usd_micro=1_000_000, output_usd_micro=8_000_000)
    usage = Usage(prompt_tokens=1000, cached_tokens=400, completion_tokens=10)

    assert pricing.declared_usd_micro(price, usage) == 1080


def test_the_providers_own_figure_is_what_was_paid():
    usage = Usage(prompt_tokens=1000, completion_tokens=10, cost_usd_micro=7)

    assert pricing.actual(MODEL, usage) == Amount(1, 1010, 7)


def test_an_unknown_price_costs_nothing_that_could_be_counted():
    assert pricing.declared_usd_micro(None, Usage(prompt_tokens=10)) == 0


def test_money_rounds_up():
    cheap = Price(input_usd_micro=1, output_usd_micro=0)

    assert pricing.declared_usd_micro(cheap, Usage(prompt_tokens=1)) == 1


@given(
    prices=st.tuples(*[st.integers(0, 10**8)] * 2, st.none() | st.integers(0, 10**9)),
    text=st.text(max_size=50),
    output=st.integers(0, 100),
    shares=st.tuples(*[st.floats(0, 1)] * 3),
)
def test_no_usage_within_the_caps_costs_more_than_the_worst_case(prices, text, output, shares):
    given_in, given_out, cached = prices
    price = Price(input_usd_micro=given_in, output_usd_micro=given_out, cached_usd_micro=cached)
    model = ModelFacts(name="m", price=price)
    messages = (Message("user", text),)
    prompt = int((len(text.encode()) + pricing.MESSAGE_TOKENS) * shares[0])
    usage = Usage(
        prompt_tokens=prompt,
        cached_tokens=int(prompt * shares[1]),
        completion_tokens=int(output * shares[2]),
    )

    worst, actual = pricing.worst(model, messages, output), pricing.actual(model, usage)
    assert actual.tokens <= worst.tokens
    assert actual.usd_micro <= worst.usd_micro


def test_an_ordinary_call_is_expected_to_cost_its_tokens():
    tokens = 100 + pricing.MESSAGE_TOKENS

    assert pricing.ordinary(MODEL, 100, 10) == Amount(1, tokens + 10, tokens + 80)


@pytest.mark.parametrize(
    ("fault", "status", "usage", "paid"),
    [
        ("stream_cut", None, None, WORST),
        ("timed_out", None, Usage(prompt_tokens=9, estimated=True), WORST),
        ("bad_reply", None, Usage(completion_tokens=9000, estimated=True), Amount(1, 9000, 72_000)),
        ("bad_reply", None, Usage(completion_tokens=120, estimated=True), Amount(1, 5000, 960)),
        ("server", 504, None, WORST),
        ("stream_cut", None, Usage(prompt_tokens=9), Amount(1, 9, 9)),
        ("empty_reply", None, Usage(prompt_tokens=9), Amount(1, 9, 9)),
        ("server", 500, None, Amount(1, 0, 0)),
        ("auth", 401, None, Amount(1, 0, 0)),
    ],
)
def test_a_failed_attempt_is_paid_as_told_or_at_its_worst_where_nobody_knows(
    fault, status, usage, paid
):
    failure = Failure(fault=fault, message="x", status=status)

    assert pricing.billed(MODEL, failure, usage, WORST) == paid
