"""The host's folders taken out of what Python shows: file names, prefixes, the interpreter's own.

Decides what stands in their place: `PYTHON` for the folder of the interpreter, `PACKAGES` for those
of guest packages, nothing for the one that the engine lies in. So a traceback, a warning or
`module.__file__` tells nothing of the host (a home folder has its owner's name in it), and reads
the same on every host. Works once, in the fork server, on what is loaded then; after it nothing
can be loaded.

Not hidden from native code: the loader and the C side of the interpreter keep their own copies.
"""

import _imp  # what importlib itself moves file names with
import gc
import os
import platform
import sys
import sysconfig
from collections.abc import Sequence
from types import FunctionType, ModuleType
from typing import Any, Final

PYTHON: Final = "/python"
PACKAGES: Final = "/packages"
_fix_file = _imp._fix_co_filename  # type: ignore[attr-defined]  # noqa: SLF001 - no other keeps the code
OF_SYS: Final = (
    *("prefix", "exec_prefix", "base_prefix", "base_exec_prefix", "executable", "_base_executable"),
    *("_stdlib_dir", "orig_argv"),
)


class Hidden:
    """Folders of the host, and what to call them."""

    def __init__(self, engine_parent: str, packages: Sequence[str] = ()) -> None:
        prefixes = {sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix}
        prefixes |= {os.path.realpath(one) for one in prefixes}
        prefixes.add(sysconfig.get_config_var("userbase") or "")
        names = {one: PYTHON for one in prefixes if len(one) > 1}
        names |= dict.fromkeys(packages, PACKAGES)
        names[engine_parent] = ""
        self._names = sorted(names.items(), key=lambda pair: -len(pair[0]))

    def rename(self, text: str) -> str:
        """Put the names in the place of the folders; the very same text if it has none."""
        for folder, name in self._names:
            if folder in text:
                text = text.replace(folder, name)
        return text

    def value(self, given: Any) -> Any:
        """Make a new value of one that is or holds such texts, one level deep."""
        kind = type(given)
        if kind is str:
            return self.rename(given)
        if kind is tuple or kind is list:
            made = [self.rename(one) if type(one) is str else one for one in given]
            return given if made == list(given) else kind(made)
        return given


def hide(engine_parent: str, packages: Sequence[str] = ()) -> None:
    """Rename them in all that is loaded. `engine_parent` is the folder above the engine's,
    `packages` are folders that guest packages were loaded from.
    """
    hidden = Hidden(engine_parent, packages)
    platform._uname_cache = None  # type: ignore[attr-defined]  # noqa: SLF001 - it has the host's name
    for name in OF_SYS:
        setattr(sys, name, hidden.value(getattr(sys, name, None)))
    files: dict[str, str] = {}
    for one in gc.get_objects():
        if type(one) is FunctionType:
            _in_function(one, hidden, files)
        elif type(one) is ModuleType:
            _in_module(one, hidden)


def _in_function(function: FunctionType, hidden: Hidden, files: dict[str, str]) -> None:
    """Rename the file of its code, and of the code inside it that has the same."""
    old = function.__code__.co_filename
    new = files.get(old)
    if new is None:
        new = files[old] = hidden.rename(old)
    if new != old:
        _fix_file(function.__code__, new)
    if function.__defaults__:
        function.__defaults__ = hidden.value(function.__defaults__)


def _in_module(module: ModuleType, hidden: Hidden) -> None:
    names = vars(module)
    for name, value in list(names.items()):
        if type(value) is dict and name != "__builtins__":
            _in_dict(value, hidden)
        elif (changed := hidden.value(value)) is not value:
            names[name] = changed
    spec = names.get("__spec__")
    for holder in (spec, getattr(spec, "loader_state", None), names.get("__loader__")):
        own = getattr(holder, "__dict__", None)
        if type(own) is dict:  # a loader of frozen modules is a class, and holds nothing
            _in_dict(own, hidden)


def _in_dict(holder: dict[Any, Any], hidden: Hidden) -> None:
    for key, value in list(holder.items()):
        changed = hidden.value(value)
        if changed is not value:
            holder[key] = changed
