"""Namespaces: a process that sees no file, no network, no other process and no host name.

Decides which way of getting them works on this host, by trying it in a child that
then dies: never by a uid, a version or a setting, because none of them tells.
Invariant after `enter`: the root is an empty read-only tmpfs, the only network
interface is a downed loopback, and every descriptor opened before still works.
The process keeps the capabilities that `clone_init` needs *within its own user
namespace*; REPLs drop theirs (`credentials`).

Sources: user_namespaces(7), mount_namespaces(7), pivot_root(2) (the "." "." form).
"""

import ctypes
import errno
import os
import signal
from dataclasses import dataclass
from typing import Final, Literal

from abyme.guest.kernel.credentials import UNUSED_ID, become_nobody, own_id
from abyme.guest.kernel.libc import (
    NUMBERS,
    call_words,
    checked,
    error_of,
    holding_library,
    library,
    machine,
    prctl,
    syscall,
)

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x200000, 0x1000000
ALL_BUT_PID_AND_USER: Final = (
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET
)

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
NOTHING_RUNS = MS_NOSUID | MS_NODEV | MS_NOEXEC
MNT_DETACH = 2
PR_SET_DUMPABLE, PR_GET_TID_ADDRESS = 4, 40

INNER_ID = 65_534
HOST_NAME: Final = b"abyme"
SHOWN: Final = ("user", "mnt", "net", "ipc", "uts", "cgroup")
"""Of /proc/self/ns; see namespaces(7)."""
MOUNT_POINTS = ("/tmp", "/proc", "/dev", "/")  # noqa: S108 - any folder; it is only mounted over
_SIGNAL_ALL = call_words(62, -1, 0)
"""kill(-1, 0). Number of x86_64."""

Way = Literal["nobody", "self", "direct"]
WAYS: Final[tuple[Way, ...]] = ("nobody", "self", "direct")
"""nobody: as root, become a user who owns nothing, then as `self`. self: an unprivileged
user namespace. direct: with the capabilities that root has, where user namespaces are off."""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """What `enter` got. `nested`: each REPL can have a user namespace of its own too."""

    way: Way
    nested: bool
    own_user: bool = False
    """Without user namespaces: each REPL can become a user that no other one is."""

    def counts_processes(self) -> bool:
        """Tell whether RLIMIT_NPROC is exact for a REPL. Ask before `enter`.

        It needs a user or a user namespace for the count, and does not bind root (kernel/fork.c).
        """
        return self.own_user or (self.nested and (self.way == "nobody" or os.geteuid() != 0))

    def user(self) -> int:
        """Draw whom a REPL becomes where there are no user namespaces."""
        return own_id() if self.own_user else UNUSED_ID

    @property
    def clone_flags(self) -> int:
        """What `clone_init` asks for."""
        return CLONE_NEWPID | (CLONE_NEWUSER if self.nested else 0)


def find_way() -> Namespaces | None:
    """Find the first way that works here, or None."""
    for way in WAYS:
        for more in (True, False):
            candidate = Namespaces(way, nested=more, own_user=False)
            if way == "direct":
                candidate = Namespaces(way, nested=False, own_user=more)
            if _works(candidate):
                return candidate
    return None


def enter(namespaces: Namespaces) -> frozenset[str]:
    """Move this process, for ever; the namespaces that are others now, if the kernel shows it.

    Raises:
        OSError: if the kernel says no.
    """
    before = _shown()
    if namespaces.way == "direct":
        _unshare(ALL_BUT_PID_AND_USER)
    else:
        if namespaces.way == "nobody":
            become_nobody()
            prctl(PR_SET_DUMPABLE, 1)  # else /proc/self/uid_map belongs to root
        user, group = os.geteuid(), os.getegid()
        _unshare(CLONE_NEWUSER | ALL_BUT_PID_AND_USER)
        _map_ids(user, group)
    now = _shown()
    others = frozenset(name for name in before.keys() & now if before[name] != now[name])
    if before and not {"mnt", "uts"} <= others:  # what follows would be done to the host
        raise OSError(errno.EPERM, "unshare did nothing")
    library().sethostname(HOST_NAME, len(HOST_NAME))
    _empty_root()
    return others


def clone_init(namespaces: Namespaces) -> int:
    """fork(2) whose child is the first process of a new PID namespace.

    The child's death kills every descendant. As with `fork_unseen`, no hook of Python's
    runs, so the caller must have one thread; the thread id that glibc caches is set, as
    its own fork does.

    Raises:
        OSError: if the kernel says no.
    """
    call = holding_library().syscall
    call.restype = ctypes.c_long
    flags, address = namespaces.clone_flags | signal.SIGCHLD, ctypes.c_void_p(0)
    if library().prctl(PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) == 0:
        flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID
    else:
        address = ctypes.c_void_p(0)
    words = (ctypes.c_ulong(flags), None, None, address, ctypes.c_ulong(0))
    return checked(call(ctypes.c_long(NUMBERS[machine()]["clone"]), *words), "clone")


def root_is_empty() -> bool:
    """No file can be named, and none made."""
    try:
        os.mkdir("/x")  # noqa: PTH102 - no pathlib in the first lines of a jail
    except OSError as error:
        return error.errno == errno.EROFS and os.listdir("/") == []  # noqa: PTH208
    return False


def host_is_unnamed() -> bool:
    """Tell whether the name of the host is not shown."""
    return os.uname().nodename.encode() == HOST_NAME


def is_alone() -> bool:
    """Only the first process of this PID namespace and its children can be seen from here."""
    if os.getpid() == 1:
        return os.getppid() == 0
    # A signal to everything that there is, but the first process and this one.
    return error_of(_SIGNAL_ALL) == errno.ESRCH and os.getppid() == 1


def network_is_absent() -> bool:
    """There is no interface but a loopback (and what the kernel puts beside it), all down."""
    import fcntl  # noqa: PLC0415
    import socket  # noqa: PLC0415

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = name.encode().ljust(40, b"\0")
            flags = fcntl.ioctl(probe, 0x8913, request)[16]  # SIOCGIFFLAGS
            if flags & 1:  # IFF_UP
                return False
        return probe.connect_ex(("192.0.2.1", 9)) == errno.ENETUNREACH  # TEST-NET-1 of RFC 5737


def _shown() -> dict[str, int]:
    """Read the numbers of this process's namespaces; empty where there is no /proc."""
    try:
        return {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in SHOWN}  # noqa: PTH116
    except OSError:
        return {}


def _works(candidate: Namespaces) -> bool:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            enter(candidate)
            child = clone_init(candidate)
            if child == 0:
                if candidate.way == "direct":
                    become_nobody(candidate.user())  # as each REPL will have to
                os._exit(0)
            _, status = os.waitpid(child, 0)
            code = 0 if status == 0 else 1
        except OSError:
            code = 1
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return status == 0


def _unshare(flags: int) -> None:
    checked(library().unshare(flags), "unshare")


def _map_ids(user: int, group: int) -> None:
    """Best effort: uid 0 without CAP_SETFCAP may not map itself, and lives on unmapped."""
    try:
        for name, text in (
            ("setgroups", b"deny"),
            ("uid_map", b"%d %d 1" % (INNER_ID, user)),
            ("gid_map", b"%d %d 1" % (INNER_ID, group)),
        ):
            # Bytes: a codec may not be loadable any more, as somebody who owns nothing.
            with open(f"/proc/self/{name}", "wb", buffering=0) as file:  # noqa: PTH123
                file.write(text)
    except OSError:
        return


def _empty_root() -> None:
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    options = "size=4k,nr_inodes=4,mode=0555"
    point = next(path for path in MOUNT_POINTS if os.path.isdir(path))  # noqa: PTH112
    _mount("tmpfs", point, "tmpfs", NOTHING_RUNS, options)
    os.chdir(point)
    syscall("pivot_root", b".", b".")
    checked(library().umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")
    _mount(None, "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | NOTHING_RUNS)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [value.encode() if value else None for value in (source, target, kind)]
    mounted = library().mount(*words, ctypes.c_ulong(flags), data.encode())
    checked(mounted, f"mount {target}")
