"""The whole list."""

from typing import Final

from abyme.sandboxes.self_check.attacks import (
    crashes,
    descriptors,
    disk,
    files,
    hogs,
    ipc,
    kernel_surface,
    language,
    leaks,
    memory,
    namespaces,
    network,
    processes,
    resources,
    tampering,
    terminal,
    wire,
)
from abyme.sandboxes.self_check.behaviour import Behaviour
from abyme.sandboxes.self_check.semantics import SEMANTICS

ATTACKS: Final[tuple[Behaviour, ...]] = (
    *files.ATTACKS,
    *processes.ATTACKS,
    *network.ATTACKS,
    *namespaces.ATTACKS,
    *memory.ATTACKS,
    *kernel_surface.ATTACKS,
    *ipc.ATTACKS,
    *disk.ATTACKS,
    *terminal.ATTACKS,
    *descriptors.ATTACKS,
    *leaks.ATTACKS,
    *wire.ATTACKS,
    *language.ATTACKS,
    *tampering.ATTACKS,
)
RESOURCES: Final[tuple[Behaviour, ...]] = (
    *resources.ATTACKS,
    *hogs.ATTACKS,
    *crashes.ATTACKS,
)
"""Half a minute on the jail: each runs to a limit."""

ENTRIES: Final[tuple[Behaviour, ...]] = (*SEMANTICS, *ATTACKS, *RESOURCES)
