"""Guest packages: loaded by the fork server, because after lock-down nothing can be.

Decides what of a package is loaded beyond its import, and which packages cannot be served.
Invariants: when `load` returns, the folders that it looked into are out of the module path, so
that what lies beside a package stays out of reach; and this process has one thread, because
a fork of more would hold locks that nobody releases.

This runs the user's own packages before the process is confined, as the host would on import.
No line of a model's is anywhere near.
"""

import dis
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from types import CodeType, ModuleType
from typing import Any, Final

from abyme.guest.imports import REFUSED

MAX_LAZY: Final = 5_000
"""Modules looked through for imports inside functions."""
LEFT_OUT: Final = frozenset(
    {
        *("__main__", "benchmarks", "conftest", "distutils", "experimental", "f2py", "setup"),
        *("testing", "tests"),
    }
)
"""Parts of packages that nobody needs to compute, or that do more than be loaded."""
HIDDEN: Final[Mapping[str, tuple[str, ...]]] = {
    "pyarrow": ("pyarrow.vendored.version", "pyarrow.vendored.docscrape"),
}
"""Parts that compiled code imports when it is used: nobody sees that it will."""
IMPORT: Final = dis.opmap["IMPORT_NAME"]


class Unloadable(Exception):
    """A package cannot be served; the message says why, for the user."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded."""

    names: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    """As in ``numpy 2.1.3``."""
    folders: tuple[str, ...] = ()


NOTHING: Final = Loaded()


def load(order: Mapping[str, Any]) -> Loaded:
    """Load packages, as `sandboxes.jail.packages.Load` orders them.

    Raises:
        Unloadable: one cannot be served.
    """
    if order["python"] != sys.implementation.cache_tag:
        raise Unloadable(
            f"guest packages are installed for {order['python']}, and cells run with "
            f"{sys.implementation.cache_tag}"
        )
    names, before = tuple(order["names"]), list(sys.path)
    sys.path += order["folders"]
    try:
        for name in names:
            _load(name)
        versions = tuple(f"{name} {_version(name)}".rstrip() for name in names)
    finally:
        sys.path[:] = before
    _load_lazy(_roots())  # from folders of their own: no further package comes in by this
    sys.path_importer_cache.clear()
    _must_be_alone(", ".join(names))
    return Loaded(names, versions, tuple(order["folders"]))


def _load(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:
        why = f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
        raise Unloadable(f"guest package {name!r} cannot be loaded: {why}") from error
    _must_be_alone(name)


def _must_be_alone(name: str) -> None:
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - threads of C too
    if threads > 1:
        raise Unloadable(
            f"guest package {name!r} starts threads when it is loaded ({threads - 1}); a REPL is "
            "forked, and a process with threads cannot be: it would hang"
        )


def _roots() -> set[str]:
    """Name the packages that are loaded and are not Python's, with those that they need."""
    return {
        name
        for name, module in list(sys.modules.items())
        if module is not None
        and "." not in name
        and name not in sys.stdlib_module_names
        and name not in {"abyme", "__main__"}
    }


def _load_lazy(roots: set[str]) -> None:
    """Load what these packages would load when they are used, of themselves and of Python.

    That is their public parts, and what functions of theirs import.
    """
    seen: set[str] = set()
    for name in sorted(roots):
        for part in (*_public_parts(sys.modules[name]), *HIDDEN.get(name, ())):
            _try(part)
    while len(seen) < MAX_LAZY:
        todo = [name for name in list(sys.modules) if _root(name) in roots and name not in seen]
        if not todo:
            return
        seen.update(todo)
        for name in todo:
            for wanted in _imported_in(sys.modules[name]):
                if _root(wanted) in roots or _is_harmless(wanted):
                    _try(wanted)


def _is_harmless(name: str) -> bool:
    return _root(name) in sys.stdlib_module_names and name not in REFUSED


def _public_parts(package: ModuleType) -> Iterator[str]:
    import pkgutil  # noqa: PLC0415

    for part in pkgutil.iter_modules(getattr(package, "__path__", ())):
        if not part.name.startswith("_"):
            yield f"{package.__name__}.{part.name}"


def _try(name: str) -> None:
    """Load a module if it is one; many need what is not installed."""
    parent, _, last = name.rpartition(".")
    if name in sys.modules or not LEFT_OUT.isdisjoint(name.split(".")):
        return
    if parent:
        _try(parent)
        holder = sys.modules.get(parent)
        if holder is None or not hasattr(holder, "__path__") or last in vars(holder):
            return
    try:
        importlib.import_module(name)
    except Exception:
        return


def _imported_in(module: ModuleType) -> Iterator[str]:
    """Name what a module's code imports, at its top and in its functions."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    get_code = getattr(loader, "get_code", None)
    code = get_code(module.__name__) if get_code is not None else None
    todo = [code] if isinstance(code, CodeType) else []
    while todo:
        one = todo.pop()
        todo += [const for const in one.co_consts if type(const) is CodeType]
        if IMPORT in one.co_code[::2]:
            yield from _names(one, getattr(module, "__package__", None) or "")


def _names(code: CodeType, package: str) -> Iterator[str]:
    """Name what code imports: modules, and members that may be modules."""
    level: Any = 0
    members: Any = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "EXTENDED_ARG":
            continue
        if instruction.opname != "IMPORT_NAME":
            level, members = members, instruction.argval
            continue
        name = instruction.argval
        if type(level) is int and level > 0:
            try:
                name = importlib.util.resolve_name("." * level + name, package)
            except ImportError:
                continue
        yield name
        if type(members) is tuple:
            yield from (f"{name}.{member}" for member in members if member != "*")


def _root(name: str) -> str:
    return name.partition(".")[0]


def _version(name: str) -> str:
    given = getattr(sys.modules[name], "__version__", None)
    if isinstance(given, str):
        return given[:50]
    try:
        return metadata.version(name)[:50]
    except metadata.PackageNotFoundError:
        return ""
