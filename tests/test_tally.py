"""Contract: core/tally. What a run used, from its records alone, is what the ledger says."""

import pytest
from core_doubles import Run, facts
from msgspec import structs
from test_tree_orders import MAX_STEPS, World

from abyme.core import effects as do
from abyme.core import events as ev
from abyme.core.ids import ROOT, CallId
from abyme.core.ledger import Amount
from abyme.core.limits import Limits
from abyme.core.tally import Spent, Tally

PRICE = ev.Price(input_usd_micro=1_000_000, output_usd_micro=10_000_000, cached_usd_micro=0)
CARRIED = ev.Carried()


def tally(records) -> Tally:
    taken = Tally()
    for record in records:
        taken.take(record)
    return taken


def added(parts) -> Spent:
    total = Spent()
    for part in parts.values():
        total.add(part)
    return total


def run(price=PRICE) -> Run:
    started = Run(root=facts("a:root", price), sub=facts("a:sub", price), limits=Limits(depth=3))
    started.ready()
    return started


@pytest.mark.parametrize("group", range(4))
def test_after_any_run_with_kills_the_total_is_what_the_ledger_has_spent(group):
    for seed in range(1000 + group * 50, 1000 + group * 50 + 50):
        world = World(seed)
        for step in range(MAX_STEPS):
            if world.run.tree.finished is not None:
                break
            world.step()
            if step % 50 == 0:
                taken, ledger = tally(world.run.records), world.run.tree.book.ledger
                assert (taken.total.amount, taken.held) == (ledger.spent, ledger.held)
        for call in list(world.calls):
            world.cancelled.add(call)
            world.call(call)

        taken, ledger = tally(world.run.records), world.run.tree.book.ledger
        assert (taken.total.amount, taken.held) == (ledger.spent, Amount())
        for parts in (taken.by_model, taken.by_depth, taken.by_cell):
            assert added(parts) == taken.total


def test_usage_is_told_by_model_by_depth_and_by_cell():
    hand = run()
    hand.code()
    hand.ask("p", "q")
    first, second = (ask.reserved.call for ask in hand.all(do.AskModel))
    usage = {"prompt_tokens": 100, "cached_tokens": 60, "completion_tokens": 9}
    hand.settle(first, "ok", **usage, reasoning_tokens=4)
    hand.settle(second, "ok", prompt_tokens=10, completion_tokens=1, estimated=True)
    hand.ask("r", batch=2, purpose="rlm")
    hand.ready("0.0")
    hand.reply("```repl\nx\n```", "0.0", prompt_tokens=50, completion_tokens=5)

    taken = tally(hand.records)

    both = Spent(
        amount=Amount(2, 120, 40 + 90 + 10 + 10),
        estimated=1,
        prompt_tokens=110,
        completion_tokens=10,
        cached_tokens=60,
        reasoning_tokens=4,
    )
    child = Spent(amount=Amount(1, 55, 100), prompt_tokens=50, completion_tokens=5)
    turn = Spent(amount=Amount(1, 0, 0))
    assert taken.by_model["a:sub"] == both
    assert dict(taken.by_cell) == {(ROOT, None): turn, (ROOT, 1): both, ("0.0", None): child}
    assert taken.by_depth[1] == child
    assert taken.total.amount == Amount(4, 175, 250)


def test_an_attempt_whose_bill_nobody_knows_counts_at_its_worst_and_is_called_unknown():
    hand = run()
    reserved = hand.one(do.AskModel).reserved
    hand.fail(reserved.call, "timed_out", retryable=True)

    taken = tally(hand.records).total
    worst = Amount(1, reserved.worst_tokens, reserved.worst_usd_micro)
    assert (taken.amount, taken.unknown, taken.failed) == (worst, worst, 1)


def test_an_attempt_that_was_never_sent_is_not_counted():
    hand = run()
    call = hand.one(do.AskModel).reserved.call
    failure = ev.Failure(fault="cancelled", message="c")
    hand.give(ev.CallFailed(call=call, failure=failure, sent=False))

    assert tally(hand.records).total == Spent()


def test_what_is_billed_beyond_the_worst_case_is_told():
    hand = run()
    reserved = hand.one(do.AskModel).reserved
    hand.reply("```repl\nx\n```", cost_usd_micro=reserved.worst_usd_micro + 70)

    assert tally(hand.records).total.overrun_usd_micro == 70
    assert hand.tree.book.ledger.overrun_usd_micro == 70


def test_what_was_in_flight_at_a_kill_is_taken_at_its_worst_and_nothing_twice():
    hand = run()
    hand.code()
    hand.ask("p", "q")
    first, second = (ask.reserved for ask in hand.all(do.AskModel))
    hand.settle(first.call, "ok", prompt_tokens=10)
    resumed = ev.RunResumed(
        believed=len(hand.records),
        limits=Limits(),
        carried=CARRIED,
        next_call=9,
        resumed_at="2026-01-01T00:00:00+00:00",
    )
    record = structs.replace(hand.records[-1], seq=99, event=resumed)
    late = structs.replace(
        record,
        event=ev.CallSettled(
            call=second.call, text="x", finish="stop", usage=ev.Usage(prompt_tokens=5)
        ),
    )

    taken = tally([*hand.records, record, late])

    worst = Amount(1, second.worst_tokens, second.worst_usd_micro)
    assert taken.total.unknown == worst
    assert taken.total.amount == Amount(2, 10, 10) + worst
    assert taken.held == Amount()


def test_a_price_that_nobody_knows_is_told_and_a_reply_from_the_cache_is_no_such_thing():
    hand = run(price=None)
    hand.code()
    hand.ask("p", "q")
    first, second = (ask.reserved.call for ask in hand.all(do.AskModel))
    hand.settle(first, "ok", prompt_tokens=10)
    hand.settle(second, "ok", cost_usd_micro=0)

    assert tally(hand.records).total.unpriced == 1


def test_the_end_of_an_attempt_that_is_not_known_of_is_passed_over():
    event = ev.CallFailed(call=CallId(5), failure=ev.Failure(fault="server", message="m"))
    taken = Tally()
    taken.take(ev.Record(seq=0, at_s=0.0, node=ROOT, event=event))

    assert taken.total == Spent()
