"""Cells that take their process with them, and code of theirs that runs where the engine's does."""

from typing import Final

from abyme.sandboxes.self_check.attacks.ends import CRASHED, EXITED, MEMORY, TIME, ended
from abyme.sandboxes.self_check.attacks.hogs import caught

NEVER: Final = "        while True: pass\n"
FINALIZER: Final = (
    f"class D(dict):\n    def __call__(self, *_): pass\n    def __del__(self):\n{NEVER}"
)
AGAIN: Final = "print('held')"

CRASHES: Final = (
    ended(
        "crash.null", "A segmentation fault ends its cell only.", "signal(7), SIGSEGV",
        "import ctypes\nctypes.string_at(0)", by=(CRASHED,), needs=("ctypes", "snapshots"),
    ),
    ended(
        "crash.abort", "So does an abort.", "abort(3)", "import os\nos.abort()", by=(CRASHED,),
        needs=("snapshots",),
    ),
    ended(
        "crash.exit", "So does an exit that Python does not see.", "_exit(2)",
        "import os\nos._exit(3)", by=(EXITED,), needs=("snapshots",),
    ),
    ended(
        "crash.kill", "So does a cell that kills itself.", "kill(2)",
        "import os\nos.kill(os.getpid(), 9)", by=(CRASHED,), needs=("snapshots",),
    ),
    ended(
        "crash.c_stack", "So does a stack that overflows in C.", "Py_EnterRecursiveCall()",
        "import sys\nsys.setrecursionlimit(10 ** 9)\nclass C:\n"
        "    def __getattr__(self, n): return getattr(self, n + 'x'[:0])\n"
        + caught("C().a", "(RecursionError, MemoryError)"),
        by=(CRASHED, MEMORY, TIME), needs=("snapshots",),
    ),
    ended(
        "crash.python_stack", "So does recursion without end.", "sys.setrecursionlimit",
        "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): f()\n"
        + caught("f()", "(RecursionError, MemoryError)"),
        by=(CRASHED, MEMORY, TIME), needs=("snapshots",),
    ),
    ended(
        "crash.deep_source", "Source and data that are nested deeply are refused or end.",
        "compile(), json, pickle",
        "import ast, json, pickle\nx = []\nfor _ in range(10 ** 5): x = [x]\n"
        "refused = 0\n"
        "for make in (lambda: compile('(' * 10 ** 5 + ')' * 10 ** 5, '', 'eval'),"
        " lambda: ast.parse('-' * 10 ** 5 + '1'), lambda: json.loads('[' * 10 ** 5),"
        " lambda: compile('a' + '.a' * 10 ** 5, '', 'eval'), lambda: pickle.dumps(x),"
        " lambda: repr(x)):\n"
        "    try: make()\n    except (RecursionError, MemoryError, SyntaxError): refused += 1\n"
        "del x\nprint('held' if refused else 'HOLE')", by=(CRASHED, MEMORY, TIME),
    ),
)  # fmt: skip

OWN_CODE: Final = (
    ended(
        "echo.repr", "A __repr__ that never returns ends with its cell.", "object.__repr__",
        f"class R:\n    def __repr__(self):\n{NEVER}R()",
    ),
    ended(
        "echo.repr_endless", "So does one whose text has no end.", "object.__repr__",
        "import itertools\nclass R:\n"
        "    def __repr__(self): return ''.join(itertools.repeat('x'))\n"
        + caught("repr(R())", "MemoryError"), by=(MEMORY, TIME),
    ),
    ended(
        "echo.error", "So does an error whose text never comes.", "object.__str__",
        f"class R(Exception):\n    def __str__(self):\n{NEVER}raise R",
    ),
    ended(
        "echo.draft", "So does a draft that never ends.", "design section 1, answer",
        f"class L(list):\n    def __iter__(self):\n{NEVER}    def __len__(self):\n{NEVER}"
        "answer['content'] = L('ab')\nprint('held')",
    ),
    ended(
        "finalizer.name", "A finalizer that never returns ends with its cell.", "object.__del__",
        f"{FINALIZER}d = D()\ndel d",
    ),
    ended(
        "finalizer.engine", "So does one in an engine's name, and no later cell meets it.",
        "object.__del__", f"{FINALIZER}llm_query = D()", AGAIN,
    ),
    ended(
        "finalizer.answer", "So does one in place of `answer`.", "object.__del__",
        f"{FINALIZER}answer = D()", AGAIN,
    ),
    ended(
        "finalizer.stdout", "So does one in place of standard output.", "object.__del__",
        f"{FINALIZER}import sys\nsys.stdout = D()", AGAIN,
    ),
    ended(
        "finalizer.handler", "So does one in place of the handler of SIGINT.", "object.__del__",
        f"{FINALIZER}import signal\nsignal.signal(2, D())", AGAIN,
    ),
    ended(
        "finalizer.trash", "So does one that the garbage collector finds.",
        "gc", f"{FINALIZER}d = D(); d.d = d\ndel d\nimport gc\n_ = gc.collect()", AGAIN,
    ),
)  # fmt: skip

ATTACKS: Final = (*CRASHES, *OWN_CODE)
