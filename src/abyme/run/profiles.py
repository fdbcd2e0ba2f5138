"""Reads the prompt files of `core/prompts` into `Profile`s, and chooses one for a model.

A profile is a data file: a new one is a new ``core/prompts/NAME.toml``. Its texts
go into the run's first record, so that a replay does not depend on the files.
"""

import tomllib
from typing import TYPE_CHECKING

import msgspec

from abyme.core.profile import Profile
from abyme.errors import ConfigError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def load(name: str) -> Profile:
    """Read a profile by name.

    Raises:
        ConfigError: if there is none; the message lists those there are.
    """
    file = _folder() / f"{known(name)}.toml"
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    return _stripped(msgspec.convert(data, Profile))


def known(name: str) -> str:
    """Give a profile's name back.

    Raises:
        ConfigError: if there is no such profile; the message lists those there are.
    """
    if name not in names():
        raise ConfigError(f"no profile {name!r}; there are: {', '.join(names())}")
    return name


def names() -> list[str]:
    """List the profiles there are."""
    files = (file.name for file in _folder().iterdir())
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def _folder() -> "Traversable":
    from importlib import resources  # noqa: PLC0415  10 ms, for a run only

    return resources.files("abyme.core") / "prompts"


def choose(model: str) -> str:
    """Name the profile for a model by its name: small local ones need a plainer prompt."""
    return "weak" if model.startswith("local:") else "strong"


def fit(name: str, shape: str) -> str:
    """Name the variant of a profile for a context of this shape, where there is one."""
    variant = f"{name}-{shape}"
    return variant if variant in names() else name


def _stripped(profile: Profile) -> Profile:
    """Drop the line breaks that the file's layout puts around texts."""
    return msgspec.structs.replace(
        profile,
        system=profile.system.strip(),
        question=profile.question.strip(),
        output=profile.output.strip(),
        examples=[msgspec.structs.replace(m, content=m.content.strip()) for m in profile.examples],
    )
