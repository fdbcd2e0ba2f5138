"""The processes of a REPL, as a session reaches them: what a tier of sandboxes implements.

Decides nothing. A session signals, waits for and looks at a REPL through this alone, so that
it need not know whether it is a process, a container or an interpreter in another one.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Use:
    """What a REPL uses now."""

    cpu_s: float
    """Of all its processes so far, the dead and reaped ones included."""
    processes: int
    ending: bool = True
    """One of them is on its way out; also where a tier cannot tell."""
    forks_bytes: int = 0
    """Private memory of the processes that its cells have forked, together. Pages that they share
    with one another count for each; 0 where a tier bounds the sum itself."""


class Body(Protocol):
    """A REPL's processes."""

    def interrupt(self) -> None:
        """Make the running cell feel SIGINT, where no supervisor does; else do nothing."""
        ...

    def kill(self) -> None:
        """End every process of the REPL. Safe to repeat, and after `gone`."""
        ...

    async def gone(self) -> None:
        """Wait until all are gone, and give back what they were reached by. Safe to repeat."""
        ...

    def use(self) -> Use | None:
        """Look at what it uses; None: this tier cannot tell."""
        ...
