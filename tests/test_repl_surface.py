"""Contract: guest/surface, calls, values. What the model finds, and what it is told."""

import pytest
from jail_doubles import TEXT, bench, needs_snapshots

from abyme.contexts.sealed import from_value
from abyme.core.effects import Result
from abyme.core.events import ContextPart, Failure, Place, Request

BROKEN = Failure(fault="server", message="it broke")


@pytest.fixture(scope="module")
def jail():
    with bench() as made:
        yield made


@pytest.fixture
def repl(jail):
    with jail.repl() as made:
        yield made


def fail_some(number, request):
    if "bad" in request.prompt:
        return Result(call=number, failure=BROKEN)
    return Result(call=number, text=request.prompt.upper())


def last_line(finished):
    return finished.error.rstrip().splitlines()[-1]


def test_a_query_goes_out_with_its_text_apart_and_comes_back_as_str(repl):
    assert repl.out("llm_query('sum up', context, model='m', fresh=True)") == "'<sum up>'\n"
    assert repl.batches[0].purpose == "llm"
    assert repl.batches[0].requests == [Request(prompt="sum up", text=TEXT, model="m", fresh=True)]


def test_a_batch_keeps_its_order_and_is_one_request_to_the_host(repl):
    assert repl.out("llm_query_batched(['a', 'b'], ['x', 'y'])") == "['<a>', '<b>']\n"
    assert [len(batch.requests) for batch in repl.batches] == [2]
    assert [one.text for one in repl.batches[0].requests] == ["x", "y"]


def test_samples_are_asked_afresh_each(repl):
    assert repl.out("llm_query('v', samples=3)") == "['<v>', '<v>', '<v>']\n"
    assert [one.fresh for one in repl.batches[0].requests] == [True] * 3


def test_a_child_is_asked_with_its_own_context_or_the_parents(repl):
    repl.out("rlm_query('q', 'piece')\nrlm_query_batched(['a', 'b'])")

    assert [batch.purpose for batch in repl.batches] == ["rlm", "rlm"]
    assert [one.context for one in repl.batches[0].requests] == [ContextPart(text="piece")]
    assert [one.context for one in repl.batches[1].requests] == [None, None]


FORM = {"type": "object", "properties": {"n": {"type": "integer"}}}


def test_a_schema_goes_out_and_the_value_of_the_reply_comes_back(repl):
    repl.bring = lambda number, _: Result(call=number, text='{"n": [1, null]}')

    assert repl.out(f"llm_query('count', schema={FORM})") == "{'n': [1, None]}\n"
    assert repl.out(f"llm_query_batched(['a', 'b'], schema={FORM})[1]['n']") == "[1, None]\n"
    assert repl.out(f"llm_query('v', schema={FORM}, samples=2)[1]['n']") == "[1, None]\n"
    sent = [request for batch in repl.batches for request in batch.requests]
    assert [request.schema for request in sent] == [FORM] * 5


def test_a_reply_of_the_wrong_shape_is_a_model_error(repl):
    wrong = Failure(fault="bad_shape", message="the reply does not fit the schema: n is missing")
    repl.bring = lambda number, request: (
        Result(call=number, text="7")
        if request.prompt == "good"
        else Result(call=number, failure=wrong)
    )
    code = (
        f"try:\n    llm_query_batched(['good', 'bad'], schema={FORM})\n"
        "except BatchFailed as e:\n    print(e.results, e.errors[1], e.errors[1].fault)"
    )

    assert repl.out(code) == "[7, None] the reply does not fit the schema: n is missing bad_shape\n"
    assert last_line(repl.cell(f"llm_query('bad', schema={FORM})")) == (
        "ModelError: the reply does not fit the schema: n is missing"
    )


@pytest.mark.parametrize("text", ["no JSON", "[" * 100_000, "1" * 5_000, ""])
def test_a_reply_that_cannot_be_read_is_a_model_error_and_never_text(repl, text):
    repl.bring = lambda number, _: Result(call=number, text=text)

    finished = repl.cell(f"llm_query('q', schema={FORM})")

    assert last_line(finished) == "ModelError: the reply is no JSON that can be read here"


@pytest.mark.parametrize(
    ("schema", "error"),
    [
        ("['a']", "TypeError: schema must be a dict (JSON Schema), not list"),
        ("{'a': {1, 2}}", "ValueError: schema is not JSON: Object of type set is not JSON "),
        ("{'a': float('nan')}", "ValueError: schema is not JSON: Out of range float values "),
        ("{'a': 10**400}", "ValueError: schema is not JSON: a number of 401 digits"),
        ("{'a': 'x' * 8200}", "ValueError: schema is too large: 8,192 characters of JSON and "),
        ("DEEP", "ValueError: schema is too large: 8,192 characters of JSON and 20 levels "),
        ("ROUND", "ValueError: schema is too large: 8,192 characters of JSON and 20 levels "),
    ],
)
def test_a_schema_that_cannot_be_sent_is_told_before_anything_is(repl, schema, error):
    repl.out("DEEP = {}\nfor _ in range(20):\n    DEEP = {'a': DEEP}\nROUND = {}")
    repl.out("ROUND['a'] = ROUND")

    assert last_line(repl.cell(f"llm_query('q', schema={schema})")).startswith(error)
    assert repl.batches == []


def test_a_schema_of_twenty_levels_is_sent(repl):
    repl.bring = lambda number, _: Result(call=number, text="1")
    code = "deep = {}\nfor _ in range(19):\n    deep = {'a': deep}\nllm_query('q', schema=deep)"

    assert repl.out(code) == "1\n"


def test_a_failure_raises_and_is_never_text(repl):
    repl.bring = fail_some
    finished = repl.cell("llm_query('bad')")

    assert last_line(finished) == "ModelError: it broke"
    assert repl.out("calls") == ("[Call(call=1, prompt='bad', text=None, error='it broke')]\n")


def test_a_failed_batch_carries_every_result_and_every_error(repl):
    repl.bring = fail_some
    code = (
        "try:\n    llm_query_batched(['a', 'bad', 'c'])\n"
        "except BatchFailed as e:\n    print(e.results, e.errors)"
    )

    assert repl.out(code) == "['A', None, 'C'] {1: ModelError('it broke')}\n"
    assert repl.out("[c.text for c in calls]") == "['A', None, 'C']\n"


def test_a_refusal_of_the_whole_batch_is_a_limit(repl):
    repl.refused = Failure(fault="limit", message="this batch would cost $9 and $1 is left")

    assert last_line(repl.cell("llm_query_batched(['a', 'b'])")) == (
        "LimitReached: this batch would cost $9 and $1 is left"
    )
    assert repl.out("calls") == "[]\n"


def test_a_single_call_that_the_ledger_refused_is_a_limit_too(repl):
    failure = Failure(fault="limit", message="no calls left")
    repl.bring = lambda number, _: Result(call=number, failure=failure)

    assert last_line(repl.cell("llm_query('a')")) == "LimitReached: no calls left"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("llm_query(3)", "TypeError: prompt must be a str, not int"),
        ("llm_query('a', 5)", "TypeError: text must be a str, not int"),
        ("llm_query(' ')", "ValueError: prompt is empty"),
        ("llm_query('a', samples=0)", "ValueError: samples must be a whole number from 1, not 0"),
        (
            "llm_query_batched('abc')",
            "TypeError: prompts must be a list of str; for a single one there is llm_query",
        ),
        (
            "llm_query_batched(['a', 'b'], ['x'])",
            "ValueError: 2 prompts but 1 texts: give one for each, or one str for all",
        ),
        (
            "rlm_query_batched(['a', 'b'], ['x'])",
            "ValueError: 2 prompts but 1 contexts: give one for each, or one str for all",
        ),
        (
            "rlm_query_batched(['a'], {'x': 'y'})",
            "TypeError: contexts must be a list with one for each prompt",
        ),
        ("rlm_query('a', '')", "ValueError: context is empty; without one the child has yours"),
        (
            "rlm_query('a', 5)",
            (
                "TypeError: context must be a str, a hit of grep, or a dict or list of documents "
                "of yours, not int"
            ),
        ),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_sent(repl, code, error):
    assert last_line(repl.cell(code)) == error
    assert repl.batches == []


def test_an_empty_batch_asks_nobody(repl):
    assert repl.out("llm_query_batched([])") == "[]\n"
    assert repl.batches == []


def test_many_threads_may_wait_at_once(repl):
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    got = list(pool.map(llm_query, [str(i) for i in range(40)]))\n"
        "got == [f'<{i}>' for i in range(40)]"
    )

    assert repl.out(code) == "True\n"
    assert len(repl.batches) == 40


def test_asyncio_may_wait_in_threads(repl):
    code = (
        "import asyncio\n"
        "await asyncio.gather(*(asyncio.to_thread(llm_query, str(i)) for i in range(3)))"
    )

    assert repl.out(code) == "['<0>', '<1>', '<2>']\n"


def test_long_texts_and_large_batches_travel_in_pieces(repl):
    assert repl.out("rlm_query('q' * 5_000_000, 't' * 9_000_000)[:3]") == "'<qq'\n"
    (request,) = repl.batches[0].requests
    assert (len(request.prompt), len(request.context.text)) == (5_000_000, 9_000_000)

    assert repl.out("len(llm_query_batched(['p' * 1000] * 9000))") == "9000\n"
    assert len(repl.batches[1].requests) == 9000


def test_a_text_that_is_too_long_is_refused_with_what_to_do(repl):
    finished = repl.cell("rlm_query('q', 't' * (64 * 2**20))")

    assert last_line(finished) == (
        "ValueError: a sub-call with 67,108,865 characters is too long: 67,108,864 are allowed; "
        "split the text"
    )


def test_results_that_a_roll_back_took_come_back_with_the_next_cell(repl):
    needs_snapshots(repl)
    repl.out("llm_query('a')")
    assert repl.cell("llm_query('b')\nimport os\nos._exit(1)").ended == "rolled_back"

    finished = repl.cell("[(c.call, c.text) for c in calls]", [Result(call=2, text="<b>")])

    assert finished.output == "[(1, '<a>'), (2, '<b>')]\n"


def test_the_budget_is_what_the_host_told_last(repl):
    assert repl.out("{k: v for k, v in budget().items() if k != 'seconds'}") == (
        "{'usd': 1.0, 'calls': 10, 'tokens': 100, 'turns': 5, 'depth': 2}\n"
    )
    assert repl.out("0 < budget()['seconds'] <= 60") == "True\n"


@pytest.mark.parametrize(
    ("given", "value", "note"),
    [
        ("'yes'", "yes", "submitted: str, 3 characters: 'yes'"),
        ("0", 0, "submitted: int: 0"),
        ("False", False, "submitted: bool: false"),
        ("{2, 1}", [1, 2], "submitted: list of 2: [1, 2]"),
        ("((1, 'x'),)", [[1, "x"]], 'submitted: list of 1: [[1, "x"]]'),
        ("{1: {'a'}}", {"1": ["a"]}, 'submitted: dict of 1: {"1": ["a"]}'),
        ("collections.Counter('aab')", {"a": 2, "b": 1}, 'submitted: dict of 2: {"a": 2, "b": 1}'),
        ("type('F', (), {'item': lambda s: 2.5})()", 2.5, "submitted: float: 2.5"),
    ],
)
def test_an_answer_leaves_as_json(repl, given, value, note):
    finished = repl.cell(f"submit({given})")

    assert (finished.output, finished.error, finished.notes) == ("", None, [note])
    assert [one.value for one in repl.submitted] == [value]


@pytest.mark.parametrize(
    "given", ["None", "''", "' '", "[]", "{}", "float('nan')", "object()", "{b'': 1}"]
)
def test_what_is_no_answer_is_refused(repl, given):
    assert last_line(repl.cell(f"submit({given})")).startswith("ValueError: ")
    assert repl.submitted == []


def test_a_value_that_is_no_json_is_refused_by_its_type_and_what_to_give(repl):
    assert last_line(repl.cell("submit([object()])")) == (
        "ValueError: a value of type object is not JSON: submit str, number, bool, list or dict"
    )


def test_evidence_is_places_and_quotes(repl):
    repl.out("submit('x', evidence=[grep('bet.')[0], 'gamma', cite(grep('alpha')[0])])")

    assert repl.submitted[0].evidence == [
        Place(document=0, start=6, end=10, quote="beta"),
        "gamma",
        Place(document=0, start=0, end=5, quote="alpha"),
    ]


def test_one_hit_may_stand_for_a_list_of_one(repl):
    repl.out("submit('x', evidence=grep('beta')[0])")

    assert repl.submitted[0].evidence == [Place(document=0, start=6, end=10, quote="beta")]


def test_a_draft_of_too_many_values_is_none_and_the_session_lives(repl):
    done = repl.cell("answer['content'] = [0] * 110_001")
    assert (done.ended, done.draft) == ("clean", None)
    assert repl.cell("answer['content'] = [0] * 100_000").draft == [0] * 100_000


def test_the_official_answer_dict_submits_when_ready_and_is_the_draft_before(repl):
    assert repl.cell("1").draft is None
    assert repl.cell("answer['content'] = 'draft'").draft == "draft"
    assert repl.submitted == []

    repl.out("answer['ready'] = True")

    assert [one.value for one in repl.submitted] == ["draft"]


def test_a_cell_that_raises_does_not_submit_the_answer_dict(repl):
    repl.cell("answer['content'] = 'a'\nanswer['ready'] = True\n1/0")

    assert repl.submitted == []


def test_help_shows_real_signatures(repl):
    assert repl.out("help(rlm_query)").splitlines()[0] == (
        "rlm_query(prompt, context=None, *, model=None)"
    )
    assert "submit: Give your answer" in repl.out("help()")
    assert "Return the number of items" in repl.out("help(len)")


def test_help_says_of_grep_how_lines_count_and_that_hits_are_capped(repl):
    told = " ".join(repl.out("help(grep)").split())

    head = "grep(pattern, docs=None, limit=1000, flags=0, around=0) Find lines by a regular"
    assert told.startswith(head)
    assert "`line` counts from 1" in told
    assert "Only the first `limit` hits are returned (None: all), and a note says so" in told


def test_help_lists_what_each_name_is_for_and_not_its_type(repl):
    assert repl.out("help()").splitlines()[:5] == [
        "context: the input",
        "calls: results of all sub-calls, in order (.text, .error, .prompt)",
        "last_output: what the last cell printed, uncut",
        'answer: a draft in answer["content"]; with answer["ready"] = True it is submitted',
        "help: Explain a name, as in ``help(grep)``",
    ]


@pytest.mark.parametrize(
    ("asked", "begins"),
    [
        ("'submit'", "submit(value, evidence=())\nGive your answer"),
        ("context", "context: the input\n"),
        ("calls", "calls: results of all sub-calls"),
        ("LimitReached", "LimitReached: A budget does not allow the sub-call"),
    ],
)
def test_help_explains_names_as_well_as_functions_and_never_the_value(repl, asked, begins):
    told = repl.out(f"help({asked})")

    assert told.startswith(begins)
    assert len(told.splitlines()) < 8


def test_a_function_alone_is_shown_by_its_signature_and_without_an_address(repl):
    assert repl.out("grep") == (
        "grep(pattern, docs=None, limit=1000, flags=0, around=0): help(grep) tells more\n"
    )
    assert repl.out("print(budget, [submit])") == (
        "budget(): help(budget) tells more [submit(value, evidence=()): help(submit) tells more]\n"
    )
    assert " at 0x" not in repl.out("[one for one in globals().values() if callable(one)]")


def test_a_function_under_another_name_is_shown_after_data(repl):
    changed = repl.cell("find = grep\nrows = find('a')").changed

    assert [(one.name, one.type) for one in changed] == [("rows", "Hits"), ("find", "Function")]


def test_a_wrong_call_of_a_function_is_told_by_the_name_it_has_here(repl):
    assert last_line(repl.cell("grep('a', ignore_case=True)")) == (
        "TypeError: grep() got an unexpected keyword argument 'ignore_case'"
    )


def test_show_vars_lists_the_models_own_names(repl):
    repl.out("xs = [1, 2]\ndef f(): ...\n_private = 1")

    assert repl.out("SHOW_VARS()") == "xs: list[2]\nf: function\n"


def test_grep_and_count_find_in_the_context(repl):
    assert repl.out("[tuple(hit) for hit in grep('^[ab]')], count('a')") == (
        "([('context', 1, 'alpha'), ('context', 2, 'beta')], 5)\n"
    )


def test_a_session_may_have_a_context_of_its_own(jail):
    own = from_value({"one": "1", "two": "22"})
    with jail.repl(context=own) as repl:
        assert repl.out("dict(context.items())") == "{'one': '1', 'two': '22'}\n"
    own.close()


def test_the_answer_dict_itself_is_taken_for_its_content(repl):
    repl.out("answer['content'] = [1, 2]\nsubmit(answer)")

    assert repl.submitted[-1].value == [1, 2]
