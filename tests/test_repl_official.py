"""Contract: programs in the style of the official engine (`rlms` 0.1.3) run as they are.

Its names, signatures, `answer` dict and kinds of context; `FINAL` and `FINAL_VAR` as older
versions of it had them, but in code only. What differs is in docs/reference/repl.md.
"""

import pytest
from jail_doubles import bench

from abyme.contexts.sealed import from_value
from abyme.core.effects import Result
from abyme.core.events import Failure, Request

BOOK = "".join(f"Chapter {n}. The number of the day is {n * n}.\n" for n in range(1, 41))


@pytest.fixture(scope="module")
def jail():
    with bench(context=BOOK) as made:
        yield made


@pytest.fixture
def repl(jail):
    with jail.repl() as made:
        yield made


def answers(repl):
    return [one.value for one in repl.submitted]


def test_a_text_is_cut_into_chunks_that_go_into_prompts(repl):
    repl.bring = lambda number, request: Result(call=number, text=f"part {number}")
    finished = repl.cell(
        """
question = "Which chapter has the number 49?"
size = len(context) // 4
notes = []
for i in range(4):
    piece = context[i * size : (i + 1) * size] if i < 3 else context[3 * size :]
    found = llm_query(f"{question} Say so only if it is in this piece:\\n{piece}")
    notes.append(found)
    print(f"piece {i}: {found}")
summary = llm_query(f"{question} Put these together:\\n" + "\\n".join(notes))
answer["content"] = summary
answer["ready"] = True
"""
    )

    assert finished.error is None
    assert finished.output.splitlines()[0] == "piece 0: part 1"
    assert [one.requests[0].text for one in repl.batches] == [None] * 5
    assert sum(one.requests[0].prompt.count("Chapter") for one in repl.batches[:4]) == 40
    assert answers(repl) == ["part 5"]


def test_prompts_go_out_as_a_batch_and_come_back_in_order(repl):
    code = """
import re
rows = [row for row in context.split("\\n") if row.strip()]
chunks = ["\\n".join(rows[i : i + 10]) for i in range(0, len(rows), 10)]
prompts = [f"Name the largest number:\\n{chunk}" for chunk in chunks]
replies = llm_query_batched(prompts, model=None)
assert len(replies) == len(prompts)
for i, reply in enumerate(replies):
    print(i, re.findall(r"Chapter (\\d+)", reply)[0], type(reply).__name__)
"""
    assert repl.out(code) == "0 1 str\n1 11 str\n2 21 str\n3 31 str\n"
    assert [len(batch.requests) for batch in repl.batches] == [4]


def test_children_are_asked_with_a_prompt_alone_and_the_program_goes_on_with_their_str(repl):
    repl.bring = lambda number, request: Result(call=number, text="Going UP")
    code = """
trend = rlm_query(f"Is it up, down or stable? One word. Data: {context[:80]}")
if "up" in trend.lower():
    advice = "buy"
else:
    advice = "wait"
both = rlm_query_batched([f"Again: {advice}", "And once more"], model=None)
print(advice, both)
"""
    assert repl.out(code) == "buy ['Going UP', 'Going UP']\n"
    assert [batch.purpose for batch in repl.batches] == ["rlm", "rlm"]
    assert [one.context for batch in repl.batches for one in batch.requests] == [None] * 3


def test_a_model_is_named_by_keyword_in_each_of_the_four(repl):
    repl.out(
        'llm_query("a", model="m")\nllm_query_batched(["b"], model="m")\n'
        'rlm_query("c", model="m")\nrlm_query_batched(["d"], model="m")'
    )

    assert [batch.requests for batch in repl.batches] == [
        [Request(prompt=prompt, model="m")] for prompt in "abcd"
    ]


def test_a_list_is_walked_through_with_a_running_buffer(jail):
    own = from_value(["first section", "second section"])
    with jail.repl(context=own) as repl:
        code = """
buffer = ""
for i, section in enumerate(context):
    last = i == len(context) - 1
    buffer = llm_query(f"So far: {buffer}. Section {i}, last: {last}: {section}")
print(type(context).__name__, isinstance(context, list), context[0], buffer.count("section"))
"""
        assert repl.out(code) == "Texts True first section 2\n"
    own.close()


def test_a_dict_is_one(jail):
    own = from_value({"a.md": "alpha", "b.md": "beta"})
    with jail.repl(context=own) as repl:
        code = """
import json
if isinstance(context, dict):
    for key, value in context.items():
        print(key, len(value), isinstance(value, str))
print(sorted(context), "a.md" in context, context["b.md"], context.get("c"), len(context))
print(json.dumps(context))
"""
        assert repl.out(code) == (
            "a.md 5 True\nb.md 4 True\n['a.md', 'b.md'] True beta None 2\n"
            '{"a.md": "alpha", "b.md": "beta"}\n'
        )
    own.close()


def test_the_answer_is_made_over_several_cells_and_counts_once_it_is_ready(repl):
    repl.out('answer["content"] = "a draft"\nprint(answer)')
    repl.out('answer["content"] = f"{len(context)} characters"\nprint(answer["ready"])')
    assert answers(repl) == []

    repl.out('def finish():\n    answer["ready"] = True\nfinish()')

    assert answers(repl) == [f"{len(BOOK)} characters"]


@pytest.mark.parametrize(
    ("given", "value"), [("42", 42), ("['a', 'b']", ["a", "b"]), ("{'n': 1.5}", {"n": 1.5})]
)
def test_an_answer_need_not_be_a_str(repl, given, value):
    repl.out(f'answer["content"] = {given}\nanswer["ready"] = True')

    assert answers(repl) == [value]


def test_an_answer_dict_of_ones_own_is_taken_for_the_engines(repl):
    finished = repl.cell('answer = {"content": "mine", "ready": True}')

    assert answers(repl) == ["mine"]
    assert finished.notes == ["submitted: str, 4 characters: 'mine'"]
    assert repl.out('answer["content"]') == "'mine'\n"


def test_a_reply_called_answer_is_one_name_for_a_cell_and_the_dict_is_back_in_the_next(repl):
    repl.out('answer = llm_query("What is it?")\nprint(answer)')

    assert repl.out('answer["content"] = "found"\nanswer["ready"] = True') == ""
    assert answers(repl) == ["found"]


def test_show_vars_returns_a_str(repl):
    repl.out("found = {'a': 1}\nbuffers = ['x', 'y']")

    assert repl.out("print(SHOW_VARS())\ntype(SHOW_VARS()).__mro__[1].__name__") == (
        "found: dict[1]\nbuffers: list[2]\n'str'\n"
    )


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("found = [1, 2]\nFINAL_VAR('found')", [1, 2]),
        ("found = [1, 2]\nFINAL_VAR(' \"found\" ')", [1, 2]),
        ("found = {'a': 1}\nFINAL_VAR(found)", {"a": 1}),
        ("FINAL_VAR('It is in chapter 7.')", "It is in chapter 7."),
        ("FINAL('Paris')", "Paris"),
        ("n = 7\nFINAL(f'chapter {n}')", "chapter 7"),
        ("answer['content'] = 'kept'\nFINAL(answer)", "kept"),
    ],
)
def test_final_and_final_var_submit(repl, code, value):
    finished = repl.cell(code)

    assert (finished.error, finished.output) == (None, "")
    assert answers(repl) == [value]


def test_final_var_of_a_name_that_is_not_there_says_which_are(repl):
    repl.out("totals = {}\nlabels = []")
    finished = repl.cell("FINAL_VAR('total')")

    assert finished.error.splitlines()[-1] == (
        "NameError: no name 'total' (there are: totals, labels); for a text use submit(text)"
    )
    assert answers(repl) == []


def test_a_final_in_printed_words_is_no_answer(repl):
    repl.out("print('FINAL(42)')\nprint('FINAL_VAR(context)')\n'FINAL(\"x\")'")

    assert answers(repl) == []


def test_where_no_depth_is_left_a_child_is_a_limit_and_never_quietly_another_call(repl):
    message = "depth 1 allows no rlm_query here; use llm_query instead"
    repl.refused = Failure(fault="depth", message=message)
    code = (
        "try:\n    rlm_query('Which is the largest?')\n"
        "except LimitReached as e:\n    print(e.fault, e)"
    )

    assert repl.out(code) == f"depth {message}\n"
    assert [batch.purpose for batch in repl.batches] == ["rlm"]
