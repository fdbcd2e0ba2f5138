"""What readers emit, kept; and files for them, made by hand."""

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

PICTURE = (
    b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /BitsPerComponent 8"
    b" /ColorSpace /DeviceGray /Length 1 >>\nstream\n0\nendstream"
)


@dataclass
class Kept:
    """An `Emit` that keeps everything."""

    documents: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    members: list[tuple[str, bytes]] = field(default_factory=list)
    skips: list[tuple[str, str]] = field(default_factory=list)

    def document(self, name: str, text: str, **facts: Any) -> None:
        self.documents.append((name, text, facts))

    def member(self, name: str, data: Iterable[bytes], size_bytes: int | None = None) -> None:
        self.members.append((name, b"".join(data)))

    def skipped(self, name: str, reason: str) -> None:
        self.skips.append((name, reason))


def read(reader: ModuleType, data: bytes) -> Kept:
    """Run a reader in this process: for files that the test made itself."""
    kept = Kept()
    reader.read(io.BytesIO(data), kept)
    return kept


def text_of(reader: ModuleType, data: bytes) -> str:
    [(name, text, _)] = read(reader, data).documents
    assert name == ""
    return text


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in parts.items():
            file.writestr(name, data)
    return held.getvalue()


def pdf(pages: Sequence[Sequence[str] | None], extra: str = "") -> bytes:
    """A PDF with lines of text on its pages; None: a page with a picture alone.

    `extra` goes into the trailer.
    """
    kids = " ".join(f"{5 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        PICTURE,
    ]
    for lines in pages:
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents "
            + str(len(objects) + 2).encode()
            + b" 0 R /Resources << /Font << /F 3 0 R >> /XObject << /I 4 0 R >> >> >>"
        )
        shown = " ".join(f"({line}) Tj T*" for line in lines or ())
        drawn = "/I Do" if lines is None else f"BT /F 12 Tf 72 720 Td 14 TL {shown} ET"
        content = drawn.encode("latin-1")
        head = f"<< /Length {len(content)} >>\nstream\n".encode()
        objects.append(head + content + b"\nendstream")
    return pdf_of(objects, extra)


def pdf_of(objects: Sequence[bytes], extra: str = "") -> bytes:
    """A PDF of these objects, numbered from 1; the first is the catalog."""
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    lines = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    return (
        out
        + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{lines}".encode()
        + f"trailer << /Size {len(objects) + 1} /Root 1 0 R {extra} >>\n".encode()
        + f"startxref\n{len(out)}\n%%EOF".encode()
    )
