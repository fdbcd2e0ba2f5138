"""A model whose replies never hold an API key of the run, though its provider repeats it.

Decides what stands in a key's place. Invariant: no key reaches a journal, a cell or a
terminal, whole or in pieces of a stream. A key that comes back changed (split up, encoded)
is not recognised.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Final

from abyme.errors import ModelError
from abyme.ports import Model, ModelReply, ModelRequest

CUT: Final = "[API key]"
LEAST_CHARS: Final = 8
"""Anything shorter is a placeholder for servers that need no key, and may be a word."""


class Redacted:
    """Implements `ports.Model` over another one."""

    def __init__(self, model: Model, keys: Iterable[str | None]) -> None:
        self._model = model
        found = {key for key in keys if key and len(key) >= LEAST_CHARS}
        self._keys = tuple(sorted(found, key=len, reverse=True))

    async def complete(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """One attempt, see `ports.Model`."""
        sieve = None if on_text is None or not self._keys else Sieve(on_text, self._keys)
        try:
            reply = await self._model.complete(request, sieve or on_text)
        except ModelError as error:
            error.args = (cut(str(error), self._keys),)
            raise
        if sieve is not None:
            sieve.end()
        text, finish = cut(reply.text, self._keys), cut(reply.finish, self._keys)
        doubts = reply.doubts if text == reply.text else None  # their places have moved
        return dataclasses.replace(reply, text=text, finish=finish, doubts=doubts)

    async def aclose(self) -> None:
        """Close the model beneath."""
        await self._model.aclose()


class Sieve:
    """Passes pieces of a text on, but holds back what may be the beginning of a key."""

    def __init__(self, on_text: Callable[[str], None], keys: tuple[str, ...]) -> None:
        self._on_text, self._keys = on_text, keys
        self._held = ""

    def __call__(self, piece: str) -> None:
        """Take a piece."""
        text = cut(self._held + piece, self._keys)
        held = max(_begun(text, key) for key in self._keys)
        self._held = text[len(text) - held :]
        if len(text) > held:
            self._on_text(text[: len(text) - held])

    def end(self) -> None:
        """Pass on what turned out to be no key."""
        if self._held:
            self._on_text(self._held)


def cut(text: str, keys: tuple[str, ...]) -> str:
    """Put a mark in place of every key."""
    for key in keys:
        if key in text:
            text = text.replace(key, CUT)
    return text


def _begun(text: str, key: str) -> int:
    """How many characters at the end of a text begin a key."""
    longest = min(len(text), len(key) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(key[:n])), 0)
