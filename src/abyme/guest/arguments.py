"""What a model gives to a sub-call, made plain, or refused with what to do.

Decides which values may be a prompt, a text, a model's name, a schema. Invariant: what goes
over the wire is of builtin types and within the host's bounds, so that a slip is a `TypeError` or
`ValueError` in the model's own line and nothing has been sent.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from abyme.guest.parts import Part
from abyme.guest.places import Hit

MAX_MODEL_CHARS: Final = 200
MAX_SCHEMA_CHARS: Final = 8 << 10
MAX_SCHEMA_DEPTH: Final = 20
MAX_DIGITS: Final = 18
"""Of a whole number in a schema."""


def request_of(
    prompt: str,
    material: str | Part | None,
    model: str | None,
    *,
    schema: str | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Make what goes over the wire; `material` is a text for a sub-model, a part for a child."""
    part = material if isinstance(material, Part) else Part(text=material)
    for name, value in (("prompt", prompt), ("text", part.text), ("model", model)):
        if not isinstance(value, str) and (name == "prompt" or value is not None):
            raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not prompt.strip():
        raise ValueError("prompt is empty")
    if model is not None and len(model) > MAX_MODEL_CHARS:
        raise ValueError("that is not the name of a model")
    plain = [str.__str__(each) if each is not None else None for each in (prompt, part.text, model)]
    request = {"prompt": plain[0], "text": plain[1], "model": plain[2], "fresh": bool(fresh)}
    return {**request, "spans": part.spans, "shape": part.shape, "schema": schema}


def paired(prompts: Sequence[str], materials: Any, what: str, single: str) -> list[tuple[str, Any]]:
    """Give each prompt its text or context; one text is for all."""
    if isinstance(prompts, str):
        raise TypeError(f"prompts must be a list of str; for a single one there is {single}")
    every = list(prompts)
    if materials is None or isinstance(materials, str | Hit):
        return [(prompt, materials) for prompt in every]
    if not isinstance(materials, Iterable) or isinstance(materials, Mapping):
        raise TypeError(f"{what} must be a list with one for each prompt")
    given = list(materials)
    if len(given) != len(every):
        raise ValueError(
            f"{len(every)} prompts but {len(given)} {what}: give one for each, or one str for all"
        )
    return list(zip(every, given, strict=True))


def schema_text(schema: Any) -> str | None:
    """Make JSON of a schema.

    Raises:
        TypeError: it is not a dict.
        ValueError: it is too large, too deep, or no JSON.
    """
    if schema is None:
        return None
    if not isinstance(schema, dict):
        raise TypeError(f"schema must be a dict (JSON Schema), not {type(schema).__name__}")
    try:
        text = "" if _is_endless(schema) else json.dumps(schema, allow_nan=False)
        json.loads(text or "0", parse_int=_whole)
    except (TypeError, ValueError) as error:
        raise ValueError(f"schema is not JSON: {error}") from None
    if not 0 < len(text) <= MAX_SCHEMA_CHARS:
        raise ValueError(
            f"schema is too large: {MAX_SCHEMA_CHARS:,} characters of JSON and "
            f"{MAX_SCHEMA_DEPTH} levels are allowed"
        )
    return text


def _is_endless(schema: Any) -> bool:
    """Tell whether something is nested too deeply, holds itself, or too much."""
    level = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(item, dict | list | tuple)
        ]
        if not level or len(level) > MAX_SCHEMA_CHARS:
            break
    return bool(level)


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
