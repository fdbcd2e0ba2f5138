"""Contract: guest/mapped and the wire of llm_map and llm_reduce. One batch, a task, values back."""

import json

import pytest
from jail_doubles import BUDGET, bench

from abyme.core.effects import Result
from abyme.core.events import Failure, Request, Task
from abyme.errors import ProtocolViolation
from abyme.sandboxes.wired import frames
from abyme.sandboxes.wired.batches import Arrived, Batches, TooMuch
from abyme.wire import HEADER, encode

LIMIT = Failure(fault="limit", message="the run has no dollars left")
SHAPE = Failure(fault="bad_shape", message="not one of\nthe labels")
PRICE = '{"calls": 3, "tokens": 900, "usd": 0.01}'
NO_VALUE = "items have no value (None; positions in .unresolved, why in .errors), the first because"
LONG = "x" * 400 + " NEEDLE " + "y" * 400


@pytest.fixture(scope="module")
def jail():
    with bench(context={"a.txt": f"one\n{LONG}\nNEEDLE here", "b.txt": "two"}) as made:
        yield made


@pytest.fixture
def repl(jail):
    with jail.repl() as made:
        made._answer = answering(made)
        made.bring = lambda number, request: value(number, request.prompt.upper(), 0.5)
        yield made


def answering(repl):
    """One result for each item, for `reduce` and for a price one in all."""

    async def answer(event):
        single = event.purpose == "reduce" or event.task.price_only
        requests = event.requests[:1] if single else event.requests
        results = [repl.bring(number, one) for number, one in enumerate(requests, 1)]
        results = [] if repl.refused else results
        await repl.session.answer(event.batch, results=results, refused=repl.refused, budget=BUDGET)

    return answer


def value(number, given, confidence=None):
    return Result(call=number, text=json.dumps(given), confidence=confidence)


def bring_some(number, request):
    """Nothing for items with a `!`."""
    if "!" in request.prompt:
        return Result(call=number, failure=SHAPE)
    return value(number, request.prompt.upper(), 0.9)


def last_line(finished):
    return finished.error.rstrip().splitlines()[-1]


def test_a_map_is_one_batch_of_items_and_a_task(repl):
    code = "llm_map(['a', 'b'], 'Which?', labels=['A', 'B'], samples=3, batch=7, model='m')"

    assert repl.out(code) == "['A', 'B']\n"
    (batch,) = repl.batches
    assert (batch.purpose, batch.requests) == ("map", [Request(prompt="a"), Request(prompt="b")])
    assert batch.task == Task(instruction="Which?", labels=["A", "B"], samples=3, pack=7, model="m")


def test_a_schema_and_freshness_travel_with_the_task(repl):
    repl.out("llm_map(['a'], 'Take apart.', schema={'type': 'object'}, fresh=True)")

    assert repl.batches[0].task == Task(
        instruction="Take apart.", schema={"type": "object"}, fresh=True
    )


def test_values_stay_aligned_with_confidence_and_what_stayed_unresolved(repl):
    repl.bring = bring_some
    repl.out("got = llm_map(['a', 'b!', '', 'c', None], 'Which?')")

    assert repl.out("got") == "['A', None, None, 'C', None]\n"
    assert repl.out("got.unresolved, got.confidence") == (
        "([1, 2, 4], [0.9, None, None, 0.9, None])\n"
    )
    assert repl.out("[(n, e.fault, str(e)) for n, e in got.errors.items()]") == (
        "[(1, 'bad_shape', 'not one of\\nthe labels'), (2, 'empty', 'the item is empty'), "
        "(4, 'empty', 'the item is empty')]\n"
    )
    assert [request.prompt for request in repl.batches[0].requests] == ["a", "b!", "c"]


def test_unresolved_items_are_told_in_one_line_and_a_whole_map_in_none(repl):
    repl.bring = bring_some

    assert repl.cell("g = llm_map(['a', 'b!', '', 'c!'], 'Which?')").notes == [
        f"llm_map: 3 of 4 {NO_VALUE}: not one of the labels"
    ]
    assert repl.cell("g = llm_map(['a', ''], 'Which?')").notes == [
        f"llm_map: 1 of 2 {NO_VALUE}: the item is empty"
    ]
    assert repl.cell("g = llm_map(['a', 'b'], 'Which?')").notes == []


def test_notes_of_many_maps_leave_room_for_others(repl):
    repl.bring = bring_some
    finished = repl.cell("for n in range(30): g = llm_map(['a', 'b!'], 'Which?')\nsubmit(g)")

    assert len(finished.notes) == 7
    assert finished.notes[5:] == [
        "llm_map: more of the same in later calls",
        'submitted: list of 2: ["A", null]',
    ]


def test_if_no_item_has_a_value_the_batch_has_failed(repl):
    repl.bring = bring_some
    code = (
        "try:\n    llm_map(['a!', 'b!'], 'Which?')\n"
        "except BatchFailed as e:\n    print(e, e.results, list(e.errors), e.fault)"
    )

    assert repl.out(code) == (
        "none of 2 items has a value, the first because: not one of the labels [None, None] "
        "[0, 1] bad_shape\n"
    )


def test_a_map_that_is_refused_whole_is_a_limit(repl):
    repl.refused = LIMIT

    assert last_line(repl.cell("llm_map(['a'], 'Which?')")) == (
        "LimitReached: the run has no dollars left"
    )
    assert repl.out("calls") == "[]\n"


def test_items_that_the_budget_did_not_reach_are_limits_beside_the_others(repl):
    repl.bring = lambda number, request: (
        value(number, "A") if number == 1 else Result(call=number, failure=LIMIT)
    )

    assert repl.out("g = llm_map(['a', 'b'], 'Which?')\ng, type(g.errors[1])") == (
        "(['A', None], <class 'LimitReached'>)\n"
    )


def test_no_items_are_an_empty_map_and_ask_nobody(repl):
    assert repl.out("g = llm_map([], 'Which?')\ng, g.unresolved, g.confidence") == "([], [], [])\n"
    assert repl.out("llm_map([], 'Which?', price_only=True)") == (
        "{'calls': 0, 'tokens': 0, 'usd': 0.0}\n"
    )
    assert repl.batches == []


def test_a_price_is_told_and_leaves_no_trace_in_calls(repl):
    repl.bring = lambda number, request: Result(call=number, text=PRICE)

    assert repl.out("llm_map(['a'], 'W', price_only=True)") == f"{json.loads(PRICE)}\n"
    assert repl.out("llm_reduce(['a'], 'W', price_only=True)") == f"{json.loads(PRICE)}\n"
    assert [batch.task.price_only for batch in repl.batches] == [True, True]
    assert repl.out("calls") == "[]\n"


def test_items_may_be_numbers_json_and_hits_with_their_whole_line(repl):
    repl.out("llm_map((x for x in [1, 2.5, True, {'é': [None]}, ('a', 2)]), 'Which?')")
    repl.out("llm_map(grep('NEEDLE'), 'Which?')")

    sent = [[request.prompt for request in batch.requests] for batch in repl.batches]
    assert sent == [["1", "2.5", "true", '{"é": [null]}', '["a", 2]'], [LONG, "NEEDLE here"]]


def test_a_hit_in_a_context_of_one_text_has_its_whole_line_too():
    with bench(context=f"one\n{LONG}\n") as jail, jail.repl() as repl:
        repl._answer = answering(repl)
        repl.bring = lambda number, request: value(number, len(request.prompt))

        assert repl.out("llm_map(grep('NEEDLE'), 'How long?')") == "[808]\n"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("llm_map('abc', 'W')", "TypeError: items must be a list, not str: such as "),
        ("llm_map(5, 'W')", "TypeError: items must be a list, not int: such as "),
        (
            "llm_map(context, 'W')",
            (
                "TypeError: items must be a list, not a mapping: give list(context.values()); "
                "values then align with list(context)"
            ),
        ),
        (
            "llm_map({'a': 'b'}, 'W')",
            "TypeError: items must be a list, not a mapping: give list(d.",
        ),
        ("llm_map(grep('NEEDLE')[0], 'W')", "TypeError: items must be a list, not Hit"),
        ("llm_map('W', ['a'])", "TypeError: instruction must be a str, not list; the items come"),
        ("llm_map(['a', b'b'], 'W')", "TypeError: items[1] is a bytes: give str, hits of grep, or"),
        ("llm_map([float('nan')], 'W')", "TypeError: items[0] is a float: give str, hits of grep,"),
        ("llm_map(['', ' '], 'W')", "ValueError: all 2 items are empty"),
        ("llm_map(['a'], ' ')", "ValueError: instruction is empty"),
        ("llm_map(['a'], 'W' * 65_537)", "ValueError: instruction has 65,537 characters, 65,536 "),
        ("llm_map(['a'], 'W', [])", "ValueError: labels has 0; give 2 to 1,000"),
        ("llm_map(['a'], 'W', ['x'])", "ValueError: labels has 1; give 2 to 1,000"),
        ("llm_map(['a'], 'W', map(str, range(1001)))", "ValueError: labels has more than 1,000; "),
        ("llm_map(['a'], 'W', ['x', 'x'])", "ValueError: the label 'x' is there twice"),
        ("llm_map(['a'], 'W', ['x', ' '])", "ValueError: a label has 1 to 200 characters: ' '"),
        ("llm_map(['a'], 'W', ['x', 1])", "TypeError: labels must be str, not int: 1"),
        ("llm_map(['a'], 'W', 'xy')", "TypeError: labels must be a list of str, or a dict: label "),
        ("llm_map(['a'], 'W', {'x': 1, 'y': 2})", "TypeError: labels as a dict say what each mea"),
        ("llm_map(['a'], 'W', ['x', 'y'], {})", "ValueError: give labels or schema, not both"),
        ("llm_map(['a'], 'W', schema=[])", "TypeError: schema must be a dict (JSON Schema), not"),
        ("llm_map(['a'], 'W', samples=0)", "ValueError: samples must be a whole number from 1 to "),
        ("llm_map(['a'], 'W', samples=100)", "ValueError: samples must be a whole number from 1 "),
        ("llm_map(['a'], 'W', batch=True)", "ValueError: batch must be a whole number from 1 to "),
        ("llm_map(['a'], 'W', model=5)", "ValueError: model must be the name of a model"),
        ("llm_map(range(100_001), 'W')", "ValueError: more than 100,000 items in one call: make "),
        (
            "llm_reduce({'a': 'b'}, 'W')",
            "TypeError: texts must be a list, not a mapping: give list(d.",
        ),
        ("llm_reduce([], 'W')", "ValueError: there is no text to reduce"),
        ("llm_reduce(['', None], 'W')", "ValueError: there is no text to reduce"),
        ("llm_reduce(['a'], None)", "TypeError: instruction must be a str, not NoneType; the "),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_sent(repl, code, error):
    assert last_line(repl.cell(code)).startswith(error)
    assert repl.batches == []


def test_calls_has_an_entry_for_each_item(repl):
    repl.bring = bring_some
    repl.out("g = llm_map(['a' * 300, 'b!'], 'Which?')")

    assert repl.out("[(c.prompt, c.text == '\"' + 'A' * 300 + '\"', c.error) for c in calls]") == (
        f"[('{'a' * 200}', True, None), ('b!', False, 'not one of\\nthe labels')]\n"
    )


def test_results_that_a_roll_back_took_come_back_with_the_next_cell(repl):
    finished = repl.cell("calls[0].text, calls[0].error", [value(4, "A", 0.25)])

    assert finished.output == "('\"A\"', None)\n"


def test_a_reduction_is_one_batch_and_gives_a_text_or_a_value(repl):
    repl.bring = lambda number, request: Result(call=number, text='{"n": 1}')

    assert repl.out("llm_reduce(['a', 'b'], 'Merge.')") == "'{\"n\": 1}'\n"
    assert repl.out("llm_reduce(['a'], 'Merge.', schema={'type': 'object'})") == "{'n': 1}\n"
    assert [batch.purpose for batch in repl.batches] == ["reduce", "reduce"]
    assert repl.batches[0].requests == [Request(prompt="a"), Request(prompt="b")]
    assert repl.batches[1].task == Task(instruction="Merge.", schema={"type": "object"})
    assert repl.out("calls[0].prompt, calls[0].text") == "('Merge.', '{\"n\": 1}')\n"


def test_empty_texts_are_left_out_of_a_reduction_and_that_is_told(repl):
    finished = repl.cell("r = llm_reduce(['a', None, 'b'], 'Merge.')")

    assert finished.notes == ["llm_reduce: 1 of 3 texts are empty and left out"]
    assert [request.prompt for request in repl.batches[0].requests] == ["a", "b"]


def test_a_single_long_text_may_be_reduced(repl):
    repl.out("r = llm_reduce(context['a.txt'], 'Sum up.')")

    assert [len(request.prompt) for request in repl.batches[0].requests] == [824]


def test_a_failed_reduction_is_a_model_error(repl):
    repl.bring = lambda number, _: Result(call=number, failure=SHAPE)

    assert "ModelError: not one of" in repl.cell("llm_reduce(['a'], 'Merge.')").error


def test_a_value_that_cannot_be_read_is_unresolved_and_never_text(repl):
    repl.bring = lambda number, _: Result(call=number, text="1" * 5_000 if number == 1 else "2")

    assert repl.out("g = llm_map(['a', 'b'], 'Which?')\ng, g.errors[0].fault") == (
        "([None, 2], 'bad_shape')\n"
    )


def test_a_mapped_copies_pickles_and_is_a_list(repl):
    repl.bring = bring_some
    repl.out("import copy, pickle\ng = llm_map(['a', 'b!'], 'Which?')")
    code = (
        "for h in (copy.copy(g), copy.deepcopy(g), pickle.loads(pickle.dumps(g))):\n"
        "    print(h, h == g, type(h).__name__, h.unresolved, h.confidence, repr(h.errors[1]))"
    )

    line = "['A', None] True Mapped [1] [0.9, None] ModelError('not one of\\nthe labels')\n"
    assert repl.out(code) == line * 3
    assert repl.out("g[:1], sorted(g, key=str), collections.Counter(g)['A']") == (
        "(['A'], ['A', None], 1)\n"
    )


def test_failures_of_every_kind_copy_and_pickle(repl):
    repl.bring = bring_some
    repl.out("try:\n    llm_map(['b!'], 'Which?')\nexcept BatchFailed as e:\n    kept = e")
    code = (
        "import copy, pickle\n"
        "[(type(e).__name__, e.results, str(e.errors[0])[:3], e.fault) "
        "for e in (copy.deepcopy(kept), pickle.loads(pickle.dumps(kept)))]"
    )

    assert repl.out(code) == f"{[('BatchFailed', [None], 'not', 'bad_shape')] * 2}\n"


def test_a_mapped_is_shown_with_its_size_and_compared_by_its_values(repl):
    made = repl.cell("g = llm_map(['a', 'b'], 'Which?')").changed[-1]
    again = repl.cell("h = llm_map(['a', 'b'], 'Which?')").changed[-1]
    repl.bring = lambda number, request: value(number, "other")
    other = repl.cell("i = llm_map(['a', 'b'], 'Which?')").changed[-1]

    assert (made.name, made.type, made.size) == ("g", "Mapped", 2)
    assert made.digest == again.digest != other.digest
    assert not made.digest.endswith("+")


def test_maps_wait_in_threads_and_under_asyncio(repl):
    code = (
        "import asyncio\n"
        "await asyncio.gather(*(asyncio.to_thread(llm_map, [x], 'Which?') for x in 'ab'))"
    )

    assert repl.out(code) == "[['A'], ['B']]\n"


def test_many_items_and_long_ones_travel_whole(repl):
    repl.bring = lambda number, request: value(number, len(request.prompt))

    assert repl.out("sum(llm_map(['p' * 1000] * 3000, 'How long?'))") == "3000000\n"
    assert repl.out("llm_map(['q' * 3_000_000, 'r'], 'How long?')") == "[3000000, 1]\n"


def test_help_says_the_real_signature_and_an_example(repl):
    lines = repl.out("help(llm_map)").splitlines()

    assert lines[0] == (
        "llm_map(items, instruction, labels=None, schema=None, *, samples=1, batch=None, "
        "model=None, fresh=False, price_only=False)"
    )
    assert '``kinds = llm_map(lines, "What is asked for?", labels=["person", "place", ' in lines[3]
    assert "llm_reduce: Make one result of texts" in repl.out("help()")


ITEM = {"prompt": "a", "text": None, "model": None, "fresh": False}
TASK = {
    "instruction": "Which?",
    "labels": ["A", "B"],
    "schema": None,
    "samples": 1,
    "pack": 0,
    "model": None,
    "fresh": False,
    "price_only": False,
}


def calls(batch=0, *, purpose="map", requests=(ITEM,), more=False, **task):
    """What a guest may send, or must not."""
    frame = {"t": "calls", "cell": 1, "batch": batch, "purpose": purpose, "more": more}
    frame["requests"] = list(requests)
    if task.pop("with_task", True):
        frame["task"] = {**TASK, **task}
    return frames.decode(encode(frame)[HEADER.size :])


def test_a_task_arrives_with_the_last_frame_of_its_batch():
    batches = Batches()

    assert batches.calls(calls(more=True, with_task=False)) is None
    assert batches.calls(calls()) == Arrived(
        [Request(prompt="a"), Request(prompt="a")], Task(instruction="Which?", labels=["A", "B"])
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"purpose": "llm"},
        {"purpose": "rlm"},
        {"with_task": False},
        {"purpose": "reduce", "with_task": False},
        {"more": True},
        {"requests": []},
        {"purpose": "reduce", "requests": [], "labels": None},
        {"purpose": "reduce"},
        {"schema": "{}"},
        {"labels": ["A", "A"]},
        {"labels": None, "schema": "[]"},
        {"labels": None, "schema": "{"},
        {"requests": [{**ITEM, "text": "t"}]},
        {"requests": [{**ITEM, "spans": [[0, 0, 1]]}]},
        {"requests": [{**ITEM, "model": "m"}]},
        {"requests": [{**ITEM, "schema": "{}"}]},
        {"requests": [{**ITEM, "fresh": True}]},
    ],
)
def test_a_task_out_of_place_is_a_violation(wrong):
    with pytest.raises(ProtocolViolation):
        Batches().calls(calls(**wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"instruction": ""},
        {"instruction": "x" * 65_537},
        {"labels": []},
        {"labels": [""]},
        {"labels": ["x" * 201]},
        {"labels": [str(n) for n in range(1_001)]},
        {"schema": " " * 8_193},
        {"samples": 0},
        {"samples": 100},
        {"pack": -1},
        {"pack": 10_001},
        {"model": "x" * 201},
        {"fresh": None},
        {"more_of_it": 1},
        {"purpose": "filter"},
    ],
)
def test_a_task_out_of_bounds_is_not_in_the_schema(wrong):
    with pytest.raises(ProtocolViolation, match="not in the schema"):
        calls(**wrong)


def test_a_piece_of_a_text_for_an_item_is_a_violation():
    batches = Batches()
    piece = {"t": "piece", "cell": 1, "batch": 0, "position": 0, "part": "text", "text": "t"}
    batches.piece(frames.decode(encode(piece)[HEADER.size :]))

    with pytest.raises(ProtocolViolation, match="more than its text"):
        batches.calls(calls())


def test_what_a_task_takes_is_counted_before_it_is_kept(monkeypatch):
    monkeypatch.setattr(frames, "MAX_OPEN_BYTES", 200_000)
    task = {"labels": None, "schema": json.dumps({"title": "x" * 8_000})}

    with pytest.raises(TooMuch):
        Batches().calls(calls(**task))
    monkeypatch.setattr(frames, "MAX_OPEN_BYTES", 210_000)
    assert len(Batches().calls(calls(**task)).requests) == 1


def test_doubtful_values_are_listed_the_most_doubtful_first(repl):
    repl.bring = lambda number, request: value(
        number, "A", {"a": 0.5, "b": 0.3}.get(request.prompt)
    )
    finished = repl.cell("g = llm_map(['x', 'a', 'b'], 'Which?')\nprint(g.unsure)")

    assert finished.output == "[2, 1]\n"
    assert finished.notes == ["llm_map: 2 of 3 values are in doubt (.unsure)"]


def test_labels_as_a_dict_say_what_each_means(repl):
    repl.out("llm_map(['a'], 'Which?', labels={'A': 'a letter', 'B': 'no letter'})")
    (asked,) = repl.batches

    assert asked.task.labels == ["A", "B"]
    assert asked.task.instruction == "Which?\n\nA: a letter\nB: no letter"


def test_doubtful_values_that_decide_the_answer_are_told_from_the_others(repl):
    sure = {"b": 0.5, "c": 0.4}
    repl.bring = lambda number, request: value(number, "no", sure.get(request.prompt, 0.9))
    code = (
        "g = llm_map(['a', 'b', 'c', ''], 'Which?', labels=['yes', 'no'])\n"
        "print(g.unsure, g.unresolved)\n"
        "print(g.deciding(lambda labels: labels.count('yes')))\n"
        "print(g.deciding(lambda labels: labels[1]), g.deciding(lambda labels: labels[0]))\n"
        "print(g)"
    )

    assert repl.out(code) == ("[2, 1] [3]\n[2, 1, 3]\n[1] []\n['no', 'no', 'no', None]\n")


def decided(repl, items, sure, code):
    """Print what `code` says of a map `g` whose values are all "no"."""
    repl.bring = lambda number, request: value(number, "no", sure.get(request.prompt, 0.9))
    return repl.out(f"g = llm_map({items!r}, 'Which?', labels=['yes', 'no', 'may'])\nprint({code})")


def test_equal_items_are_tried_together(repl):
    code = "g.deciding(lambda labels: 'no' in labels[:2])"
    assert decided(repl, ["a", "a", "b", "c"], {"a": 0.5, "c": 0.4}, code) == "[0, 1]\n"


def test_doubtful_values_that_hide_each_other_are_all_deciding(repl):
    sure = {"a": 0.5, "b": 0.4, "c": 0.6}
    code = "g.deciding(lambda labels: 'no' in labels[:2])"
    assert decided(repl, ["a", "b", "c", "d"], sure, code) == "[1, 0, 2]\n"
    code = "g.deciding(lambda labels: (labels[2], 'no' in labels[:2]))"
    assert decided(repl, ["a", "b", "c", "d"], sure, code) == "[1, 0, 2]\n"


def test_doubtful_values_that_change_nothing_together_are_not_deciding(repl):
    sure = {"a": 0.5, "b": 0.4}
    code = "g.deciding(lambda labels: 'no' in labels)"
    assert decided(repl, ["a", "b", "c"], sure, code) == "[]\n"


def test_what_only_leaving_values_out_would_change_is_deciding_too(repl):
    code = "g.deciding(lambda labels: None in labels)"
    assert decided(repl, ["a", "b"], {"a": 0.5}, code) == "[0]\n"
    code = "g.deciding(lambda labels: sorted(labels)[9:])"
    assert decided(repl, ["a", "b"], {"a": 0.5}, code) == "[]\n"


def test_too_many_doubtful_values_are_all_deciding_and_few_answers_are_made(repl):
    items = [f"n{number}" for number in range(700)]
    code = "g.deciding(lambda labels: tries.append(1)) == g.unsure, len(tries)"
    repl.cell("tries = []")
    assert decided(repl, items, dict.fromkeys(items, 0.5), code) == "True 1333\n"


def test_values_without_labels_have_no_others_to_try(repl):
    assert last_line(repl.cell("llm_map(['a'], 'Which?').deciding(len)")) == (
        "ValueError: deciding() tries other labels: give llm_map labels="
    )
