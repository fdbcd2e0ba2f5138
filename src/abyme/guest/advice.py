"""What a model is told beside an error: what it can do where the message does not say it.

Decides which errors come from what is not here (files, a network, programs, packages), which from
what there is not enough of (`ceilings`), and which from taking a hit of `grep` for something else.
Invariant: the error stands as it was; what a line mentions is looked at by its type alone. A remark
may be out of place, and then does no harm.
"""

import inspect
import linecache
import re
import sys
from collections.abc import Collection
from errno import EPERM
from types import ModuleType, TracebackType
from typing import Final

from abyme.guest.ceilings import passed
from abyme.guest.places import Hit, Hits

NETWORK: Final = frozenset({"gaierror", "URLError"})
FORKS: Final = frozenset({"fork", "forkpty"})
SLIPS: Final = (AttributeError, TypeError, ValueError)
"""Not what is derived from them: that may be the model's own."""
MAX_PACKAGES: Final = 20
A_HIT: Final = "a hit is (name, line, text): for name, line, text in grep(...)"
UNPACKED: Final = re.compile(r"(?:too many|not enough) values to unpack|tuple indices must be")
WORD: Final = re.compile(r"[^\W\d]\w*")


def advice(error: BaseException) -> list[str]:
    """Say what a model can do about errors that come from where it is."""
    if ceiling := passed(error):
        return ceiling
    if isinstance(error, ModuleNotFoundError):
        return [_absent(error.name or "")]
    if any(type(error) is kind for kind in SLIPS):
        return [A_HIT] if _is_of_hits(error) else []
    return _missing_here(error) if isinstance(error, OSError) else []


def _absent(name: str) -> str:
    """Say what can be imported in place of a module that was not found."""
    packages = sorted(
        one
        for one, module in list(sys.modules.items())
        if type(module) is ModuleType and vars(module).get("__spec__") is not None
        if type(one) is str and one.isidentifier() and not one.startswith("_")
        if one not in sys.stdlib_module_names and one != "abyme"
    )
    if name.partition(".")[0] in packages:
        return "this part of the package was not loaded when the run began, and cannot be now"
    beside = "".join(f", {one}" for one in packages[:MAX_PACKAGES])
    return f"only the standard library{beside} is here, without what needs files or a network"


def _missing_here(error: OSError) -> list[str]:
    if error.errno == EPERM and error.filename is None and not FORKS.isdisjoint(_asked(error)):
        return ["processes cannot be made here: threads can, and llm_query_batched asks many"]
    if type(error).__name__ in NETWORK or (error.errno == EPERM and error.filename is None):
        return ["neither a network nor other programs are here: ask models by llm_query"]
    if error.errno == EPERM:
        return ["other programs cannot be started here: do it in Python"]
    if isinstance(error, FileNotFoundError | PermissionError) and error.errno is not None:
        return ["files cannot be opened here: the text is already in `context`"]
    return []


def _asked(error: BaseException) -> Collection[str]:
    """Name what was mentioned where it failed: on a cell's line, or in a library's function."""
    frame = _failed_in(error.__traceback__)
    if frame is None:
        return ()
    code = frame.tb_frame.f_code
    if not code.co_filename.startswith("<cell "):
        return code.co_names
    return WORD.findall(linecache.getline(code.co_filename, frame.tb_lineno))


def _failed_in(trace: TracebackType | None) -> TracebackType | None:
    """Find the frame that raised."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def _is_of_hits(error: BaseException) -> bool:
    """Tell whether a line of the model's took a hit for something else than it is."""
    said = error.args[0] if error.args else None
    if type(said) is not str:
        return False
    if "'Hit'" in said or '"Hit"' in said:
        return True
    return UNPACKED.match(said) is not None and _holds_hits(error.__traceback__)


def _holds_hits(trace: TracebackType | None) -> bool:
    """Tell whether the line that failed mentions hits, or what finds them."""
    trace = _failed_in(trace)
    if trace is None or not trace.tb_frame.f_code.co_filename.startswith("<cell "):
        return False
    frame = trace.tb_frame
    scopes = [frame.f_globals]
    if frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # a class body may run in any mapping
        scopes.insert(0, frame.f_locals)
    for word in WORD.findall(linecache.getline(frame.f_code.co_filename, trace.tb_lineno)):
        kind = type(next((scope[word] for scope in scopes if word in scope), None))
        if kind is Hit or kind is Hits or word in {"grep", "search"}:
            return True
    return False
