"""Sources that are no paths of this machine: URLs and git repositories at a revision.

Decides in which order they are had: all that a user named are tried, and one error names
all that failed. How is decided by `urls` and `git`.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from abyme.contexts.choice import Choice
from abyme.contexts.places import is_url, without_secrets
from abyme.errors import ContextError

if TYPE_CHECKING:
    from abyme.contexts.walk import Found, Skipped


Report: TypeAlias = Callable[[int, int], None]
"""Told how many bytes have come, and how many are expected so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What one such source holds."""

    name: str
    """Of the source, where it stands beside others."""
    found: "list[Found]"
    """Each with `open`, and a name within the source."""
    skipped: "list[Skipped]" = field(default_factory=list)
    single: bool = False
    """It is one file."""
    revision: str | None = None
    """Commit that was read."""


def reach(
    wanted: Mapping[str, str],
    *,
    choice: Choice,
    env: Mapping[str, str],
    closing: ExitStack,
    report: Report,
) -> dict[str, Elsewhere]:
    """Have sources, each as it was given and as it is found now, by what was given.

    Of `env` are read: the proxies (``http_proxy`` and its like), and what git needs: PATH, HOME
    and SSH_AUTH_SOCK. What must be ended or dropped after reading is put on `closing`.
    `report` is told what has come of URLs, in another thread.

    Raises:
        ContextError: at least one cannot be had; the message names each of them.
    """
    failed: list[str] = []
    got: dict[str, Elsewhere] = {}

    def attempt(source: str, have: Callable[[], Elsewhere]) -> None:
        try:
            got[source] = have()
        except ContextError as error:
            failed.append(f"{without_secrets(source)}: {error}")

    urls = [source for source in wanted if is_url(source)]
    if urls:
        from abyme.contexts.urls import fetch_all  # noqa: PLC0415

        all_fetched = fetch_all(urls, choice=choice, env=env, closing=closing, report=report)
        for url, fetched in all_fetched.items():
            attempt(url, fetched.have)
    for source, place in wanted.items():
        if not is_url(source):
            from abyme.contexts.git import revision_of  # noqa: PLC0415

            def have(place: str = place) -> Elsewhere:
                return revision_of(place, env=env, closing=closing)

            attempt(source, have)
    if failed:
        raise ContextError("cannot read " + "; ".join(failed))
    return got
