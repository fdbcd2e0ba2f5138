"""Contract: core/limits. A ceiling that means nothing is refused where it is written."""

from decimal import Decimal

import msgspec
import pytest

from abyme.core.limits import Limits
from abyme.errors import ConfigError

WHOLE = [
    *("max_calls", "max_tokens", "depth", "max_turns"),
    *("memory_bytes", "max_processes", "cell_output_chars"),
]
NUMBERS = ["timeout_s", "cell_timeout_s"]
CAN_BE_OFF = ["max_usd", "max_calls", "max_tokens", "timeout_s"]


@pytest.mark.parametrize("name", [*WHOLE, *NUMBERS, "max_usd"])
@pytest.mark.parametrize(
    "value", [-1, True, "many", float("nan"), float("inf"), -float("inf"), [], 1j]
)
def test_what_is_no_number_or_negative_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"^Limits.{name} must be "):
        Limits(**{name: value})


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_counted_is_whole(name):
    with pytest.raises(ConfigError, match=rf"^Limits.{name} must be a whole number .*, got 2\.5$"):
        Limits(**{name: 2.5})


@pytest.mark.parametrize("name", [*WHOLE, *NUMBERS, "max_usd"])
def test_none_switches_off_only_what_can_be_off(name):
    if name in CAN_BE_OFF:
        assert getattr(Limits(**{name: None}), name) is None
        return
    with pytest.raises(ConfigError, match=rf"^Limits.{name} must be .* >= [01], got None$"):
        Limits(**{name: None})


@pytest.mark.parametrize("name", ["max_turns", "max_processes"])
def test_a_run_without_a_turn_or_a_process_is_none(name):
    with pytest.raises(ConfigError, match=f"^Limits.{name} must be a whole number >= 1, got 0$"):
        Limits(**{name: 0})


def test_zero_means_zero_elsewhere_and_seconds_may_be_whole():
    names = [name for name in [*WHOLE, *NUMBERS] if name not in {"max_turns", "max_processes"}]
    assert [getattr(Limits(**{name: 0}), name) for name in names] == [0] * len(names)
    assert Limits(max_usd=Decimal("0.1")).max_usd_micro == 100_000


def test_seconds_are_what_a_journal_gives_back():
    limits = Limits(timeout_s=4, cell_timeout_s=3)

    assert (repr(limits.timeout_s), repr(limits.cell_timeout_s)) == ("4.0", "3.0")
    assert repr(msgspec.json.decode(msgspec.json.encode(limits), type=Limits)) == repr(limits)
