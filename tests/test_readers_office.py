"""Word documents and presentations, as an editor shows them when every change is accepted."""

import io

import docx as python_docx
import pptx as python_pptx
import pytest
from docx.oxml import parse_xml
from reader_doubles import read, text_of, zipped

from abyme.helpers.emit import Unreadable
from abyme.helpers.readers import docx, pptx

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
ROOT = (
    '<Relationships><Relationship Id="r" Type="x/officeDocument" Target="DIR.xml"/></Relationships>'
)


def saved(document) -> bytes:
    held = io.BytesIO()
    document.save(held)
    return held.getvalue()


def word(body: str, links: str = "", **parts: str) -> bytes:
    """A document of hand-made parts, each named by its kind."""
    listed = "".join(
        f'<Relationship Id="{kind}" Type="x/{kind}" Target="{kind}.xml"/>' for kind in parts
    )
    return zipped(
        {
            "_rels/.rels": ROOT.replace("DIR", "word/document"),
            "word/_rels/document.xml.rels": f"<Relationships>{listed}{links}</Relationships>",
            "word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>",
            **{
                f"word/{kind}.xml": f"<w:{kind} {W}>{xml}</w:{kind}>" for kind, xml in parts.items()
            },
        }
    )


def p(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def test_a_document_as_word_writes_it() -> None:
    document = python_docx.Document()
    document.add_heading("Title", 0)
    document.add_heading("Part", 2)
    document.add_paragraph("Some ").add_run("bold\ttext").bold = True
    for style in ("List Bullet", "List Bullet", "List Number", "List Number"):
        document.add_paragraph("item", style=style)
    table = document.add_table(2, 2)
    table.cell(0, 0).text, table.cell(0, 1).text, table.cell(1, 1).text = "a", "b\nc", "d"
    document.sections[0].header.paragraphs[0].text = "Header"
    document.sections[0].footer.paragraphs[0].text = "Footer"

    assert text_of(docx, saved(document)).split("\n\n") == [
        "Header",
        "# Title",
        "## Part",
        "Some bold\ttext",
        "- item\n- item\n1. item\n2. item",
        "a | b c\n | d",
        "Footer",
    ]


def test_tracked_changes_are_accepted_and_hidden_text_is_not_shown() -> None:
    document = python_docx.Document()
    document.element.body.insert(
        0,
        parse_xml(
            f"<w:p {W}><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
            "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
            "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>"
            "<w:ins><w:r><w:t>inserted</w:t></w:r></w:ins>"
            '<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t xml:space="preserve"> shown</w:t></w:r>'
            "</w:p>"
        ),
    )

    assert text_of(docx, saved(document)) == "inserted shown"


def test_numbers_of_clauses_are_counted_as_word_does() -> None:
    levels = "".join(
        f'<w:lvl w:ilvl="{depth}"><w:start w:val="1"/><w:numFmt w:val="{form}"/>'
        f'<w:lvlText w:val="{pattern}"/></w:lvl>'
        for depth, (form, pattern) in enumerate(
            [
                ("decimal", "%1."),
                ("decimal", "%1.%2"),
                ("lowerLetter", "(%3)"),
                ("upperRoman", "%4"),
            ]
        )
    )
    numbering = (
        f'<w:abstractNum w:abstractNumId="9">{levels}</w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="9"/></w:num>'
    )
    styles = (
        '<w:style w:styleId="B"><w:name w:val="heading 1"/><w:pPr><w:numPr><w:numId w:val="1"/>'
        '</w:numPr></w:pPr></w:style><w:style w:styleId="C"><w:basedOn w:val="B"/></w:style>'
    )
    body = p("One", '<w:pStyle w:val="C"/>')
    for depth in (1, 1, 2, 2, 3, 0, 1):
        at = f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="1"/></w:numPr>'
        body += p("x", at)

    assert text_of(docx, word(body, numbering=numbering, styles=styles)) == (
        "# 1. One\n\n  1.1 x\n  1.2 x\n    (a) x\n    (b) x\n      I x\n2. x\n  2.1 x"
    )


def test_notes_and_comments_stand_behind_the_text_and_their_marks_at_their_places() -> None:
    body = (
        "<w:p><w:r><w:t>Claim</w:t></w:r><w:r><w:footnoteReference w:id='2'/></w:r>"
        "<w:r><w:commentReference w:id='0'/></w:r></w:p>"
    )
    notes = "<w:footnote w:id='-1'><w:p/></w:footnote>"
    notes += f"<w:footnote w:id='2'>{p('Source')}</w:footnote>"
    comments = f"<w:comment w:id='0' w:author='Ann'>{p('Sure?')}</w:comment>"

    assert text_of(docx, word(body, footnotes=notes, comments=comments)) == (
        "Claim[^2][comment 0]\n\n[^2] Source\n\n[comment 0] Ann: Sure?"
    )


def test_text_boxes_are_read_once_and_tables_in_cells_are_flat() -> None:
    box = f"<w:r><w:pict><w:txbxContent>{p('boxed')}</w:txbxContent></w:pict></w:r>"
    both = f"<AlternateContent><Choice>{box}</Choice><Fallback>{box}</Fallback></AlternateContent>"
    inner = f"<w:tbl><w:tr><w:tc>{p('1')}</w:tc><w:tc>{p('2')}</w:tc></w:tr></w:tbl>"
    body = f"<w:p><w:r><w:t>around</w:t></w:r>{both}</w:p>"
    body += f"<w:tbl><w:tr><w:tc>{p('a')}{inner}</w:tc><w:tc>{p('b')}</w:tc></w:tr></w:tbl>"

    assert text_of(docx, word(body)) == "boxed\n\naround\n\na 1 | 2 | b"


def test_a_link_has_its_target_behind_it() -> None:
    link = (
        '<Relationship Id="r9" Type="x/hyperlink" Target="https://e.org/" TargetMode="External"/>'
    )
    body = (
        '<w:p xmlns:r="urn:r"><w:hyperlink r:id="r9"><w:r><w:t>here</w:t></w:r></w:hyperlink></w:p>'
    )

    assert text_of(docx, word(body, links=link)) == "here (https://e.org/)"


def test_slides_are_pages_with_their_titles_tables_and_notes() -> None:
    show = python_pptx.Presentation()
    first = show.slides.add_slide(show.slide_layouts[1])
    first.shapes.title.text = "Plan"
    first.placeholders[1].text = "point"
    below = first.placeholders[1].text_frame.add_paragraph()
    below.text, below.level = "sub", 1
    first.notes_slide.notes_text_frame.text = "say this"
    show.slides.add_slide(show.slide_layouts[6])
    last = show.slides.add_slide(show.slide_layouts[5])
    last.shapes.title.text = "Table"
    table = last.shapes.add_table(2, 2, 0, 0, 9999, 9999).table
    table.cell(0, 0).text, table.cell(0, 1).text, table.cell(1, 1).text = "a", "b", "c"
    last._element.set("show", "0")

    [(_, text, facts)] = read(pptx, saved(show)).documents

    assert text.split("\n\f\n") == [
        "# Plan\n\n- point\n  - sub\n\nNotes: say this",
        "",
        "(hidden slide)\n\n# Table\n\na | b\n | c",
    ]
    assert (facts["page_word"], facts["note"]) == ("slide", "slide 2 has no text")
    assert facts["pages"] == [0, text.index("\n\f\n") + 3, text.index("(hidden")]


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {new} "{("&" + old + ";") * 10}">'
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]><x>&i;</x>"
)


@pytest.mark.parametrize("reader", [docx, pptx])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (zipped({"_rels/.rels": BOMB}), "its XML declares entities"),
        (
            zipped(
                {"_rels/.rels": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hosts">]><x>&e;</x>'}
            ),
            "its XML declares entities",
        ),
        (zipped({"_rels/.rels": "<x>" * 100_000}), "nested too deeply"),
        (zipped({"_rels/.rels": "<a>"}), "broken (XML: no element found: line 1, column 3)"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
            "encrypted, or in the format of Office 97",
        ),
        (b"PK\x05\x06", "broken (File is not a zip file)"),
        (b"", "broken (File is not a zip file)"),
    ],
)
def test_what_cannot_be_read_says_why(reader, data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(reader, data)

    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("reader", "data", "reason"),
    [
        (docx, zipped({"a": "b"}), "broken (no word/document.xml)"),
        (docx, word("<w:p/>"), "no text"),
        (pptx, zipped({"ppt/presentation.xml": "<x/>"}), "broken (no slides)"),
        (pptx, saved(python_pptx.Presentation()), "broken (no slides)"),
    ],
)
def test_a_document_without_text_is_no_text(reader, data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(reader, data)

    assert str(caught.value) == reason


def test_a_part_that_lies_about_its_checksum_is_broken() -> None:
    data = bytearray(word(p("text" * 100)))
    at = data.index(b"word/document.xml") + len("word/document.xml")
    data[at + 5] ^= 0xFF

    with pytest.raises(Unreadable, match=r"^broken \("):
        read(docx, bytes(data))
