"""Presentations: slides as pages, each with its title, text, tables and notes.

Decides the order: slides as they are shown, shapes as they lie in the file. Numbers, dates and
footers of slides are left out. Pictures and charts are not read; slides with nothing else
are named in the note.
"""

from typing import BinaryIO, Final

from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers.package import Package
from abyme.helpers.readers.prose import CELL_BREAK, join_pages, ranges

MEDIA: Final = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_TITLES: Final = frozenset(("title", "ctrTitle"))
_DROPPED: Final = frozenset(("sldNum", "dt", "ftr", "hdr", "sldImg"))
_SHAPES: Final = frozenset(("sp", "graphicFrame", "pic", "cxnSp"))


class _Slide:
    """The shapes of one slide, or of its notes."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.is_hidden = False
        self._role: str | None = None
        self._lines: list[str] = []
        self._cells: list[str] | None = None
        self._rows: list[str] = []
        self._parts: list[str] = []
        self._indent = 0
        self._in_text = False
        self._skipping = 0

    def start(self, tag: str, about: dict[str, str]) -> None:
        if self._skipping or tag == "Fallback":
            self._skipping += 1
        elif tag in ("sld", "notes"):
            self.is_hidden = about.get("show") in ("0", "false")
        elif tag in _SHAPES:
            self._role, self._lines, self._rows, self._cells = None, [], [], None
        elif tag == "ph":
            self._role = about.get("type", "body")
        elif tag == "tr":
            self._cells = []
        elif tag == "tc":
            self._lines = []
        else:
            self._in_shape(tag, about)

    def _in_shape(self, tag: str, about: dict[str, str]) -> None:
        if tag == "p":
            self._parts, self._indent = [], 0
        elif tag == "pPr":
            level = about.get("lvl", "0")
            self._indent = min(int(level), 8) if level.isdigit() and len(level) < 4 else 0
        elif tag == "t":
            self._in_text = True
        elif tag == "br":
            self._parts.append("\n")

    def end(self, tag: str) -> None:
        if self._skipping:
            self._skipping -= 1
        elif tag == "t":
            self._in_text = False
        elif tag == "p":
            self._line("".join(self._parts).strip())
            self._parts = []
        elif tag == "tc" and self._cells is not None:
            self._cells.append(" ".join(" ".join(self._lines).split("\n")))
            self._lines = []
        elif tag == "tr" and self._cells is not None:
            self._rows.append(CELL_BREAK.join(self._cells))
            self._cells = None
        elif tag in _SHAPES:
            self._shape()

    def text(self, text: str) -> None:
        if self._in_text and not self._skipping:
            self._parts.append(text)

    def _line(self, line: str) -> None:
        if not line:
            return
        is_body = self._role in ("body", "obj") and self._cells is None
        self._lines.append(f"{'  ' * self._indent}- {line}" if is_body else line)

    def _shape(self) -> None:
        lines, role = [*self._lines, *self._rows], self._role
        self._lines, self._rows, self._role = [], [], None
        if not lines or role in _DROPPED:
            return
        if role in _TITLES:
            self.blocks.insert(0, "# " + " ".join(" ".join(lines).split("\n")))
        else:
            self.blocks.append("\n".join(lines))


def read(file: BinaryIO, emit: Emit) -> None:
    """Emit the text.

    Raises:
        Unreadable: encrypted, broken or empty.
    """
    package = Package(file)
    relations = package.relations("").values()
    named = (one.target for one in relations if one.kind == "officeDocument")
    slides = [
        _slide(package, part) for part in _order(package, next(named, "ppt/presentation.xml"))
    ]
    if not any(slides):
        raise Unreadable(f"no text on {len(slides):,} slides" if slides else "broken (no slides)")
    bare = [number for number, text in enumerate(slides, 1) if not text]
    verb = "has" if len(bare) == 1 else "have"
    note = (
        f"{'slide' if len(bare) == 1 else 'slides'} {ranges(bare)} {verb} no text" if bare else None
    )
    text, starts = join_pages(slides)
    emit.document("", text, media=MEDIA, pages=starts, page_word="slide", note=note)


def _order(package: Package, main: str) -> list[str]:
    ids: list[str] = []

    def start(tag: str, about: dict[str, str]) -> None:
        if tag == "sldId":
            ids.append(about.get("id", ""))

    package.parse(main, start)
    links = package.relations(main)
    found = [links[one].target for one in ids if one in links]
    return [part for part in dict.fromkeys(found) if package.has(part)]


def _slide(package: Package, part: str) -> str:
    slide = _Slide()
    package.parse(part, slide.start, slide.end, slide.text)
    blocks = ["(hidden slide)"] if slide.is_hidden and slide.blocks else []
    blocks += slide.blocks
    for link in package.relations(part).values():
        if link.kind == "notesSlide" and package.has(link.target):
            notes = _Slide()
            package.parse(link.target, notes.start, notes.end, notes.text)
            said = "\n".join(notes.blocks)
            blocks += [f"Notes: {said.removeprefix('- ')}"] if said else []
    return "\n\n".join(blocks)
