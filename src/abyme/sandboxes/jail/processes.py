"""Processes of the host's kernel, as the jail's host side needs them: by pidfd, never by number.

Decides nothing. The number of a process is used for one thing only, to read how much processor
time and memory its tree uses, and a wrong one costs a wrong figure.

Memory is that of forks: the engine's own processes are bounded by the kernel, one by one
(RLIMIT_DATA), and are not looked at. There is no cgroup: to make one the host would have to be
given a part of the tree (cgroups(7), delegation), which it has neither in a container nor
without systemd.
"""

import asyncio
import os
import signal
from pathlib import Path

from abyme.guest import looks
from abyme.sandboxes.wired.body import Use


def send_signal(pidfd: int, number: int) -> None:
    """Signal a process; a process that is gone is fine."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


async def gone(pidfd: int) -> None:
    """Wait until the process has ended, and with it a PID namespace that it was the first of."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_reader(pidfd, _settle, ended)
    try:
        await ended
    finally:
        loop.remove_reader(pidfd)


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def number_of(pidfd: int) -> int | None:
    """Look up the process number that a pidfd stands for."""
    try:
        text = Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pid:"):
            pid = int(line.split()[1])
            return pid if pid > 0 else None
    return None


class Processes:
    """Implements `abyme.sandboxes.wired.body.Body` for a process and all below it, by its pidfd.

    The kernel ends them together: it is the first of a PID namespace, or has no children.
    """

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self._pid = number_of(pidfd)

    def interrupt(self) -> None:
        """Send SIGINT."""
        send_signal(self._pidfd, signal.SIGINT)

    def kill(self) -> None:
        """Send SIGKILL."""
        if self._pidfd >= 0:
            send_signal(self._pidfd, signal.SIGKILL)

    async def gone(self) -> None:
        """Wait for the end, and close the pidfd."""
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd < 0:
            return
        try:
            await gone(pidfd)
        finally:
            os.close(pidfd)

    def use(self) -> Use | None:
        """Look at the whole tree."""
        return None if self._pid is None else use(self._pid)


def use(pid: int, proc: str = looks.PROC) -> Use:
    """Look at a tree of processes."""
    found: dict[int, looks.Seen] = {}
    todo = [pid]
    while todo:
        one = todo.pop(0)
        seen = looks.seen(one, proc)
        if seen is not None and one not in found:
            found[one] = seen
            todo += looks.children(one, proc)
    return Use(**looks.add_up(found, looks.engine(found, pid), proc))
