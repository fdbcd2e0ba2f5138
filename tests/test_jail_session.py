"""Contract: sandboxes/jail. A cell is stopped by rule; a guest is not believed."""

import asyncio
import signal
from pathlib import Path

import pytest
from jail_doubles import ANY, BUDGET, bench, needs_snapshots

from abyme.core import effects as do
from abyme.core import events as ev
from abyme.core.effects import Result
from abyme.core.ids import ROOT
from abyme.core.limits import Limits
from abyme.core.recall import cell_digest
from abyme.errors import ProtocolViolation, SandboxError, SandboxUnavailable
from abyme.sandboxes.jail import Jail
from abyme.sandboxes.jail.processes import number_of
from abyme.sandboxes.wired.rebuild import rebuild

SHORT = Limits(cell_timeout_s=0.5, memory_bytes=300 << 20, max_processes=16)


@pytest.fixture(scope="module")
def jail():
    with bench(isolation=ANY) as made:
        yield made


@pytest.fixture(scope="module")
def hasty():
    with bench(limits=SHORT, isolation=ANY) as made:
        yield made


@pytest.fixture
def repl(jail):
    with jail.repl() as made:
        yield made


def ends(repl, code):
    repl.out("x = 41")
    finished = repl.cell(code)
    return finished.ended, finished.limit


def keeps_state(repl):
    return repl.out("x + 1") == "42\n"


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(1000)",
        "import re; re.match(r'(a+)+$', 'a' * 40 + 'b')",
        "10 ** (10 ** 8)",
        "import threading; threading.Event().wait()",
        "import asyncio\nawait asyncio.sleep(1000)",
    ],
)
def test_a_cell_over_its_time_is_rolled_back_and_shows_how_far_it_came(hasty, code):
    with hasty.repl() as repl:
        needs_snapshots(repl)
        repl.out("import asyncio; x = 41\nanswer['content'] = 'before'")  # a slow import
        begins = "x = y = 0\nprint('so far')\nanswer['content'] = 'half'\n"
        finished = repl.cell(begins + code)

        assert (finished.ended, finished.limit) == ("rolled_back", "cell_timeout_s")
        assert (finished.output, finished.draft) == ("so far\n", "half")
        lines = finished.error.splitlines()
        if "await" in code:
            assert lines[1:] == ["It was awaiting in <cell 2>, line 5."]
        else:
            assert lines[1] == '  File "<cell 2>", line 4, in <module>'
            assert lines[-1] == "KeyboardInterrupt: the cell was stopped"
        assert (finished.changed, finished.notes) == ([], [])
        assert repl.out("x, 'y' in globals(), answer['content']") == "(41, False, 'before')\n"


def test_a_cell_that_has_caught_its_interrupt_is_rolled_back_too(hasty):
    with hasty.repl() as repl:
        needs_snapshots(repl)
        repl.out("x = 41")
        finished = repl.cell(
            "import time\nx = 0\ntry: time.sleep(1000)\nexcept BaseException: print('caught')"
        )

        assert (finished.ended, finished.limit) == ("rolled_back", "cell_timeout_s")
        assert (finished.output, finished.error) == ("caught\n", None)
        assert keeps_state(repl)


def test_an_interrupt_that_a_cell_sends_itself_is_an_error_of_its_own(repl):
    for code in ("signal.raise_signal(2)", "import _thread; _thread.interrupt_main()"):
        finished = repl.cell(f"import signal\nx = 41\n{code}\nfor _ in range(99): pass")

        assert (finished.ended, finished.limit) == ("raised", None)
        assert keeps_state(repl)


def test_threads_of_a_cell_that_is_rolled_back_end_with_it(hasty):
    with hasty.repl() as repl:
        needs_snapshots(repl)
        code = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
        finished = repl.cell(f"{code}while True: pass")

        assert (finished.ended, finished.notes) == ("rolled_back", [])
        assert repl.out("import threading\nthreading.active_count()") == "1\n"
        assert repl.session._can_roll_back


def test_without_a_snapshot_a_cell_over_its_time_keeps_its_state():
    with bench(limits=SHORT, snapshots=False) as made, made.repl() as repl:
        finished = repl.cell("x = 41\nprint('so far')\nwhile True: pass")

        assert (finished.ended, finished.limit) == ("interrupted", "cell_timeout_s")
        assert finished.output == "so far\n"
        assert keeps_state(repl)


def test_a_cell_that_has_used_up_its_memory_is_rolled_back_and_shows_how_far_it_came(jail):
    with jail.repl() as repl:
        needs_snapshots(repl)
        repl.out("x = 41")
        hog = "x = 0\nprint('so far')\nhog = []\nwhile True: hog.append(bytearray(1 << 20))"
        finished = repl.cell(hog)

        assert (finished.ended, finished.limit) == ("rolled_back", "memory_bytes")
        assert finished.output == "so far\n"
        assert "MemoryError" in finished.error
        assert keeps_state(repl)


@pytest.mark.parametrize(
    "code",
    [
        "sum(range(10 ** 12))",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [2])\nwhile True: pass",
        "import time\nwhile True:\n    try: time.sleep(1000)\n    except BaseException: pass",
        "import os\nfor _ in range(3): os.fork()\nsum(range(10 ** 12))",
    ],
)
def test_a_cell_that_ignores_interrupts_is_rolled_back(hasty, code):
    with hasty.repl() as repl:
        needs_snapshots(repl)
        assert ends(repl, code) == ("rolled_back", "cell_timeout_s")
        assert keeps_state(repl)


@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("import os; os._exit(3)", "exited (status 3)"),
        ("import os; os.abort()", "crashed (signal 6)"),
        ("import ctypes; ctypes.string_at(0)", "crashed (signal 11)"),
        ("import os; os.kill(os.getpid(), 9)", "crashed (signal 9)"),
        ("import os; os.close(3); llm_query('x')", "exited (status 1)"),
        ("import os; os.dup2(0, 3)", "exited (status 1)"),
        ("import os; r, w = os.pipe(); os.dup2(w, 3)", "exited (status 1)"),
        ("hog = []\nwhile True: hog.append(bytearray(1 << 20))", "memory_bytes"),
        ("import ctypes; ctypes.CDLL(None).syscall(0x40000000)", "crashed (signal 31)"),
    ],
)
def test_a_cell_that_kills_its_process_is_rolled_back(jail, code, limit):
    with jail.repl() as repl:
        needs_snapshots(repl)
        assert ends(repl, code) == ("rolled_back", limit)
        assert keeps_state(repl)


def test_a_roll_back_takes_names_and_random_back(repl):
    needs_snapshots(repl)
    repl.out("import random, os\nrandom.seed(1)\nxs = [1]")
    repl.cell("random.random(); xs.append(2); os._exit(0)")

    assert repl.out("xs, random.random() == random.Random(1).random()") == "([1], True)\n"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("list(range(10 ** 9))", "MemoryError"),
        ("'a' * 10 ** 10", "MemoryError"),
        ("import os\nwhile True: os.fork()", "BlockingIOError"),
        (
            "import threading as t\ne = t.Event()\nwhile True: t.Thread(target=e.wait).start()",
            "RuntimeError: can't start new thread",
        ),
    ],
)
def test_memory_processes_and_threads_run_out_as_python_errors(hasty, code, error):
    with hasty.repl() as repl:
        if "fork" in code:
            needs_snapshots(repl)
        repl.out("x = 41")
        assert error in repl.cell(code).error
        assert keeps_state(repl)


@pytest.mark.parametrize("code", ["llm_query('a')", "submit('a')\nwhile True: pass"])
def test_a_stopped_cell_names_who_stopped_it(repl, code):
    repl.out("x = 41")
    repl.holds, repl.stops = True, "stopped"
    finished = repl.cell(code)

    assert (finished.ended, finished.limit) == ("interrupted", "stopped")
    assert "KeyboardInterrupt" in finished.error
    assert keeps_state(repl)
    assert repl.session._can_roll_back == repl.session.facts.snapshots


def test_the_snapshot_may_be_switched_off_and_then_a_stubborn_cell_loses_the_session():
    with bench(limits=SHORT, snapshots=False) as made, made.repl() as repl:
        assert not repl.session.facts.snapshots
        with pytest.raises(
            SandboxError,
            match=r"lost in cell 1 after cell_timeout_s \(.* 0\.5 s allowed\): there was no",
        ):
            repl.cell("sum(range(10 ** 12))")
        with pytest.raises(SandboxError):
            repl.cell("1")


def test_threads_that_live_on_cost_the_roll_back(hasty):
    with hasty.repl() as repl:
        needs_snapshots(repl)
        repl.out("import threading\nt = threading.Thread(target=threading.Event().wait)\nt.start()")
        with pytest.raises(SandboxError, match="lost in cell 2"):
            repl.cell("sum(range(10 ** 12))")


@pytest.mark.parametrize(
    "frame",
    [
        {"t": "finished"},
        {"t": "unknown"},
        {"t": "submit", "cell": 99, "value": 1, "evidence": []},
        {"t": "submit", "cell": 1, "value": 1, "evidence": [], "more": 1},
        {"t": "rolled_back", "code": "x", "number": 1},
        {"t": "rolled_back", "code": 1, "number": 7},
        {"t": "kept", "cell": 1},
        {"t": "kept", "cell": 99},
        {"t": "ready", "layers": [], "snapshots": True},
        {"t": "calls", "cell": 1, "batch": -1, "purpose": "llm", "requests": [], "more": False},
        {"t": "calls", "cell": 1, "batch": 0, "purpose": "x", "requests": [], "more": False},
        {"t": "calls", "cell": 1, "batch": 10**9, "purpose": "llm", "requests": [], "more": False},
        {"t": "piece", "cell": 1, "batch": 0, "position": 0, "part": "context", "text": ""},
    ],
)
def test_a_forged_frame_ends_the_session(repl, frame):
    forge = (
        "import json, os, struct, time\n"
        f"body = json.dumps({frame!r}).encode()\n"
        "os.write(3, b'\\1' + struct.pack('!I', len(body)) + body)\ntime.sleep(1000)"
    )
    with pytest.raises(ProtocolViolation):
        repl.cell(forge)


@pytest.mark.parametrize(
    "data", [b"\xff" * 9, b"\1\xff\xff\xff\xff", b"\1\0\0\0\1x", b"\1\0\0\0\2[]"]
)
def test_bytes_that_are_no_frame_end_the_session(repl, data):
    with pytest.raises(ProtocolViolation, match="not a frame"):
        repl.cell(f"import os, time\nos.write(3, {data!r})\ntime.sleep(1000)")


def test_a_batch_number_is_used_once(repl):
    batch = {"t": "calls", "cell": 2, "batch": 0, "purpose": "llm", "requests": [], "more": False}
    repl.out("llm_query('a')")
    with pytest.raises(ProtocolViolation, match="number of another batch"):
        repl.cell(
            f"import json, os, struct, time\nbody = json.dumps({batch!r}).encode()\n"
            "os.write(3, b'\\1' + struct.pack('!I', len(body)) + body)\ntime.sleep(1000)"
        )


def test_an_answer_that_comes_after_its_cell_is_dropped(jail, repl):
    repl.holds = True
    repl.cell("import threading\nt = threading.Thread(target=llm_query, args=['late'])\nt.start()")
    batch = repl.batches[0].batch if repl.batches else 0
    late = [Result(call=1, text="x")]
    jail.wait(repl.session.answer(batch, results=late, refused=None, budget=BUDGET))

    assert repl.out("1") == "1\n"


def test_a_second_cell_at_once_is_refused(jail, repl):
    async def both():
        first = asyncio.ensure_future(
            repl.session.run_cell(1, "1", restore=[], budget=BUDGET, on_event=repl.on_event)
        )
        await asyncio.sleep(0)
        with pytest.raises(SandboxError, match="running already"):
            await repl.session.run_cell(2, "1", restore=[], budget=BUDGET, on_event=repl.on_event)
        return await first

    assert jail.wait(both()).output == "1\n"


def test_closing_a_session_leaves_no_process(jail):
    with jail.repl() as repl:
        needs_snapshots(repl)
        repl.out("import os, time\nif os.fork() == 0: time.sleep(1000)")
        pid = number_of(repl.session._body._pidfd)
        assert Path(f"/proc/{pid}").is_dir()
    assert not Path(f"/proc/{pid}").is_dir()


def test_the_death_of_the_fork_server_ends_its_sessions_as_an_error_and_another_one_is_started():
    async def noticed(zygote):
        while not zygote.ended:  # noqa: ASYNC110 - nothing could set an event
            await asyncio.sleep(0)

    order = "list({f'key{i}' for i in range(100)})"
    with bench() as made:
        with made.repl() as repl:
            before = repl.out(order)
            made.run._zygote._process.send_signal(signal.SIGKILL)
            with pytest.raises(SandboxError):
                repl.cell("while True: pass")
        made.wait(noticed(made.run._zygote))
        with made.repl() as repl:
            assert repl.out(order) == before


def test_a_run_can_be_built_again_with_the_hash_seed_of_an_earlier_one():
    order = "list({f'key{i}' for i in range(100)})"
    with bench() as first, first.repl() as repl:
        seed, before = first.run.hash_seed, repl.out(order)
    with bench() as other:
        run = other.wait(
            other.jail.begin(context=other.context, limits=other.limits, hash_seed=seed)
        )
        session = other.wait(run.open(node="0", seed=7))
        again = other.wait(
            session.run_cell(1, order, restore=[], budget=BUDGET, on_event=lambda _: None)
        )
        other.wait(run.aclose())
        assert (run.hash_seed, again.output) == (seed, before)


def test_a_warm_fork_server_is_used_once_and_replaced():
    async def both():
        from abyme.contexts.sealed import from_value

        jail, context = Jail(warm=1), from_value("x")
        jail.warm_up()
        one = await jail.begin(context=context, limits=Limits())
        two = await jail.begin(context=context, limits=Limits())
        seeds = {one.hash_seed, two.hash_seed}
        for each in (one, two, jail):
            await each.aclose()
            await each.aclose()
        context.close()
        return seeds

    try:
        assert len(asyncio.run(both())) == 2
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))


def test_an_interpreter_that_cannot_start_is_said():
    async def begin():
        from abyme.contexts.sealed import from_value

        await Jail(python="/nonexistent/python").begin(context=from_value("x"), limits=Limits())

    with pytest.raises(SandboxUnavailable, match="cannot start"):
        asyncio.run(begin())


RAISES = "def late(*_): raise TimeoutError('late')\nsignal.signal(signal.SIGALRM, late)\n"


@pytest.mark.parametrize("handler", ["", RAISES])
def test_a_timer_of_a_cell_ends_with_the_cell(repl, handler):
    armed = f"import signal, time\n{handler}x = 41\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\n"
    repl.out(armed)
    wait = "deadline = time.monotonic() + 0.1\nwhile time.monotonic() < deadline: pass\n"

    assert repl.out(f"{wait}x + 1, signal.getitimer(signal.ITIMER_REAL)[0]") == "(42, 0.0)\n"


def test_a_cell_finds_handlers_and_mask_as_they_were(repl):
    look = (
        "import signal\n"
        "[signal.getsignal(n) == signal.SIG_DFL for n in (1, 14, 15)],"
        " signal.pthread_sigmask(0, [])"
    )
    before = repl.out(look)
    repl.out(
        "for n in (1, 14, 15): signal.signal(n, lambda *_: 1 / 0)\n"
        "_ = signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)), signal.raise_signal(15)"
    )

    assert repl.out(look) == before
    assert before == "([True, True, True], set())\n"


def test_a_handler_that_raises_all_the_time_ends_with_its_cell(repl):
    repl.out("x = 41")
    repl.cell(
        "import signal\nsignal.signal(signal.SIGALRM, lambda *_: 1 / 0)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)\nwhile True: pass"
    )

    assert keeps_state(repl)


def test_a_cell_that_rebinds_every_builtin_loses_nothing(repl):
    repl.out("x = 41")
    repl.cell(
        "import builtins\nfor n in list(vars(builtins)):\n"
        "    if n != '__build_class__': setattr(builtins, n, None)"
    )

    assert keeps_state(repl)


@pytest.mark.parametrize("code", ["os._exit(3)", "while True: pass"])
def test_a_snapshot_that_a_cell_has_stopped_is_woken_up(hasty, code):
    with hasty.repl() as repl:
        needs_snapshots(repl)
        repl.out("x = 41\nimport os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)")
        finished = repl.cell(
            f"signal.signal(2, signal.SIG_IGN)\nos.kill(os.getppid(), signal.SIGSTOP)\n{code}"
        )
        assert (finished.ended, finished.limit) == ("rolled_back", "cell_timeout_s")
        assert keeps_state(repl)


def test_maps_that_are_only_read_are_limited_too(hasty):
    with hasty.repl() as repl:
        code = "import mmap\nm = mmap.mmap(-1, 1 << 36, flags=0x4022, prot=mmap.PROT_READ)"
        assert repl.cell(code).error.endswith("OSError: [Errno 12] Cannot allocate memory\n")


def test_what_is_run_again_may_take_longer_than_it_had(hasty):
    """It ended by itself before: a machine that is busier now costs a resumed run no names."""
    code = "import time\nend = time.monotonic() + 0.8\nwhile time.monotonic() < end: pass"
    with hasty.repl() as repl:
        assert repl.cell(code).limit == "cell_timeout_s"
        finished = ev.CellFinished(cell=2, output="", ended="clean", changed=[])
        run = do.RunCell(node=ROOT, cell=2, code=code, restore=(), budget=BUDGET)
        done = do.DoneCell(run=run, asked=(), came_out=cell_digest(finished))
        differs = repl.loop.run_until_complete(rebuild(repl.session, [done]))

    assert [one.what for one in differs if "ended" in one.what] == []
