"""Which reader a file needs: by its first bytes where these are sure, else by its name.

Decides what is plain text and what is not, and which extra a reader's library comes with.
Does not read files: `load` gives it a name and a head.
"""

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


_OFFICE: Final = "application/vnd.openxmlformats-officedocument."
PDF: Final = Kind("pdf", "application/pdf", ("pypdfium2",), "documents")
DOCX: Final = Kind("docx", f"{_OFFICE}wordprocessingml.document", ("docx",), "documents")
PPTX: Final = Kind("pptx", f"{_OFFICE}presentationml.presentation", ("pptx",), "documents")
XLSX: Final = Kind("xlsx", f"{_OFFICE}spreadsheetml.sheet", ("python_calamine",), "documents")
HTML: Final = Kind("html", "text/html", ("selectolax",), "documents", is_text=True)
EPUB: Final = Kind("epub", "application/epub+zip", ("selectolax",), "documents")
MAIL: Final = Kind("mail", "message/rfc822", is_text=True)
MBOX: Final = Kind("mbox", "application/mbox", is_text=True)
NOTEBOOK: Final = Kind("notebook", "application/x-ipynb+json", is_text=True)
CSV: Final = Kind("csv", "text/csv", is_text=True)
PARQUET: Final = Kind("parquet", "application/vnd.apache.parquet", ("pyarrow",), "tables")
SQLITE: Final = Kind("sqlite", "application/vnd.sqlite3")
ZIP: Final = Kind("zip", "application/zip")
TAR: Final = Kind("tar", "application/x-tar")
GZIP: Final = Kind("gzip", "application/gzip")
XZ: Final = Kind("xz", "application/x-xz")
BZIP2: Final = Kind("bzip2", "application/x-bzip2")
ZSTD: Final = Kind("zstd", "application/zstd", ("zstandard",), "archives")

KINDS: Final = (
    *(PDF, DOCX, PPTX, XLSX, HTML, EPUB, MAIL, MBOX, NOTEBOOK, CSV, PARQUET, SQLITE),
    *(ZIP, TAR, GZIP, XZ, BZIP2, ZSTD),
)
