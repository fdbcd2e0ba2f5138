"""Which JSON Schemas are taken, and what their keywords look like.

Three kinds of author: the guest, who is hostile (`GUEST`); the user who wrote a schema
(`USER`); a class of the user's that made one and checks by itself what stands in it (`OWN`).
Decides by a closed table of keywords. Invariant: nothing outside of the schema is ever
read: a ``$ref`` leads to a place in the same schema or the schema is refused; and a schema
that is taken can be followed to its end, because no ``$ref`` leads back to itself without a
step into the value.

Does not look at values (`shapes`). ``format`` is told to models and checked by nobody.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import unquote

Kind: TypeAlias = Literal[
    "schema", "schemas", "named", "count", "number", "step", "names", "types",
    "values", "value", "switch", "ref", "pattern", "patterns", "lists", "text", "note",
]  # fmt: skip

STRUCTURE: Final[dict[str, Kind]] = {
    "type": "types",
    "enum": "values",
    "const": "value",
    "properties": "named",
    "required": "names",
    "additionalProperties": "schema",
    "minProperties": "count",
    "maxProperties": "count",
    "items": "schema",
    "prefixItems": "schemas",
    "minItems": "count",
    "maxItems": "count",
    "uniqueItems": "switch",
    "minLength": "count",
    "maxLength": "count",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "step",
    "anyOf": "schemas",
    "oneOf": "schemas",
    "allOf": "schemas",
    "not": "schema",
    "$ref": "ref",
    "$defs": "named",
    "definitions": "named",
    "format": "text",
    "title": "note",
    "description": "note",
    "default": "note",
    "examples": "note",
    "deprecated": "note",
    "readOnly": "note",
    "writeOnly": "note",
    "discriminator": "note",  # OpenAPI's, by pydantic: `oneOf` says the same
    "contentEncoding": "note",
    "contentMediaType": "note",
    "$comment": "note",
    "$schema": "note",
}
"""Keywords that anybody may use (JSON Schema 2020-12, core and validation)."""

MORE: Final[dict[str, Kind]] = {
    "pattern": "pattern",
    "patternProperties": "patterns",
    "propertyNames": "schema",
    "contains": "schema",
    "minContains": "count",
    "maxContains": "count",
    "if": "schema",
    "then": "schema",
    "else": "schema",
    "dependentRequired": "lists",
    "dependentSchemas": "named",
}
"""Keywords for users. A regular expression of a guest's would be run by the host."""

IN_PLACE: Final = frozenset(
    {"$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"}
)
"""Keywords whose schemas look at the same value again."""
APART: Final = frozenset({"$defs", "definitions"})
"""Keywords whose schemas look at nothing until they are referred to."""
MOST_SHOWN_CHARS: Final = 60
"""Of what stands in a schema."""
TYPES: Final = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an author may write."""

    keywords: dict[str, Kind]
    others: Literal["refused", "ignored"]
    """Keywords outside of the table."""
    recursive: bool
    """A schema may contain itself, a step further into the value."""
    most_bytes: int
    most_levels: int
    """Of nested objects and arrays in the schema's own JSON."""


GUEST: Final = Rules(
    keywords=STRUCTURE, others="refused", recursive=False, most_bytes=8 << 10, most_levels=40
)
USER: Final = Rules(
    keywords=STRUCTURE | MORE,
    others="refused",
    recursive=True,
    most_bytes=256 << 10,
    most_levels=80,
)
OWN: Final = Rules(
    keywords=STRUCTURE | MORE,
    others="ignored",
    recursive=True,
    most_bytes=256 << 10,
    most_levels=80,
)


def check(schema: Any, rules: Rules = GUEST) -> None:
    """See whether a schema is taken.

    Raises:
        ValueError: in words, with the place in the schema.
    """
    if not isinstance(schema, dict):
        raise ValueError(f"a JSON Schema is an object, not {kind_of(schema)}")  # noqa: TRY004
    _measure(schema, rules)
    inside: dict[int, list[int]] = {}
    in_place: dict[int, list[int]] = {}
    todo: list[tuple[Any, str]] = [(schema, "")]
    while todo:
        one, where = todo.pop()
        if id(one) in inside:
            continue
        inside[id(one)], in_place[id(one)] = [], []
        for keyword, inner, place in _schemas_in(schema, one, where, rules):
            todo.append((inner, place))
            if keyword not in APART:
                inside[id(one)].append(id(inner))
            if keyword in IN_PLACE:
                in_place[id(one)].append(id(inner))
    if _circular(in_place):
        raise ValueError("a $ref leads back to itself without a step into the value")
    if not rules.recursive and _circular(inside):
        raise ValueError("the schema contains itself by $ref; here it may not")


def find(schema: dict[str, Any], ref: str) -> Any:
    """Find what ``$ref`` names: ``#`` or a JSON Pointer (RFC 6901) behind it.

    Raises:
        ValueError: it is not there, or would be elsewhere.
    """
    if ref != "#" and not ref.startswith("#/"):
        raise ValueError(f"$ref {ref[:60]!r}: only places in the schema itself, as #/$defs/NAME")
    found: Any = schema
    for part in ref.split("/")[1:]:
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name[:9]) < len(found):
            found = found[int(name[:9])]
        else:
            raise ValueError(f"$ref {ref[:60]!r} leads nowhere")
    return found


def kind_of(value: Any) -> str:
    """Name the JSON type of a value, with an article."""
    return _KINDS.get(type(value)) or f"a {type(value).__name__}"


def is_number(value: Any) -> bool:
    """Tell whether a value is a JSON number; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _measure(schema: Any, rules: Rules) -> None:
    """Bound a schema before anything else looks at it; it may hold itself as a Python object."""
    size_bytes = 0
    level = [schema]
    for _ in range(rules.most_levels + 1):
        inner: list[Any] = []
        for holder in level:
            size_bytes += _own_bytes(holder)
            if size_bytes > rules.most_bytes:
                raise ValueError(f"the schema has more than {rules.most_bytes:,} bytes")
            inner += holder.values() if isinstance(holder, dict) else holder
        level = []
        for value in inner:
            if isinstance(value, dict | list):
                level.append(value)
            else:
                size_bytes += _own_bytes(value)
        if not level:
            if size_bytes > rules.most_bytes:
                raise ValueError(f"the schema has more than {rules.most_bytes:,} bytes")
            return
    raise ValueError(f"the schema is nested more than {rules.most_levels} levels deep")


def _own_bytes(value: Any) -> int:
    """About what a value is as JSON, without what is inside of it."""
    match value:
        case dict():
            if not all(isinstance(key, str) and _is_text(key) for key in value):
                raise ValueError("the schema is not JSON: a key is not a string that JSON takes")
            return 2 + sum(4 + len(key) for key in value)
        case list():
            return 2 + len(value)
        case str() if _is_text(value):
            return 2 + len(value)
        case None | bool():
            return 4
        case int() if value.bit_length() <= 1024:
            return 1 + value.bit_length() // 3
        case float() if math.isfinite(value):
            return 8
    raise ValueError(f"the schema is not JSON: it holds {kind_of(value)} that JSON cannot")


def _is_text(text: str) -> bool:
    """Tell whether a string can be sent: it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(keyword: str, where: str, rules: Rules) -> Kind | None:
    kind = rules.keywords.get(keyword)
    if kind is not None or rules.others == "ignored" or keyword.startswith("x-"):
        return kind
    if keyword == "$id" and not where:  # further in it would change what a $ref means
        return None
    known = "; it is not taken from a cell" if keyword in MORE else ""
    raise ValueError(f"{where or 'the schema'}: the keyword {keyword[:40]!r} is not known{known}")


def _argument(kind: Kind, argument: Any, place: str, rules: Rules) -> None:
    """See whether a keyword's argument is what the keyword takes."""
    if not _WELL_FORMED[kind](argument):
        raise ValueError(f"{place} cannot be {_shown(argument)}; it takes {_TAKES[kind]}")
    if kind in {"pattern", "patterns"} and rules.others == "refused":
        for pattern in argument if kind == "patterns" else [argument]:
            if compiled(pattern) is None:
                raise ValueError(
                    f"{place}: {pattern[:60]!r} is not a regular expression of RE2 "
                    "(look-around and back-references are not)"
                )


def compiled(pattern: str) -> Any:
    """Compile a pattern of ``pattern`` for RE2, which takes linear time; None: it cannot be.

    Python's `re` would let a value hang the host under an innocent pattern.
    """
    import re2  # noqa: PLC0415  3 MB that few schemas need

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError):
        return None


def _schemas_in(
    root: dict[str, Any], schema: Any, where: str, rules: Rules
) -> Iterator[tuple[str, Any, str]]:
    """Give each schema in a schema, or behind its ``$ref``: by keyword, and with its place."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise ValueError(f"{where}: a schema is an object, true or false")  # noqa: TRY004
    for keyword, argument in schema.items():
        if (kind := _kind(keyword, where, rules)) is None:
            continue
        place = f"{where}/{keyword}"
        _argument(kind, argument, place, rules)
        if kind == "schema":
            yield keyword, argument, place
        elif kind == "ref":
            yield keyword, find(root, argument), place
        elif kind in {"schemas", "named", "patterns"}:
            several = enumerate(argument) if kind == "schemas" else argument.items()
            for name, one in several:
                yield keyword, one, f"{place}/{str(name)[:40]}"


def _shown(argument: Any) -> str:
    """Write an argument as the schema's author did, cut to a line."""
    text = json.dumps(argument, ensure_ascii=False)
    return text if len(text) <= MOST_SHOWN_CHARS else f"{text[: MOST_SHOWN_CHARS - 3]}..."


def _circular(edges: dict[int, list[int]]) -> bool:
    """Tell whether a graph has a circle (A. B. Kahn, 1962): no recursion, linear time."""
    waiting = dict.fromkeys(edges, 0)
    for targets in edges.values():
        for target in targets:
            waiting[target] += 1
    free = [node for node, count in waiting.items() if not count]
    done = 0
    while free:
        done += 1
        for target in edges[free.pop()]:
            waiting[target] -= 1
            if not waiting[target]:
                free.append(target)
    return done < len(edges)


def _is_count(value: Any) -> bool:
    return is_number(value) and value >= 0 and value == int(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_types(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(isinstance(name, str) and name in TYPES for name in names)


_KINDS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}
_WELL_FORMED: Final[dict[Kind, Callable[[Any], bool]]] = {
    "schema": lambda value: isinstance(value, dict | bool),
    "schemas": lambda value: isinstance(value, list) and bool(value),
    "named": lambda value: isinstance(value, dict),
    "patterns": lambda value: isinstance(value, dict),
    "count": _is_count,
    "number": is_number,
    "step": lambda value: is_number(value) and value > 0,
    "names": _are_names,
    "types": _are_types,
    "values": lambda value: isinstance(value, list) and bool(value),
    "switch": lambda value: isinstance(value, bool),
    "ref": lambda value: isinstance(value, str),
    "pattern": lambda value: isinstance(value, str),
    "text": lambda value: isinstance(value, str),
    "lists": lambda value: isinstance(value, dict) and all(map(_are_names, value.values())),
    "value": lambda _: True,
    "note": lambda _: True,
}
_TAKES: Final[dict[Kind, str]] = {
    "schema": "a schema",
    "schemas": "an array of at least one schema",
    "named": "an object of schemas",
    "patterns": "an object of schemas",
    "count": "a whole number, 0 or more",
    "number": "a number",
    "step": "a number above 0",
    "names": "an array of strings",
    "types": f"one of {', '.join(sorted(TYPES))}, or an array of these",
    "values": "an array of at least one value",
    "switch": "true or false",
    "ref": "a string",
    "pattern": "a string",
    "text": "a string",
    "lists": "an object of arrays of strings",
}
"""What an argument must be, for whoever wrote another one."""
