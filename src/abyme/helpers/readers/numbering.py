"""Numbers of lists and headings in a Word document: ``2.1``, ``(a)``, bullets.

Word computes them when it draws; contracts and specifications are cited by them.
Does not know styles: `styles` says which list a paragraph's style belongs to.
"""

import re
from typing import Final, NamedTuple

_PLACE: Final = re.compile(r"%([1-9])")
_ROMAN: Final = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l")),
    *((40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)


class Level(NamedTuple):
    """How one level of a list is numbered."""

    form: str = "decimal"
    pattern: str = ""
    start: int = 1


class Numbering:
    """The lists of a document, and how far each has been counted."""

    def __init__(self) -> None:
        self._levels: dict[str, dict[int, Level]] = {}
        self._lists: dict[str, str] = {}
        self._restarted: set[str] = set()
        self._counts: dict[str, dict[int, int]] = {}
        self._open = ["", ""]  # of the list, of its level, while the part is parsed
        self._level: dict[str, str] = {}

    def start(self, tag: str, about: dict[str, str]) -> None:
        """Take an element of numbering.xml."""
        if tag == "abstractNum":
            self._open = ["abstract", about.get("abstractNumId", "")]
        elif tag == "num":
            self._open = ["num", about.get("numId", "")]
        elif tag == "abstractNumId" and self._open[0] == "num":
            self._lists[self._open[1]] = about.get("val", "")
        elif tag == "startOverride" and self._open[0] == "num":
            self._restarted.add(self._open[1])
        elif tag == "lvl" and self._open[0] == "abstract":
            self._level = {"ilvl": about.get("ilvl", "0")}
        elif tag in ("numFmt", "lvlText", "start"):
            self._level[tag] = about.get("val", "")

    def end(self, tag: str) -> None:
        """Take the end of an element of numbering.xml."""
        if tag == "lvl" and self._open[0] == "abstract":
            seen = self._level
            level = Level(
                seen.get("numFmt", "decimal"), seen.get("lvlText", ""), _int(seen.get("start"), 1)
            )
            self._levels.setdefault(self._open[1], {})[_int(seen.get("ilvl"), 0)] = level

    def label(self, list_id: str, depth: int) -> str:
        """Count a paragraph, and give what stands before it: ``- ``, ``2.1 ``; maybe nothing."""
        abstract = self._lists.get(list_id)
        if abstract is None:
            return ""
        levels = self._levels.get(abstract, {})
        level = levels.get(depth, Level("bullet"))
        if level.form == "bullet":
            return "- "
        counts = self._counts.setdefault(list_id if list_id in self._restarted else abstract, {})
        counts[depth] = counts.get(depth, level.start - 1) + 1
        for deeper in [other for other in counts if other > depth]:
            del counts[deeper]

        def shown(place: re.Match[str]) -> str:
            at = int(place[1]) - 1
            other = levels.get(at, Level())
            return _formed(counts.get(at, other.start), other.form)

        label = _PLACE.sub(shown, level.pattern)
        return f"{label} " if label.strip() and level.form != "none" else ""


def _formed(number: int, form: str) -> str:
    letters = form in ("lowerLetter", "upperLetter")
    if letters and number > 0:
        text = chr(ord("a") + (number - 1) % 26) * min((number - 1) // 26 + 1, 20)
    elif form in ("lowerRoman", "upperRoman") and 0 < number < 4000:
        text, left = "", number
        for value, sign in _ROMAN:
            text += sign * (left // value)
            left %= value
    else:
        text = f"{number:02}" if form == "decimalZero" else str(number)
    return text.upper() if form.startswith("upper") else text


def _int(text: str | None, default: int) -> int:
    try:
        return int(text or "") if len(text or "") < 10 else default
    except ValueError:
        return default
