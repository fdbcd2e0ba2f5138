"""Zip packages of XML: Office Open XML and EPUB, opened part by part.

Invariant: a package unpacks to no more than `MAX_PART_BYTES` a part that is asked for; XML that
declares entities is refused before one is expanded, nothing outside of the package is fetched,
and elements are events, never a tree. Raises `Unreadable` and nothing else for what is in a file.

Does not know what the parts mean.
"""

import lzma
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, Final, NamedTuple
from urllib.parse import unquote
from xml.parsers import expat

from abyme.helpers.emit import Unreadable

MAX_PART_BYTES: Final = 1 << 30
_MAX_DEPTH: Final = 5_000
_PIECE_BYTES: Final = 1 << 16
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Head of the container that Office encrypts into, and of the formats before 2007."""

_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(NotImplementedError, OverflowError, ValueError, OSError, EOFError),
)
"""What `zipfile` raises of a file that is not as it should be."""

Start = Callable[[str, dict[str, str]], None]
End = Callable[[str], None]
Text = Callable[[str], None]


class Relation(NamedTuple):
    """A link from a part to another one, or to the world."""

    kind: str
    target: str
    is_external: bool


class Package:
    """An open package. Names of parts are as in the zip, without a leading slash."""

    def __init__(self, file: BinaryIO) -> None:
        if file.read(len(_OLE)) == _OLE:
            raise Unreadable("encrypted, or in the format of Office 97")
        file.seek(0)
        try:
            self._zip = zipfile.ZipFile(file)
        except _BROKEN as error:
            raise Unreadable(f"broken ({_short(error)})") from None

    def names(self) -> list[str]:
        """Name all parts."""
        return self._zip.namelist()

    def has(self, name: str) -> bool:
        """Whether there is such a part."""
        return name in self._zip.NameToInfo

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a part.

        Raises:
            Unreadable: it is not there, encrypted, too large or broken; also while it is read.
        """
        info = self._zip.NameToInfo.get(name)
        if info is None:
            raise Unreadable(f"broken (no {name})")
        if info.flag_bits & 1:
            raise Unreadable("encrypted")
        if info.file_size > MAX_PART_BYTES:
            raise Unreadable(f"more than {MAX_PART_BYTES / (1 << 30):.1f} GB when unpacked")
        try:
            with self._zip.open(info) as part:
                yield part
        except _BROKEN as error:
            raise Unreadable(f"broken ({_short(error)})") from None

    def bytes(self, name: str) -> bytes:
        """Give a whole part, of `MAX_PART_BYTES` at most."""
        with self.open(name) as part:
            return part.read(MAX_PART_BYTES)

    def parse(
        self, name: str, start: Start, end: End | None = None, text: Text | None = None
    ) -> None:
        """Parse a part of XML: names come without their namespaces, attributes too.

        Raises:
            Unreadable: it is no XML, declares entities or is nested too deeply.
        """
        with self.open(name) as part:
            parse(part, start, end, text)

    def relations(self, name: str) -> dict[str, Relation]:
        """Read where a part points to, by the ids that it uses; none if it has no such list."""
        folder, base = posixpath.split(name)
        listed = posixpath.join(folder, "_rels", f"{base}.rels")
        found: dict[str, Relation] = {}

        def start(tag: str, about: dict[str, str]) -> None:
            if tag == "Relationship":
                target, external = about.get("Target", ""), about.get("TargetMode") == "External"
                path = target if external else resolved(name, target)
                kind = about.get("Type", "").rpartition("/")[2]
                found[about.get("Id", "")] = Relation(kind, path, external)

        if self.has(listed):
            self.parse(listed, start)
        return found


def resolved(base: str, target: str) -> str:
    """Name the part that a part points to."""
    path = posixpath.join("/", posixpath.dirname(base), unquote(target.partition("#")[0]))
    return posixpath.normpath(path).lstrip("/")


def parse(part: IO[bytes], start: Start, end: End | None = None, text: Text | None = None) -> None:
    """Parse XML from a stream; see `Package.parse`."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    depth = 0

    def begin(name: str, about: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise Unreadable("nested too deeply")
        start(name.rpartition(" ")[2], _plain(about) if about else about)

    def close(name: str) -> None:
        nonlocal depth
        depth -= 1
        if end is not None:
            end(name.rpartition(" ")[2])

    def refuse(*_: object) -> None:
        raise Unreadable("its XML declares entities")

    parser.StartElementHandler = begin
    parser.EndElementHandler = close
    parser.EntityDeclHandler = refuse
    if text is not None:
        parser.CharacterDataHandler = text
    try:
        while piece := part.read(_PIECE_BYTES):
            parser.Parse(piece, False)  # noqa: FBT003 - not the last one
        parser.Parse(b"", True)  # noqa: FBT003
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise Unreadable(f"broken (XML: {_short(error)})") from None


def _plain(about: dict[str, str]) -> dict[str, str]:
    """Drop namespaces; of ``id`` and ``r:id`` the one with a namespace counts."""
    rising = sorted(about, key=lambda key: " " in key)
    return {key.rpartition(" ")[2]: about[key] for key in rising}


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__
