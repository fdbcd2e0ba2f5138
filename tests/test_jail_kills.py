"""Contract: sandboxes/jail. Whatever process is killed, a cell ends soon, and nothing is left."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jail_doubles import BUDGET, bench, needs_snapshots

from abyme.core.limits import Limits
from abyme.errors import SandboxError

NEVER_S = 20.0
"""Far beyond what anything here takes."""
SHORT = Limits(cell_timeout_s=0.3, memory_bytes=300 << 20)
ASKS = "x = 2\nllm_query('a')\nx = 3"
LOOPS = "x = 2\nsubmit('a')\nwhile True: pass"
HOST = """
import asyncio, os, sys
from abyme.contexts.sealed import from_value
from abyme.core.effects import Budget
from abyme.core.limits import Limits
from abyme.sandboxes.jail import Jail
from abyme.sandboxes.jail.processes import number_of

async def host():
    context = from_value("x")
    run = await Jail().begin(context=context, limits=Limits())
    budget = Budget(usd=None, calls=None, tokens=None, seconds=None, turns=1, depth=1)
    told = asyncio.Event()
    for node in ("0", "0.0"):
        session = await run.open(node=node, seed=1)
        cell = session.run_cell(
            1, "submit('a')\\nwhile True: pass", restore=[], budget=budget,
            on_event=lambda _: told.set(),
        )
        task = asyncio.ensure_future(cell)
        await told.wait()
        told.clear()
        print(session._body._pid, run._zygote._process.pid, flush=True)
    await asyncio.sleep(1000)

asyncio.run(host())
"""


def children(pid):
    """List the children of a process, oldest first."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(n) for task in tasks for n in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def stat(pid):
    """Read what the kernel says of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def state(pid):
    try:
        return stat(pid)[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


class Watched:
    """A REPL whose processes a test can kill."""

    def __init__(self, repl):
        self.repl = repl
        self.session = repl.session
        self.supervisor = repl.session._body._pid
        self.pidfds = []

    def find(self, who):
        """Open the process that plays a part, once both of a pair wait for the next cell."""
        if who == "zygote":
            number = self.zygote()
        elif who == "supervisor":
            number = self.supervisor
        else:
            while (pair := self.pair()) is None:
                os.sched_yield()
            number = pair[0] if who == "snapshot" else pair[1]
        self.pidfds.append(os.pidfd_open(number))
        return self.pidfds[-1]

    def pair(self):
        """Snapshot and process; None while one of them is at work, or dying."""
        snapshots = children(self.supervisor)
        processes = children(snapshots[0]) if len(snapshots) == 1 else []
        pair = snapshots + processes
        return pair if [state(one) for one in pair] == ["S", "S"] else None

    def zygote(self):
        """The fork server is the supervisor's parent."""
        return int(stat(self.supervisor)[1])

    def kill(self, pidfd):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        gone(pidfd)

    def cell(self, code):
        """Run a cell, which must end."""
        self.repl.number += 1
        session, loop = self.session, self.repl.loop
        run = session.run_cell(
            self.repl.number, code, restore=(), budget=BUDGET, on_event=self.repl.on_event
        )
        return loop.run_until_complete(asyncio.wait_for(run, NEVER_S))

    def until(self, holds):
        """Let the host hear what comes until something holds."""

        async def wait():
            while not holds():  # noqa: ASYNC110 - nothing could set an event
                await asyncio.sleep(0)

        self.repl.loop.run_until_complete(asyncio.wait_for(wait(), NEVER_S))


def gone(pidfd):
    """Wait until a process has ended."""
    ended, _, _ = select.select([pidfd], [], [], NEVER_S)
    assert ended


@pytest.fixture(scope="module")
def jail():
    with bench() as made:
        yield made


@pytest.fixture
def watched(jail):
    with jail.repl() as repl:
        needs_snapshots(repl)
        yield from playing(repl)


@pytest.fixture
def fragile():
    """A REPL with a fork server of its own, and a short limit."""
    with bench(limits=SHORT) as made, made.repl() as repl:
        needs_snapshots(repl)
        yield from playing(repl)


def playing(repl):
    made = Watched(repl)
    repl.out("x = 1")
    yield made
    for pidfd in made.pidfds:
        os.close(pidfd)


def strike_on_event(watched, pidfd, last=None):
    """Kill when the cell asks for a sub-call or submits, and go on when `last` has ended too."""
    answered = watched.repl.on_event

    def on_event(event):
        watched.kill(pidfd)
        if last is not None:
            gone(last)
        answered(event)

    watched.repl.on_event = on_event


@pytest.mark.parametrize("who", ["zygote", "supervisor"])
def test_the_death_of_what_a_repl_hangs_on_ends_the_session_between_cells(fragile, who):
    last = fragile.find("process")
    fragile.kill(fragile.find(who))

    gone(last)
    with pytest.raises(SandboxError):
        fragile.cell("x")


@pytest.mark.parametrize("code", [ASKS, LOOPS, "submit('a')\nimport time; time.sleep(1000)"])
@pytest.mark.parametrize("who", ["zygote", "supervisor"])
def test_the_death_of_what_a_repl_hangs_on_ends_the_session_in_a_cell(fragile, who, code):
    strike_on_event(fragile, fragile.find(who), last=fragile.find("process"))

    with pytest.raises(SandboxError):
        fragile.cell(code)


def test_a_process_that_dies_between_cells_is_replaced_by_its_snapshot(watched):
    watched.kill(watched.find("process"))
    watched.until(lambda: watched.session._roll_backs == 1)

    assert watched.cell("x += 1; x").output == "2\n"
    assert watched.cell("x").output == "2\n"


def test_a_cell_that_was_sent_to_a_process_that_dies_is_run_by_none(watched):
    process = watched.find("process")
    signal.pidfd_send_signal(process, signal.SIGSTOP)
    watched.repl.loop.call_soon(lambda: watched.repl.loop.call_soon(watched.kill, process))
    finished = watched.cell("x = 5; llm_query('paid for nothing')")

    assert (finished.ended, finished.limit) == ("rolled_back", "crashed (signal 9)")
    assert watched.cell("x").output == "1\n"
    assert watched.repl.batches == []


def test_a_repl_that_dies_again_and_again_between_cells_is_given_up(watched):
    for _ in range(3):
        before = watched.session._roll_backs
        watched.kill(watched.find("process"))
        watched.until(lambda before=before: watched.session._roll_backs > before)
    watched.kill(watched.find("process"))
    watched.until(lambda: watched.session._dead is not None)

    with pytest.raises(SandboxError, match="dies again and again"):
        watched.cell("x")


def test_a_process_that_dies_in_a_cell_is_a_cell_rolled_back(watched):
    strike_on_event(watched, watched.find("process"))
    finished = watched.cell(ASKS)

    assert (finished.ended, finished.limit) == ("rolled_back", "crashed (signal 9)")
    watched.repl.on_event = lambda _: None
    assert watched.cell("x").output == "1\n"


def test_a_snapshot_that_dies_costs_nothing(watched):
    watched.kill(watched.find("snapshot"))
    assert watched.cell("x += 1; x").output == "2\n"

    strike_on_event(watched, watched.find("snapshot"))
    assert watched.cell("x += 1\nsubmit('a')\nx").output == "3\n"
    assert watched.find("snapshot")


def test_without_its_snapshot_a_cell_over_its_time_keeps_its_state(fragile):
    strike_on_event(fragile, fragile.find("snapshot"))
    finished = fragile.cell(LOOPS)

    assert (finished.ended, finished.limit) == ("interrupted", "cell_timeout_s")
    assert fragile.cell("x").output == "2\n"


def test_the_death_of_snapshot_and_process_ends_the_session(watched):
    snapshot, process = watched.find("snapshot"), watched.find("process")
    watched.kill(snapshot)
    watched.kill(process)

    with pytest.raises(SandboxError):
        watched.cell("while True: pass")


def test_the_death_of_the_host_leaves_no_process():
    environment = {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True, env=environment
    ) as host:
        lines = [host.stdout.readline() for _ in range(2)]
        if not all(lines):
            pytest.skip("no jail on this host")
        supervisors, zygotes = zip(*(map(int, line.split()) for line in lines), strict=True)
        inside = [n for one in supervisors for s in children(one) for n in (s, *children(s))]
        pidfds = [os.pidfd_open(n) for n in (*supervisors, *inside, zygotes[0])]
        host.kill()
        for pidfd in pidfds:
            gone(pidfd)
            os.close(pidfd)
