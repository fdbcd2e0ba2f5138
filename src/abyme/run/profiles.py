"""Reads the prompt files of `core/prompts` into `Profile`s, and chooses one for a model.

A profile is a data file: a new one is a new ``core/prompts/NAME.toml``, which may extend
another. Its texts go into the run's first record, so that a replay does not depend on the files.
"""

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from abyme.core.profile import Profile, SubPrompts
from abyme.errors import ConfigError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

DEFAULT: Final = "strong"


def load(name: str) -> Profile:
    """Read a profile by name, or by the path of a ``.toml`` file.

    Raises:
        ConfigError: there is none, or it is not as a profile is; the message says what is wrong.
    """
    try:
        return _stripped(msgspec.convert(_checked(_data(known(name))), Profile))
    except msgspec.ValidationError as error:
        raise ConfigError(f"the profile {name}: {error}") from None


def _data(name: str) -> dict[str, Any]:
    """Read a file, over the one that it extends."""
    own = name in names()
    try:
        file = _folder() / f"{name}.toml" if own else Path(name)
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the profile {name} cannot be read: {error}") from None
    below = data.pop("extends", None)
    if below is None:
        return data
    if below not in names():
        raise ConfigError(f"the profile {name} extends {below!r}; it may: {', '.join(names())}")
    base = {**_data(below), "models": []}
    return {**base, **data, "sub": {**base["sub"], **data.get("sub", {})}}


def _checked(data: dict[str, Any]) -> dict[str, Any]:
    """Let no slip of the pen be taken for a setting that is not there."""
    sub = data.get("sub", {})
    unknown = data.keys() - set(Profile.__struct_fields__)
    unknown |= {f"sub.{key}" for key in sub.keys() - set(SubPrompts.__struct_fields__)}
    if unknown:
        raise msgspec.ValidationError(f"there is no field {', '.join(sorted(unknown))}")
    return data


def known(name: str) -> str:
    """Give the name of a profile back, or the path of one.

    Raises:
        ConfigError: if there is no such profile; the message lists those there are.
    """
    if name not in names() and not name.endswith(".toml"):
        there = ", ".join(names())
        raise ConfigError(f"no profile {name!r}; there are: {there} (or the path of a .toml file)")
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
