"""Contract: the seccomp program says what guest/kernel/policy states, as others' tools read it.

The judges are none of ours: libseccomp builds a filter of its own from the stated policy, its
simulator and disassembler (`scripts/make-seccomp-tools`) and Debian's `scmp_sys_resolver` read
our program and our numbers, and the kernel answers in the jail. What is missing is skipped.
"""

import ctypes
import ctypes.util
import errno
import itertools
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from jail_doubles import ANY, bench

from abyme.guest.kernel import libc, policy, seccomp

pytestmark = pytest.mark.skipif(
    libc.machine() not in seccomp.AUDIT_ARCH, reason="x86_64 only, as the policy"
)

TOOLS = Path(__file__).parent.parent / "build" / "seccomp-tools"
X86_64, I386, X32 = 0xC000003E, 0x40000003, 0x40000000
ALLOW, KILL, EPERM = seccomp.ALLOW, seccomp.KILL_PROCESS, seccomp.ERRNO | errno.EPERM
NUMBERS = range(601)
OWN_PID = 4321
PIDS = [pytest.param(None, id="with a PID namespace"), pytest.param(OWN_PID, id="without")]


def tool(name):
    found = shutil.which(name) or shutil.which(name, path=str(TOOLS))
    if found is None:
        pytest.skip(f"no {name}: run scripts/make-seccomp-tools")
    return found


def table(own_pid):
    return policy.rules(own_pid=own_pid)


def stated(rules, number, arguments):
    """What the table says, read as its docstrings tell: nothing is compiled."""
    for rule in rules:
        if rule.number == number:
            held = all(
                (arguments[test.argument] & (test.mask | (0xFFFFFFFF << 32 if test.wide else 0)))
                in test.values
                for test in rule.tests
            )
            return ALLOW if held else seccomp.ERRNO | rule.error
    return EPERM


def asked(rules):
    """Every call with no arguments; those with conditions also with each that holds, and with
    every single bit of one turned.
    """
    calls = [(number, (0,) * 6) for number in NUMBERS]
    for rule in rules:
        choices = [test.values or (0,) for test in rule.tests]
        for values in itertools.product(*choices):
            arguments = [0] * 6
            for test, value in zip(rule.tests, values, strict=True):
                arguments[test.argument] = value
            calls.append((rule.number, tuple(arguments)))
            for test in rule.tests:
                for bit in range(64):
                    turned = list(arguments)
                    turned[test.argument] ^= 1 << bit
                    calls.append((rule.number, tuple(turned)))
    return sorted(set(calls))


def run_bpf(program, number, arguments, arch=X86_64):
    """Classic BPF as the kernel has it for seccomp; libseccomp uses more of it than we do."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *arguments)
    at, a = 0, 0
    while True:
        code, yes, no, k = struct.unpack_from("HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (a,) = struct.unpack_from("<I", data, k)
        elif code == 0x54:
            a &= k
        elif code == 0x05:
            at += k
        elif code in (0x15, 0x25, 0x35, 0x45):
            holds = {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x45: bool(a & k)}[code]
            at += yes if holds else no
        else:
            assert code == 0x06, hex(code)
            return k


class Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


MASKED_EQUAL, BAD_ARCH = 7, 2


@pytest.fixture(scope="module")
def library():
    path = ctypes.util.find_library("seccomp")
    if path is None:
        pytest.skip("no libseccomp: Debian's package libseccomp2")
    loaded = ctypes.CDLL(path)
    loaded.seccomp_init.restype = ctypes.c_void_p
    loaded.seccomp_init.argtypes = [ctypes.c_uint32]
    loaded.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    loaded.seccomp_rule_add_exact_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(Comparison),
    ]
    loaded.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    loaded.seccomp_release.argtypes = [ctypes.c_void_p]
    return loaded


def made_by_libseccomp(library, rules):
    """The calls that the table allows, compiled by libseccomp; all else gets EPERM."""
    context = library.seccomp_init(EPERM)
    try:
        assert library.seccomp_attr_set(context, BAD_ARCH, KILL) == 0
        for rule in rules:
            for values in itertools.product(*(test.values for test in rule.tests)):
                wanted = {}  # libseccomp takes one comparison of each argument
                for test, value in zip(rule.tests, values, strict=True):
                    mask = test.mask | (0xFFFFFFFF << 32 if test.wide else 0)
                    before, held = wanted.get(test.argument, (0, 0))
                    assert value & before == held & mask
                    wanted[test.argument] = (before | mask, held | value)
                comparisons = (Comparison * max(1, len(wanted)))(
                    *(Comparison(at, MASKED_EQUAL, *both) for at, both in wanted.items())
                )
                added = library.seccomp_rule_add_exact_array(
                    context, ALLOW, rule.number, len(wanted), comparisons
                )
                assert added == 0, (rule, added)
        with tempfile.TemporaryFile() as file:
            assert library.seccomp_export_bpf(context, file.fileno()) == 0
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)


@pytest.mark.parametrize("own_pid", PIDS)
def test_libseccomp_allows_the_same_calls_when_it_compiles_the_same_policy(library, own_pid):
    rules = table(own_pid)
    ours, theirs = seccomp.compile_filter(rules), made_by_libseccomp(library, rules)
    assert ours != theirs
    differ = [
        (number, arguments)
        for number, arguments in asked(rules)
        if (run_bpf(ours, number, arguments) == ALLOW)
        != (run_bpf(theirs, number, arguments) == ALLOW)
    ]
    assert differ == []
    for arch, number in ((I386, 3), (X86_64, X32 | 39)):
        assert run_bpf(theirs, number, (0,) * 6, arch) == KILL
        assert run_bpf(ours, number, (0,) * 6, arch) == KILL


@pytest.mark.parametrize("own_pid", PIDS)
def test_the_program_gives_every_call_the_error_that_the_table_states(own_pid):
    rules = table(own_pid)
    program = seccomp.compile_filter(rules)
    calls = asked(rules)
    assert len(calls) > 2_000
    assert [run_bpf(program, *call) for call in calls] == [stated(rules, *call) for call in calls]


@pytest.mark.parametrize("own_pid", PIDS)
def test_every_name_of_the_policy_has_the_number_that_libseccomp_knows(own_pid):
    resolver = tool("scmp_sys_resolver")
    wrong, unknown = [], []
    for rule in table(own_pid):
        said = resolved(resolver, rule.call)
        if said == -1:
            unknown.append(rule.call)
        elif said != rule.number:
            wrong.append((rule, said))
    assert wrong == []
    for call in unknown:  # newer than the library; no older one may have its number
        (number,) = {rule.number for rule in table(own_pid) if rule.call == call}
        assert (call, resolved(resolver, str(number))) == ("fchmodat2", "UNKNOWN")


def test_the_calls_that_build_the_jail_have_the_numbers_that_libseccomp_knows():
    resolver = tool("scmp_sys_resolver")
    for call, number in libc.NUMBERS["x86_64"].items():
        assert resolved(resolver, call) == (-1 if call == "mseal" else number)


def resolved(resolver, what):
    said = subprocess.run(
        [resolver, "-a", "x86_64", what], capture_output=True, text=True, check=True
    ).stdout.strip()
    return int(said) if said.lstrip("-").isdigit() else said


@pytest.mark.parametrize("own_pid", PIDS)
def test_libseccomps_simulator_gives_every_call_the_verdict_of_the_table(own_pid, tmp_path):
    simulator, rules = tool("scmp_bpf_sim"), table(own_pid)
    path = tmp_path / "program"
    path.write_bytes(seccomp.compile_filter(rules))
    whole = [(number, (0,) * 6) for number in NUMBERS]
    some = [call for call in asked(rules) if any(call[1])][::23]
    assert len(some) > 50
    for number, arguments in whole + some:
        said = simulated(simulator, path, "x86_64", number, arguments)
        assert (number, arguments, said) == (number, arguments, stated(rules, number, arguments))
    for number in (0, 3, 39, 59):
        assert simulated(simulator, path, "x86", number) == KILL
        assert simulated(simulator, path, "x86_64", X32 | number) == KILL


def simulated(simulator, path, arch, number, arguments=()):
    words = [str(number), *(word for at, value in enumerate(arguments) if value
                            for word in (f"-{at}", str(value)))]  # fmt: skip
    said = subprocess.run(
        [simulator, "-f", str(path), "-a", arch, "-s", *words],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    return verdict_in_words(said)


def verdict_in_words(said):
    error = re.fullmatch(r"ERRNO\((\d+)\)", said)
    return seccomp.ERRNO | int(error[1]) if error else {"ALLOW": ALLOW, "KILL_PROCESS": KILL}[said]


LINE = re.compile(r" (\d{4}): (?:0x\w+ ){4}  (\w+) +(\S+)(?: +true:(\d+) false:(\d+))?\s*")


@pytest.mark.parametrize("own_pid", PIDS)
def test_the_disassembled_program_reads_like_the_table(own_pid):
    rules = table(own_pid)
    text = subprocess.run(
        [tool("scmp_bpf_disasm")],
        input=seccomp.compile_filter(rules),
        capture_output=True,
        check=True,
    ).stdout.decode()
    lines = [LINE.fullmatch(line) for line in text.splitlines()[2:]]
    assert None not in lines
    program = [(line[2], line[3], line[4], line[5]) for line in lines]
    assert {operation for operation, *_ in program} <= {"ld", "and", "jeq", "jge", "jmp", "ret"}
    for number, arguments in asked(rules):
        assert read_aloud(program, number, arguments) == stated(rules, number, arguments)


def read_aloud(program, number, arguments):
    """Follow the disassembler's words."""
    data = struct.pack("<iIQ6Q", number, X86_64, 0, *arguments)
    at, a = 0, 0
    while True:
        operation, operand, yes, no = program[at]
        at += 1
        if operation == "ld":
            (a,) = struct.unpack_from("<I", data, int(operand.removeprefix("$data[")[:-1]))
        elif operation == "ret":
            return verdict_in_words(operand)
        elif operation == "and":
            a &= int(operand, 16)
        elif operation == "jmp":
            at = int(operand)
        else:
            k = int(operand)
            at = int(yes if (a == k if operation == "jeq" else a >= k) else no)


UNFILTERED = (335, 336)
"""uretprobe and uprobe: Linux 6.14 and 6.18 answer them before any filter, with SIGILL or ENXIO for
whoever is not the kernel's own trampoline (`__seccomp_filter`, kernel/seccomp.c)."""
IN_THE_JAIL = """
import sys
ctypes = sys.modules["ctypes"]
call = ctypes.CDLL(None, use_errno=True).syscall
answers = {{}}
for number in {numbers}:
    ctypes.set_errno(0)
    result = call(number, 0, 0, 0, 0, 0, 0)
    answers[number] = ctypes.get_errno() if result == -1 else -result
print(*(f"{{number}}:{{error}}" for number, error in answers.items()))
"""


def test_the_kernel_answers_in_the_jail_as_the_table_states():
    with bench(isolation=ANY) as made, made.repl() as repl:
        alone = "pid_namespace" not in repl.session.facts.layers
        rules = table(1 if alone else None)
        refused = [
            n for n in NUMBERS if stated(rules, n, (0,) * 6) != ALLOW and n not in UNFILTERED
        ]
        said = repl.out(IN_THE_JAIL.format(numbers=refused))
    answers = dict(map(int, pair.split(":")) for pair in said.split())
    assert len(refused) > 450
    assert answers == {n: stated(rules, n, (0,) * 6) & 0xFFFF for n in refused}


ON_ANOTHER_MACHINE = """
import ctypes, os, sys
assert ctypes.CDLL(None).personality(8) >= 0  # PER_LINUX32: uname says i686, to children too
os.execv(sys.executable, [sys.executable, "-m", "abyme", "doctor", *sys.argv[1:]])
"""


def test_on_a_machine_whose_numbers_are_not_listed_doctor_refuses_and_says_so(tmp_path):
    doctor = [sys.executable, "-c", ON_ANOTHER_MACHINE]
    paths = {"ABYME_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [*doctor, "--json"], capture_output=True, text=True, check=False, env=os.environ | paths
    )
    report = json.loads(told.stdout)
    assert (told.returncode, report["ready"], report["layers"]) == (1, False, [])
    assert report["kernel"].endswith(" i686")
    assert report["problem"] == "no system call filter on this kernel and machine (i686)"
