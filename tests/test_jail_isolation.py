"""Contract: isolation between runs, and between a parent and its children. What one REPL does, no
other feels; two runs have nothing in common to learn from.
"""

import asyncio
from contextlib import ExitStack

import pytest
from jail_doubles import BUDGET, Repl, bench, needs_snapshots

from abyme.contexts.sealed import from_value
from abyme.core.isolation import Isolation
from abyme.core.limits import Limits
from abyme.errors import SandboxError
from abyme.sandboxes.jail.apart import seed_of

LIMITS = Limits(cell_timeout_s=20, memory_bytes=512 << 20, max_processes=16)
FREE = Isolation(imports="any")
APART = Isolation(imports="any", apart=True)
LOOK = (
    "import ctypes\nlibc = ctypes.CDLL(None)\n"
    "print(hash('x'), id(llm_query), id(context), id(globals()),"
    " ctypes.cast(libc.getpid, ctypes.c_void_p).value, id(object.__new__))"
)
NAMES = ("hash", "llm_query", "context", "globals", "getpid", "new")
ALL_SIGNALS = "import os\nfor target in (0, -1):\n    os.kill(target, 9)"


class Run:
    """A run of its own, and its REPLs by node."""

    def __init__(self, made, stack, isolation):
        self.made = made
        self.run = made.wait(
            made.jail.begin(context=made.context, limits=LIMITS, isolation=isolation)
        )
        stack.callback(lambda: made.wait(self.run.aclose()))

    def node(self, node, context=None):
        session = self.made.wait(self.run.open(node=node, seed=7, context=context))
        return Repl(self.made.loop, session)


@pytest.fixture
def runs():
    """Make runs, all of one process and one event loop."""
    with bench(limits=LIMITS) as made, ExitStack() as stack:
        yield lambda isolation=FREE: Run(made, stack, isolation)


def seen(repl):
    return dict(zip(NAMES, repl.out(LOOK).split(), strict=True))


def test_no_two_runs_share_a_hash_seed_or_an_address(runs):
    looks = [seen(runs().node("0")) for _ in range(4)]

    for name in NAMES:
        assert len({look[name] for look in looks}) == 4, name


def test_a_child_shares_seed_and_addresses_unless_it_is_kept_apart(runs):
    together, apart = runs(FREE), runs(APART)

    assert seen(together.node("0")) == seen(together.node("0.0"))
    looks = [seen(apart.node(node)) for node in ("0", "0.0", "0.1", "0.0.0")]
    for name in NAMES:
        assert len({look[name] for look in looks}) == 4, name


def test_a_child_that_is_kept_apart_has_the_same_seed_when_its_run_is_built_again(runs):
    first = runs(APART)
    seeds = [first.node(node).out("hash('x')") for node in ("0", "0.0")]
    made = first.made
    again = made.wait(
        made.jail.begin(
            context=made.context, limits=LIMITS, isolation=APART, hash_seed=first.run.hash_seed
        )
    )
    reopened = [
        Repl(made.loop, made.wait(again.open(node=node, seed=7))).out("hash('x')")
        for node in ("0", "0.0")
    ]
    made.wait(again.aclose())

    assert reopened == seeds
    assert seeds[0] != seeds[1]


def test_seeds_of_nodes_are_derived_and_differ():
    seeds = {seed_of(run, node) for run in (0, 1) for node in ("0.0", "0.1", "0.0.0")}

    assert len(seeds) == 6
    assert all(0 <= seed < 1 << 32 for seed in seeds)


def test_a_child_that_is_kept_apart_has_nothing_of_its_parents_context(runs):
    whole, part = from_value("canary-4c1d " * 200_000), from_value("only this")
    code = (
        "import gc\nneedle = 'd1c4-yranac'[::-1]\nneedle in context, context[:9],"
        " any(needle in str(one)[:9999] for one in gc.get_objects() if type(one) in (dict, list))"
    )
    with bench(limits=LIMITS) as made:
        run = made.wait(made.jail.begin(context=whole, limits=LIMITS, isolation=APART))
        child = Repl(made.loop, made.wait(run.open(node="0.0", seed=7, context=part)))
        assert child.out(code) == "(False, 'only this', False)\n"
        assert child.session.facts.layers == made.wait(run.open(node="0", seed=7)).facts.layers
        made.wait(run.aclose())
    whole.close()
    part.close()


def test_the_fork_server_of_a_child_that_is_kept_apart_ends_with_it(runs):
    run = runs(APART)
    child = run.node("0.0")
    zygote = child.session._body._zygote
    assert not zygote.ended
    run.made.wait(child.session.aclose())

    assert zygote.ended
    assert zygote._process.returncode is not None


@pytest.mark.parametrize("isolation", [FREE, APART], ids=["together", "apart"])
def test_no_signal_reaches_another_repl_of_the_run_or_of_another(runs, isolation):
    mine, other = runs(isolation), runs(isolation)
    parent, child, stranger = mine.node("0"), mine.node("0.0"), other.node("0")
    needs_snapshots(parent)
    for repl in (parent, child, stranger):
        repl.out("x = 41")
    numbers = [repl.session._body._pid for repl in (parent, stranger) if repl.session._body._pid]
    child.out("FEW = 30  # forks of this REPL until now, those that are being reaped included")
    code = (
        f"import os\nreached = set()\nfor pid in ({numbers!r} + list(range(2, 400))):\n"
        "    for target in (pid, -pid):\n        try: os.kill(target, 0)\n"
        "        except OSError: continue\n        reached.add(pid)\n"
        "{os.getpid(), os.getppid()} <= reached < set(range(FEW))"
    )
    assert child.out(code) == "True\n"

    with pytest.raises(SandboxError, match="lost"):
        child.cell(ALL_SIGNALS)
    assert [repl.out("x") for repl in (parent, stranger)] == ["41\n", "41\n"]


def test_a_repl_that_crashes_or_is_rolled_back_costs_no_other_its_state(runs):
    run = runs()
    parent, child = run.node("0"), run.node("0.0")
    needs_snapshots(parent)
    for repl in (parent, child):
        repl.out("x = 41")
    for code in ("import ctypes; ctypes.string_at(0)", "import os; os.closerange(0, 64)"):
        assert child.cell(code).ended == "rolled_back"

    assert [repl.out("x") for repl in (parent, child)] == ["41\n", "41\n"]


def test_a_repl_full_of_busy_processes_does_not_starve_another(runs):
    """Each REPL is an autogroup of its own: an even share of the processors, whatever it forks."""
    mine, other = runs(), runs()
    busy, idle = mine.node("0"), other.node("0")
    needs_snapshots(busy)
    idle.out("x = 41")
    for repl in (busy, idle):
        assert repl.out("import os\nos.getsid(0) == os.getpgid(0) == 1") == "True\n"

    async def both():
        told = asyncio.Event()
        hog = asyncio.ensure_future(
            busy.session.run_cell(
                99,
                "import os\nfor _ in range(3): os.fork()\nsubmit('all here')\nwhile True: pass",
                restore=[],
                budget=BUDGET,
                on_event=lambda _: told.set(),
            )
        )
        await told.wait()
        finished = await idle.session.run_cell(
            98, "x + 1", restore=[], budget=BUDGET, on_event=idle.on_event
        )
        busy.session.end_cell("stopped")
        await hog
        return finished

    finished = mine.made.wait(both())
    assert (finished.output, finished.ended) == ("42\n", "clean")
