"""Contract: models/limiter. The window against simulated providers in virtual time, then
`Limited` on a fake clock.
"""

import asyncio
import itertools
import math

import pytest
from provider_sim import (
    AtOnce,
    Bucket,
    Fixed,
    Free,
    Outcome,
    Queues,
    Sim,
    even,
    lognormal,
)

from abyme.core.profile import Message
from abyme.errors import ModelError
from abyme.models.limiter import Limited
from abyme.models.refusals import OPENING_S
from abyme.models.window import Window
from abyme.ports import ModelReply, ModelRequest
from abyme.testing import FakeClock, ScriptedModel, settle

REQUEST = ModelRequest(messages=[Message("user", "q")], max_output_tokens=10)


def busy(retry_after_s: float | None = None) -> ModelError:
    return ModelError("busy", failure="rate_limited", retryable=True, retry_after_s=retry_after_s)


class Gated:
    """A model whose calls end when the test says so."""

    def __init__(self) -> None:
        self.open: list[asyncio.Future[str]] = []

    async def complete(self, request: ModelRequest, on_text=None) -> ModelReply:
        future = asyncio.get_running_loop().create_future()
        self.open.append(future)
        text = await future
        return await ScriptedModel([text]).complete(request)

    async def aclose(self) -> None:
        pass


def oracle_ratio(provider, told: Fixed, latency, calls: int) -> tuple[float, Outcome, Window]:
    """Wall time against that of a client that was told the limit; the same latencies."""
    window = Window()
    outcome = Sim(provider(), window, latency(), seed=1).run(calls)
    best = Sim(provider(), told, latency(), seed=1).run(calls)
    return outcome.wall_s / best.wall_s, outcome, window


WIDE = [lambda seed=seed: lognormal(1.0, 1.0, seed) for seed in range(4)]
"""Latencies of 0.1 to 10 s, one second in the mean."""


def test_calls_in_flight_double_until_the_first_refusal() -> None:
    window = Window(start=4, most=24)
    widths = []
    now_s = 0.0
    while window.in_flight < 24:
        while window.wait_s(now_s, waiting=100) == 0:
            window.sent(now_s)
        widths.append(window.in_flight)
        now_s += OPENING_S
    assert widths == [4, 8, 16, 24]
    assert window.wait_s(now_s, waiting=100) == math.inf


def test_an_open_provider_gets_a_thousand_calls_within_four_doublings() -> None:
    outcome = Sim(Free(), Window(), even(0.2)).run(1000)

    assert outcome.sends[63] == 0
    assert outcome.sends[-1] == pytest.approx(4 * OPENING_S)
    assert outcome.refused == 0


@pytest.mark.parametrize("latency", [*WIDE, lambda: lognormal(5.0, 1.0, 9)])
def test_a_provider_that_is_only_slow_and_noisy_is_never_throttled(latency) -> None:
    ratio, outcome, window = oracle_ratio(Free, Fixed(at_once=1024), latency, 4000)

    assert ratio < 1.02
    assert outcome.refused == 0
    assert window.width == 1024


@pytest.mark.parametrize("retry_after_s", [None, 1.0])
@pytest.mark.parametrize("most", [4, 24, 100])
def test_a_limit_on_calls_at_once_is_found_exactly(most, retry_after_s) -> None:
    ratios = []
    for latency in WIDE:
        ratio, outcome, _ = oracle_ratio(
            lambda: AtOnce(most, retry_after_s), Fixed(at_once=most), latency, 1000
        )
        ratios.append(ratio)
        # counted after a reply, so one less; a probe may go beyond
        assert most - 1 <= outcome.in_flight_from(0.2, 1.0) <= most + max(2, most // 10)
        assert outcome.refused < 170  # 64, twice that, and the way there and back
        assert outcome.most_attempts <= 3
    assert sum(ratios) / len(ratios) < 1.1


@pytest.mark.parametrize("retry_after_s", [None, 1.0])
@pytest.mark.parametrize(("rate", "burst"), [(10, 10), (50, 10), (50, 50), (50, 500)])
def test_a_limit_on_calls_a_second_is_found_within_a_tenth(rate, burst, retry_after_s) -> None:
    ratios = []
    for latency in WIDE:
        ratio, outcome, _ = oracle_ratio(
            lambda: Bucket(rate, burst, retry_after_s),
            Fixed(rate=rate, burst=burst),
            latency,
            20 * rate,
        )
        ratios.append(ratio)
        assert outcome.refused < 2 * max(100, burst)
        assert outcome.most_attempts <= 4
    assert sum(ratios) / len(ratios) < 1.1


def test_the_rate_of_a_bucket_is_measured_and_not_searched() -> None:
    window = Window()
    Sim(Bucket(50.0, 50, 1.0), window, lognormal(1.0, 1.0, 3)).run(2000)

    assert window.rate == pytest.approx(50.0, rel=0.03)


def test_even_calls_that_must_be_spaced_one_by_one_get_through() -> None:
    window = Window()
    outcome = Sim(Bucket(50.0, 1, 1.0), window, even(0.2)).run(1000)

    assert window.rate == pytest.approx(50.0, rel=0.03)
    assert outcome.wall_s < 26.0  # 20 at best; each refusal costs its second
    assert outcome.most_attempts <= 3


@pytest.mark.parametrize("most", [4, 24, 100])
def test_a_silent_queue_is_drained_to_a_few_times_what_is_served(most) -> None:
    for latency in WIDE:
        ratio, outcome, window = oracle_ratio(
            lambda: Queues(most), Fixed(at_once=most), latency, 4000
        )
        assert ratio < 1.02
        assert most <= window.width <= max(32, 3 * most)
        assert outcome.in_flight_from(0.6, 1.0) <= max(32, 3 * most)


def test_what_was_found_holds_for_the_next_batch() -> None:
    sim = Sim(Queues(24), Window(), lognormal(1.0, 1.0, 5))
    sim.run(2000)
    second = sim.run(2000)

    assert max(n for _, n in second.in_flight) <= 72


def test_calls_that_grow_longer_are_not_taken_for_a_queue() -> None:
    """Documents sorted by size look like one: the suspicion is proved wrong at once."""

    def growing():
        times, numbers = lognormal(0.5, 0.5, 7), itertools.count()
        return lambda: times() * 100 ** (next(numbers) / 4000)

    ratio, _, window = oracle_ratio(Free, Fixed(at_once=1024), growing, 4000)

    assert ratio < 1.05
    assert window.width == 1024


@pytest.mark.parametrize("provider", [AtOnce(24), AtOnce(24, 1.0), Bucket(50, 50, 1.0)])
def test_an_idle_hour_is_no_evidence_that_more_is_taken(provider) -> None:
    sim = Sim(provider, Window(), lognormal(1.0, 1.0, 4))
    sim.run(1000)
    sim.now_s += 3600.0

    assert sim.run(1000).refused <= 10


def test_a_limit_that_was_lifted_is_noticed() -> None:
    provider = AtOnce(10)
    sim = Sim(provider, Window(), lognormal(1.0, 1.0, 2))
    sim.run(500)
    provider.most = 1000

    assert sim.run(1000).wall_s < 50  # at ten at once it would be 100


def test_a_limit_that_was_tightened_is_found_again() -> None:
    provider = AtOnce(40)
    sim = Sim(provider, Window(), lognormal(1.0, 1.0, 2))
    sim.run(500)
    provider.most = 10
    outcome = sim.run(500)

    assert outcome.wall_s < 1.15 * 50
    assert outcome.refused < 150
    assert outcome.most_attempts <= 5


def test_refusals_while_nothing_is_served_pause_ever_longer() -> None:
    window = Window()
    pauses = []
    now_s = 0.0
    for _ in range(6):
        ticket = window.sent(now_s)
        window.refused(ticket, now_s, None)
        pauses.append(window.wait_s(now_s, waiting=1))
        now_s += pauses[-1]
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4])


def test_a_wish_for_an_hour_is_cut_to_a_minute() -> None:
    window = Window()
    window.refused(window.sent(0.0), 0.0, 3600.0)

    assert window.wait_s(0.0, waiting=1) == 60.0


def test_refusals_of_calls_that_were_in_flight_together_are_one_lesson() -> None:
    window = Window(start=64)
    tickets = [window.sent(0.0) for _ in range(64)]
    for ticket in tickets[34:]:
        window.refused(ticket, 1.0, 1.0)

    assert (window.width, window.in_flight) == (34, 34)
    assert window.wait_s(1.5, waiting=30) == 0.5


def test_the_window_never_closes() -> None:
    window = Window(start=2)
    for second in range(10):
        window.refused(window.sent(second), second, 0)
    assert window.width >= 1
    assert window.wait_s(1000.0, waiting=1) == 0


def test_calls_that_time_out_in_a_queue_leave_half_of_what_is_served_in_that_time() -> None:
    window = Window(start=64)
    tickets = [window.sent(0.0) for _ in range(64)]
    for second, ticket in enumerate(tickets[:24], 1):
        window.succeeded(ticket, second * 5.0, waiting=0)
    window.timed_out(tickets[24], 120.0)

    assert window.width == 12


def test_one_call_that_hangs_while_others_are_served_narrows_nothing() -> None:
    window = Window(start=64)
    hung = window.sent(0.0)
    for _ in range(300):
        window.succeeded(window.sent(10.0), 20.0, waiting=0)
    window.timed_out(hung, 120.0)

    assert window.width == 64


def test_no_more_calls_are_in_flight_than_the_window_allows() -> None:
    async def run() -> list[int]:
        model = Gated()
        limited = Limited(model, FakeClock(), start=3, most=3)
        tasks = [asyncio.create_task(limited.complete(REQUEST)) for _ in range(8)]
        seen = []
        while not all(t.done() for t in tasks):
            await settle()
            seen.append(sum(not f.done() for f in model.open))
            for future in model.open:
                if not future.done():
                    future.set_result("ok")
            await settle()
        return seen

    assert asyncio.run(run()) == [3, 3, 2]


def test_retry_after_stops_every_send_until_it_is_over() -> None:
    async def run() -> tuple[int, int, int]:
        clock = FakeClock()
        model = ScriptedModel([busy(retry_after_s=10), "a", "b"])
        limited = Limited(model, clock)
        with pytest.raises(ModelError):
            await limited.complete(REQUEST)
        tasks = [asyncio.create_task(limited.complete(REQUEST)) for _ in range(2)]
        await settle()
        before = len(model.requests)
        await clock.run(9.9)
        still = len(model.requests)
        await clock.run(0.1)
        await asyncio.gather(*tasks)
        return before, still, len(model.requests)

    assert asyncio.run(run()) == (1, 1, 3)


def test_a_call_cancelled_while_it_waits_leaves_no_trace() -> None:
    async def run() -> tuple[int, int]:
        model = Gated()
        limited = Limited(model, FakeClock(), start=1, most=1)
        first, second, third = (asyncio.create_task(limited.complete(REQUEST)) for _ in range(3))
        await settle()
        second.cancel()
        await settle()
        model.open[0].set_result("ok")
        await settle()
        model.open[1].set_result("ok")
        await asyncio.gather(first, third)
        return len(model.open), limited.in_flight

    assert asyncio.run(run()) == (2, 0)


def test_a_place_given_to_a_call_cancelled_in_the_same_turn_is_passed_on() -> None:
    async def run() -> tuple[int, int]:
        model = Gated()
        limited = Limited(model, FakeClock(), start=1, most=1)
        first, second, third = (asyncio.create_task(limited.complete(REQUEST)) for _ in range(3))
        await settle()
        model.open[0].set_result("ok")
        asyncio.get_running_loop().call_soon(second.cancel)  # after first ends, before it wakes
        await settle()
        model.open[1].set_result("ok")
        await asyncio.gather(first, third)
        return len(model.open), limited.in_flight

    assert asyncio.run(run()) == (2, 0)


def test_other_failures_do_not_narrow_the_window() -> None:
    async def run() -> int:
        down = ModelError("down", failure="server", retryable=True)
        limited = Limited(ScriptedModel([down]), FakeClock(), start=8)
        with pytest.raises(ModelError):
            await limited.complete(REQUEST)
        return limited.window.width

    assert asyncio.run(run()) == 8


def test_closing_closes_the_model_and_a_pause_in_progress() -> None:
    async def run() -> bool:
        model = ScriptedModel([busy(retry_after_s=60)])
        limited = Limited(model, FakeClock())
        with pytest.raises(ModelError):
            await limited.complete(REQUEST)
        waiting = asyncio.create_task(limited.complete(REQUEST))
        await settle()
        await limited.aclose()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return model.closed

    assert asyncio.run(run())


@pytest.mark.parametrize(("retry_after_s", "most_s"), [(0.1, 5.0), (1.0, 15.0), (None, 250.0)])
def test_a_provider_that_refuses_everything_is_asked_again_within_bounds(retry_after_s, most_s):
    """Once a rate of a call in a thousand seconds was read out of refusals alone."""
    window, now_s = Window(), 0.0
    for _ in range(10):
        wait_s = window.wait_s(now_s, 1)
        assert wait_s <= 60.0
        now_s += wait_s
        ticket = window.sent(now_s)
        now_s += 0.01
        window.refused(ticket, now_s, retry_after_s)
        now_s += retry_after_s or 0.1

    assert now_s < most_s
