"""Frames between the host and a helper, as the helper sees them.

Decides the form: two big-endian lengths, a JSON object, bytes; descriptors travel with the first
of these. The host is believed. After lock-down it needs recvmsg, if descriptors are to come.
"""

import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

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


def close_all_but(*kept: int) -> None:
    """Close every descriptor but the standard ones and these."""
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
