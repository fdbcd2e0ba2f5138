"""The terminal that the host may have been started from."""

# ruff: noqa: E501 - rows of system calls

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import kernel, refused, told
from abyme.sandboxes.self_check.behaviour import Behaviour

ATTACKS: Final[tuple[Behaviour, ...]] = (
    kernel(
        "terminal.typed", "Nothing can be typed into a terminal.", "ioctl_tty(2), CVE-2017-5226",
        "call(16, fd, what, b'x') for fd in range(10) for what in (0x5412, 0x541C, 0x5412 | 1 << 32)",
        by="9",
    ),
    refused(
        "terminal.opened", "No terminal can be opened.", "tty(4)",
        *(f"os.open('/dev/{name}', {flags})" for name in ("tty", "console", "ptmx", "pts/0", "tty0")
          for flags in (0, 1, 2)), "os.openpty()", "os.forkpty()[0] or os._exit(0)",
        first="import os",
    ),
    told(
        "terminal.none", "No descriptor is a terminal, and none controls the process.",
        "credentials(7)",
        "import os, sys\n"
        "got = [fd for fd in range(64) if os.isatty(fd)]\n"
        "for way in (os.ttyname, os.tcgetpgrp, os.get_terminal_size):\n"
        "    for fd in range(4):\n"
        "        try: got.append(way(fd))\n"
        "        except OSError: pass\n"
        "got += [one for one in (sys.stdin, sys.stdout, sys.stderr) if one.isatty()]\n"
        "print('HOLE' if got else 'held')",
    ),
)  # fmt: skip
