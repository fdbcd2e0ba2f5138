"""What of a run goes into its folder, and what comes out of it again: spec, context, outcome.

Decides which contexts are stored beside the runs, and which folder counts as the user's own.
Does not open models or jails (`build`), or drive anything.
"""

import contextlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import structs

from abyme.core import events as ev
from abyme.errors import ContextError, JournalError
from abyme.ports import Context
from abyme.run import storage
from abyme.run.sources import Sources
from abyme.run.spec import Spec, cache_dir, data_dir, surroundings

if TYPE_CHECKING:
    from abyme.journals.folder import Outcome, RunFolder, RunSpec
    from abyme.run.answers import Answer

Input: TypeAlias = str | Sequence[str] | dict[str, str] | Path | Sequence[Path] | Sources | Context
"""What a context may be given as."""


def found(run: Path | str, runs_dir: Path | str | None) -> "RunFolder":
    """Find a run, by default among the user's own.

    Raises:
        JournalError: there is none, or the name could be several.
    """
    from abyme.journals.folder import find  # noqa: PLC0415

    return find(data_dir() / "runs" if runs_dir is None else Path(runs_dir), str(run))


def is_own(folder: "RunFolder", runs_dir: Path | str | None) -> bool:
    """Tell whether a run lies among the user's own, or in the folder of runs that was named."""
    places = {data_dir() / "runs"} | ({Path(runs_dir)} if runs_dir is not None else set())
    return folder.path.resolve().parent in {place.resolve() for place in places}


def open_context(given: Any, spec: Spec | None = None) -> tuple[Context, bool]:
    """Seal what the user gave: text, texts, named texts, paths, `Sources`.

    Of a run's `spec` is taken where large contexts lie, and whether they are cached.

    Raises:
        ContextError: nothing to read, or a value of a kind that is none of these.
    """
    from abyme.contexts import load, sealed  # noqa: PLC0415

    if isinstance(given, sealed.SealedContext):
        return given, False
    if isinstance(given, os.PathLike):
        given = Sources(given)
    if isinstance(given, list | tuple) and given and all(isinstance(g, os.PathLike) for g in given):
        given = Sources(*given)
    if isinstance(given, Sources):
        place = cache_dir() if spec is None else spec.cache_dir
        loaded = load.load_paths(
            given.paths,
            choice=given.choice,
            env=surroundings(),
            room=storage.room(place),
            cache=storage.ingest_cache(place, wanted=spec is not None and spec.ingest_cache),
        )
        return loaded.context, True
    return sealed.from_value(given), True


def context_again(folder: "RunFolder", given: Any) -> tuple[Context, bool]:
    """Open the context of an earlier run: the one that is given, or from where it came.

    Raises:
        ContextError: it is not what it was, or cannot be had again.
    """
    from abyme.contexts.again import again, check_same  # noqa: PLC0415
    from abyme.journals.folder import contexts_dir  # noqa: PLC0415

    manifest = folder.manifest()
    if given is None:
        kept = contexts_dir(folder.path.parent)
        room = storage.room(cache_dir())
        return again(folder.spec(), manifest, kept, env=surroundings(), room=room), True
    context, owned = open_context(given)
    try:
        check_same(context, manifest)
    except BaseException:
        if owned:
            context.close()
        raise
    return context, owned


def keep_context(context: Context, folder: "RunFolder", written: "RunSpec") -> None:
    """Store a run's context so that it can be resumed; if it cannot be, run.json says so."""
    from abyme.contexts.kept import keep  # noqa: PLC0415
    from abyme.contexts.sealed import SealedContext  # noqa: PLC0415
    from abyme.journals.folder import contexts_dir  # noqa: PLC0415

    if not isinstance(context, SealedContext):
        return
    with contextlib.suppress(ContextError, JournalError):  # the run goes on all the same
        keep(context, contexts_dir(folder.path.parent))
        folder.write_spec(structs.replace(written, kept=True))


def run_spec(spec: Spec, started: ev.RunStarted, context: Context) -> "RunSpec":
    """Write down what decided a run, for people and for `resume`."""
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
        sandbox=spec.isolation.tier,
        profile=started.profile.name,
        abyme=version(),
        python=platform.python_version(),
        started_at=started.started_at,
    )


def outcome(answer: "Answer") -> "Outcome":
    """Sum a run up for its folder."""
    from abyme.journals.folder import Outcome, RunUsage  # noqa: PLC0415

    usage = answer.usage
    return Outcome(
        status=answer.status,
        value=answer.value,
        evidence=answer.evidence,
        derivations=answer.derivations,
        reason=answer.reason,
        usage=RunUsage(
            calls=usage.calls,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_usd=usage.cost_usd,
            wall_s=usage.wall_s,
        ),
    )


def version() -> str:
    """Name the installed version."""
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415
    from importlib.metadata import version as installed  # noqa: PLC0415

    try:
        return installed("abyme")
    except PackageNotFoundError:
        return "0+unknown"
