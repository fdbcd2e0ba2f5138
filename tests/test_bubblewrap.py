"""Contract: the jail is at least as strict as bubblewrap with everything unshared and dropped.

Compared line by line by what the kernel says in /proc of a REPL's processes, read by the host,
and of a program under `bwrap`. Skipped where bubblewrap is not installed or may not run.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from jail_doubles import bench

from abyme.core.effects import Result

STRICTEST = ("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
HOLDS = ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
"""What `cat` needs to tell; the jail has none of it."""
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@pytest.fixture(scope="module")
def bubblewrap():
    found = shutil.which("bwrap")
    if found is None:
        pytest.skip("no bubblewrap: apt install bubblewrap")

    def run(*command):
        made = subprocess.run(
            [found, *STRICTEST, *HOLDS, *command], capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.skip(f"bubblewrap may not run here: {made.stderr.strip()}")
        return made.stdout

    return run


@dataclass
class Seen:
    """A process as the kernel shows it to the host."""

    status: dict
    namespaces: dict
    mounts: list
    descriptors: set


@pytest.fixture(scope="module")
def processes():
    """The processes of a REPL, seen while a cell waits for a sub-call."""
    seen = []
    with bench() as made, made.repl() as repl:
        if "user_namespace" not in repl.session.facts.layers:
            pytest.skip("no user namespaces, so bubblewrap has nothing to be compared with")

        def bring(number, request):
            seen.extend(look(pid) for pid in tree(repl.session._body._pid))
            return Result(call=number, text="done")

        repl.bring = bring
        repl.out("llm_query('wait')")
    return seen


def tree(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in tree(int(child)))]


def look(pid):
    folder = Path(f"/proc/{pid}")
    told = status((folder / "status").read_text())
    if os.geteuid():  # only root may look further at a process that is not dumpable
        return Seen(told, {}, [], set())
    return Seen(
        told,
        {kind: str((folder / "ns" / kind).readlink()) for kind in KINDS},
        (folder / "mountinfo").read_text().splitlines(),
        {str(fd.readlink()).partition(":")[0] for fd in (folder / "fd").iterdir()},
    )


def status(text):
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value.split() for name, _, value in lines}


def test_no_process_of_a_repl_keeps_more_rights_than_under_bubblewrap(bubblewrap, processes):
    theirs = status(bubblewrap("cat", "/proc/self/status"))
    assert len(processes) >= 3  # supervisor, snapshot, and the one that runs the cell
    for ours in (process.status for process in processes):
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            rights, allowed = int(ours[kind][0], 16), int(theirs[kind][0], 16)
            assert rights & ~allowed == 0, kind
            assert rights == 0
        assert ours["NoNewPrivs"] == theirs["NoNewPrivs"] == ["1"]
        assert ours["Seccomp"] == ["2"]  # a filter; bubblewrap brings none of its own
        assert int(ours["Seccomp_filters"][0]) > int(theirs["Seccomp_filters"][0])
        assert len(ours["NSpid"]) >= 2


def test_a_repl_shares_no_kind_of_namespace_that_bubblewrap_unshares(bubblewrap, processes):
    needs_root()
    host = {kind: str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in KINDS}
    links = bubblewrap("sh", "-c", "cd /proc/self/ns && readlink " + " ".join(KINDS))
    theirs = {link.partition(":")[0] for link in links.split() if link not in host.values()}
    for process in processes:
        ours = {kind for kind in KINDS if process.namespaces[kind] != host[kind]}
        assert ours >= theirs
        assert ours == set(KINDS)


def test_a_repl_sees_one_empty_mount_where_bubblewrap_shows_a_system(bubblewrap, processes):
    needs_root()
    theirs = bubblewrap("cat", "/proc/self/mountinfo").splitlines()
    assert len(theirs) > 1
    for process in processes:
        (ours,) = process.mounts
        mount, _, kind = ours.partition(" - ")
        assert kind.startswith("tmpfs ")
        assert mount.split()[3:6] == ["/", "/", "ro,nosuid,nodev,noexec,relatime"]


def test_a_repl_has_no_descriptor_but_its_wires_and_nothing(processes):
    needs_root()
    for process in processes:
        assert process.descriptors <= {"/dev/null", "socket", "pipe"}


def needs_root():
    if os.geteuid():
        pytest.skip("only root may see this of a process that is not dumpable")
