"""A REPL that is forked before it is asked for, so that opening one does not wait for it.

Decides when one is made and to whom it may be given: only to who orders just what it was made
for, on the context that all share. What differs from REPL to REPL, the seed, is told to it by the
host (`Repl.serve`). Invariant: at most one waits; none is made while the host wants an answer.
"""

import contextlib
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Order = TypeVar("Order")


@dataclass(frozen=True, slots=True)
class Made:
    """A forked REPL, as the host reaches it."""

    pidfd: int
    wire: socket.socket
    control: socket.socket

    def fds(self) -> list[int]:
        """Descriptors for the host, in the order in which it expects them."""
        return [self.pidfd, self.wire.fileno(), self.control.fileno()]

    def lives(self) -> bool:
        """Tell whether its first process is there."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Give up the descriptors; if the host has none, the REPL ends itself."""
        self.wire.close()
        self.control.close()
        os.close(self.pidfd)


class Spares(Generic[Order]):
    """Makes REPLs, one of them ahead of time."""

    def __init__(self, make: Callable[[Order], Made]) -> None:
        self._make = make
        self._expected: Order | None = None
        self._waiting: Made | None = None
        self._taken = 0

    def expect(self, order: Order | None) -> None:
        """Say what will be ordered again and again; what waited for something else is given up."""
        self._drop()
        self._expected, self._taken = order, 0

    def take(self, order: Order) -> Made:
        """Give a REPL: the one that waits, if it will do, or a new one."""
        if order != self._expected:
            return self._make(order)
        self._taken += 1
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.lives():
            return waiting
        if waiting is not None:
            waiting.close()
        return self._make(order)

    def prepare(self) -> None:
        """Make the next one: the first, and more of them once that was not the only one."""
        if self._expected is None or self._waiting is not None or self._taken == 1:
            return
        with contextlib.suppress(OSError):  # no process or descriptor left now: then without one
            self._waiting = self._make(self._expected)

    def _drop(self) -> None:
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None
