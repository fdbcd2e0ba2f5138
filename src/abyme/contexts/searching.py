"""Ranked passages for a REPL, from an index in a confined helper. Not there yet: see the guest's
own `search`.
"""

from typing import TYPE_CHECKING

from abyme.core.seeks import Search, Sought
from abyme.errors import ContextError

if TYPE_CHECKING:
    from abyme.contexts.seeking import Where


async def search(wanted: Search, where: "Where") -> Sought:  # noqa: ARG001
    """Find the passages that rank best.

    Raises:
        ContextError: it cannot be done here.
    """
    raise ContextError("search is not to be had on this host")
