"""The first process of a REPL's PID namespace: passes the host's words on, and reaps.

Decides nothing about cells. It holds the one channel that code in a cell cannot
reach, so that an interrupt cannot be swallowed. When the last process is gone, or the host
is, it ends, and the kernel ends everything in the namespace with it.
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable
from typing import Final

from abyme.guest.kernel.libc import fork_unseen
from abyme.guest.repl import ROLL_BACK

WORDS: Final = {b"i": signal.SIGINT, b"r": ROLL_BACK}
"""What the host writes, one byte a word; each is echoed when it has been passed on."""

CONFINED: Final = b"c"


def supervise(control_fd: int, work: Callable[[int], None], confine: Callable[[int], int]) -> None:
    """Run `work` in a child, `confine` this process, serve until all is over. Does not return.

    The child is forked first of all, and confines itself: each page that is written before
    a fork would be copied once more after it. `control_fd` is where `confine` has put it.
    The child is given a descriptor from which it reads a byte when this process is confined, and
    never if that failed; `confine` is given the other end, and says where it has put it.
    """
    confined, tell = os.pipe()
    if fork_unseen() == 0:
        work(confined)
        os._exit(0)
    tell = confine(tell)
    with contextlib.suppress(BrokenPipeError):  # the child has failed, and told of it
        os.write(tell, CONFINED)
    os.close(tell)
    woken, waker = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waker, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(control_fd, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while _reap():
        for fd, _ in poll.poll():
            if fd == woken:
                os.read(woken, 4096)
            else:
                _pass_on(control_fd)
    os._exit(0)


def _pass_on(control_fd: int) -> None:
    word = os.read(control_fd, 1)
    if not word:
        os._exit(0)
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, WORDS[word])
        os.kill(-1, signal.SIGCONT)  # a cell may have stopped its snapshot, or itself
    os.write(control_fd, word)


def _reap() -> bool:
    """Collect the dead; False when nobody is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
