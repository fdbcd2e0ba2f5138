"""Reads the prompt files of `core/prompts` into `Profile`s, and chooses one for a model.

A profile is a data file: a new one is a new ``core/prompts/NAME.toml``, which may extend
another. Its texts go into the run's first record, so that a replay does not depend on the files.
"""

import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from abyme.core.profile import Profile
from abyme.errors import ConfigError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

DEFAULT: Final = "strong"


def load(name: str) -> Profile:
    """Read a profile by name.

    Raises:
        ConfigError: if there is none; the message lists those there are.
    """
    return _stripped(msgspec.convert(_data(known(name)), Profile))


def _data(name: str) -> dict[str, Any]:
    """Read a file, over the one that it extends."""
    data = tomllib.loads((_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    below = data.pop("extends", None)
    if below is None:
        return data
    base = {**_data(below), "models": []}
    return {**base, **data, "sub": {**base["sub"], **data.get("sub", {})}}


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
    """Name the profile for a model by its name: the first that knows it, else `DEFAULT`."""
    for name in names():
        if any(re.search(pattern, model) for pattern in load(name).models):
            return name
    return DEFAULT


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
        sub=msgspec.structs.replace(
            profile.sub,
            **{
                name: text.strip()
                for name, text in msgspec.structs.asdict(profile.sub).items()
                if isinstance(text, str)
            },
        ),
    )
