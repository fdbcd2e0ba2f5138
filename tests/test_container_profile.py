"""Contract: deploy/seccomp.json. The jail keeps every layer under it, and little else is added.

The profile is compiled by libseccomp, as container runtimes do, and put on a process that asks
`abyme doctor`. That process is no container: see docs/guides/containers.md for what was run in one.
"""

import ctypes
import ctypes.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from abyme.guest.kernel import libc, policy, seccomp

ROOT = Path(__file__).parent.parent
PROFILE = json.loads((ROOT / "deploy" / "seccomp.json").read_text())
X86_64 = 0xC000003E
KNOWN = {"mseal": 462, "fchmodat2": 452, "cachestat": 451, "map_shadow_stack": 453,
         "futex_wake": 454, "futex_wait": 455, "futex_requeue": 456, "setxattrat": 463,
         "getxattrat": 464, "listxattrat": 465, "removexattrat": 466}  # fmt: skip
"""Newer than libseccomp 2.5. Source: syscall_64.tbl of Linux 6.13."""

pytestmark = pytest.mark.skipif(
    libc.machine() not in seccomp.AUDIT_ARCH, reason="x86_64 only, as the jail"
)


class Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
    )


NOT_EQUAL = 1


def allowed():
    return {
        name
        for rule in PROFILE["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]
    }


@pytest.fixture(scope="module")
def program():
    path = ctypes.util.find_library("seccomp")
    if path is None:
        pytest.skip("no libseccomp: Debian's package libseccomp2")
    library = ctypes.CDLL(path)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(action("SCMP_ACT_ERRNO", 1))))
    for rule in PROFILE["syscalls"]:
        compared = [
            Comparison(arg["index"], NOT_EQUAL, arg["value"]) for arg in rule.get("args", [])
        ]
        comparisons = (Comparison * max(1, len(compared)))(*compared)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name_arch(X86_64, name.encode())
            added = library.seccomp_rule_add_array(
                context,
                ctypes.c_uint32(action(rule["action"], rule.get("errnoRet", 1))),
                number if number >= 0 else KNOWN[name],
                len(compared),
                comparisons,
            )
            assert added == 0, name
    with tempfile.TemporaryFile() as file:
        assert library.seccomp_export_bpf(context, file.fileno()) == 0
        file.seek(0)
        yield file.read()
    library.seccomp_release(context)


def action(name, error):
    return {"SCMP_ACT_ALLOW": seccomp.ALLOW, "SCMP_ACT_ERRNO": seccomp.ERRNO | error}[name]


ASK = """
import os, sys
from abyme.guest.kernel import seccomp
with open(sys.argv[1], "rb") as file:
    program = file.read()
if program:
    seccomp.install(program)
os.execv(sys.executable, [sys.executable, "-m", "abyme", "doctor", "--json"])
"""


def layers(program, folder):
    file = folder / "program"
    file.write_bytes(program)
    said = subprocess.run(
        [sys.executable, "-c", ASK, str(file)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ABYME_HOME": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    report = json.loads(said.stdout)
    if not report["ready"]:
        pytest.skip(f"no jail here: {report['problem']}")
    return {layer["name"] for layer in report["layers"] if layer["on"]}


def test_every_layer_of_the_jail_is_on_under_the_profile(program, tmp_path):
    without = layers(b"", tmp_path)
    assert "seccomp" in without
    assert layers(program, tmp_path) == without


def test_the_profile_allows_what_a_repl_may_call_and_what_builds_its_jail():
    cells = {rule.call for rule in policy.rules(own_pid=None) if rule.tests != NEVER}
    builds = set(libc.NUMBERS["x86_64"]) | {"unshare", "mount", "umount2", "sethostname"}
    assert cells - allowed() == set()
    assert builds - allowed() == set()


NEVER = (policy.Test(0, (), wide=True),)
FORBIDDEN = """
add_key bpf delete_module finit_module init_module io_uring_enter io_uring_register io_uring_setup
ioperm iopl kcmp kexec_file_load kexec_load keyctl mbind modify_ldt mount_setattr move_mount
move_pages name_to_handle_at open_by_handle_at open_tree perf_event_open personality pidfd_getfd
process_vm_readv process_vm_writev ptrace quotactl reboot request_key setns settimeofday swapoff
swapon syslog userfaultfd vhangup
""".split()  # noqa: SIM905


def test_the_profile_opens_nothing_of_the_kernel_that_the_jail_does_not_need():
    assert sorted(allowed() & set(FORBIDDEN)) == []
    assert PROFILE["defaultAction"] == "SCMP_ACT_ERRNO"
    assert PROFILE["architectures"] == ["SCMP_ARCH_X86_64"]


def test_the_pod_meets_the_restricted_standard_as_far_as_it_can_be_read():
    pod = (ROOT / "deploy" / "pod.yaml").read_text()
    for line in (
        "runAsNonRoot: true",
        "type: Localhost",
        "allowPrivilegeEscalation: false",
        'capabilities: {drop: ["ALL"]}',
    ):
        assert line in pod
    for word in ("privileged: true", "hostPID", "hostNetwork", "hostPath", "procMount"):
        assert word not in pod
