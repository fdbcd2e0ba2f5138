"""Descriptors that a cell finds open: what they are, and what comes of replacing them."""

# ruff: noqa: E501 - rows of a table

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import told
from abyme.sandboxes.self_check.behaviour import Behaviour

GONE: Final = ("exited (status 1)", "lost: SandboxError")
"""A cell without its wire is rolled back; where there is no snapshot, the REPL has ended."""
ENDED: Final = "a process that has closed its wire cannot be told to keep its state"

ATTACKS: Final[tuple[Behaviour, ...]] = (
    told(
        "descriptor.few", "No open descriptor is a file, a folder or a disk of the host.", "fstat(2)",
        "import os, stat\nfound = []\n"
        "for fd in range(4096):\n"
        "    try: mode = os.fstat(fd).st_mode\n"
        "    except OSError: continue\n"
        "    if not (stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)): found.append((fd, oct(mode)))\n"
        "print('HOLE' if found else 'held', *found)",
        needs=("fork",),
    ),
    told(
        "descriptor.null", "The three standard ones are the null device, whatever is done to them.",
        "null(4)",
        "import os\ngot = []\n"
        "for fd in range(3):\n"
        "    got.append(os.fstat(fd).st_rdev == os.makedev(1, 3))\n"
        "for fd in range(3):\n"
        "    try: got.append(os.read(fd, 9) == b'')\n"
        "    except OSError: pass\n"
        "    try: got.append(os.pread(fd, 9, 0) == b'')\n"
        "    except OSError: pass\n"
        "print('held' if all(got) else 'HOLE')",
        needs=("fork",),
    ),
    told(
        "descriptor.wire_closed", "A cell that closes the wire is rolled back, and no other is lost.",
        "close(2)",
        "value = 5", "import os\nos.close(3)", "print('held' if value == 5 else 'lost')",
        ends=GONE, needs=("fork",),
    ),
    told(
        "descriptor.wire_replaced", "So is one that puts something else in its place.", "dup2(2)",
        "value = 5", "import os\nos.dup2(0, 3)", "print('held' if value == 5 else 'lost')",
        ends=GONE, needs=("fork",),
    ),
    told(
        "descriptor.wire_paired", "Or a pair of which it holds the other end.", "dup2(2)",
        "value = 5", "import os, socket\na, b = socket.socketpair()\nos.dup2(a.fileno(), 3)",
        "print('held' if value == 5 else 'lost')",
        ends=GONE, needs=("fork",),
    ),
    told(
        "descriptor.all_closed", "Or closes all that is open.", "close_range(2)",
        "value = 5", "import os\nos.closerange(0, 4096)", "print('held' if value == 5 else 'lost')",
        ends=GONE, needs=("fork",),
    ),
    told(
        "descriptor.wire_shut", "A wire that is shut down ends its own REPL alone.", "shutdown(2)",
        "import os, socket\nwire = socket.socket(fileno=os.dup(3))\nwire.shutdown(2)",
        "print('held')", ends=("lost: SandboxError", "exited (status 1)"), needs=("fork",), loses=ENDED,
    ),
    told(
        "descriptor.wire_flags", "Flags set on the wire do no harm to later cells.", "fcntl(2)",
        "import fcntl, os\nfcntl.fcntl(3, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)\n"
        "fcntl.fcntl(3, fcntl.F_SETFD, 1)",
        "value = llm_query('x' * 300_000)",
        "print('x' * 20_000)\nprint('held' if len(value) == 300_002 else 'lost')", needs=("fork",),
    ),
    told(
        "descriptor.used_up", "A cell that keeps all descriptors open does not stop the next.",
        "getrlimit(2)",
        "import os\nkept = []\n"
        "try:\n    while len(kept) < 4096: kept.append(os.dup(0))\n"
        "except OSError: pass",
        "x = llm_query('a')", "print('held' if x == '<a>' else 'lost')",
    ),
)  # fmt: skip
