r"""A record as one line of JSON, and back.

Decides the encoding: UTF-8 JSON without line breaks. A text with a lone surrogate,
which UTF-8 cannot hold, turns its whole line into ASCII with ``\uXXXX`` escapes.

Invariant: `decode(encode(x)) == x` for everything JSON can say. What it cannot say is
lost as in every JSON: a high surrogate followed by a low one becomes the one character
they stand for, NaN and the infinities become null. Does not check the order of records.
"""

import json
from typing import Any, TypeVar

import msgspec

from abyme.errors import JournalError

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder()


def encode(value: object) -> bytes:
    """One line, without its newline.

    Raises:
        JournalError: if the value is nested too deeply or is no JSON at all.
    """
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _encode_ascii(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"cannot be written as JSON: {error}") from None


def decode(line: bytes, kind: type[T]) -> T:
    """Read one line back as `kind`.

    Raises:
        ValueError: if it is not JSON, or not of this kind.
    """
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except msgspec.DecodeError:
        return convert(decode_plain(line), kind)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode_plain(line: bytes) -> Any:
    """Read JSON as plain values, lone surrogates included.

    Raises:
        ValueError: if it is not JSON.
    """
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def convert(plain: Any, kind: type[T]) -> T:
    """Plain values -> `kind`.

    Raises:
        ValueError: if they do not fit.
    """
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _encode_ascii(value: object) -> bytes:
    try:
        plain = msgspec.to_builtins(value)
        return json.dumps(_finite(plain), separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"cannot be written as JSON: {error}") from None


def _finite(plain: Any) -> Any:
    """Copy with NaN and infinities as None, which is what the fast encoder writes too."""
    if isinstance(plain, float):
        return plain if plain - plain == 0 else None
    if isinstance(plain, dict):
        return {key: _finite(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_finite(value) for value in plain]
    return plain
