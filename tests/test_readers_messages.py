"""E-mail, mailboxes and notebooks."""

import io
import json
from email.message import EmailMessage

import pytest
from reader_doubles import Kept, read, text_of

from abyme.helpers.emit import Unreadable
from abyme.helpers.readers import mail, mbox, notebook


def message(subject: str = "Grüße", text: str = "Hallo ü\n") -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Jörg <j@e.org>"
    made["To"] = "b@e.org"
    made["Date"] = "Mon, 01 Jan 2024 10:00:00 +0000"
    made["Subject"] = subject
    made.set_content(text)
    return made


HEAD = "From: Jörg <j@e.org>\nTo: b@e.org\nDate: Mon, 01 Jan 2024 10:00:00 +0000\nSubject: Grüße"


def test_a_message_is_its_headers_and_its_plain_text() -> None:
    made = message()
    made.add_alternative("<p>Hallo <b>html</b></p>", subtype="html")

    assert text_of(mail, made.as_bytes()) == f"{HEAD}\n\nHallo ü"


def test_html_is_read_where_there_is_no_plain_text() -> None:
    made = message()
    made.set_content("<style>x</style><h1>A</h1><p>b", subtype="html")

    assert text_of(mail, made.as_bytes()) == f"{HEAD}\n\n# A\n\nb"


def test_an_empty_plain_alternative_is_passed_over() -> None:
    made = message(text="\n")
    made.add_alternative("<p>said", subtype="html")

    assert text_of(mail, made.as_bytes()) == f"{HEAD}\n\nsaid"


def test_attachments_and_forwarded_messages_are_members_without_a_path() -> None:
    made = message()
    made.add_attachment(
        b"%PDF", maintype="application", subtype="pdf", filename="../../etc/r\u00e9sum\u00e9.pdf"
    )
    made.add_attachment("notes", filename="C:\\temp\\notes.txt")
    made.add_attachment(b"1", maintype="application", subtype="x", filename="..")
    made.add_attachment(message("Inner"))

    kept = read(mail, made.as_bytes())

    assert [name for name, _ in kept.members] == [
        "résumé.pdf",
        "notes.txt",
        "part-3.bin",
        "part-4.eml",
    ]
    assert [data for _, data in kept.members][:3] == [b"%PDF", b"notes\n", b"1"]
    assert b"Subject: Inner" in kept.members[3][1]
    [(_, text, _)] = kept.documents
    assert "\nAttachments: résumé.pdf, notes.txt, part-3.bin, part-4.eml\n\nHallo" in text


def test_a_picture_without_a_name_is_called_by_its_kind() -> None:
    made = message()
    made.add_attachment(b"2", maintype="image", subtype="png")

    assert read(mail, made.as_bytes()).members == [("part-1.png", b"2")]


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (b"=?utf-8?q?a_=C3=A9?= =?iso-8859-1?q?=E9?=", "a éé"),
        ("ünfolded".encode(), "ünfolded"),
        (b"w\xe4stern", "wästern"),
        (b"=?unknown?q?=C3=A9?=", "é"),
        (b"=?utf-8?b?!!!?=", "=?utf-8?b?!!!?="),
        (b"two\n lines", "two lines"),
    ],
)
def test_headers_are_decoded_as_far_as_they_can_be(header: bytes, shown: str) -> None:
    assert text_of(mail, b"Subject: " + header + b"\n\nx") == f"Subject: {shown}\n\nx"


@pytest.mark.parametrize(
    ("kind", "body", "shown"),
    [
        ("text/plain; charset=koi8-r", b"\xf0\xd2", "Пр"),
        ("text/plain; charset=nonsense", "é".encode(), "é"),
        ("text/plain; charset=utf-8\nContent-Transfer-Encoding: base64", b"w6k=", "é"),
        ("text/plain\nContent-Transfer-Encoding: base64", b"w6k", "é"),
        ("text/plain\nContent-Transfer-Encoding: quoted-printable", b"a=C3=A9=\n=", "aé"),
        ("text/plain; charset*=x'y'%", b"a", "a"),
    ],
)
def test_bodies_that_are_coded_badly_are_read_as_far_as_they_can_be(
    kind: str, body: bytes, shown: str
) -> None:
    data = f"Subject: s\nContent-Type: {kind}\n\n".encode() + body

    assert text_of(mail, data) == f"Subject: s\n\n{shown}"


def nested(depth: int) -> bytes:
    parts = "".join(
        f"Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n"
        for level in range(depth)
    )
    return f"Subject: s\n{parts}Content-Type: text/plain\n\ndeep\n".encode()


def test_parts_in_parts_are_read_to_a_depth_and_beyond_it_refused() -> None:
    assert text_of(mail, nested(20)) == "Subject: s\n\ndeep"
    with pytest.raises(Unreadable, match=r"^nested too deeply$"):
        read(mail, nested(10_000))


def test_of_ten_thousand_parts_the_first_are_read_and_that_is_said() -> None:
    parts = "--b\n\nx\n" * 10_000
    data = f"Subject: s\nContent-Type: multipart/mixed; boundary=b\n\n{parts}--b--\n".encode()

    [(_, text, facts)] = read(mail, data).documents

    assert (text.count("x"), facts["note"]) == (1_000, "only the first 1,000 parts are read")


@pytest.mark.parametrize("data", [b"", b"\n\nno headers", b"plain text\nof two lines"])
def test_what_has_no_headers_is_no_message(data: bytes) -> None:
    with pytest.raises(Unreadable, match=r"^not a message: it has no headers$"):
        read(mail, data)


BEGIN = b"From a@e.org Thu Jan  1 00:00:00 1970\n"


def test_each_message_of_a_mailbox_is_a_document_named_by_its_number() -> None:
    with_file = message("one")
    with_file.add_attachment(b"1", maintype="x", subtype="y", filename="f.bin")
    second = b"Subject: two\n\n>From here\n>>From there\nFrom now on\n\nFrom nowhere\nend\n"

    kept = read(mbox, BEGIN + with_file.as_bytes() + b"\n" + BEGIN + second)

    assert [name for name, _, _ in kept.documents] == ["0001", "0002"]
    assert kept.documents[1][1] == (
        "Subject: two\n\nFrom here\n>From there\nFrom now on\n\nFrom nowhere\nend"
    )
    assert kept.members == [("0001/f.bin", b"1")]


def test_a_message_that_cannot_be_read_is_skipped_and_the_next_one_read() -> None:
    kept = read(mbox, BEGIN + b"nothing\n\n" + BEGIN + b"Subject: s\n\nx\n")

    assert kept.skips == [("0001", "not a message: it has no headers")]
    assert [name for name, _, _ in kept.documents] == ["0002"]


def test_a_message_beyond_the_limit_is_skipped_without_being_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mbox, "MAX_MESSAGE_BYTES", 1 << 20)
    large = b"Subject: s\n\n" + b"x" * 99 + b"\n"

    kept = read(mbox, BEGIN + large * 20_000 + b"\n" + BEGIN + large)

    assert kept.skips == [("0001", "a message of more than 1 MB")]
    assert [name for name, _, _ in kept.documents] == ["0002"]


def test_a_mailbox_in_which_no_message_begins_is_none() -> None:
    with pytest.raises(Unreadable, match=r"^not a mailbox: no message begins$"):
        read(mbox, b"From here on\nit is prose\n")


def cells(*made: dict, **more: object) -> bytes:
    return json.dumps({"nbformat": 4, "cells": made, **more}).encode()


def test_cells_are_pages_with_code_in_fences_and_outputs_as_text() -> None:
    outputs = [
        {"output_type": "stream", "text": ["1\n", "2\n"]},
        {"output_type": "execute_result", "data": {"image/png": "AAAA", "text/plain": "<Figure>"}},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mE\x1b[0m: v"]},
    ]
    data = cells(
        {"cell_type": "markdown", "source": ["# T\n", "text"]},
        {"cell_type": "code", "source": "f('```')", "outputs": outputs},
        metadata={"language_info": {"name": "julia"}},
    )

    [(_, text, facts)] = read(notebook, data).documents

    assert text.split("\n\n") == [
        "# T\ntext",
        "````julia\nf('```')\n````",
        "```output\n1\n2\n```",
        "[output: image/png]\n```output\n<Figure>\n```",
        "```output\nE: v\n```",
    ]
    assert (facts["pages"], facts["page_word"]) == ([0, 10], "cell")


def test_a_long_output_is_cut_and_says_by_how_much() -> None:
    output = {"output_type": "stream", "text": "x" * 10_000}

    text = text_of(notebook, cells({"cell_type": "code", "source": "", "outputs": [output]}))

    assert text.count("x") == 8_000
    assert "[2,000 characters of output cut]" in text


def test_a_notebook_of_the_third_format_is_read() -> None:
    sheet = {"cells": [{"cell_type": "code", "input": "1", "outputs": []}]}

    assert text_of(notebook, json.dumps({"worksheets": [sheet]}).encode()) == "```python\n1\n```"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "broken (no JSON)"),
        (b"[" * 100_000, "broken (nested too deeply)"),
        (b"[]", "not a notebook: it has no cells"),
        (b'{"cells": 3}', "not a notebook: it has no cells"),
        (b'{"cells": [{"source": 3}, 4]}', "no text"),
    ],
)
def test_a_notebook_that_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        notebook.read(io.BytesIO(data), Kept())

    assert str(caught.value) == reason
