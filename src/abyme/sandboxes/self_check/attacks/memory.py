"""Memory: executable, shared, placed, beyond the limit; and what the processor itself offers."""

# ruff: noqa: E501 - rows of system calls

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import attempt, kernel, refused, told
from abyme.sandboxes.self_check.behaviour import Behaviour

PAGE: Final = """
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
page = libc.mmap(None, ctypes.c_size_t(4 * 4096), 3, 0x22, -1, ctypes.c_long(0))
code = (ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value) & ~4095
"""
"""Pages that may be had, and one of the interpreter's own code."""

ATTACKS: Final = (
    Behaviour(
        id="limit.raise",
        sentence="A limit cannot be raised.",
        source="prlimit(2)",
        cells=(attempt("import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (64, 64))"),),
    ),
    kernel(
        "limit.every", "No limit of any process can be set, raised or lowered, by any call.",
        "prlimit(2), setrlimit(2)",
        "*(call(302, pid, which, new, null) for pid in (0, 1, os.getpid(), {pid}, {host})\n"
        "    for which in range(16) for new in (struct.pack('qq', -1, -1), bytes(16))),\n"
        "    *(call(160, which, struct.pack('qq', -1, -1)) for which in range(16))",
    ),
    told(
        "limit.on", "Memory, files, processes and core dumps are limited, hard limits too.",
        "setrlimit(2), design 3: RLIMIT_DATA",
        "import resource as r\n"
        "names = ('DATA', 'AS', 'NOFILE', 'FSIZE', 'CORE', 'MEMLOCK', 'STACK', 'NPROC', 'MSGQUEUE')\n"
        "open_ended = [n for n in names if -1 in r.getrlimit(getattr(r, 'RLIMIT_' + n))]\n"
        "print('HOLE' if open_ended else 'held', *open_ended)",
    ),
    Behaviour(
        id="memory.shared",
        sentence="Memory cannot be shared, which would escape the limit.",
        source="mmap(2), design 3: shared anonymous maps escape RLIMIT_DATA",
        cells=(attempt("import mmap; mmap.mmap(-1, 4096)"),),
    ),
    kernel(
        "memory.counted", "What was written counts against the limit, and cannot be taken out.",
        "is_data_mapping in mm/internal.h: pages that are read-only again do not count",
        "call(nr, page, 4096, prot, -1) for nr in (10, 329) for prot in (0, 1, 2)",
        first="page = call(9, 0, 4096, 3, 0x22, -1, 0)",
    ),
    kernel(
        "memory.shared_kinds", "Nor by any flag that means it, nor be grown or droppable.",
        "mmap(2): SHARED_VALIDATE, GROWSDOWN, HUGETLB, DROPPABLE",
        "call(9, 0, 1 << 21, 3, flags, -1, 0) for flags in (0x21, 0x23, 0x28, 0x122, 0x40022, 0x40021)",
    ),
    kernel(
        "memory.placed", "No map can be put over another one.",
        "mmap(2), design 3: MAP_FIXED over the adopted pages",
        "call(9, page, 4096, prot, 0x32, -1, 0) for page in (page, code) for prot in (0, 1, 3)",
        first=PAGE,
    ),
    Behaviour(
        id="memory.exec",
        sentence="Memory cannot be made executable.",
        source="mmap(2)",
        cells=(
            attempt("import mmap; mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)"),
        ),
    ),
    kernel(
        "memory.exec_kinds", "Not by any combination of flags, nor from a descriptor.", "mmap(2)",
        "call(9, 0, 4096, prot, flags, fd, 0) for prot in (4, 5, 6, 7, 0x1000007)\n"
        "    for flags in (0x22, 0x62, 2) for fd in (-1, 0, 3)",
    ),
    kernel(
        "memory.exec_later", "Memory that was written cannot be made executable afterwards.",
        "mprotect(2), pkeys(7)",
        "*(call(nr, where, 4096, prot, key) for where in (page, id(room) & ~4095) for prot in (4, 5, 7)\n"
        "    for nr, key in ((10, 0), (329, -1), (329, 0))), call(330, 0, 0)",
        first=PAGE,
    ),
    told(
        "memory.code_rewritten", "The interpreter's code cannot be written and run again.",
        "mprotect(2)",
        "import ctypes, os\n"
        "call = ctypes.CDLL(None, use_errno=True).syscall\ncall.restype = ctypes.c_long\n"
        "long = ctypes.c_long\n"
        "page = ctypes.cast(ctypes.pythonapi.PyMarshal_WriteLongToFile, ctypes.c_void_p).value & ~4095\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    call(long(10), long(page), long(4096), long(3))\n"
        "    ctypes.memset(page, 0xC3, 1)\n"
        "    os._exit(9 if call(long(10), long(page), long(4096), long(5)) == 0 else 0)\n"
        "print('HOLE' if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9 else 'held')",
        needs=("ctypes", "fork"),
    ),
    kernel(
        "memory.moved", "A map cannot be moved to a place of one's choice, or be left behind.",
        "mremap(2)",
        "call(25, page, 4096, 4096, flags, page + 8192) for flags in (2, 3, 4, 5, 6, 7)",
        first=PAGE,
    ),
    kernel(
        "memory.read_implies_exec", "What is readable cannot be made to count as executable.",
        "personality(2), READ_IMPLIES_EXEC",
        "call(135, flags) for flags in (0x400000, 0x40000, 0x0008, 0xFFFFFFFF, 0)",
    ),
    kernel(
        "memory.advised", "No advice on memory that makes it fail, merge or be dumped.",
        "madvise(2)",
        "call(28, page, 4096, advice) for advice in (9, 10, 11, 12, 13, 16, 17, 18, 19, 100, 101, 102)",
        first=PAGE,
    ),
    kernel(
        "memory.locked", "No memory can be locked, or placed on a node of the host.",
        "mlock(2), mbind(2)",
        "call(149, page, 4096), call(325, page, 4096, 1), call(151, 1), call(237, page, 4096, 1, room, 8, 0),\n"
        "    call(238, 0, room, 8), call(239, room, room, 8, 0, 0), call(256, 0, 8, room, room),\n"
        "    call(279, 0, 1, room, room, room, 0), call(216, page, 4096, 0, 0, 0), call(26, page, 4096, 4)",
        first=PAGE,
    ),
    kernel(
        "memory.faults", "Page faults cannot be handled by the cell.",
        "userfaultfd(2), CVE-2021-4155 and others",
        "call(323, flags) for flags in (0, 1, 0x800, 0x80001)",
    ),
    refused(
        "memory.callback", "A callback made by libffi brings no executable page with it.", "libffi",
        "mmap.mmap(-1, 4096, prot=mmap.PROT_EXEC | mmap.PROT_READ)",
        "mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=4)",
        first="import ctypes, mmap\n"
        "try: back = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 7)\n"
        "except MemoryError: back = None\n"
        "assert back is None or back() == 7", needs=("ctypes",),
    ),
    told(
        "memory.x32", "A call by the numbers of x32 ends the process.", "syscall(2), CVE-2014-0038",
        "import ctypes\ncall = ctypes.CDLL(None).syscall\n"
        "print('HOLE', call(0x40000000 + 39), call(0x40000000 + 512))",
        ends=("crashed (signal 31)",), needs=("ctypes", "snapshots"),
    ),
    told(
        "memory.int80", "The gate of 32-bit programs is shut; its call numbers mean other calls.",
        "syscalls(2), int 0x80",
        "import ctypes\n"
        "api = ctypes.pythonapi\n"
        "start = ctypes.cast(api.Py_IncRef, ctypes.c_void_p).value & ~4095\n"
        "text = ctypes.string_at(start, 4096)\n"
        "at = text.find(b'\\xcd\\x80')  # hardly ever there, and no new code can be made\n"
        "if at >= 0: print('HOLE', ctypes.CFUNCTYPE(ctypes.c_long)(start + at)())\n"
        "else: print('held')",
        ends=("crashed",), needs=("ctypes", "snapshots"),
    ),
    kernel(
        "memory.segments", "Segments, ports and privilege levels of the processor cannot be set.",
        "modify_ldt(2), iopl(2), arch_prctl(2), CVE-2015-5157",
        "call(154, 1, struct.pack('IIII', 0, 0, 0xFFFFF, 0x51), 16), call(154, 0x11, room, 16),\n"
        "    call(172, 3), call(173, 0, 1024, 1), *(call(158, what, room) for what in (0x1001, 0x1002,\n"
        "    0x1003, 0x1012, 0x1022, 0x2001, 0x2002, 0x2003, 0x4001, 0x5001)),\n"
        "    call(205, room), call(211, room), call(453, 0, 8192, 1)",
    ),
)  # fmt: skip
