"""EPUB: chapters in reading order as pages, by the same rules as HTML.

Decides the order by the book's spine. Chapters that are encrypted or missing are named in the note.
"""

import posixpath
from typing import BinaryIO, Final

from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers import charsets, markup
from abyme.helpers.readers.package import Package, resolved
from abyme.helpers.readers.prose import join_pages, ranges

MEDIA: Final = "application/epub+zip"
_CONTAINER: Final = "META-INF/container.xml"
_LOCKS: Final = "META-INF/encryption.xml"
_PAGES: Final = frozenset(("application/xhtml+xml", "text/html", "text/x-oeb1-document"))


def prepare() -> None:
    """Load the library and the charsets."""
    markup.prepare()
    charsets.prepare()


class _Book:
    """What the package file of a book says."""

    def __init__(self) -> None:
        self.title = ""
        self.authors: list[str] = []
        self.files: dict[str, tuple[str, str]] = {}
        self.spine: list[str] = []
        self._words: list[str] = []

    def start(self, tag: str, about: dict[str, str]) -> None:
        self._words = []
        if tag == "item":
            self.files[about.get("id", "")] = about.get("href", ""), about.get("media-type", "")
        elif tag == "itemref":
            self.spine.append(about.get("idref", ""))

    def end(self, tag: str) -> None:
        words = " ".join("".join(self._words).split())
        if tag == "title" and words and not self.title:
            self.title = words
        elif tag == "creator" and words:
            self.authors.append(words)
        self._words = []

    def text(self, text: str) -> None:
        self._words.append(text)


def read(file: BinaryIO, emit: Emit) -> None:
    """Emit the book.

    Raises:
        Unreadable: encrypted, broken or empty.
    """
    package = Package(file)
    main = _main(package)
    book = _Book()
    package.parse(main, book.start, book.end, book.text)
    locked = _locked(package)
    pages = [book.files[one] for one in book.spine if one in book.files]
    parts = [resolved(main, href) for href, media in pages if media in _PAGES]
    texts, missing = [], []
    for number, part in enumerate(parts, 1):
        readable = package.has(part) and part not in locked
        texts.append(_chapter(package, part) if readable else "")
        missing += [] if readable else [number]
    if not any(texts):
        every = bool(parts) and locked.issuperset(parts)
        raise Unreadable("encrypted" if every else "no text")
    by = f"{book.title}\n{', '.join(book.authors)}".strip()
    if by and not texts[0].startswith(by):
        texts[0] = f"{by}\n\n{texts[0]}".rstrip()
    text, starts = join_pages(texts)
    note = f"chapters not readable: {ranges(missing)}" if missing else None
    emit.document("", text, media=MEDIA, pages=starts, page_word="chapter", note=note)


def _main(package: Package) -> str:
    roots: list[str] = []

    def start(tag: str, about: dict[str, str]) -> None:
        if tag == "rootfile":
            roots.append(about.get("full-path", ""))

    package.parse(_CONTAINER, start)
    if not roots:
        raise Unreadable("broken (it names no book)")
    return posixpath.normpath(roots[0])


def _locked(package: Package) -> set[str]:
    """Name the parts that are encrypted; fonts often are, in books that can be read."""
    found: set[str] = set()

    def start(tag: str, about: dict[str, str]) -> None:
        if tag == "CipherReference":
            found.add(resolved("", about.get("URI", "")))

    if package.has(_LOCKS):
        package.parse(_LOCKS, start)
    return found


def _chapter(package: Package, part: str) -> str:
    data = package.bytes(part)
    return markup.visible(charsets.decoded(data, charsets.declared(data))).text
