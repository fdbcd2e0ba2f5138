"""The whole list."""

from typing import Final

from abyme.sandboxes.self_check.attacks import files, memory, network, processes
from abyme.sandboxes.self_check.behaviour import Behaviour
from abyme.sandboxes.self_check.semantics import SEMANTICS

ATTACKS: Final[tuple[Behaviour, ...]] = (
    *files.ATTACKS,
    *processes.ATTACKS,
    *network.ATTACKS,
    *memory.ATTACKS,
)

ENTRIES: Final[tuple[Behaviour, ...]] = (*SEMANTICS, *ATTACKS)
