"""Asks the user at the terminal whether a batch of sub-calls may be made.

Decides how the question is put, and what counts as yes: `y` or `yes`, nothing else. One
question at a time; what was typed before it was put is not its answer. Invariant: a question
never outlives the run's will to make the calls: a stop or a deadline withdraws it.
Does not decide which batches are asked about (`Limits.confirm_usd`).
"""

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from abyme.apps.amounts import count, usd
from abyme.apps.cli.terminal import Terminal
from abyme.core import events as ev
from abyme.errors import ConfigError

if TYPE_CHECKING:
    from abyme.apps.cli.progress import Progress

MOST_BYTES = 4096
"""Of one line that is typed."""


class Asker:
    """The user at the terminal. Lives in the loop of the run."""

    def __init__(self, terminal: Terminal, shown: "Progress") -> None:
        self._terminal = terminal
        self._shown = shown
        self._turn = asyncio.Lock()
        self._ending = False
        self._said: asyncio.Future[bool | None] | None = None

    async def confirm(self, calls: int, usd_expected: float) -> bool:
        """Ask, and wait without keeping anything else from going on.

        What is withdrawn is never answered: the driver cancels it with the run.
        """
        async with self._turn:
            said = None
            if not self._ending:
                self._shown.pause()
                try:
                    said = await self._ask(self._question(calls, round(usd_expected * 1e6)))
                finally:
                    self._shown.go_on()
        if said is None:
            await asyncio.Event().wait()
        return bool(said)

    def record(self, record: ev.Record) -> None:
        """Withdraw what is asked once the run will make no more calls."""
        if isinstance(record.event, ev.StopRequested | ev.DeadlinePassed | ev.RunFinished):
            self._ending = True
            self._withdraw()

    def _question(self, calls: int, usd_micro: int) -> str:
        view = self._shown.view
        spent = usd(view.tally.total.amount.usd_micro)
        ceiling = view.limits.max_usd_micro if view.limits else None
        if ceiling is not None:
            spent += f" of {usd(ceiling)}"
        spent += " spent"
        return f"{count(calls, 'call')}, about {usd(usd_micro)}; {spent}. Make them? [y/N] "

    async def _ask(self, question: str) -> bool | None:
        """Put a question and wait for a word; None: it was withdrawn."""
        loop = asyncio.get_running_loop()
        keyboard = sys.stdin.fileno()
        self._said = loop.create_future()
        _forget_what_was_typed(keyboard)
        self._terminal.write(question)
        loop.add_reader(keyboard, self._typed, keyboard)
        try:
            return await self._said
        finally:
            if self._said.cancelled():
                self._terminal.write("\n")
            loop.remove_reader(keyboard)
            self._said = None

    def _typed(self, keyboard: int) -> None:
        try:
            line = os.read(keyboard, MOST_BYTES)
        except OSError:  # the terminal is gone
            line = b""
        if not line.endswith(b"\n"):
            self._terminal.write("\n")
        self._answer(allowed=line.strip().lower() in {b"y", b"yes"})

    def _withdraw(self) -> None:
        if self._said is not None and not self._said.done():
            self._terminal.write("\n")
        self._answer(allowed=None)

    def _answer(self, *, allowed: bool | None) -> None:
        if self._said is not None and not self._said.done():
            self._said.set_result(allowed)


def somebody_to_ask() -> bool:
    """Tell whether there is a terminal to ask at."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def check_somebody_to_ask(confirm_usd: object) -> None:
    """See that whoever wants to be asked can be.

    Raises:
        ConfigError: no terminal.
    """
    if confirm_usd is not None and not somebody_to_ask():
        raise ConfigError(
            "nobody can be asked: --confirm-usd needs a terminal for stdin and stderr "
            "(`--confirm-usd none` does without)"
        )


def _forget_what_was_typed(keyboard: int) -> None:
    import termios  # noqa: PLC0415

    termios.tcflush(keyboard, termios.TCIFLUSH)
