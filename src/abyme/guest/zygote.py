"""The fork server's program: started once a run, it becomes every REPL of that run.

Run by path, never imported by the host::

    python -s -S -P zygote.py CONTROL_FD [container] [PACKAGES]
    (environment: LC_ALL, PYTHONHASHSEED, TZ)

With `container` it is inside one that `relay` has verified: then neither user namespaces nor
Landlock have to be there as well. PACKAGES is what `packages.load` is to load, as JSON.
The launch is a checklist, `main`; each step rests on those above it. Invariant:
no line of a model's is in this process, ever. It ends when CONTROL_FD is closed.
"""

import contextlib
import importlib
import json
import os
import platform
import socket
import sys
from types import ModuleType
from typing import Final, Literal

PRELOAD: Final = """
abc argparse array ast asyncio base64 binascii bisect bz2 calendar cmath codecs collections
collections.abc concurrent.futures.thread configparser contextlib contextvars copy csv ctypes
dataclasses datetime decimal difflib dis email.message email.parser email.policy email.utils
encodings.ascii encodings.cp1252 encodings.hex_codec encodings.idna encodings.latin_1
encodings.punycode encodings.raw_unicode_escape encodings.rot_13 encodings.unicode_escape
encodings.utf_16 encodings.utf_16_be encodings.utf_16_le encodings.utf_32 encodings.utf_32_be
encodings.utf_32_le encodings.utf_8_sig enum fnmatch fractions functools gc gettext glob
graphlib gzip hashlib heapq hmac html html.entities html.parser importlib.resources inspect io
ipaddress itertools json json.tool keyword linecache locale logging lzma math mimetypes numbers
opcode operator os pathlib pickle pkgutil platform posixpath pprint profile pydoc queue quopri
random re reprlib secrets select shlex shutil signal socket stat statistics string stringprep
struct subprocess sys sysconfig tempfile textwrap threading time timeit token tokenize traceback
sqlite3 tracemalloc types typing unicodedata unittest.mock urllib.error urllib.parse
urllib.request uuid warnings weakref xml.dom.expatbuilder xml.dom.minidom xml.etree.ElementTree
zipfile zlib zoneinfo _pylong _strptime
""".split()  # noqa: SIM905 - a list of a hundred lines says no more
"""After lock-down nothing can be loaded any more. A missing one is left out."""


def main(
    control_fd: int, around: Literal["host", "container"] = "host", wanted: str | None = None
) -> None:
    """Launch, step by step."""
    _find_own_package()
    from abyme.guest.kernel import landlock, namespaces, seccomp  # noqa: PLC0415
    from abyme.guest.kernel.credentials import prefer_for_oom  # noqa: PLC0415
    from abyme.guest.kernel.libc import library  # noqa: PLC0415

    control = socket.socket(fileno=control_fd)
    if not seccomp.available():
        why = f"no system call filter on this kernel and machine ({platform.machine()})"
        return _refuse(control, why)
    way = namespaces.find_way()
    if way is None and not landlock.abi() and around == "host":
        return _refuse(control, "neither user namespaces nor Landlock can be had")
    prefer_for_oom()
    _preload()
    from abyme.guest import packages  # noqa: PLC0415

    try:
        loaded = packages.NOTHING if wanted is None else packages.load(json.loads(wanted))
    except packages.Unloadable as error:
        return _refuse(control, str(error))
    library().clearenv()  # C code of packages may have set some: readline sets LINES and COLUMNS
    from abyme.guest.forks import ForkServer  # noqa: PLC0415
    from abyme.guest.kernel import lockdown  # noqa: PLC0415

    counts = way is None or way.counts_processes()
    shared: list[str] = []
    try:
        lockdown.verify_descriptors(control_fd)
        if way is not None:
            shared = lockdown.verify_shared(namespaces.enter(way))
        os.chdir("/")
        os.dup2(0, 2)  # what went wrong until here, the host has read; from here on nobody does
        server = ForkServer(control, way, around, loaded)
        shared += lockdown.verify_inherited()
    except lockdown.NotJailed as layer:
        return _refuse(control, f"this layer is not on: {layer}")
    hello = {
        "t": "zygote",
        "python": platform.python_version(),
        "counts_processes": counts,
        "packages": loaded.versions,
    }
    return server.serve(hello, shared)


def _find_own_package() -> None:
    """Make `abyme.guest` importable, without its parent's code and without a module path.

    `abyme/__init__` belongs to the host, and the folder above it may hold a whole
    environment of packages that must not shadow or enter the jail.
    """
    parent = ModuleType("abyme")
    parent.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]  # noqa: PTH100, PTH120
    sys.modules["abyme"] = parent


def _preload() -> None:
    sys.modules["ssl"] = None  # type: ignore[assignment]  # asyncio would load OpenSSL for nothing
    for name in PRELOAD:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import sysconfig  # noqa: PLC0415

    sysconfig.get_config_vars()  # read from files, and kept


def _refuse(control: socket.socket, why: str) -> None:
    control.send(json.dumps({"t": "refused", "why": why}).encode())


if __name__ == "__main__":
    rest = sys.argv[2:]
    inside: Literal["host", "container"] = "container" if rest[:1] == ["container"] else "host"
    main(int(sys.argv[1]), inside, next((word for word in rest if word != "container"), None))
