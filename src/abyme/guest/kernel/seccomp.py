"""The system call filter: an allow-list, written as a table and compiled to classic BPF.

Decides what native code in the jail can ask of the kernel. What is not in the
table fails with EPERM; a call that names a path fails with ENOENT, as in an empty
file system; a call of another machine's numbering (i386, x32) kills the process.
A filter cannot follow pointers, so whatever passes its flags by pointer (clone3)
is refused with ENOSYS, which makes the C library use the older call.

Invariant: no process, file, socket, executable page, shared or fixed mapping,
namespace or tracing relation can be made. `fork` exists only where the REPL has
a PID namespace (roll-back snapshots need it); elsewhere signals reach the
process itself only.

Sources: seccomp(2); the numbers of `syscall_64.tbl`; MAP_GROWSDOWN is refused
because such maps escape RLIMIT_DATA (`is_data_mapping` in mm/internal.h), PI
futexes for their history (CVE-2014-3153, CVE-2021-3347).
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from abyme.guest.kernel.credentials import PR_SET_NO_NEW_PRIVS
from abyme.guest.kernel.libc import machine, prctl, syscall

AUDIT_ARCH: Final[Mapping[str, int]] = {"x86_64": 0xC000003E}
X32_BIT = 0x40000000

ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
SET_MODE_FILTER, FLAG_SPEC_ALLOW = 1, 4
LOAD, AND, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_SET, RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
MAX_JUMP = 255


@dataclass(frozen=True, slots=True)
class Test:
    """A condition on one argument: ``(argument & mask) in values``; both halves with `wide`."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """Allow `call` if every test holds, else fail with `error`."""

    call: str
    number: int
    tests: tuple[Test, ...] = ()
    error: int = errno.EPERM


PROT_EXEC = 4
MAP_SHARED, MAP_FIXED, MAP_GROWSDOWN, MAP_HUGETLB = 1, 0x10, 0x100, 0x40000
FORBIDDEN_MAPS = MAP_SHARED | MAP_FIXED | MAP_GROWSDOWN | MAP_HUGETLB
CLONE_VM, CLONE_THREAD = 0x100, 0x10000
CLONE_NAMESPACES = 0x7E020000
CLONE_TRICKS = 0x8000 | 0x2000 | 0x800000 | 0x80000000  # PARENT, PTRACE, UNTRACED, IO
NULL = (0,)

NOT_EXECUTABLE = Test(2, (0,), mask=PROT_EXEC)
PRIVATE_AND_FLOATING = Test(3, (0,), mask=FORBIDDEN_MAPS)
NO_NAMESPACE = Test(0, (0,), mask=CLONE_NAMESPACES | CLONE_TRICKS)
IS_THREAD = Test(0, (CLONE_VM | CLONE_THREAD,), mask=CLONE_VM | CLONE_THREAD)
THREAD_OR_FORK = Test(0, (0, CLONE_VM | CLONE_THREAD), mask=CLONE_VM | CLONE_THREAD)

CONDITIONAL: Final[tuple[Rule, ...]] = (
    Rule("mmap", 9, (NOT_EXECUTABLE, PRIVATE_AND_FLOATING)),
    Rule("mprotect", 10, (NOT_EXECUTABLE,)),
    Rule("pkey_mprotect", 329, (NOT_EXECUTABLE,)),
    Rule("mremap", 25, (Test(3, (0, 1)),)),  # nothing but MREMAP_MAYMOVE
    Rule("madvise", 28, (Test(2, (0, 1, 2, 3, 4, 8, 14, 15)),)),  # up to DONTNEED, FREE, *HUGEPAGE
    Rule("futex", 202, (Test(1, (0, 1, 3, 4, 5, 9, 10), mask=0x7F),)),  # no PI
    Rule(
        "fcntl", 72, (Test(1, (0, 1, 2, 3, 4, 1030, 1034)),)
    ),  # DUPFD, GET/SETFD, GET/SETFL, seals
    Rule("ioctl", 16, (Test(1, (0x541B, 0x5421, 0x5450, 0x5451)),), errno.ENOTTY),
    Rule("pipe2", 293, (Test(1, (0,), mask=0xFFFFFFFF & ~0x80800),)),  # CLOEXEC, NONBLOCK
    Rule("socketpair", 53, (Test(0, (1,)), Test(1, (1, 5), mask=0xF), Test(2, (0,)))),
    Rule("sendto", 44, (Test(4, NULL, wide=True),)),  # never to an address
    Rule("prctl", 157, (Test(0, (15, 16)),)),  # thread names
    Rule("prlimit64", 302, (Test(0, (0,)), Test(2, NULL, wide=True))),  # read one's own
    Rule("clone3", 435, (Test(0, (), wide=True),), errno.ENOSYS),
)

PLAIN: Final[Mapping[str, int]] = {
    # descriptors that are there already
    **{"read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "pread64": 17},
    **{"pwrite64": 18, "readv": 19, "writev": 20, "pipe": 22, "select": 23, "dup": 32, "dup2": 33},
    **{"recvfrom": 45, "shutdown": 48, "getsockname": 51, "getpeername": 52, "getsockopt": 55},
    **{"epoll_wait": 232, "epoll_ctl": 233, "pselect6": 270, "ppoll": 271, "epoll_pwait": 281},
    **{"eventfd2": 290, "epoll_create1": 291, "dup3": 292, "close_range": 436},
    # memory
    **{"munmap": 11, "brk": 12, "membarrier": 324},
    # signals to oneself, threads, time
    **{"rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pause": 34},
    **{"rt_sigpending": 127, "rt_sigtimedwait": 128, "rt_sigsuspend": 130, "sigaltstack": 131},
    **{"restart_syscall": 219, "set_tid_address": 218, "set_robust_list": 273, "rseq": 334},
    **{"exit": 60, "exit_group": 231, "sched_yield": 24, "sched_getaffinity": 204, "getcpu": 309},
    **{"nanosleep": 35, "getitimer": 36, "alarm": 37, "setitimer": 38, "gettimeofday": 96},
    **{"times": 100, "time": 201, "clock_gettime": 228, "clock_getres": 229},
    **{"clock_nanosleep": 230, "getrandom": 318},
    # questions about oneself
    **{"getpid": 39, "uname": 63, "getcwd": 79, "getrlimit": 97, "getrusage": 98, "sysinfo": 99},
    **{"getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "gettid": 186},
    **{"getpgrp": 111, "getgroups": 115, "getpgid": 121, "getsid": 124},
}

WITH_PID_NAMESPACE: Final[Mapping[str, int]] = {
    **{"fork": 57, "wait4": 61, "kill": 62, "waitid": 247, "tgkill": 234},
}

NAMES_A_PATH: Final[Mapping[str, int]] = {
    **{"open": 2, "stat": 4, "lstat": 6, "access": 21, "truncate": 76, "chdir": 80, "rename": 82},
    **{"mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88},
    **{"readlink": 89, "chmod": 90, "chown": 92, "lchown": 94, "utime": 132, "statfs": 137},
    **{"utimes": 235, "openat": 257, "mkdirat": 258, "fchownat": 260, "futimesat": 261},
    **{"newfstatat": 262, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266},
    **{"readlinkat": 267, "fchmodat": 268, "faccessat": 269, "utimensat": 280, "renameat2": 316},
    **{"statx": 332, "openat2": 437, "faccessat2": 439, "fchmodat2": 452},
}


FSTAT_OF_GLIBC: Final = Rule("newfstatat", 262, (Test(3, (0x1000,)),), errno.ENOENT)
"""With AT_EMPTY_PATH, as glibc 2.33 to 2.38 calls fstat. Only where the root is empty, because
a path could be named all the same."""


def policy(*, own_pid: int | None) -> list[Rule]:
    """The table for a REPL; `own_pid` where it has no PID namespace to be alone in."""
    rules = list(CONDITIONAL)
    rules += [Rule(call, number) for call, number in PLAIN.items()]
    if own_pid is None:
        rules.append(FSTAT_OF_GLIBC)
        rules.append(Rule("clone", 56, (NO_NAMESPACE, THREAD_OR_FORK)))
        rules += [Rule(call, number) for call, number in WITH_PID_NAMESPACE.items()]
    else:
        rules.append(Rule("clone", 56, (NO_NAMESPACE, IS_THREAD)))
        rules.append(Rule("tgkill", 234, (Test(0, (own_pid,)),)))
    never = (Test(0, (), wide=True),)
    rules += [Rule(call, nr, never, errno.ENOENT) for call, nr in NAMES_A_PATH.items()]
    return rules


def compile_filter(rules: Iterable[Rule]) -> bytes:
    """The BPF program of a policy, for this machine."""
    program = [
        _instruction(LOAD, 4),
        _instruction(JUMP_EQUAL, AUDIT_ARCH[machine()], 1, 0),
        _instruction(RETURN, KILL_PROCESS),
        _instruction(LOAD, 0),
        _instruction(JUMP_GREATER_EQUAL, X32_BIT, 0, 1),
        _instruction(RETURN, KILL_PROCESS),
    ]
    for rule in rules:
        body = _body(rule)
        program += [_instruction(JUMP_EQUAL, rule.number, 0, len(body)), *body]
    program.append(_instruction(RETURN, ERRNO | errno.EPERM))
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
    """The kernel has filters and this machine's numbers are known here."""
    if machine() not in AUDIT_ARCH:
        return False
    try:
        syscall("seccomp", 2, 0, struct.pack("I", KILL_PROCESS))  # GET_ACTION_AVAIL
    except OSError:
        return False
    return True


def holds() -> bool:
    """Calls that must fail do fail, each with the error of the table."""
    return (
        _refused(lambda: os.listdir("/"), errno.ENOENT)  # noqa: PTH208
        and _refused(lambda: os.execv("/", ["/"]), errno.EPERM)  # noqa: S606
        and _refused(lambda: os.memfd_create("x"), errno.EPERM)
        and _refused(lambda: prctl(PR_SET_NO_NEW_PRIVS, 1), errno.EPERM)
        and _refused(lambda: syscall("landlock_create_ruleset", None, 0, 1), errno.EPERM)
    )


def _refused(attempt: object, number: int) -> bool:
    try:
        attempt()  # type: ignore[operator]
    except OSError as error:
        return error.errno == number
    return False


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
