"""Tar archives (ustar, GNU, pax), read forwards: files as members, everything else as skipped.

Members that are no plain files (links, devices, sparse files, whose zeros cost a sender
nothing) are told and never followed. A damaged header ends the archive, and is told.
"""

import codecs
import importlib
import tarfile
from collections.abc import Iterator
from typing import IO, BinaryIO, Final, Protocol, Self, cast

from abyme.helpers.emit import Emit, Unreadable

BLOCK_BYTES: Final = 512
_PIECE_BYTES: Final = 1 << 20
_MOST_BYTES: Final = 1 << 48
_DAMAGED: Final = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]
_KINDS: Final = {
    tarfile.LNKTYPE: "link",
    tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}


class Forwards(Protocol):
    """All that is asked of a stream. Every seek is forwards."""

    def read(self, size: int, /) -> bytes:
        """Read `size` bytes, fewer at the end only."""
        ...

    def tell(self) -> int:
        """Count the bytes that were read."""
        ...

    def seek(self, offset: int, /) -> int:
        """Skip."""
        ...


def prepare() -> None:
    """Load the codecs of headers, and what tarfile imports when an archive is broken."""
    importlib.import_module("zlib")
    for codec in ("ascii", "iso8859-1", "utf-8"):
        codecs.lookup(codec)


def read(file: BinaryIO, emit: Emit) -> None:
    """Give the files of an archive."""
    read_stream(file, emit)


def looks_like(head: bytes) -> bool:
    """Whether a first block is a tar header: by its magic, or by its checksum (before 1988)."""
    block = head[:BLOCK_BYTES]
    if len(block) < BLOCK_BYTES or not block[0]:
        return False
    try:
        told = int(block[148:156].strip(b"\0 ") or b"-", 8)
    except ValueError:
        return False
    return told == sum(block) - sum(block[148:156]) + 8 * ord(" ")


def read_stream(file: Forwards, emit: Emit) -> None:
    """Give the files of an archive that can be read forwards only.

    Raises:
        Unreadable: it breaks off, or is damaged.
    """
    damage: list[str] = []
    try:
        archive = tarfile.TarFile(
            fileobj=cast("IO[bytes]", file), tarinfo=_watched(damage), errorlevel=2
        )
        behind = -1
        while (member := archive.next()) is not None:
            if archive.offset <= behind:  # sizes below zero, CVE-2025-8194
                raise Unreadable("broken (it leads back into itself)")
            behind = archive.offset
            _give(file, member, emit)
            archive.members.clear()  # type: ignore[attr-defined]  # of which it keeps all
    except tarfile.TarError as error:
        raise Unreadable(f"broken ({error})") from error
    if damage:
        raise Unreadable(f"broken ({damage[0]})")


def told_size(size_bytes: int) -> int | None:
    """Pass on what a header claims, if that can be the size of anything."""
    return size_bytes if 0 <= size_bytes <= _MOST_BYTES else None


def _watched(damage: list[str]) -> type[tarfile.TarInfo]:
    """Make headers that tell of a damaged one, which tarfile takes for the archive's end."""

    class Header(tarfile.TarInfo):
        def _apply_pax_info(self, headers: dict[str, str], encoding: str, errors: str) -> None:
            size = headers.get("size", "0")
            if not (size.isascii() and size.isdigit()):  # tarfile takes it for 0
                raise tarfile.InvalidHeaderError("bad size")  # type: ignore[attr-defined]
            super()._apply_pax_info(headers, encoding, errors)  # type: ignore[misc]

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            header = super().frombuf(buf, encoding, errors)
            if header.size < 0:
                raise tarfile.InvalidHeaderError("negative size")  # type: ignore[attr-defined]
            return header

        @classmethod
        def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
            try:
                return super().fromtarfile(tarfile)
            except _DAMAGED as error:
                damage.append(str(error))
                raise

    return Header


def _give(file: Forwards, member: tarfile.TarInfo, emit: Emit) -> None:
    if member.isdir():
        return
    if member.issparse():
        emit.skipped(member.name, "sparse file")
    elif not member.isreg():
        emit.skipped(member.name, _KINDS.get(member.type, "not a file"))
    else:
        emit.member(member.name, _pieces(file, member.size), told_size(member.size))


def _pieces(file: Forwards, left_bytes: int) -> Iterator[bytes]:
    """Read what lies behind a header."""
    while left_bytes > 0:
        piece = file.read(min(_PIECE_BYTES, left_bytes))
        if not piece:
            raise Unreadable("broken (it ends too early)")
        left_bytes -= len(piece)
        yield piece
