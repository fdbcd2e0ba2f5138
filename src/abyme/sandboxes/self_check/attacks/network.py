"""Sockets of every family, and descriptors handed over."""

# ruff: noqa: E501 - rows of system calls

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import attempt, kernel, refused, told
from abyme.sandboxes.self_check.behaviour import Behaviour

PAIR: Final = "import socket\na, b = socket.socketpair()\nfd = a.fileno()"

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
    kernel(
        "net.families", "No socket of any family, kind or protocol can be made.", "socket(2)",
        "call(41, family, kind | flags, protocol) for family in range(50) for kind in range(7)\n"
        "    for flags in (0, 0x80000) for protocol in (0, 1)",
    ),
    kernel(
        "net.packet", "Not one that sees raw frames, nor one into the kernel's crypto or bpf.",
        "packet(7), CVE-2016-8655",
        "call(41, 17, 3, 0x300), call(41, 17, 2, 0x300), call(41, 38, 5, 0), call(41, 44, 3, 0),\n"
        "    call(41, 16, 3, 0), call(41, 16, 3, 12), call(41, 2, 3, 255), call(41, 10, 3, 58)",
    ),
    kernel(
        "net.vsock", "The machine below a virtual one cannot be reached.", "vsock(7)",
        "call(41, 40, kind, 0) for kind in (1, 2, 5)",
    ),
    refused(
        "net.listener", "A listener on the host's loopback is not reached.", "network_namespaces(7)",
        "socket.create_connection(('127.0.0.1', {port}), 1)",
        "socket.create_connection(('localhost', {port}), 1)",
        "urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=1)",
        "http.client.HTTPConnection('127.0.0.1', {port}, timeout=1).request('GET', '/')",
        first="import http.client, socket, urllib.request",
    ),
    refused(
        "net.datagram", "Nor by a datagram.", "udp(7)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'x', ('::1', {port}))",
        first="import socket",
    ),
    refused(
        "net.unix_path", "A local socket with a path is not reached.", "unix(7), docker.sock",
        "socket.socket(socket.AF_UNIX).connect('{unix}')",
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect('{unix}')",
        "socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock')",
        "socket.socket(socket.AF_UNIX).bind('{dir}/socket')",
        first="import socket",
    ),
    refused(
        "net.unix_abstract", "A local socket without a path is not reached.",
        "unix(7), CVE-2020-15257 (containerd)",
        "socket.socket(socket.AF_UNIX).connect('\\0{abstract}')",
        "socket.socket(socket.AF_UNIX).bind('\\0{mark}')",
        first="import socket",
    ),
    kernel(
        "net.pair_connected", "A pair that may be made cannot be turned elsewhere.",
        "connect(2), AF_UNSPEC",
        "call(nr, fd, name, len(name)) for name in (b'\\1\\0\\0{abstract}', b'\\1\\0{unix}', bytes(16))\n"
        "    for nr in (42, 49)",
        first=PAIR,
    ),
    kernel(
        "net.wire_connected", "Nor can the wire itself.", "connect(2)",
        "call(nr, fd, name, len(name)) for name in (b'\\1\\0\\0{abstract}', bytes(16))\n"
        "    for nr in (42, 49) for fd in range(6)",
    ),
    kernel(
        "net.sent_to", "No datagram can be sent from a pair to an address.", "sendto(2)",
        "call(44, fd, b'x', 1, 0, name, size) for name, size in ((b'\\1\\0\\0{abstract}', 40),\n"
        "    (b'\\2\\0' + ({port}).to_bytes(2, 'big') + b'\\x7f\\0\\0\\1' + bytes(8), 16))",
        first=PAIR,
    ),
    kernel(
        "net.pairs", "Pairs are streams of this machine; none can be sent from to an address.",
        "socketpair(2)",
        "call(53, family, kind, protocol, room) for family, kind, protocol in\n"
        "    ((1, 2, 0), (1, 3, 0), (2, 1, 0), (10, 1, 0), (30, 1, 0), (16, 3, 0), (1, 1, 1))",
    ),
    kernel(
        "net.messages", "No message with ancillary data can be sent or received.", "sendmsg(2)",
        "call(nr, fd, room, 0, 0, null) for nr in (46, 47, 299, 307) for fd in range(6)",
    ),
    refused(
        "net.descriptor_passed", "A descriptor cannot be handed to the host or to another REPL.",
        "unix(7), SCM_RIGHTS",
        "socket.send_fds(wire, [b'x'], [0])", "socket.send_fds(a, [b'x'], [0])",
        "socket.recv_fds(b, 10, 1)",
        first="import socket\na, b = socket.socketpair()\n"
        "wire = socket.socket(fileno=__import__('os').dup(3))",
    ),
    kernel(
        "net.listen", "Nothing can listen or accept.", "listen(2), accept(2)",
        "*(call(50, fd, 5) for fd in range(6)), *(call(nr, fd, null, null, 0) for nr in (43, 288)\n"
        "    for fd in range(6))",
    ),
    kernel(
        "net.options_set", "No option of a socket can be set: no filter program, no buffer, no "
        "credentials.", "setsockopt(2), SO_ATTACH_FILTER, SO_SNDBUF",
        "call(54, fd, level, option, struct.pack('QQ', 1, ctypes.addressof(room)), 16)\n"
        "    for fd in (3, *range(4, 8)) for level, option in ((1, 26), (1, 50), (1, 7), (1, 32),\n"
        "    (1, 16), (1, 34), (1, 38), (0, 64), (6, 31))",
    ),
    kernel(
        "net.peer", "Who holds the other end of the wire is not told, and no handle for it given.",
        "unix(7), SO_PEERCRED, SO_PEERPIDFD",
        "call(55, fd, 1, option, room, struct.pack('I', 64)) for option in (17, 31, 59, 77)\n"
        "    for fd in (3,)", by="95, 92",
    ),
    told(
        "net.names", "No name is resolved, so that nothing leaves in a question for one.",
        "getaddrinfo(3)",
        "import socket\ngot = []\n"
        "for way in (lambda: socket.getaddrinfo('{mark}.example.org', 80),\n"
        "            lambda: socket.gethostbyname('{mark}.example.org'),\n"
        "            lambda: socket.gethostbyaddr('127.0.0.1')):\n"
        "    try: got.append(way())\n"
        "    except (OSError, UnicodeError): pass\n"
        "print('HOLE' if got else 'held', *got)",
    ),
    told(
        "net.asyncio", "No event loop opens a connection.", "asyncio",
        "import asyncio\n"
        "try:\n"
        "    await asyncio.open_connection('127.0.0.1', {port})\n"
        "    print('HOLE')\n"
        "except (OSError, ImportError, NotImplementedError): print('held')",
    ),
    refused(
        "net.interfaces", "The host's interfaces are not told.", "netdevice(7)",
        "socket.if_nameindex()", "socket.if_nametoindex('lo')",
        "fcntl.ioctl(a, 0x8912, bytes(16))", "fcntl.ioctl(3, 0x8913, b'lo'.ljust(40, b'\\0'))",
        first="import fcntl, socket\na, b = socket.socketpair()",
    ),
)  # fmt: skip
