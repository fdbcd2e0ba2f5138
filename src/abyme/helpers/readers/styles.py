"""What the styles of a Word document say of a paragraph: its heading level, its list."""

import re
from dataclasses import dataclass
from typing import Final

_HEADING: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)
_MAX_BASES: Final = 20


@dataclass(slots=True)
class Style:
    """One paragraph style; None and "" mean: as the style that it is based on."""

    based_on: str = ""
    heading: int | None = None
    list_id: str = ""
    list_depth: int | None = None


class Styles:
    """The styles of a document, by id."""

    def __init__(self) -> None:
        self._styles: dict[str, Style] = {}
        self._open = Style()

    def start(self, tag: str, about: dict[str, str]) -> None:
        """Take an element of styles.xml."""
        value = about.get("val", "")
        if tag == "style":
            self._open = self._styles[about.get("styleId", "")] = Style()
        elif tag == "name":
            match = _HEADING.fullmatch(value)
            if match:
                self._open.heading = int(match[1])
            elif value.lower() == "title":
                self._open.heading = 1
        elif tag == "basedOn":
            self._open.based_on = value
        elif tag == "outlineLvl" and value.isdigit() and self._open.heading is None:
            self._open.heading = int(value[:3]) + 1 if int(value[:3]) < 9 else None
        elif tag == "numId":
            self._open.list_id = value
        elif tag == "ilvl" and value.isdigit():
            self._open.list_depth = int(value[:3])

    def of(self, style_id: str) -> Style:
        """Give what holds for a paragraph of a style, with what it is based on."""
        found = Style()
        for _ in range(_MAX_BASES):
            style = self._styles.get(style_id)
            if style is None:
                break
            found.heading = style.heading if found.heading is None else found.heading
            found.list_id = found.list_id or style.list_id
            found.list_depth = style.list_depth if found.list_depth is None else found.list_depth
            style_id = style.based_on
        return found
