"""How a value and its evidence are written for people."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abyme.apps.safe_text import safe_line
from abyme.core.events import Evidence

if TYPE_CHECKING:
    from abyme.run.usage import Usage

EXCERPT_CHARS = 160
FEW = 3


def as_text(value: object) -> str:
    """Text as it is, anything else as indented JSON."""
    return value if isinstance(value, str) else as_json(value)


def as_json(value: object) -> str:
    """Indented JSON, of a text too."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def place(evidence: Evidence) -> str:
    """``path:line: excerpt``."""
    quote = safe_line(evidence.quote, EXCERPT_CHARS)
    return f"{safe_line(evidence.path)}:{evidence.line}: {quote}"


def left_out(missing: Sequence[str]) -> str:
    """Say which evidence is none."""
    from abyme.apps.amounts import count  # noqa: PLC0415

    quotes = [f"'{safe_line(quote, EXCERPT_CHARS)}'" for quote in missing[:FEW]]
    more = ["..."] if len(missing) > FEW else []
    one = len(missing) == 1
    number = count(len(missing), "piece of evidence", "pieces of evidence")
    words = (
        "was not found in the context and is" if one else "were not found in the context and are"
    )
    return f"{number} {words} left out: {', '.join([*quotes, *more])}"


def spent(status: str, usage: "Usage", run: Path) -> str:
    """How a run ended, what it used, and where it lies."""
    from abyme.apps.cli.usage import in_a_line  # noqa: PLC0415

    return f"{status} · {in_a_line(usage)} · {run}"
