"""Which reader a file needs: by its first bytes where these are sure, else by its name.

Decides what is plain text and what is not, and which extra a reader's library comes with.
Invariant: a name alone never sends bytes to a reader of a binary format, so that a text that
is called `report.pdf` is a text; the bytes alone do, so that a PDF called `report.txt` is a PDF.
Does not read files: `load` gives it a name and a head.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """A format that needs a reader."""

    reader: str
    """Module in `abyme.helpers.readers`."""
    media: str
    needs: tuple[str, ...] = ()
    """Modules that must be importable."""
    extra: str | None = None
    """Extra of this package that brings them."""
    is_text: bool = False
    """Plain text as well: what the reader cannot do, or with `as_is`, it is read as that."""
    keeps_text: bool = False
    """The reader gives the same text, and something beside it: its lack is not worth a word."""


_OFFICE: Final = "application/vnd.openxmlformats-officedocument."
_OPEN: Final = "application/vnd.oasis.opendocument."
PDF: Final = Kind("pdf", "application/pdf", ("pypdfium2",), "documents")
DOCX: Final = Kind("docx", f"{_OFFICE}wordprocessingml.document")
PPTX: Final = Kind("pptx", f"{_OFFICE}presentationml.presentation")
XLSX: Final = Kind("xlsx", f"{_OFFICE}spreadsheetml.sheet", ("python_calamine",), "documents")
HTML: Final = Kind("html", "text/html", ("selectolax",), "documents", is_text=True)
XLS: Final = Kind("xlsx", "application/vnd.ms-excel", ("python_calamine",), "documents")
ODS: Final = Kind("xlsx", f"{_OPEN}spreadsheet", ("python_calamine",), "documents")
EPUB: Final = Kind("epub", "application/epub+zip", ("selectolax",), "documents")
MAIL: Final = Kind("mail", "message/rfc822", is_text=True)
MBOX: Final = Kind("mbox", "application/mbox", is_text=True)
NOTEBOOK: Final = Kind("notebook", "application/x-ipynb+json", is_text=True)
CSV: Final = Kind("csv", "text/csv", ("pyarrow",), "tables", is_text=True, keeps_text=True)
PARQUET: Final = Kind("parquet", "application/vnd.apache.parquet", ("pyarrow",), "tables")
SQLITE: Final = Kind("sqlite", "application/vnd.sqlite3")
ZIP: Final = Kind("zip", "application/zip")
TAR: Final = Kind("tar", "application/x-tar")
GZIP: Final = Kind("gzip", "application/gzip")
XZ: Final = Kind("xz", "application/x-xz")
BZIP2: Final = Kind("bzip2", "application/x-bzip2")
ZSTD: Final = Kind("zstd", "application/zstd", ("zstandard",), "archives")

KINDS: Final = (
    *(PDF, DOCX, PPTX, XLSX, XLS, ODS, HTML, EPUB, MAIL, MBOX, NOTEBOOK, CSV, PARQUET, SQLITE),
    *(ZIP, TAR, GZIP, XZ, BZIP2, ZSTD),
)

HEAD_BYTES: Final = 16 << 10
"""Of a file, to choose by."""

_TEXT_SUFFIXES: Final = {
    **dict.fromkeys((".html", ".htm", ".xhtml"), HTML),
    **dict.fromkeys((".eml", ".mht", ".mhtml"), MAIL),
    **dict.fromkeys((".mbox", ".mbx"), MBOX),
    **dict.fromkeys((".csv", ".tsv"), CSV),
    ".ipynb": NOTEBOOK,
}
_ZIP_SUFFIXES: Final = {
    **dict.fromkeys((".docx", ".docm", ".dotx"), DOCX),
    **dict.fromkeys((".pptx", ".pptm", ".ppsx"), PPTX),
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb"), XLSX),
    ".ods": ODS,
    ".epub": EPUB,
}
_OFFICE_FIRST: Final = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"word/", b"ppt/", b"xl/")
_OFFICE_PARTS: Final = ((b"word/", DOCX), (b"ppt/", PPTX), (b"xl/", XLSX))
_BY_MIMETYPE: Final = {EPUB.media: EPUB, ODS.media: ODS}
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_SUFFIXES: Final = {".xls", ".xlt", ".xlsx", ".xlsm", ".xlsb"}
"""Newer ones are in such a file if they are encrypted."""
_PDF_HEAD: Final = re.compile(rb"\s{0,64}%PDF-\d")
_PDF_BODY: Final = re.compile(rb"\d+ \d+ obj|[\x80-\xff]{4}")
_BZIP2_HEAD: Final = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
_PDF_WITHIN: Final = 1024
"""Where readers look for the beginning of a PDF (ISO 32000-1, annex H.3)."""
_TAR_BLOCK: Final = 512
_TAR_MAGIC: Final = slice(257, 262)
_ZIP_NAME_AT: Final = 30


def choose(name: str, head: bytes) -> Kind | None:
    """Tell the format of a file from its name and its first `HEAD_BYTES`; None: plain text."""
    by_bytes = _MAGIC.get(head[:2])
    kind = by_bytes(name, head) if by_bytes else None
    if kind is None and head[_TAR_MAGIC] == b"ustar":
        kind = TAR
    suffix = _suffix(name)
    if kind is None and suffix == ".tar" and b"\0" in head[:_TAR_BLOCK]:
        kind = TAR  # of before ustar
    if kind is not None or not head or b"\0" in head[:64]:
        return kind
    kind = _TEXT_SUFFIXES.get(suffix)
    if kind is MBOX and not head.startswith(b"From "):
        return None
    if kind is CSV and len(head) < HEAD_BYTES:
        return None  # all of it: so small a table needs no binary form beside its text
    if suffix == ".pdf" and b"%PDF-" in head[:_PDF_WITHIN] and _PDF_BODY.search(head):
        return PDF
    return kind


def _suffix(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:].lower() if dot > name.rfind("/") else ""


def _zip(name: str, head: bytes) -> Kind | None:
    """Tell formats in a zip apart: by what lies first in it, else by its name."""
    if not head.startswith((b"PK\3\4", b"PK\5\6")):
        return None
    by_name = _ZIP_SUFFIXES.get(_suffix(name))
    first = head[_ZIP_NAME_AT:]
    if first.startswith(b"mimetype"):
        told = first[8:].lstrip(b"\0")[:80].partition(b"PK")[0].decode("ascii", "replace")
        by_type = [kind for media, kind in _BY_MIMETYPE.items() if told.startswith(media)]
        return by_type[0] if by_type else by_name or ZIP
    if by_name is None and first.startswith(_OFFICE_FIRST):
        by_name = next((kind for part, kind in _OFFICE_PARTS if part in head), None)
    return by_name or ZIP


def _pdf(_name: str, head: bytes) -> Kind | None:
    """Take a PDF for one, and not a text that begins as one."""
    return PDF if _PDF_HEAD.match(head) and _PDF_BODY.search(head) else None


def _starts(magic: bytes, kind: Kind) -> Callable[[str, bytes], Kind | None]:
    return lambda _name, head: kind if head.startswith(magic) else None


def _ole(name: str, head: bytes) -> Kind | None:
    return XLS if head.startswith(_OLE) and _suffix(name) in _OLE_SUFFIXES else None


def _parquet(_name: str, head: bytes) -> Kind | None:
    return PARQUET if head.startswith(b"PAR1") and not head.isascii() else None


_MAGIC: Final[dict[bytes, Callable[[str, bytes], Kind | None]]] = {
    b"%P": _pdf,
    b"PK": _zip,
    b"PA": _parquet,
    _OLE[:2]: _ole,
    b"SQ": _starts(b"SQLite format 3\0", SQLITE),
    b"\x1f\x8b": _starts(b"\x1f\x8b\x08", GZIP),
    b"\xfd7": _starts(b"\xfd7zXZ\0", XZ),
    b"\x28\xb5": _starts(b"\x28\xb5\x2f\xfd", ZSTD),
    b"BZ": lambda _name, head: BZIP2 if _BZIP2_HEAD.match(head) else None,
}
"""First two bytes -> what looks further. One lookup a file, since there may be 100,000."""
