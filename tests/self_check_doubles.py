"""A sandbox that isolates nothing, so that planted holes are holes: cells run in this process."""

import contextlib
import io
import traceback

from abyme.core import events as ev
from abyme.errors import SandboxError
from abyme.ports import SessionFacts


class Open:
    """Implements `abyme.ports.Sandbox` and forgets to isolate."""

    def __init__(self, snapshots=True):
        self.facts = SessionFacts(python="3", snapshots=snapshots, layers=())
        self.together = {}
        """Names that a cell binds by `together[...]` are in every REPL of every run."""

    def warm_up(self):
        """Nothing to start."""

    async def begin(self, *, context, limits, isolation, hash_seed=None):
        return OpenRun(self, context)

    async def aclose(self):
        """Nothing to end."""


class OpenRun:
    hash_seed = 0

    def __init__(self, sandbox, context):
        self.sandbox = sandbox
        self.context = context

    async def open(self, *, node, seed, context=None):
        return OpenSession(self.sandbox)

    async def aclose(self):
        """Nothing to end."""


class OpenSession:
    def __init__(self, sandbox):
        self.facts = sandbox.facts
        self.sandbox = sandbox
        self.names = {"together": sandbox.together, "session": self, "context": ""}
        self.dead = None
        self.limit = None

    async def run_cell(self, cell, code, *, restore, budget, on_event, patience=1.0):
        if self.dead:
            raise SandboxError(self.dead)
        self.limit = None
        printed, error = io.StringIO(), None
        names = self.names | self.sandbox.together
        with contextlib.redirect_stdout(printed):
            try:
                lines = code.strip().splitlines()
                echo = lines.pop() if lines[-1].isidentifier() else "None"
                exec("\n".join(lines), names)
                if (value := eval(echo, names)) is not None:
                    printed.write(f"{value!r}\n")
            except Exception:  # noqa: BLE001 - what a cell raises is its own
                error = traceback.format_exc()
        self.names |= names
        if self.dead:
            raise SandboxError(self.dead)
        if "raises" in names:
            raise names["raises"]
        return ev.CellFinished(
            cell=cell, output=printed.getvalue(), error=error, limit=self.limit,
            ended="raised" if error else "rolled_back" if self.limit else "clean",
        )  # fmt: skip

    async def answer(self, batch, *, results, refused, budget):
        """Nobody waits."""

    def end_cell(self, why):
        """Cells end by themselves."""

    async def aclose(self):
        """Nothing to end."""
