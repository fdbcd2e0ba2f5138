"""Contract: core/reduces. All of every text goes in, levels shrink, and there is one result."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.core import events as ev
from abyme.core import tokens
from abyme.core.effects import Result
from abyme.core.ids import CallId
from abyme.core.jobs import Moves, Reply
from abyme.core.maps import NO_CALL
from abyme.core.reduces import ReduceJob
from abyme.core.slots import INDENT
from abyme.run import profiles

PROMPTS = profiles.load("strong").sub
MODEL = ev.ModelFacts(name="x:y", price=None, window_tokens=3_000, max_output_tokens=1_000)
TASK = ev.Task(instruction="Sum it up.")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
WORDS = "word " * 700


def job(texts, task=TASK, *, model=MODEL):
    return ReduceJob(texts, task, model, PROMPTS)


def begun(one) -> Moves:
    """What a job begins with, with all its asks made."""
    moves = one.begin()
    return Moves(list(moves.asks), moves.results)


def reply(text, call=1, *, cut=False):
    return Reply(call=CallId(call), text=text, cut=cut)


def drive(one, answer, most=1_000):
    """Answer asks until there are none; give the results and all asks."""
    todo, results, asks = [begun(one)], [], []
    while todo:
        move = todo.pop(0)
        results += move.results
        for ask in move.asks:
            asks.append(ask)
            assert len(asks) <= most
            came = answer(ask, len(asks))
            todo.append(
                one.failed(ask, CallId(len(asks)), came)
                if isinstance(came, ev.Failure)
                else one.replied(ask, came)
            )
    return results, asks


def material(ask):
    """Take the texts out of an ask again."""
    lines = f"\n{ask.text}".split("\n")
    texts = []
    for line in lines[1:]:
        if line.startswith(INDENT):
            texts[-1] += "\n" + line.removeprefix(INDENT)
        elif line:
            texts.append(line.split(". ", 1)[1])
        else:
            texts[-1] += "\n"
    return texts


def test_texts_that_fit_are_one_call():
    one = job(["a", "b\nc"])
    (ask,) = begun(one).asks
    assert (
        ask.prompt
        == "Sum it up.\n\nDo this over all of the 2 numbered texts below together: one result."
    )
    assert (ask.text, ask.positions, ask.form) == ("1. a\n2. b\n   c", (0,), None)
    assert (len(job(["a", "b\nc"]).expected()), one.expected()) == (1, [])
    assert one.replied(ask, reply("ab")) == Moves(results=[(0, Result(call=CallId(1), text="ab"))])


def test_a_single_text_is_one_call_as_well():
    results, asks = drive(job(["a"]), lambda ask, call: reply("A", call))
    assert (len(asks), results[0][1].text) == (1, "A")


def test_texts_that_do_not_fit_are_reduced_level_by_level_in_order():
    texts = [f"{n} {WORDS}" for n in range(5)]
    one = job(texts)
    results, asks = drive(one, lambda ask, call: reply(f"<{call}>", call))
    assert [len(material(ask)) for ask in asks] == [2, 2, 1, 3]
    assert asks[3].text == "1. <1>\n2. <2>\n3. <3>"
    assert asks[3].prompt == (
        "Sum it up.\n\nThe 3 numbered texts below are results of the same instruction, each over a "
        "part of the whole. Make one result of them."
    )
    assert results == [(0, Result(call=CallId(4), text="<4>"))]


def test_replies_count_by_their_place_and_not_by_their_arrival():
    one = job([f"{n} {WORDS}" for n in range(5)])
    asks = begun(one).asks
    assert one.replied(asks[2], reply("c", 1)) == Moves()
    assert one.replied(asks[0], reply("a", 2)) == Moves()
    assert one.replied(asks[1], reply("b", 3)).asks[0].text == "1. a\n2. b\n3. c"


def test_a_result_that_is_alone_in_its_group_goes_up_unasked():
    one = job([f"{n} {WORDS}" for n in range(10)])
    long = "word " * 600 + "end"
    answers = [f"{call} {long}" if call < 6 else f"short {call}" for call in range(9)]
    _, asks = drive(one, lambda ask, call: reply(answers[call], call))
    assert [len(material(ask)) for ask in asks] == [2, 2, 2, 2, 2, 2, 2, 3]
    assert material(asks[-1]) == ["short 6", "short 7", f"5 {long}"]


def test_equal_groups_are_asked_once():
    assert len(job([WORDS] * 6).expected()) == 2
    results, asks = drive(job([WORDS] * 6), lambda ask, call: reply("x", call))
    assert [ask.text[:6] for ask in asks] == ["1. wor", "1. x\n2"]
    assert asks[1].text == "1. x\n2. x\n3. x"
    assert results[0][1].text == "x"


@given(st.lists(st.text(alphabet="ab \n\r\té漢😀", max_size=3_000), min_size=1, max_size=3))
def test_a_text_that_fits_in_no_call_is_split_and_nothing_is_lost(texts):
    model = ev.ModelFacts(name="x:y", price=None, window_tokens=500, max_output_tokens=200)
    one = job(texts, model=model)
    pieces = one._pieces
    assert "".join(pieces) == "".join(texts)
    expected = one.expected()
    asks = begun(one).asks
    assert all(tokens.estimate(ask.text) <= one._room for ask in asks)
    assert all(each.prompt_tokens + 200 <= 500 for each in expected[: len(asks)])


def test_a_text_is_split_behind_paragraphs_then_lines_then_words():
    paragraphs = "\n\n".join(f"{n} " + "word " * 200 for n in range(20))
    assert all(piece.endswith("\n\n") for piece in job([paragraphs])._pieces[:-1])
    lines = "\n".join(f"{n} " + "word " * 20 for n in range(200))
    assert all(piece.endswith("\n") for piece in job([lines])._pieces[:-1])
    assert all(piece.endswith("word ") for piece in job(["word " * 5_000])._pieces[:-1])
    pieces = job(["x" * 100_000])._pieces
    assert len(pieces) > 1
    assert "".join(pieces) == "x" * 100_000


def test_very_much_text_is_planned_from_samples():
    texts = [f"{n}\n" + "some line of words\n" * 400 for n in range(600)]
    texts[300] *= 3
    one = job(texts)
    assert "".join(one._pieces) == "".join(texts)
    assert [len(piece) for piece in one._pieces if piece not in texts] != []
    assert one._pieces[:300] == texts[:300]


def test_an_instruction_that_leaves_no_room_fails():
    moves = begun(job(["a"], ev.Task(instruction="word " * 3_000)))
    ((place, result),) = moves.results
    assert (place, result.call, result.failure.fault) == (0, NO_CALL, "context_length")
    assert result.failure.message == (
        "the instruction leaves no room in the sub-model's window (3,000 tokens): shorten it"
    )
    assert moves.asks == []


def test_a_call_needs_room_for_some_characters_of_any_script():
    def room(window_tokens):
        model = ev.ModelFacts(
            name="x:y", price=None, window_tokens=window_tokens, max_output_tokens=9
        )
        one = job(["\U00012000" * 99], model=model)
        return one._room, begun(one)

    window = 1_000 - room(1_000)[0] + 64
    assert (room(window)[0], room(window - 1)[0]) == (64, 63)
    assert room(window)[1].asks != []
    assert room(window - 1)[1].results[0][1].failure.fault == "context_length"


def test_numbers_of_texts_count_as_a_part_of_the_prompt():
    (ask,) = begun(job(["a"] * 150)).asks
    real = tokens.estimate(f"{ask.prompt}\n{ask.text}")
    assert real <= ask.prompt_tokens <= 2 * real


def test_expected_calls_cover_all_levels():
    one = job([f"{n} {WORDS}" for n in range(40)])
    expected = one.expected()
    _, asks = drive(one, lambda ask, call: reply(f"{call} " + "word " * 370, call))
    assert one.expected() == []
    assert len(expected) == len(asks) == 27
    assert {each.output_tokens for each in expected} == {400}
    assert all(each.prompt_tokens <= 2_000 for each in expected)


def test_equal_inputs_give_equal_asks():
    texts = [f"{n} {WORDS}" for n in range(9)]
    assert begun(job(texts)) == begun(job(texts))
    assert job(texts).expected() == job(texts).expected()


# -- progress ----------------------------------------------------------------------


def test_results_of_which_two_fit_in_no_call_end_it_with_what_to_do():
    one = job([f"{n} {WORDS}" for n in range(4)])
    results, asks = drive(one, lambda ask, call: reply("word " * 3_000, call))
    assert len(asks) == 2
    ((_, result),) = results
    assert (result.text, result.failure.fault) == (None, "context_length")
    assert "no two of the 2 results" in result.failure.message
    assert "ask for shorter results" in result.failure.message


def test_long_results_are_taken_two_by_two_if_a_shorter_reply_leaves_room():
    one = job([f"{n} {WORDS}" for n in range(4)])
    results, asks = drive(one, lambda ask, call: reply("word " * 1_100 if call < 3 else "x", call))
    assert (len(asks), results[0][1].text) == (3, "x")


# -- a schema ----------------------------------------------------------------------


def test_a_schema_binds_the_last_call_alone():
    one = job([f"{n} {WORDS}" for n in range(4)], ev.Task(instruction="Count.", schema=SCHEMA))
    _, asks = drive(one, lambda ask, call: reply('{"n": 3}', call))
    assert [ask.form for ask in asks] == [None, None, SCHEMA]
    assert "JSON" not in asks[0].prompt
    assert asks[2].prompt.endswith(
        f"\n\nReply with JSON only. It must fit this JSON Schema:\n{json.dumps(SCHEMA)}"
    )


def test_a_value_comes_as_json_and_nothing_else():
    one = job(["a"], ev.Task(instruction="Count.", schema=SCHEMA))
    results, _ = drive(one, lambda ask, call: reply('There: ```json\n{"n":3}\n```', call))
    assert results == [(0, Result(call=CallId(1), text='{"n": 3}'))]


def test_a_reply_that_does_not_fit_is_repaired_twice_and_no_more():
    task = ev.Task(instruction="Count.", schema=SCHEMA)
    replies = ["three", '{"n": "3"}', '{"n": 3}']
    results, asks = drive(job(["a"], task), lambda ask, call: reply(replies[call - 1], call))
    assert results == [(0, Result(call=CallId(3), text='{"n": 3}'))]
    assert [ask.sample for ask in asks] == [0, 1, 2]
    assert asks[1].prompt.endswith(
        "This does not fit: the reply holds no JSON. Reply again, with JSON only."
    )
    assert asks[2].prompt.startswith(asks[0].prompt)
    assert asks[2].prompt.count("This does not fit") == 1
    results, asks = drive(job(["a"], task), lambda ask, call: reply("three", call))
    assert len(asks) == 3
    assert results[0][1].failure == ev.Failure(
        fault="bad_shape",
        message="the reply does not fit the schema, told so 2 times: the reply holds no JSON",
    )


# -- failures ----------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_failed_call_ends_all_of_it_without_a_text(at):
    failure = ev.Failure(fault="server", message="500")
    results, asks = drive(
        job([f"{n} {WORDS}" for n in range(4)]),
        lambda ask, call: failure if call == at else reply("x", call),
    )
    assert results == [(0, Result(call=CallId(at), failure=failure))]
    assert len(asks) == max(2, at)


def test_a_cut_reply_ends_all_of_it():
    results, _ = drive(job(["a"]), lambda ask, call: reply("half of", call, cut=True))
    assert (results[0][1].text, results[0][1].failure.fault) == (None, "output_cap")


def test_a_blank_reply_ends_all_of_it():
    results, _ = drive(job(["a"]), lambda ask, call: reply(" \n", call))
    assert results[0][1].failure.fault == "empty_reply"


@given(
    st.lists(st.text(max_size=20).map(lambda text: text * 60), min_size=1, max_size=12),
    st.lists(
        st.tuples(
            st.sampled_from(["x", "", '{"n": 1}', WORDS, "word " * 2_000]),
            st.sampled_from(["", "", "", "cut", "server"]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([TASK, ev.Task(instruction="?", schema=SCHEMA)]),
)
def test_whatever_is_replied_there_is_one_result_and_an_end(texts, replies, task):
    def answer(ask, call):
        text, ending = replies[call % len(replies)]
        if ending in {"", "cut"}:
            return reply(text, call, cut=ending == "cut")
        return ev.Failure(fault=ending, message="no")

    one = job(texts, task)
    results, asks = drive(job(texts, task), answer)
    ((place, result),) = results
    assert place == 0
    assert (result.text is None) is (result.failure is not None)
    assert len(asks) <= 2 * len(one._pieces) + 2
    if result.text is not None and task.schema:
        assert json.loads(result.text) == {"n": 1}
