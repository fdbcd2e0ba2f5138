"""What a cell can learn of the host: environment, folders, names, users, other people's memory."""

# ruff: noqa: E501 - rows of system calls

import socket
import sys
from pathlib import Path
from typing import Final

import abyme
from abyme.sandboxes.self_check.attacks.cells import SHORT, refused, told
from abyme.sandboxes.self_check.behaviour import Behaviour, Seen

EVERYBODYS: Final = ("/", "/usr", "/usr/local")
"""Folders whose names tell nothing."""

PEEK: Final = """
import ctypes, os, re
libc = ctypes.CDLL(None, use_errno=True)
libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
libc.sbrk.restype = ctypes.c_void_p
ends = os.pipe()
def peek(address, size=4096):
    got = libc.write(ends[1], address, size)  # EFAULT where nothing is mapped, and no signal
    return os.read(ends[0], got) if got > 0 else None
def sought(start, size):
    word, found = re.compile(bytes(reversed(b'-yranac')) + b'[0-9a-f]{24}'), []
    for at in range(start & ~4095, start + size, 4096):
        page = peek(at)
        found += word.findall(page or b'')
    return found
"""


def tells_of_the_host(seen: Seen) -> str:
    """Look for names of this host in what was said."""
    folders = {str(Path(abyme.__file__).parents[1]), sys.base_prefix, sys.prefix}
    said = "\n".join(f"{cell.output}\n{cell.error}\n{cell.notes}" for cell in seen.cells)
    found = [name for name in sorted(folders.difference(EVERYBODYS)) if name in said]
    host, layers = socket.gethostname(), seen.facts.layers
    is_told = "seccomp" in layers and "uts_namespace" not in layers  # by uname(2), as documented
    if not is_told and host not in ("localhost", "abyme") and f" {host} " in said:
        found.append(host)
    return ", ".join(f"it knows {name!r}" for name in found)


def shown(name: str, sentence: str, source: str, *cells: str) -> Behaviour:
    """Make an entry whose output the host looks through for names of its own."""
    return Behaviour(
        id=name, sentence=sentence, source=source, cells=cells, judge=tells_of_the_host
    )


ATTACKS: Final = (
    told(
        "leak.environment", "No variable of the host's environment is there, by any way to ask.",
        "environ(7)",
        "import os\n"
        "print(dict(os.environ), os.environb, os.getenv('{env}'), os.getenv('PATH'))\n"
        "import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.getenv.restype = libc.secure_getenv.restype = ctypes.c_char_p\n"
        "got = [os.getenv('{env}'), libc.getenv(b'{env}'), libc.secure_getenv(b'{env}'), libc.getenv(b'PATH')]\n"
        "environ = ctypes.c_void_p.in_dll(libc, 'environ').value\n"
        "got.append(environ and ctypes.c_void_p.from_address(environ).value)\n"
        "print('HOLE' if any(got) else 'held', *filter(None, got))",
        needs=("ctypes",),
    ),
    told(
        "leak.environment_block", "Nor is it left where the kernel puts it, on the stack.",
        "execve(2), environ(7), design 3: /proc/*/environ leaks",
        PEEK + "start = ctypes.c_void_p.in_dll(libc, 'program_invocation_name').value\n"
        "at, block = start & ~4095, b''\n"
        "while (page := peek(at)) is not None:\n"
        "    block, at = block + page, at + 4096\n"
        "import re\n"
        "names = re.findall(rb'(?:^|\\0)([A-Z_][A-Z0-9_]{2,})=', block)\n"
        "found = sought(start, at - start) + [n for n in names if n not in (b'LC_ALL', b'TZ', b'PYTHONHASHSEED', b'LC_CTYPE')]\n"
        "print('HOLE' if found else 'held', *found)",
        needs=("ctypes",),
    ),
    told(
        "leak.heap", "Nothing of the host is left in the memory of the process.",
        "fork(2): a fork server inherits what its parent had",
        PEEK + "top = libc.sbrk(0)\n"
        "found = sought(top - (48 << 20), 48 << 20) + sought(id(object()) - (8 << 20), 16 << 20)\n"
        "print('HOLE' if found else 'held', *found)",
        needs=("ctypes",),
    ),
    refused(
        "leak.proc", "No file of the kernel that tells of the host can be read.", "proc(5), sysfs(5)",
        *(f"open('/{name}')" for name in (
            "proc/self/environ", "proc/1/environ", "proc/self/cmdline", "proc/self/maps", "proc/cpuinfo",
            "proc/meminfo", "proc/version", "proc/mounts", "proc/net/tcp", "proc/sys/kernel/random/boot_id",
            "proc/sys/kernel/hostname", "proc/kallsyms", "proc/kcore", "proc/keys", "proc/timer_list",
            "sys/class/net/eth0/address", "sys/class/dmi/id/product_uuid", "sys/kernel/notes",
            "sys/fs/cgroup/memory.max", "etc/hostname", "etc/machine-id", "etc/resolv.conf", "etc/hosts",
            "dev/mem", "dev/kmsg", "run/secrets", "var/run/secrets/kubernetes.io/serviceaccount/token",
            ".dockerenv", "root/.ssh/id_rsa", "root/.bash_history")),
    ),
    shown(
        "leak.modules", "No module or code object names a folder of the host.",
        "importlib, code objects: co_filename",
        "import gc, sys, types\n"
        "todo, seen, said = [*sys.modules.values(), vars(sys)], set(), set()\n"
        "while todo and len(seen) < 300_000:\n"
        "    one = todo.pop()\n"
        "    if id(one) in seen: continue\n"
        "    seen.add(id(one))\n"
        "    if type(one) is str:\n"
        "        if one[:1] == '/' and len(one) < 300: said.add(one)\n"
        "    elif type(one) is types.CodeType: said.add(one.co_filename); todo += one.co_consts\n"
        "    else: todo += gc.get_referents(one)\n"
        "print(*sorted(said)[:400], sep='\\n')\nprint('held')",
    ),
    shown(
        "leak.interpreter", "Nor does the interpreter, its settings or its search paths.", "sys, sysconfig",
        "import site, sys, sysconfig, platform, os, json\n"
        "print(sys.executable, sys.prefix, sys.base_prefix, sys.path, sys.argv, sys.orig_argv, sys.flags)\n"
        "print(sysconfig.get_paths(), str(sysconfig.get_config_vars())[:50_000])\n"
        "print(platform.uname(), platform.node(), os.uname(), os.getcwd(), json.__spec__, os.__spec__)\n"
        "print(*(getattr(one, '__file__', '') for one in list(sys.modules.values())))\nprint('held')",
    ),
    shown(
        "leak.tracebacks", "No traceback, warning or dump names a folder of the host.",
        "traceback, threading, warnings, unraisablehook",
        "import asyncio, gc, inspect, json, threading, traceback, warnings\n"
        "class Late:\n    def __del__(self): json.loads('{')\n"
        "def work(): json.loads('{')\n"
        "del Late\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
        "warnings.warn('x', stacklevel=3); traceback.print_stack()\n"
        "print(*(frame.filename for frame in inspect.stack()))\n"
        "try: json.loads('{')\nexcept ValueError: print(traceback.format_exc())\n"
        "try: grep('(')\nexcept Exception: print(traceback.format_exc())\n"
        "async def late(): json.loads('{')\n"
        "asyncio.ensure_future(late()); await asyncio.sleep(0); await asyncio.sleep(0); gc.collect()",
        "class Late:\n    def __del__(self): json.loads('{')\nLate()\nhelp(json)\nhelp(grep)\nprint(json, json.loads, grep)\n"
        "import json.nothing",
        "print('held')",
    ),
    told(
        "leak.finalizer", "An endless finalizer shows no frame of the engine when it is ended.",
        "object.__del__",
        "class Late:\n    def __del__(self):\n        while True: pass\nlate = Late()\ndel late",
        "print('HOLE' if 'abyme' in last_output else 'held')",
        ends=("cell_timeout_s",), limits=SHORT,
    ),
    shown(
        "leak.names", "The host's name, user and home folder are not told.", "gethostname(2), getpwuid(3)",
        "import os, socket, platform\ngot = []\n"
        "print('', socket.gethostname(), socket.getfqdn(), platform.node(), os.uname().nodename, '')\n"
        "def users(): import pwd; got.extend(one.pw_name for one in pwd.getpwall())\n"
        "def groups(): import grp; got.extend(one.gr_name for one in grp.getgrall())\n"
        "def user(): import getpass; got.append(getpass.getuser())\n"
        "for way in (users, groups, user, lambda: got.append(os.getlogin()), lambda: got.append(os.ttyname(0))):\n"
        "    try: way()\n"
        "    except (OSError, KeyError, ImportError, AttributeError): pass\n"
        "got.append(os.path.expanduser('~').strip('~/'))\n"
        "known = ('', 'root', 'nobody', 'nogroup')  # those that libc makes up where there is no file\n"
        "got = [one for one in got if one not in known]\n"
        "print('HOLE' if got else 'held', *got)",
    ),
    told(
        "leak.frames", "The frames below a cell hold nothing of the host.", "sys._getframe",
        "import gc, sys, types\n"
        "word, found = ''.join(reversed('-yranac')), []\n"
        "frame, holders = sys._getframe(), []\n"
        "while frame:\n"
        "    holders += [frame.f_locals, frame.f_globals]\n    frame = frame.f_back\n"
        "todo, seen = holders, set()\n"
        "while todo and len(seen) < 300_000:\n"
        "    one = todo.pop()\n"
        "    if id(one) in seen: continue\n"
        "    seen.add(id(one))\n"
        "    if isinstance(one, (str, bytes)):\n"
        "        text = one if isinstance(one, str) else one.decode('latin-1')\n"
        "        found += [text] if word in text and len(text) > 9 and 'found' not in text else []\n"
        "    else: todo += gc.get_referents(one)\n"
        "print('HOLE' if found else 'held', *found)",
    ),
    told(
        "leak.working_folder", "The working folder is the empty root.", "getcwd(2)",
        "import os\nprint('held' if os.getcwd() == '/' and not os.path.exists('.') else 'HOLE')",
    ),
)  # fmt: skip
