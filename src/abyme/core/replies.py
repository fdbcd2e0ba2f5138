"""What a root model's reply holds: one cell to run, or nothing.

Code is taken from the root model's own reply and from nowhere else. The first
runnable fence counts: ``repl``, ``python``, ``py`` or no language, closed or cut
off at the end. A fence inside a triple-quoted string does not close it. What
follows the first block is dropped, and `Reply.dropped` says so.

Does not compile: a reply is never parsed as Python on the host.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

MAX_CHARS = 400_000
"""Of a reply that are looked at: a hundred times what the output cap allows."""
RUNNABLE = frozenset({"", "repl", "python", "py", "python3", "ipython"})

_OPENING = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<lang>[\w+.-]*)(?P<rest>.*)$", re.MULTILINE
)
_QUOTED = re.compile(
    r"#[^\n]*"
    r"|(?P<long>\"{3}|'{3})"
    r'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"?'
    r"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'?",
    re.DOTALL,
)
"""A comment, the beginning of a long string, or a short one, which ends with its line at the
latest. Never fails after it has begun: what failed would be looked at again from every character.
"""
_LONG_ENDS = {quotes: re.compile(rf"\\.|{quotes}", re.DOTALL) for quotes in ('"""', "'''")}
_THINKING = re.compile(r"\A\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reply:
    """A parsed reply."""

    code: str | None
    """The cell, or None when there is nothing to run."""
    kept: str
    """The reply up to the end of the first block, as the transcript keeps it."""
    dropped: str | None
    """What was dropped, in words for the model; None when nothing was."""


def parse(text: str) -> Reply:
    """Find the first block of code that can be run."""
    text = _THINKING.sub("", text[:MAX_CHARS], count=1)
    position = 0
    while opening := _OPENING.search(text, position):
        inline = _inline(opening)
        if inline is not None:
            return _reply(text, inline, opening.end())
        start = min(opening.end() + 1, len(text))
        runs = opening["lang"].lower() in RUNNABLE
        code_end, block_end = _closing(text, start, opening["fence"], python=runs)
        if runs:
            code = _on_fence_line(opening) + text[start:code_end]
            return _reply(text, textwrap.dedent(code) if opening["indent"] else code, block_end)
        position = block_end
    return Reply(None, text.strip(), None)


def _on_fence_line(opening: re.Match[str]) -> str:
    """Return code that stands behind the language; ``{...}`` there is an attribute list."""
    rest = opening["rest"].strip()
    return "" if not rest or rest.startswith("{") else rest + "\n"


def _inline(opening: re.Match[str]) -> str | None:
    """Return the code of a block that opens and closes on one line."""
    rest = opening["rest"].rstrip()
    if not rest.endswith(opening["fence"]):
        return None
    inside = rest.removesuffix(opening["fence"]).rstrip()
    if opening["lang"].lower() in RUNNABLE:
        return inside.strip() or None
    # ```json {...}``` names a language; ```print(1)``` is code that begins with a word
    return None if not inside or inside[0].isspace() else opening["lang"] + inside


def _closing(text: str, start: int, fence: str, *, python: bool) -> tuple[int, int]:
    """Return where the code ends and where the block ends."""
    closing = re.compile(rf"^[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t\r]*$", re.MULTILINE)
    strings = _long_strings(text, start) if python else iter(())
    shadow = (start, start)
    for found in closing.finditer(text, start):
        while shadow[1] <= found.start() and (string := next(strings, None)) is not None:
            shadow = string
        if not shadow[0] < found.start() < shadow[1]:
            return found.start(), found.end()
    return len(text), len(text)


def _long_strings(text: str, position: int) -> Iterator[tuple[int, int]]:
    """Find the long strings; one that is never closed is none, and neither is a later one."""
    ends = dict(_LONG_ENDS)
    while opening := _QUOTED.search(text, position):
        position = opening.end()
        end = ends.get(opening["long"])
        if end is None:
            continue
        for found in end.finditer(text, position):
            if found[0] == opening["long"]:
                yield opening.start(), found.end()
                position = found.end()
                break
        else:
            del ends[opening["long"]]


def _reply(text: str, code: str, end: int) -> Reply:
    if not code.strip():
        return Reply(None, text.strip(), None)
    rest = text[end:].strip()
    if not rest:
        return Reply(code, text[:end].strip(), None)
    fences = sum(1 for m in _OPENING.finditer(rest) if m["lang"].lower() in RUNNABLE)
    more = (fences + 1) // 2  # the last one may be unclosed
    what = f"{more} more block{'s' * (more != 1)}" if more else f"{len(rest):,} characters"
    return Reply(code, text[:end].strip(), f"only the first block ran; {what} after it dropped")
