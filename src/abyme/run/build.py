"""The only file that names adapters: a `Spec` becomes ports.

Adapters are imported when they are needed, so that importing the package is
cheap and a run with a scripted model never loads an HTTP client.
"""

import contextlib
import os
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import structs

from abyme.core import events as ev
from abyme.core.ids import ROOT, NodeId
from abyme.core.limits import Limits
from abyme.core.profile import Profile
from abyme.core.tree import Tree
from abyme.errors import ConfigError, ContextError, JournalError, ModelError
from abyme.models.names import UNNAMED, Endpoint
from abyme.ports import Context, Model, Sandbox, SandboxRun
from abyme.run import profiles
from abyme.run.clock import MonotonicClock
from abyme.run.spec import GIVEN, Spec, data_dir

if TYPE_CHECKING:
    import asyncio

    from abyme.core.history import Past
    from abyme.journals.folder import Outcome, RunFolder, RunSpec
    from abyme.journals.writer import JournalWriter
    from abyme.run.answers import Answer
    from abyme.run.driver import Ports
    from abyme.run.resume import TakenUp

Input: TypeAlias = str | Sequence[str] | dict[str, str] | Path | Sequence[Path] | Context
"""What a context may be given as."""
PREVIEW_CHARS = 1400
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
        self, spec: Spec, given: Mapping[str, Model], sandbox: str | Sandbox, *, warm: int
    ) -> None:
        self.spec = spec
        self._given = given
        self._sandbox = sandbox if not isinstance(sandbox, str) else None
        self._warm = warm
        self._models: dict[str, Model] = {}

    async def warm_up(self) -> None:
        """Let the sandbox begin to start what the next run needs."""
        self._ready_sandbox().warm_up()
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
        profile = self._profile(spec.profile, context.shape, spec.root)
        limits = _as_shown(spec.limits, profile)
        sandbox = await self._ready_sandbox().begin(context=context, limits=limits)
        try:
            started = ev.RunStarted(
                question=question,
                preview=shown(context),
                context_chars=context.chars,
                context_documents=context.documents,
                limits=spec.limits,
                root=spec.facts(spec.root),
                sub=spec.facts(spec.sub),
                profile=profile,
                sub_profile=self._sub_profile(context.shape),
                seed=seed,
                hash_seed=sandbox.hash_seed,
                started_at=now.isoformat(timespec="seconds"),
                answer_schema=answer_schema,
            )
            _check_first_turn(started)
            folder = folders.create(spec.runs_dir, now=now)
            journal = folder.open_journal()  # first: it says that the run is running
            try:
                written = _run_spec(spec, started, context)
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
            run.keeping = asyncio.create_task(asyncio.to_thread(_keep, context, folder, written))
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
        sandbox = await jail_again(self._ready_sandbox(), started, context)
        return Run(taken.begins, taken.past, taken.folder, taken.journal, sandbox, context, models)

    async def aclose(self) -> None:
        """Let go of everything. Safe to repeat."""
        for model in set(self._models.values()):
            await model.aclose()
        self._models.clear()
        if self._sandbox is not None:
            await self._sandbox.aclose()

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

    def _sub_profile(self, shape: str) -> Profile | None:
        """Load the profile for children that the sub-model leads, where it is another one."""
        if self.spec.sub_profile == self.spec.profile:
            return None
        return self._profile(self.spec.sub_profile, shape, self.spec.sub)

    def _profile(self, name: str, shape: str, endpoint: Endpoint) -> Profile:
        """Load a profile. The cap on output is the model's, where that is not the usual one."""
        profile = profiles.load(profiles.fit(name, shape))
        cap = self.spec.facts(endpoint).max_output_tokens
        if self.spec.max_output_tokens is None and cap <= profile.max_output_tokens:
            return profile
        return structs.replace(profile, max_output_tokens=cap)

    def _ready_sandbox(self) -> Sandbox:
        if self._sandbox is None:
            self._sandbox = open_sandbox(self._warm)
        return self._sandbox


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


def open_context(given: Any) -> tuple[Context, bool]:
    """Seal what the user gave: text, texts, named texts, paths.

    Raises:
        ContextError: nothing to read, or a value of a kind that is none of these.
    """
    from abyme.contexts import load, sealed  # noqa: PLC0415

    if isinstance(given, sealed.SealedContext):
        return given, False
    if isinstance(given, os.PathLike):
        return load.load_paths([Path(given)]).context, True
    if isinstance(given, list | tuple) and given and all(isinstance(g, os.PathLike) for g in given):
        return load.load_paths([Path(g) for g in given]).context, True
    return sealed.from_value(given), True


def found(run: Path | str, runs_dir: Path | str | None) -> "RunFolder":
    """Find a run, by default among the user's own.

    Raises:
        JournalError: there is none, or the name could be several.
    """
    from abyme.journals.folder import find  # noqa: PLC0415

    return find(data_dir() / "runs" if runs_dir is None else Path(runs_dir), str(run))


def in_a_loop() -> bool:
    """Tell whether this thread runs an event loop already, as notebooks do."""
    import asyncio  # noqa: PLC0415

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def is_own(folder: "RunFolder", runs_dir: Path | str | None) -> bool:
    """Tell whether a run lies among the user's own, or in the folder of runs that was named."""
    places = {data_dir() / "runs"} | ({Path(runs_dir)} if runs_dir is not None else set())
    return folder.path.resolve().parent in {place.resolve() for place in places}


def is_given(name: str) -> bool:
    """Tell whether a model's name stands for an object that the caller brought."""
    return name.startswith(f"{GIVEN}:")


async def jail_again(sandbox: Sandbox, started: ev.RunStarted, context: Context) -> SandboxRun:
    """Build the jail of an earlier run: what decided the outcome of its cells is as it was."""
    return await sandbox.begin(
        context=context,
        limits=_as_shown(started.limits, started.profile),
        hash_seed=started.hash_seed,
    )


def context_again(folder: "RunFolder", given: Any) -> tuple[Context, bool]:
    """Open the context of an earlier run: the one that is given, or from where it came.

    Raises:
        ContextError: it is not what it was, or cannot be had again.
    """
    from abyme.contexts.again import again, check_same  # noqa: PLC0415
    from abyme.journals.folder import contexts_dir  # noqa: PLC0415

    manifest = folder.manifest()
    if given is None:
        return again(folder.spec(), manifest, contexts_dir(folder.path.parent)), True
    context, owned = open_context(given)
    try:
        check_same(context, manifest)
    except BaseException:
        if owned:
            context.close()
        raise
    return context, owned


def seal(text: str) -> Context:
    """Seal a child's own text."""
    from abyme.contexts.sealed import from_value  # noqa: PLC0415

    return from_value(text)


def shown(context: Context) -> str:
    """Describe a context as its model is shown it."""
    from abyme.contexts.preview import preview  # noqa: PLC0415

    return preview(context, PREVIEW_CHARS)


def open_model(endpoint: Endpoint, cache_dir: Path) -> Model:
    """Choose the adapter of an endpoint."""
    if endpoint.local:
        from abyme.models.local import LocalModel  # noqa: PLC0415

        return LocalModel(endpoint, cache_dir / "models")
    from abyme.models.limiter import Limited  # noqa: PLC0415
    from abyme.models.openai_compatible import OpenAICompatible  # noqa: PLC0415

    return Limited(OpenAICompatible(endpoint), MonotonicClock())


def open_sandbox(warm: int) -> Sandbox:
    """Choose the sandbox. Never falls to a weaker one by itself."""
    from abyme.sandboxes.jail import Jail  # noqa: PLC0415

    return Jail(warm=warm)


def outcome(answer: "Answer") -> "Outcome":
    """Sum a run up for its folder."""
    from abyme.journals.folder import Outcome, RunUsage  # noqa: PLC0415

    usage = answer.usage
    return Outcome(
        status=answer.status,
        value=answer.value,
        evidence=answer.evidence,
        reason=answer.reason,
        usage=RunUsage(
            calls=usage.calls,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_usd=usage.cost_usd,
            wall_s=usage.wall_s,
        ),
    )


def _check_first_turn(started: ev.RunStarted) -> None:
    """See whether the limits allow a first turn at all.

    Raises:
        ConfigError: which limit does not, and what it would have to be at least.
    """
    tree = Tree(started)
    opened = ev.SessionOpened(python="", snapshots=False, layers=[])
    events: tuple[ev.AnyEvent, ...] = (started, opened)
    for seq, event in enumerate(events):
        tree.step(ev.Record(seq=seq, at_s=0.0, node=ROOT, event=event))
    if tree.finished is not None:
        raise ConfigError(f"the limits allow no turn: {tree.finished.reason}")


def _as_shown(limits: Limits, profile: Profile) -> Limits:
    """Let the jail cut output to what the model is shown of it."""
    shown_chars = min(limits.cell_output_chars, profile.output_chars)
    return structs.replace(limits, cell_output_chars=shown_chars)


def _keep(context: Context, folder: "RunFolder", written: "RunSpec") -> None:
    """Store a run's context so that it can be resumed; if it cannot be, run.json says so."""
    from abyme.contexts.kept import keep  # noqa: PLC0415
    from abyme.contexts.sealed import SealedContext  # noqa: PLC0415
    from abyme.journals.folder import contexts_dir  # noqa: PLC0415

    if not isinstance(context, SealedContext):
        return
    with contextlib.suppress(ContextError, JournalError):  # the run goes on all the same
        keep(context, contexts_dir(folder.path.parent))
        folder.write_spec(structs.replace(written, kept=True))


def _run_spec(spec: Spec, started: ev.RunStarted, context: Context) -> "RunSpec":
    from abyme.contexts.kept import key_of, located  # noqa: PLC0415
    from abyme.contexts.manifest import Manifest  # noqa: PLC0415
    from abyme.journals.folder import RunSpec, redact_url  # noqa: PLC0415

    return RunSpec(
        question=started.question,
        model=spec.root.name,
        sub_model=spec.sub.name,
        base_url=redact_url(spec.root.base_url),
        sub_base_url=redact_url(spec.sub.base_url),
        limits=spec.limits,
        sources=list(context.sources),
        located=located(context.sources),
        context_key=key_of(context.manifest) if isinstance(context.manifest, Manifest) else "",
        sandbox=spec.sandbox,
        profile=started.profile.name,
        abyme=version(),
        python=platform.python_version(),
        started_at=started.started_at,
    )


def version() -> str:
    """Name the installed version."""
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415
    from importlib.metadata import version as installed  # noqa: PLC0415

    try:
        return installed("abyme")
    except PackageNotFoundError:
        return "0+unknown"
