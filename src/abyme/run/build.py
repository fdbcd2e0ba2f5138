"""A `Spec` becomes ports: with `folders`, the only file that names adapters.

Adapters are imported when they are needed, so that importing the package is
cheap and a run with a scripted model never loads an HTTP client.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from abyme.core import events as ev
from abyme.core.ids import ROOT, NodeId
from abyme.core.isolation import Tier
from abyme.core.limits import Limits
from abyme.core.profile import Profile
from abyme.core.tree import Tree
from abyme.errors import ConfigError, ModelError
from abyme.models.names import UNNAMED, Endpoint
from abyme.ports import Context, Model, Sandbox, SandboxRun
from abyme.run import profiles, required
from abyme.run.clock import MonotonicClock
from abyme.run.folders import keep_context, run_spec
from abyme.run.spec import GIVEN, Spec

if TYPE_CHECKING:
    import asyncio

    from abyme.core.history import Past
    from abyme.journals.folder import RunFolder
    from abyme.journals.writer import JournalWriter
    from abyme.run.driver import Ports
    from abyme.run.resume import TakenUp

ANY_MODEL = "default"
KEPT_FIRST_CHARS = 16 << 20
"""A context that paths do not give again is stored before its run begins, if it is no longer."""


@dataclass(slots=True)
class Run:
    """The ports of one run, open."""

    begins: ev.RunStarted | ev.RunResumed
    """Its first record, or the first of its going on."""
    past: "Past | None"
    folder: "RunFolder"
    journal: "JournalWriter"
    sandbox: SandboxRun
    context: Context
    models: Mapping[str, Model]
    keeping: "asyncio.Task[None] | None" = None
    """Stores a context that paths do not give again, while the run is under way."""

    def ports(
        self,
        *,
        on_record: Callable[[ev.Record], None] | None,
        on_text: Callable[[NodeId, str], None] | None,
        confirm: Callable[[int, float], Awaitable[bool]] | None,
        misfit: Callable[[Any], str | None] | None = None,
    ) -> "Ports":
        """Put the ports together for the driver."""
        from abyme.run.driver import Ports  # noqa: PLC0415

        return Ports(
            journal=self.journal,
            sandbox=self.sandbox,
            context=self.context,
            models=self.models,
            clock=MonotonicClock(),
            seal=seal,
            preview=shown,
            on_record=on_record,
            on_text=on_text,
            confirm=confirm,
            misfit=misfit,
        )

    async def aclose(self) -> None:
        """End the jail and the journal."""
        try:
            await self.sandbox.aclose()
            if self.keeping is not None:
                await self.keeping
        finally:
            self.journal.close()


class Parts:
    """What outlives a run: models with their connections, a sandbox with warm interpreters."""

    def __init__(
        self, spec: Spec, given: Mapping[str, Model], sandbox: Sandbox | None, *, warm: int
    ) -> None:
        self.spec = spec
        self._given = given
        self._given_sandbox = sandbox
        self._sandboxes: dict[Tier, Sandbox] = {}
        self._warm = warm
        self._models: dict[str, Model] = {}

    async def warm_up(self) -> None:
        """Let the sandbox begin to start what the next run needs."""
        if self.spec.isolation.packages:
            return  # what is kept warm has loaded none
        self._ready_sandbox(self.spec.isolation.tier).warm_up()
        import asyncio  # noqa: PLC0415

        await asyncio.sleep(0)  # lets the interpreter be launched; it boots by itself

    async def begin(
        self,
        question: str,
        context: Context,
        *,
        seed: int,
        now: datetime,
        answer_schema: dict[str, Any] | None = None,
    ) -> Run:
        """Open everything that one run needs."""
        import asyncio  # noqa: PLC0415

        from abyme.contexts.kept import must_be_kept  # noqa: PLC0415
        from abyme.journals import folder as folders  # noqa: PLC0415

        models = await self._ready_models()
        spec = self.spec
        profile = profiles.load(profiles.fit(spec.profile, context.shape))
        subs = profiles.load(profiles.fit(spec.sub_profile, context.shape))
        root, sub = spec.facts(spec.root, profile), spec.facts(spec.sub, subs)
        limits = _as_shown(spec.limits, profile)
        isolation = spec.isolation
        sandbox = await required.begin(
            self._ready_sandbox(isolation.tier),
            context=context,
            limits=limits,
            isolation=isolation,
        )
        try:
            started = ev.RunStarted(
                question=question,
                preview=shown(context, question),
                context_chars=context.chars,
                context_documents=context.documents,
                limits=spec.limits,
                root=root,
                sub=sub,
                profile=_capped(profile, root),
                sub_profile=None if spec.sub_profile == spec.profile else _capped(subs, sub),
                seed=seed,
                hash_seed=sandbox.hash_seed,
                started_at=now.isoformat(timespec="seconds"),
                answer_schema=answer_schema,
                isolation=isolation,
            )
            _check_first_turn(started)
            folder = folders.create(spec.runs_dir, now=now)
            journal = folder.open_journal()  # first: it says that the run is running
            try:
                written = run_spec(spec, started, context)
                folder.write_spec(written)
                folder.write_manifest(context.manifest)
            except BaseException:
                journal.close()
                raise
        except BaseException:
            await sandbox.aclose()
            raise
        run = Run(started, None, folder, journal, sandbox, context, models)
        if must_be_kept(context.sources):
            keeping = asyncio.to_thread(keep_context, context, folder, written)
            run.keeping = asyncio.create_task(keeping)
            if context.chars <= KEPT_FIRST_CHARS:
                await run.keeping
        return run

    async def go_on(self, taken: "TakenUp", context: Context) -> Run:
        """Open everything that a run needs that is taken up again.

        Raises:
            ConfigError: its models are not those of the settings.
        """
        models = await self._ready_models()
        started = taken.started
        for role, facts in (("root", started.root), ("sub", started.sub)):
            if facts.name not in models:
                have = " and ".join(sorted(models))
                raise ConfigError(
                    f"the run's {role} model is {facts.name}, the settings have {have}"
                )
        sandbox = await jail_again(self._ready_sandbox(started.isolation.tier), started, context)
        return Run(taken.begins, taken.past, taken.folder, taken.journal, sandbox, context, models)

    async def aclose(self) -> None:
        """Let go of everything. Safe to repeat."""
        for model in set(self._models.values()):
            await model.aclose()
        self._models.clear()
        for sandbox in self._sandboxes.values():
            await sandbox.aclose()
        if self._given_sandbox is not None:
            await self._given_sandbox.aclose()

    async def _ready_models(self) -> Mapping[str, Model]:
        if UNNAMED in (self.spec.root.model, self.spec.sub.model):
            root = await named(self.spec.root)
            sub = root if self.spec.sub == self.spec.root else await named(self.spec.sub)
            self.spec = replace(self.spec, root=root, sub=sub)
        for role, endpoint in (("root", self.spec.root), ("sub", self.spec.sub)):
            if endpoint.name not in self._models:
                given = self._given.get(role)
                self._models[endpoint.name] = given or self._opened(endpoint)
        return self._models

    def _opened(self, endpoint: Endpoint) -> Model:
        model = open_model(endpoint, self.spec.cache_dir)
        keys = {self.spec.root.api_key, self.spec.sub.api_key} - {None}
        if keys:
            from abyme.models.redacted import Redacted  # noqa: PLC0415

            model = Redacted(model, keys)
        if self.spec.cache:
            from abyme.models.cached import Cached  # noqa: PLC0415

            identity = f"{endpoint.name} {endpoint.base_url}"
            model = Cached(model, self.spec.cache_dir / "replies", identity)
        return model

    def _ready_sandbox(self, tier: Tier) -> Sandbox:
        if self._given_sandbox is not None:
            return self._given_sandbox
        if tier not in self._sandboxes:
            self._sandboxes[tier] = open_sandbox(tier, self._warm)
        return self._sandboxes[tier]


async def named(endpoint: Endpoint) -> Endpoint:
    """Let an endpoint name the model that the user left open.

    One that keeps no list is sent a name that servers of a single model ignore.

    Raises:
        ConfigError: it serves several models.
    """
    if endpoint.model != UNNAMED:
        return endpoint
    from abyme.models.openai_compatible import OpenAICompatible  # noqa: PLC0415

    asked = OpenAICompatible(endpoint)
    try:
        listed = await asked.models()
    except ModelError:
        listed = []
    finally:
        await asked.aclose()
    if len(listed) > 1:
        some = ", ".join(listed[:8]) + (", ..." if len(listed) > 8 else "")
        raise ConfigError(f"the endpoint serves several models, name one by --model: {some}")
    model = listed[0] if listed else ANY_MODEL
    return replace(endpoint, model=model, name=f"{endpoint.preset.name}:{model}")


def name_of(role: str, model: str | Model | None) -> str | None:
    """Name a model that was given as an object, so that ledger and journal can speak of it."""
    if model is None or isinstance(model, str):
        return model
    return f"{GIVEN}:{role}"


def is_given(name: str) -> bool:
    """Tell whether a model's name stands for an object that the caller brought."""
    return name.startswith(f"{GIVEN}:")


async def jail_again(sandbox: Sandbox, started: ev.RunStarted, context: Context) -> SandboxRun:
    """Build the jail of an earlier run: what decided the outcome of its cells is as it was."""
    return await required.begin(
        sandbox,
        context=context,
        limits=_as_shown(started.limits, started.profile),
        isolation=started.isolation,
        hash_seed=started.hash_seed,
    )


def seal(text: str) -> Context:
    """Seal a child's own text."""
    from abyme.contexts.sealed import from_value  # noqa: PLC0415

    return from_value(text)


def shown(context: Context, question: str) -> str:
    """Describe a context as its model is shown it, which is asked `question` of it."""
    from abyme.contexts.preview import preview  # noqa: PLC0415

    return preview(context, question)


def open_model(endpoint: Endpoint, cache_dir: Path) -> Model:
    """Choose the adapter of an endpoint."""
    if endpoint.local:
        from abyme.models.local import LocalModel  # noqa: PLC0415

        return LocalModel(endpoint, cache_dir / "models")
    from abyme.models.limiter import Limited  # noqa: PLC0415
    from abyme.models.openai_compatible import OpenAICompatible  # noqa: PLC0415

    return Limited(OpenAICompatible(endpoint), MonotonicClock())


def open_sandbox(tier: Tier, warm: int) -> Sandbox:
    """Choose the sandbox. Never falls to a weaker one by itself."""
    if tier == "jail":
        from abyme.sandboxes.jail import Jail  # noqa: PLC0415

        return Jail(warm=warm)
    if tier == "wasm":
        from abyme.sandboxes.wasm import Wasm  # noqa: PLC0415

        return Wasm(warm=warm)
    from abyme.sandboxes.container import Container  # noqa: PLC0415

    return Container()


def _check_first_turn(started: ev.RunStarted) -> None:
    """See whether the limits and the model's window allow a first turn at all.

    Raises:
        ConfigError: what does not, and what it would have to be at least.
    """
    tree = Tree(started)
    opened = ev.SessionOpened(python="", snapshots=False, layers=[])
    events: tuple[ev.AnyEvent, ...] = (started, opened)
    for seq, event in enumerate(events):
        tree.step(ev.Record(seq=seq, at_s=0.0, node=ROOT, event=event))
    if tree.finished is not None and tree.finished.status == "failed":
        raise ConfigError(str(tree.finished.reason))
    if tree.finished is not None:
        raise ConfigError(f"the limits allow no turn: {tree.finished.reason}")


def _capped(profile: Profile, model: ev.ModelFacts) -> Profile:
    """Let a profile say what is sent: what the user set may be more than it says."""
    return structs.replace(profile, max_output_tokens=model.max_output_tokens)


def _as_shown(limits: Limits, profile: Profile) -> Limits:
    """Let the jail cut output to what the model is shown of it."""
    shown_chars = min(limits.cell_output_chars, profile.output_chars)
    return structs.replace(limits, cell_output_chars=shown_chars)
