"""Contract: the jail holds. Each attack is a cell; the sentence says what it must not reach.

What every tier must refuse is in the self-check; here is what is true of the jail alone.
"""

import os
import socket

import pytest
from jail_doubles import ANY, bench, needs_snapshots

CANARY = "canary-4c1d"

SYSCALL = """
import ctypes
call = ctypes.CDLL(None, use_errno=True).syscall
call.restype = ctypes.c_long
def sys(*words):
    return call(*[ctypes.c_long(w) if isinstance(w, int) else w for w in words])
def errno_of(*words):
    ctypes.set_errno(0)
    return ctypes.get_errno() if sys(*words) < 0 else 0
EPERM, ENOENT, ENOSYS = 1, 2, 38
"""


@pytest.fixture(scope="module")
def jail():
    os.environ["ABYME_TEST_CANARY"] = CANARY
    with bench(context="x" * 3_000_000, isolation=ANY) as made:
        yield made
    del os.environ["ABYME_TEST_CANARY"]


@pytest.fixture(scope="module")
def repl(jail):
    with jail.repl() as made:
        yield made


def test_no_variable_of_the_host_is_in_the_environment(repl):
    code = (
        "import os, ctypes\nenviron = ctypes.c_void_p.in_dll(ctypes.CDLL(None), 'environ').value\n"
        "first = ctypes.c_void_p.from_address(environ).value if environ else None\n"
        "dict(os.environ), first"
    )

    assert repl.out(code) == "({}, None)\n"


def test_no_descriptor_but_the_null_device_and_the_wire(repl):
    code = (
        "import fcntl\nopen_fds = []\nfor fd in range(64):\n"
        "    try: fcntl.fcntl(fd, fcntl.F_GETFD)\n"
        "    except OSError: continue\n    open_fds.append(fd)\nopen_fds"
    )

    assert repl.out(code) == "[0, 1, 2, 3]\n"


def test_no_path_exists(repl):
    code = (
        "import os, glob\n"
        "[p for p in ('/', '/proc', '/proc/self/environ', '/etc/passwd', '/tmp', '/dev/null') "
        "if os.path.exists(p)], glob.glob('/*')"
    )

    assert repl.out(code) == "([], [])\n"


def test_no_family_of_sockets_can_be_made(repl):
    code = (
        SYSCALL + "{errno_of(41, family, kind, 0) for family in range(50) for kind in range(1, 6)}"
    )

    assert repl.out(code) == "{1}\n"


def test_a_listener_on_loopback_is_not_reached(repl):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        error = repl.cell(
            f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
        ).error
        assert error.endswith("PermissionError: [Errno 1] Operation not permitted\n")


def test_native_code_cannot_replace_or_unseal_the_context(repl):
    if "sealed_view" not in repl.session.facts.layers:
        pytest.skip("the kernel has no mseal")
    code = SYSCALL + (
        "page = (id(context) & ~4095) + 4096\n"
        "{errno_of(11, page, 4096), errno_of(10, page, 4096, 3), "
        "errno_of(25, page, 4096, 8192, 1), errno_of(9, page, 4096, 3, 0x32, -1, 0), "
        "errno_of(28, page, 4096, 9)}"
    )

    assert repl.out(code) == "{1, 13}\n"  # EPERM, and EACCES where the memory is sealed as well


def test_a_written_header_is_put_right_before_the_next_cell(repl):
    code = "import ctypes\nctypes.c_ssize_t.from_address(id(context) + 16).value = 5\nlen(context)"

    assert repl.out(code) == "5\n"
    assert repl.out("len(context)") == "3000000\n"


def test_the_context_cannot_be_written(repl):
    needs_snapshots(repl)
    finished = repl.cell("import ctypes\nctypes.memset((id(context) & ~4095) + 4096, 0x41, 1)")

    assert (finished.ended, finished.limit) == ("rolled_back", "crashed (signal 11)")
    assert repl.out("context[0], len(context)") == "('x', 3000000)\n"


def test_no_new_privilege_namespace_trace_or_kernel_object(repl):
    calls = {
        "ptrace": 101, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
        "unshare": 272, "setns": 308, "bpf": 321, "perf_event_open": 298, "keyctl": 250,
        "add_key": 248, "userfaultfd": 323, "io_uring_setup": 425, "memfd_create": 319,
        "execve": 59, "execveat": 322, "init_module": 175, "kexec_load": 246, "setuid": 105,
        "setgid": 106, "setresuid": 117, "capset": 126, "personality": 135, "seccomp": 317,
        "process_vm_readv": 310, "process_vm_writev": 311, "pidfd_open": 434,
        "pidfd_getfd": 438, "pidfd_send_signal": 424, "shmget": 29, "msgget": 68, "semget": 64,
        "mq_open": 240, "sendmsg": 46, "recvmsg": 47, "ioperm": 173, "iopl": 172,
        "sched_setaffinity": 203, "setpriority": 141, "quotactl": 179, "syslog": 103,
        "clock_settime": 227, "arch_prctl": 158, "name_to_handle_at": 303, "fsopen": 430,
        "landlock_create_ruleset": 444, "memfd_secret": 447, "mseal": 462, "rt_sigqueueinfo": 129,
        "tkill": 200, "vfork": 58,
        "mlockall": 151, "setsockopt": 54, "splice": 275, "vmsplice": 278,
    }  # fmt: skip
    code = (
        SYSCALL + f"{{n for n, nr in {calls!r}.items() if errno_of(nr, 0, 0, 0, 0, 0, 0) != EPERM}}"
    )

    assert repl.out(code) == "set()\n"


def test_other_processes_cannot_be_signalled(repl):
    code = (
        SYSCALL
        + f"errno_of(62, {os.getpid()}, 0) in (1, 3), errno_of(234, {os.getpid()}, 1, 0) in (1, 3)"
    )

    assert repl.out(code) == "(True, True)\n"


def test_a_call_of_the_32_bit_kernel_kills_the_process(jail):
    with jail.repl() as repl:
        needs_snapshots(repl)
        assert repl.cell(SYSCALL + "sys(0x40000027)").limit == "crashed (signal 31)"  # x32 getpid


def test_a_parser_of_the_models_own_runs_no_program(repl):
    for code in (
        "__import__('os').system('true')",
        "__import__('os').popen('true').read()",
        "__import__('pickle').loads(b'cos\\nsystem\\n(S\\'true\\'\\ntR.')",
    ):
        finished = repl.cell(f"print({code})")
        assert finished.error or finished.output in ("-1\n", "32512\n"), code
