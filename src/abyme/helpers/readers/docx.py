"""Word documents: paragraphs, headings, lists with their numbers, tables, notes.

Decides what of a document is its text: what is there when every tracked change is accepted and
nothing hidden is shown. Footnotes, endnotes and comments are behind the text, with a mark at
their places; headers stand before it and footers behind it, each text once.

Read as a stream of XML: python-docx leaves out insertions, text boxes, notes and numbers of lists.
"""

from dataclasses import dataclass, field
from typing import BinaryIO, Final, NamedTuple

from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers.numbering import Numbering
from abyme.helpers.readers.package import Package, Relation
from abyme.helpers.readers.prose import CELL_BREAK
from abyme.helpers.readers.styles import Style, Styles

MEDIA: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_DROPPED: Final = frozenset(
    ("del", "moveFrom", "Fallback", "sectPrChange", "pPrChange", "rPrChange")
)
"""With all that is in them; Fallback says again what another branch has said."""
_OFF: Final = frozenset(("0", "false", "off"))
_SIGNS: Final = {
    "tab": "\t",
    "br": "\n",
    "cr": "\n",
    "noBreakHyphen": "\u2011",
    "softHyphen": "\u00ad",
}
_NOTES: Final = {"footnoteReference": "^", "endnoteReference": "^e", "commentReference": "comment "}
"""What a reference's mark begins with."""
_NOTE_PARTS: Final = (("footnotes", "^"), ("endnotes", "^e"), ("comments", "comment "))


@dataclass(slots=True)
class _Paragraph:
    parts: list[str] = field(default_factory=list)
    style: str = ""
    heading: int | None = None
    list_id: str = ""
    list_depth: int | None = None

    def take(self, tag: str, value: str) -> None:
        """Take one of its properties."""
        if tag == "pStyle":
            self.style = value
        elif tag == "numId":
            self.list_id = value
        elif value.isdigit() and tag == "ilvl":
            self.list_depth = int(value[:3])
        elif value.isdigit() and int(value[:3]) < 9:
            self.heading = int(value[:3]) + 1


class Block(NamedTuple):
    """A finished paragraph or table."""

    text: str
    is_item: bool = False


class Body:
    """One part of a document (its body, a header, the footnotes) as blocks of text."""

    def __init__(self, styles: Styles, numbering: Numbering, links: dict[str, Relation]) -> None:
        self._styles, self._numbering, self._links = styles, numbering, links
        self._sinks: list[list[Block]] = [[]]
        self._paragraphs: list[_Paragraph] = []
        self._rows: list[list[str]] = []
        self._tables: list[list[str]] = []
        self._targets: list[tuple[str, int]] = []
        self._skipping = 0
        self._in_text = False
        self._hidden = False
        self._in_run = False
        self.notes: dict[str, list[Block]] = {}
        """Blocks of each footnote or comment, by id."""
        self.authors: dict[str, str] = {}

    @property
    def blocks(self) -> list[Block]:
        """Everything outside of notes."""
        return self._sinks[0]

    def start(self, tag: str, about: dict[str, str]) -> None:
        """Take an element."""
        if self._skipping or tag in _DROPPED:
            self._skipping += 1
        elif tag == "t":
            self._in_text = not self._hidden
        elif tag == "p":
            self._paragraphs.append(_Paragraph())
        elif tag in ("tbl", "tr", "tc", "footnote", "endnote", "comment"):
            self._open(tag, about)
        elif self._paragraphs:
            self._in_paragraph(tag, about)

    def end(self, tag: str) -> None:
        """Take the end of an element."""
        if self._skipping:
            self._skipping -= 1
        elif tag == "t":
            self._in_text = False
        elif tag == "r":
            self._hidden = self._in_run = False
        elif tag == "p" and self._paragraphs:
            self._finish(self._paragraphs.pop())
        elif tag == "hyperlink" and self._targets:
            self._link(*self._targets.pop())
        elif tag in ("tbl", "tr", "tc", "footnote", "endnote", "comment"):
            self._close(tag)

    def text(self, text: str) -> None:
        """Take characters."""
        if self._in_text and self._paragraphs and not self._skipping:
            self._paragraphs[-1].parts.append(text)

    def _in_paragraph(self, tag: str, about: dict[str, str]) -> None:
        paragraph, value = self._paragraphs[-1], about.get("val", "")
        if tag == "r":
            self._in_run = True
        elif tag in _SIGNS and self._in_run:
            paragraph.parts.append("" if self._hidden else _SIGNS[tag])
        elif tag == "vanish" and self._in_run:
            self._hidden = value not in _OFF
        elif tag in ("pStyle", "outlineLvl", "numId", "ilvl"):
            paragraph.take(tag, value)
        elif tag in _NOTES:
            paragraph.parts.append(f"[{_NOTES[tag]}{about.get('id', '')}]")
        elif tag == "hyperlink":
            link = self._links.get(about.get("id", ""))
            target = link.target if link is not None and link.is_external else ""
            self._targets.append((target, len(paragraph.parts)))
        elif tag == "docPr" and about.get("descr"):
            paragraph.parts.append(f"[image: {' '.join(about['descr'].split())}]")

    def _link(self, target: str, since: int) -> None:
        if target.lower().startswith(("http://", "https://", "mailto:")) and self._paragraphs:
            shown = "".join(self._paragraphs[-1].parts[since:]).strip()
            if shown and shown not in target:
                self._paragraphs[-1].parts.append(f" ({target})")

    def _finish(self, paragraph: _Paragraph) -> None:
        text = "".join(paragraph.parts).strip("\n ")
        style = self._styles.of(paragraph.style) if paragraph.style else Style()
        list_id = paragraph.list_id or style.list_id
        depth = paragraph.list_depth if paragraph.list_depth is not None else style.list_depth or 0
        label = self._numbering.label(list_id, depth) if text and list_id not in ("", "0") else ""
        heading = paragraph.heading or style.heading
        if not text:
            return
        if heading:
            self._sinks[-1].append(Block("#" * heading + " " + label + text.replace("\n", " ")))
        elif list_id not in ("", "0"):
            self._sinks[-1].append(Block("  " * min(depth, 9) + label + text, is_item=True))
        else:
            self._sinks[-1].append(Block(text))

    def _open(self, tag: str, about: dict[str, str]) -> None:
        if tag == "tbl":
            self._tables.append([])
        elif tag == "tr":
            self._rows.append([])
        else:
            self._sinks.append([])
            if tag != "tc":
                ident = about.get("id", "")
                self.notes[ident] = self._sinks[-1]
                self.authors[ident] = about.get("author", "")

    def _close(self, tag: str) -> None:
        if tag == "tbl" and self._tables:
            rows = self._tables.pop()
            if any(row.strip("| ") for row in rows):
                self._sinks[-1].append(Block("\n".join(rows)))
        elif tag == "tr" and self._rows:
            row = CELL_BREAK.join(self._rows.pop())
            if self._tables:
                self._tables[-1].append(row)
        elif len(self._sinks) > 1:
            blocks = self._sinks.pop()
            if tag == "tc" and self._rows:
                self._rows[-1].append(" ".join(block.text for block in blocks).replace("\n", " "))


def joined(blocks: list[Block]) -> str:
    """Join blocks by blank lines, the items of a list by line ends."""
    parts: list[str] = []
    before = False
    for block in blocks:
        if parts:
            parts.append("\n" if before and block.is_item else "\n\n")
        parts.append(block.text)
        before = block.is_item
    return "".join(parts)


class _Document:
    """The parts of one document."""

    def __init__(self, package: Package) -> None:
        relations = package.relations("").values()
        named = (one.target for one in relations if one.kind == "officeDocument")
        self._package = package
        self._main = next(named, "word/document.xml")
        self._links = package.relations(self._main)
        self._styles, self._numbering = Styles(), Numbering()
        for part in self._parts("styles"):
            package.parse(part, self._styles.start)
        for part in self._parts("numbering"):
            package.parse(part, self._numbering.start, self._numbering.end)

    def text(self) -> str:
        main = self._read(self._main)
        pieces = [*self._once("header"), joined(main.blocks)]
        for kind, mark in _NOTE_PARTS:
            pieces += self._notes(kind, mark)
        pieces += self._once("footer")
        return "\n\n".join(piece for piece in pieces if piece)

    def _parts(self, kind: str) -> list[str]:
        found = [link.target for link in self._links.values() if link.kind == kind]
        return [part for part in found if self._package.has(part)]

    def _read(self, part: str) -> Body:
        body = Body(self._styles, self._numbering, self._package.relations(part))
        self._package.parse(part, body.start, body.end, body.text)
        return body

    def _once(self, kind: str) -> list[str]:
        """Give headers or footers, those of the same text once."""
        texts = dict.fromkeys(joined(self._read(part).blocks) for part in self._parts(kind))
        return list(texts)

    def _notes(self, kind: str, mark: str) -> list[str]:
        texts = []
        for body in map(self._read, self._parts(kind)):
            for ident, blocks in body.notes.items():
                author = body.authors[ident]
                said = f" {author}:" if author else ""
                if blocks:
                    texts.append(f"[{mark}{ident}]{said} {joined(blocks)}")
        return texts


def read(file: BinaryIO, emit: Emit) -> None:
    """Emit the text.

    Raises:
        Unreadable: encrypted, broken or empty.
    """
    text = _Document(Package(file)).text()
    if not text.strip():
        raise Unreadable("no text")
    emit.document("", text, media=MEDIA)
