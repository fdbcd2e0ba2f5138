"""What a tier does differently by design: entries that mean nothing there, and why.

Data only: ids of entries or globs of them, each with the reason that a reader is given. Whatever
is merely not there on a host is found out by the check itself, never written here.
"""

from collections.abc import Mapping
from typing import Final

from abyme.core.isolation import Tier

DIFFERENCES: Final[Mapping[Tier, Mapping[str, str]]] = {
    "jail": {},
    "wasm": {
        "file.source_lines": "the source of the interpreter's own library, the same everywhere, "
        "can be read",
        "file.temporary": "there is no mmap module to try it with",
        "process.python_ways": "there is no os.execv or os.posix_spawn to try it with",
        "process.fork_exec": "there is no os.pipe to try it with",
        "net.descriptor_passed": "there are no descriptors to pass on",
        "net.interfaces": "there is no fcntl module to try it with",
        "ipc.pools": "there is no process to make a pool of",
        "disk.pipes": "there are no pipes",
        "disk.sockets": "there are no pairs of sockets",
        "terminal.none": "there is no os.ttyname to try it with",
        "leak.names": "there is no name of a host to ask for: the question fails",
        "language.garbage": "a collector knows the interpreter's own streams, which lead nowhere",
        "language.threads": "threads run when they start, and none outlives its cell",
        "limit.on": "there is no resource module to ask; the host limits the process",
        "loop.hash": "there is no hashlib.pbkdf2_hmac",
        "loop.lzma": "there is no lzma module",
        "wait.deadlock": "without threads the interpreter ends at once on a lock that nobody can "
        "release",
        "thread.flood": "threads run when they start, and one that waits for another ends as a "
        "deadlock does",
        "stop.blocked": "there are no signal masks",
        "stop.storm": "there are no timers",
    },
    "container": {},
}
