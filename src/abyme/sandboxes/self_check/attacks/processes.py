"""Programs and processes: started, traced, signalled, outliving their cell; and credentials."""

# ruff: noqa: E501 - rows of system calls

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import SHORT, attempt, kernel, refused, told
from abyme.sandboxes.self_check.behaviour import Behaviour

EVERYBODY: Final = "(1, os.getppid(), {pid}, {host})"

ATTACKS: Final = (
    Behaviour(
        id="process.exec",
        sentence="No program can be started.",
        source="execve(2)",
        cells=(attempt("__import__('os').execv('/bin/sh', ['sh'])"),),
    ),
    Behaviour(
        id="process.spawn",
        sentence="No child process can be started.",
        source="vfork(2)",
        cells=(attempt("__import__('subprocess').run(['true'])"),),
    ),
    kernel(
        "process.exec_descriptor", "Nothing that is open can be run as a program.",
        "execveat(2), AT_EMPTY_PATH",
        "call(322, fd, path, words, null, flags) for fd in (*range(6), -100)\n"
        "    for path in (b'', b'/bin/sh', b'/proc/self/exe') for flags in (0, 0x1000)",
        first="words = (ctypes.c_char_p * 2)(b'sh', None)",
    ),
    kernel(
        "process.asked_about", "Nothing is told of another process: group, session, processors, time.",
        "getpgid(2), getsid(2), sched_getaffinity(2), clock_getcpuclockid(3)",
        "*(call(nr, pid, 128, ctypes.create_string_buffer(128))\n"
        "    for nr in (121, 124, 204) for pid in ({pid}, {host})),\n"
        "    *(call(nr, (~pid << 3) | 2, ctypes.create_string_buffer(16))\n"
        "    for nr in (228, 229) for pid in ({pid}, {host}))",
        by="3, 22",
    ),
    refused(
        "process.python_ways", "None of Python's ways of starting a program starts one.",
        "os, pty, posix_spawn(3)",
        "os.posix_spawn('/bin/sh', ['sh'], {})", "os.spawnv(os.P_WAIT, '/bin/sh', ['sh']) == 127 "
        "and open('/bin/sh')", "os.popen('echo x').read() or open('/')", "os.system('true')",
        "os.execlp('sh', 'sh')", "os.execve(0, ['sh'], {})", "subprocess.check_output('id')",
        "os.posix_spawnp('sh', ['sh'], {})",
        first="import os, subprocess",
    ),
    refused(
        "process.fork_exec", "The helper below `subprocess` starts nothing either.",
        "_posixsubprocess",
        "subprocess._fork_exec(['/bin/sh'], [b'/bin/sh'], True, (), None, None, -1, -1, -1, -1,"
        " -1, -1, a, b, False, False, -1, None, None, None, -1, None, *more) and open('/bin/sh')",
        first="import os, subprocess, sys\na, b = os.pipe()\n"
        "more = (True,) if sys.version_info < (3, 14) else ()",
    ),
    told(
        "process.asyncio", "No program can be started from an event loop.", "asyncio",
        "import asyncio\n"
        "try:\n"
        "    made = await asyncio.create_subprocess_exec('/bin/sh', '-c', 'true')\n"
        "    print('HOLE' if await made.wait() == 0 else 'held')\n"
        "except (OSError, ImportError, RuntimeError): print('held')",
    ),
    kernel(
        "process.shared_memory", "No process can be made that shares this one's memory.",
        "vfork(2), clone(2)",
        "call(58), *(call(56, flags, null, null, null, null) for flags in (0x4111, 0x111, 0x100))",
    ),
    kernel(
        "process.clone_tricks", "No process can be made beside, traced, or as a handle.", "clone(2)",
        "call(56, bit | 17, null, null, null, null) for bit in (0x8000, 0x2000, 0x800000, 0x1000)",
    ),
    kernel(
        "process.clone3", "The call that passes its flags by pointer makes no process.", "clone3(2)",
        "call(435, struct.pack('11Q', flags, 0, 0, 0, 17, *[0] * 6), 88)\n"
        "    for flags in (0, 0x10000000, 0x200000000, 0x80, 0x100000000)",
    ),
    kernel(
        "process.traced", "No process can be traced.", "ptrace(2)",
        "call(101, 0, 0, 0, 0), *(call(101, how, pid, 0, 0) for how in (16, 0x4206)\n"
        f"    for pid in {EVERYBODY})",
    ),
    kernel(
        "process.memory", "No process's memory can be read, written, advised upon or freed.",
        "process_vm_readv(2)",
        f"call(nr, pid, part, 1, part, 1, 0) for pid in {EVERYBODY}\n"
        "    for nr in (310, 311, 312, 440, 448)",
        first="part = struct.pack('QQ', ctypes.addressof(room), 8)",
    ),
    refused(
        "process.memory_file", "Nor by the file that stands for it.", "proc(5), CVE-2012-0056",
        *(f"open('/proc/{who}/{what}', 'rb')" for who in ("self", "1", "{pid}", "{host}")
          for what in ("mem", "maps", "environ")),
    ),
    kernel(
        "process.handle", "No handle for a process can be had or used.", "pidfd_open(2)",
        f"*(call(434, pid, flags) for pid in {EVERYBODY} for flags in (0, 0x800)),\n"
        "    *(call(nr, fd, 9, null, 0) for fd in range(6) for nr in (424, 438))",
    ),
    kernel(
        "process.kill_host", "A process of the host cannot be ended or stopped.", "kill(2)",
        "call(62, sign * pid, number) for pid in ({pid}, {host}) for sign in (1, -1)\n"
        "    for number in (0, 9, 15, 19)", by="3",
    ),
    kernel(
        "process.kill_host_thread", "Nor by any other call that signals.",
        "tgkill(2), rt_sigqueueinfo(2)",
        "*(call(234, pid, pid, 9) for pid in ({pid}, {host})), *(call(200, pid, 9) for pid in\n"
        "    ({pid}, {host}, 1)), *(call(nr, pid, pid, 9, info) for nr in (129, 297)\n"
        "    for pid in ({pid}, {host}, 1))",
        first="info = struct.pack('iii', 9, 0, -1).ljust(128, b'\\0')", by="3",
    ),
    told(
        "process.kill_first", "The first process of a REPL cannot be ended by its cells.",
        "pid_namespaces(7)",
        "import os\n"
        "for number in range(1, 65):\n"
        "    try: os.kill(1, number)\n"
        "    except OSError: pass",
        "print('held')",
    ),
    told(
        "process.kill_group", "A process group does not reach out of the REPL.",
        "kill(2): kill(0) passes PID namespaces",
        "import os\nprint('held' if os.getpgrp() and os.getsid(0) else 'HOLE: a group of outside')",
        needs=("fork",),
    ),
    told(
        "process.kill_own_group", "A cell that ends its whole group ends its own REPL alone.",
        "kill(2)",
        "import os\n"
        "try: os.kill(0, 9)\n"
        "except OSError: print('held')",
        ends=("crashed", "lost: SandboxError"), needs=("fork",),
        loses="a cell that kills its snapshot and itself has ended its REPL",
    ),
    told(
        "process.kill_others", "A cell that ends all but itself goes on, and keeps its state.",
        "kill(2), design 3: kill(-1)",
        "import os\nvalue = 5\nos.kill(-1, 9)\nafter = 6", "print('held' if value == 5 else 'lost')",
        needs=("fork",),
    ),
    told(
        "process.stop_others", "A cell that stops all but itself can still be ended.",
        "signal(7): SIGSTOP",
        "import os\nos.kill(-1, 19)", "print('held')", needs=("fork",),
    ),
    told(
        "process.stop_itself", "A cell that stops itself is rolled back.", "signal(7): SIGSTOP",
        "import os, signal\nsignal.signal(signal.SIGCONT, signal.SIG_IGN)\n"
        "os.kill(os.getpid(), 19)\nwhile True: os.kill(os.getpid(), 19)",
        ends=("cell_timeout_s",), needs=("fork",), limits=SHORT,
    ),
    told(
        "process.orphan", "A process that a cell leaves behind ends with the cell.",
        "pid_namespaces(7)",
        "import os, signal, time\na, b = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n"
        "        for n in range(1, 65):\n"
        "            try: signal.signal(n, signal.SIG_IGN)\n"
        "            except (OSError, ValueError): pass\n"
        "        os.write(b, str(os.getpid()).encode())\n"
        "        while True: time.sleep(9)\n"
        "    os._exit(0)\n"
        "left = int(os.read(a, 9))",
        "for _ in range(500):  # until it has been reaped\n    try: os.kill(left, 0)\n"
        "    except ProcessLookupError:\n        print('held')\n        break\n"
        "    time.sleep(0.01)\nelse: print('HOLE')",
        needs=("fork",),
    ),
    told(
        "process.twin", "A child that runs on out of its cell does not answer for it.", "fork(2)",
        "import os\nwho = os.fork()\nos.write(3, b'') if False else None",
        "print('held' if who > 0 else 'HOLE: the twin')", needs=("fork",),
    ),
    told(
        "process.late_timer", "A timer or handler that a cell has set does not outlive it.",
        "setitimer(2)",
        "import signal\nhit = []\n"
        "signal.signal(signal.SIGALRM, lambda *_: hit.append(1))\n"
        "signal.signal(signal.SIGTERM, lambda *_: hit.append(2))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.02, 0.01)",
        "import os, time\nfor _ in range(20): time.sleep(0.002)\n"
        "kept = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL\n"
        "print('held' if not hit and not kept else 'HOLE')",
    ),
    kernel(
        "process.identity", "User, group and capabilities cannot be changed.",
        "setuid(2), capset(2)",
        "*(call(nr, 0, 0, 0) for nr in (105, 106, 113, 114, 116, 117, 119, 122, 123)),\n"
        "    call(126, head, b'\\xff' * 24), call(125, head, room)",
        first="head = struct.pack('Ii', 0x20080522, 0)",
    ),
    kernel(
        "process.settings", "No setting of the process that guards it can be changed.", "prctl(2)",
        "call(157, what, *words) for what, *words in ((1, 0), (4, 1), (8, 1), (14, 1), (22, 2, room),\n"
        "    (23, 21), (24, 0), (28, 0), (35, 1, 0), (36, 1), (38, 0), (41, 1), (47, 2, 21), (53, 0, 2),\n"
        "    (59, 1), (62, 1, 0, 0), (0x53564D41, 0, 0, 1), (0x59616D61, -1))",
    ),
    kernel(
        "process.priority", "Nor what share of the processors it has.", "sched(7)",
        "call(141, 0, 0, -20), call(251, 1, 0, 0), call(144, 0, 1, struct.pack('i', 1)),\n"
        "    call(314, 0, struct.pack('IIQiIQQQ', 48, 6, 0, 0, 0, 1, 1, 1), 0),\n"
        "    call(203, 0, 8, b'\\x01' + bytes(7)), call(142, 0, struct.pack('i', 1)), call(34 * 10, 0)",
        by="3",
    ),
    kernel(
        "process.session", "It cannot become a session or a group of its own, or hang one up.",
        "setsid(2)", "call(112), call(109, 0, 0), call(153), call(163, b'/x'), call(169, 1, 2, 3)",
    ),
    kernel(
        "process.timers", "No timer or handle can be made that outlives its cell.",
        "timer_create(2), timerfd_create(2), signalfd(2)",
        "call(222, 0, null, room), call(283, 0, 0), call(282, -1, bytes(8), 8), call(289, -1, room, 8, 0)",
    ),
    kernel(
        "process.io_to_signal", "A descriptor cannot be made to signal anybody.", "fcntl(2)",
        "call(72, fd, what, pid) for fd in range(4) for what in (8, 10, 15) for pid in ({pid}, 1)",
    ),
)  # fmt: skip
