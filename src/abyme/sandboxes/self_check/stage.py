"""A run on which entries are tried, with a REPL that does nothing beside theirs.

Decides how it is seen that a REPL is as it was: it has a name that was bound at its beginning.
Whatever an entry has done to it, `again` makes it whole.
"""

from typing import Final

from abyme.core.isolation import Isolation
from abyme.core.limits import Limits
from abyme.errors import SandboxError
from abyme.ports import Context, Sandbox, SandboxRun
from abyme.sandboxes.self_check.repl import Repl

SEED: Final = 7
KEEP: Final = "kept_here = 'kept'"
KEPT: Final = "kept_here"
IS_KEPT: Final = "'kept'\n"


class Stage:
    """A run with one REPL that does nothing, and room for others."""

    def __init__(
        self, sandbox: Sandbox, context: Context, limits: Limits, isolation: Isolation
    ) -> None:
        self._sandbox = sandbox
        self._context = context
        self._limits = limits
        self._isolation = isolation
        self._run: SandboxRun | None = None
        self._idle: Repl | None = None

    async def begin(self) -> None:
        """Begin the run.

        Raises:
            SandboxError: if it cannot, or its first REPL is of no use.
        """
        self._run = await self._sandbox.begin(
            context=self._context, limits=self._limits, isolation=self._isolation
        )
        self._idle = await self.open()
        if not await is_kept(self._idle, KEEP):
            await self.aclose()
            raise SandboxError("a REPL does not run the simplest of cells")

    async def open(self) -> Repl:
        """Give a REPL to an entry."""
        assert self._run is not None
        session = await self._run.open(node="0", seed=SEED)
        return Repl(session, self._context, cell_timeout_s=self._limits.cell_timeout_s)

    async def is_as_it_was(self) -> bool:
        """Look at the REPL that does nothing."""
        return self._idle is not None and await is_kept(self._idle, KEPT)

    async def again(self) -> None:
        """Begin another run in place of this one."""
        await self.aclose()
        await self.begin()

    async def aclose(self) -> None:
        """End the run. Safe to repeat."""
        idle, self._idle = self._idle, None
        run, self._run = self._run, None
        if idle is not None:
            await idle.aclose()
        if run is not None:
            await run.aclose()


async def is_kept(repl: Repl, code: str) -> bool:
    """Bind the name by `KEEP`, or look by `KEPT` whether it is bound."""
    finished = await repl.aside(code)
    if finished is None or finished.error or finished.limit:
        return False
    return code == KEEP or finished.output.endswith(IS_KEPT)
