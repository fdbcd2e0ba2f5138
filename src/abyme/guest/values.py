"""Answers as JSON: what a model hands over, made plain, or refused with what to do.

Decides which values are answers. Tuples, sets and dictionary views become lists,
numpy-like scalars what their `.item()` gives; nothing else is converted, so that
an object's `repr` never becomes an answer by accident.
"""

import json
import math
from collections.abc import Iterable, KeysView, Mapping, ValuesView
from typing import Any, Final

from abyme.wire import has_costly_numbers, has_more_values

MAX_ANSWER_BYTES: Final = 8 << 20
MAX_ANSWER_VALUES: Final = 110_000
"""Of the 120,000 that the host takes, evidence included."""
HEAD_CHARS: Final = 80
LISTS: Final = (list, tuple, set, frozenset, KeysView, ValuesView)


def answer(value: Any) -> Any:
    """Make JSON of the value.

    Raises:
        ValueError: it is empty, or holds what is not JSON.
    """
    plain = _plain(value, 0)
    if plain is None or plain in ("", [], {}) or (isinstance(plain, str) and not plain.strip()):
        raise ValueError(f"an empty answer ({value!r}) is not taken: submit a value")
    return plain


def check_size(frame: dict[str, Any]) -> None:
    """Raise ValueError if an answer with its evidence is too large for the wire."""
    body = json.dumps(frame).encode("ascii")
    if len(body) > MAX_ANSWER_BYTES:
        raise ValueError(f"the answer has {len(body):,} bytes; {MAX_ANSWER_BYTES:,} are allowed")
    if has_more_values(body, MAX_ANSWER_VALUES):
        raise ValueError(f"the answer has more than {MAX_ANSWER_VALUES:,} values")
    if has_costly_numbers(body):
        raise ValueError("the answer has too many numbers with exponents or hundreds of digits")


def describe(value: Any) -> str:
    """Tell an answer's type, size and both ends, in one line."""
    kind = type(value).__name__
    if isinstance(value, str):
        if len(value) <= 2 * HEAD_CHARS:
            return f"{kind}, {len(value):,} characters: {value!r}"
        ends = f"{value[:HEAD_CHARS]!r} ... {value[-HEAD_CHARS:]!r}"
        return f"{kind}, {len(value):,} characters: {ends}"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > 2 * HEAD_CHARS:
        text = f"{text[:HEAD_CHARS]} ... {text[-HEAD_CHARS:]}"
    if isinstance(value, list | dict):
        return f"{kind} of {len(value):,}: {text}"
    return f"{kind}: {text}"


def _plain(value: Any, depth: int) -> Any:
    if depth > 100:
        raise ValueError("the answer is nested too deeply")
    if value is None or isinstance(value, bool | int | float | str):
        return _scalar(value)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, LISTS):
        return _items(value, depth)
    return _converted(value, depth)


def _scalar(value: float | str | None) -> Any:
    """Without the type that a subclass adds."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is not JSON: submit a finite number")
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    return value if value is None or isinstance(value, bool) else int(value)


def _converted(value: Any, depth: int) -> Any:
    for method in ("tolist", "item"):  # numpy, pandas, torch: arrays and scalars
        plain = getattr(value, method, None)
        if callable(plain) and not isinstance(value, type):
            return _plain(plain(), depth + 1)
    name = type(value).__name__
    raise ValueError(f"a value of type {name} is not JSON: submit str, number, bool, list or dict")


def _items(value: Any, depth: int) -> list[Any]:
    items: Iterable[Any] = value
    if isinstance(value, set | frozenset):
        try:
            items = sorted(value)
        except TypeError:
            items = value
    return [_plain(item, depth + 1) for item in items]


def _key(key: Any) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, bool | int | float) or key is None:
        return str(key)
    raise ValueError(f"a {type(key).__name__} cannot be a key of a JSON object: use a str")
