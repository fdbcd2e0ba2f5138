"""Contract: core/maps. Every position has exactly one result, and none of them is a guess."""

import json
import math
import random
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.core import events as ev
from abyme.core import schemas, shapes, slots, tokens
from abyme.core.effects import Result
from abyme.core.ids import CallId
from abyme.core.jobs import Ask, Moves, Reply
from abyme.core.maps import MOST_AGAIN, NO_CALL, MapJob
from abyme.models.response_format import is_strict
from abyme.run import profiles

PROMPTS = profiles.load("strong").sub
MODEL = ev.ModelFacts(name="x:y", price=None, window_tokens=32_000)
KINDS = ["fruit", "animal", "human being"]
LABELS = ev.Task(instruction="What is it?", labels=KINDS)
TEXTS = ev.Task(instruction="Translate.")
AGE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
AGES = ev.Task(instruction="How old?", schema=AGE)


def job(items, task=LABELS, *, model=MODEL, prompts=PROMPTS, known=None):
    return MapJob(items, task, model, prompts, known or {})


def begun(one) -> Moves:
    """What a job begins with, with all its asks made."""
    moves = one.begin()
    return Moves(list(moves.asks), moves.results)


def reply(text, *, call=1, cut=False, doubts=None):
    return Reply(call=CallId(call), text=text, cut=cut, doubts=doubts)


def values(moves: Moves):
    """By position: the value, or the fault."""
    return {
        place: json.loads(one.text) if one.failure is None else one.failure.fault
        for place, one in moves.results
    }


def read(text, count=2, task=LABELS, *, cut=False):
    """By position: what a first reply settles."""
    items = [f"item {number}" for number in range(count)]
    one = job(items, task)
    return values(one.replied(begun(one).asks[0], reply(text, cut=cut)))


def drive(one, answer):
    """Answer asks until there are none; give results by position, and all asks."""
    moves = begun(one)
    results, asks, todo = {}, [], [moves]
    while todo:
        move = todo.pop(0)
        for place, result in move.results:
            assert place not in results
            results[place] = result
        for ask in move.asks:
            asks.append(ask)
            came = answer(ask, len(asks))
            todo.append(
                one.failed(ask, CallId(len(asks)), came)
                if isinstance(came, ev.Failure)
                else one.replied(ask, came)
            )
    return results, asks


def items_of(ask: Ask):
    return re.findall(r"^\d+\. (.*)$", ask.text, re.MULTILINE)


# -- what is asked -----------------------------------------------------------------


def test_one_call_asks_for_numbered_items_with_instruction_and_labels():
    (ask,) = begun(job(["a pear", "a cat"])).asks
    assert ask.text == "1. a pear\n2. a cat"
    assert ask.prompt == (
        "What is it?\n\nDo this for each of the 2 numbered items below. Reply with "
        "one JSON object and nothing else: for each item its number as the key and as the value "
        'exactly one of these labels: "fruit", "animal", "human being". Leave no number out. '
        "Where you are in doubt, put a question mark behind the value."
    )
    assert (ask.positions, ask.sample, ask.logprobs) == ((0, 1), 0, True)


def test_slots_and_braces_in_an_instruction_stay_as_they_are():
    task = ev.Task(instruction="Fill {count} and {values} as {x}.", labels=["{count}", "b"])
    (ask,) = begun(job(["i"], task)).asks
    assert ask.prompt.startswith("Fill {count} and {values} as {x}.\n")
    assert '"{count}", "b"' in ask.prompt


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\r", "\v", "\f", "\x85", "\u2028"])
def test_an_item_of_several_lines_cannot_pose_as_another_item(break_):
    (ask,) = begun(job([f"one{break_}2. fruit", "two"])).asks
    assert ask.text == f"1. one{break_}   2. fruit\n2. two"


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_only_our_own_numbers_begin_a_line(texts):
    lines = [f"{line} " for line in slots.numbered(texts).splitlines()]
    own = [line for line in lines if re.match(r"\d", line)]
    assert [line.split(".")[0] for line in own] == [str(n) for n in range(1, len(texts) + 1)]


def test_equal_items_are_asked_once_and_all_have_the_value():
    one = job(["a", "b", "a", "a"])
    (ask,) = begun(one).asks
    assert (ask.text, ask.positions) == ("1. a\n2. b", (0, 2, 3, 1))
    moves = one.replied(ask, reply('{"1": "fruit", "2": "animal"}'))
    assert values(moves) == {0: "fruit", 1: "animal", 2: "fruit", 3: "fruit"}


def test_packs_keep_to_the_profile_to_the_task_and_to_the_output_cap():
    items = [str(number) for number in range(250)]
    sizes = [len(ask.positions) for ask in begun(job(items)).asks]
    assert sizes == [100, 100, 50]
    packed = ev.Task(instruction="?", labels=KINDS, pack=120)
    assert [len(a.positions) for a in begun(job(items, packed)).asks] == [120, 120, 10]
    small = ev.ModelFacts(name="x:y", price=None, window_tokens=32_000, max_output_tokens=200)
    asks = begun(job(items, model=small)).asks
    assert max(ask.output_tokens for ask in asks) <= 120
    assert sum(len(ask.positions) for ask in asks) == 250


def test_packs_keep_to_the_window():
    small = ev.ModelFacts(name="x:y", price=None, window_tokens=2_000, max_output_tokens=500)
    one = job([f"{n} " + "word " * 300 for n in range(10)], model=small)
    expected = one.expected()
    asks = begun(one).asks
    assert {len(ask.positions) for ask in asks} == {3, 1}
    assert all(each.prompt_tokens + 500 <= 2_000 for each in expected)
    assert [each.prompt_tokens for each in expected] == [ask.prompt_tokens for ask in asks]


def test_numbers_of_items_count_as_a_part_of_the_prompt():
    items = [chr(0x100 + number) for number in range(2_000)]
    asks = begun(job(items, ev.Task(instruction="?", labels=KINDS, pack=1_000))).asks
    real = [tokens.estimate(f"{ask.prompt}\n{ask.text}") for ask in asks]
    assert all(one <= ask.prompt_tokens <= 2 * one for one, ask in zip(real, asks, strict=True))


def test_an_item_that_fits_in_no_call_fails_with_what_to_do():
    small = ev.ModelFacts(name="x:y", price=None, window_tokens=2_000, max_output_tokens=500)
    moves = begun(job(["pear", "word " * 3_000, "cat"], model=small))
    ((place, result),) = moves.results
    assert (place, result.call, result.failure.fault) == (1, NO_CALL, "context_length")
    assert "the item has about 3," in result.failure.message
    assert "window: 2,000 tokens" in result.failure.message
    assert result.failure.message.endswith("split it")
    assert [ask.text for ask in moves.asks] == ["1. pear\n2. cat"]


def test_an_instruction_that_leaves_no_room_fails_all_items():
    small = ev.ModelFacts(name="x:y", price=None, max_output_tokens=500)
    moves = begun(job(["a", "b"], ev.Task(instruction="word " * 40_000), model=small))
    assert values(moves) == {0: "context_length", 1: "context_length"}
    assert "32,000 tokens assumed" in moves.results[0][1].failure.message
    assert moves.asks == []


def test_known_items_leave_their_packs_and_other_packs_stay_as_they_were():
    items = [str(number) for number in range(250)]
    whole = begun(job(items)).asks
    known = {n: Result(call=CallId(7), text='"fruit"') for n in range(99)}
    moves = begun(job(items, known=known))
    assert [ask.text for ask in moves.asks] == ["1. 99", whole[1].text, whole[2].text]
    assert moves.results == []


def test_an_item_equal_to_a_known_one_has_its_result():
    had = Result(call=CallId(7), text='"fruit"')
    moves = begun(job(["a", "b", "a"], known={0: had}))
    assert moves.results == [(2, had)]
    assert [ask.positions for ask in moves.asks] == [(1,)]


def test_an_item_whose_equal_has_failed_is_asked():
    failed = Result(call=CallId(7), failure=ev.Failure(fault="server", message="no"))
    moves = begun(job(["a", "a"], known={0: failed}))
    assert (moves.results, moves.asks[0].positions) == ([], (1,))


def test_expected_calls_are_those_of_the_beginning_that_are_not_asked_for_yet():
    task = ev.Task(instruction="?", labels=KINDS, samples=3)
    one = job([f"what is thing {n}?" for n in range(250)], task)
    assert [(each.calls, each.items) for each in one.expected()] == [(3, 100), (3, 100), (3, 50)]
    assert one.expected()[0].output_tokens == 100 * 9
    asks = one.begin().asks
    taken = [next(iter(asks)) for _ in range(4)]
    assert [(each.calls, each.items) for each in one.expected()] == [(1, 100), (2, 100), (2, 50)]
    taken += asks
    assert len(taken) == 9
    assert one.expected() == []


def test_asks_hold_texts_of_their_items_and_no_copies():
    items = [f"thing {n}\nmore" for n in range(3)]
    (ask,) = begun(job(items)).asks
    assert all(mine is item for mine, item in zip(ask.texts, items, strict=True))


def test_equal_inputs_give_equal_asks():
    items = [f"thing {n % 40}\nmore" for n in range(300)]
    task = ev.Task(instruction="?", schema=AGE, samples=2)
    assert begun(job(items, task)) == begun(job(items, task))
    assert job(items, task).expected() == job(items, task).expected()


# -- forms -------------------------------------------------------------------------


def test_the_form_of_labels_names_every_number_and_each_label_once():
    form = begun(job(["a", "b"])).asks[0].form
    assert form == {
        "type": "object",
        "properties": {"1": {"$ref": "#/$defs/label"}, "2": {"$ref": "#/$defs/label"}},
        "required": ["1", "2"],
        "additionalProperties": False,
        "$defs": {"label": {"type": "string", "enum": KINDS + [f"{one}?" for one in KINDS]}},
    }
    assert is_strict(form)
    assert shapes.misfit(form, {"1": "fruit", "2": "animal"}) is None
    assert shapes.misfit(form, {"1": "fruit", "2": "x"}) is not None


def test_the_form_of_texts_is_strict():
    form = begun(job(["a"], TEXTS)).asks[0].form
    assert is_strict(form)
    assert shapes.misfit(form, {"1": ""}) is None


def test_a_schema_keeps_its_references_and_names_within_the_form():
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "$ref": {"$ref": "#/$defs/value"},
            "b": {"$ref": "#/%24defs/odd~1name"},
            "c": {"$ref": "#/properties/b"},
            "d": {"enum": [{"$ref": "#/nowhere"}]},
            "e": {"$ref": "#/definitions/f"},
        },
        "$defs": {"value": {"type": "integer"}, "odd/name": {"type": "string"}},
        "definitions": {"f": {"anyOf": [{"$ref": "#/$defs/value"}, {"type": "null"}]}},
        "additionalProperties": False,
    }
    shapes.check(schema)
    form = begun(job(["a", "b"], ev.Task(instruction="?", schema=schema))).asks[0].form
    shapes.check(form)
    fits = {"$ref": 1, "b": "x", "c": "y", "d": {"$ref": "#/nowhere"}, "e": None}
    assert shapes.misfit(schema, fits) is None
    assert shapes.misfit(form, {"1": fits, "2": fits}) is None
    for name, wrong in {"$ref": "x", "b": 1, "c": 1, "d": {}, "e": "x"}.items():
        assert shapes.misfit(schema, fits | {name: wrong}) is not None
        assert shapes.misfit(form, {"1": fits | {name: wrong}, "2": fits}) is not None
    assert set(form["$defs"]) == {"value", "value_", "odd/name"}
    assert schemas.find(form, "#/$defs/value") == {"type": "integer"}


def test_a_strict_schema_stays_strict_within_the_form():
    inner = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    schema = {"$defs": {"x": inner}, "$ref": "#/$defs/x"}
    assert is_strict(begun(job(["a"], ev.Task(instruction="?", schema=schema))).asks[0].form)


def test_forms_of_very_many_labels_or_items_leave_out_what_endpoints_do_not_take():
    long = ev.Task(instruction="?", labels=[f"{n} " + "x" * 60 for n in range(300)])
    assert begun(job(["a"], long)).asks[0].form["properties"] == {"1": {"type": "string"}}
    wide = ev.ModelFacts(name="x:y", price=None, window_tokens=10**6, max_output_tokens=10**5)
    many = ev.Task(instruction="?", labels=KINDS, pack=5_000)
    form = begun(job([str(n) for n in range(2_000)], many, model=wide)).asks[0].form
    assert form["additionalProperties"] == {"$ref": "#/$defs/label"}
    assert "properties" not in form


def test_the_size_of_a_value_is_guessed_even_where_references_multiply():
    defs = {f"d{n}": {"properties": {"a": {"$ref": f"#/$defs/d{n + 1}"}, "b": {"$ref": f"#/$defs/d{n + 1}"}}} for n in range(60)}  # fmt: skip  # noqa: E501
    schema = {"$defs": {**defs, "d60": {"type": "boolean"}}, "$ref": "#/$defs/d0"}
    (each,) = job(["a"], ev.Task(instruction="?", schema=schema)).expected()
    assert each.output_tokens == 4_006


# -- what is read ------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"1": "fruit", "2": "animal"}',
        'Sure!\n```json\n{"1": "fruit",\n "2": "animal"}\n```\nDone.',
        '{1: "fruit", 2: "animal",}',
        '{"item 1": "Fruit", "[2]": "ANIMAL."}',
        '{"1. item 0": "fruit", "2) item 1": {"label": "animal"}}',
        '{"results": {"2": "animal", "1": "fruit"}}',
        '["fruit", "animal"]',
        '{"labels": ["fruit", "animal"]}',
        '[{"number": 1, "label": "fruit"}, {"item": "2", "text": "item 1", "label": "animal"}]',
        '{"number": 1, "label": "fruit"}\n{"number": 2, "label": "animal"}',
        '{"1": "fruit"}\n{"2": "animal"}',
        "1: fruit\n2: animal",
        "1. **Fruit**\n2. animal",
        "1) fruit\n2) animal",
        "1 fruit\n2 animal",
        '1: "fruit"\n2: "animal",',
        "| # | label |\n|---|---|\n| 1 | fruit |\n| 2 | animal |",
        "- [1] fruit\n- [2] animal",
        "item 1: fruit\r\nitem 2: animal\r\n",
        '{"1": "fruit", "2": "animal", "3": "animal", "0": "fruit", "999999999999": "x"}',
        'Items [1] and [2] were easy.\n{"1": "fruit", "2": "animal"}',
    ],
)  # fmt: skip
def test_a_reply_is_read_in_any_shape_that_says_which_value_is_whose(text):
    assert read(text) == {0: "fruit", 1: "animal"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fruit",
        "fruit\nanimal",
        "fruit, animal",
        '["fruit", "animal", "animal"]',
        '["fruit"]',
        '["fruit", "animal"',
        '{"1": "a fruit", "2": "anima"}',
        '{"1": null, "2": ["fruit", "animal"]}',
        '{"1": "fruit", "1": "animal"}',
        '{"1": "fruit"}\n{"1": "animal"}',
        '{"3": "fruit"}',
        "1: fruit or animal",
        "1: fruit\n1: animal",
        '{"a": "fruit", "b": "animal"}',
    ],
)
def test_what_could_only_be_guessed_settles_nothing(text):
    assert read(text) == {}


@pytest.mark.parametrize("text", ['{"1": "fruit", "2": "ani', '{"1": "fruit", "2"', "1: fruit\n2: animal"])  # fmt: skip  # noqa: E501
def test_a_reply_that_was_cut_gives_the_entries_before_the_cut(text):
    assert read(text, cut=True) == {0: "fruit"}


def test_a_number_that_was_cut_is_no_entry():
    task = ev.Task(instruction="?", schema={"type": "integer"})
    assert read('{"1": 5, "2": 12', task=task) == {0: 5}
    assert read("1: 5\n2: 12", task=task, cut=True) == {0: 5}


@pytest.mark.parametrize(
    "text", ["fruit", '"fruit"', " Fruit.\n", "```\nfruit\n```", '{"label": "fruit"}', '["fruit"]']
)
def test_a_bare_reply_is_the_value_of_a_single_item(text):
    assert read(text, 1) == {0: "fruit"}


@pytest.mark.parametrize("text", ['{"2": "fruit"}', "2: fruit", "See [1] fruit", '{"1": "fru', ""])
def test_a_bare_reply_of_another_number_or_in_prose_is_none(text):
    assert read(text, 1) == {}


def test_a_label_that_looks_like_a_number_is_a_label():
    stars = ev.Task(instruction="?", labels=["1 star", "2 stars", "star"])
    assert read("2 stars", 1, stars) == {0: "2 stars"}
    assert read("1 star", 1, stars) == {0: "1 star"}
    digits = ev.Task(instruction="?", labels=["1", "2"])
    assert read('{"1": 2, "2": "1"}', 2, digits) == {0: "2", 1: "1"}


def test_signs_that_tell_labels_apart_are_not_overlooked():
    signs = ev.Task(instruction="?", labels=["-1", "0", "C++", "c#", "A.", "a"])
    assert read('{"1": "1", "2": "C", "3": "c++.", "4": "A"}', 4, signs) == {2: "C++"}


def test_values_of_a_schema_are_taken_where_they_fit():
    text = '[{"number": 1, "age": 3}, {"number": 2, "age": "old"}]'
    assert read(text, task=AGES) == {0: {"age": 3}}
    assert read('[{"age": 3}, {"age": 4}]', task=AGES) == {0: {"age": 3}, 1: {"age": 4}}
    assert read('{"1": {"age": 3}, "2": {"value": {"age": 4}}}', task=AGES) == {
        0: {"age": 3},
        1: {"age": 4},
    }
    assert read('1: {"age": 3}\n2: age 4', task=AGES) == {0: {"age": 3}}
    assert read('It is {"age": 3}.', 1, AGES) == {0: {"age": 3}}


def test_a_wrong_value_of_the_only_item_is_not_read_as_a_bare_one():
    anything = ev.Task(instruction="?", schema={"type": "object"})
    assert read('{"1": "x"}', 1, anything) == {}
    assert read('{"x": "1"}', 1, anything) == {0: {"x": "1"}}


def test_a_schema_with_a_number_of_its_own_is_read_by_order():
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
    task = ev.Task(instruction="?", schema=schema)
    assert read('[{"id": 2}, {"id": 1}]', task=task) == {0: {"id": 2}, 1: {"id": 1}}


@pytest.mark.parametrize("text", ['{"1": NaN, "2": 1e999}', '{"1": "\\ud83d"}', '{"1": ' + "[" * 9_000])  # fmt: skip  # noqa: E501
def test_values_that_are_no_json_settle_nothing(text):
    task = ev.Task(instruction="?", schema={"type": "number"})
    assert read(text, task=task) == {}


def test_free_texts_are_read_whole():
    assert read('{"1": "eins\\nzwei", "2": 3}', task=TEXTS) == {0: "eins\nzwei", 1: "3"}
    text = "Here you are:\n\n1. eins\nund mehr\n2. zwei\n\nI hope that helps."
    assert read(text, task=TEXTS) == {0: "eins\nund mehr", 1: "zwei"}
    assert read("1. eins\n2. zwei", 1, TEXTS) == {0: "1. eins\n2. zwei"}
    assert read("eins zwei", 1, TEXTS) == {0: "eins zwei"}
    assert read('"eins"', 1, TEXTS) == {0: "eins"}
    assert read("2 apples\n1 pear", 2, TEXTS) == {}
    assert read("The ratio is\n1.5 to\n2.5", 2, TEXTS) == {}
    assert read("eins zw", 1, TEXTS, cut=True) == {}


@pytest.mark.parametrize(
    "text",
    [
        "1: a\n" * 200_000,
        "\n" * 1_000_000,
        '{"1":' * 200_000,
        '{"1":"a",x' * 100_000,
        "[" + "[]," * 300_000,
        ('{"1":"a","2":' + "[" * 1_000) * 1_000,
        "```\n" * 250_000,
        '"' * 1_000_000,
        " " * 1_000_000 + "1",
    ],
)
@pytest.mark.parametrize("count", [1, 100])
def test_a_hostile_reply_settles_nothing_and_ends(text, count):
    assert read(text, count) == {}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"1": "He said "hi" to me", "2": "ok"}', {}),
        ('{"1": "fruit" or "animal", "2": "animal"}', {}),
        ('{"1": "animal", "2": "fruit"s}', {0: "animal"}),
        ('{"1": {"label": "fruit"} is wrong, animal; "2": "animal"}', {}),
        ('{"1": "see {"2": "fruit"} there", "2": "animal"}', {}),
        ('[{"number": 1, "label": "a "b" {"number": 2, "label": "fruit"}"}]', {}),
        ('{"results": {"1": "not "fruit"", "2": "animal"}}', {}),
        ('{\n"1": "not "x"",\n"2": "ok"\n}', {}),
        ('{"1": "animal" "2": "fruit"}', {0: "animal", 1: "fruit"}),
        ('{"1": "animal" "and": "fruit"}', {}),
        ('[{"id": 1, "label": "animal"} {"id": 2, "label": "fruit"}]', {0: "animal", 1: "fruit"}),
    ],
)  # fmt: skip
def test_a_value_that_a_quote_within_it_ends_is_not_taken(text, kept):
    assert read(text, task=TEXTS) == kept


@pytest.mark.parametrize(
    "text",
    [
        "1: She lists:\n2. apples\n3. pears\n2: none",
        "1: She lists:\n2. apples",
        "1. one\n3. three",
        "2. two\n1. one",
        "1. one\n2. two\n2. more",
        "1. one",
        "1, 2: fruit",
        "item 1: a; item 2: b",
        "1: a; 2: b",
    ],
)
def test_lines_that_may_belong_to_another_text_settle_nothing(text):
    assert read(text, task=TEXTS).keys() <= (
        {0} if "hope" in text else {1} if "=" in text else set()
    )


def test_texts_on_lines_have_all_their_paragraphs_and_no_word_at_the_end():
    text = "1. eins\n\nmehr\n2. zwei"
    assert read(text, task=TEXTS) == {0: "eins\n\nmehr", 1: "zwei"}
    assert read(f"{text}\n\nI hope that helps.", task=TEXTS) == {0: "eins\n\nmehr"}
    assert read("1. eins\n2. zwei\n\nDone.", task=TEXTS) == {0: "eins", 1: "zwei"}
    assert read("1: eins\n2: zwei\n3: dr", 4, TEXTS, cut=True) == {0: "eins", 1: "zwei"}


def test_an_item_is_not_given_the_value_of_another_one():
    assert read('{"1": {"2": "fruit"}, "2": "animal"}') == {1: "animal"}
    assert read('{"1": [{"2": "fruit"}]}', task=TEXTS) == {}
    assert read("1, 2: fruit") == read("item 1: fruit; item 2: animal") == {}
    assert read('{"1.5": "fruit"}') == {}
    anything = ev.Task(instruction="?", schema={"type": "string"})
    assert read("item 1: a; item 2: b\n1: c", task=anything) == {}
    assert read('1: "a"\n2: "b"', task=anything) == {0: "a", 1: "b"}


def test_a_number_stands_for_its_text_but_none_that_is_out_of_range():
    assert read('{"1": 1.5, "2": true}', task=TEXTS) == {0: "1.5", 1: "true"}
    assert read('{"1": NaN, "2": 1e999}', task=TEXTS) == {}


# -- asking again ------------------------------------------------------------------


def test_only_what_is_missing_or_wrong_is_asked_again_and_told_why():
    one = job(["a", "b", "c", "d"])
    moves = one.replied(begun(one).asks[0], reply('{"1": "fruit", "3": "metal", "4": "steel"}'))
    assert values(moves) == {0: "fruit"}
    (again,) = moves.asks
    assert again.text == "1. b\n2. c\n3. d"
    assert again.positions == (1, 2, 3)
    assert "each of the 3 numbered items" in again.prompt
    assert again.prompt.endswith(
        "the reply was of no use: 1: no value came; 2: 'metal' is none of the labels; "
        "3: 'steel' is none of the labels."
    )
    assert again.form["required"] == ["1", "2", "3"]


def test_an_ask_that_is_repeated_is_never_an_equal_one():
    _, asks = drive(job(["a", "b"]), lambda ask, call: reply("no", call=call))
    assert [ask.sample for ask in asks] == [0, 1, 2]
    assert asks[1].prompt == asks[2].prompt


def test_after_two_more_times_an_item_fails_with_what_was_wrong_last():
    results, asks = drive(job(["a"]), lambda ask, call: reply('{"1": "rock"}', call=call))
    assert len(asks) == 3
    assert results[0].failure.fault == "bad_shape"
    message = "'rock' is none of the labels (asked 3 times)"
    assert (results[0].failure.message, results[0].call) == (message, 3)


def test_the_rest_of_a_cut_reply_is_asked_in_halves():
    one = job([str(n) for n in range(10)])
    text = '{"1": "fruit", "2": "fruit", "3": "fruit", "4": "fru'
    moves = one.replied(begun(one).asks[0], reply(text, cut=True))
    assert values(moves) == dict.fromkeys(range(3), "fruit")
    assert [ask.positions for ask in moves.asks] == [(3, 4, 5, 6), (7, 8, 9)]
    assert "1, 2, 3, 4: the reply was cut off before it" in moves.asks[0].prompt


def test_a_call_that_was_too_large_is_made_in_halves():
    one = job([str(n) for n in range(5)])
    failure = ev.Failure(fault="context_length", message="too long")
    moves = one.failed(begun(one).asks[0], CallId(1), failure)
    assert [ask.positions for ask in moves.asks] == [(0, 1, 2), (3, 4)]
    assert "been asked before" not in moves.asks[0].prompt
    results, asks = drive(job([str(n) for n in range(8)]), lambda ask, call: failure)
    assert {one.failure for one in results.values()} == {failure}
    assert len(asks) == 7


def test_a_failed_call_fails_its_items_and_no_others():
    one = job([str(n) for n in range(150)])
    first, second = begun(one).asks
    failure = ev.Failure(fault="server", message="500")
    moves = one.failed(first, CallId(3), failure)
    assert dict(moves.results) == {n: Result(call=CallId(3), failure=failure) for n in range(100)}
    assert moves.asks == []
    text = json.dumps({str(n): "fruit" for n in range(1, 51)})
    assert values(one.replied(second, reply(text))) == dict.fromkeys(range(100, 150), "fruit")


def test_a_reply_that_comes_twice_counts_once():
    one = job(["a"])
    (ask,) = begun(one).asks
    assert values(one.replied(ask, reply('{"1": "fruit"}'))) == {0: "fruit"}
    assert one.replied(ask, reply('{"1": "animal"}')) == Moves()
    assert one.replied(ask, reply("")) == Moves()


# -- votes and confidence ----------------------------------------------------------


def test_each_sample_asks_for_all_and_odd_ones_in_another_order():
    one = job(["a", "b", "c"], ev.Task(instruction="?", labels=KINDS, samples=3))
    asks = begun(one).asks
    assert [(ask.sample, items_of(ask)) for ask in asks] == [
        (0, ["a", "b", "c"]),
        (1, ["a", "c", "b"]),
        (2, ["c", "a", "b"]),
    ]
    assert [ask.positions for ask in asks] == [(0, 1, 2), (0, 2, 1), (2, 0, 1)]
    assert not any(ask.logprobs for ask in asks)


def vote(samples, replies):
    task = ev.Task(instruction="?", labels=KINDS, samples=samples)
    one = job(["a"], task)
    asks, results = begun(one).asks, []
    for number, came in replies:
        moves = (
            one.failed(asks[number], CallId(number), came)
            if isinstance(came, ev.Failure)
            else one.replied(asks[number], reply(f'{{"1": "{came}"}}', call=number))
        )
        results += moves.results
    return results


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_most_frequent_value_wins_in_whatever_order_votes_come(order):
    came = ["animal", "fruit", "fruit"]
    results = vote(3, [(n, came[n]) for n in order])
    assert results == [(0, Result(call=CallId(1), text='"fruit"', confidence=2 / 3))]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_equal_votes_the_first_sample_counts(order):
    came = ["animal", "fruit"]
    results = vote(2, [(n, came[n]) for n in order])
    assert results == [(0, Result(call=CallId(0), text='"animal"', confidence=0.5))]


def test_a_failed_sample_lowers_the_share_and_fails_nothing():
    failure = ev.Failure(fault="server", message="500")
    results = vote(2, [(0, failure), (1, "fruit")])
    assert results == [(0, Result(call=CallId(1), text='"fruit"', confidence=0.5))]
    results = vote(2, [(1, failure), (0, failure)])
    assert results == [(0, Result(call=CallId(0), failure=failure))]


def test_a_sample_is_asked_again_under_its_own_number():
    one = job(["a"], ev.Task(instruction="?", labels=KINDS, samples=3))
    asks = begun(one).asks
    (again,) = one.replied(asks[1], reply("?")).asks
    (more,) = one.replied(again, reply("?")).asks
    assert (again.sample, more.sample) == (4, 7)
    assert one.replied(more, reply("fruit")) == Moves()
    one.replied(asks[0], reply("fruit"))
    assert values(one.replied(asks[2], reply("animal"))) == {0: "fruit"}


def test_values_are_the_same_by_what_they_are_as_json():
    task = ev.Task(instruction="?", schema={"type": "object"}, samples=2)
    one = job(["a"], task)
    first, second = begun(one).asks
    one.replied(first, reply('{"1": {"a": 1, "b": 2}}'))
    ((_, result),) = one.replied(second, reply('{"1": {"b": 2, "a": 1}}')).results
    assert (result.text, result.confidence) == ('{"a": 1, "b": 2}', 1.0)


def sure(text, doubts, count=1):
    one = job([str(n) for n in range(count)])
    moves = one.replied(begun(one).asks[0], reply(text, doubts=doubts))
    return {place: result.confidence for place, result in moves.results}


def doubts_of(text, first="fruit"):
    at, last = text.index, text.index("human being")
    return [
        ev.Doubt(start=0, end=1, logprob=-3.0),
        ev.Doubt(start=at(first) - 2, end=at(first), logprob=-3.0),
        ev.Doubt(start=last - 1, end=last + 2, logprob=-0.5),
        ev.Doubt(start=at("being"), end=at("being") + 5, logprob=-0.25),
        ev.Doubt(start=at('"}'), end=at('"}') + 2, logprob=-3.0),
    ]


def test_confidence_is_the_product_of_the_unsure_tokens_that_tell_a_label_from_others():
    text = '{"1": "fruit", "2": "human being"}'
    doubts = doubts_of(text)
    assert sure(text, doubts, 2) == {0: ev.SURE, 1: math.exp(-0.5)}
    other = '{"1": "x", "2": "human being"}'
    alike = ev.Task(instruction="What?", labels=["human beast", "human being", "x"])
    one = job(["a", "b"], alike)
    (ask,) = begun(one).asks
    results = one.replied(ask, reply(other, doubts=doubts_of(other, "x"))).results
    assert dict(results)[1].confidence == math.exp(-0.75)


@pytest.mark.parametrize(
    "text",
    [
        '{"1": "fruit"}',
        '{"1": "Fruit."}',
        '{"1": " **fruit**"}',
        '{"1": {"label": "fruit"}}',
        '{"1": {"label": "fruit", "why": "it is sweet"}}',
        '{"1": ["fruit"]}',
        '[{"number": 1, "label": "fruit"}]',
        '{"id": "1", "label": "fruit"}',
        '{"label": "fruit"}',
        '["fruit"]',
        "1: fruit",
        '1: "fruit"',
        "| 1 | **fruit** |",
        "fruit",
        '"fruit"',
        "**fruit**",
        "```\nfruit\n```",
        'Sure:\n```json\n{"1": "fruit"}\n```',
    ],
)
def test_confidence_is_that_of_the_labels_own_token_wherever_it_stands(text):
    at = text.lower().index("fruit")
    doubts = [
        ev.Doubt(start=0, end=at, logprob=-1.0),
        ev.Doubt(start=at, end=at + 5, logprob=-2.0),
        ev.Doubt(start=at + 5, end=at + 6, logprob=-3.0),
    ]
    assert sure(text, doubts[at == 0 :]) == {0: math.exp(-2.0)}


@pytest.mark.parametrize(
    "text", ['{"1": {"text": "fruit", "label": "fruit"}}', '{"1": "fru\\u0069t"}', '"\\u0066ruit"']
)
def test_confidence_is_not_known_where_the_labels_token_is_not(text):
    assert sure(text, [ev.Doubt(start=0, end=len(text), logprob=-2.0)]) == {0: None}


@pytest.mark.parametrize(
    "text", ['{"1": "b"}', '{"1": "B = %s"}', '{"1": "**B**: %s"}', "1: B) %s"]
)
def test_confidence_of_a_code_is_that_of_its_letter(text):
    text = text.replace("%s", LONG[1])
    at = text.lower().index("b")
    one = job(["x"], ev.Task(instruction="What?", labels=LONG))
    doubts = [
        ev.Doubt(start=at, end=at + 1, logprob=-2.0),
        ev.Doubt(start=at + 1, end=len(text), logprob=-3.0),
    ]
    ((_, result),) = one.replied(begun(one).asks[0], reply(text, doubts=doubts)).results
    assert (json.loads(result.text), result.confidence) == (LONG[1], math.exp(-2.0))


@pytest.mark.parametrize(
    "said", ["A human being", "A = a place on earth", "D", "AB", "A, B", "B or C"]
)
def test_a_code_beside_something_else_is_none(said):
    task = ev.Task(instruction="What?", labels=LONG)
    assert read(json.dumps({"1": said}), 1, task) == {}


def test_confidence_is_not_known_without_log_probabilities():
    assert sure('{"1": "fruit"}', None) == {0: None}
    assert sure('{"1": "fruit"}', []) == {0: ev.SURE}
    one = job(["a"], AGES)
    (ask,) = begun(one).asks
    assert not ask.logprobs
    ((_, result),) = one.replied(ask, reply('{"1": {"age": 3}}', doubts=[])).results
    assert result.confidence is None


# -- whatever is replied -----------------------------------------------------------

TASKS = [
    LABELS,
    TEXTS,
    AGES,
    ev.Task(instruction="?", labels=KINDS, samples=3),
    ev.Task(instruction="?", labels=KINDS, pack=2),
]
PIECES = st.sampled_from(
    ['{"1": ', '"fruit"', ", ", '"2": ', "}", "1: fruit\n", "animal", "[", "]", "\n", '{"age": 3}',
     "3. x", "| 2 | fruit |", "```", '"', "human being", "null", "number", '"id": 1', "-1", "\\u"]
)  # fmt: skip
REPLIES = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=30)


@given(
    st.sampled_from(TASKS),
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=9),
    st.lists(st.tuples(REPLIES, st.sampled_from(["", "cut", "context_length", "server"])), min_size=1, max_size=8),  # noqa: E501
)  # fmt: skip
def test_every_position_gets_one_result_and_calls_stay_in_bounds(task, items, replies):
    def answer(ask, call):
        text, ending = replies[call % len(replies)]
        if ending in {"", "cut"}:
            return reply(text, call=call, cut=ending == "cut")
        return ev.Failure(fault=ending, message="no")

    one = job(items, task)
    first = len(begun(one).asks)
    results, asks = drive(job(items, task), answer)
    assert sorted(results) == list(range(len(items)))
    assert len(asks) <= first * (2 ** (MOST_AGAIN + 1) - 1)
    for place, result in results.items():
        assert (result.text is None) is (result.failure is not None)
        if result.text is not None and task.labels:
            assert json.loads(result.text) in KINDS
        if result.text is not None and task.schema:
            assert shapes.misfit(AGE, json.loads(result.text)) is None
        assert result == results[items.index(items[place])]


def simulated(generator, *, good):
    """Make a sub-model that is right, but not always in a shape that can be used."""

    def right(item):
        return KINDS[int(item.split()[-1]) % 3]

    def answer(ask, call):
        pairs = [(str(n), right(item)) for n, item in enumerate(items_of(ask), 1)]
        whole = json.dumps(dict(pairs))
        if generator.random() < good:
            lines = "\n".join(f"{n}. {label}" for n, label in pairs)
            return reply(generator.choice([whole, f"```json\n{whole}\n```", lines]), call=call)
        cut = whole[: generator.randrange(len(whole))]
        some = dict(pair for pair in pairs if generator.random() < 0.5)
        return generator.choice(
            [
                reply(cut, call=call, cut=True),
                reply(json.dumps(some), call=call),
                reply("I cannot do that.", call=call),
                reply(whole.replace("i", "!"), call=call),
                ev.Failure(fault="server", message="500"),
            ]
        )

    return right, answer


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("good", [0.5, 0.9, 1.0])
def test_a_sub_model_with_lapses_is_right_or_said_to_have_failed(seed, good):
    items = [f"thing {n % 120}" for n in range(240)]
    right, answer = simulated(random.Random(seed), good=good)
    results, _ = drive(job(items, ev.Task(instruction="?", labels=KINDS, pack=20)), answer)
    assert sorted(results) == list(range(240))
    for place, result in results.items():
        if result.failure is None:
            assert json.loads(result.text) == right(items[place])
        else:
            assert result.failure.fault in {"bad_shape", "server"}
    failed = sum(result.failure is not None for result in results.values())
    assert failed == 0 if good == 1.0 else failed < 240


LONG = ["a concept or a description of one", "a human being or a group of them", "a place on earth"]


def test_long_labels_are_replied_as_letters_and_come_back_as_labels():
    one = job(["x", "y", "z"], ev.Task(instruction="What?", labels=LONG))
    (ask,) = begun(one).asks

    assert 'A = "a concept or a description of one", B = ' in ask.prompt
    assert ask.form["$defs"]["label"]["enum"] == ["A", "B", "C", "A?", "B?", "C?"]
    moves = one.replied(ask, reply('{"1": "B", "2": "c", "3": "a place on earth"}'))
    assert values(moves) == {0: LONG[1], 1: LONG[2], 2: LONG[2]}


def test_a_profile_without_words_for_codes_and_doubts_has_labels_as_they_are():
    plain = msgspec.structs.replace(PROMPTS, map_codes="", map_doubt="")
    (ask,) = begun(job(["x"], ev.Task(instruction="What?", labels=LONG), prompts=plain)).asks

    assert ask.form["$defs"]["label"]["enum"] == LONG
    assert "doubt" not in ask.prompt


def test_a_label_that_is_marked_as_doubtful_has_half_the_confidence():
    one = job(["x", "y", "z"])
    (ask,) = begun(one).asks
    results = dict(
        one.replied(ask, reply('{"1": "fruit", "2": "animal?", "3": "fruit ?"}')).results
    )

    assert [json.loads(results[n].text) for n in range(3)] == ["fruit", "animal", "fruit"]
    assert [results[n].confidence for n in range(3)] == [None, 0.5, 0.5]


def test_a_doubtful_code_is_its_label():
    one = job(["x", "y"], ev.Task(instruction="What?", labels=LONG))
    (ask,) = begun(one).asks
    results = dict(one.replied(ask, reply('{"1": "A?", "2": "B"}')).results)

    assert (json.loads(results[0].text), results[0].confidence) == (LONG[0], 0.5)
    assert (json.loads(results[1].text), results[1].confidence) == (LONG[1], None)


def test_a_doubt_has_no_mark_where_a_label_ends_in_it():
    one = job(["x", "y"], ev.Task(instruction="What?", labels=["fruit", "fruit?"]))
    (ask,) = begun(one).asks
    assert "doubt" not in ask.prompt
    assert ask.form["$defs"]["label"]["enum"] == ["fruit", "fruit?"]
    results = one.replied(ask, reply('{"1": "fruit?", "2": "fruit??"}')).results
    assert [(n, json.loads(one.text), one.confidence) for n, one in results] == [
        (0, "fruit?", None)
    ]


def test_a_label_that_ends_in_a_question_mark_is_no_doubt():
    one = job(["x"], ev.Task(instruction="What?", labels=["yes", "really?"]))
    (ask,) = begun(one).asks
    ((_, result),) = one.replied(ask, reply('{"1": "really?"}')).results

    assert (json.loads(result.text), result.confidence) == ("really?", None)
