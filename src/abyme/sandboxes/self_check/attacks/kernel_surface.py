"""The kernel's other doors: subsystems that exploits come through, and unknown calls."""

# ruff: noqa: E501 - rows of system calls

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import kernel, told
from abyme.sandboxes.self_check.behaviour import Behaviour

ATTACKS: Final[tuple[Behaviour, ...]] = (
    kernel(
        "kernel.io_uring", "No queue of calls can be made that no filter sees.",
        "io_uring(7), CVE-2022-29582, CVE-2023-2598",
        "call(425, 8, room), call(425, 1, struct.pack('II', 0, 0x2 | 0x4000).ljust(120, b'\\0')),\n"
        "    *(call(nr, fd, 1, 1, 1, null, 0) for nr in (426, 427) for fd in (*range(4), -1))",
    ),
    kernel(
        "kernel.aio", "Nor one of the older kind.", "io_setup(2), CVE-2013-7348",
        "call(206, 1, room), call(207, 0), call(208, 0, 1, 1, room, null), call(209, 0, 1, room),\n"
        "    call(333, 0, 1, 1, room, null, null)",
    ),
    kernel(
        "kernel.bpf", "No program or map can be put into the kernel.",
        "bpf(2), CVE-2020-8835, CVE-2021-3490",
        "call(321, what, room, size) for what in range(0, 38) for size in (0, 72)",
    ),
    kernel(
        "kernel.perf", "No performance counter can be opened.", "perf_event_open(2), CVE-2013-2094",
        "call(298, struct.pack('IIQ', kind, 120, 0).ljust(120, b'\\0'), pid, -1, -1, 0)\n"
        "    for kind in range(6) for pid in (0, -1, 1)",
    ),
    kernel(
        "kernel.keys", "No key ring, which all namespaces of a user share, can be reached.",
        "keyrings(7), CVE-2016-0728",
        "*(call(250, what, ring, 0, 0, 0) for what in range(33) for ring in (-1, -3, -4, -5)),\n"
        "    call(248, b'user', b'{mark}', b'x', 1, -4), call(249, b'user', b'{mark}', null, -4)",
    ),
    kernel(
        "kernel.modules", "No module and no other kernel can be loaded.",
        "init_module(2), kexec_load(2)",
        "call(175, room, 4096, b''), call(313, 0, b'', 0), call(176, b'x', 0), call(246, 0, 0, room, 0),\n"
        "    call(320, 0, 0, 0, b'', 0), call(177, 0), call(178, 0), call(174, 0), call(212, 0, room, 9)",
    ),
    kernel(
        "kernel.filters", "The filter cannot be added to, replaced, listened to or asked about.",
        "seccomp(2), SECCOMP_USER_NOTIF",
        "*(call(317, what, flags, struct.pack('HxxxxxxQ', 1, ctypes.addressof(room)))\n"
        "    for what in range(4) for flags in (0, 1, 8, 16)), call(157, 22, 2, room), call(157, 21)",
    ),
    kernel(
        "kernel.landlock", "No further Landlock domain or security label can be set.",
        "landlock(7), lsm_set_self_attr(2)",
        "call(444, null, 0, 1), call(444, struct.pack('QQQ', 1, 0, 0), 24, 0), call(445, 3, 1, room, 0),\n"
        "    call(446, 3, 0), call(459, 100, room, room, 0), call(460, 100, room, 64, 0),\n"
        "    call(461, room, room, 0)",
    ),
    kernel(
        "kernel.futex", "No lock that lends its waiter's priority, and none of the new kinds.",
        "futex(2), CVE-2014-3153, CVE-2021-3347",
        "*(call(202, room, op | flags, 0, null, room, 0) for op in (2, 6, 7, 8, 11, 12, 13)\n"
        "    for flags in (0, 0x80)), *(call(nr, room, 1, 1, null, 0) for nr in (449, 454, 455, 456, 274))",
    ),
    kernel(
        "kernel.unknown", "What no table knows is refused, however new.", "syscalls(2)",
        "call(nr, 0, 0, 0, 0, 0, 0) for nr in (*range(337, 387), *range(462, 800), 1023, 4096,\n"
        "    0xFFFF, 0x3FFFFFFF)",
    ),
    kernel(
        "kernel.obsolete", "Nor what only old programs know.", "syscalls(2)",
        "call(nr, 0, 0, 0, 0, 0, 0) for nr in (134, 136, 139, 156, 174, 177, 178, 180, 181, 182, 183,\n"
        "    184, 185, 214, 215, 224, 225, 226, 236, 273 + 1, 247 + 1)",
    ),
    kernel(
        "kernel.high_halves", "The upper half of an argument does not slip past the filter.",
        "seccomp(2): arguments are 64 bits wide",
        "call(44, 3, b'x', 1, 0, 1 << 40, 16), call(44, 3, b'x', 1, 0, 1 << 63 - 1, 16),\n"
        "    call(302, 0, 7, 1 << 40, 0), call(9, 0, 4096, 7 | 1 << 40, 0x22, -1, 0),\n"
        "    call(9, 0, 4096, 3, 0x21 | 1 << 40, -1, 0), call(10, 0, 4096, 4 | 1 << 33),\n"
        "    call(56, 0x10000011 | 1 << 40, 0, 0, 0, 0), call(53, 1 | 1 << 40, 2, 0, room),\n"
        "    call(16, 3, 0x5412 | 1 << 40, room), call(72, 3, 8 | 1 << 40, 1)",
    ),
    told(
        "kernel.by_number", "A call by a number with more bits than the table has ends the process "
        "or is refused.", "syscall(2)",
        "import ctypes\ncall = ctypes.CDLL(None, use_errno=True).syscall\n"
        "call.restype = ctypes.c_long\n"
        "got = [call(ctypes.c_long(nr)) for nr in (-1, 1 << 31, (1 << 32) + 41)]\n"
        "print('HOLE' if any(one >= 0 for one in got) else 'held')",
        ends=("crashed (signal 31)",), needs=("ctypes", "snapshots"),
    ),
    kernel(
        "kernel.ioctl", "Of all controls of devices only five are answered.",
        "ioctl_list(2), CVE-2017-5123",
        "call(16, fd, what, room) for fd in range(4) for what in (0x5401, 0x5412, 0x540F, 0x5410, 0x541C,\n"
        "    0x5423, 0x8901, 0x8902, 0x8904, 0x8912, 0x8914, 0x8933, 0x89A0, 0x40049409, 0x401C5820,\n"
        "    0xC0045878, 0xB701, 0xB702, 0xB703, 0xFF01, 0x4B33, 0x560E, 0x127F, 0x125D, 0x5452, 0x5460)",
        by="9",
    ),
)  # fmt: skip
