"""What a cell may import: a second line, and never the first. The boundary is the kernel's.

Decides which modules are refused and what is said in their place. Invariant: a name is judged
when it is imported, as it is really imported (`import x as y`, `from x import y`, `__import__`,
`importlib.import_module`, a pickle), and never by its letters in the source; what the standard
library and the guest packages import themselves is left alone.

It does not take away what is loaded: `sys.modules["socket"]`, `asyncio.subprocess` and
`os.fork` can be reached, and whoever looks finds `__import__` itself. So this steers a model
that means well, and tells of one that does not; it holds nobody.
"""

import builtins
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any, Final

PROGRAMS: Final = "other programs cannot be started here: do it in Python"
PROCESSES: Final = (
    "other processes are of no use here: use threads, or llm_query_batched for many sub-calls"
)
NETWORK: Final = "there is no network here: the text is in `context`, ask models by llm_query"
NATIVE: Final = "use Python, or a package that was loaded when the run began"
MEMORY: Final = "use bytes, bytearray, array or memoryview"
LIMITS: Final = "the host sets the limits: see budget()"
TERMINAL: Final = "there is no terminal or screen here: print what you need"
INSTALL: Final = "nothing can be installed here: use what can be imported"
SYSTEM: Final = "nothing of the host can be seen here: the text is in `context`"
ENGINE: Final = "the engine's names are here without importing it: see help()"

FAMILIES: Final[Mapping[str, str]] = {
    PROGRAMS: "subprocess _posixsubprocess pty pipes",
    PROCESSES: "multiprocessing _multiprocessing _posixshmem concurrent.futures.process "
    "concurrent.futures.ProcessPoolExecutor _xxsubinterpreters _interpreters "
    "_interpchannels _interpqueues _xxinterpchannels",
    NETWORK: "socket _socket socketserver ssl _ssl http.client http.server urllib.request "
    "urllib.robotparser ftplib smtplib smtpd imaplib poplib nntplib telnetlib xmlrpc.client "
    "xmlrpc.server wsgiref webbrowser antigravity asyncore asynchat requests httpx aiohttp "
    "urllib3 websockets openai anthropic litellm",
    NATIVE: "ctypes _ctypes cffi _cffi_backend _testcapi _testinternalcapi _testlimitedcapi "
    "_ctypes_test faulthandler",
    MEMORY: "mmap",
    LIMITS: "resource",
    TERMINAL: "pdb bdb code cmd getpass curses _curses readline rlcompleter termios tty "
    "tkinter _tkinter turtle turtledemo idlelib",
    INSTALL: "pip ensurepip venv setuptools pkg_resources distutils zipapp",
    SYSTEM: "fcntl pwd grp spwd crypt nis syslog ossaudiodev winreg _winapi msvcrt",
    ENGINE: "abyme",
}
"""What to do instead -> modules of the standard library, and names that models try, that exist
to reach outside."""
REFUSED: Final[Mapping[str, str]] = {
    name: instead for instead, names in FAMILIES.items() for name in names.split()
}
"""Module, or a name in one -> what to do instead. All that is below it is refused too."""
STRICT: Final = frozenset(
    """
    __future__ _pylong _strptime abc array bisect calendar cmath collections copy dataclasses
    datetime decimal difflib enum fractions functools heapq itertools json math numbers operator
    pprint random re statistics string textwrap time types typing unicodedata zoneinfo
    """.split()  # noqa: SIM905
)
"""Pure modules that compute, as the sandboxes of the literature have them (`math`, `json`, `re`),
with those that go with them."""
ALWAYS: Final = ("__future__",)
"""A directive to the compiler, whatever the list."""
UNSAID: Final = frozenset({"_pylong", "_strptime", *ALWAYS})
"""May be imported, and is of no use to name."""
ON_BEHALF: Final = frozenset({"importlib", "pkgutil", "pydoc"})
"""Modules whose functions import what they are told to: whoever has called them is asked for."""
MAX_SHOWN: Final = 40
MAX_ATTEMPTS: Final = 20
MAX_NAME_CHARS: Final = 100


class SecurityViolation(ImportError):
    """A module that cells may not import. The message says what to do instead."""

    __module__ = "builtins"  # where `install` puts it: a cell can name it, and pickle it


class Gate:
    """Stands where modules come in. Open until `install`."""

    def __init__(self) -> None:
        self._attempts: dict[str, None] = {}
        self._only_listed = False
        self._listed: frozenset[str] = frozenset()
        self._import = builtins.__import__

    def install(
        self,
        policy: str,
        *,
        allowed: Iterable[str] = (),
        packages: Iterable[str] = (),
        namespace: dict[str, Any],
    ) -> None:
        """Close the gate to cells, once and before any.

        `policy` is a word of `core.isolation.Imports`, `packages` are allowed by any policy;
        modules that lie ready in `namespace` are taken out of it where they are refused.
        """
        if policy == "any":
            return
        self._only_listed = policy != "standard"
        own = {"standard": (), "strict": STRICT, "listed": (*allowed, *ALWAYS)}[policy]
        self._listed = frozenset((*own, *packages))
        if self._only_listed:
            at_hand = [name for name, value in namespace.items() if type(value) is ModuleType]
            for name in at_hand:
                if name != "__builtins__" and not self._is_listed(name):
                    del namespace[name]
        builtins.SecurityViolation = SecurityViolation  # type: ignore[attr-defined]
        builtins.__import__ = self._make_import()
        importlib.import_module = self._make_import_module()
        importlib.__import__ = builtins.__import__

    def begin(self) -> None:
        """Forget the attempts of the cell before."""
        self._attempts.clear()

    def attempts(self) -> list[str]:
        """Name the modules that the cell was refused, in their order."""
        return list(self._attempts)

    def _make_import(self) -> Any:
        real, judge, judge_native = self._import, self._judge, self._judge_native

        def __import__(  # noqa: A001, N807 - it stands in for it, also by its name
            name: str,
            globals: Mapping[str, object] | None = None,  # noqa: A002 - as there
            locals: Mapping[str, object] | None = None,  # noqa: A002
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> Any:
            if level == 0 and isinstance(name, str):
                caller = sys._getframe().f_back  # noqa: SLF001 - none: C code in a thread of its own
                if type(fromlist) is list and not fromlist and globals is locals:
                    judge_native(name, caller)
                else:
                    judge(name, fromlist, caller)
            return real(name, globals, locals, fromlist or (), level)

        return __import__

    def _make_import_module(self) -> Any:
        real, judge = importlib.import_module, self._judge

        def import_module(name: str, package: str | None = None) -> Any:
            """Import a module."""
            if isinstance(name, str) and not name.startswith("."):
                judge(name, None, sys._getframe(1))  # noqa: SLF001
            return real(name, package)

        return import_module

    def _judge(self, name: str, members: Iterable[object] | None, caller: FrameType | None) -> None:
        """Let an import pass, or raise."""
        name = str.__str__(name)
        parts = [f"{name}.{member}" for member in members or ()]
        if self._is_listed(name):
            instead = None
        elif not self._only_listed:
            instead = self._outside(name)
        elif parts and all(map(self._is_listed, parts)):
            instead = None
        else:
            instead = self._outside(name) or self._listing()
        if instead is None:
            for part in parts:
                if part in REFUSED and not self._is_listed(part):
                    name, instead = part, REFUSED[part]
        self._decide(name, instead, caller)

    def _judge_native(self, name: str, caller: FrameType | None) -> None:
        """Let an import of C code's pass, or raise.

        `PyImport_Import` shows itself by an empty list of members, and by the same globals and
        locals: `datetime.strptime` and a pickle do so in a cell's frame. No list
        is laid upon it, as nobody would know what to put there; and a pickle finds the engine.
        """
        name = str.__str__(name)
        free = self._is_listed(name) or name.startswith("abyme.")
        self._decide(name, None if free else self._outside(name), caller)

    def _decide(self, name: str, instead: str | None, caller: FrameType | None) -> None:
        if instead is None or not _is_cell(caller):
            return
        if len(self._attempts) < MAX_ATTEMPTS:
            self._attempts[name[:MAX_NAME_CHARS]] = None
        raise SecurityViolation(f"`{name}` may not be imported: {instead}", name=name)

    def _is_listed(self, name: str) -> bool:
        """Tell whether a list of the user's, or that of the strict policy, has it."""
        if not self._listed:
            return False
        return name in self._listed or not self._listed.isdisjoint(_upwards(name))

    def _outside(self, name: str) -> str | None:
        """Say what to do instead of a module that exists to reach outside."""
        if "." not in name:
            return REFUSED.get(name)
        return next((REFUSED[one] for one in _upwards(name) if one in REFUSED), None)

    def _listing(self) -> str:
        """Name what there is instead."""
        shown = sorted(self._listed.difference(UNSAID))
        more = ", ..." if len(shown) > MAX_SHOWN else ""
        return f"there are {', '.join(shown[:MAX_SHOWN])}{more}"


def _upwards(name: str) -> list[str]:
    """``a.b.c`` -> itself, ``a.b``, ``a``."""
    names = [name]
    while "." in name:
        name = name.rpartition(".")[0]
        names.append(name)
    return names


def _is_cell(caller: FrameType | None) -> bool:
    """Tell whether a cell's code asks, or what it has compiled from a text.

    Files have a path, and frozen modules of the standard library say so.
    """
    while caller is not None and caller.f_globals.get("__name__") in ON_BEHALF:
        caller = caller.f_back
    if caller is None:
        return False
    file = caller.f_code.co_filename
    return file.startswith("<") and not file.startswith("<frozen ")
