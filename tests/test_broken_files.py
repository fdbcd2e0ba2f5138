"""Contract: no file ends a load. Harmed files of every kind: each is read, or told why not."""

import bz2
import gzip
import io
import json
import lzma
import random
import sqlite3
import tarfile
import zipfile

import pytest

from abyme.contexts.load import load_paths

zstandard = pytest.importorskip("zstandard")

MAIL = (
    b"From: a@example.org\r\nSubject: hi\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\n" + b"body " * 200 + b"\r\n"
    b'--b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename="../x.txt"'
    b"\r\n\r\nattached\r\n--b--\r\n"
)


def a_zip(*files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def a_tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("a")
        member.size = 2_000
        archive.addfile(member, io.BytesIO(b"x" * 2_000))
    return out.getvalue()


def a_database():
    database = sqlite3.connect(":memory:")
    database.execute("create table t (a, b)")
    database.executemany("insert into t values (?, ?)", [(n, "x" * 20) for n in range(300)])
    database.commit()
    data = database.serialize()
    database.close()
    return data


def a_docx():
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    kinds = "http://schemas.openxmlformats.org/package/2006/content-types"
    body = f"<w:body><w:p><w:r><w:t>{'text ' * 300}</w:t></w:r></w:p></w:body>"
    return a_zip(
        ("[Content_Types].xml", f'<Types xmlns="{kinds}"/>'),
        ("word/document.xml", f'<w:document xmlns:w="{word}">{body}</w:document>'),
    )


PACKABLE = random.Random(1).randbytes(200).hex().encode()
SAMPLES = {
    "a.bz2": bz2.compress(PACKABLE),
    "a.csv": b"a,b\n" + b"1,2\n" * 300,
    "a.db": a_database(),
    "a.docx": a_docx(),
    "a.eml": MAIL,
    "a.epub": a_zip(("mimetype", "application/epub+zip"), ("a.xhtml", "<p>chapter</p>" * 99)),
    "a.gz": gzip.compress(PACKABLE, mtime=0),
    "a.html": b"<title>T</title>" + b"<p>text <b>bold</b></p>" * 100,
    "a.ipynb": json.dumps({"cells": [{"cell_type": "code", "source": ["x"]}] * 50}).encode(),
    "a.mbox": (b"From a@example.org Thu Jan  1 00:00:00 1970\n" + MAIL + b"\n") * 3,
    "a.parquet": b"PAR1\x15\x04" + PACKABLE + b"PAR1",
    "a.pdf": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog/Pages 1 0 R>>\n" * 9,
    "a.tar": a_tar(),
    "a.xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + PACKABLE,
    "a.xlsx": a_zip(("[Content_Types].xml", "x"), ("xl/workbook.xml", "<workbook/>" * 99)),
    "a.xz": lzma.compress(PACKABLE),
    "a.zip": a_zip(("a", "alpha" * 99), ("b", "beta" * 99)),
    "a.zst": zstandard.compress(PACKABLE),
}


def harmed(data, chance):
    """Files of one kind: cut, with changed bytes, with a stretch of noise, with more behind it."""
    yield data[: chance.randrange(8, len(data))]
    for count in (1, 30):
        changed = bytearray(data)
        for _ in range(count):
            changed[chance.randrange(8, len(data))] = chance.randrange(256)
        yield bytes(changed)
    at = chance.randrange(8, len(data))
    yield data[:at] + chance.randbytes(64) + data[at + 64 :]
    yield data + data[chance.randrange(len(data)) :] * 2
    yield data[:16] + b"\0" * 2_000


@pytest.mark.parametrize("name", SAMPLES)
def test_broken_files_are_read_or_told_and_the_others_are_read(tmp_path, name):
    chance = random.Random(name)
    for number, data in enumerate(harmed(SAMPLES[name], chance)):
        (tmp_path / f"{number}{name}").write_bytes(data)
    (tmp_path / "z.txt").write_text("zeta")
    loaded = load_paths([tmp_path])
    told = [file.name for file in loaded.read] + [item.name for item in loaded.skipped]
    for number in range(6):
        plain = f"{number}{name}".rpartition(".")[0]
        assert any(one.startswith((f"{number}{name}", plain)) for one in told)
    assert all(reason and len(reason) < 200 for _, reason in loaded.skipped)
    assert loaded.read[-1].name == "z.txt"
    loaded.context.close()
