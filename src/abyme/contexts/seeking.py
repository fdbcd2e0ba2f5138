"""Who answers a REPL's questions to its context: lines, passages, symbols.

Decides which file a question goes to, and what that file is told of the context. What looks
into the texts runs confined, belongs to the memory (`Memory.companion`) and so serves a
context and all its parts. Does not look at texts.
"""

from dataclasses import dataclass, field

from abyme.contexts.texts import Memory
from abyme.core.seeks import Grep, Search, Seek, Sought
from abyme.layout import Index


@dataclass(frozen=True, slots=True)
class Where:
    """The context that a question is asked of."""

    memory: Memory
    index: Index
    index_fd: int
    key: object = field(default_factory=object)
    """Tells it from others on the same memory."""


class Seeking:
    """The questions to one context."""

    def __init__(self, memory: Memory, index: Index, index_fd: int) -> None:
        self._where = Where(memory, index, index_fd)

    async def seek(self, wanted: Seek) -> Sought:
        """Find what is wanted.

        Raises:
            ContextError: it cannot be done here; the message says why.
        """
        if isinstance(wanted, Grep):
            from abyme.contexts.finding import grep  # noqa: PLC0415 - what few runs need

            return await grep(wanted, self._where)
        if isinstance(wanted, Search):
            from abyme.contexts.searching import search  # noqa: PLC0415

            return await search(wanted, self._where)
        from abyme.contexts.symbols import symbols  # noqa: PLC0415

        return await symbols(wanted, self._where)
