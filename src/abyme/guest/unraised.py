"""Errors that Python cannot raise, as a cell is shown them: those of `__del__` and of threads.

Decides that they read as errors of a cell do: the model's own frames, with source lines, and
none of the engine's. A cell may set hooks of its own in the place of these, as in plain CPython.
"""

import sys
import threading
from typing import Any

from abyme.guest.cell import describe
from abyme.guest.sink import Sink


class Teller:
    """Writes them to the output of the cell that runs."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def install(self) -> None:
        """Take the place of Python's own hooks."""
        sys.unraisablehook = self.ignored
        threading.excepthook = self.in_thread

    def ignored(self, told: Any, /) -> None:
        """Tell of an error in a finalizer or a callback."""
        message = told.err_msg or "Exception ignored in"
        where = f": {told.object!r}" if told.object is not None else ""
        self._sink.write(f"{message}{where}\n{describe(told.exc_value)}")

    def in_thread(self, told: Any, /) -> None:
        """Tell of an error that has ended a thread; `SystemExit` ends one in silence."""
        if told.exc_type is SystemExit:
            return
        name = getattr(told.thread, "name", None) or threading.get_ident()
        self._sink.write(f"Exception in thread {name}:\n{describe(told.exc_value)}")
