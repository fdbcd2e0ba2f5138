"""The first process of a container: one stream with the host on one side, a REPL on the other.

Run by path in the image that `sandboxes/container` builds::

    python -s -S -P relay.py     (stdin and stdout: messages of `abyme.wire`)

The launch is a checklist, `main`: it verifies the container, starts the fork server that the jail
starts too, and has it fork the one REPL of this container on the context in `CONTEXT`. Invariant:
as it is the first of its PID namespace, everything in the container ends with it; and it ends
when the REPL has ended or the host is gone (`stream`).
"""

import json
import os
import signal
import socket
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from abyme.guest.stream import Host

CONTEXT: Final = ("/context/index", "/context/arena")
REPLY_BYTES: Final = 1 << 16
ONE_THREAD: Final = dict.fromkeys(
    """
BLIS_NUM_THREADS MKL_NUM_THREADS NUMEXPR_NUM_THREADS OMP_NUM_THREADS OPENBLAS_NUM_THREADS
POLARS_MAX_THREADS RAYON_NUM_THREADS
""".split(),  # noqa: SIM905 - as for the jail (`sandboxes/jail/packages`)
    "1",
) | {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Variables that keep packages to one thread: a process with more cannot be forked whole."""


class _Refused(Exception):
    """There will be no REPL; the message says why."""


def main() -> None:
    """Launch, step by step, and serve."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # what a runtime forgot to close: CVE-2024-21626
    _find_own_package()
    from abyme.guest.stream import Host, Relay  # noqa: PLC0415

    host = Host()
    try:
        wire, control, pidfd = _launch(host, host.order())
    except _Refused as refused:
        host.refuse(str(refused))
    else:
        Relay(host, wire, control, pidfd).serve()


def _launch(host: "Host", order: dict[str, Any]) -> tuple[socket.socket, socket.socket, int]:
    from abyme.guest.kernel import contained  # noqa: PLC0415
    from abyme.guest.kernel.lockdown import NotJailed  # noqa: PLC0415

    try:
        layers = contained.verify()
    except NotJailed as missing:
        why = f"the container lacks a layer: {missing}"
        raise _Refused(why) from None
    if order["digest"] != _digest():
        why = "the image holds the guest of another version of abyme"
        raise _Refused(why)
    server, hello = _start_server(order["hash_seed"], order["packages"])
    notes = _adopt(server)
    opened = _open(server, order["repl"])
    server.detach()  # it stays open: the fork server ends with it, and takes its REPL along
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans come here; the kernel reaps
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    facts = {key: hello[key] for key in ("python", "counts_processes", "packages")}
    host.tell_opened({**facts, "layers": layers, "notes": notes})
    return opened


def _start_server(hash_seed: int, packages: list[str]) -> tuple[socket.socket, dict[str, Any]]:
    """Start the fork server: the program that the jail starts too, told what is around it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.set_inheritable(theirs.fileno(), True)  # noqa: FBT003
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zygote.py")  # noqa: PTH100, PTH118, PTH120
    command = [sys.executable, "-s", "-S", "-P", program, str(theirs.fileno()), "container"]
    if packages:
        command.append(_load(packages))
    environment = {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": str(hash_seed), "TZ": "UTC0"}
    os.posix_spawn(
        sys.executable,
        command,
        environment | (ONE_THREAD if packages else {}),
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)],
    )
    theirs.close()
    hello, _ = _reply(ours)
    return ours, hello


def _load(names: list[str]) -> str:
    """Order packages of the image, from where its interpreter keeps them."""
    import site  # noqa: PLC0415 - for few runs only

    folders = [folder for folder in site.getsitepackages() if os.path.isdir(folder)]  # noqa: PTH112
    tag = sys.implementation.cache_tag
    return json.dumps({"names": names, "folders": folders, "python": tag})


def _adopt(server: socket.socket) -> list[str]:
    fds = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in CONTEXT]
    socket.send_fds(server, [b'{"t": "adopt", "spare": null}'], fds)
    for fd in fds:
        os.close(fd)
    answer, _ = _reply(server)
    return list(answer["notes"])


def _open(server: socket.socket, repl: dict[str, Any]) -> tuple[socket.socket, socket.socket, int]:
    server.send(json.dumps({"t": "open", **repl}).encode())
    _, (pidfd, wire, control) = _reply(server)
    return socket.socket(fileno=wire), socket.socket(fileno=control), pidfd


def _reply(server: socket.socket) -> tuple[dict[str, Any], list[int]]:
    data, fds, _, _ = socket.recv_fds(server, REPLY_BYTES, 4)
    answer = json.loads(data or b'{"t": "failed", "why": "the fork server has ended"}')
    if answer["t"] in ("failed", "refused"):
        raise _Refused(answer["why"])
    return answer, fds


def _digest() -> str:
    """Read which guest this image was made with."""
    with open(os.path.join(_root(), "digest"), encoding="ascii") as file:  # noqa: PTH118, PTH123
        return file.read().strip()


def _root() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120


def _find_own_package() -> None:
    """Make `abyme.guest` importable, as the fork server does."""
    parent = ModuleType("abyme")
    parent.__path__ = [_root()]
    sys.modules["abyme"] = parent


if __name__ == "__main__":
    main()
