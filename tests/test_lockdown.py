"""Contract: no layer is claimed that is not on. Each is taken away, and the REPL is refused for it.

The fork server is started with one of its steps patched out, as if the kernel had said yes and
done nothing; the host must be told which layer is missing, and no cell may run.
"""

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from abyme.core.isolation import LAYERS
from abyme.core.limits import Limits
from abyme.errors import SandboxUnavailable
from abyme.sandboxes.jail.jail import open_session
from abyme.sandboxes.jail.zygote import Zygote, interpreter

SRC = Path(__file__).parent.parent / "src"

PROGRAM = """
import os, sys
from types import ModuleType
package = ModuleType("abyme")
package.__path__ = [{package!r}]
sys.modules["abyme"] = package
from abyme.guest import forks, interpreter, zygote
from abyme.guest.kernel import credentials, landlock, lockdown, namespaces, policy, rlimits
from abyme.guest.kernel import seal, seccomp
def without(module, name, instead=lambda *_, **__: None):
    setattr(module, name, instead)
{taken_away}
zygote.main(int(sys.argv[1]))
"""
"""Runs in place of the fork server's program, with its arguments."""

LAUNCHER = """#!/bin/sh
shift 4
exec {python} -s -S -P {program} "$@"
"""

NO_DEATH_SIGNAL = """
real, left = credentials.prctl, credentials.PR_SET_PDEATHSIG
without(credentials, 'prctl', lambda *all: 0 if all[0] == left else real(*all))
"""
NO_NAMESPACES = "namespaces.find_way = lambda: None\n"


async def verified(python):
    """Open a REPL with an interpreter of this path; its layers."""
    zygote = Zygote(hash_seed=0)
    try:
        await zygote.start(python)
        session = await open_session(zygote, Limits(), seed=0, own=(), snapshots=True)
        await session.aclose()
        return set(session.facts.layers)
    finally:
        await zygote.aclose()


@pytest.fixture(scope="module")
def here():
    try:
        return asyncio.run(verified(None))
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def without(tmp_path):
    """Open a REPL of a fork server from which something was taken away; its layers."""

    def run(taken_away):
        program, launcher = tmp_path / "program.py", tmp_path / "python"
        package = str(SRC / "abyme")
        program.write_text(PROGRAM.format(package=package, taken_away=taken_away))
        launcher.write_text(LAUNCHER.format(python=interpreter(), program=program))
        launcher.chmod(0o755)
        return asyncio.run(verified(str(launcher)))

    return run


def needs(here, *layers):
    missing = set(layers) - here
    if missing:
        pytest.skip(f"not on at this host: {', '.join(sorted(missing))}")


def refused(without, taken_away):
    """Name the layer for which the REPL was refused."""
    with pytest.raises(SandboxUnavailable) as caught:
        without(taken_away)
    return str(caught.value).rpartition("this layer is not on: ")[2]


def test_with_nothing_taken_away_it_serves(here, without):
    assert without("") == here


def test_every_layer_that_a_repl_names_is_one_that_can_be_required(here):
    assert here <= set(LAYERS["jail"])


@pytest.mark.parametrize(
    ("layer", "taken_away"),
    [
        ("seccomp", "without(seccomp, 'install')"),
        ("no_capabilities", "without(credentials, 'drop_capabilities')"),
        ("no_new_privileges", "without(credentials, 'renounce')"),
        ("no_new_privileges", NO_DEATH_SIGNAL),
        ("rlimits", "without(rlimits, 'limit')"),
        ("sealed_view", "without(seal, 'syscall', lambda *_: 0)"),
        ("landlock", "without(landlock, 'restrict')"),
        ("pid_namespace", "namespaces.CLONE_NEWPID = 0"),
        ("network_namespace", "namespaces.ALL_BUT_PID_AND_USER ^= namespaces.CLONE_NEWNET"),
        ("ipc_namespace", "namespaces.ALL_BUT_PID_AND_USER ^= namespaces.CLONE_NEWIPC"),
        ("empty_root", "without(namespaces, '_empty_root')"),
        ("empty_root", "namespaces.MS_RDONLY = 0"),
        ("descriptors", "without(os, 'closerange')"),
        ("descriptors", "os.open('/', os.O_RDONLY)"),
        (
            "descriptors",
            "ends = os.pipe()\nos.dup2(ends[0], 0)\nfor fd in ends:\n    os.close(fd)",
        ),
        ("empty_environment", "interpreter.environ = {}"),
    ],
)
def test_a_layer_that_is_taken_away_is_what_the_repl_is_refused_for(
    here, without, layer, taken_away
):
    needs(here, layer, "user_namespace")

    assert refused(without, taken_away) == layer


def test_a_variable_that_only_the_c_library_has_is_found(here, without):
    taken_away = (
        "real = forks.prepare\n"
        "def prepare(sink):\n"
        "    namespace = real(sink)\n"
        "    os.putenv('KEY', 'secret')\n"
        "    return namespace\n"
        "forks.prepare = prepare"
    )
    assert refused(without, taken_away) == "empty_environment"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gets so far without one")
def test_root_that_is_still_root_is_found(here, without):
    needs(here, "user_namespace")

    assert refused(without, "namespaces.CLONE_NEWUSER = 0") == "user_namespace"


def test_without_a_host_name_of_its_own_the_host_is_not_touched(here, without):
    needs(here, "uts_namespace", "landlock")

    layers = without("namespaces.ALL_BUT_PID_AND_USER ^= namespaces.CLONE_NEWUTS")

    assert not layers & {"uts_namespace", "empty_root", "pid_namespace"}
    assert layers >= {"landlock", "seccomp"}


@pytest.mark.parametrize(
    "name",
    [
        *("RLIMIT_DATA", "RLIMIT_AS", "RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_FSIZE"),
        *("RLIMIT_CORE", "RLIMIT_MEMLOCK"),
    ],
)
def test_each_limit_that_is_not_set_is_found(here, without, name):
    if resource.getrlimit(getattr(resource, name))[1] == 0:
        pytest.skip("it is 0 for all of this session")
    taken_away = (
        "import resource\n"
        "real = resource.setrlimit\n"
        f"left = resource.{name}\n"
        "resource.setrlimit = lambda which, pair: None if which == left else real(which, pair)"
    )
    assert refused(without, taken_away) == "rlimits"


@pytest.mark.parametrize(
    ("call", "number"),
    [("ptrace", 101), ("io_uring_setup", 425), ("socket", 41), ("unshare", 272), ("bpf", 321)],
)
def test_a_filter_that_lets_one_call_through_is_found(here, without, call, number):
    assert refused(without, f"policy.PLAIN[{call!r}] = {number}") == "seccomp"


def test_a_supervisor_that_is_not_confined_ends_its_repl(here, without):
    needs(here, "pid_namespace")
    taken_away = (
        "real = seccomp.install\n"
        "seccomp.install = lambda program: None if os.getpid() == 1 else real(program)"
    )
    assert refused(without, taken_away) == "seccomp"


def test_without_namespaces_a_signal_that_passes_is_found(here, without):
    needs(here, "landlock")

    assert refused(without, NO_NAMESPACES + "policy.PLAIN['kill'] = 62") == "seccomp"


def test_without_namespaces_landlock_must_keep_ports_away_too(here, without):
    needs(here, "landlock")
    old_version = "real = landlock.restrict\nlandlock.restrict = lambda version: real(3)"

    assert refused(without, NO_NAMESPACES + old_version) == "landlock"


UNFILTERED = """
from abyme.guest.kernel import forbidden
from abyme.guest.kernel.libc import call_words, error_of
for one in forbidden.attempts(alone=False):
    if error_of(call_words(one.number, *one.words)) == one.error:
        print(one.call)
"""


def test_each_call_that_is_tried_has_another_end_where_no_filter_is():
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    if "Seccomp:\t0" not in status:
        pytest.skip("these tests run under somebody's filter")
    done = subprocess.run(
        [sys.executable, "-c", UNFILTERED],
        env={"PYTHONPATH": str(SRC), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == ""
