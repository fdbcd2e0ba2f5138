"""System calls that a jailed process tries once, each of which must be refused.

Decides which calls stand for their kind. Invariant: each is harmless where nothing refuses it
(no object, an empty length, a bad pointer), and the kernel's own answer to it is another one
than the filter's, so that a filter that is missing, or lets it through, is seen. Not
tried are calls that would do harm by themselves (fork, vfork), and those that end the
process (another machine's numbering); the policy is compared with its table in the tests.
The numbers are those of x86_64.
"""

import functools
from collections.abc import Iterator, Sequence
from errno import ENOENT, ENOSYS, ENOTTY, EPERM
from typing import Final, NamedTuple

from abyme.guest.kernel.libc import Words, call_words, error_of

NO_FD: Final = -1
BAD: Final = 1
"""A pointer to nothing."""
ROOT: Final = b"/"
O_PATH, AT_FDCWD = 0x200000, -100


class Attempt(NamedTuple):
    """A call, its number, its arguments, and the error that it must end with."""

    call: str
    number: int
    words: tuple[int | bytes, ...]
    error: int = EPERM


ALWAYS: Final[Sequence[Attempt]] = (
    # New sockets, and descriptors or words through those that are there.
    Attempt("socket(AF_INET)", 41, (2, 1, 0)),
    Attempt("socket(AF_UNIX)", 41, (1, 1, 0)),
    Attempt("socket(AF_NETLINK)", 41, (16, 3, 0)),
    Attempt("socketpair(AF_INET)", 53, (2, 1, 0, 0)),
    Attempt("connect", 42, (NO_FD, 0, 0)),
    Attempt("bind", 49, (NO_FD, 0, 0)),
    Attempt("sendto(address)", 44, (NO_FD, 0, 0, 0, BAD, 0)),
    Attempt("sendmsg", 46, (NO_FD, 0, 0)),
    Attempt("recvmsg", 47, (NO_FD, 0, 0)),
    Attempt("sendmmsg", 307, (NO_FD, 0, 0, 0)),
    Attempt("ioctl(TIOCSTI)", 16, (NO_FD, 0x5412, 0), ENOTTY),
    Attempt("fcntl(F_SETOWN)", 72, (NO_FD, 8, 0)),
    # Other programs and memory that can be executed, shared or placed over what is there.
    Attempt("execve", 59, (0, 0, 0)),
    Attempt("execveat", 322, (NO_FD, 0, 0, 0, 0)),
    Attempt("memfd_create", 319, (0, 0)),
    Attempt("mmap(PROT_EXEC)", 9, (0, 4096, 5, 0x22, NO_FD, 0)),
    Attempt("mmap(MAP_SHARED)", 9, (0, 4096, 3, 0x21, NO_FD, 0)),
    Attempt("mmap(MAP_FIXED)", 9, (0x10000, 4096, 0, 0x32, NO_FD, 0)),
    Attempt("mmap(MAP_GROWSDOWN)", 9, (0, 4096, 3, 0x122, NO_FD, 0)),
    Attempt("mprotect(PROT_EXEC)", 10, (0, 0, 4)),
    Attempt("mremap(MREMAP_FIXED)", 25, (0, 0, 0, 3, 0)),
    Attempt("remap_file_pages", 216, (0, 0, 0, 0, 0)),
    Attempt("madvise(MADV_REMOVE)", 28, (0, 0, 9)),
    Attempt("shmget", 29, (0, 0, 0)),
    Attempt("semget", 64, (1, 0, 0)),
    Attempt("msgget", 68, (1, 0)),
    Attempt("mq_open", 240, (0, 0, 0, 0)),
    # Other processes, and more rights for oneself.
    Attempt("ptrace", 101, (16, 0, 0, 0)),
    Attempt("process_vm_readv", 310, (0, 0, 0, 0, 0, 0)),
    Attempt("process_vm_writev", 311, (0, 0, 0, 0, 0, 0)),
    Attempt("pidfd_open", 434, (0, 0)),
    Attempt("pidfd_send_signal", 424, (NO_FD, 0, 0, 0)),
    Attempt("pidfd_getfd", 438, (NO_FD, 0, 0)),
    Attempt("rt_sigqueueinfo", 129, (0, 0, 0)),
    Attempt("kcmp", 312, (0, 0, 0, 0, 0)),
    Attempt("prlimit64(set)", 302, (0, 7, BAD, 0)),
    Attempt("setrlimit", 160, (7, 0)),
    Attempt("setresuid", 117, (-1, -1, -1)),
    Attempt("capset", 126, (0, 0)),
    Attempt("prctl(PR_SET_NO_NEW_PRIVS)", 157, (38, 1, 0, 0, 0)),
    Attempt("prctl(PR_SET_DUMPABLE)", 157, (4, 99, 0, 0, 0)),
    Attempt("personality", 135, (0xFFFFFFFF,)),
    Attempt("arch_prctl", 158, (0, 0)),
    Attempt("setpriority", 141, (99, 0, 0)),
    # Namespaces and mounts.
    Attempt("unshare", 272, (0,)),
    Attempt("setns", 308, (NO_FD, 0)),
    Attempt("clone(CLONE_NEWUSER)", 56, (0x10000200, 0, 0, 0, 0)),
    Attempt("clone3", 435, (0, 0), ENOSYS),
    Attempt("mount", 165, (0, 0, 0, 0, 0)),
    Attempt("umount2", 166, (0, 0)),
    Attempt("chroot", 161, (0,)),
    # Parts of the kernel that nothing here needs.
    Attempt("io_uring_setup", 425, (1, 0)),
    Attempt("io_setup", 206, (0, 0)),
    Attempt("userfaultfd", 323, (0xFFFFFFFF,)),
    Attempt("bpf", 321, (NO_FD, 0, 0)),
    Attempt("perf_event_open", 298, (0, 0, NO_FD, NO_FD, 0)),
    Attempt("keyctl", 250, (999, 0, 0, 0, 0)),
    Attempt("add_key", 248, (0, 0, 0, 0, 0)),
    Attempt("timer_create", 222, (99, 0, 0)),
    Attempt("futex(FUTEX_LOCK_PI)", 202, (0, 6, 0, 0, 0, 0)),
    Attempt("vmsplice", 278, (NO_FD, 0, 0, 0)),
    Attempt("seccomp", 317, (99, 0, 0)),
    Attempt("landlock_create_ruleset", 444, (0, 0, 1)),
    # Files, by name and by descriptor.
    Attempt("open", 2, (ROOT, O_PATH, 0), ENOENT),
    Attempt("openat", 257, (AT_FDCWD, ROOT, O_PATH, 0), ENOENT),
    Attempt("chdir", 80, (ROOT,), ENOENT),
    Attempt("access", 21, (ROOT, 0), ENOENT),
    Attempt("getdents64", 217, (NO_FD, 0, 0)),
    Attempt("ftruncate", 77, (NO_FD, 0)),
    Attempt("fchmod", 91, (NO_FD, 0)),
    Attempt("fchdir", 81, (NO_FD,)),
    Attempt("umask", 95, (0o22,)),
)
WITH_OTHERS: Final[Sequence[Attempt]] = (
    Attempt("clone(a process)", 56, (0x800, 0, 0, 0, 0)),
    Attempt("kill", 62, (0, 0)),
    Attempt("tgkill(another)", 234, (0x7FFFFFFF, 0x7FFFFFFF, 0)),
    Attempt("wait4", 61, (-1, 0, 1, 0)),
)
"""Also refused where the host's processes are not out of sight."""


def first_answered(*, alone: bool, granted: frozenset[str] = frozenset()) -> str | None:
    """Try them all; the first that was not refused as it must be. `alone`: in a PID namespace.

    `granted`: calls that this process is allowed, of which nothing is said.
    """
    for name, words, error in _prepared(alone):
        if error_of(words) != error and name not in granted:
            return name
    return None


def attempts(*, alone: bool) -> Iterator[Attempt]:
    """List what is tried."""
    yield from ALWAYS
    if not alone:
        yield from WITH_OTHERS


def prepare() -> None:
    """Make the machine words of all calls now, once, and not in each fork."""
    for alone in (True, False):
        _prepared(alone)


@functools.cache
def _prepared(alone: bool) -> tuple[tuple[str, Words, int], ...]:  # noqa: FBT001
    return tuple(
        (one.call, call_words(one.number, *one.words), one.error) for one in attempts(alone=alone)
    )
