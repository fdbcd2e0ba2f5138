"""Contract: models/limiter. The window alone, then `Limited` on a fake clock."""

import asyncio

import pytest

from abyme.core.profile import Message
from abyme.errors import ModelError
from abyme.models.limiter import Limited, Window
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


def test_the_window_doubles_a_round_until_the_first_refusal() -> None:
    window = Window(start=4, most=14)
    for _ in range(4):
        window.succeeded(in_flight=4)
    assert window.width == 8
    for _ in range(8):
        window.succeeded(in_flight=8)
    assert window.width == 14


def test_after_a_refusal_it_grows_by_one_a_round_and_probes_slowly_beyond() -> None:
    window = Window(start=11)
    window.refused(sent_s=0.0, now_s=1.0, retry_after_s=0, in_flight=10)
    assert window.width == 9

    rounds = {}
    for round_number in range(1, 60):
        for _ in range(window.width):
            window.succeeded(in_flight=window.width)
        rounds.setdefault(window.width, round_number)
    assert [rounds[width] for width in (10, 11, 12, 20)] == [2, 8, 13, 26]


def test_a_window_that_is_not_full_does_not_grow() -> None:
    window = Window(start=10)
    for _ in range(100):
        window.succeeded(in_flight=4)
    assert window.width == 10


def test_refusals_of_calls_that_were_in_flight_together_cut_once() -> None:
    window = Window(start=64)
    for refused in range(1, 31):
        window.refused(sent_s=0.0, now_s=1.0, retry_after_s=None, in_flight=64 - refused)
    assert window.width == 30  # nine tenths of the 34 that were taken

    window.refused(sent_s=1.5, now_s=2.0, retry_after_s=None, in_flight=29)
    assert window.width == 26


def test_one_round_of_refusals_finds_how_many_calls_a_provider_takes_at_once() -> None:
    window = Window(start=1024)
    for refused in range(1, 1001):
        if refused == 500:  # some of those that it took are served meanwhile
            for _ in range(4):
                window.succeeded(in_flight=100)
        served = 4 if refused >= 500 else 0
        left = 1024 - refused - served
        window.refused(sent_s=0.0, now_s=1.0, retry_after_s=1.0, in_flight=left)
    assert window.width == 21  # nine tenths of 24


def test_the_window_never_closes() -> None:
    window = Window(start=2)
    for second in range(10):
        window.refused(sent_s=second, now_s=second, retry_after_s=0, in_flight=0)
    assert window.width == 1


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
