"""Contract: engine/planned. `llm_map` and `llm_reduce` as one request of a guest: priced whole
before anything is sent, each thing paid once, and every item answered or listed.
"""

import json
import re

from core_doubles import Run, facts
from msgspec import structs

from abyme.core import effects as do
from abyme.core import events as ev
from abyme.core import history
from abyme.core.ids import ROOT, BatchId
from abyme.core.ledger import Amount
from abyme.core.limits import Limits
from abyme.core.planned import MOST_OUT
from abyme.core.tree import MAX_REFUSED_CHARS

PRICE = ev.Price(input_usd_micro=1_250_000, output_usd_micro=10_000_000)
LABELS = ["fruit", "other"]


def ready(**more) -> Run:
    run = Run(**more)
    run.ready()
    run.code()
    return run


def ask(run: Run, *items: str, purpose: str = "map", batch: int = 1, cell: int = 1, **task):
    node = task.pop("node", ROOT)
    if purpose == "map":
        task = {"labels": LABELS, **task}
    event = ev.CallsRequested(
        cell=cell,
        batch=BatchId(batch),
        purpose=purpose,
        requests=[ev.Request(prompt=item) for item in items],
        task=ev.Task(**{"instruction": "Is it a fruit?", **task}),
    )
    return run.give(event, node)


def items_of(effect: do.AskModel) -> list[str]:
    return re.findall(r"^\d+\. (.*)$", effect.messages[0].content, re.MULTILINE)


def judged(effect: do.AskModel) -> str:
    """What an honest sub-model says: apples and plums are fruit."""
    fruit = ("apple", "plum")
    labels = ["fruit" if item.startswith(fruit) else "other" for item in items_of(effect)]
    return json.dumps({str(number): label for number, label in enumerate(labels, 1)})


def answer(run: Run, effect: do.AskModel, text: str | None = None) -> None:
    run.settle(effect.reserved.call, judged(effect) if text is None else text)


def values(run: Run) -> list:
    results = run.one(do.AnswerBatch).results
    return [None if one.text is None else json.loads(one.text) for one in results]


def restarted(run: Run) -> Run:
    """The process is killed, and the run goes on in another one."""
    past = history.past(run.records)
    run.tree = past.retraced.tree
    run.give(
        ev.RunResumed(
            believed=past.believed,
            limits=run.started.limits,
            carried=past.carried,
            next_call=past.next_call,
            resumed_at="2026-01-01T00:00:00+00:00",
        )
    )
    run.rebuilt()
    return run


def test_a_map_is_one_call_and_its_values_stand_where_their_items_stood():
    run = ready()
    ask(run, "apple", "stone", "plum")

    answer(run, run.one(do.AskModel))

    assert values(run) == ["fruit", "other", "fruit"]


def test_equal_items_are_asked_once():
    run = ready()
    ask(run, "apple", "stone", "apple")
    effect = run.one(do.AskModel)

    assert items_of(effect) == ["apple", "stone"]
    answer(run, effect)
    assert values(run) == ["fruit", "other", "fruit"]


def test_an_item_that_was_judged_before_is_not_asked_again():
    run = ready()
    ask(run, "apple", "stone")
    answer(run, run.one(do.AskModel))
    ask(run, "plum", "apple", batch=2)
    effect = run.one(do.AskModel)

    assert items_of(effect) == ["plum"]
    answer(run, effect)
    assert values(run) == ["fruit", "fruit"]


def test_another_instruction_is_another_question():
    run = ready()
    ask(run, "apple")
    answer(run, run.one(do.AskModel))
    ask(run, "apple", batch=2, instruction="Is it sweet?")

    assert items_of(run.one(do.AskModel)) == ["apple"]


def test_fresh_asks_again():
    run = ready()
    ask(run, "apple", fresh=True)
    answer(run, run.one(do.AskModel))
    ask(run, "apple", batch=2, fresh=True)

    assert items_of(run.one(do.AskModel)) == ["apple"]
    assert run.one(do.AskModel).fresh


def test_the_same_map_from_two_threads_is_paid_once():
    run = ready()
    ask(run, "apple")
    effect = run.one(do.AskModel)
    assert ask(run, "apple", batch=2) == []

    answer(run, effect)

    assert [one.batch for one in run.all(do.AnswerBatch)] == [1, 2]


def test_items_that_are_missing_are_asked_for_again_and_only_they():
    run = ready()
    ask(run, "apple", "stone", "plum")
    answer(run, run.one(do.AskModel), '{"1": "fruit", "3": "maybe"}')
    again = run.one(do.AskModel)

    assert items_of(again) == ["stone", "plum"]
    answer(run, again)
    assert values(run) == ["fruit", "other", "fruit"]


def test_an_item_that_stays_without_a_value_fails_and_the_others_do_not():
    run = ready()
    ask(run, "apple", "stone")
    answer(run, run.one(do.AskModel), '{"1": "fruit"}')
    while effects := run.all(do.AskModel):
        answer(run, effects[0], "no idea")
    results = run.one(do.AnswerBatch).results

    assert json.loads(results[0].text) == "fruit"
    assert results[1].failure.fault == "bad_shape"


def test_a_map_that_costs_more_than_is_left_is_refused_whole_with_its_price():
    run = ready(
        root=facts("a:root", PRICE), sub=facts("a:sub", PRICE), limits=Limits(max_usd="0.30")
    )
    ask(run, *(f"{number} " + "apple " * 200 for number in range(800)))
    refused = run.one(do.AnswerBatch).refused

    assert run.all(do.AskModel) == []
    assert refused.fault == "limit"
    assert "nothing was sent: 800 items in " in refused.message
    assert 0 < refused.refusal.fit < 800


def test_a_price_is_told_without_a_call_even_if_it_is_more_than_there_is():
    run = ready(
        root=facts("a:root", PRICE), sub=facts("a:sub", PRICE), limits=Limits(max_usd="0.30")
    )
    ask(run, *(f"{number} " + "apple " * 200 for number in range(1600)), price_only=True)
    told = run.one(do.AnswerBatch)
    price = json.loads(told.results[0].text)

    assert run.all(do.AskModel) == []
    assert told.refused is None
    assert price["calls"] >= 8
    assert price["usd"] > 0.30
    assert run.tree.book.expected_open() == Amount()


def test_the_user_is_asked_before_an_expensive_map():
    run = ready(
        root=facts("a:root", PRICE), sub=facts("a:sub", PRICE), limits=Limits(confirm_usd="0.01")
    )
    ask(run, *(f"{number} " + "apple " * 50 for number in range(400)))
    confirm = run.one(do.Confirm)

    assert run.all(do.AskModel) == []
    assert confirm.calls >= 4
    run.give(ev.BatchConfirmed(batch=BatchId(1), allowed=True))
    assert len(run.all(do.AskModel)) == confirm.calls


def test_what_the_ledger_cuts_off_keeps_what_came_before():
    run = ready(
        root=facts("a:root", PRICE), sub=facts("a:sub", PRICE), limits=Limits(max_usd="0.30")
    )
    ask(run, *(f"apple {number}" for number in range(12)), pack=1)
    first, *others = run.all(do.AskModel)
    assert 0 < len(others) < 11
    run.settle(first.reserved.call, judged(first), cost_usd_micro=280_000)
    for effect in others:
        answer(run, effect)
    results = run.one(do.AnswerBatch).results

    assert [one.text for one in results[: len(others) + 1]] == ['"fruit"'] * (len(others) + 1)
    assert {one.failure.fault for one in results[len(others) + 1 :]} == {"limit"}


def test_votes_that_were_paid_for_are_not_asked_again_after_a_kill():
    run = ready()
    ask(run, "apple", "stone", samples=3, fresh=True)
    first, *others = run.all(do.AskModel)
    assert len(others) == 2
    answer(run, first)
    restarted(run)
    ask(run, "apple", "stone", samples=3, fresh=True)
    left = run.all(do.AskModel)

    assert len(left) == 2
    for effect in left:
        answer(run, effect)
    assert values(run) == ["fruit", "other"]
    assert [one.confidence for one in run.one(do.AnswerBatch).results] == [1.0, 1.0]


def test_packs_that_were_paid_for_are_not_asked_again_after_a_kill():
    run = ready()
    ask(run, "apple", "stone", "plum", "rock", pack=2)
    first, _ = run.all(do.AskModel)
    answer(run, first)
    restarted(run)
    ask(run, "apple", "stone", "plum", "rock", pack=2)
    effect = run.one(do.AskModel)

    assert items_of(effect) == ["plum", "rock"]
    answer(run, effect)
    assert values(run) == ["fruit", "other", "fruit", "other"]


def test_a_cell_that_ends_takes_its_map_along():
    run = ready()
    ask(run, "apple", "stone", pack=1)
    asked = run.all(do.AskModel)
    run.done()

    assert [one.call for one in run.all(do.CancelCall)] == [one.reserved.call for one in asked]


def test_texts_are_reduced_level_by_level_and_each_level_is_paid_once():
    run = ready(sub=facts("a:sub", window_tokens=2_000))
    texts = [f"{number} " + "word " * 500 for number in range(6)]
    ask(run, *texts, purpose="reduce", instruction="Sum it up.")
    first = run.all(do.AskModel)
    assert len(first) > 1
    for effect in first:
        answer(run, effect, "a part")
    (last,) = run.all(do.AskModel)
    restarted(run)
    ask(run, *texts, purpose="reduce", instruction="Sum it up.")
    again = run.one(do.AskModel)

    assert again.messages[0].content.count("a part") == last.messages[0].content.count("a part")
    answer(run, again, "the whole")
    (result,) = run.one(do.AnswerBatch).results
    assert result.text == "the whole"


def test_a_label_that_the_model_was_unsure_of_has_a_low_confidence():
    run = ready()
    ask(run, "apple", "stone")
    effect = run.one(do.AskModel)
    text = '{"1": "fruit", "2": "other"}'
    at = text.index("other")
    run.give(
        ev.CallSettled(
            call=effect.reserved.call,
            text=text,
            finish="stop",
            usage=ev.Usage(),
            doubts=[ev.Doubt(start=at, end=at + 5, logprob=-0.6931471805599453)],
        )
    )
    sure, unsure = (one.confidence for one in run.one(do.AnswerBatch).results)

    assert effect.logprobs
    assert sure > 0.98
    assert round(unsure, 3) == 0.5


def test_a_map_needs_no_depth_for_children():
    run = ready(limits=Limits(depth=1))
    ask(run, "apple")

    assert len(run.all(do.AskModel)) == 1


def test_a_price_is_no_result_that_a_roll_back_gives_back():
    run = ready()
    ask(run, "apple", price_only=True)
    run.done(ended="rolled_back")
    run.reply("```repl\nx\n```")

    assert run.one(do.RunCell).restore == ()


def test_prices_alone_fill_the_journal_only_up_to_a_bound():
    run = ready()
    priced = ev.CallsRequested(
        cell=1,
        batch=BatchId(1),
        purpose="map",
        requests=[ev.Request(prompt="apple " * 200_000)],
        task=ev.Task(instruction="Is it a fruit?", labels=LABELS, price_only=True),
    )
    asked = 0
    while not run.tree.throws_away("0", priced):
        run.give(priced)
        asked += 1

    assert asked == MAX_REFUSED_CHARS // 1_200_000 + 1
    assert not run.tree.throws_away("0", structs.replace(priced, task=ev.Task(instruction="x")))


def test_calls_of_a_large_map_are_made_as_others_settle_and_the_rest_stays_promised():
    run = ready(root=facts("a:root", PRICE), sub=facts("a:sub", PRICE), limits=Limits(max_usd=100))
    items = [f"apple {number}" for number in range(MOST_OUT + 2)]
    ask(run, *items, pack=1)
    asked = run.all(do.AskModel)

    assert len(asked) == MOST_OUT
    assert run.tree.book.expected_open().calls == MOST_OUT + 2
    answer(run, asked[0])
    asked += run.all(do.AskModel)
    assert items_of(asked[-1]) == [f"apple {MOST_OUT}"]
    for number in range(1, MOST_OUT + 2):
        answer(run, asked[number])
        asked += run.all(do.AskModel)
    assert values(run) == ["fruit"] * len(items)
    assert run.tree.book.expected_open() == Amount()


def test_a_cell_that_ends_takes_back_what_its_map_had_promised():
    run = ready()
    ask(run, *(f"apple {number}" for number in range(MOST_OUT + 2)), pack=1)
    assert run.tree.book.expected_open().calls == MOST_OUT + 2
    run.done()

    assert run.tree.book.expected_open().calls == MOST_OUT  # which are cancelled, not settled


def test_a_map_that_is_cut_off_leaves_its_question_to_whoever_asks_it_again():
    run = ready()
    ask(run, "apple")
    first = run.one(do.AskModel).reserved.call
    run.done()
    run.reply("```repl\nx\n```")
    ask(run, "apple", batch=2, cell=2)
    again = run.one(do.AskModel)

    assert again.reserved.call != first
    answer(run, again)
    assert values(run) == ["fruit"]


def test_a_map_goes_on_for_the_other_thread_that_asks_the_same():
    run = ready()
    ask(run, "apple", "stone", pack=1)
    first, second = run.all(do.AskModel)
    answer(run, first)
    assert ask(run, "apple", "stone", pack=1, batch=2) == []
    answer(run, second)

    assert [len(one.results) for one in run.all(do.AnswerBatch)] == [2, 2]


def test_samples_that_two_threads_ask_for_at_different_times_are_paid_once():
    run = ready()
    ask(run, "apple", samples=3)
    first, *others = run.all(do.AskModel)
    answer(run, first)
    assert ask(run, "apple", samples=3, batch=2) == []
    for effect in others:
        answer(run, effect)

    assert [one.batch for one in run.all(do.AnswerBatch)] == [1, 2]


def test_a_map_that_was_refused_counts_an_item_once_and_only_with_all_its_votes():
    run = ready(
        root=facts("a:root", PRICE), sub=facts("a:sub", PRICE), limits=Limits(max_usd="0.30")
    )
    items = [f"{number} " + "apple " * 200 for number in range(300)]
    ask(run, *items, samples=3, pack=10)
    refused = run.one(do.AnswerBatch).refused
    assert refused.message.startswith("nothing was sent: 300 items in 90 calls are expected")
    fit = refused.refusal.fit
    assert fit % 10 == 0

    ask(run, *items[: fit + 10], samples=3, pack=10, batch=2)
    assert run.one(do.AnswerBatch).refused is not None
    ask(run, *items[:fit], samples=3, pack=10, batch=3)
    assert run.all(do.AnswerBatch) == []


def test_more_votes_than_a_million_are_refused_in_words():
    run = ready()
    ask(run, *(str(number) for number in range(10_102)), samples=99, price_only=True)

    assert run.one(do.AnswerBatch).refused.message == (
        "10,102 items and 99 samples of each are 1,000,098 values to ask for, more than "
        "1,000,000: give fewer"
    )


def fail_twice_more(run: Run, effect: do.AskModel, text: str) -> None:
    answer(run, effect, text)
    while effects := run.all(do.AskModel):
        answer(run, effects[0], text)


def test_an_item_that_failed_is_asked_anew_when_it_comes_again():
    run = ready()
    ask(run, "apple", "stone", samples=2)
    for effect in run.all(do.AskModel):
        fail_twice_more(run, effect, '{"9": "fruit"}')
    assert values(run) == [None, None]
    ask(run, "apple", "stone", samples=2, batch=2)
    asked = run.all(do.AskModel)

    assert [effect.fresh for effect in asked] == [True, True]
    for effect in asked:
        answer(run, effect)
    assert values(run) == ["fruit", "other"]


def test_a_reply_that_was_cut_does_not_answer_a_later_map():
    run = ready()
    ask(run, "apple")
    for _ in range(3):
        call = run.one(do.AskModel).reserved.call
        run.give(ev.CallSettled(call=call, text='{"1": "fr', finish="length", usage=ev.Usage()))
    assert values(run) == [None]
    ask(run, "apple", batch=2)

    answer(run, run.one(do.AskModel))
    assert values(run) == ["fruit"]


def test_what_was_asked_again_before_a_kill_is_asked_again_after_it_and_not_from_the_start():
    run = ready()
    ask(run, "apple", "stone")
    answer(run, run.one(do.AskModel), '{"1": "fruit", "2": "pebble"}')
    again = run.one(do.AskModel)
    restarted(run)
    ask(run, "apple", "stone")
    effect = run.one(do.AskModel)

    assert "'pebble' is none of the labels" in effect.messages[0].content
    assert items_of(effect) == items_of(again) == ["stone"]
    answer(run, effect)
    assert values(run) == ["fruit", "other"]


def test_a_price_after_a_kill_is_that_of_what_is_left():
    run = ready()
    ask(run, "apple", "stone", "plum", "rock", pack=1, samples=2)
    for effect in run.all(do.AskModel)[:3]:
        answer(run, effect)
    restarted(run)
    ask(run, "apple", "stone", "plum", "rock", pack=1, samples=2, batch=2, price_only=True)
    assert json.loads(run.one(do.AnswerBatch).results[0].text)["calls"] == 5
    ask(run, "apple", "stone", "plum", "rock", pack=1, samples=2)

    assert len(run.all(do.AskModel)) == 5


def test_equal_items_in_calls_of_another_size_are_not_paid_again():
    run = ready()
    ask(run, "apple", "stone", pack=2)
    answer(run, run.one(do.AskModel))

    ask(run, "apple", "stone", pack=1, batch=2)
    assert values(run) == ["fruit", "other"]


def test_prices_of_calls_of_another_size_are_told_apart_after_a_kill():
    one = ready()
    ask(one, "apple", "stone", pack=2, price_only=True)
    ask(one, "apple", "stone", pack=1, batch=2, price_only=True)
    restarted(one)
    ask(one, "apple", "stone", pack=1, price_only=True)

    assert json.loads(one.one(do.AnswerBatch).results[0].text)["calls"] == 2


def test_an_equal_reduction_is_not_paid_again():
    run = ready()
    ask(run, "a", "b", purpose="reduce", instruction="Sum it up.")
    answer(run, run.one(do.AskModel), "ab")
    ask(run, "a", "b", purpose="reduce", instruction="Sum it up.", batch=2)

    (result,) = run.one(do.AnswerBatch).results
    assert result.text == "ab"


def test_a_reduction_that_failed_on_its_last_level_does_not_pay_the_first_again():
    run = ready(sub=facts("a:sub", window_tokens=2_000))
    texts = [f"{number} " + "word " * 500 for number in range(6)]
    ask(run, *texts, purpose="reduce", instruction="Sum it up.", price_only=True)
    calls = json.loads(run.one(do.AnswerBatch).results[0].text)["calls"]
    ask(run, *texts, purpose="reduce", instruction="Sum it up.")
    first = run.all(do.AskModel)
    for effect in first:
        answer(run, effect, "a part")
    run.fail(run.one(do.AskModel).reserved.call, "bad_request")
    assert run.one(do.AnswerBatch).results[0].failure.fault == "bad_request"
    ask(run, *texts, purpose="reduce", instruction="Sum it up.", batch=2, price_only=True)
    left = json.loads(run.one(do.AnswerBatch).results[0].text)["calls"]
    assert left == calls - len(first) > 0
    ask(run, *texts, purpose="reduce", instruction="Sum it up.", batch=3)

    assert len(first) > 1
    assert run.one(do.AskModel).messages[0].content.count(". a part") == len(first)


def test_a_call_that_nobody_waits_for_any_more_is_owned_by_no_job():
    run = ready()
    ask(run, "apple", "stone", pack=1)
    first, second = run.all(do.AskModel)
    planned = run.tree._sub.planned
    assert planned.owns(first.reserved.call)
    run.done()

    assert not planned.owns(first.reserved.call)
    assert not planned.owns(second.reserved.call)
    answer(run, first)  # late
    assert run.effects == []


def test_after_a_kill_calls_have_the_size_that_is_asked_for_then():
    run = ready()
    ask(run, "apple", "stone", pack=1)
    assert len(run.all(do.AskModel)) == 2
    restarted(run)
    ask(run, "apple", "stone", pack=2)

    assert items_of(run.one(do.AskModel)) == ["apple", "stone"]


def test_calls_go_on_for_a_node_that_asked_the_same_when_the_first_one_ends():
    run = ready(limits=Limits(depth=3))
    run.ask("look", purpose="rlm")
    child = run.one(do.OpenSession).node
    run.ready(child)
    run.reply("```repl\nx\n```", child)
    ask(run, "apple", node=child)
    effect = run.one(do.AskModel)
    assert ask(run, "apple", batch=2) == []
    run.done(node=child)
    assert run.all(do.CancelCall) == []

    answer(run, effect)
    assert run.one(do.AnswerBatch).batch == 2
    assert values(run) == ["fruit"]
