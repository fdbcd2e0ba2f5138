"""The interpreter that a cell runs in looks like a fresh `python`, with nobody at the terminal.

Decides what of the engine is taken out of sight (module paths, environment,
arguments) and what a missing terminal answers. Invariant: after `prepare`, `__main__` is an
empty module that is really in `sys.modules`, so that dataclasses, pickle and
typing find a cell's classes.
"""

import builtins
import io
import linecache
import os
import sys
from errno import EPERM
from os import environ  # the guest's own copy, to be emptied
from types import ModuleType
from typing import Any, Final, NoReturn

from abyme.guest.cell import Namespace, adopt_streams
from abyme.guest.sink import Sink

AT_HAND: Final = ("collections", "itertools", "json", "math", "re")
"""Modules that models use without importing them."""
STOOD_ON: Final = (
    *("any", "bool", "bytes", "callable", "compile", "dict", "enumerate", "eval", "getattr", "id"),
    *("int", "isinstance", "iter", "len", "list", "map", "max", "min", "next", "print", "range"),
    *("repr", "set", "sorted", "str", "sum", "tuple", "type", "zip", "input", "exit", "quit"),
    *("__import__", "__build_class__", "issubclass", "hasattr", "setattr", "BaseException"),
    *("Exception", "OSError", "ValueError", "TypeError", "KeyError", "AttributeError"),
    *("ImportError", "StopIteration", "RecursionError", "MemoryError", "KeyboardInterrupt"),
    *("SystemExit", "BlockingIOError", "ChildProcessError", "ProcessLookupError"),
)
NOBODY: Final = "nobody can be asked here: the text is in `context`, print what you need"


def prepare(sink: Sink) -> Namespace:
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
    os.system = start_nothing  # type: ignore[assignment]
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    namespace: Namespace = vars(main)
    namespace["__builtins__"] = builtins
    namespace |= {name: sys.modules[name] for name in AT_HAND if name in sys.modules}
    return namespace


def ask_nobody(_prompt: object = "", /) -> NoReturn:
    """Stands in for `input`.

    Raises:
        EOFError: always.
    """
    raise EOFError(NOBODY)


def start_nothing(command: str | bytes, /) -> NoReturn:
    """Stand in for `os.system`, which would return a status that nobody looks at.

    Raises:
        PermissionError: always.
    """
    raise PermissionError(EPERM, os.strerror(EPERM), command)


def leave(code: object = None) -> NoReturn:
    """Stands in for `exit` and `quit`.

    Raises:
        SystemExit: always; it ends the cell only.
    """
    raise SystemExit(code)


class Builtins:
    """Puts back those of `builtins` that the engine itself stands on.

    Not all of them: looking at each would touch a hundred pages after every fork.
    """

    def __init__(self) -> None:
        self._names: dict[str, Any] = vars(builtins)
        self._pristine = [(name, self._names[name]) for name in STOOD_ON]

    def restore(self) -> list[str]:
        """Put them back; the names that had been rebound. Stands on none of them itself."""
        lost = [pair for pair in self._pristine if self._names.get(pair[0]) is not pair[1]]
        self._names.update(lost)
        return [name for name, _ in lost]
