"""Memory: executable, shared, beyond the limit."""

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import attempt
from abyme.sandboxes.self_check.behaviour import Behaviour

ATTACKS: Final = (
    Behaviour(
        id="limit.raise",
        sentence="A limit cannot be raised.",
        source="prlimit(2)",
        cells=(attempt("import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (64, 64))"),),
    ),
    Behaviour(
        id="memory.shared",
        sentence="Memory cannot be shared, which would escape the limit.",
        source="mmap(2)",
        cells=(attempt("import mmap; mmap.mmap(-1, 4096)"),),
    ),
    Behaviour(
        id="memory.exec",
        sentence="Memory cannot be made executable.",
        source="mmap(2)",
        cells=(
            attempt("import mmap; mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)"),
        ),
    ),
)
