"""Sockets that say at once that there is no network, in place of some that say it late.

Decides what a cell is told. The interpreter makes sockets that can be connected to nothing and
names that all stand for one address; a refusal in words is what the jail gives. The boundary is the
interpreter's host, which offers no network.
"""

import errno
import os
import socket
from typing import Any, NoReturn


class Refused(socket.socket):
    """A socket that cannot be made."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Refuse.

        Raises:
            PermissionError: always.
        """
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def __del__(self) -> None:
        """Nothing to close."""


def no_names(*_: Any, **__: Any) -> NoReturn:
    """Stand in for what resolves names.

    Raises:
        socket.gaierror: always.
    """
    raise socket.gaierror(-3, "Temporary failure in name resolution")


def stand_in() -> None:
    """Put them in place."""
    modules: list[Any] = [socket, vars(socket).get("_socket")]
    for module in modules:
        for name, put in (("socket", Refused), ("SocketType", Refused)):
            if hasattr(module, name):
                setattr(module, name, put)
        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr",
                     "getnameinfo", "getfqdn"):  # fmt: skip
            if hasattr(module, name):
                setattr(module, name, no_names)
