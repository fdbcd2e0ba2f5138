"""The context of an earlier run: read or reopened, and compared with what the run began on.

Invariant: what `again` gives has the documents of the manifest, each with its hash; a run
is never gone on with over anything else.
Does not find the run, and does not store contexts (`kept`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from abyme.contexts.choice import Choice
from abyme.contexts.kept import key_of, must_be_kept, reopen
from abyme.contexts.load import load_paths
from abyme.contexts.manifest import Manifest
from abyme.contexts.places import at_commit
from abyme.contexts.room import MEMORY_ONLY, Room
from abyme.contexts.sealed import SealedContext
from abyme.contexts.walk import NO_ENV
from abyme.errors import ContextError
from abyme.ports import Context

NAMED: Final = 5
"""Documents that an error names."""
_ADVICE: Final = "put it back as it was, or ask again with `abyme ask`"


class Origin(Protocol):
    """Where a run's context came from, as its spec has it."""

    @property
    def sources(self) -> Sequence[str]:
        """Paths as the user gave them; they decide the names of the documents."""
        ...

    @property
    def located(self) -> Sequence[str]:
        """The same, absolute; empty in runs of before."""
        ...

    @property
    def context_key(self) -> str:
        """Of the content; empty in runs of before."""
        ...


def again(
    origin: Origin,
    manifest: object,
    folder: Path,
    *,
    env: Mapping[str, str] = NO_ENV,
    room: Room = MEMORY_ONLY,
) -> SealedContext:
    """Seal a run's context once more. `manifest` is the run's own, `folder` has kept contexts.

    A git revision is read at the commit of then; for `env` and `room` see `load_paths`.

    Raises:
        ContextError: it is gone or has changed; names up to 5 documents and what to do.
    """
    if must_be_kept(origin.sources):
        context = reopen(folder, origin.context_key or key_of(_manifest(manifest)))
    else:
        context = _loaded(origin, _manifest(manifest), env, room)
    try:
        check_same(context, manifest)
    except BaseException:
        context.close()
        raise
    context.sources = list(origin.sources)
    return context


def choice_of(manifest: object) -> Choice:
    """Tell which files of its sources a run wanted.

    Raises:
        ContextError: the manifest is damaged.
    """
    return _manifest(manifest).choice


def check_same(context: Context, manifest: object) -> None:
    """Compare a context with the manifest of a run that is to go on over it.

    Raises:
        ContextError: it is another one; names up to 5 documents and what to do.
    """
    differs = difference(_manifest(manifest), _manifest(context.manifest))
    if differs:
        raise ContextError(f"the context is not what the run began on ({differs}); {_ADVICE}")


def difference(wanted: Manifest, found: Manifest) -> str:
    """Say in words how two contexts differ; nothing if they have the same content."""
    if found.shape != wanted.shape:
        return f"it was {_A[wanted.shape]} and is {_A[found.shape]}"
    before, after = _contents(wanted), _contents(found)
    groups = {
        "changed": [name for name in before if after.get(name, before[name]) != before[name]],
        "gone": [name for name in before if name not in after],
        "new": [name for name in after if name not in before],
    }
    if not any(groups.values()):
        return "" if list(before) == list(after) else "its documents come in another order"
    words, room = [], NAMED
    for word, names in groups.items():
        if shown := names[:room]:
            words.append(f"{word}: {', '.join(shown)}")
        room -= len(shown)
    more = sum(map(len, groups.values())) - NAMED
    return "; ".join([*words, f"and {more:,} more"] if more > 0 else words)


_A: Final = {"text": "one text", "documents": "named documents", "list": "a list of texts"}


def _manifest(given: object) -> Manifest:
    """Take a manifest as it is, or as plain values out of a run's folder."""
    if isinstance(given, Manifest):
        return given
    try:
        return msgspec.convert(given, Manifest)
    except msgspec.ValidationError as error:
        raise ContextError(f"the run's manifest is damaged: {error}") from None


def _contents(manifest: Manifest) -> dict[str, tuple[int, str | None]]:
    return {
        document.name or f"text {number}": (document.kind, document.sealed_sha256)
        for number, document in enumerate(manifest.documents)
    }


def _loaded(
    origin: Origin, manifest: Manifest, env: Mapping[str, str], room: Room
) -> SealedContext:
    places = origin.located or origin.sources
    if len(places) != len(origin.sources):
        raise ContextError("the run's sources are damaged")
    commits = [manifest.revisions.get(source) for source in origin.sources]
    places = [at_commit(place, commit) for place, commit in zip(places, commits, strict=True)]
    try:
        loaded = load_paths(
            origin.sources, located=places, choice=manifest.choice, env=env, room=room
        )
    except ContextError as error:
        raise ContextError(f"the context of the run is gone ({error}); {_ADVICE}") from error
    return loaded.context
