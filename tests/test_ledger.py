"""Contract: guard/spend. One allowance for the whole tree, never passed."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from abyme.core.ids import CallId
from abyme.core.ledger import Amount, Ledger
from abyme.core.limits import Limits
from abyme.errors import ConfigError, LimitReached

ONE, TWO = CallId(1), CallId(2)


def usd(micro):
    return Amount(calls=1, tokens=10, usd_micro=micro)


def test_parallel_calls_cannot_overshoot_together():
    """Two holds that fit alone but not together: the second is refused."""
    ledger = Ledger(Limits(max_usd="0.0001"))
    ledger.reserve(ONE, usd(60))

    with pytest.raises(LimitReached) as caught:
        ledger.reserve(TWO, usd(60))
    refused = caught.value
    assert (refused.limit, refused.used, refused.asked, refused.ceiling) == ("max_usd", 60, 60, 100)


def test_refusal_changes_nothing():
    ledger = Ledger(Limits(max_calls=0))

    with pytest.raises(LimitReached) as caught:
        ledger.reserve(ONE, usd(1))
    said = "max_calls: 1 needed beside 0 spent, the ceiling is 0"
    assert str(caught.value) == said

    assert ledger.held == Amount()


def test_dollars_are_said_in_dollars():
    with pytest.raises(LimitReached, match=r"max_usd: \$0\.0420 needed beside \$0\.0000 spent"):
        Ledger(Limits(max_usd="0.001")).reserve(ONE, usd(42_000))


def test_what_a_provider_bills_beyond_the_worst_case_is_counted_and_stops_the_next():
    ledger = Ledger(Limits(max_usd="0.0001"))
    ledger.reserve(ONE, usd(50))
    ledger.settle(ONE, usd(120))

    assert ledger.overrun_usd_micro == 70
    with pytest.raises(LimitReached):
        ledger.reserve(TWO, usd(1))


def test_only_the_closing_turn_may_touch_what_is_set_aside():
    ledger = Ledger(Limits(max_calls=1))
    ledger.set_aside(usd(1))

    with pytest.raises(LimitReached):
        ledger.reserve(ONE, usd(1))
    ledger.reserve(ONE, usd(1), closing=True)


def test_zero_means_zero_and_none_means_off():
    with pytest.raises(LimitReached):
        Ledger(Limits(max_usd=0)).reserve(ONE, usd(1))
    Ledger(Limits(max_usd=None, max_tokens=None)).reserve(ONE, usd(10**15))


def test_a_free_call_passes_a_dollar_ceiling_of_zero():
    Ledger(Limits(max_usd=0)).reserve(ONE, Amount(calls=1, tokens=5))


@pytest.mark.parametrize("bad", [{"max_tokens": -1}, {"max_usd": "-0.01"}, {"max_usd": "nan"}])
def test_a_bad_ceiling_is_refused_at_construction(bad):
    with pytest.raises(ConfigError):
        Limits(**bad)


def test_dollars_never_pass_through_binary_fractions():
    assert Limits(max_usd=0.1).max_usd_micro == 100_000
    assert Limits(max_usd="1.10").max_usd_micro == 1_100_000


def test_a_hold_settles_once():
    ledger = Ledger(Limits())
    ledger.reserve(ONE, usd(5))
    ledger.settle(ONE, usd(5))

    with pytest.raises(KeyError):
        ledger.settle(ONE, usd(5))


def test_what_is_carried_over_a_kill_counts_against_the_new_ceiling():
    ledger = Ledger(Limits(max_usd="0.0001"))
    ledger.reserve(ONE, usd(30))
    ledger.settle(ONE, usd(30))
    ledger.resume(Limits(max_usd="0.0002"), usd(120))

    assert ledger.spent == Amount(2, 20, 150)
    with pytest.raises(LimitReached) as caught:
        ledger.reserve(TWO, usd(51))
    assert (caught.value.used, caught.value.ceiling) == (150, 200)
    ledger.reserve(TWO, usd(50))


def test_a_lower_ceiling_than_what_is_spent_stops_everything_that_costs():
    ledger = Ledger(Limits(max_usd="0.0001"))
    ledger.resume(Limits(max_usd="0.00001"), usd(50))

    with pytest.raises(LimitReached):
        ledger.reserve(ONE, usd(1), closing=True)
    assert ledger.left()["usd_micro"] == 0


class LedgerMachine(RuleBasedStateMachine):
    """Any interleaving of reserves, settles and releases by any number of callers."""

    def __init__(self):
        super().__init__()
        self.ledger = Ledger(Limits(max_usd="0.001", max_calls=20, max_tokens=500))
        self.ledger.set_aside(Amount(1, 20, 50))
        self.open = {}
        self.next = 1

    @rule(tokens=st.integers(0, 200), micro=st.integers(0, 400), closing=st.booleans())
    def reserve(self, tokens, micro, closing):
        worst = Amount(1, tokens, micro)
        try:
            self.ledger.reserve(CallId(self.next), worst, closing=closing)
        except LimitReached:
            return
        self.open[self.next] = worst
        self.next += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data):
        call = data.draw(st.sampled_from(sorted(self.open)))
        worst = self.open.pop(call)
        share = data.draw(st.integers(0, 100))
        actual = Amount(1, worst.tokens * share // 100, worst.usd_micro * share // 100)
        self.ledger.settle(CallId(call), actual)

    @rule()
    def resume(self):
        """A kill: what is held is carried as spent, at its worst, and nothing is held."""
        carried = self.ledger.held
        for call in self.open:
            self.ledger.release(CallId(call))
        self.open.clear()
        self.ledger.resume(self.ledger.limits, carried)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data):
        call = data.draw(st.sampled_from(sorted(self.open)))
        del self.open[call]
        self.ledger.release(CallId(call))

    @invariant()
    def spent_and_held_stay_under_every_ceiling(self):
        total = self.ledger.spent + self.ledger.held
        assert total.usd_micro <= 1000
        assert total.calls <= 20
        assert total.tokens <= 500

    @invariant()
    def held_is_what_is_open(self):
        assert self.ledger.held == sum(self.open.values(), Amount())


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=200, deadline=None, derandomize=True)
