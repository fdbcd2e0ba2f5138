"""Files of the host: read, written, listed, looked at, made in memory."""

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import attempt
from abyme.sandboxes.self_check.behaviour import Behaviour

ATTACKS: Final = (
    Behaviour(
        id="file.read",
        sentence="A file of the host cannot be read.",
        source="open(2)",
        cells=(attempt("open('/etc/passwd').read()"),),
    ),
    Behaviour(
        id="file.write",
        sentence="A file cannot be made.",
        source="open(2)",
        cells=(attempt("open('/tmp/abyme', 'w')"),),
    ),
    Behaviour(
        id="file.list",
        sentence="A folder cannot be listed.",
        source="getdents(2)",
        cells=(attempt("__import__('os').listdir('/')"),),
    ),
    Behaviour(
        id="file.stat",
        sentence="A file's metadata cannot be read.",
        source="stat(2)",
        cells=(attempt("__import__('os').stat('/etc/passwd')"),),
    ),
    Behaviour(
        id="file.memory",
        sentence="No file can be made in memory.",
        source="memfd_create(2)",
        cells=(attempt("__import__('os').memfd_create('x')"),),
    ),
)
