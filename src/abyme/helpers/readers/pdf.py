"""PDF: the text layer, page by page, by pdfium.

Decides what of a page is its text: what pdfium finds in it, lines as they are set. A word that was
hyphenated at the end of a line is whole again, on the line on which it begins; its hyphen stays
where the document writes the word with a hyphen elsewhere. Pages are apart by a form feed.

Nothing is recognised in pictures: pages without text are named in the note.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Final

from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers.prose import join_pages, plural, ranges

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

MEDIA: Final = "application/pdf"
_HYPHEN: Final = "\x02"
"""What pdfium puts for a hyphen at the end of a line; the line end itself it leaves out."""
_HYPHENATED: Final = re.compile(r"(\w+)\x02(\w*)")
_WORDS: Final = re.compile(r"\w+(?:-\w+)*")
_ERRORS: Final = {2: "not a file that opens", 4: "encrypted", 5: "encrypted in an unknown way"}
"""FPDF_GetLastError; 3 is a format error."""


def prepare() -> None:
    """Load the library."""
    import pypdfium2  # noqa: F401, PLC0415


def read(file: BinaryIO, emit: Emit) -> None:
    """Emit the text, if there is any.

    Raises:
        Unreadable: encrypted, broken, or pictures alone.
    """
    pdf = _open(file.read())
    texts: list[str] = []
    bare: list[int] = []
    broken: list[int] = []
    for number, found in enumerate(_pages(pdf), 1):
        text, drawn = found or ("", False)
        texts.append(text)
        if found is None:
            broken.append(number)
        elif drawn and not text.strip():
            bare.append(number)
    if not any(text.strip() for text in texts):
        raise Unreadable(_nothing(len(texts), len(bare), len(broken)))
    text, starts = join_pages(_unhyphenated(texts))
    emit.document("", text, media=MEDIA, pages=starts, note=_note(pdf, bare, broken))


def _open(data: bytes) -> "PdfDocument":
    from pypdfium2 import PdfDocument, PdfiumError  # noqa: PLC0415

    try:
        pdf = PdfDocument(data)
    except PdfiumError as error:
        reason = _ERRORS.get(getattr(error, "err_code", 0), "broken (not a PDF that can be parsed)")
        raise Unreadable(reason) from None
    if not len(pdf):
        raise Unreadable("broken (no pages)")
    return pdf


def _pages(pdf: "PdfDocument") -> Iterator[tuple[str, bool] | None]:
    """Give each page's text, and whether anything is drawn on it; None: it cannot be parsed."""
    from pypdfium2 import PdfiumError  # noqa: PLC0415

    for number in range(len(pdf)):
        try:
            page = pdf[number]
            words = page.get_textpage()
            text = words.get_text_bounded().replace("\r\n", "\n").replace("\0", "")
            drawn = bool(text) or next(page.get_objects(max_depth=1), None) is not None
            words.close()
            page.close()
        except PdfiumError:
            yield None
        else:
            yield text, drawn


def _unhyphenated(texts: list[str]) -> list[str]:
    if not any(_HYPHEN in text for text in texts):
        return texts
    known = {word.lower() for text in texts for word in _WORDS.findall(text) if "-" in word}

    def whole(match: re.Match[str]) -> str:
        head, tail = match.groups()
        hyphened = f"{head}-{tail}"
        kept = not tail or not (head[-1] + tail[0]).isalpha() or hyphened.lower() in known
        return hyphened if kept else head + tail

    return [_HYPHENATED.sub(whole, text).replace(_HYPHEN, "-") for text in texts]


def _nothing(pages: int, bare: int, broken: int) -> str:
    if broken == pages:
        return "broken (no page can be parsed)"
    return f"no text: {plural(bare, 'scanned page')}" if bare else "no text: its pages are empty"


def _note(pdf: "PdfDocument", bare: list[int], broken: list[int]) -> str | None:
    notes = []
    if bare:
        verb = "has" if len(bare) == 1 else "have"
        notes.append(f"{_of_pages(bare)} {verb} no text (scans?)")
    if broken:
        notes.append(f"{_of_pages(broken)} cannot be parsed")
    attached = pdf.count_attachments()
    if attached:
        notes.append(f"{plural(attached, 'attached file')} not read")
    return "; ".join(notes) or None


def _of_pages(numbers: list[int]) -> str:
    return f"{'page' if len(numbers) == 1 else 'pages'} {ranges(numbers)}"
