"""The contexts that entries find in their REPLs, one of each shape. Data only."""

from collections.abc import Mapping
from typing import Final

from abyme.sandboxes.self_check.behaviour import ContextShape

LINES: Final = 50_000
TEXT: Final = "".join(f"line {n}: alpha beta gamma\n" for n in range(1, LINES + 1))
"""Of more than a megabyte, so that it is a map of memory where a tier can do that."""

CONTEXTS: Final[Mapping[ContextShape, str | dict[str, str] | list[str]]] = {
    "text": TEXT,
    "documents": {"a.txt": "one\ntwo\n", "b/ü.txt": "drei £ \U0001f600\n", "empty.txt": ""},
    "list": ["first", "", "third"],
}
