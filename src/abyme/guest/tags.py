"""Whether dicts are as they were, told without looking into them.

Looking at a value writes its reference count, so after a fork its page is copied: a hundred
pages for what a cell hardly ever changes. CPython 3.11 and 3.12 give each dict a number that is
another one after every change (PEP 509); where that is not so, as a test at the start finds out,
every answer is that something may have changed.
"""

import sys
from collections.abc import Sequence
from typing import Any, Final

TAG_AT: Final = 24
"""Of `ma_version_tag` in a dict: behind reference count, type and number of items."""
PYTHONS: Final = ((3, 11), (3, 12))


class Tags:
    """Remembers the numbers of some dicts, which must live as long."""

    def __init__(self, dicts: Sequence[dict[Any, Any]]) -> None:
        self._numbers = [_number(one) for one in dicts] if _work() else []
        self._seen: list[int] = []

    def remember(self) -> None:
        """Take them as they are now for unchanged."""
        self._seen = [number.value for number in self._numbers]

    def may_have_changed(self) -> bool:
        """Tell whether any is another than it was; True where nobody can tell."""
        return not self._numbers or [number.value for number in self._numbers] != self._seen


def _number(of: dict[Any, Any]) -> Any:
    import ctypes  # noqa: PLC0415 - there is none in WebAssembly, where no dict has a number

    return ctypes.c_uint64.from_address(id(of) + TAG_AT)


def _work() -> bool:
    if sys.implementation.name != "cpython" or sys.version_info[:2] not in PYTHONS:
        return False
    probe: dict[str, object] = {"a": 1}
    number, values = _number(probe), []
    for value in (2, 3):
        probe["a"] = value
        values.append(number.value)
        probe.get("a")
        values.append(number.value)
    return bool(values[0] == values[1] != values[2] == values[3])
