"""Questions of a cell to its context: asked one task each, answered as a batch is.

Invariant: at most `MAX_OPEN` are at work for a session, none outlives its cell, and whatever
goes wrong is a failure that the guest is told, so that it can look for itself.
Does not look anything up: that is the context's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from abyme.core.effects import Result
from abyme.core.events import Failure
from abyme.core.ids import CallId
from abyme.core.seeks import Seek, Sought
from abyme.errors import ContextError

MAX_OPEN: Final = 16
MANY_PLACES: Final = 10_000
"""Of more an answer is made beside the loop."""
Ask = Callable[[Seek], Awaitable[Sought]]
Tell = Callable[[int, Result | None, Failure | None], None]
"""Batch, what it brought, or why it brought nothing."""
TOO_MANY: Final = Failure(
    fault="limit", message=f"at most {MAX_OPEN} questions to the context at once"
)
NOBODY: Final = Failure(fault="bad_request", message="nobody answers questions to this context")


class Seeking:
    """The questions of one session."""

    def __init__(self, ask: Ask | None, tell: Tell) -> None:
        self._ask = ask
        self._tell = tell
        self._open: dict[asyncio.Task[None], int] = {}

    def begin(self, batch: int, wanted: Seek) -> None:
        """Take a question; its answer is told, now or later."""
        if self._ask is None:
            self._tell(batch, None, NOBODY)
        elif len(self._open) >= MAX_OPEN:
            self._tell(batch, None, TOO_MANY)
        else:
            task = asyncio.get_running_loop().create_task(self._answer(self._ask, batch, wanted))
            self._open[task] = batch
            task.add_done_callback(self._open.pop)

    def cancel(self) -> None:
        """Drop what is at work: nobody waits for it any more."""
        for task in list(self._open):
            task.cancel()

    async def _answer(self, ask: Ask, batch: int, wanted: Seek) -> None:
        try:
            sought = await ask(wanted)
            many = len(sought.places) > MANY_PLACES
            text = await asyncio.to_thread(_encoded, sought) if many else _encoded(sought)
        except ContextError as error:
            self._tell(batch, None, Failure(fault="bad_request", message=str(error)))
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, a cell waits for an answer
            what = f"the context could not be asked ({type(error).__name__})"
            self._tell(batch, None, Failure(fault="bad_request", message=what))
            return
        self._tell(batch, Result(call=CallId(0), text=text), None)


def _encoded(sought: Sought) -> str:
    return msgspec.json.encode(sought).decode()
