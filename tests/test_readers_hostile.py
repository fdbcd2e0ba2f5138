"""Documents that attack their readers, read where they are read in a run: confined.

Contract: each ends as text or as `Unreadable` with a reason, and the next document reads right.
"""

import os
import random
import tempfile
from collections.abc import Iterator

import pytest
from reader_doubles import PICTURE, pdf, pdf_of, zipped

from abyme.contexts import kinds
from abyme.contexts.kinds import Kind
from abyme.contexts.reading import DocumentItem, Item, Readers, ReadLimits, Unreadable

WORD = "<w:document xmlns:w='urn:w'><w:p><w:r><w:t>fine</w:t></w:r></w:p></w:document>"
SHOW = "<p:p xmlns:p='urn:p' xmlns:r='urn:r'><p:sldId id='256' r:id='1'/></p:p>"
SLIDE = "<p:sld xmlns:p='urn:p'><p:sp><p:p><p:t>fine</p:t></p:p></p:sp></p:sld>"
BOOK = "<package><item id='1' href='c.html' media-type='text/html'/><itemref idref='1'/></package>"
GOOD: list[tuple[Kind, bytes]] = [
    (kinds.PDF, pdf([["fine"]])),
    (kinds.DOCX, zipped({"word/document.xml": WORD})),
    (
        kinds.PPTX,
        zipped(
            {
                "ppt/presentation.xml": SHOW,
                "ppt/_rels/presentation.xml.rels": "<R><Relationship Id='1' Target='s.xml'/></R>",
                "ppt/s.xml": SLIDE,
            }
        ),
    ),
    (kinds.HTML, b"<title></title><p>fine</p>"),
    (
        kinds.EPUB,
        zipped(
            {
                "META-INF/container.xml": "<c><rootfile full-path='b.opf'/></c>",
                "b.opf": BOOK,
                "c.html": "<p>fine",
            }
        ),
    ),
    (kinds.MAIL, b"Subject: =?utf-8?q?fine?=\nContent-Type: text/html\n\n<p>fine"),
    (kinds.MBOX, b"From a@e.org Thu Jan  1 00:00:00 1970\nSubject: fine\n\nfine\n"),
    (kinds.NOTEBOOK, b'{"cells": [{"cell_type": "markdown", "source": "fine"}]}'),
]
MUTANTS = 12
"""Of each file: bytes changed, doubled, cut, by a seed that is the same each time."""


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    with Readers() as made:
        yield made


def items(
    readers: Readers, kind: Kind, data: bytes, limits: ReadLimits | None = None
) -> list[Item]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return list(readers.open(file.fileno(), kind, "a/file", limits))


def mutant(data: bytes, seed: int) -> bytes:
    chance = random.Random(seed)
    changed = bytearray(data)
    for _ in range(chance.randint(1, 20)):
        at = chance.randrange(len(changed))
        match chance.randrange(3):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                changed[at:at] = changed[at : at + chance.randrange(64)] * chance.randrange(8)
            case _:
                del changed[at : at + chance.randrange(8)]
        if not changed:
            break
    return bytes(changed)


@pytest.mark.parametrize(("kind", "good"), GOOD, ids=lambda one: getattr(one, "reader", ""))
def test_broken_files_end_typed_and_the_next_one_reads_right(
    readers: Readers, kind: Kind, good: bytes
) -> None:
    for seed in range(MUTANTS):
        try:
            found = items(readers, kind, mutant(good, seed))
        except Unreadable as reason:
            assert 3 < len(str(reason)) <= 300  # noqa: PT017 - either is as it should be
        else:
            assert all(len(item.name) < 200 for item in found)

    [item] = items(readers, kind, good)
    assert isinstance(item, DocumentItem)
    assert "fine" in item.text


def test_a_picture_of_exabytes_is_not_drawn(readers: Readers) -> None:
    picture = pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources <</XObject <</I 5 0 R>>>> >>",
            b"<< /Length 5 >>\nstream\n/I Do\nendstream",
            PICTURE.replace(b"th 1", b"th 2000000000").replace(b"ht 1", b"ht 2000000000"),
        ]
    )

    with pytest.raises(Unreadable, match=r"^no text: 1 scanned page$"):
        items(readers, kinds.PDF, picture)


def test_text_that_unpacks_beyond_the_memory_is_refused_with_that_reason(readers: Readers) -> None:
    """A zip bomb in a document: 100 kB that are one paragraph of 100 MB."""
    bomb = zipped({"word/document.xml": WORD.replace("fine", "x" * (100 << 20))})

    with pytest.raises(Unreadable, match=r"memory"):
        items(readers, kinds.DOCX, bomb, ReadLimits(memory_bytes=64 << 20))


def test_entities_are_not_expanded(readers: Readers) -> None:
    lines = "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdef", "bcdefg", strict=True)
    )
    bomb = f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{lines}]>{WORD.replace("fine", "&g;")}'

    with pytest.raises(Unreadable, match=r"^its XML declares entities$"):
        items(readers, kinds.DOCX, zipped({"word/document.xml": bomb}))


def test_a_descriptor_is_given_back_at_its_place_and_open(readers: Readers) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"<p>fine</p>")
        file.flush()
        list(readers.open(file.fileno(), kinds.HTML, "a.html"))

        assert os.pread(file.fileno(), 3, 0) == b"<p>"
