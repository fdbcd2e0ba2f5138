"""Frames between the host and a helper, as the helper sees them.

Decides the form: two big-endian lengths, a JSON object, bytes; descriptors travel with the first
of these. The host is believed. After lock-down it needs recvmsg, if descriptors are to come.
"""

import contextlib
import json
import os
import select
import signal
import socket
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import resource

HEADER: Final = struct.Struct("!II")
MAX_FDS: Final = 16


class Link:
    """The helper's end."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        """Tell its descriptor."""
        return self._socket.fileno()

    def receive(self) -> tuple[dict[str, Any], bytes, list[int]] | None:
        """Wait for a frame: head, body, descriptors. None: the host is gone."""
        header, fds, _, _ = socket.recv_fds(self._socket, HEADER.size, MAX_FDS)
        rest = self._exactly(HEADER.size - len(header)) if header else None
        if rest is None:
            return None
        head_bytes, body_bytes = HEADER.unpack(header + rest)
        head, body = self._exactly(head_bytes), self._exactly(body_bytes)
        if head is None or body is None:
            return None
        return json.loads(head), body, list(fds)

    def send(self, head: Mapping[str, Any], body: bytes = b"") -> None:
        """Send a frame.

        Raises:
            OSError: the host is gone.
        """
        words = json.dumps(head, separators=(",", ":")).encode("ascii")
        self._socket.sendall(HEADER.pack(len(words), len(body)) + words)
        if body:
            self._socket.sendall(body)

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            got = self._socket.recv_into(view[at:])
            if not got:
                return None
            at += got
        return bytes(data)


def wait_for(pid: int, link_fd: int) -> "tuple[int, resource.struct_rusage] | None":
    """Wait for the end of a child: its status and what it used. None: the host is gone first.

    The child is killed then; its own parent-death signal follows where that is not allowed.
    """
    try:
        child = os.pidfd_open(pid)
    except OSError:  # before Linux 5.3, or no descriptor is left
        return os.wait4(pid, 0)[1:]
    try:
        watched = select.poll()
        watched.register(child, select.POLLIN)
        watched.register(link_fd, select.POLLRDHUP)
        ready = {fd for fd, _ in watched.poll()}
    finally:
        os.close(child)
    if child in ready:
        return os.wait4(pid, 0)[1:]
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    return None
