"""Reads the prompt files of `core/prompts` into `Profile`s, and chooses one for a model.

A profile is a data file: a new one is a new ``core/prompts/NAME.toml``, which may extend
another. Its texts go into the run's first record, so that a replay does not depend on the files.
Invariant: what `load` returns can be used; whatever is wrong with a file is a `ConfigError`
that names the file and what to change; and a user's own file fences what a cell brought.
Does not judge what a text says.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec
from msgspec import Struct, structs

from abyme import files
from abyme.core.profile import GUESTS_WORDS, Profile, Range, Slots, SubPrompts
from abyme.errors import ConfigError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

DEFAULT: Final = "strong"
MOST_FILE_BYTES: Final = 1 << 20
ROLES: Final = ("user", "assistant")
"""Of examples."""

_BRACED: Final = re.compile(r"\{([^\W\d]\w*)\}")
"""What is meant for a slot. Other braces, as JSON has them, are text."""

UNFENCED: Final = (
    "output lets a document speak to the model as the engine does: put {nonce} before and after "
    "what comes from a cell, as in <data {nonce}>, then {output}, then </data {nonce}>"
)


def load(name: str | Path) -> Profile:
    """Read a profile by name, or by the path of a ``.toml`` file.

    Raises:
        ConfigError: there is none, or it is not as a profile is; the message says what is wrong.
    """
    name = known(name)
    try:
        data = _data(name)
        profile = _stripped(msgspec.convert(data, Profile))
        wrong = [*_wrong_texts(profile), *_wrong_fields(profile), *_wrong_fields(profile.sub)]
    except msgspec.ValidationError as error:
        raise ConfigError(f"the profile {name}: {error}") from None
    if wrong:
        raise ConfigError(f"the profile {name}: {'; '.join(wrong)}")
    return profile


def known(name: str | Path) -> str:
    """Give the name of a profile back, or the path of one.

    Raises:
        ConfigError: if there is no such profile; the message lists those there are.
    """
    if not isinstance(name, str | Path):
        raise ConfigError(f"a profile is a name or the path of a .toml file, not {name!r}")
    text = str(name)
    if text.endswith(".toml") or (text in names() and isinstance(name, str)):
        return text
    there = ", ".join(names())
    raise ConfigError(f"no profile {text!r}; there are: {there} (or the path of a .toml file)")


def names() -> list[str]:
    """List the profiles there are."""
    listed = (file.name for file in _folder().iterdir())
    return sorted(name.removesuffix(".toml") for name in listed if name.endswith(".toml"))


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


# -- reading ---------------------------------------------------------------------


def _data(name: str) -> dict[str, Any]:
    """Read a file, over the one that it extends."""
    data = _parsed(name)
    below = data.pop("extends", None)
    sub = data.get("sub", {})
    if not isinstance(sub, dict):
        raise msgspec.ValidationError("sub is no table: write [sub], and its fields below")
    if unknown := {*_strange(data, Profile), *_strange(sub, SubPrompts, "sub.")}:
        raise msgspec.ValidationError(f"there is no field {', '.join(sorted(unknown))}")
    if name not in names() and not fences(str(data.get("output", ""))):
        raise msgspec.ValidationError(UNFENCED)
    if below is None:
        return data
    if below not in names():
        raise msgspec.ValidationError(f"it extends {below!r}; it may: {', '.join(names())}")
    base = {**_data(below), "models": [], "name": Path(name).stem}
    return {**base, **data, "sub": {**base["sub"], **sub}}


def _strange(data: dict[str, Any], kind: type[Struct], table: str = "") -> list[str]:
    """List fields that there are not: no slip of the pen is taken for a setting left out."""
    return [f"{table}{field}" for field in data if field not in kind.__struct_fields__]


def _parsed(name: str) -> dict[str, Any]:
    try:
        if name in names():
            text = (_folder() / f"{name}.toml").read_text(encoding="utf-8")
        else:
            text = files.read_whole(Path(name), MOST_FILE_BYTES).decode("utf-8-sig")
        return tomllib.loads(text)
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 (at byte {error.start:,})"
    except RecursionError:
        why = "it is nested too deep"
    except ValueError as error:  # of TOML; also of numbers and dates that Python has not
        why = str(error)
    raise ConfigError(f"the profile {name} cannot be read: {why}")


def _folder() -> "Traversable":
    from importlib import resources  # noqa: PLC0415  10 ms, for a run only

    return resources.files("abyme.core") / "prompts"


def _stripped(profile: Profile) -> Profile:
    """Drop the line breaks that the file's layout puts around texts."""
    return structs.replace(
        profile,
        system=profile.system.strip(),
        question=profile.question.strip(),
        output=profile.output.strip(),
        examples=[structs.replace(m, content=m.content.strip()) for m in profile.examples],
        sub=structs.replace(
            profile.sub,
            **{
                name: text.strip()
                for name, text in structs.asdict(profile.sub).items()
                if isinstance(text, str)
            },
        ),
    )


# -- judging ---------------------------------------------------------------------


def _wrong_texts(profile: Profile) -> Iterator[str]:
    """Say what no type can say."""
    for pattern in profile.models:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            yield f"models: {pattern!r} is no regular expression ({error})"
    for role in sorted({message.role for message in profile.examples} - set(ROLES)):
        yield f"examples: there is no role {role!r}; there are: {', '.join(ROLES)}"
    if "" in profile.stop:
        yield "stop: an empty text would stop every reply at once"


def fences(template: str) -> bool:
    """Tell whether all that a guest words stands between two ``{nonce}``."""
    first, last = template.find("{nonce}"), template.rfind("{nonce}")
    theirs = (slot.start() for slot in _BRACED.finditer(template) if slot[1] in GUESTS_WORDS)
    return all(first < start < last for start in theirs)


def _wrong_fields(of: Profile | SubPrompts) -> Iterator[str]:
    """Say what does not fit the marks that `core/profile` puts on a field."""
    table = "sub." if isinstance(of, SubPrompts) else ""
    for field in structs.fields(type(of)):
        value = getattr(of, field.name)
        for mark in get_args(field.type):
            if isinstance(mark, Slots) and (value or field.required):
                yield from _wrong_slots(f"{table}{field.name}", value, mark)
            elif isinstance(mark, Range) and not (value is None or mark.holds(value)):
                ends = f"from {mark.least} to {mark.most:,}"
                yield f"{table}{field.name} must be a number {ends}, it is {value}"


def _wrong_slots(field: str, text: str, slots: Slots) -> Iterator[str]:
    """Name slots that a template lacks, and those that do not exist."""
    held = dict.fromkeys(_BRACED.findall(text))
    there = slots.needs + slots.may
    if lacks := [slot for slot in slots.needs if slot not in held]:
        yield f"{field} lacks {_braced(lacks)}"
    if unknown := [slot for slot in held if slot not in there]:
        yield f"{field} has {_braced(unknown)}, which nothing fills; it may have {_braced(there)}"


def _braced(slots: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"{{{slot}}}" for slot in slots)
