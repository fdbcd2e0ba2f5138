"""Choices made by bytes, so that a fuzzer which changes a byte changes one choice.

Invariant: never fails; when the bytes are used up every choice is the first one.
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return max(0, len(self._data) - self._at)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def pick(self, things: Sequence[T]) -> T:
        return things[self.byte() % len(things)]

    def some(self) -> bytes:
        """A few of the bytes as they are; the first says how many."""
        size = self.byte()
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken
