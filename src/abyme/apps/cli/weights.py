"""Weights of local models: made sure of before a run, and fetched by ``models pull``.

Decides when something large may be downloaded: only when a person at a terminal agrees
or when it was asked for by name. Does not know where weights come from
(`models.local.weights`).
"""

import sys
from typing import TYPE_CHECKING

import click

from abyme.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from abyme.apps.cli.progress import Progress
    from abyme.run.spec import Spec


def make_sure_of_weights(spec: "Spec", shown: "Progress", *, default: bool) -> None:
    """See that every local model of a run has its weights.

    Raises:
        ConfigError: they are absent, and nobody agreed to fetch them.
    """
    from abyme.apps.amounts import size  # noqa: PLC0415
    from abyme.models.local import weights  # noqa: PLC0415

    if default and spec.root.local:
        shown.note(
            f"no API key is set: using {spec.root.name} on this machine (--model names another)"
        )
    for name in sorted({e.model for e in (spec.root, spec.sub) if e.local}):
        if weights.find(name, spec.cache_dir / "models") is not None:
            continue
        amount = size(weights.named(name).size_bytes)
        question = f"The weights of {name} ({amount}) are not here. Fetch them now?"
        if not (sys.stdin.isatty() and sys.stderr.isatty()) or not click.confirm(
            question, err=True
        ):
            raise ConfigError(
                f"the weights of {name} ({amount}) are not here: run `abyme models pull {name}`, "
                "or name another model by --model"
            )
        fetch(name, spec.cache_dir / "models", shown)


def fetch(name: str, cache: "Path", shown: "Progress", source: "Path | None" = None) -> "Path":
    """Download weights with a display, or take them from a file. What a cut left is kept."""
    from abyme.apps.cli.progress import reporter  # noqa: PLC0415
    from abyme.models.local import weights  # noqa: PLC0415

    return weights.pull(name, cache, reporter(shown, name), source)
