"""The wasm tier: the same REPL in CPython on Wasmtime, in a confined process of its own.

What every tier must hold is in `sandboxes/self_check`; here is what this one does in its own way.
"""

import asyncio
import stat
import sys
from pathlib import Path

import pytest
from jail_doubles import BUDGET
from wasm_doubles import needs_wasm, wasm_bench

from abyme import RLM
from abyme.contexts.sealed import from_value
from abyme.core import events as ev
from abyme.core.isolation import LAYERS, Isolation
from abyme.core.limits import Limits
from abyme.errors import SandboxError, SandboxUnavailable
from abyme.sandboxes.wasm import Wasm, folder
from abyme.sandboxes.wasm.passing import TRAPPED
from abyme.testing import ScriptedModel

needs_wasm()

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the process is confined on Linux only")


@pytest.fixture(scope="module")
def bench():
    with wasm_bench() as made:
        yield made


@pytest.fixture(scope="module")
def shared(bench):
    """A REPL that no test may harm."""
    with bench.repl() as made:
        yield made


def test_a_cell_echoes_and_its_names_live_on(shared):
    assert shared.out("x = 20\nx + 1") == "21\n"
    assert shared.out("x * 2") == "40\n"


def test_the_context_is_a_str_in_which_engine_functions_find_places(shared):
    assert shared.out("type(context) is str, context") == "(True, 'alpha\\nbeta\\ngamma\\n')\n"
    assert shared.out("grep('b.ta')") == "[('context', 2, 'beta')]\n"


def test_a_sub_call_is_answered_in_the_middle_of_a_cell(shared):
    assert shared.out("print(llm_query('one'), llm_query_batched(['two', 'three']))") == (
        "<one> ['<two>', '<three>']\n"
    )


def test_calls_from_pools_threads_and_coroutines_come_one_after_the_other(shared):
    code = """
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
got = []
def ask(word): got.append(llm_query(word))
with ThreadPoolExecutor(8) as pool: list(pool.map(ask, "ab"))
one = threading.Thread(target=ask, args=("c",)); one.start(); one.join()
await asyncio.gather(*(asyncio.to_thread(ask, word) for word in "de"))
async def nap(): await asyncio.sleep(0.001); return "f"
print(got, await nap())
"""
    assert shared.out(code) == "['<a>', '<b>', '<c>', '<d>', '<e>'] f\n"


def test_an_error_shows_the_frames_of_the_cell_alone(shared):
    finished = shared.cell("def f(): return 1 / 0\nf()")

    assert finished.ended == "raised"
    assert finished.error.splitlines()[0] == "Traceback (most recent call last):"
    assert "ZeroDivisionError: division by zero" in finished.error
    assert "abyme" not in finished.error
    assert "_eryx" not in finished.error


def test_an_answer_is_handed_over(shared):
    shared.out("submit({'n': 3}, evidence=['beta'])")

    assert [(one.value, one.evidence) for one in shared.submitted] == [({"n": 3}, ["beta"])]


def test_what_exists_to_reach_outside_is_refused_by_the_import_policy(shared):
    finished = shared.cell("import subprocess")

    assert finished.error.splitlines()[-1].startswith("SecurityViolation: `subprocess`")
    assert finished.violations == ["subprocess"]


@LINUX
def test_every_layer_around_the_interpreter_is_on(shared):
    layers = shared.session.facts.layers

    assert layers[0] == "wasm"
    assert set(layers) <= set(LAYERS["wasm"])
    assert set(layers) - {"user_namespace", "network_namespace", "ipc_namespace"} == {
        *("wasm", "landlock", "rlimits", "seccomp"),
        *("no_capabilities", "no_new_privileges"),
    }


def test_documents_of_every_width_become_real_texts():
    value = {"a": "plain", "b": "caf\xe9", "c": "\u4e00\ud800\udc00", "d": "\U0001f600!"}
    with wasm_bench(context=value) as bench, bench.repl() as repl:
        assert repl.out("{k: [*map(ord, v)] for k, v in context.items()}") == (
            f"{ {k: [*map(ord, v)] for k, v in value.items()} }\n"
        )


def test_a_child_has_a_context_of_its_own(bench):
    own = from_value(["first", "second"])
    try:
        with bench.repl(context=own) as repl:
            assert repl.out("list(context)") == "['first', 'second']\n"
    finally:
        own.close()


def test_random_numbers_follow_the_seed(bench):
    code = "import random; random.random()"
    with bench.repl(seed=1) as one, bench.repl(seed=1) as same, bench.repl(seed=2) as other:
        drawn = [repl.out(code) for repl in (one, same, other)]

    assert drawn[0] == drawn[1] != drawn[2]


@pytest.fixture(scope="module")
def hasty():
    with wasm_bench(cell_timeout_s=2) as made:
        yield made


class TestRolledBack:
    """Another REPL takes the place of one that had to be killed."""

    @pytest.fixture
    def repl(self, hasty):
        with hasty.repl() as made:
            yield made

    def test_a_cell_that_never_ends_is_rolled_back_and_names_are_as_before(self, repl):
        repl.out("import random\nheld = [llm_query('once'), random.random()]")
        before = repl.out("held")

        finished = repl.cell("held.append(3)\nwhile True: pass")

        assert (finished.ended, finished.limit) == ("rolled_back", "cell_timeout_s")
        assert repl.out("held") == before

    def test_no_sub_call_is_made_again(self, repl):
        repl.out("a = llm_query('once')")
        repl.cell("while True: pass")

        assert repl.out("a") == "'<once>'\n"
        assert repl.made == 1

    def test_a_number_that_takes_for_ever_is_ended_too(self, repl):
        assert repl.cell("10 ** (10 ** 8)").limit == "cell_timeout_s"
        assert repl.out("1 + 1") == "2\n"

    def test_an_interpreter_that_is_gone_is_a_cell_rolled_back(self, repl):
        repl.out("kept = 1")

        finished = repl.cell("import os\nos._exit(3)")

        assert (finished.ended, finished.limit) == ("rolled_back", "crashed (in the interpreter)")
        assert repl.out("kept") == "1\n"

    def test_a_stack_that_overflows_is_a_cell_rolled_back(self, repl):
        code = "import sys\nsys.setrecursionlimit(10 ** 7)\ndef f(): return f()\nf()"

        assert repl.cell(code).ended == "rolled_back"
        assert repl.out("1 + 1") == "2\n"

    def test_a_session_that_does_not_come_out_the_same_is_lost(self, repl):
        repl.out("import time\nprint(time.time_ns())")

        with pytest.raises(SandboxError, match="cell_timeout_s"):
            repl.cell("while True: pass")


def test_memory_beyond_the_limit_is_an_error_of_the_cell(bench):
    with bench.repl() as repl:
        finished = repl.cell("kept = 1\nheld = [bytearray(64 << 20) for _ in range(16)]")

        assert finished.error.splitlines()[-1] == "MemoryError"
        assert repl.out("kept") == "1\n"


def begin(context, **isolation):
    async def begun():
        run = await Wasm().begin(
            context=context, limits=Limits(), isolation=Isolation(tier="wasm", **isolation)
        )
        await run.aclose()

    asyncio.run(begun())


def test_a_context_that_does_not_fit_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(folder, "MAX_CONTEXT_BYTES", 10)
    context = from_value("a text of more than ten bytes")
    try:
        with pytest.raises(SandboxUnavailable, match="takes contexts up to 10 bytes"):
            begin(context)
    finally:
        context.close()


def test_guest_packages_are_refused():
    context = from_value("x")
    try:
        with pytest.raises(SandboxUnavailable, match="no packages of the host"):
            begin(context, packages=["numpy"])
    finally:
        context.close()


def test_a_runs_folder_is_private_and_does_not_outlive_it():
    with wasm_bench() as bench:
        path = bench.run._folder.path
        mode = stat.S_IMODE(path.stat().st_mode)
        with bench.repl():
            told = path / "1" / "told"
            assert told.is_dir()
    assert mode == 0o700
    assert not path.exists()


def test_what_a_cell_was_told_does_not_pile_up(bench):
    with bench.repl() as repl:
        for number in range(5):
            repl.out(f"llm_query('{number}', fresh=True)")
        told = bench.run._folder.path / str(bench.run._folder._repls) / "told"
        assert len(list(told.iterdir())) <= 4


def test_a_cell_sees_its_context_and_what_it_is_told_read_only(shared):
    code = """
import os
for path in ("/context/x", "/told/x", "/python-stdlib/x", "/x"):
    try: open(path, "w")
    except OSError as error: print(type(error).__name__)
"""
    assert shared.out(code).split() == ["PermissionError"] * 3 + ["FileNotFoundError"]


def test_stopping_a_cell_before_it_begins_leaves_the_session_alive(shared):
    running = shared.session.run_cell(
        900, "1/0", restore=(), budget=BUDGET, on_event=lambda event: None
    )
    shared.session.end_cell("stopped")

    finished = shared.loop.run_until_complete(running)

    assert (finished.ended, finished.limit) == ("interrupted", "stopped")
    assert isinstance(finished, ev.CellFinished)


def test_nothing_of_the_host_is_in_its_environment(shared):
    assert shared.out("import os; dict(os.environ)") == "{}\n"
    assert str(Path.home()) not in shared.out("import sys; sys.path, sys.argv, sys.executable")


def test_a_whole_run_goes_through_bombs_and_children(tmp_path):
    """Four cells that never end: more than the times that a run makes another session."""
    bomb = "```repl\nwhile True: pass\n```"
    model = ScriptedModel(
        [
            "```repl\nhits = grep('needle')\n```",
            *[bomb] * 4,
            "```repl\nchild = rlm_query('How long?', context['a'])\n```",
            "```repl\nsubmit(str(len(context)))\n```",
            "```repl\nsubmit([child, hits[0].line], evidence=hits)\n```",
        ]
    )
    limits = Limits(cell_timeout_s=1.5)
    with RLM(model=model, runs_dir=tmp_path, sandbox="wasm", limits=limits) as rlm:
        answer = rlm.ask("What?", {"a": "one\ntwo needle", "b": "x"})

    assert (answer.value, answer.status) == (["14", 2], "answered")
    assert [one.quote for one in answer.evidence] == ["two needle"]


def test_a_session_that_is_closed_leaves_no_folder_and_no_process():
    own = from_value("its own")
    with wasm_bench() as bench:
        with bench.repl(context=own) as repl:
            child = repl.session._place._child._process
            assert repl.out("context") == "'its own'\n"
        assert [one.name for one in bench.run._folder.path.iterdir() if one.name.isdigit()] == []
        assert child.returncode in (0, -9)  # it sees the end of its wire, or is killed before
    own.close()


def test_a_cell_that_goes_on_after_it_has_told_its_end_is_ended():
    """It has changed the engine: nobody would count its time any more."""
    code = """
import gc, sys
frame = sys._getframe()
while frame and "run_next" != frame.f_code.co_name: frame = frame.f_back
repl = frame.f_locals["self"]
send = repl._kit.client.send_packets
def send_and_stay(ready):
    send(ready)
    while True: pass
type(repl._kit.client).send_packets = lambda self, ready: send_and_stay(ready)
"""
    with wasm_bench() as bench, bench.repl() as repl:
        child = repl.session._place._child
        assert repl.cell(code).ended == "clean"
        assert repl.loop.run_until_complete(child.status()) == TRAPPED
