"""Cells that want more than there is: memory, processes, threads, descriptors, output."""

from typing import Final

from abyme.sandboxes.self_check.attacks.ends import EXITED, MEMORY, PROCESSES, TIME, ended

SETRLIMIT: Final = "setrlimit(2)"
EITHER: Final = (MEMORY, TIME)
"""A slow machine comes to the one before the other."""


def caught(code: str, errors: str) -> str:
    """Make a cell that holds if one of `errors` ends it."""
    body = "".join(f"    {line}\n" for line in code.splitlines())
    return f"try:\n{body}except {errors}: kept = None\nprint('held')\n"


MEMORY_HOGS: Final = (
    ended(
        "hog.kept", "Memory that is kept in variables is limited.", SETRLIMIT,
        caught("hog = []\nwhile True: hog.append(bytearray(b'x' * (1 << 20)))", "MemoryError"),
        by=EITHER,
    ),
    ended(
        "hog.small", "So is memory in small objects.", SETRLIMIT,
        caught("kept = {}\nwhile True: kept[len(kept)] = [len(kept)]", "MemoryError"), by=EITHER,
    ),
    ended(
        "hog.doubling", "So is a buffer that doubles.", SETRLIMIT,
        caught("kept = bytearray(b'x')\nwhile True: kept += bytes(kept)", "MemoryError"), by=EITHER,
    ),
    ended(
        "hog.recursion", "So is what a recursion keeps.", "sys.setrecursionlimit",
        "import sys\nsys.setrecursionlimit(10 ** 9)\n"
        + caught("def f(n): return [n] * 1000, f(n + 1)\nf(0)", "(MemoryError, RecursionError)"),
        by=(*EITHER, "crashed (signal 11)"),
    ),
    ended(
        "hog.swallows", "A cell that swallows every MemoryError ends.", SETRLIMIT,
        "hog = []\nwhile True:\n    try: hog.append(bytearray(b'x' * (1 << 20)))\n"
        "    except MemoryError: pass", by=EITHER,
    ),
    ended(
        "hog.one_piece", "A piece that is too large is refused, however it is asked for.",
        SETRLIMIT,
        "refused = 0\n"
        "for make in (lambda: bytes(1 << 40), lambda: '%10000000000d' % 1, lambda: [0] * (1 << 36),"
        " lambda: 'x' * (1 << 38), lambda: list(range(1 << 36)), lambda: f'{1:>10000000000}'):\n"
        "    try: make()\n    except (MemoryError, OverflowError, ValueError): refused += 1\n"
        "print('held' if refused == 6 else 'HOLE')", by=EITHER,
    ),
    ended(
        "hog.forks", "Processes that a cell forks are limited together.", "fork(2)",
        "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n"
        "        hog = b'x' * (100 << 20)\n        time.sleep(1000)\ntime.sleep(1000)",
        by=EITHER, needs=("fork",),
    ),
    ended(
        "hog.orphans", "So are those that nobody is the parent of.", "fork(2)",
        "import os, signal, time\nsignal.signal(2, signal.SIG_IGN)\nfor _ in range(8):\n"
        "    if os.fork() == 0:\n        if os.fork(): os._exit(0)\n"
        "        hog = b'x' * (100 << 20)\n        time.sleep(1000)\ntime.sleep(1000)",
        by=EITHER, needs=("fork",),
    ),
    ended(
        "hog.buffers", "The kernel's buffers of pipes and sockets are limited.", "unix(7)",
        "import os, socket\nkept, filled = [], 0\ntry:\n    while True:\n"
        "        one, other = socket.socketpair()\n        kept += (one, other)\n"
        "        one.setblocking(False)\n        try:\n"
        "            while True: filled += one.send(bytes(1 << 16))\n"
        "        except BlockingIOError: pass\n"
        "except OSError: print('held' if filled < 64 << 20 else 'HOLE')",
    ),
)  # fmt: skip

PROCESS_HOGS: Final = (
    ended(
        "fork.bomb", "A fork bomb ends.", "fork(2), RLIMIT_NPROC",
        caught("import os\nwhile True: os.fork()", "OSError"), by=(PROCESSES, *EITHER),
        needs=("fork",),
    ),
    ended(
        "fork.bomb_swallows", "So does one that goes on when it is refused.", "fork(2)",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        by=(PROCESSES, *EITHER), needs=("fork",),
    ),
    ended(
        "fork.chain", "So does a process that replaces itself all the time.", "fork(2)",
        "import os\nwhile True:\n    if os.fork(): os._exit(0)",
        by=(EXITED, PROCESSES, *EITHER), needs=("fork",),
    ),
    ended(
        "fork.unreaped", "So do forks whose time is told to nobody.", "wait(2), SIGCHLD",
        "import os, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n"
        "    try:\n        if os.fork() == 0: os._exit(0)\n    except OSError: pass",
        by=(PROCESSES, *EITHER), needs=("fork",),
    ),
    ended(
        "fork.busy", "So do processes that compute side by side.", "sched(7)",
        "import os\nfor _ in range(3): os.fork()\nwhile True: pass", needs=("fork",),
    ),
    ended(
        "thread.flood", "Threads that stay are limited.", "RLIMIT_NPROC",
        caught("import threading\nevent = threading.Event()\nwhile True:\n"
               "    threading.Thread(target=event.wait, daemon=True).start()", "RuntimeError")
        + "event.set()\n", by=(PROCESSES, *EITHER), needs=("threads",),
    ),
    ended(
        "thread.flood_ends", "Threads that come and go without end, end.", "pthread_create(3)",
        caught("import _thread\nwhile True:\n    try: _thread.start_new_thread(int, ())\n"
               "    except RuntimeError: pass", "MemoryError"),
        by=(PROCESSES, *EITHER), needs=("threads",),
    ),
    ended(
        "descriptor.exhausted", "A REPL works on when a cell holds every descriptor.",
        "RLIMIT_NOFILE",
        "import os\nheld = []\ntry:\n    while True: held.append(os.pipe())\n"
        "except OSError: print('held')", "llm_query('x')\nprint('held')",
    ),
    ended(
        "descriptor.closed", "A cell that closes every descriptor loses itself only.", "close(2)",
        "import os\nos.closerange(0, 64)", by=(EXITED,), needs=("snapshots",),
    ),
    ended(
        "descriptor.replaced", "So does one that puts others in their place.", "dup2(2)",
        "import os\nr, w = os.pipe()\nfor fd in range(64):\n    if fd not in (r, w):\n"
        "        try: os.dup2(w, fd)\n        except OSError: break",
        by=(EXITED,), needs=("snapshots",),
    ),
    ended(
        "descriptor.shut_down", "A cell that shuts the wire down ends with its REPL.",
        "shutdown(2)", "import socket\nsocket.socket(fileno=3).shutdown(2)",
        by=("lost: SandboxError",), needs=("snapshots",),
        loses="the wire is one for cell and snapshot; the run builds the REPL again from its cells",
    ),
)  # fmt: skip

OUTPUT_HOGS: Final = (
    ended(
        "output.endless", "Output without end, ends.", "design section 2, loop bombs",
        "while True: print('x' * 1000)", by=EITHER,
    ),
    ended(
        "output.no_newline", "So does output without lines.", "design section 2, loop bombs",
        "import sys\nwhile True: sys.stdout.write('x')", by=EITHER,
    ),
    ended(
        "output.pieces", "So does output in large pieces.", "design section 2, loop bombs",
        "while True: print('x' * 10_000_000)", by=EITHER,
    ),
    ended(
        "output.one_print", "100 MB in one print are cut.", "Limits.cell_output_chars",
        "print('x' * 100_000_000)\nprint('held')", by=EITHER,
    ),
    ended(
        "output.descriptors", "What is written to descriptors goes nowhere.", "write(2)",
        "import os\nwhile True: os.write(1, b'x' * 60_000)", by=EITHER,
    ),
    ended(
        "output.after", "A thread's output after its cell takes no room from the host.",
        "design section 3, threads alive",
        "import threading, time\nends = time.monotonic() + 0.1\ndef late():\n"
        "    while time.monotonic() < ends: pass\n    print('x' * 1_000_000)\n"
        "t = threading.Thread(target=late)\nt.start()\nprint('held')",
        "import threading\nt.join()\nlen(last_output)\nprint('\\nheld')",
        by=EITHER, needs=("threads",),
    ),
)  # fmt: skip

ATTACKS: Final = (*MEMORY_HOGS, *PROCESS_HOGS, *OUTPUT_HOGS)
