"""What native code in the jail may ask of the kernel: the system call policy, as a table.

Decides call by call. What is not in the table fails with EPERM; a call that names a
path fails with ENOENT, as in an empty file system. A filter cannot follow pointers, so
what passes its flags by pointer (clone3) is refused with ENOSYS, which makes the C
library use the older call.

Invariant: no process, file, socket, executable page, shared or fixed mapping,
namespace or tracing relation can be made. `fork` exists only where the REPL has
a PID namespace (roll-back snapshots need it); elsewhere signals reach the
process itself only. The numbers are those of x86_64; another machine needs a table of its own.

Sources: seccomp(2); `syscall_64.tbl` of Linux 6.12; MAP_GROWSDOWN is refused because
such maps escape RLIMIT_DATA (`is_data_mapping` in mm/internal.h), as written pages do that are made
read-only again, so `mprotect` makes them readable and writable or nothing; PI futexes for their
history (CVE-2014-3153, CVE-2021-3347).
"""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


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


def _numbers(text: str) -> dict[str, int]:
    pairs = (word.split(":") for word in text.split())
    return {name: int(number) for name, number in pairs}


PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_TYPE, MAP_PRIVATE = 0xF, 2  # neither SHARED (1, 3) nor DROPPABLE (8)
MAP_FIXED, MAP_GROWSDOWN, MAP_HUGETLB = 0x10, 0x100, 0x40000
CLONE_VM, CLONE_THREAD = 0x100, 0x10000
CLONE_NAMESPACES = 0x7E020000
CLONE_TRICKS = 0x8000 | 0x2000 | 0x1000 | 0x800000 | 0x80000000  # PARENT, PTRACE, PIDFD, UNTRACED
NULL = (0,)

NOT_EXECUTABLE = Test(2, (0,), mask=PROT_EXEC)
PRIVATE_AND_FLOATING = Test(
    3, (MAP_PRIVATE,), mask=MAP_TYPE | MAP_FIXED | MAP_GROWSDOWN | MAP_HUGETLB
)
NO_NAMESPACE = Test(0, (0,), mask=CLONE_NAMESPACES | CLONE_TRICKS)
IS_THREAD = Test(0, (CLONE_VM | CLONE_THREAD,), mask=CLONE_VM | CLONE_THREAD)
THREAD_OR_FORK = Test(0, (0, CLONE_VM | CLONE_THREAD), mask=CLONE_VM | CLONE_THREAD)

CONDITIONAL: Final[tuple[Rule, ...]] = (
    Rule("mmap", 9, (NOT_EXECUTABLE, PRIVATE_AND_FLOATING)),
    Rule("mprotect", 10, (Test(2, (PROT_READ | PROT_WRITE,)),)),
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
    # Of SOL_SOCKET: TYPE, ERROR, SNDBUF, RCVBUF, ACCEPTCONN, PROTOCOL, DOMAIN. Others tell of the
    # wire's other end: its process, user and groups, or a handle for it (SO_PEERPIDFD).
    Rule("getsockopt", 55, (Test(1, (1,)), Test(2, (3, 4, 7, 8, 30, 38, 39)))),
    Rule("prctl", 157, (Test(0, (15, 16)),)),  # thread names
    Rule("prlimit64", 302, (Test(0, (0,)), Test(2, NULL, wide=True))),  # read one's own
    Rule("clone3", 435, (Test(0, (), wide=True),), errno.ENOSYS),
)


FSTAT_OF_GLIBC: Final = Rule("newfstatat", 262, (Test(3, (0x1000,)),), errno.ENOENT)
"""With AT_EMPTY_PATH, as glibc 2.33 to 2.38 calls fstat. Only where the root is empty, because
a path could be named all the same."""

CLOCKS: Final = ("clock_gettime", "clock_getres", "clock_nanosleep")
NO_CLOCK_OF_OTHERS: Final = Test(0, (0,), mask=0x80000000)
"""A negative clock is the processor time of a process (clock_getcpuclockid(3))."""

PLAIN: Final[Mapping[str, int]] = _numbers("""
read:0  write:1  close:3  fstat:5  poll:7  lseek:8  pread64:17  pwrite64:18  readv:19  writev:20
pipe:22  select:23  dup:32  dup2:33  recvfrom:45  shutdown:48  getsockname:51  getpeername:52
epoll_wait:232  epoll_ctl:233  pselect6:270  ppoll:271  epoll_pwait:281
eventfd2:290  epoll_create1:291  dup3:292  close_range:436
munmap:11  brk:12  membarrier:324
rt_sigaction:13  rt_sigprocmask:14  rt_sigreturn:15  pause:34  rt_sigpending:127
rt_sigtimedwait:128  rt_sigsuspend:130  sigaltstack:131  restart_syscall:219
set_tid_address:218  set_robust_list:273  rseq:334  exit:60  exit_group:231  sched_yield:24
sched_getaffinity:204  getcpu:309  nanosleep:35  getitimer:36  alarm:37  setitimer:38
gettimeofday:96  times:100  time:201  clock_gettime:228  clock_getres:229  clock_nanosleep:230
getrandom:318
getpid:39 uname:63 getcwd:79 getrlimit:97 getrusage:98 sysinfo:99 getuid:102 getgid:104
geteuid:107 getegid:108 getppid:110 gettid:186 getpgrp:111 getgroups:115 getpgid:121 getsid:124
""")
"""Descriptors that are there already, memory, time, threads, signals to oneself, questions."""

ASKS_OF_A_PROCESS: Final = ("getpgid", "getsid", "sched_getaffinity")
"""Where all processes of the host could be named, only of the own one."""

WITH_PID_NAMESPACE: Final[Mapping[str, int]] = _numbers("""
fork:57 wait4:61 kill:62 waitid:247 tgkill:234
""")

NAMES_A_PATH: Final[Mapping[str, int]] = _numbers("""
open:2 stat:4 lstat:6 access:21 truncate:76 chdir:80 rename:82 mkdir:83 rmdir:84 creat:85
link:86 unlink:87 symlink:88 readlink:89 chmod:90 chown:92 lchown:94 utime:132 statfs:137
utimes:235 openat:257 mkdirat:258 fchownat:260 futimesat:261 newfstatat:262 unlinkat:263
renameat:264 linkat:265 symlinkat:266 readlinkat:267 fchmodat:268 faccessat:269 utimensat:280
renameat2:316 statx:332 openat2:437 faccessat2:439 fchmodat2:452
""")


def rules(*, own_pid: int | None) -> list[Rule]:
    """Put the table for a REPL together; `own_pid` where it has no PID namespace to be alone in."""
    plain = dict(PLAIN)
    table = list(CONDITIONAL)
    if own_pid is None:
        table.append(FSTAT_OF_GLIBC)
        table.append(Rule("clone", 56, (NO_NAMESPACE, THREAD_OR_FORK)))
        plain |= WITH_PID_NAMESPACE
    else:
        own = (Test(0, (0, own_pid)),)
        table.append(Rule("clone", 56, (NO_NAMESPACE, IS_THREAD)))
        table.append(Rule("tgkill", 234, (Test(0, (own_pid,)),)))
        table += [Rule(call, plain.pop(call), own) for call in ASKS_OF_A_PROCESS]
        table += [Rule(call, plain.pop(call), (NO_CLOCK_OF_OTHERS,)) for call in CLOCKS]
    table += [Rule(call, number) for call, number in plain.items()]
    never = (Test(0, (), wide=True),)
    table += [Rule(call, nr, never, errno.ENOENT) for call, nr in NAMES_A_PATH.items()]
    return table
