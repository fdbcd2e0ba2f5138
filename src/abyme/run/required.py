"""A run begins only above the level that its user requires, whatever the tier.

Decides when that is looked at: before anything is spent or a folder is made, in a REPL that is
opened for it and ended, and again in each REPL of the run. Which layers are on is what the
REPL has verified from inside; nothing is asked where nothing is required.
"""

from abyme.core.ids import ROOT
from abyme.core.isolation import Isolation
from abyme.core.limits import Limits
from abyme.errors import SandboxUnavailable
from abyme.ports import Context, Sandbox, SandboxRun, Session


async def begin(
    sandbox: Sandbox,
    *,
    context: Context,
    limits: Limits,
    isolation: Isolation,
    hash_seed: int | None = None,
) -> SandboxRun:
    """Begin a run of `sandbox`; see `abyme.ports.Sandbox.begin`.

    Raises:
        SandboxUnavailable: a required layer is not on.
    """
    begun = await sandbox.begin(
        context=context, limits=limits, isolation=isolation, hash_seed=hash_seed
    )
    if not isolation.require:
        return begun
    checked = Checked(begun, isolation)
    try:
        probe = await checked.open(node=ROOT, seed=0)
        await probe.aclose()
    except BaseException:
        await checked.aclose()
        raise
    return checked


class Checked:
    """Implements `abyme.ports.SandboxRun`: another one, whose REPLs have what is required."""

    def __init__(self, inner: SandboxRun, isolation: Isolation) -> None:
        self._inner = inner
        self._isolation = isolation

    @property
    def hash_seed(self) -> int:
        """``PYTHONHASHSEED`` of every session."""
        return self._inner.hash_seed

    async def open(self, *, node: str, seed: int, context: Context | None = None) -> Session:
        """Start a REPL; see `abyme.ports.SandboxRun.open`."""
        session = await self._inner.open(node=node, seed=seed, context=context)
        missing = self._isolation.lacks(session.facts.layers)
        if missing:
            await session.aclose()
            raise SandboxUnavailable(refusal(missing))
        return session

    async def aclose(self) -> None:
        """Kill every session. Safe to repeat."""
        await self._inner.aclose()


def refusal(missing: list[str]) -> str:
    """Say which layers are not on, and where to read what to do."""
    return (
        f"required and not on: {', '.join(missing)}. `abyme doctor` says what would switch "
        "them on; without --require the run takes place without them"
    )
