"""A REPL in the real jail, driven from ordinary test functions."""

import asyncio
from contextlib import contextmanager

import pytest

from abyme.contexts.sealed import SealedContext, from_value
from abyme.core import events as ev
from abyme.core.effects import Budget, Result
from abyme.core.isolation import DEFAULT, Isolation
from abyme.core.limits import Limits
from abyme.errors import SandboxUnavailable
from abyme.sandboxes.jail import Jail

BUDGET = Budget(usd=1.0, calls=10, tokens=100, seconds=60.0, turns=5, depth=2)
TEXT = "alpha\nbeta\ngamma\n"
ANY = Isolation(imports="any")
"""The import policy is a second line: what holds without it is tested without it."""


NO_JAIL = ("neither user namespaces nor Landlock can be had", "no system call filter")
"""All that may be the host's fault; any other reason is ours."""


def echo(number, request):
    """What a sub-call brings unless a test says otherwise."""
    return Result(call=number, text=f"<{request.prompt}>")


def needs_snapshots(repl):
    """Skip where the host allows no PID namespace."""
    if not repl.session.facts.snapshots:
        pytest.skip("no PID namespaces, so no snapshots and no forks")


class Repl:
    """One session; `cell` runs code and returns what the host was told."""

    def __init__(self, loop, session):
        self.loop = loop
        self.session = session
        self.number = 0
        self.batches = []
        self.submitted = []
        self.bring = echo
        self.refused = None
        self.made = 0
        self.stops = None
        """End the cell for this reason as soon as it asks or submits."""
        self.holds = False
        """Do not answer sub-calls."""

    def cell(self, code, restore=()):
        self.number += 1
        return self.loop.run_until_complete(
            self.session.run_cell(
                self.number, code, restore=restore, budget=BUDGET, on_event=self.on_event
            )
        )

    def out(self, code):
        finished = self.cell(code)
        assert (finished.error, finished.ended) == (None, "clean")
        return finished.output

    def on_event(self, event):
        if self.stops:
            self.session.end_cell(self.stops)
        if isinstance(event, ev.AnswerSubmitted):
            self.submitted.append(event)
            return
        self.batches.append(event)
        if not self.holds:
            self.loop.create_task(self._answer(event))

    async def _answer(self, event):
        results = []
        for request in event.requests:
            self.made += 1
            results.append(self.bring(self.made, request))
        if self.refused:
            results = []
        await self.session.answer(event.batch, results=results, refused=self.refused, budget=BUDGET)


class OneRun:
    """A run with a loop of its own, on any tier; who derives from it sets `loop` and `run`."""

    def wait(self, what):
        return self.loop.run_until_complete(what)

    @contextmanager
    def repl(self, seed=7, context=None):
        session = self.wait(self.run.open(node="0", seed=seed, context=context))
        try:
            yield Repl(self.loop, session)
        finally:
            self.wait(session.aclose())


class Bench(OneRun):
    """A run of its own loop; every REPL of a test file is forked from it."""

    def __init__(
        self, limits=None, context=TEXT, snapshots=True, hash_seed=None, isolation=DEFAULT
    ):
        self.loop = asyncio.new_event_loop()
        self.context = context if isinstance(context, SealedContext) else from_value(context)
        self.jail = Jail(snapshots=snapshots)
        self.limits = limits or Limits(cell_timeout_s=20, memory_bytes=512 << 20)
        try:
            self.run = self.wait(
                self.jail.begin(
                    context=self.context,
                    limits=self.limits,
                    isolation=isolation,
                    hash_seed=hash_seed,
                )
            )
        except SandboxUnavailable as missing:
            self.loop.close()
            if not any(why in str(missing) for why in NO_JAIL):
                raise
            pytest.skip(f"no jail on this host: {missing}")

    def close(self):
        self.wait(self.run.aclose())
        self.wait(self.jail.aclose())
        self.context.close()
        self.wait(self.loop.shutdown_default_executor())
        self.loop.close()


@contextmanager
def bench(**settings):
    made = Bench(**settings)
    try:
        yield made
    finally:
        made.close()
