"""Cells that do not end: in Python, in C, by signals, by waiting, with calls open."""

from typing import Final

from abyme.sandboxes.self_check.attacks.ends import TIME, ended

LADDER: Final = "design section 3, timeout ladder"

LOOPS: Final = (
    ended("loop.endless", "A loop ends at the limit.", LADDER, "while True: pass"),
    ended(
        "loop.swallows", "A loop that catches everything ends.", "BaseException",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ),
    ended("loop.sum", "A loop in C ends.", "PyErr_CheckSignals()", "sum(range(10 ** 12))"),
    ended(
        "loop.deque", "An endless iterator that C code drains ends.", "itertools",
        "import collections, itertools\ncollections.deque(itertools.repeat(0), maxlen=0)",
    ),
    ended("loop.power", "A power of a hundred million digits ends.", LADDER, "10 ** (10 ** 8)"),
    ended(
        "loop.text_of_number", "The text of a huge number ends.", "CVE-2020-10735",
        "import sys\nsys.set_int_max_str_digits(0)\nlen(str(7 ** 10 ** 7))",
    ),
    ended(
        "loop.number_of_text", "A huge number's parsing ends.", "CVE-2020-10735",
        "import sys\nsys.set_int_max_str_digits(0)\nint('9' * 10 ** 7)",
    ),
    ended(
        "loop.factorial", "A huge factorial ends.", "math", "import math\nmath.factorial(10 ** 7)"
    ),
    ended(
        "loop.decimal", "A root of ten million digits ends.", "decimal",
        "import decimal\ndecimal.getcontext().prec = 10 ** 7\n"
        "for n in range(2, 9): decimal.Decimal(n).sqrt().ln()",
    ),
    ended(
        "loop.regex", "A catastrophic regular expression ends.", "CWE-1333",
        "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')",
    ),
    ended(
        "loop.find", "A search at its worst case ends.", "CWE-407",
        "hay = b'a' * 50_000_000\nwhile True: hay.rfind(b'b' + b'a' * 1000)",
    ),
    ended(
        "loop.compare", "Comparisons of long lists end.", "list.__lt__",
        "x = [0] * 3_000_000\nmin([x, x + [1]] * 10 ** 5)",
    ),
    ended(
        "loop.sorted", "A sort whose key never comes ends.", "sorted()",
        "def slow(n):\n    while True: pass\nsorted(range(10), key=slow)",
    ),
    ended(
        "loop.hash", "A key derivation of a billion rounds ends.", "hashlib",
        "import hashlib\nhashlib.pbkdf2_hmac('sha256', b'x', b'y', 10 ** 9)",
    ),
    ended(
        "loop.zlib", "Compression at its slowest ends.", "zlib",
        "import os, zlib\ndata = os.urandom(1 << 20) * 50\nwhile True: zlib.compress(data, 9)",
    ),
    ended(
        "loop.lzma", "Compression that ignores signals ends.", "lzma",
        "import os, lzma\nlzma.compress(os.urandom(1 << 20) * 60, preset=6)",
    ),
    ended(
        "loop.await", "A coroutine that never yields ends.", "asyncio",
        "async def f():\n    while True: pass\nawait f()",
    ),
    ended(
        "loop.tasks", "Tasks without end, end.", "asyncio",
        "import asyncio\nasync def f(): await asyncio.sleep(1000)\n"
        "kept = []\nwhile True: kept.append(asyncio.ensure_future(f()))",
        by=(TIME, "memory_bytes"),
    ),
)  # fmt: skip

WAITS: Final = (
    ended("wait.sleep", "Sleep ends.", LADDER, "import time\ntime.sleep(1000)"),
    ended(
        "wait.deadlock", "A deadlock ends.", "threading",
        "import threading\nlock = threading.Lock()\nlock.acquire(); lock.acquire()",
    ),
    ended(
        "wait.in_c", "C code that sleeps with the interpreter's lock ends.", "ctypes.PyDLL",
        "import ctypes\nctypes.PyDLL(None).sleep(1000)", needs=("ctypes",),
    ),
    ended(
        "wait.thread_in_c", "So does a thread's, while the cell wants the lock.", "ctypes.PyDLL",
        "import ctypes, threading\n"
        "threading.Thread(target=ctypes.PyDLL(None).sleep, args=[1000]).start()",
        needs=("ctypes", "threads"),
    ),
)  # fmt: skip

SIGNALS: Final = (
    ended(
        "stop.ignored", "Ignoring the interrupt does not help.", "signal(7)",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
    ),
    ended(
        "stop.blocked", "Nor does blocking all signals.", "pthread_sigmask(3)",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
    ),
    ended(
        "stop.handler", "Nor does a handler that never returns.", "signal(7)",
        "import signal\ndef never(*_):\n    while True: pass\n"
        "signal.signal(signal.SIGINT, never)\nwhile True: pass",
    ),
    ended(
        "stop.native_ignored", "Nor does native code that ignores the signals of a roll-back.",
        "sigaction(2)",
        "import ctypes, struct\nraw = ctypes.CDLL(None).syscall\n"
        "for n in (2, 10, 17): raw(13, n, struct.pack('QQQQ', 1, 0, 0, 0), None, 8)",
        "import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass",
        "import os\nos._exit(3)",
        by=(TIME, "exited"), needs=("snapshots", "ctypes"),
    ),
    ended(
        "stop.storm", "Nor does a storm of other signals.", "setitimer(2)",
        "import signal\nsignal.signal(signal.SIGALRM, lambda *_: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)\nwhile True: pass",
    ),
    ended(
        "stop.stops_itself", "A cell that stops its own process is woken and ended.",
        "signal(7), SIGSTOP", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        needs=("fork",),
    ),
    ended(
        "stop.stops_snapshot", "A snapshot that a cell has stopped is woken.",
        "signal(7), SIGSTOP",
        "import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "os.kill(os.getppid(), signal.SIGSTOP)\nwhile True: pass",
        needs=("snapshots",),
    ),
    ended(
        "stop.kills_snapshot", "A cell that kills its snapshot still feels the interrupt.",
        "kill(2)", "import os\nos.kill(os.getppid(), 9)\nwhile True: pass",
        needs=("snapshots",),
    ),
    ended(
        "stop.kills_snapshot_and_ignores", "If it ignores that too, it ends with its REPL.",
        "kill(2)",
        "import os, signal\nsignal.signal(2, signal.SIG_IGN)\n"
        "os.kill(os.getppid(), 9)\nwhile True: pass",
        by=("lost: SandboxError",), needs=("snapshots",),
        loses="it has killed its own way back; the run builds the REPL again from its cells",
    ),
    ended(
        "stop.kills_group", "A cell that kills all of its REPL kills nothing else.", "kill(2)",
        "import os\nos.kill(0, 9)\nos.kill(-1, 9)\nos.kill(os.getpid(), 9)",
        by=("lost: SandboxError", "crashed"), needs=("fork",),
        loses="it has killed its own way back; the run builds the REPL again from its cells",
    ),
)  # fmt: skip

CALLS: Final = (
    ended(
        "calls.endless", "Calls without end, end: what lies between them is charged.", LADDER,
        "while True:\n    try: llm_query('x', fresh=True)\n    except BaseException: pass",
    ),
    ended(
        "calls.submits", "Answers without end, end.", "design section 1, submit",
        "while True:\n    try: submit('x' * 1000)\n    except Exception: pass",
    ),
    ended(
        "calls.after", "A thread that asks on when its cell has ended gets no model.",
        "design section 3, threads alive",
        "import threading\n"
        "def ask():\n"
        "    for _ in range(1000):\n"
        "        try: llm_query('x')\n"
        "        except Exception: pass\n"
        "t = threading.Thread(target=ask, daemon=True)\nt.start()\nprint('held')",
        needs=("threads",),
    ),
)  # fmt: skip

ATTACKS: Final = (*LOOPS, *WAITS, *SIGNALS, *CALLS)
