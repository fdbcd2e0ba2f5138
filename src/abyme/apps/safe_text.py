"""Make text that came from documents or models harmless to show.

Decides which characters a terminal never gets from us: controls (ANSI and OSC
sequences begin with one), the C1 block that some terminals read as controls too, the
marks that reverse the direction of a line so that it reads as something else, and
lone surrogates, which no terminal can be sent. Each becomes its visible escape.

Invariant: what `safe` returns can be encoded as UTF-8 and has no controls but newline
and tab; `safe_line` has not even these. Does not judge meaning.
"""

import re
from typing import Final

_UNSAFE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    r"\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # direction, line breaks
    r"\ufff9-\ufffb\U000e0000-\U000e007f"  # interlinear marks, invisible tags
    r"\ud800-\udfff]"
)
_BREAKS: Final = re.compile(r"\s*\n\s*|\t")


def safe(text: str) -> str:
    """Show every dangerous character of a text of several lines as an escape."""
    return _UNSAFE.sub(_escape, text.replace("\r\n", "\n"))


def safe_line(text: str, width: int | None = None) -> str:
    """Bring the same to one line, cut to `width` characters with an ellipsis."""
    line = safe(_BREAKS.sub(" ", text.strip()))
    if width is not None and len(line) > width:
        line = line[: max(0, width - 1)] + "…"
    return line


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
