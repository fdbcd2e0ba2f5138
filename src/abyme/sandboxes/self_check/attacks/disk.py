"""Room on the host that a cell could use up: disks, inodes, and buffers of the kernel."""

# ruff: noqa: E501 - rows of system calls

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import kernel, refused, told
from abyme.sandboxes.self_check.behaviour import Behaviour

ATTACKS: Final[tuple[Behaviour, ...]] = (
    kernel(
        "disk.inodes", "No name of any kind can be made, so that no inode is used up.",
        "mkdir(2), mknod(2)",
        "call(nr, b'/%d' % n, 0o700) for nr in (83, 85, 133) for n in range(50)",
    ),
    refused(
        "disk.temporary", "Nothing that Python keeps in files for a while can be kept.", "tempfile",
        "spilled()", "sorted_in_file()", "__import__('shelve').open('/tmp/{mark}')", "gzip.open('/tmp/{mark}', 'w')",
        first="import gzip, tempfile\n"
        "def spilled():\n"
        "    file = tempfile.SpooledTemporaryFile(9)\n    file.write(b'0123456789'); file.rollover()\n"
        "def sorted_in_file():\n"
        "    import sqlite3\n    base = sqlite3.connect('')\n"
        "    base.execute('pragma cache_size = 1'); base.execute('pragma cache_spill = 1')\n"
        "    base.execute('create table a (b)')\n"
        "    base.executemany('insert into a values (?)', ((bytes(9999),) for _ in range(99)))\n"
        "    base.commit()",
    ),
    told(
        "disk.pipes", "Pipes hold a few megabytes of the kernel's memory at most.",
        "pipe(7), fcntl(2): F_SETPIPE_SZ",
        "import fcntl, os\nheld = 0\n"
        "try:\n"
        "    while True:\n"
        "        a, b = os.pipe()\n"
        "        try: fcntl.fcntl(b, 1031, 1 << 20)\n"
        "        except OSError: pass\n"
        "        os.set_blocking(b, False)\n"
        "        try:\n"
        "            while True: held += os.write(b, bytes(65536))\n"
        "        except BlockingIOError: pass\n"
        "except OSError as error: why = error.errno\n"
        "print('held' if why == 24 and held < 8 << 20 else 'HOLE', held)\n"
        "print('held' if held < 8 << 20 else 'HOLE')",
    ),
    told(
        "disk.sockets", "So do pairs of sockets.", "socket(7), SO_SNDBUF",
        "import os, socket\nheld, kept = 0, []\n"
        "try:\n"
        "    while True:\n"
        "        a, b = socket.socketpair()\n"
        "        kept += [a, b]\n"
        "        for one in (a, b):\n"
        "            try: one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)\n"
        "            except OSError: pass\n"
        "            one.setblocking(False)\n"
        "            try:\n"
        "                while True: held += one.send(bytes(1 << 18))\n"
        "            except BlockingIOError: pass\n"
        "except OSError: pass\n"
        "print('held' if held < 64 << 20 else 'HOLE')",
    ),
    told(
        "disk.descriptors", "No more than a few dozen descriptors can be open.", "getrlimit(2)",
        "import os\nmade = []\n"
        "try:\n"
        "    while len(made) < 10_000: made.append(os.dup(0))\n"
        "except OSError: pass\n"
        "for fd in made: os.close(fd)\n"
        "print('held' if len(made) < 1000 else 'HOLE')",
    ),
    kernel(
        "disk.kernel_memory", "Other buffers of the kernel cannot be filled.",
        "vmsplice(2), inotify(7), signalfd(2)",
        "call(278, 1, room, 1, 0), call(294, 0), call(289, -1, room, 8, 0), call(283, 0, 0),\n"
        "    call(240, b'/{mark}', 0o102, 0o600, null), call(285, 0, 0, 0, 1 << 40), call(72, 0, 1031, 1 << 20)",
    ),
)  # fmt: skip
