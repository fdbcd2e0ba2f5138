"""Does a value fit a JSON Schema, and if not, why; and which JSON a model's reply holds.

Pure and bounded: the work grows with the size of the value, not with what a schema makes of
it. What a schema says of a value is looked up once and kept, so that nested alternatives
cost a product and not a power (a union of two classes that contain themselves takes other
validators 2 to the depth; see docs/decisions/0003), and steps are counted on top of that.
Invariant: `misfit` ends, with words or without, whatever schema and value are.

Speaks for models: one line, the place first. Does not convert: that is `run/answers`.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from typing import Any, Final, NamedTuple

from abyme.core import schemas
from abyme.core.schemas import GUEST, OWN, USER, check, kind_of

__all__ = ["GUEST", "OWN", "USER", "check", "misfit", "parse", "reply_misfit"]

MOST_SAID: Final = 3
"""Misfits that are named."""
MOST_LINE_CHARS: Final = 600
MOST_SHOWN_CHARS: Final = 40
MOST_ENDS: Final = 6
"""Of a long path, the steps that are named at either end."""
MOST_LEVELS: Final = 100
"""Of a value. Guests' answers are held to the same."""
MOST_SCHEMAS_DEEP: Final = 200
"""Schemas within schemas that are followed; each takes up to four frames of Python's thousand."""
STEPS: Final = 20_000
STEPS_PER_VALUE: Final = 40
"""Schemas that each value may be held against, on the average, under a user's schema."""
STEPS_PER_REPLIED_VALUE: Final = 6
"""The same for a reply under a guest's schema, which is hostile."""
CHARS_PER_STEP: Final = 64
MOST_STARTS: Final = 20
"""Places in a reply where JSON is tried to begin."""
FENCE: Final = re.compile(r"^[ \t]*```[^`\n]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
SIMPLE: Final = frozenset({"type", "const", "enum", "title", "description", "default", "format"})
"""Keywords that `_Look._simple` looks at, or nobody."""
NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def reply_misfit(schema: dict[str, Any], text: str) -> str | None:
    """Say in a line why a model's reply does not fit; None: it does, and `parse` gives the value.

    Raises:
        ValueError: `check` would not take the schema.
    """
    try:
        value = parse(text)
    except ValueError as error:
        return str(error)
    return misfit(schema, value, steps_per_value=STEPS_PER_REPLIED_VALUE)


def parse(text: str) -> Any:
    """Take the JSON out of a model's reply: all of it, a fenced block, or what is in the prose.

    In prose the longest object or array counts, so that a citation such as ``[1]`` is not
    taken for the answer.

    Raises:
        ValueError: there is none, in words.
    """
    whole = text.strip().removeprefix("\ufeff")
    try:
        return _decoded(whole)
    except ValueError as error:
        first = error
    for block in islice(FENCE.finditer(text), MOST_STARTS):
        try:
            return _decoded(block[1])
        except ValueError:
            continue
    found = max(_in_prose(whole), key=lambda span: span[1] - span[0], default=None)
    if found is not None:
        return _decoded(whole[found[0] : found[1]])
    if whole[:1] not in {"{", "["} and "```" not in whole:
        raise ValueError("the reply holds no JSON")
    raise ValueError(f"the reply is not valid JSON: {first}")


def misfit(
    schema: dict[str, Any], value: Any, *, steps_per_value: int = STEPS_PER_VALUE
) -> str | None:
    """Say in a line why a value does not fit, the place first; None: it fits.

    Raises:
        ValueError: `check` would not take the schema.
    """
    check(schema, OWN)
    try:
        look = _Look(schema, _steps_for(value, steps_per_value))
        wrong = look.at(schema, value)
    except _Unfinished as error:
        return f"the value {error}"
    except RecursionError:  # the caller stands deep itself
        return "the value is nested too deeply to be checked"
    said = "; ".join(dict.fromkeys(map(_line, wrong)))
    return (said if len(said) <= MOST_LINE_CHARS else said[: MOST_LINE_CHARS - 3] + "...") or None


class Wrong(NamedTuple):
    """One misfit, below the value that was looked at."""

    path: tuple[str | int, ...]
    words: str
    keyword: str


class _Unfinished(Exception):
    """The value is not looked at any further; the words say why."""


class _Look:
    """One look at one value."""

    def __init__(self, root: dict[str, Any], steps: int) -> None:
        self._root = root
        self._steps = steps
        self._deep = 0
        self._known: dict[tuple[int, int], list[Wrong]] = {}
        self._patterns: dict[str, Any] = {}
        self._places: dict[str, Any] = {}
        self._plain: dict[int, bool] = {}
        self._options: dict[int, set[tuple[bool, Any]]] = {}

    def at(self, schema: Any, value: Any) -> list[Wrong]:
        """List the first misfits; empty: the value fits."""
        while isinstance(schema, dict) and len(schema) == 1 and "$ref" in schema:
            self._spend(1)
            schema = self._find(schema["$ref"])
        if isinstance(schema, bool):
            return [] if schema else [Wrong((), "may not be there", "false")]
        self._spend(1)
        plain = self._plain.get(id(schema))
        if plain is None:
            plain = self._plain[id(schema)] = schema.keys() <= SIMPLE
        if plain:  # four values of five in a large answer
            wrong = self._simple(schema, value)
            return [] if wrong is None else [wrong]
        key = id(schema), id(value)
        if (known := self._known.get(key)) is not None:
            return known
        self._deep += 1
        if self._deep > MOST_SCHEMAS_DEEP:
            raise _Unfinished("is nested too deeply to be checked")
        found = list(islice(self._wrong(schema, value), MOST_SAID))
        self._deep -= 1
        if isinstance(value, dict | list) or not schemas.IN_PLACE.isdisjoint(schema):
            self._known[key] = found
        return found

    def _wrong(self, schema: dict[str, Any], value: Any) -> Iterator[Wrong]:
        if (words := self._simple(schema, value)) is not None:
            yield words
            return
        if isinstance(value, dict):
            yield from self._object(schema, value)
        elif isinstance(value, list):
            yield from self._array(schema, value)
        elif isinstance(value, str):
            yield from self._string(schema, value)
        elif schemas.is_number(value):
            yield from _number(schema, value)
        if not schemas.IN_PLACE.isdisjoint(schema):
            yield from self._in_place(schema, value)

    def _simple(self, schema: dict[str, Any], value: Any) -> Wrong | None:
        if (wanted := schema.get("type")) is not None:
            names = wanted if isinstance(wanted, list) else [wanted]
            if not any(map(_is, names, repeat(value))):
                said = " or ".join(_TYPES[name][1] for name in names)
                return Wrong((), f"must be {said}, not {_shown(value)}", "type")
        if "const" in schema and not self._same(schema["const"], value):
            return Wrong((), f"must be {_shown(schema['const'])}, not {_shown(value)}", "const")
        if "enum" in schema and not self._is_one_of(schema["enum"], value):
            some = ", ".join(_shown(one) for one in schema["enum"][:12])
            more = ", ..." if len(schema["enum"]) > 12 else ""
            return Wrong((), f"must be one of {some}{more}, not {_shown(value)}", "enum")
        return None

    def _object(self, schema: dict[str, Any], value: dict[str, Any]) -> Iterator[Wrong]:
        yield from self._required(schema, value)
        yield from _counted(schema, len(value), "Properties", "properties")
        named = schema.get("properties", {})
        patterns = schema.get("patternProperties", {})
        rest = schema.get("additionalProperties", True)
        names = schema.get("propertyNames", True)
        for name, inner in value.items():
            self._spend(1 + len(patterns))
            looked = [named[name]] if name in named else []
            looked += [one for pattern, one in patterns.items() if self._matches(pattern, name)]
            if not looked and rest is False:
                yield Wrong((), f"has a property {_shown(name)} that is not known", "properties")
                continue
            for one in looked or [rest]:
                if wrong := self.at(one, inner):
                    yield from _below(name, wrong)
            if names is not True and (wrong := self.at(names, name)):
                words = f"has a property {_shown(name)} whose name {wrong[0].words}"
                yield Wrong((), words, "propertyNames")

    def _required(self, schema: dict[str, Any], value: dict[str, Any]) -> Iterator[Wrong]:
        wanted = schema.get("required", ())
        self._spend(len(wanted) // 8)
        for name in wanted:
            if name not in value:
                yield Wrong((), f"has no property {_shown(name)}", "required")
        for name, others in schema.get("dependentRequired", {}).items():
            for other in others if name in value else ():
                if other not in value:
                    yield Wrong((), f"has {_shown(name)}, but not {_shown(other)}", "required")

    def _array(self, schema: dict[str, Any], value: list[Any]) -> Iterator[Wrong]:
        yield from _counted(schema, len(value), "Items", "items")
        first = schema.get("prefixItems", ())
        for number, (one, inner) in enumerate(zip(first, value, strict=False)):
            yield from _below(number, self.at(one, inner))
        rest = schema.get("items", True)
        if rest is False and len(value) > len(first):
            yield Wrong((), f"has {len(value)} items, at most {len(first)} are allowed", "items")
        elif isinstance(rest, dict):
            for number in range(len(first), len(value)):
                if wrong := self.at(rest, value[number]):
                    yield from _below(number, wrong)
        if schema.get("uniqueItems") is True and (twice := self._repeated(value)) is not None:
            yield Wrong((twice,), "is there twice, the items must differ", "uniqueItems")
        if "contains" in schema:
            fits = sum(not self.at(schema["contains"], inner) for inner in value)
            low, high = schema.get("minContains", 1), schema.get("maxContains", math.inf)
            if not low <= fits <= high:
                words = f"has {fits} items of a wanted kind, {low} to {high} are allowed"
                yield Wrong((), words, "contains")

    def _string(self, schema: dict[str, Any], value: str) -> Iterator[Wrong]:
        yield from _counted(schema, len(value), "Length", "characters")
        if "pattern" in schema and not self._matches(schema["pattern"], value):
            words = f"{_shown(value)} does not match the pattern {_shown(schema['pattern'])}"
            yield Wrong((), words, "pattern")

    def _in_place(self, schema: dict[str, Any], value: Any) -> Iterator[Wrong]:
        if "$ref" in schema:
            yield from self.at(self._find(schema["$ref"]), value)
        for one in schema.get("allOf", ()):
            yield from self.at(one, value)
        if "anyOf" in schema:
            yield from self._any_of(schema["anyOf"], value)
        if "oneOf" in schema:
            yield from self._one_of(schema["oneOf"], value)
        if "not" in schema and not self.at(schema["not"], value):
            yield Wrong((), f"is {_shown(value)}, which the schema excludes by `not`", "not")
        if "if" in schema:
            branch = "else" if self.at(schema["if"], value) else "then"
            yield from self.at(schema.get(branch, True), value)
        for name, one in schema.get("dependentSchemas", {}).items():
            if isinstance(value, dict) and name in value:
                yield from self.at(one, value)

    def _one_of(self, options: list[Any], value: Any) -> Iterator[Wrong]:
        fits = sum(not self.at(one, value) for one in options)
        if not fits:
            yield from self._any_of(options, value)
        elif fits > 1:
            yield Wrong((), f"fits {fits} of the shapes of oneOf, it must fit exactly one", "oneOf")

    def _any_of(self, options: list[Any], value: Any) -> Iterator[Wrong]:
        """Say what is wrong by the alternative that was meant, where only one can have been."""
        tried = []
        for one in options:
            wrong = self.at(one, value)
            if not wrong:
                return
            tried.append(wrong)
        meant = [wrong for wrong in tried if not any(map(_of_another_kind, wrong))]
        if len(meant) == 1:
            yield from meant[0]
            return
        said = list(dict.fromkeys(_line(wrong[0]) for wrong in meant or tried))
        more = ", ..." if len(said) > MOST_SAID else ""
        words = f"fits none of {len(options)} shapes ({', or '.join(said[:MOST_SAID])}{more})"
        yield Wrong((), words, "anyOf")

    def _matches(self, pattern: str, text: str) -> bool:
        """Search a pattern in a text; one that RE2 does not take is let pass (`schemas.OWN`)."""
        if pattern not in self._patterns:
            self._patterns[pattern] = schemas.compiled(pattern)
        self._spend(1 + len(text) // CHARS_PER_STEP)
        found = self._patterns[pattern]
        return found is None or found.search(_encodable(text)) is not None

    def _repeated(self, items: list[Any]) -> int | None:
        """Find the first item that equals an earlier one. By text, whose hashes nobody foresees."""
        seen: set[str] = set()
        for number, item in enumerate(items):
            text = json.dumps(_normal(item), sort_keys=True)
            self._spend(1 + len(text) // CHARS_PER_STEP)
            if text in seen:
                return number
            seen.add(text)
        return None

    def _is_one_of(self, options: list[Any], value: Any) -> bool:
        scalars = self._options.get(id(options))
        if scalars is None:
            self._spend(len(options))
            found = {(one.__class__ is bool, one) for one in options if _is_scalar(one)}
            scalars = self._options[id(options)] = found
        if _is_scalar(value):
            return (value.__class__ is bool, value) in scalars
        return any(self._same(one, value) for one in options)

    def _same(self, one: Any, other: Any) -> bool:
        """Compare as JSON does: 1 is 1.0, and neither is true."""
        self._spend(1)
        if isinstance(one, dict):
            return (
                isinstance(other, dict)
                and one.keys() == other.keys()
                and all(self._same(inner, other[name]) for name, inner in one.items())
            )
        if isinstance(one, list):
            return (
                isinstance(other, list)
                and len(one) == len(other)
                and all(map(self._same, one, other))
            )
        return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)

    def _find(self, ref: str) -> Any:
        if ref not in self._places:
            self._places[ref] = schemas.find(self._root, ref)
        return self._places[ref]

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise _Unfinished("takes too many steps to be checked; make the schema simpler")


def _number(schema: dict[str, Any], value: float) -> Iterator[Wrong]:
    bounds: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
        ("minimum", "at least", lambda number, bound: number >= bound),
        ("maximum", "at most", lambda number, bound: number <= bound),
        ("exclusiveMinimum", "more than", lambda number, bound: number > bound),
        ("exclusiveMaximum", "less than", lambda number, bound: number < bound),
    )
    for keyword, words, fits in bounds:
        bound = schema.get(keyword)
        if bound is not None and not fits(value, bound):
            yield Wrong((), f"must be {words} {_shown(bound)}, not {_shown(value)}", keyword)
    step = schema.get("multipleOf")
    if step is not None and not _is_multiple(value, step):
        yield Wrong((), f"must be a multiple of {_shown(step)}, not {_shown(value)}", "multipleOf")


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    try:
        times = value / step
    except OverflowError:
        return False
    return math.isfinite(times) and math.isclose(times, round(times), rel_tol=1e-12, abs_tol=1e-9)


def _counted(schema: dict[str, Any], count: int, suffix: str, what: str) -> Iterator[Wrong]:
    least, most = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    if least is not None and count < least:
        yield Wrong((), f"has {count} {what}, at least {least} are wanted", f"min{suffix}")
    if most is not None and count > most:
        yield Wrong((), f"has {count} {what}, at most {most} are allowed", f"max{suffix}")


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _below(name: str | int, found: list[Wrong]) -> Iterator[Wrong]:
    for wrong in found:
        yield Wrong((name, *wrong.path), wrong.words, wrong.keyword)


def _of_another_kind(wrong: Wrong) -> bool:
    """Tell that the value was meant for another alternative: another type or another tag."""
    return (not wrong.path and wrong.keyword in {"type", "false"}) or (
        len(wrong.path) < 2 and wrong.keyword in {"const", "enum"}
    )


def _is(name: str, value: Any) -> bool:
    kind = type(value)
    return kind is _TYPES[name][0] or (
        (kind is int and name == "number")
        or (kind is float and name == "integer" and value.is_integer())
    )


def _line(wrong: Wrong) -> str:
    steps = [f"[{step}]" if isinstance(step, int) else _property(step) for step in wrong.path]
    if len(steps) > 2 * MOST_ENDS:
        steps[MOST_ENDS:-MOST_ENDS] = [" ... "]
    place = "".join(steps)
    return f"{place.removeprefix('.')} {wrong.words}" if place else f"the value {wrong.words}"


def _property(name: str) -> str:
    if NAME.fullmatch(name) and len(name) <= MOST_SHOWN_CHARS:
        return f".{name}"
    return f"[{_shown(name)}]"


def _shown(value: Any) -> str:
    """Show a value in a few characters, none of which steers a terminal."""
    if isinstance(value, dict | list):
        return f"{kind_of(value)} of {len(value)}" if value else f"an empty {kind_of(value)[3:]}"
    if isinstance(value, str):
        text = value[:MOST_SHOWN_CHARS] + ("..." if len(value) > MOST_SHOWN_CHARS else "")
        return "'" + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text) + "'"
    text = json.dumps(value)
    return text if len(text) <= MOST_SHOWN_CHARS else f"a number of {len(text)} digits"


def _encodable(text: str) -> str:
    """Replace halves of surrogate pairs, which RE2's UTF-8 cannot carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _normal(value: Any) -> Any:
    """Make numbers that are equal look equal."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_normal(inner) for inner in value]
        case dict():
            return {name: _normal(inner) for name, inner in value.items()}
    return value


def _steps_for(value: Any, each: int) -> int:
    """Measure a value: the steps that a look at it may take.

    Raises:
        _Unfinished: it is not JSON, or nested too deeply.
    """
    values, chars = 1, 0
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        inner: list[Any] = []
        for one in level:
            match one:
                case dict():
                    chars += sum(map(len, one))
                    inner += one.values()
                case list():
                    inner += one
                case str():
                    chars += len(one)
                case float() if not math.isfinite(one):
                    raise _Unfinished(f"holds {one}, which is not JSON")
        if not inner:
            return STEPS + each * (values + chars // CHARS_PER_STEP)
        values += len(inner)
        level = inner
    raise _Unfinished(f"is nested more than {MOST_LEVELS} levels deep")


def _decoded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos} of {len(text)}") from None
    except ValueError as error:  # of our own words, or Python's on an integer of 4,300 digits
        digits = str(error).startswith("Exceeds")
        raise ValueError("a number has too many digits" if digits else str(error)) from None
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep") from None


def _in_prose(text: str) -> Iterator[tuple[int, int]]:
    """Find objects and arrays that decode, each behind the one before."""
    at = 0
    for _ in range(MOST_STARTS):
        starts = [found for found in (text.find("{", at), text.find("[", at)) if found >= 0]
        if not starts:
            return
        start = min(starts)
        try:
            _, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            at = start + 1
            continue
        yield start, end
        at = end


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:MOST_SHOWN_CHARS]} is too large")
    return number


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_TYPES: Final[dict[str, tuple[type, str]]] = {
    "null": (type(None), "null"),
    "boolean": (bool, "a boolean"),
    "integer": (int, "an integer"),
    "number": (float, "a number"),
    "string": (str, "a string"),
    "array": (list, "an array"),
    "object": (dict, "an object"),
}
_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)
