"""Contract: the jail says what it has, whoever starts it: behaviour is probed, never a uid.

Each case is a process of its own that gives something up for ever, then asks for the
layers and runs a cell.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"

REPORT = """
import asyncio, json
from abyme.contexts.sealed import from_value
from abyme.core.effects import Budget
from abyme.core.limits import Limits
from abyme.errors import SandboxUnavailable
from abyme.sandboxes.jail import Jail
from abyme.sandboxes.self_check.entries import ATTACKS
from abyme.sandboxes.self_check.layers import survey

BUDGET = Budget(usd=None, calls=None, tokens=None, seconds=None, turns=1, depth=0)

async def main():
    on = [layer.name for layer in await survey() if layer.on]
    context, jail = from_value("text"), Jail()
    run = await jail.begin(context=context, limits=Limits())
    session = await run.open(node="0", seed=1)
    said = [
        await session.run_cell(n, code, restore=[], budget=BUDGET, on_event=lambda _: None)
        for n, code in enumerate(["context", *(cell for one in ATTACKS for cell in one.cells)], 1)
    ]
    await run.aclose()
    await jail.aclose()
    return {"on": on, "snapshots": session.facts.snapshots, "said": [one.output for one in said]}

try:
    print(json.dumps(asyncio.run(main())))
except SandboxUnavailable as missing:
    print(json.dumps({"unavailable": str(missing)}))
"""

NO_CAPABILITIES = """
from abyme.guest.kernel import credentials
credentials.drop_capabilities()
credentials.prctl(credentials.PR_SET_NO_NEW_PRIVS, 1)
credentials.prctl(credentials.PR_SET_DUMPABLE, 1)
"""

DENY = """
import struct
from abyme.guest.kernel import seccomp
from abyme.guest.kernel.policy import Rule, Test
def deny(*rules):
    program = seccomp.compile_filter(rules)[:-8] + seccomp._instruction(6, seccomp.ALLOW)
    seccomp.install(program)
"""

NO_USER_NAMESPACES = (
    DENY
    + """
USERNS = Test(0, (0,), mask=0x10000000)
deny(Rule("unshare", 272, (USERNS,)), Rule("clone", 56, (USERNS,)),
     Rule("clone3", 435, (Test(0, (), wide=True),), 38))
"""
)

NO_LANDLOCK = (
    DENY
    + """
deny(Rule("landlock_create_ruleset", 444, (Test(0, (), wide=True),), 38))
"""
)

BASE = {"seccomp", "no_new_privileges", "no_capabilities", "rlimits", "empty_environment"}
NAMESPACES = {"empty_root", "network_namespace", "pid_namespace", "ipc_namespace"}
LANDLOCK = {"landlock"}

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="must be root to give that up")


def report(before):
    """Run REPORT in a process that first does `before`."""
    done = subprocess.run(
        [sys.executable, "-c", before + REPORT],
        env={"PYTHONPATH": str(SRC), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def here():
    found = report("")
    if "unavailable" in found:
        pytest.skip(found["unavailable"])
    return found


def holds(found):
    checks = found["said"][1:]
    return found["said"][0] == "'text'\n" and set(checks) == {"held\n"}


def test_the_jail_holds_for_whoever_runs_the_tests(here):
    assert holds(here)
    assert here["snapshots"] == ("pid_namespace" in here["on"])


@root_only
def test_root_without_capabilities_has_the_same_layers(here):
    found = report(NO_CAPABILITIES)

    assert holds(found)
    if "user_namespace" in here["on"]:
        assert set(found["on"]) == set(here["on"])


@root_only
def test_root_without_user_namespaces_uses_its_capabilities(here):
    found = report(NO_USER_NAMESPACES)

    assert holds(found)
    if set(here["on"]) >= NAMESPACES:
        assert set(here["on"]) - set(found["on"]) == {"user_namespace"}
        assert found["snapshots"]


def test_without_namespaces_of_any_kind_there_are_no_snapshots_and_it_is_said(here):
    if "landlock" not in here["on"]:
        pytest.skip("the kernel has no Landlock")
    found = report((NO_CAPABILITIES if os.geteuid() == 0 else "") + NO_USER_NAMESPACES)

    assert holds(found)
    assert set(found["on"]) >= BASE | LANDLOCK
    assert not NAMESPACES & set(found["on"])
    assert not found["snapshots"]


def test_with_neither_namespaces_nor_landlock_it_refuses_to_serve(here):
    lower = (NO_CAPABILITIES if os.geteuid() == 0 else "") + NO_USER_NAMESPACES + NO_LANDLOCK

    assert report(lower) == {"unavailable": "neither user namespaces nor Landlock can be had"}


def test_without_landlock_namespaces_are_enough(here):
    if not set(here["on"]) >= NAMESPACES:
        pytest.skip("no namespaces on this host")
    found = report(NO_LANDLOCK)

    assert holds(found)
    assert set(here["on"]) - set(found["on"]) <= {"landlock"}
    assert "landlock" not in found["on"]


ONE_ID = """
import os
from abyme.guest.kernel import namespaces
user, group = os.geteuid(), os.getegid()
namespaces.INNER_ID = 0
namespaces._unshare(namespaces.CLONE_NEWUSER)
namespaces._map_ids(user, group)
assert os.getuid() == 0
"""


def test_in_a_user_namespace_of_one_id_that_allows_no_other_it_falls_to_landlock(here):
    if not {"landlock", "user_namespace"} <= set(here["on"]):
        pytest.skip("no Landlock, or no user namespaces")
    found = report(ONE_ID + NO_USER_NAMESPACES)

    assert holds(found)
    assert set(found["on"]) >= BASE | LANDLOCK
    assert not NAMESPACES & set(found["on"])
