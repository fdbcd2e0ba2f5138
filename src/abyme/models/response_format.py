"""How an endpoint is told which shape a reply must have: the field ``response_format``.

Decides by the preset, the schema and what the model has refused before. Pure. A help and
no promise: the schema is in the prompt as well, and the core checks what comes back. So
where an endpoint does not take a form, a weaker one is sent, and at last none:
``json_schema`` -> ``json_object`` -> nothing.
"""

import re
from collections.abc import Set as AbstractSet
from typing import Any, Final

from abyme.models.presets import Preset

SCHEMA, OBJECT = "json_schema", "json_object"
NAME: Final = "reply"
STRICT: Final = frozenset(
    {
        "type", "properties", "required", "additionalProperties", "items", "enum", "const",
        "anyOf", "$ref", "$defs", "title", "description",
    }
)  # fmt: skip
"""Keywords that OpenAI takes in a strict schema, whatever the model."""
MENTIONED: Final = re.compile(
    r"response_format|json_schema|json_object|structured.?output|guided", re.IGNORECASE
)
THIS_ONE: Final = re.compile(r"invalid (?:json )?schema|grammar|convert|conversion", re.IGNORECASE)


def is_about_the_form(words: str) -> bool:
    """Tell whether a 400 refuses the form altogether, and not this schema."""
    return MENTIONED.search(words) is not None and THIS_ONE.search(words) is None


def response_format(
    preset: Preset, schema: dict[str, Any] | None, without: AbstractSet[str]
) -> dict[str, Any] | None:
    """Build the field; None: it is not sent. `without` names forms that were refused."""
    if schema is None or preset.shape == "none":
        return None
    is_object = schema.get("type") == "object"
    if SCHEMA not in without and preset.shape != "object":
        strict = is_object and is_strict(schema)
        if strict or preset.shape == "grammar" or (is_object and preset.shape == "schema"):
            given = {"name": NAME, "schema": schema} | ({"strict": True} if strict else {})
            return {"type": SCHEMA, SCHEMA: given}
    if is_object and OBJECT not in without and preset.shape != "strict":
        return {"type": OBJECT}
    return None


def is_strict(schema: Any) -> bool:
    """Tell whether OpenAI can hold a model to a schema.

    Every object has all its properties required and no others
    (platform.openai.com/docs/guides/structured-outputs, "Supported schemas").
    """
    todo = [schema]
    while todo:
        one = todo.pop()
        if not isinstance(one, dict) or not one.keys() <= STRICT:
            return False
        properties = one.get("properties", {})
        if one.get("type") == "object" and (
            one.get("additionalProperties") is not False
            or set(one.get("required", ())) != properties.keys()
        ):
            return False
        todo += [*properties.values(), *one.get("$defs", {}).values(), *one.get("anyOf", ())]
        todo += [one["items"]] if "items" in one else []
    return True
