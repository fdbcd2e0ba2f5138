"""The only file that names adapters: a `Spec` becomes ports.

Adapters are imported when they are needed, so that importing the package is
cheap and a run with a scripted model never loads an HTTP client.
"""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from abyme.core import events as ev
from abyme.core.ids import NodeId
from abyme.errors import ConfigError, ModelError
from abyme.models.names import UNNAMED, Endpoint
from abyme.ports import Context, Model, Sandbox, SandboxRun
from abyme.run import profiles
from abyme.run.clock import MonotonicClock
from abyme.run.spec import GIVEN, Spec

if TYPE_CHECKING:
    from abyme.journals.folder import Outcome, RunFolder
    from abyme.journals.writer import JournalWriter
    from abyme.run.api import Answer
    from abyme.run.driver import Ports

PREVIEW_CHARS = 1400
ANY_MODEL = "default"


@dataclass(slots=True)
class Run:
    """The ports of one run, open."""

    started: ev.RunStarted
    folder: "RunFolder"
    journal: "JournalWriter"
    sandbox: SandboxRun
    context: Context
    models: Mapping[str, Model]

    def ports(
        self,
        *,
        on_record: Callable[[ev.Record], None] | None,
        on_text: Callable[[NodeId, str], None] | None,
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
        )

    async def aclose(self) -> None:
        """End the jail and the journal."""
        try:
            await self.sandbox.aclose()
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

    async def begin(self, question: str, context: Context, *, seed: int, now: datetime) -> Run:
        """Open everything that one run needs."""
        from abyme.journals import folder as folders  # noqa: PLC0415

        models = await self._ready_models()
        spec = self.spec
        profile = profiles.load(profiles.fit(spec.profile, context.shape))
        shown_chars = min(spec.limits.cell_output_chars, profile.output_chars)
        limits = structs.replace(spec.limits, cell_output_chars=shown_chars)
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
                seed=seed,
                hash_seed=sandbox.hash_seed,
                started_at=now.isoformat(timespec="seconds"),
            )
            folder = folders.create(spec.runs_dir, now=now)
            folder.write_spec(_run_spec(spec, started, context.sources))
            folder.write_manifest(context.manifest)
            journal = folder.open_journal()
        except BaseException:
            await sandbox.aclose()
            raise
        return Run(started, folder, journal, sandbox, context, models)

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
        if not keys:
            return model
        from abyme.models.redacted import Redacted  # noqa: PLC0415

        return Redacted(model, keys)

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


def _run_spec(spec: Spec, started: ev.RunStarted, sources: Sequence[str]) -> Any:
    from abyme.journals.folder import RunSpec, redact_url  # noqa: PLC0415

    return RunSpec(
        question=started.question,
        model=spec.root.name,
        sub_model=spec.sub.name,
        base_url=redact_url(spec.root.base_url),
        sub_base_url=redact_url(spec.sub.base_url),
        limits=spec.limits,
        sources=list(sources),
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
