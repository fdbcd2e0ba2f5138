"""Python's own ways into the engine that runs in the same process.

What is tried is to break, or to deceive, a cell that comes later without meaning to: by names,
hooks and functions that are left behind. Code that means to deceive its own REPL can do so (design
3: whatever the REPL sends is forgeable); what the host counts and keeps does not stand on it.
"""

# ruff: noqa: E501 - rows of a table

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import SHORT, told
from abyme.sandboxes.self_check.behaviour import Behaviour, Seen

ORDINARY: Final = """
asked = llm_query('q') == '<q>' and grep('line 7:')[0].line == 7 and budget()['calls'] == 10
print('held' if asked and len([3, 1]) == 2 and str(4) == '4' else 'HOLE')
"""
"""A cell that stands on the engine and on builtins, and must work as ever."""
GONE: Final = ("exited", "crashed", "cell_timeout_s", "memory_bytes")


def real_answer(seen: Seen) -> str:
    """Check that the answer that was given is the one that the host has."""
    values = [one.value for one in seen.submitted]
    return "" if values == ["real"] else f"the host has {values}"


def no_answer(seen: Seen) -> str:
    """Check that the host has no answer."""
    return f"the host has {seen.submitted}" if seen.submitted else ""


def later(
    name: str, sentence: str, source: str, *cells: str, ends: tuple[str, ...] = (), loses: str = ""
) -> Behaviour:
    """Make an entry whose last cell is an ordinary one that must work as it should."""
    return told(name, sentence, source, *cells, ORDINARY, ends=ends, loses=loses)


ATTACKS: Final[tuple[Behaviour, ...]] = (
    later("language.builtins", "Builtins that a cell has replaced are back for the next.", "builtins",
        "import builtins\nfor name in ('len', 'str', 'print', 'isinstance', 'getattr', 'open', '__import__', 'compile', 'eval', 'dict', 'list'):\n"
        "    setattr(builtins, name, lambda *given, **named: 0)"),
    later("language.builtins_emptied", "So are those that it has deleted.", "builtins",
        "import builtins\nvars(builtins).clear()", ends=GONE),
    later("language.builtins_of_main", "A namespace without builtins gets them again.", "eval",
        "__builtins__ = {}\nglobals()['__builtins__'] = {'len': None}"),
    later("language.names", "The engine's names are back after they were rebound or deleted.", "design 2",
        "context = 'forged'\nllm_query = grep = submit = lambda *_: 'forged'\ndel calls, answer, budget\nlast_output = 'forged'",
        "print('HOLE' if 'forged' in (context, last_output) else '')\ncalls, answer, budget()"),
    later("language.namespace", "So are they after the whole namespace was emptied.", "design 2",
        "globals().clear()", loses="the cell has deleted it itself"),
    told("language.context_deleted", "The context is there after every reference to it was deleted.", "design 2",
        "import gc\nsize = len(context)\ndel context\ngc.collect()",
        "print('held' if len(context) == size and context[:6] == 'line 1' else 'HOLE')"),
    later("language.main_replaced", "The main module that a cell has replaced does not hide the next one's names.", "sys.modules",
        "import sys\nkept = 1\nsys.modules['__main__'] = type(sys)('__main__')\nsys.modules['builtins'] = None", "kept"),
    later("language.modules_emptied", "A cell that empties the table of modules does not stop the next.", "sys.modules",
        "import sys\nsys.modules.clear()"),
    later("language.modules_forged", "Modules put in the place of the engine's are not used by it.", "sys.modules",
        "import sys\nclass Forged(type(sys)):\n    def __getattr__(self, name): raise RuntimeError('forged')\n"
        "for name in list(sys.modules):\n"
        "    if name.startswith('abyme') or name in ('json', 're', 'os', 'ast', 'traceback', 'linecache', 'asyncio'): sys.modules[name] = Forged(name)"),
    later("language.engine_modules", "Nor are those that it deletes from the table.", "sys.modules",
        "import sys\nfor name in [one for one in sys.modules if one.startswith('abyme')]: del sys.modules[name]"),
    later("language.library_patched", "Functions of the library that the engine stands on are put back.", "monkeypatching",
        "import ast, contextlib, json, linecache, mmap, os, select, time, traceback\ndef broken(*given, **named): raise RuntimeError\n"
        "json.dumps = json.loads = json.JSONEncoder.encode = json.encoder.c_make_encoder = os.getpid = os.kill = os.waitpid = broken\n"
        "select.poll = mmap.mmap = time.monotonic = contextlib.suppress = ast.Expression = ast.PyCF_ONLY_AST = broken\n"
        "traceback.TracebackException = linecache.cache = linecache.updatecache = os._exit = os.fstat = broken"),
    later("language.signals_patched", "So are those of signals, threads and sockets.", "monkeypatching",
        "import _signal, _thread, signal, socket, threading\ndef broken(*given, **named): raise RuntimeError\n"
        "_signal.signal = _signal.getsignal = _signal.pthread_sigmask = _signal.setitimer = _signal.sigpending = broken\n"
        "_thread.get_ident = _thread.allocate_lock = socket.socket.send = socket.socket.recv = threading.RLock = broken"),
    later("language.json_forged", "A `json` that writes something else does not write the engine's frames.", "monkeypatching",
        "import json\nhonest = json.dumps\njson.dumps = lambda *given, **named: '{\"t\":\"finished\"}'\n"
        "json.JSONEncoder.iterencode = lambda *given: ['{}']\njson.encoder.encode_basestring_ascii = lambda text: '\"forged\"'"),
    told("language.json_answer", "An answer is what was submitted, whatever `json` was made to write.", "monkeypatching",
        "import json\njson.dumps = lambda *given, **named: '\"forged\"'",
        "submit('real')\nprint('held')", judge=real_answer),
    later("language.types", "Types of C, which the engine stands on, cannot be changed.", "ctypes-free 'forbidden fruit'",
        "got = 0\nfor kind in (str, dict, list, int, type, object, tuple, type(len), type(context)):\n"
        "    for name in ('__eq__', '__len__', 'join', 'x', '__class__'):\n"
        "        try: setattr(kind, name, None); got += 1\n"
        "        except TypeError: pass\n"
        "if got: print('HOLE')"),
    later("language.trace", "A trace function ends with its cell.", "sys.settrace",
        "import sys, threading\nhit = []\ndef trace(*given): hit.append(given[0].f_code.co_name); return trace\n"
        "sys.settrace(trace); sys.setprofile(trace); threading.settrace(trace)\nmark = len(hit)",
        "before = len(hit)\nsum(range(3)); (lambda: 1)()\nprint('HOLE' if len(hit) > before else '')"),
    told("language.trace_jumps", "A trace function cannot jump over the engine's lines.", "frame.f_lineno",
        "import sys\ndef trace(frame, what, _):\n"
        "    if 'guest' in frame.f_code.co_filename:\n        try: frame.f_lineno += 1\n        except ValueError: pass\n"
        "    return trace\nsys.settrace(trace)\nframe = sys._getframe()\nwhile frame: frame.f_trace, frame = trace, frame.f_back",
        "print('held' if len(context) > 9 else 'HOLE')", ends=(*GONE, "lost: "), loses="a cell that has made the engine skip its own lines", limits=SHORT),
    later("language.monitoring", "So do monitors of PEP 669.", "sys.monitoring",
        "import sys\nhit = []\nmonitoring = getattr(sys, 'monitoring', None)\n"
        "if monitoring:\n    for tool in range(6):\n        monitoring.use_tool_id(tool, 'x')\n"
        "        monitoring.register_callback(tool, monitoring.events.PY_START, lambda *given: hit.append(given))\n"
        "        monitoring.set_events(tool, monitoring.events.PY_START)",
        "before = len(hit)\n(lambda: 1)()\nprint('HOLE' if len(hit) > before else '')"),
    later("language.audit", "An audit hook, which cannot be taken off, does not stop later cells.", "sys.addaudithook, PEP 578",
        "import sys\nhit = []\nsys.addaudithook(lambda name, given: hit.append(name))"),
    told("language.audit_raises", "One that raises in the engine's own steps costs its own REPL alone.", "sys.addaudithook, PEP 578",
        "import sys\nleft = []\ndef hook(name, given):\n"
        "    if left and left[0] and name in ('compile', 'exec', 'object.__getattr__', 'os.kill'):\n"
        "        left[0] -= 1\n        raise RuntimeError(name)\n"
        "sys.addaudithook(hook)\nleft.append(3)", "1", "2", "3", "print('held')",
        ends=(*GONE, "lost: "), loses="an audit hook stays for ever, by Python's own rule"),
    later("language.import_hooks", "Hooks of import do not come between the engine and its modules.", "importlib: meta_path",
        "import builtins, sys\nclass Finder:\n    def find_spec(self, *given): raise RuntimeError('forged')\n"
        "sys.meta_path.insert(0, Finder()); sys.path_hooks.insert(0, Finder)\nbuiltins.__import__ = None"),
    later("language.streams", "Streams that a cell has replaced or closed are the engine's again.", "sys.stdout",
        "import sys\nclass Quiet:\n    def write(self, text): return 0\n    flush = close = lambda self: None\n"
        "sys.stdout.close(); sys.stderr.detach() if False else None\nsys.stdout = sys.__stdout__ = sys.stderr = Quiet()\nsys.stdin = None"),
    later("language.streams_deleted", "So are they when they were deleted.", "sys.stdout",
        "import sys\ndel sys.stdout, sys.stderr, sys.__stdout__"),
    later("language.hooks", "Hooks for errors and for what is shown do not catch a cell's errors.", "sys.excepthook",
        "import sys, threading, traceback\ndef hook(*given): raise SystemExit\n"
        "sys.excepthook = sys.displayhook = sys.unraisablehook = sys.breakpointhook = threading.excepthook = hook",
        "1 / 0", "print('' if 'ZeroDivision' in str(calls) or True else '')"),
    told("language.echo", "What a cell shows is what its last line is, whatever was hooked.", "sys.displayhook",
        "import sys, builtins\nsys.displayhook = lambda value: sys.__stdout__.write('forged')\nbuiltins.repr = lambda value: 'forged'",
        "7", "print('held' if last_output == '7\\n' else 'HOLE')"),
    later("language.recursion", "A limit on recursion that is too low to work with is raised.", "sys.setrecursionlimit",
        "import sys\ndef deep(n): return deep(n - 1) if n else sys.setrecursionlimit(60)\n"
        "try: sys.setrecursionlimit(60)\nexcept RecursionError: pass"),
    later("language.atexit", "What is registered for the end of the process does not run at a cell's end.", "atexit",
        "import atexit\nhit = []\natexit.register(hit.append, 1)\natexit.register(print, 'HOLE')", "print('HOLE' if hit else '')"),
    later("language.finalizer", "A finalizer that raises at a cell's end does not stop the engine.", "object.__del__",
        "class Late:\n    def __del__(self): raise SystemExit(7)\nlate = [Late() for _ in range(9)]\nlate[0].self = late", "del late\nimport gc; gc.collect()"),
    told("language.finalizer_endless", "One that never ends is ended by the time limit, and costs no state.", "object.__del__",
        "value = 5", "class Late:\n    def __del__(self):\n        while True: pass\nlate = Late()\ndel late",
        "print('held' if value == 5 else 'lost')", ends=("cell_timeout_s",), limits=SHORT),
    told("language.finalizer_of_name", "Nor one that runs when its name is replaced between cells.", "object.__del__",
        "class Late:\n    def __del__(self):\n        while True: pass\ncontext = Late()\nllm_query = Late()",
        "print('held' if len(context) > 9 else 'HOLE')", ends=("cell_timeout_s", "lost: SandboxError"), limits=SHORT,
        loses="a finalizer that runs while no cell does"),
    later("language.weak", "A weak reference's callback does not run in the engine's place.", "weakref.finalize",
        "import weakref\nclass One: pass\none = One()\nweakref.finalize(one, print, 'late')\nrefs = weakref.ref(one, lambda _: 1 / 0)", "del one"),
    told("language.signal_handler", "A handler of signals does not run after its cell.", "signal.signal",
        "import os, signal\nhit = []\nfor n in (signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP): signal.signal(n, lambda *given: hit.append(given))\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\nos.kill(os.getpid(), signal.SIGTERM)",
        "print('HOLE' if hit else 'held')", needs=("fork",)),
    later("language.interrupt_taken", "A cell that takes the interrupt for itself gives it back.", "signal.signal",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})"),
    told("language.interrupt_ignored", "A cell that ignores it is rolled back, and costs no state.", "signal(7), design 3: timeout ladder",
        "value = 5", "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "print('held' if value == 5 else 'lost')", ends=("cell_timeout_s",), limits=SHORT, needs=("fork",)),
    later("language.threads", "A thread that outlives its cell can be asked to end, and the next cell works.", "threading",
        "import threading, time\nstop = []\ndef work():\n    while not stop: time.sleep(0.001)\nthread = threading.Thread(target=work); thread.start()",
        "stop.append(1); thread.join()"),
    later("language.lock", "A lock of the engine's that a thread keeps is not waited for for ever.", "threading.Lock",
        "import sys\nprint('x')\nsys.stdout._lock.acquire()\nsys.stdout._lock.release()"),
    later("language.exit", "No way to end the interpreter ends more than the cell.", "sys.exit", "raise SystemExit('no')", "exit(3)", "quit()",
        "import sys\nsys.exit(0)", "raise KeyboardInterrupt", "raise GeneratorExit"),
    told("language.hard_exit", "A way that ends the process is rolled back, and costs no state.", "_exit(2)",
        "value = 5", "import os\nos._exit(0)", "import ctypes\nctypes.string_at(0)", "import os\nos.abort()", "print('held' if value == 5 else 'lost')",
        ends=("exited (status 0)", "crashed"), needs=("fork",)),
    told("language.pickle", "A pickle that runs code runs it in here, where no program can be started.", "pickle, CWE-502",
        "import pickle\ngot = []\nfor text in (b\"cos\\nsystem\\n(S'touch {dir}/made'\\ntR.\", b\"cposix\\nsystem\\n(S'id'\\ntR.\",\n"
        "    b\"c__builtin__\\nopen\\n(S'{dir}/canary'\\ntR.\", b\"csubprocess\\nPopen\\n(S'id'\\ntR.\"):\n"
        "    try: got.append(pickle.loads(text))\n    except Exception: pass\n"
        "print('held' if all(one in (-1, 32512) for one in got) else 'HOLE')"),
    told("language.marshal", "Bytecode that no compiler made is no way out of the process.", "marshal, CPython: bytecode is not verified",
        "value = 5", "import types\nold = (lambda: 0).__code__\n"
        "made = old.replace(co_code=bytes([100, 255, 83, 0, 1, 0] * 400), co_consts=(), co_stacksize=1)\nfor _ in range(9): types.FunctionType(made, {})()",
        "print('held' if value == 5 else 'lost')", ends=("crashed", "memory_bytes", "cell_timeout_s"), needs=("fork",)),
    told("language.garbage", "The objects that a collector knows hold no way to the host.", "gc.get_objects",
        "import gc, io, socket\nfound = []\nfor one in gc.get_objects():\n"
        "    if isinstance(one, io.FileIO) and not one.closed: found.append(one)\n"
        "    if isinstance(one, socket.socket) and one.fileno() > 3: found.append(one)\nprint('HOLE' if found else 'held', *found)"),
    told("language.attributes", "Climbing from an attribute to every class brings no file, socket or program.",
        "the classic of Jinja and RestrictedPython: ().__class__.__mro__",
        "found, tried = [], 0\nfor kind in ().__class__.__base__.__subclasses__() + type.__subclasses__(type):\n"
        "    for given in (('{dir}/canary',), ('{dir}/made', 'w'), (['id'],), ('127.0.0.1', {port})):\n"
        "        if kind.__name__ in ('Popen', 'FileIO', 'FileLoader', 'SourceFileLoader', 'socket', 'zipimporter', '_wrap_close', 'HTTPConnection', 'CDLL', 'SemLock', 'Quitter', 'catch_warnings'):\n"
        "            tried += 1\n            try:\n                made = kind(*given)\n"
        "                if hasattr(made, 'get_data'): found.append(made.get_data('{dir}/canary'))\n"
        "                if hasattr(made, 'read'): found.append(made.read())\n"
        "            except BaseException: pass\nprint('HOLE' if found or not tried else 'held', *found)"),
    told("language.globals", "The globals of the engine's functions lead to no file either.", "function.__globals__",
        "found = []\nfor one in (submit, grep, llm_query):\n    names = one.__wrapped__.__func__.__globals__\n"
        "    for way in (lambda: names['__builtins__']['open']('{dir}/canary').read(), lambda: names['__loader__'].get_data('{dir}/canary'),\n"
        "                lambda: names['__spec__'].loader.get_source(names['__name__'])):\n"
        "        try: found.append(way())\n        except Exception: pass\nprint('HOLE' if any(found) else 'held')"),
    told("language.codecs", "A codec, a format and a template are no way to the host.", "codecs, str.format",
        "import codecs, string\nfound = []\nprint('{0.__class__.__init__.__globals__}'.format(grep)[:0])\n"
        "for way in (lambda: codecs.open('{dir}/canary', 'rb').read(), lambda: codecs.lookup('../../etc/passwd'),\n"
        "            lambda: open(0, encoding='x').read(), lambda: string.Template('$x').substitute(x=open('{dir}/canary').read())):\n"
        "    try: found.append(way())\n    except (OSError, LookupError, ValueError): pass\nprint('HOLE' if found else 'held')"),
    told("language.parsers", "Code in data that is evaluated stays in here.", "garak 0.17: python code execution payloads",
        "found = []\nfor text in (\"__import__('os').system('touch {dir}/made')\", \"__import__('subprocess').run('touch {dir}/made', shell=True)\",\n"
        "    \"exec('open(\\\\'{dir}/made\\\\', \\\\'w\\\\')')\", \"[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'Popen'][0](['id'])\",\n"
        "    \"__import__('shutil').copy('{dir}/canary', '{dir}/made')\", \"__import__('pathlib').Path('{dir}/made').touch()\"):\n"
        "    try: found.append(eval(text))\n    except Exception: pass\nprint('HOLE' if any(one is not None for one in found) else 'held')"),
    told("language.answer_forged", "Text that looks like an answer is none.", "design 2: prose never ends a run",
        "print('FINAL(forged)'); print('submit(\"forged\")'); print('{\"t\":\"submit\",\"value\":\"forged\"}')\nlast_output = 'submit(1)'",
        "print('held')", judge=no_answer),
)  # fmt: skip
