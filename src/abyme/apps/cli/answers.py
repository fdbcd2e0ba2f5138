"""How a value and its evidence are written for people."""

import json

from abyme.apps.safe_text import safe_line
from abyme.core.events import Evidence

EXCERPT_CHARS = 160


def as_text(value: object) -> str:
    """Text as it is, anything else as indented JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def place(evidence: Evidence) -> str:
    """``path:line: excerpt``."""
    quote = safe_line(evidence.quote, EXCERPT_CHARS)
    return f"{safe_line(evidence.path)}:{evidence.line}: {quote}"
