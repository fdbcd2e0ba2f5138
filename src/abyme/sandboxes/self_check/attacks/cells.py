"""The cells that attacks are made of.

Decides what counts as refused: an error of the kernel, of the import policy, or of Python. Not a
slip of the attack's own: a name or a syntax that is wrong is an error of the entry.
"""

from typing import Final

from abyme.sandboxes.self_check.behaviour import HELD, HOLE

REFUSALS: Final = "(OSError, ImportError, ValueError, PermissionError)"


def attempt(code: str) -> str:
    """Make a cell that runs statements, which must be refused before they are through."""
    body = "".join(f"    {line}\n" for line in code.splitlines())
    return (
        f"try:\n{body}"
        f"except {REFUSALS} as refusal:\n    print({HELD!r})\n"
        f"else:\n    print({HOLE!r})\n"
    )
