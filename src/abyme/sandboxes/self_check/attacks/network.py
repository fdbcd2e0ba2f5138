"""Sockets of every family."""

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import attempt
from abyme.sandboxes.self_check.behaviour import Behaviour

ATTACKS: Final = (
    Behaviour(
        id="net.inet",
        sentence="No internet socket can be made.",
        source="socket(2)",
        cells=(attempt("__import__('socket').socket()"),),
    ),
    Behaviour(
        id="net.unix",
        sentence="No local socket can be made.",
        source="unix(7)",
        cells=(attempt("import socket; socket.socket(socket.AF_UNIX)"),),
    ),
    Behaviour(
        id="net.netlink",
        sentence="No netlink socket can be made.",
        source="netlink(7)",
        cells=(attempt("import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"),),
    ),
)
