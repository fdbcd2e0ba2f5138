"""Contract: guest/cell, repl. A cell is exact CPython, and tells what it did."""

import random
import sys

import pytest
from jail_doubles import bench, needs_snapshots

UNCLOSED = (
    "json.decoder.JSONDecodeError: "
    "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
)


@pytest.fixture(scope="module")
def jail():
    with bench() as made:
        yield made


@pytest.fixture
def repl(jail):
    with jail.repl() as made:
        yield made


def changes(finished):
    return [(name.name, name.type, name.size) for name in finished.changed]


def test_a_bare_last_expression_is_echoed_and_none_is_not(repl):
    assert repl.out("x = 'it'\nx") == "'it'\n"
    assert repl.out("None") == ""
    assert repl.out("x = 1;") == ""


def test_output_errors_and_echo_share_one_stream_in_order(repl):
    code = (
        "import sys\nprint('a')\nprint('b', file=sys.stderr)\n"
        "sys.stdout.buffer.write(b'c\\n')\nsys.__stdout__.write('d\\n')\n'e'"
    )

    assert repl.out(code) == "a\nb\nc\nd\n'e'\n"


def test_names_persist_and_functions_see_globals_that_change_later(repl):
    repl.out("def outer():\n    def inner(): return GLOB\n    return inner\nGLOB = 5\nh = outer()")

    assert repl.out("GLOB = 7\nh()") == "7\n"


def test_a_global_counter_counts_over_cells(repl):
    repl.out("n = 0\ndef tick():\n    global n\n    n += 1")
    for _ in range(3):
        repl.out("tick()")

    assert repl.out("n") == "3\n"


def test_a_raising_cell_keeps_what_it_had_bound(repl):
    finished = repl.cell("x = 1\ny = [1, 2]\nprint('so far')\n1/0\nz = 3")

    assert (finished.ended, finished.output) == ("raised", "so far\n")
    assert changes(finished) == [("x", "int", None), ("y", "list", 2)]
    assert repl.out("'z' in globals(), x, y") == "(False, 1, [1, 2])\n"


def test_an_error_shows_the_models_own_frames_with_their_source(repl):
    repl.out("import json\ndef parse(s):\n    return json.loads(s)")
    error = repl.cell("value = 1\nparse('{')").error
    lines = [line for line in error.splitlines() if not set(line) <= {" ", "^", "~"}]

    assert lines == [
        "Traceback (most recent call last):",
        '  File "<cell 2>", line 2, in <module>',
        "    parse('{')",
        '  File "<cell 1>", line 3, in parse',
        "    return json.loads(s)",
        UNCLOSED,
    ]


def test_causes_and_groups_are_shown_in_full(repl):
    chained = repl.cell(
        "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ValueError('v') from e"
    )
    group = repl.cell("raise ExceptionGroup('g', [ValueError(1), KeyError('k')])")

    assert (
        "ZeroDivisionError: division by zero\n\nThe above exception was the direct" in chained.error
    )
    assert chained.error.endswith("ValueError: v\n")
    assert "ExceptionGroup: g (2 sub-exceptions)" in group.error
    assert "KeyError: 'k'" in group.error


def test_a_syntax_error_has_its_line_and_a_caret_and_no_traceback(repl):
    assert repl.cell("x = 1\ndef f(:").error == (
        '  File "<cell 1>", line 2\n    def f(:\n          ^\nSyntaxError: invalid syntax\n'
    )


def test_an_exception_that_cannot_be_shown_is_named(repl):
    code = "class Bad(Exception):\n    def __str__(self): raise RuntimeError\nraise Bad"

    assert repl.cell(code).error.endswith("Bad: <exception str() failed>\n")


def test_a_giant_error_is_cut_in_the_middle(repl):
    error = repl.cell("raise ValueError('x' * 10**6 + 'END')").error

    assert error.endswith("END\n")
    assert "characters cut" in error
    assert len(error) < 9_000


def test_top_level_await_works_with_one_loop_a_cell(repl):
    code = (
        "import asyncio\nasync def g(n):\n    await asyncio.sleep(0)\n    return n\n"
        "a = asyncio.create_task(g(1)) if False else await g(1)\nawait asyncio.gather(g(a), g(2))"
    )

    assert repl.out(code) == "[1, 2]\n"


def test_future_imports_hold_for_later_cells(repl):
    repl.out("from __future__ import annotations")

    assert repl.out("def f(a: Undefined): ...\nf.__annotations__") == "{'a': 'Undefined'}\n"


def test_main_is_a_real_module_for_dataclasses_pickle_and_typing(repl):
    code = (
        "import dataclasses, pickle, sys, typing\n"
        "@dataclasses.dataclass\nclass P:\n    x: 'int'\n"
        "pickle.loads(pickle.dumps(P(3))), typing.get_type_hints(P), "
        "vars(sys.modules['__main__']) is globals(), __name__"
    )

    assert repl.out(code) == "(P(x=3), {'x': <class 'int'>}, True, '__main__')\n"


def test_seeded_random_over_cells_is_what_plain_python_gives(repl):
    cells = [repl.out("import random\nrandom.random()") for _ in range(3)]
    plain = random.Random(7)

    assert cells == [f"{plain.random()!r}\n" for _ in range(3)]


def test_random_seeded_by_a_cell_goes_on_in_the_next(repl):
    repl.out("import random\nrandom.seed(3)")
    plain = random.Random(3)

    assert repl.out("[random.random(), random.gauss(0, 1)]") == (
        f"{[plain.random(), plain.gauss(0, 1)]!r}\n"
    )
    assert repl.out("random.gauss(0, 1)") == f"{plain.gauss(0, 1)!r}\n"


@pytest.mark.parametrize(
    "code", ["exit()", "quit()", "import sys; sys.exit()", "raise SystemExit(0)"]
)
def test_leaving_ends_the_cell_only(repl, code):
    finished = repl.cell(f"x = 4\n{code}\nx = 5")

    assert (finished.ended, finished.error) == ("clean", None)
    assert finished.notes == ["exit ended this cell only; the session and its names go on"]
    assert repl.out("x") == "4\n"


def test_leaving_with_a_code_is_an_error(repl):
    assert repl.cell("import sys\nsys.exit('bad')").error.endswith("SystemExit: bad\n")


def test_input_says_that_nobody_can_be_asked(repl):
    error = repl.cell("input('name? ')").error

    assert error.endswith(
        "EOFError: nobody can be asked here: the text is in `context`, print what you need\n"
    )


def test_deep_recursion_is_a_recursion_error(repl):
    assert "RecursionError: maximum recursion depth" in repl.cell("def f(): f()\nf()").error
    assert repl.out("1") == "1\n"


def test_a_hundred_megabytes_are_cut_to_head_and_tail_and_kept_as_last_output(repl):
    finished = repl.cell("print('a' * 50_000_000 + 'b' * 50_000_000)")

    assert finished.output == (
        "a" * 5000
        + "\n[... 99,990,001 characters cut; last_output has them ...]\n"
        + "b" * 4999
        + "\n"
    )
    assert finished.dropped_chars == 99_990_001
    assert repl.out("len(last_output), last_output[-3:]") == "(100000001, 'bb\\n')\n"


def test_many_small_writes_are_one_output(repl):
    assert repl.cell("for i in range(100_000): print(i)").dropped_chars == 578_892


def test_lone_surrogates_and_line_ends_survive_both_ways(repl):
    assert repl.out("print('\\ud800 \\r\\n \\udcff', end='')") == "\ud800 \r\n \udcff"


def test_an_opened_file_is_missing_and_a_note_says_where_the_text_is(repl):
    finished = repl.cell("open('data.txt')")

    assert finished.error.endswith(
        "FileNotFoundError: [Errno 2] No such file or directory: 'data.txt'\n"
    )
    assert finished.notes == ["files cannot be opened here: the text is already in `context`"]


NO_FILES = "files cannot be opened here: the text is already in `context`"
NO_PROGRAMS = "other programs cannot be started here: do it in Python"
NO_PROCESSES = "processes cannot be made here: threads can, and llm_query_batched asks many"
NO_NETWORK = "neither a network nor other programs are here: ask models by llm_query"


@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("import os; os.listdir('.')", NO_FILES),
        ("import pathlib; pathlib.Path('a').read_text()", NO_FILES),
        ("open('out', 'w')", NO_FILES),
        ("import tempfile; tempfile.mkdtemp()", NO_FILES),
        ("import sys; sys.modules['subprocess'].run(['ls'])", NO_PROGRAMS),
        ("import os; os.system('ls')", NO_PROGRAMS),
        ("import os; os.popen('ls')", NO_PROGRAMS),
        ("import sys; sys.modules['socket'].create_connection(('127.0.0.1', 80))", NO_NETWORK),
        ("import sys; sys.modules['urllib.request'].urlopen('http://127.0.0.1/')", NO_NETWORK),
        ("fork = PermissionError(1, 'no')\nraise fork", NO_PROCESSES),
        ("fork = PermissionError(1, 'no'); socket = fork\nraise socket", NO_NETWORK),
        ("raise FileNotFoundError('my own')", None),
        ("raise PermissionError('my own')", None),
    ],
)
def test_what_the_jail_does_not_have_is_told_in_one_line(repl, code, note):
    finished = repl.cell(code)

    assert finished.ended == "raised"
    assert finished.notes == ([note] if note else [])


A_HIT = "a hit is (name, line, text): for name, line, text in grep(...)"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("for name, line in grep('a'): pass", True),
        ("rows = search('alpha')\n[name for name, text in rows]", True),
        ("def f(found):\n    for a, b, c, d in found: pass\nf(grep('a'))", True),
        ("hit = grep('a')[0]\nhit['line']", True),
        ("grep('a')[0].group()", True),
        ("import re\nre.search('a', grep('a')[0])", True),
        ("'line: ' + grep('a')[0]", True),
        ("for a, b in [(1, 2, 3)]: pass", False),
        ("class C:\n    a, b = 1, 2, 3", False),
        ("raise ValueError", False),
        ("int('x')", False),
    ],
)
def test_who_takes_a_hit_for_something_else_is_told_what_it_is(repl, code, told):
    finished = repl.cell(code)

    assert finished.ended == "raised"
    assert finished.notes == ([A_HIT] if told else [])


def test_eval_and_exec_work_in_the_one_namespace(repl):
    assert repl.out("exec('made = 1')\neval('made + 1')") == "2\n"


def test_changed_names_come_with_type_and_size(repl):
    repl.out("kept = 1\ngrows = []\n_hidden = 2\nimport os")
    finished = repl.cell("grows.append(1)\ndef f(): ...\nclass C: ...\ntext = 'abc'\ngrep = 1")

    assert changes(finished) == [
        ("grows", "list", 1),
        ("text", "str", 3),
        ("f", "function", None),
        ("C", "class", None),
    ]


def test_what_grep_found_is_called_by_the_word_that_help_has_for_it(repl):
    assert changes(repl.cell("every = grep('a')\nfirst = every[0]")) == [
        ("every", "Hits", 3),
        ("first", "Hit", 3),
    ]


def shown(finished):
    return [name.name for name in finished.changed if not name.aside]


def aside(finished):
    return [name.name for name in finished.changed if name.aside]


@pytest.mark.parametrize(
    ("code", "shows", "leaves_out"),
    [
        ("total = 0\nfor n in range(3): total += n", ["total"], ["n"]),
        ("for i, (a, *b) in enumerate([(1, 2)]): pass", ["b"], ["i", "a"]),
        ("for hit in grep('a'): pass", [], ["hit"]),
        ("for row in [[1], [2]]: pass", ["row"], []),
        ("for line in ['x' * 201]: pass", ["line"], []),
        ("for line in ['x' * 200]: pass", [], ["line"]),
        ("for n in (1, 2): last = n\nfor last in (3, 4): pass", ["last"], ["n"]),
        ("for x in [1]: pass\nfor y in [2]: x = y", ["x"], ["y"]),
        ("xs = [found for n in range(3) if (found := n)]", ["xs"], ["found"]),
        ("while (n := len(calls)): pass", [], ["n"]),
        ("with open_() as f, open_() as (g, h): pass", ["h"], ["f", "g"]),
        ("match [1, [2]]:\n    case [p, q]: pass", ["q"], ["p"]),
        ("match [1, 2, 3]:\n    case [p, *rest]: pass", ["rest"], ["p"]),
        ("from math import pi\nfrom collections import deque as dq", [], ["pi", "dq"]),
        ("from keyword import kwlist", ["kwlist"], []),
        ("from enum import Enum\nclass E(Enum):\n    A = 1\ndef f(): pass", ["E", "f"], ["Enum"]),
        ("import math\nk = math.pi", ["k"], []),
        ("if True:\n    try:\n        for n in [1]: pass\n    finally: m = 2", ["m"], ["n"]),
        ("import asyncio\nasync def g():\n    yield 1\nasync for n in g(): pass", ["g"], ["n"]),
        ("def f():\n    global d\n    d = 1\n    for e in [1]: pass\nf()", ["d", "f"], []),
        ("class Sized:\n    def __len__(self): 1/0\nfor s in [Sized()]: pass", ["s", "Sized"], []),
    ],
)  # fmt: skip
def test_what_only_passes_through_is_journalled_and_set_aside(repl, code, shows, leaves_out):
    repl.out(
        "from contextlib import contextmanager as _c\n_t = [1, (2, [3])]\n"
        "@_c\ndef open_(): yield _t.pop(0)"
    )
    finished = repl.cell(code)

    assert finished.error is None
    assert (shown(finished), aside(finished)) == (shows, leaves_out)
    assert all(name.digest for name in finished.changed if name.type in {"int", "list", "str"})


def test_results_come_before_functions_and_what_passes_through(repl):
    finished = repl.cell("def f(): ...\nfor n in [1]: pass\nfirst = [n]\nlast = {}")

    assert [name.name for name in finished.changed] == ["first", "last", "f", "n"]


def test_a_cell_that_does_not_parse_or_raises_has_its_asides_too(repl):
    repl.out("xs = []")

    assert repl.cell("xs.append(1\nfor n in").changed == []
    assert aside(repl.cell("for n in [1]:\n    1/0")) == ["n"]


def test_a_change_inside_a_value_counts_as_one(repl):
    repl.out("counts = {'a': 1}\nuntouched = {'a': 1}")

    assert changes(repl.cell("counts['a'] += 1")) == [("counts", "dict", 1)]


def test_a_digest_tells_equal_values_from_others(repl):
    made = repl.cell("a = {'x', 1}\nb = {1, 'x'}\nc = {2, 'x'}\nimport re\nd = re.compile('x')")
    digests = {name.name: name.digest for name in made.changed}

    assert digests["a"] == digests["b"] != digests["c"]
    assert digests["d"] is None


def test_the_size_of_a_name_is_never_taken_by_the_models_own_code(repl):
    finished = repl.cell("class Odd:\n    def __len__(self): raise SystemError\nodd = Odd()")

    assert changes(finished) == [("odd", "Odd", None), ("Odd", "class", None)]


def test_engine_names_are_put_back_and_the_model_is_told(repl):
    finished = repl.cell("context = 5\ndel calls\nimport builtins\nbuiltins.len = None")

    assert finished.notes == [
        "builtins.len was put back",
        "`context` belongs to the engine and was put back",
        "`calls` belongs to the engine and was put back",
    ]
    assert repl.out("context[:5], calls, len('abc')") == "('alpha', [], 3)\n"


def test_a_thread_that_lives_on_is_kept_and_told_of(repl):
    needs_snapshots(repl)
    started = repl.cell(
        "import threading\ngo = threading.Event()\nseen = []\n"
        "t = threading.Thread(target=lambda: (go.wait(), seen.append(1)))\nt.start()"
    )

    assert started.notes == [
        "threads of this cell live on: until they end, no cell can be rolled back"
    ]
    assert repl.out("go.set()\nt.join()\nseen") == "[1]\n"
    assert repl.cell("1").notes == []


def test_processes_left_by_a_cell_are_gone_in_the_next(repl):
    needs_snapshots(repl)
    repl.out("import os, time\npid = os.fork()\nif pid == 0: time.sleep(1000)")

    assert "ProcessLookupError" in repl.cell("os.kill(pid, 0)").error


def test_a_fork_that_falls_out_of_its_cell_answers_nothing(repl):
    needs_snapshots(repl)
    assert repl.out("import os\nif os.fork() == 0: print('child')\nelse: os.wait()") == ""
    assert repl.out("1") == "1\n"


def test_two_sessions_of_one_run_share_nothing_but_the_context(jail):
    with jail.repl(seed=1) as one, jail.repl(seed=2) as two:
        one.out("x = 1")
        assert two.out("'x' in globals(), context") == "(False, 'alpha\\nbeta\\ngamma\\n')\n"


def test_set_order_is_the_same_in_every_session_of_a_run(jail):
    with jail.repl() as one, jail.repl() as two:
        code = "list({f'key{i}' for i in range(50)})"
        assert one.out(code) == two.out(code)


def test_the_interpreter_is_that_of_the_host(repl):
    assert repl.session.facts.python == ".".join(map(str, sys.version_info[:3]))
    assert repl.out("import sys, os\nsys.argv, sys.path, dict(os.environ), os.getcwd()") == (
        "([''], [], {}, '/')\n"
    )
