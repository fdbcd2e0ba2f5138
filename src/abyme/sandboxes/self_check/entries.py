"""The whole list."""

from typing import Final

from abyme.sandboxes.self_check.attacks import (
    crashes,
    files,
    hogs,
    memory,
    network,
    processes,
    resources,
)
from abyme.sandboxes.self_check.behaviour import Behaviour
from abyme.sandboxes.self_check.semantics import SEMANTICS

ATTACKS: Final[tuple[Behaviour, ...]] = (
    *files.ATTACKS,
    *processes.ATTACKS,
    *network.ATTACKS,
    *memory.ATTACKS,
)
RESOURCES: Final[tuple[Behaviour, ...]] = (
    *resources.ATTACKS,
    *hogs.ATTACKS,
    *crashes.ATTACKS,
)
"""Half a minute on the jail: each runs to a limit."""

ENTRIES: Final[tuple[Behaviour, ...]] = (*SEMANTICS, *ATTACKS, *RESOURCES)
