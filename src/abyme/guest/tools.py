"""The engine's functions as the model holds them, and what `help` says of the engine's names.

Decides how a function is shown: by its signature, names and defaults alone. Invariant: nothing
that is shown holds an address, which would differ when cells are run again. Does not say what
a function does: that is its docstring in `surface`.
"""

import functools
import inspect
import pydoc
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, Final

ABOUT: Final = {
    "context": "the input",
    "calls": "results of all sub-calls, in order (.text, .error, .prompt)",
    "last_output": "what the last cell printed, uncut",
    "answer": 'a draft in answer["content"]; with answer["ready"] = True it is submitted',
}
"""Of the names that are no functions."""


class Function:
    """A function of the engine's. Shown by its signature: a method's own `repr` has an address."""

    def __init__(self, method: Callable[..., Any]) -> None:
        functools.update_wrapper(self, method)
        self.__wrapped__ = method
        self.__name__: str = method.__name__
        if isinstance(method, MethodType):  # Python's own errors then say: grep() missing ...
            method.__func__.__qualname__ = self.__name__

    def __call__(self, /, *given: Any, **named: Any) -> Any:
        """Call it."""
        return self.__wrapped__(*given, **named)

    def __repr__(self) -> str:
        return f"{signature(self)}: help({self.__name__}) tells more"


def signature(function: Function) -> str:
    """Give names and defaults of a function's parameters; what they may be is told in words."""
    own = inspect.signature(function.__wrapped__)
    bare = [one.replace(annotation=one.empty) for one in own.parameters.values()]
    return f"{function.__name__}{own.replace(parameters=bare, return_annotation=own.empty)}"


def explained(thing: Any, names: Mapping[str, Any]) -> str:
    """Explain one of the engine's names, all of them (None), or as Python does anything else."""
    if thing is None:
        return "\n".join(f"{name}: {_headline(name, value)}" for name, value in names.items())
    if isinstance(thing, str) and thing in names:
        thing = names[thing]
    for name, value in names.items():
        if value is not thing:
            continue
        if isinstance(value, Function):
            return f"{signature(value)}\n{inspect.getdoc(value)}"
        return f"{name}: {ABOUT.get(name) or inspect.getdoc(value)}"
    return pydoc.plain(pydoc.render_doc(thing, "Help on %s"))


def _headline(name: str, value: Any) -> str:
    if name in ABOUT:
        return ABOUT[name]
    first = (inspect.getdoc(value) or "").split("\n\n")[0]
    return " ".join(first.split()).split(". ")[0].rstrip(".")
