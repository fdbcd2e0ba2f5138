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


class _Refused(Exception):
    """There will be no REPL; the message says why."""


def main() -> None:
    """Launch, step by step, and serve."""
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
    server, hello = _start_server(order["hash_seed"])
    notes = _adopt(server)
    opened = _open(server, order["repl"])
    server.detach()  # it stays open: the fork server ends with it, and takes its REPL along
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans come here; the kernel reaps
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = {"python": hello["python"], "counts_processes": hello["counts_processes"]}
    host.tell_opened({**told, "layers": layers, "notes": notes})
    return opened


def _start_server(hash_seed: int) -> tuple[socket.socket, dict[str, Any]]:
    """Start the fork server: the program that the jail starts too, told what is around it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.set_inheritable(theirs.fileno(), True)  # noqa: FBT003
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zygote.py")  # noqa: PTH100, PTH118, PTH120
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-s", "-S", "-P", program, str(theirs.fileno()), "container"],
        {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": str(hash_seed), "TZ": "UTC0"},
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)],
    )
    theirs.close()
    hello, _ = _reply(ours)
    return ours, hello


def _adopt(server: socket.socket) -> list[str]:
    fds = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in CONTEXT]
    socket.send_fds(server, [b'{"t": "adopt"}'], fds)
    for fd in fds:
        os.close(fd)
    answer, _ = _reply(server)
    return list(answer["notes"])


def _open(server: socket.socket, repl: dict[str, Any]) -> tuple[socket.socket, socket.socket, int]:
    wire, their_wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    order = json.dumps({"t": "open", **repl}).encode()
    socket.send_fds(server, [order], [their_wire.fileno(), their_control.fileno()])
    their_wire.close()
    their_control.close()
    _, got = _reply(server)
    return wire, control, got[0]


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
