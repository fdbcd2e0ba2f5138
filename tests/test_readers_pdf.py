"""PDF: the text layer with its pages, and what has none said."""

import pytest
from reader_doubles import pdf, pdf_of, read, text_of

from abyme.helpers.emit import Unreadable
from abyme.helpers.readers import pdf as reader


def facts(data: bytes) -> dict:
    [(_, _, facts)] = read(reader, data).documents
    return facts


def test_pages_are_apart_by_a_form_feed_and_each_begins_where_the_map_says() -> None:
    [(_, text, facts)] = read(reader, pdf([["one", "two"], [], ["three"]])).documents

    assert text == "one\ntwo\n\f\n\n\f\nthree"
    assert facts == {"media": "application/pdf", "pages": [0, 10, 13], "note": None}
    assert [text[start : start + 3] for start in facts["pages"]] == ["one", "\n\f\n", "thr"]


def test_a_word_that_was_hyphenated_at_a_line_end_is_whole() -> None:
    assert text_of(reader, pdf([["this is an exam-", "ple of it"]])) == "this is an example of it"


def test_a_hyphen_that_the_document_writes_elsewhere_stays() -> None:
    lines = ["a well-known thing is well-", "known and pages 20-", "30"]

    assert text_of(reader, pdf([lines])) == "a well-known thing is well-known and pages 20-\n30"


def test_pages_without_text_are_named_and_empty_ones_are_not() -> None:
    pages = [["text"], None, [], None, None]

    assert facts(pdf(pages))["note"] == "pages 2, 4-5 have no text (scans?)"
    assert facts(pdf([["text"], None]))["note"] == "page 2 has no text (scans?)"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pdf([None, None, None]), "no text: 3 scanned pages"),
        (pdf([[]]), "no text: its pages are empty"),
        (b"%PDF-1.4 and nothing that follows", "broken (not a PDF that can be parsed)"),
        (pdf([["text"]])[:200], "broken (not a PDF that can be parsed)"),
        (b"", "broken (not a PDF that can be parsed)"),
        (
            pdf(
                [["text"]],
                f"/Encrypt << /Filter /Standard /V 1 /R 2 /P -44 /O <{'41' * 32}>"
                f" /U <{'42' * 32}> >> /ID [<4142> <4142>]",
            ),
            "encrypted",
        ),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(reader, data)

    assert str(caught.value) == reason


def test_a_page_tree_that_leads_back_to_itself_ends() -> None:
    loop = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1000 /Kids [2 0 R 3 0 R] >>",
        b"<< /Type /Pages /Count 5 /Parent 2 0 R /Kids [2 0 R] >>",
    ]

    with pytest.raises(Unreadable, match=r"^(broken \(no page can be parsed\)|no text)"):
        read(reader, pdf_of(loop))
