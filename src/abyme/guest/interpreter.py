"""The interpreter that a cell runs in looks like a fresh `python`, with nobody at the terminal.

Decides what of the engine is taken out of sight (module paths, environment,
arguments) and what a missing terminal answers. Invariant: after `prepare`, `__main__` is an
empty module that is really in `sys.modules`, so that dataclasses, pickle and
typing find a cell's classes; `random` continues from the run's seed.
"""

import builtins
import io
import linecache
import random
import sys
from os import environ  # the guest's own copy, to be emptied
from types import ModuleType
from typing import Any, Final, NoReturn

from abyme.guest.cell import Namespace, adopt_streams
from abyme.guest.sink import Sink

AT_HAND: Final = ("collections", "itertools", "json", "math", "re")
"""Modules that models use without importing them."""
NOBODY: Final = "nobody can be asked here: the text is in `context`, print what you need"


def prepare(sink: Sink, seed: int) -> Namespace:
    """Make this process a fresh interpreter; the namespace of its `__main__`."""
    environ.clear()
    sys.argv[:] = [""]
    sys.path.clear()
    sys.path_importer_cache.clear()
    linecache.clearcache()
    sys.stdin = sys.__stdin__ = io.StringIO()  # type: ignore[misc, assignment]
    adopt_streams(sink)
    for name, function in (("input", ask_nobody), ("exit", leave), ("quit", leave)):
        setattr(builtins, name, function)
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    namespace: Namespace = vars(main)
    namespace["__builtins__"] = builtins
    namespace |= {name: sys.modules[name] for name in AT_HAND if name in sys.modules}
    random.seed(seed)
    return namespace


def ask_nobody(prompt: object = "", /) -> NoReturn:
    """Stands in for `input`.

    Raises:
        EOFError: always.
    """
    raise EOFError(NOBODY)


def leave(code: object = None) -> NoReturn:
    """Stands in for `exit` and `quit`.

    Raises:
        SystemExit: always; it ends the cell only.
    """
    raise SystemExit(code)


class Builtins:
    """Puts back what a cell rebound in `builtins`; what it added stays."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = vars(builtins)
        self._pristine = [(name, value) for name, value in self._names.items() if name != "_"]

    def restore(self) -> list[str]:
        """The names that had to be put back."""
        names = self._names
        missing = object()
        lost = [pair for pair in self._pristine if names.get(pair[0], missing) is not pair[1]]
        names.update(lost)
        return [name for name, _ in lost]
