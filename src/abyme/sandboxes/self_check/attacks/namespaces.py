"""Namespaces and mounts: entered, made, left, looked at."""

# ruff: noqa: E501 - rows of system calls

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import kernel, refused
from abyme.sandboxes.self_check.behaviour import Behaviour

KINDS: Final = (
    "(0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)"
)

ATTACKS: Final[tuple[Behaviour, ...]] = (
    kernel(
        "namespace.unshared", "No namespace of any kind can be made.",
        "unshare(2), CVE-2022-0185: most kernel exploits begin with one",
        f"call(272, kind) for kind in (*{KINDS}, 0x10020000, 0x50000000, 0x400, 0x200)",
    ),
    kernel(
        "namespace.cloned", "No process or thread can be made in a new one.", "clone(2)",
        f"call(56, kind | 17, null, null, null, null) for kind in {KINDS}[1:]",
    ),
    kernel(
        "namespace.joined", "None can be joined, by descriptor or by process.", "setns(2)",
        f"call(308, fd, kind) for fd in range(6) for kind in (0, *{KINDS})",
    ),
    kernel(
        "namespace.root", "The root cannot be changed or left.", "chroot(2), pivot_root(2)",
        "call(161, b'/'), call(161, b'..'), call(155, b'.', b'.'), call(80, b'..'), call(80, b'/'),\n"
        "    *(call(81, fd) for fd in range(6))",
    ),
    kernel(
        "namespace.mounted", "Nothing can be mounted, and no mount taken away.", "mount(2)",
        "*(call(165, what, b'/', what, flags, null) for what in (b'proc', b'sysfs', b'tmpfs',\n"
        "    b'overlay', b'devtmpfs', b'cgroup2', b'fuse') for flags in (0, 0x1020, 0x5000)),\n"
        "    *(call(166, b'/', flags) for flags in (0, 2, 8))",
    ),
    kernel(
        "namespace.mounts_by_descriptor", "Nor by the calls that work on descriptors.",
        "fsopen(2), open_tree(2)",
        "call(430, b'tmpfs', 0), call(430, b'proc', 1), call(428, -100, b'/', 1), call(433, -100, b'/', 0),\n"
        "    *(call(nr, fd, room, room, room, 0) for nr in (428, 429, 431, 432, 442, 467)\n"
        "    for fd in range(4))",
    ),
    kernel(
        "namespace.host_settings", "Host name, swap, accounting, power and quotas cannot be set.",
        "sethostname(2), reboot(2)",
        "call(170, b'x', 1), call(171, b'x', 1), call(167, b'/x', 0), call(168, b'/x'), call(163, null),\n"
        "    call(169, 0xFEE1DEAD, 672274793, 0x1234567, 0), call(164, room, room), call(227, 0, room),\n"
        "    call(159, room), call(305, 0, room), call(103, 3, room, 4096), call(103, 10, null, 0)",
    ),
    refused(
        "namespace.looked_at", "Which namespaces there are cannot be seen.", "namespaces(7), lsns(8)",
        *(f"os.{way}('/proc/self/{what}')" for way in ("listdir", "readlink", "stat")
          for what in ("ns", "ns/net", "mountinfo", "cgroup", "uid_map")),
        "open('/proc/self/uid_map', 'w')", "open('/sys/fs/cgroup/cgroup.procs')",
        "open('/sys/fs/cgroup/release_agent', 'w')", "open('/proc/sys/kernel/core_pattern', 'w')",
        first="import os",
    ),
)  # fmt: skip
