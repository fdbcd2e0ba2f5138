"""Contract: the jail's limits. A cell that takes too much ends, says how far it went, and costs no
state. All entries of this class are run by `make attack`; here are those with exact ends.
"""

import re

import pytest
from jail_doubles import ANY, bench, needs_snapshots

from abyme.core.limits import Limits
from abyme.errors import SandboxError
from abyme.sandboxes.self_check.entries import ENTRIES, RESOURCES

SHORT = Limits(cell_timeout_s=0.4, memory_bytes=300 << 20, max_processes=16)
ROOMY = Limits(cell_timeout_s=20, memory_bytes=200 << 20, max_processes=16)


HOLDS = "209,715,200 bytes a process, and as much for all that it forks"


@pytest.fixture(scope="module")
def hasty():
    with bench(limits=SHORT, isolation=ANY) as made:
        yield made


@pytest.fixture(scope="module")
def roomy():
    with bench(limits=ROOMY, isolation=ANY) as made:
        yield made


def entry(wanted):
    return next(one for one in RESOURCES if one.id == wanted)


def test_ids_of_all_entries_are_unique():
    assert len({one.id for one in ENTRIES}) == len(ENTRIES)
    assert len(RESOURCES) >= 24


@pytest.mark.parametrize(
    "wanted",
    ["loop.swallows", "loop.deque", "loop.hash", "wait.thread_in_c", "stop.handler", "stop.blocked",
     "stop.stops_itself", "fork.busy", "echo.error", "echo.draft", "calls.endless",
     "finalizer.engine", "finalizer.handler"],
)  # fmt: skip
def test_a_cell_that_does_not_end_is_ended_and_says_how_far_it_went(hasty, wanted):
    with hasty.repl() as repl:
        needs_snapshots(repl)
        repl.out("x = 41")
        finished = repl.cell(entry(wanted).cells[0])

        assert (finished.ended, finished.limit) == ("rolled_back", "cell_timeout_s")
        reached = re.fullmatch(r"(\d+\.\d) s of compute, 0\.4 s allowed", finished.reached)
        assert float(reached[1]) == round(finished.compute_s, 1) >= 0.4
        assert repl.out("x + 1") == "42\n"


@pytest.mark.parametrize("wanted", ["hog.forks", "hog.orphans"])
def test_processes_of_a_cell_are_limited_in_memory_together(roomy, wanted):
    with roomy.repl() as repl:
        needs_snapshots(repl)
        repl.out("x = 41")
        finished = repl.cell(entry(wanted).cells[0])

        assert (finished.ended, finished.limit) == ("rolled_back", "memory_bytes")
        reached = re.fullmatch(
            r"([\d,]+) bytes in processes that the cell has forked, 209,715,200 allowed",
            finished.reached,
        )
        assert int(reached[1].replace(",", "")) > 200 << 20
        assert repl.out("x + 1") == "42\n"


def test_a_few_forks_with_little_memory_are_let_be(roomy):
    code = (
        "import os\npids = []\nfor n in range(3):\n    pid = os.fork()\n"
        "    if pid == 0:\n        hog = b'x' * (10 << 20)\n        os._exit(n)\n"
        "    pids.append(pid)\n[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]"
    )
    with roomy.repl() as repl:
        needs_snapshots(repl)
        assert repl.out(code) == "[0, 1, 2]\n"


def test_the_process_of_a_cell_that_leaves_the_engine_no_room_says_how_much_it_had(roomy):
    with roomy.repl() as repl:
        needs_snapshots(repl)
        finished = repl.cell("hog = []\nwhile True: hog.append(bytearray(1 << 20))")

        assert (finished.limit, finished.reached) == (
            "memory_bytes",
            "more than 176,160,768 bytes, 209,715,200 allowed",
        )


@pytest.mark.parametrize("error", ["MemoryError", "OSError(12, 'of a page table')"])
def test_memory_that_runs_out_in_the_engines_own_steps_is_named_too(roomy, error):
    code = (
        "import sys\nframe = sys._getframe()\n"
        "while frame.f_code.co_name != 'run_next': frame = frame.f_back\n"
        f"def take(): raise {error}\n"
        "frame.f_locals['self']._kit.sink.take = take"
    )
    with roomy.repl() as repl:
        needs_snapshots(repl)
        repl.out("x = 41")
        finished = repl.cell(code)

        assert (finished.ended, finished.limit, finished.reached) == (
            "rolled_back",
            "memory_bytes",
            "more than 176,160,768 bytes, 209,715,200 allowed",
        )
        assert repl.out("x + 1") == "42\n"


def test_an_end_that_is_no_limits_names_no_number(roomy):
    with roomy.repl() as repl:
        needs_snapshots(repl)
        assert repl.cell("import os; os._exit(3)").reached is None
        assert repl.cell("1 / 0").reached is None


def test_a_cell_that_computes_in_a_thread_while_a_call_is_open_is_charged(hasty):
    code = (
        "import threading\ndef busy():\n    while True: pass\n"
        "threading.Thread(target=busy, daemon=True).start()\nllm_query('never answered')"
    )
    with hasty.repl() as repl:
        needs_snapshots(repl)
        repl.out("x = 41")
        repl.holds = True
        finished = repl.cell(code)

        assert (finished.ended, finished.limit) == ("rolled_back", "cell_timeout_s")
        assert repl.out("x + 1") == "42\n"


def test_a_cell_whose_forks_compute_while_a_call_is_open_is_charged(hasty):
    code = (
        "import os, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n    while True: signal.pause()\nllm_query('never answered')"
    )
    with hasty.repl() as repl:
        needs_snapshots(repl)
        repl.holds = True
        finished = repl.cell(code)

        assert (finished.ended, finished.limit) == ("rolled_back", "cell_timeout_s")


def test_an_interrupt_that_is_swallowed_while_a_call_is_open_does_not_help(hasty):
    code = (
        "x = 0\nwhile True:\n    try: llm_query('never answered')\n    except BaseException: pass"
    )
    with hasty.repl() as repl:
        needs_snapshots(repl)
        repl.out("x = 41")
        repl.holds, repl.stops = True, "refused_calls"
        finished = repl.cell(code)

        assert (finished.ended, finished.limit) == ("rolled_back", "refused_calls")
        repl.stops = None
        assert repl.out("x + 1") == "42\n"


def test_a_snapshot_that_is_gone_costs_the_session_of_a_cell_that_ignores_interrupts(hasty):
    with hasty.repl() as repl:
        needs_snapshots(repl)
        lost = r"lost in cell 1 after cell_timeout_s \(\d+\.\d s of compute, 0\.4 s allowed\)"
        with pytest.raises(SandboxError, match=lost):
            repl.cell(entry("stop.kills_snapshot_and_ignores").cells[0])


def test_threads_that_wait_for_a_call_when_their_cell_ends_end_with_it(roomy):
    code = (
        "import threading\n"
        "ts = [threading.Thread(target=llm_query, args=['late']) for _ in range(3)]\n"
        "_ = [t.start() for t in ts]"
    )
    with roomy.repl() as repl:
        needs_snapshots(repl)
        repl.holds = True
        finished = repl.cell(code)

        assert finished.notes == []
        assert repl.session._can_roll_back
        assert repl.cell("x = 1; import os; os._exit(0)").ended == "rolled_back"
        assert repl.out("[t.is_alive() for t in ts]") == "[False, False, False]\n"


@pytest.mark.parametrize(
    ("code", "note"),
    [
        (
            "bytes(1 << 40)",
            f"this would have passed memory_bytes ({HOLDS}): hold less at once",
        ),
        (
            "import os\nheld = []\nwhile True: held.append(os.pipe())",
            "a process has no more descriptors (64): close some",
        ),
    ],
)
def test_an_error_that_a_limit_has_brought_about_names_it(roomy, code, note):
    with roomy.repl() as repl:
        assert repl.cell(code).notes == [note]


def test_a_thread_or_process_too_many_names_the_limit(roomy):
    flood = "import threading as t\ne = t.Event()\nwhile True: t.Thread(target=e.wait).start()"
    with roomy.repl() as repl:
        note = repl.cell(flood).notes[0]

        assert note.startswith("new processes and threads would have passed max_processes")
        if roomy.run._zygote.counts_processes:
            assert "(19 processes and threads, three of them the engine's)" in note


def test_100_mb_in_one_print_are_cut_in_the_jail(roomy):
    with roomy.repl() as repl:
        finished = repl.cell("print('x' * 50_000_000)")

        assert (finished.ended, finished.dropped_chars) == ("clean", 50_000_001 - 10_000)
        assert len(finished.output) < 10_100


def test_output_without_end_leaves_the_cell_its_memory_and_is_shown(hasty):
    with hasty.repl() as repl:
        needs_snapshots(repl)
        finished = repl.cell("print('first')\nwhile True: print('x' * 1000)")

        assert (finished.ended, finished.limit) == ("rolled_back", "cell_timeout_s")
        assert finished.output.startswith("first\nx")


def test_a_repl_works_on_when_a_cell_holds_every_descriptor(hasty):
    with hasty.repl() as repl:
        fills = "import os\nheld = []\ntry:\n    while True: held.append(os.pipe())\nexcept OSError"
        assert repl.out(f"{fills}: print(len(held) > 20)") == "True\n"
        assert repl.out("llm_query('a')") == "'<a>'\n"
