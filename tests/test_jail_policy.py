"""Contract: guest/kernel/policy and seccomp. The filter does what the table says.

The compiled program is run by an interpreter of classic BPF written here, so that the
compiler is not its own judge.
"""

import errno
import struct

import pytest

from abyme.guest.kernel import policy, seccomp
from abyme.guest.kernel.libc import machine

pytestmark = pytest.mark.skipif(machine() not in seccomp.AUDIT_ARCH, reason="x86_64 only")

ARCH = 0xC000003E
ALLOW = seccomp.ALLOW
KILL = seccomp.KILL_PROCESS


def refuse(number):
    return seccomp.ERRNO | number


def verdict(program, call, *arguments, arch=ARCH):
    """What the kernel would answer (Documentation/userspace-api/seccomp_filter.rst)."""
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<iIQ6Q", call, arch, 0, *(word & (1 << 64) - 1 for word in words))
    at, a = 0, 0
    while True:
        code, jt, jf, k = struct.unpack_from("HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (a,) = struct.unpack_from("<I", data, k)
        elif code == 0x54:
            a &= k
        elif code == 0x05:
            at += k
        elif code == 0x15:
            at += jt if a == k else jf
        elif code == 0x35:
            at += jt if a >= k else jf
        elif code == 0x06:
            return k
        else:
            raise AssertionError(hex(code))


@pytest.fixture(scope="module")
def jailed():
    return seccomp.compile_filter(policy.rules(own_pid=None))


@pytest.fixture(scope="module")
def alone():
    return seccomp.compile_filter(policy.rules(own_pid=4321))


def test_calls_of_another_machine_kill(jailed):
    assert verdict(jailed, 0, arch=0x40000003) == KILL  # i386 by int 0x80
    assert verdict(jailed, 0x40000000) == KILL  # x32


def test_every_plain_call_is_allowed_and_every_path_call_finds_nothing(jailed):
    answers = {name: verdict(jailed, number) for name, number in policy.PLAIN.items()}
    paths = {name: verdict(jailed, number) for name, number in policy.NAMES_A_PATH.items()}

    assert answers == dict.fromkeys(policy.PLAIN, ALLOW)
    assert paths == dict.fromkeys(policy.NAMES_A_PATH, refuse(errno.ENOENT))


def test_whatever_is_not_in_the_table_is_refused(jailed):
    listed = {rule.number for rule in policy.rules(own_pid=None)}
    others = [number for number in range(600) if number not in listed]

    assert {verdict(jailed, number) for number in others} == {refuse(errno.EPERM)}
    for number in (41, 42, 46, 47, 49, 59, 101, 155, 165, 272, 308, 319, 321, 322, 425, 434):
        assert number in others  # socket, connect, sendmsg, ..., execve, ptrace, mount, io_uring


@pytest.mark.parametrize(
    ("prot", "flags", "allowed"),
    [
        (3, 0x22, True),  # private, anonymous: malloc
        (0, 0x4022, True),  # NORESERVE: a thread's arena
        (3, 0x20022, True),  # STACK: a thread's stack
        (7, 0x22, False),  # executable
        (3, 0x21, False),  # shared: escapes RLIMIT_DATA
        (3, 0x23, False),  # MAP_SHARED_VALIDATE
        (3, 0x28, False),  # MAP_DROPPABLE
        (3, 0x32, False),  # fixed: replaces what is there
        (3, 0x122, False),  # grows down: escapes RLIMIT_DATA
        (3, 0x40022, False),  # huge pages of the host's pool
    ],
)
def test_memory_is_private_floating_and_not_executable(jailed, prot, flags, allowed):
    answer = ALLOW if allowed else refuse(errno.EPERM)

    assert verdict(jailed, 9, 0, 4096, prot, flags) == answer


@pytest.mark.parametrize(
    ("call", "arguments", "answer"),
    [
        (10, (0, 4096, 3), ALLOW),
        (10, (0, 4096, 5), errno.EPERM),  # mprotect, executable
        (329, (0, 4096, 4), errno.EPERM),  # pkey_mprotect
        (25, (0, 1, 2, 1), ALLOW),
        (10, (0, 1, 3), ALLOW),
        (10, (0, 1, 1), errno.EPERM),  # read-only: what was written would count no more
        (329, (0, 1, 3, 0), errno.EPERM),  # pkey_mprotect
        (25, (0, 1, 2, 3), errno.EPERM),  # MREMAP_FIXED
        (25, (0, 1, 2, 5), errno.EPERM),  # MREMAP_DONTUNMAP
        (28, (0, 1, 4), ALLOW),
        (28, (0, 1, 9), errno.EPERM),  # MADV_REMOVE
        (202, (0, 0x80), ALLOW),
        (202, (0, 0x80 | 6), errno.EPERM),  # FUTEX_LOCK_PI
        (72, (3, 1030), ALLOW),
        (72, (3, 8), errno.EPERM),  # F_SETOWN: signals to others
        (72, (3, 1031), errno.EPERM),  # F_SETPIPE_SZ
        (16, (3, 0x5421), ALLOW),
        (16, (3, 0x5412), errno.ENOTTY),  # TIOCSTI
        (53, (1, 1, 0), ALLOW),
        (53, (1, 2, 0), errno.EPERM),  # a datagram pair could be sent to an address
        (53, (2, 1, 0), errno.EPERM),  # AF_INET
        (44, (3, 0, 1, 0, 0, 0), ALLOW),
        (44, (3, 0, 1, 0, 1 << 40, 8), errno.EPERM),  # to an address, by its high half
        (44, (3, 0, 1, 0, 1, 8), errno.EPERM),
        (293, (0, 0x80000), ALLOW),
        (293, (0, 0x80), errno.EPERM),  # O_NOTIFICATION_PIPE
        (302, (0, 7, 0), ALLOW),
        (302, (0, 7, 1 << 33), errno.EPERM),  # setting a limit
        (302, (1, 7, 0), errno.EPERM),  # another process's
        (55, (3, 1, 3), ALLOW),
        (55, (3, 1, 17), errno.EPERM),  # SO_PEERCRED: who made the wire
        (55, (3, 1, 77), errno.EPERM),  # SO_PEERPIDFD: a handle for that process
        (55, (3, 6, 3), errno.EPERM),  # another level
        (157, (15,), ALLOW),
        (157, (22,), errno.EPERM),  # PR_SET_SECCOMP
        (435, (0, 0), errno.ENOSYS),  # clone3
        (262, (3, 0, 0, 0x1000), ALLOW),  # fstat of glibc 2.33
        (262, (3, 0, 0, 0), errno.ENOENT),
    ],
)
def test_arguments_decide(jailed, call, arguments, answer):
    assert verdict(jailed, call, *arguments) == (ALLOW if answer == ALLOW else refuse(answer))


FORK, THREAD = 0x1200011, 0x3D0F00
EPERM = refuse(errno.EPERM)


def test_forks_and_threads_are_allowed_only_without_new_namespaces(jailed):
    assert verdict(jailed, 56, FORK) == ALLOW
    assert verdict(jailed, 56, THREAD) == ALLOW
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(jailed, 56, FORK | bit) == EPERM
    assert verdict(jailed, 56, FORK | 0x100) == EPERM  # shares memory but is no thread
    assert verdict(jailed, 56, FORK | 0x8000) == EPERM  # CLONE_PARENT
    assert verdict(jailed, 56, FORK | 0x1000) == EPERM  # CLONE_PIDFD
    assert verdict(jailed, 58) == EPERM  # vfork


def test_without_a_pid_namespace_there_is_no_fork_and_no_signal_to_others(alone):
    assert verdict(alone, 56, FORK) == EPERM
    assert verdict(alone, 56, THREAD) == ALLOW
    assert verdict(alone, 57) == EPERM
    assert verdict(alone, 62, 1, 9) == EPERM
    for call in (121, 124, 204):  # getpgid, getsid, sched_getaffinity
        assert (verdict(alone, call, 0), verdict(alone, call, 4322)) == (ALLOW, EPERM)
    for call in (228, 229, 230):  # clock_*
        assert (verdict(alone, call, 1), verdict(alone, call, (~4322 << 3) | 2)) == (ALLOW, EPERM)
    assert verdict(alone, 234, 4321, 4321, 6) == ALLOW  # abort() of its own
    assert verdict(alone, 234, 4322, 4322, 9) == EPERM
    assert verdict(alone, 262, 3, 0, 0, 0x1000) == refuse(errno.ENOENT)
