"""Words that a guest has chosen and the engine repeats in a line of its own.

Decides what of them may stand there: a bounded number of printable characters on one line.
Controls (a terminal's escapes begin with one), marks that turn the direction of a line,
invisible and unassigned characters, line breaks and lone surrogates go. A name is an
identifier or none; a type is written of letters, digits, dots and underscores, so that none
can pass for a line of the engine's.

Does not decide what a cell's output looks like: that is data, between fences (`fences`).
"""

NAME_CHARS = 60
TYPE_CHARS = 40
NO_NAME = "?"


def plain(text: str, most_chars: int) -> str:
    """Give the printable characters of a text, on one line, cut."""
    line = " ".join(text[: 8 * most_chars].split())
    return "".join(char for char in line if char.isprintable())[:most_chars]


def name(text: str) -> str:
    """Give a name that a guest has sent, if it is one."""
    return plain(text, NAME_CHARS) if text.isidentifier() and text.isprintable() else NO_NAME


def kind(text: str) -> str:
    """Give the name of a type: ``OrderedDict``, ``np.ndarray``."""
    written = (char for char in text[: 8 * TYPE_CHARS] if char.isalnum() or char in "._")
    return "".join(written)[:TYPE_CHARS] or NO_NAME


def name_and_size(text: str, type_name: str, size: int | None) -> str:
    """Word a variable as the model is shown it: ``labels: dict[188]``."""
    return f"{name(text)}: {kind(type_name)}" + (f"[{size:,}]" if size is not None else "")
