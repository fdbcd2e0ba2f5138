"""Counts many documents by kind and folder, and names the largest and some others.

Invariant: a few passes over names and sizes; a name stands between quotes, a kind is a short
plain suffix or counted among the others.
Does not read texts.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from abyme.contexts.counts import Counts
from abyme.contexts.excerpts import quoted

_FEW: Final = 24
"""So many documents are listed one by one, if that is short."""
_KINDS: Final = 6
_FOLDERS: Final = 8
_MOST_FOLDERS: Final = 16
_OPENED: Final = 4
_DEEP_FOLDERS: Final = 2000
"""With more folders than these only the topmost are told apart."""
_NAMES: Final = 12
_USUAL_LINE: Final = 200
"""No line beyond is nothing to tell."""
_SPREAD: Final = 6
_HOLDERS: Final = frozenset(
    {"db", "mbox", "ods", "sqlite", "sqlite3", "xls", "xlsb", "xlsm", "xlsx"}
)
"""Files whose parts are documents without a suffix of their own."""
_PLAIN: Final = re.compile(r"[a-z0-9_+-]{1,12}")


def census(names: Sequence[str], sizes: Sequence[int], counted: Counts, room: int) -> list[str]:
    """Describe documents in a few lines of at most `room` characters together."""
    if len(names) == 1:
        return [line for line in (_longest(names, counted),) if line]
    if len(names) <= _FEW:
        sized = [f"{quoted(name)} {size:,}" for name, size in zip(names, sizes, strict=True)]
        whole = f"names and characters: {', '.join(sized)}"
        if len(whole) < room * 9 // 10:
            return [line for line in (whole, _longest(names, counted)) if line]
    lines = [_kinds(names), _folders(names), *_largest(names, sizes, counted), _empty(names, sizes)]
    shown = [line for line in lines if 0 < len(line) < room // 2]
    return [*shown, _names(names, room // 3)]


def _kinds(names: Sequence[str]) -> str:
    suffixes = Counter([_suffix(name) for name in names])
    kinds: Counter[str] = Counter()
    for suffix, count in suffixes.items():
        plain = _PLAIN.fullmatch(suffix.lower())
        kinds[f".{plain[0]}" if plain else "others"] += count
    if len(kinds) == 1:
        return ""  # the names show it
    others = kinds.pop("others", 0)
    rest = others + sum(count for _, count in kinds.most_common()[_KINDS:])
    shown = [f"{kind} {count:,}" for kind, count in kinds.most_common(_KINDS)]
    return f"kinds: {', '.join(shown)}" + (f", others {rest:,}" if rest else "")


def _suffix(name: str) -> str:
    """Take what is behind the last dot; of a sheet or a table that of the file it is in."""
    suffix = name.rpartition(".")[2] if "." in name else ""
    holder = suffix.partition("/")[0]
    return holder if holder.lower() in _HOLDERS else suffix


def _folders(names: Sequence[str]) -> str:
    """Count folders; the largest are opened as long as that leaves a few."""
    holds = Counter([name.rpartition("/")[0] for name in names])
    here = holds.pop("", 0)
    if len(holds) > _DEEP_FOLDERS:
        folders = Counter([f"{folder.partition('/')[0]}/" for folder in holds.elements()])
    else:
        folders = _below(holds, "")
    for _ in range(_OPENED if len(holds) <= _DEEP_FOLDERS else 0):
        for folder, _count in folders.most_common(_FOLDERS):
            inside = _below(holds, folder)
            if set(inside) - {f"{folder}*"} and len(folders) + len(inside) <= _MOST_FOLDERS:
                del folders[folder]
                folders += inside
                break
    if len(folders) + bool(here) < 2:
        return ""
    shown = [f"{quoted(folder)} {count:,}" for folder, count in folders.most_common(_FOLDERS)]
    if rest := len(folders) - len(shown):
        shown.append(f"{rest:,} more folders")
    if here:
        shown.append(f"in none {here:,}")
    return f"folders: {', '.join(shown)}"


def _below(holds: Mapping[str, int], above: str) -> "Counter[str]":
    """Count what the folders right below `above` hold; what `above` holds itself is ``above*``."""
    found: Counter[str] = Counter()
    for folder, count in holds.items():
        path = f"{folder}/"
        if path == above:
            found[f"{above}*"] += count
        elif path.startswith(above):
            found[above + path[len(above) :].partition("/")[0] + "/"] += count
    return found


def _largest(names: Sequence[str], sizes: Sequence[int], counted: Counts) -> list[str]:
    """Name the largest documents: by characters, and by lines if that is another one."""
    said = []
    large = max(range(len(sizes)), key=sizes.__getitem__)
    most = large
    if counted.lines_of is not None:
        most = max(range(len(sizes)), key=counted.lines_of.__getitem__)
        lines = counted.lines_of[most]
    if counted.lines_of is not None and most == large:
        said.append(
            f"largest: {quoted(names[large])}, {sizes[large]:,} characters, {lines:,} lines"
        )
    else:
        said.append(f"most characters: {quoted(names[large])} ({sizes[large]:,})")
        if most != large:
            said[0] += f"; most lines: {quoted(names[most])} ({lines:,})"
    if longest := _longest(names, counted):
        said.append(longest)
    return said


def _longest(names: Sequence[str], counted: Counts) -> str:
    chars, document, line = counted.longest
    if chars <= _USUAL_LINE:
        return ""
    seen = "" if counted.exact else " seen"
    where = "in" if line is None else f"line {line:,} of"
    return f"longest line{seen}: {chars:,} characters, {where} {quoted(names[document])}"


def _empty(names: Sequence[str], sizes: Sequence[int]) -> str:
    empty = [document for document, size in enumerate(sizes) if size == 0]
    if not empty:
        return ""
    return f"empty: {len(empty):,}, such as {quoted(names[empty[0]])}"


def _names(names: Sequence[str], room: int) -> str:
    """Name all, or the first two and some at equal distances up to the last."""
    count = len(names)
    every = f"names: {', '.join(map(quoted, names[:_NAMES]))}"
    if count <= _NAMES and len(every) <= room:
        return every
    for many in range(_SPREAD, 1, -1):
        at = sorted({0, 1, *(n * (count - 1) // (many - 1) for n in range(many))})
        shown = "names: "
        for before, position in zip([-1, *at], at, strict=False):
            gap = ", " if position == before + 1 else ", ..., "
            shown += (gap if position else "") + quoted(names[position])
        if len(shown) <= room:
            break
    return shown
