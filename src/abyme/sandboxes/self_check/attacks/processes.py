"""Programs and processes: started, traced, signalled."""

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import attempt
from abyme.sandboxes.self_check.behaviour import Behaviour

ATTACKS: Final = (
    Behaviour(
        id="process.exec",
        sentence="No program can be started.",
        source="execve(2)",
        cells=(attempt("__import__('os').execv('/bin/sh', ['sh'])"),),
    ),
    Behaviour(
        id="process.spawn",
        sentence="No child process can be started.",
        source="vfork(2)",
        cells=(attempt("__import__('subprocess').run(['true'])"),),
    ),
)
