"""Contract: guest/ground, guest/paths and guest/unraised, as far as a cell and a model see them."""

import sys
from pathlib import Path

import pytest
from jail_doubles import bench

import abyme


@pytest.fixture(scope="module")
def jail():
    with bench() as made:
        yield made


@pytest.fixture
def repl(jail):
    with jail.repl() as made:
        yield made


def test_what_the_engine_stands_on_is_put_back_and_the_model_is_told(repl):
    finished = repl.cell("import json, time\njson.dumps = time.monotonic = None")

    assert finished.notes == ["json.dumps was put back", "time.monotonic was put back"]
    assert repl.out("json.dumps({'a': 1})") == "'{\"a\": 1}'\n"


def test_what_only_the_models_own_calls_use_stays_as_the_cell_made_it(repl):
    assert repl.cell("import re\nre.compile = 7").notes == []
    assert repl.out("re.compile") == "7\n"


def test_a_namespace_gets_its_builtins_again(repl):
    repl.cell("__builtins__ = None")

    assert repl.out("len('abc')") == "3\n"


def test_an_error_of_a_finalizer_shows_the_cells_own_frames_with_their_lines(repl):
    output = repl.out("class A:\n    def __del__(self):\n        1 / 0\nA() and None")

    first, *rest = output.splitlines()
    assert first.startswith("Exception ignored in: <function A.__del__ at 0x")
    assert rest[:3] == [
        "Traceback (most recent call last):",
        '  File "<cell 1>", line 3, in __del__',
        "    1 / 0",
    ]
    assert rest[-1] == "ZeroDivisionError: division by zero"
    assert output.count("  File ") == 1


def test_an_error_of_a_thread_shows_the_cells_own_frames(repl):
    output = repl.out(
        "import threading\ndef work(): 1 / 0\n"
        "thread = threading.Thread(target=work, name='T')\nthread.start(); thread.join()"
    )

    assert output.splitlines()[:3] == [
        "Exception in thread T:",
        "Traceback (most recent call last):",
        '  File "<cell 1>", line 2, in work',
    ]
    assert output.count("  File ") == 1


def test_folders_of_the_host_have_other_names(repl):
    code = "import os, sys\nprint(os.__file__, sys.prefix, sys.executable, sys.orig_argv, calls)"
    said = repl.out(code)

    assert said.startswith("/python/lib/")
    assert "/python/bin/" in said
    assert str(Path(abyme.__file__).parents[1]) not in said
    assert sys.base_prefix == "/usr" or sys.base_prefix not in said


def test_a_wire_that_a_cell_made_not_to_wait_still_carries_long_answers(repl):
    repl.cell("import os\nos.set_blocking(3, False)")
    repl.out("submit('x' * 3_000_000)")

    assert [len(one.value) for one in repl.submitted] == [3_000_000]
