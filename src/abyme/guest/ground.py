"""What the engine stands on in modules that a cell may change, and how it is put back.

Decides which functions of the standard library these are: those without which the next cell
could not be run or told of. They are put back right after a cell has ended, with the builtins
(`interpreter.Builtins`), and the model is told. What only an engine function of the model's own
uses (`re.compile` of `grep`) is left as the cell has made it, and fails visibly. Trace and
profile functions end with their cell, monitors too; a recursion limit too low to work is raised.

Does not stop code that means to deceive: it is in the same process, and can change the engine's
own objects as well. The host believes nothing that stands on them.
"""

import builtins
import gc
import sys
from typing import Any, Final

from abyme.guest.interpreter import Builtins
from abyme.guest.tags import Tags

OF_MODULES: Final = """
_thread allocate_lock get_ident
ast Expr Expression Module PyCF_ALLOW_TOP_LEVEL_AWAIT PyCF_ONLY_AST
contextlib suppress
inspect CO_COROUTINE
json dumps loads JSONDecoder JSONEncoder
json.decoder JSONDecoder scanstring
json.encoder JSONEncoder c_make_encoder encode_basestring encode_basestring_ascii
json.scanner c_make_scanner make_scanner
linecache cache updatecache
mmap mmap
os _exit fstat getpid getppid kill waitpid waitstatus_to_exitcode
select POLLERR POLLHUP POLLIN POLLNVAL poll
struct Struct
time monotonic
traceback FrameSummary StackSummary TracebackException
"""
OF_CLASSES: Final = """
json JSONDecoder __init__ decode raw_decode
json JSONEncoder __init__ default encode iterencode
traceback StackSummary extract format from_list
traceback TracebackException __init__ format from_exception
"""
LEAST_RECURSION: Final = 500


class Ground:
    """Remembers, and puts back. Made before any cell has run."""

    def __init__(self) -> None:
        self._builtins = Builtins()
        self._functions: list[tuple[dict[str, Any], str, Any, str]] = []
        self._methods: list[tuple[type, str, Any, str]] = []
        for module, *names in map(str.split, OF_MODULES.strip().splitlines()):
            have = getattr(sys.modules.get(module), "__dict__", {})
            self._functions += [(have, n, have[n], f"{module}.{n}") for n in names if n in have]
        for module, name, *methods in map(str.split, OF_CLASSES.strip().splitlines()):
            kind = getattr(sys.modules.get(module), name, None)
            if isinstance(kind, type):
                own = vars(kind)
                self._methods += [(kind, n, own[n], f"{name}.{n}") for n in methods if n in own]
        self._set_on_type = type.__setattr__
        self._settrace, self._setprofile = sys.settrace, sys.setprofile
        self._recursion = sys.getrecursionlimit, sys.setrecursionlimit
        self._monitoring = getattr(sys, "monitoring", None)
        changing = [names for names, *_ in self._functions]
        changing += [gc.get_referents(vars(kind))[0] for kind, *_ in self._methods]
        self._tags = Tags([vars(builtins), *{id(one): one for one in changing}.values()])
        self._tags.remember()

    def restore(self) -> list[str]:
        """Put all of it back; the names of what a cell had changed. Stands on none of it."""
        self._settrace(None)
        self._setprofile(None)
        get, set_ = self._recursion
        if get() < LEAST_RECURSION:
            set_(LEAST_RECURSION)
        lost = self._put_back() if self._tags.may_have_changed() else []
        if self._monitoring is not None:
            self._end_monitors()
        return lost

    def _put_back(self) -> list[str]:
        lost = [f"builtins.{name}" for name in self._builtins.restore()]
        for names, name, pristine, shown in self._functions:
            if names.get(name) is not pristine:
                names[name] = pristine
                lost.append(shown)
        for kind, name, pristine, shown in self._methods:
            if kind.__dict__.get(name) is not pristine:
                self._set_on_type(kind, name, pristine)
                lost.append(shown)
        self._tags.remember()
        return lost

    def _end_monitors(self) -> None:
        """Free the places of tools (PEP 669), of which there are six."""
        monitoring: Any = self._monitoring
        for tool in range(6):
            if monitoring.get_tool(tool) is not None:
                monitoring.set_events(tool, 0)
                monitoring.free_tool_id(tool)
