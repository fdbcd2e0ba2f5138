"""Which shape a user wants the answer in, and how the JSON of an answer becomes that.

A shape is a pydantic model or `TypeAdapter` (known by their methods: pydantic is not
imported), anything that `msgspec` describes (a `Struct`, a dataclass, a `TypedDict`,
``list[Row]``), or a JSON Schema as a dict. Invariant: `Shape.make` gives a whole instance or
an error in words, never half of one.

Classes are code of the user's: whatever one raises (`Exception`) is caught here, at settling
time as a `ConfigError`, over an answer as a misfit that the root model is told.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from abyme.core import shapes
from abyme.errors import ConfigError

MOST_SAID: Final = 3
MOST_SAID_CHARS: Final = 600
WHAT: Final = (
    "a schema is a pydantic model, a dataclass or other type that msgspec knows, "
    "or a JSON Schema as a dict"
)


class NoFit(Exception):
    """An answer is not of the shape, in words."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a user wants an answer to be."""

    schema: dict[str, Any]
    """JSON Schema of it, for models, the journal and `core/shapes`."""
    _convert: Callable[[Any], Any]

    def make(self, value: Any) -> Any:
        """Make the instance of an answer's JSON.

        Raises:
            NoFit: it does not fit.
        """
        wrong = shapes.misfit(self.schema, value)
        if wrong is not None:
            raise NoFit(wrong)
        return self._made(value)

    def misfit(self, value: Any) -> str | None:
        """Say in a line why the class does not take what fits its schema; None: it does."""
        try:
            self._made(value)
        except NoFit as error:
            return str(error)
        return None

    def _made(self, value: Any) -> Any:
        try:
            return self._convert(value)
        except Exception as error:
            raise NoFit(_words(error)) from error


def shape_of(given: Any) -> Shape:
    """Settle what the user gave as a schema.

    Raises:
        ConfigError: it is no schema, or one that cannot be kept.
    """
    if isinstance(given, dict):
        return _of_schema(given)
    try:
        return _of_class(given)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{WHAT}; {_named(given)} cannot be one: {_words(error)}") from error


def shape_again(given: Any, recorded: dict[str, Any] | None) -> Shape | None:
    """Settle the shape of a run that goes on: it must be the one that it began with.

    Raises:
        ConfigError: it is another one.
    """
    if given is None:
        return None if recorded is None else Shape(recorded, _as_it_is)
    shape = shape_of(given)
    if shape.schema != recorded:
        raise ConfigError("the run began with another schema; give the same, or none")
    return shape


def _of_schema(given: dict[str, Any]) -> Shape:
    try:
        shapes.check(given, shapes.USER)
    except ValueError as error:
        raise ConfigError(f"the schema cannot be kept: {error}") from None
    return Shape(_copied(given), _as_it_is)


def _of_class(given: Any) -> Shape:
    schema: Any
    convert: Callable[[Any], Any]
    if _has(given, "model_json_schema", "model_validate_json"):  # a model of pydantic 2
        schema, read = given.model_json_schema(), given.model_validate_json
        convert = lambda value: read(json.dumps(value))  # noqa: E731
    elif _has(given, "json_schema", "validate_json"):  # its TypeAdapter
        schema, read = given.json_schema(), given.validate_json
        convert = lambda value: read(json.dumps(value))  # noqa: E731
    elif given is None or isinstance(given, str | bytes | int | float | list | tuple | set):
        raise ConfigError(f"{WHAT}, not {given!r}"[:MOST_SAID_CHARS])
    else:
        import msgspec  # noqa: PLC0415

        schema = msgspec.json.schema(given)
        convert = lambda value: msgspec.convert(value, given)  # noqa: E731
    shapes.check(schema, shapes.OWN)
    return Shape(_copied(schema), convert)


def _has(given: Any, *methods: str) -> bool:
    return all(callable(getattr(given, name, None)) for name in methods)


def _copied(schema: Any) -> dict[str, Any]:
    """Copy a schema to plain JSON, so that what the user does to theirs changes no run."""
    copy: dict[str, Any] = json.loads(json.dumps(schema))
    return copy


def _as_it_is(value: Any) -> Any:
    return value


def _named(given: Any) -> str:
    return str(getattr(given, "__name__", None) or type(given).__name__)


def _words(error: Exception) -> str:
    """Tell an error in a line; pydantic's and their places one by one."""
    errors = getattr(error, "errors", None)
    found: Iterable[Any] = ()
    if callable(errors):
        found = errors()
    said = [
        f"{'.'.join(map(str, one['loc'])) or 'the value'}: {one['msg']}"
        for one in found
        if isinstance(one, dict) and "loc" in one and "msg" in one
    ]
    text = "; ".join(said[:MOST_SAID]) or " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MOST_SAID_CHARS else text[: MOST_SAID_CHARS - 3] + "..."
