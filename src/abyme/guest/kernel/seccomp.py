"""The system call filter: a policy compiled to classic BPF, and put on this process.

Decides how a table becomes instructions. A call of another machine's numbering (i386,
x32) kills the process. Does not decide what is allowed: that is `policy`.

Sources: seccomp(2), Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes
import errno
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from abyme.guest.kernel.credentials import PR_SET_NO_NEW_PRIVS
from abyme.guest.kernel.libc import machine, prctl, syscall
from abyme.guest.kernel.policy import Rule, Test

AUDIT_ARCH: Final[Mapping[str, int]] = {"x86_64": 0xC000003E}
X32_BIT = 0x40000000

ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
REFUSE = ERRNO | errno.EPERM
SET_MODE_FILTER, FLAG_SPEC_ALLOW = 1, 4
LOAD, AND, JUMP, JUMP_EQUAL, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x06
MAX_JUMP = 255
LINEAR = 4


def compile_filter(rules: Iterable[Rule], otherwise: int = REFUSE) -> bytes:
    """Make the BPF program of a policy, for this machine. `otherwise`: of all other calls.

    Of two rules for the same call the first holds.
    """
    table: dict[int, Rule] = {}
    for rule in rules:
        table.setdefault(rule.number, rule)
    ordered = [table[number] for number in sorted(table)]
    program = [
        _instruction(LOAD, 4),
        _instruction(JUMP_EQUAL, AUDIT_ARCH[machine()], 1, 0),
        _instruction(RETURN, KILL_PROCESS),
        _instruction(LOAD, 0),
        _instruction(JUMP_GREATER_EQUAL, X32_BIT, 0, 1),
        _instruction(RETURN, KILL_PROCESS),
        *_search(ordered, _instruction(RETURN, otherwise)),
    ]
    return b"".join(program)


def install(program: bytes) -> None:
    """Put the filter on this process and all it will ever fork.

    Without the speculation guard that a filter implies on older kernels: it costs
    speed, and side channels of the processor are outside of what the jail promises.

    Raises:
        OSError: if the kernel says no.
    """
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    try:
        syscall("seccomp", SET_MODE_FILTER, FLAG_SPEC_ALLOW, header)
    except OSError:
        syscall("seccomp", SET_MODE_FILTER, 0, header)


def available() -> bool:
    """Tell whether the kernel has filters and this machine's numbers are known here."""
    if machine() not in AUDIT_ARCH:
        return False
    try:
        syscall("seccomp", 2, 0, struct.pack("I", KILL_PROCESS))  # GET_ACTION_AVAIL
    except OSError:
        return False
    return True


def _search(rules: Sequence[Rule], otherwise: bytes) -> list[bytes]:
    """Instructions that find the rule of the number that was loaded; they end wherever they jump.

    By halves, because the kernel runs a new filter once for each call that there is, and then
    again for each call whose arguments it looks at.
    """
    if len(rules) <= LINEAR:
        found: list[bytes] = []
        for rule in rules:
            body = _body(rule)
            found += [_instruction(JUMP_EQUAL, rule.number, 0, len(body)), *body]
        return [*found, otherwise]
    half = len(rules) // 2
    below, above = _search(rules[:half], otherwise), _search(rules[half:], otherwise)
    at_least = _instruction(JUMP_GREATER_EQUAL, rules[half].number, 0, 1)
    return [at_least, _instruction(JUMP, len(below)), *below, *above]


def _body(rule: Rule) -> list[bytes]:
    """Instructions that end in ALLOW or the rule's error, wherever they jump."""
    blocks: list[bytes] = []
    fail = _instruction(RETURN, ERRNO | rule.error)
    for test in rule.tests:
        blocks += _test(test, fail)
    return [*blocks, _instruction(RETURN, ALLOW)]


def _test(test: Test, fail: bytes) -> list[bytes]:
    if not test.values:
        return [fail]
    low = 16 + 8 * test.argument  # seccomp_data.args, little endian
    code: list[bytes] = []
    if test.wide:
        code += [_instruction(LOAD, low + 4), _instruction(JUMP_EQUAL, 0, 1, 0), fail]
    code.append(_instruction(LOAD, low))
    if test.mask != 0xFFFFFFFF:
        code.append(_instruction(AND, test.mask))
    for position, value in enumerate(test.values):
        left = len(test.values) - position - 1
        code.append(_instruction(JUMP_EQUAL, value, left + 1, 0))
    return [*code, fail]


def _instruction(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    if max(jump_true, jump_false) > MAX_JUMP:
        msg = "a rule is too long for a BPF jump"
        raise ValueError(msg)
    return struct.pack("HBBI", code, jump_true, jump_false, k & 0xFFFFFFFF)
