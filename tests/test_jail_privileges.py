"""Contract: the jail says what it has, whoever starts it: behaviour is probed, never a uid.

Each case is a process of its own that gives something up for ever, then runs a part of the
self-check; `make attack` runs all of it.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from abyme.apps.attack.privileges import CLOSED, NO_PYTHON, by_name
from abyme.apps.attack.rounds import LACKING, play
from abyme.sandboxes.self_check.entries import ATTACKS

SRC = Path(__file__).parent.parent / "src"
LIBRARIES = Path(msgspec.__file__).parents[1]

BASE = {"seccomp", "no_new_privileges", "no_capabilities", "rlimits", "empty_environment"}
NAMESPACES = {"empty_root", "network_namespace", "pid_namespace", "ipc_namespace"}
LANDLOCK = {"landlock"}

QUICK = [entry for entry in ATTACKS if entry.limits is None and not entry.ends]
SOME = ",".join(entry.id for entry in QUICK[::8])
"""A few of each class."""

NO_JAIL = "neither user namespaces nor Landlock can be had"
HOSTS_FAULT = (NO_JAIL, CLOSED, NO_PYTHON)

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="must be root to give that up")


def check(privilege):
    """Run some attacks as somebody; what was not held, by id, is in `failed`."""
    made = play("jail", by_name(privilege), SOME, lambda _: None)
    if made.unavailable.startswith(HOSTS_FAULT):
        pytest.skip(made.unavailable)
    assert (made.unavailable, made.broken) == ("", "")
    return made


def failed(made):
    return {one.id: one.words for one in made.results if one.outcome in {"hole", "broken"}}


@pytest.fixture(scope="module")
def here():
    return check("as-started")


def test_the_jail_holds_for_whoever_runs_the_tests(here):
    assert failed(here) == {}
    assert here.holds
    assert set(here.layers) >= BASE


@root_only
def test_an_ordinary_user_has_the_same_layers_where_user_namespaces_are_allowed(here):
    found = check("user")

    assert failed(found) == {}
    if "user_namespace" in here.layers and "user_namespace" in found.layers:
        assert set(found.layers) == set(here.layers)


@root_only
def test_root_without_capabilities_has_the_same_layers(here):
    found = check("bare-root")

    assert failed(found) == {}
    if "user_namespace" in here.layers:
        assert set(found.layers) == set(here.layers)


@root_only
def test_in_a_default_container_it_falls_to_landlock_without_snapshots(here):
    if "landlock" not in here.layers:
        pytest.skip("the kernel has no Landlock")
    found = check("container")

    assert failed(found) == {}
    assert set(found.layers) >= BASE | LANDLOCK
    assert not NAMESPACES & set(found.layers)


def test_an_ordinary_user_without_user_namespaces_falls_to_landlock(here):
    if "landlock" not in here.layers:
        pytest.skip("the kernel has no Landlock")
    found = check("no-userns")

    assert failed(found) == {}
    assert set(found.layers) >= BASE | LANDLOCK
    assert not NAMESPACES & set(found.layers)


def test_without_landlock_namespaces_are_enough(here):
    if not set(here.layers) >= NAMESPACES:
        pytest.skip("no namespaces on this host")
    found = check("no-landlock")

    assert failed(found) == {}
    assert set(here.layers) - set(found.layers) <= LANDLOCK
    assert "landlock" not in found.layers


GIVE_UP = """
import sys
from abyme.apps.attack import child, privileges
def deny(*rules): privileges._denied(*rules)
NO_USERNS, NO_LANDLOCK = privileges.USER_NAMESPACES, privileges.LANDLOCK
if os.geteuid() == 0 and {drops}: privileges._without_capabilities()
"""


def report(before, *, drops):
    """Give up what no privilege of the list lacks, then run a few attacks; the lines it says."""
    code = (
        f"import os{GIVE_UP.format(drops=drops)}{before}\n"
        f"sys.argv = ['child', 'jail', 'as-started', {SOME!r}, 'canary-none']\nchild.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "PYTHONPATH": f"{SRC}:{LIBRARIES}",
            "PATH": os.defpath,
            "TMPDIR": tempfile.gettempdir(),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_with_neither_namespaces_nor_landlock_it_refuses_to_serve(here):
    said = report("deny(*NO_USERNS)\ndeny(*NO_LANDLOCK)", drops=True)

    assert said == [{"unavailable": NO_JAIL}]
    assert NO_JAIL in LACKING["jail"]


@root_only
def test_root_without_user_namespaces_uses_its_capabilities(here):
    found = check("root-no-userns")

    assert failed(found) == {}
    assert {one.outcome for one in found.results} == {"held"}
    if set(here.layers) >= NAMESPACES:
        assert set(here.layers) - set(found.layers) == {"user_namespace"}


ONE_ID = """
from abyme.guest.kernel import namespaces
user, group = os.geteuid(), os.getegid()
namespaces.INNER_ID = 0
namespaces._unshare(namespaces.CLONE_NEWUSER)
namespaces._map_ids(user, group)
assert os.getuid() == 0
deny(*NO_USERNS)
"""


def test_in_a_user_namespace_of_one_id_that_allows_no_other_it_falls_to_landlock(here):
    if not {"landlock", "user_namespace"} <= set(here.layers):
        pytest.skip("no Landlock, or no user namespaces")
    first, *results, last = report(ONE_ID, drops=False)

    assert last == {"done": True}
    assert {one["outcome"] for one in results} <= {"held", "passed_over"}
    assert set(first["layers"]) >= BASE | LANDLOCK
    assert not NAMESPACES & set(first["layers"])
