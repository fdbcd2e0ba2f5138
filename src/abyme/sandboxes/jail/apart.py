"""A REPL with a fork server of its own: nothing is shared with the others of its run.

Decides what such a node gets: another hash seed, derived from the run's, so that a run that is
resumed has the same; other addresses, because another program was started; its own context alone.
Invariant: the fork server ends with the REPL. A hash seed has 32 bits and can be guessed by
trying all, from a REPL that knows its own: where that matters, a secret must not depend on one.
"""

import hashlib

from abyme.sandboxes.jail.processes import Processes
from abyme.sandboxes.jail.zygote import Zygote

SEED_BYTES = 4


def seed_of(hash_seed: int, node: str) -> int:
    """Derive a node's hash seed, one way, from that of its run."""
    text = f"abyme hash seed {hash_seed} {node}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:SEED_BYTES], "big")


class Alone(Processes):
    """The processes of a REPL, and the fork server that serves nobody else."""

    def __init__(self, pidfd: int, zygote: Zygote) -> None:
        super().__init__(pidfd)
        self._zygote = zygote

    async def gone(self) -> None:
        """Wait for the end of both."""
        await super().gone()
        await self._zygote.aclose()
