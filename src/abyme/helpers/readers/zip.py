"""Zip archives: files as members, everything else as skipped.

Members are taken by the directory at the archive's end. Entries that lie over one another are
not read: no tool writes them, and they are how a small archive unpacks to terabytes (Fifield,
"A better zip bomb", WOOT 2019). Sizes that the directory claims are never believed.
"""

import codecs
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers.packed import brief
from abyme.helpers.readers.tar import told_size

_PIECE_BYTES: Final = 1 << 20
_LOCAL_HEADER_BYTES: Final = 30
_UNIX: Final = 3
_ENCRYPTED: Final = 1
_UTF8: Final = 0x800
_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, ValueError, IndexError),
)
"""What zipfile and its decompressors raise of damaged archives."""


def prepare() -> None:
    """Load the codec of names of old."""
    codecs.lookup("cp437")


def read(file: BinaryIO, emit: Emit) -> None:
    """Give the files of an archive.

    Raises:
        Unreadable: it has no directory that can be followed.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (*_BROKEN, NotImplementedError) as error:
        raise Unreadable(f"broken ({brief(error)})") from error
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    end = 0
    for number, member in enumerate(members):
        begin = member.header_offset
        following = members[number + 1].header_offset if number + 1 < len(members) else None
        own_end = begin + _LOCAL_HEADER_BYTES + len(member.filename) + member.compress_size
        name = _name(member)
        if begin < end or (following is not None and own_end > following):
            emit.skipped(name, "lies over another member")
        elif not member.is_dir():
            _give(archive, member, name, emit)
        end = max(end, own_end)


def _give(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, emit: Emit) -> None:
    mode = member.external_attr >> 16 if member.create_system == _UNIX else 0
    if member.flag_bits & _ENCRYPTED:
        emit.skipped(name, "encrypted")
    elif stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        emit.skipped(name, "link" if stat.S_ISLNK(mode) else "not a file")
    else:
        emit.member(name, _pieces(archive, member), told_size(member.file_size))


def _pieces(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Unpack a member; at the end its checksum and size have been looked at."""
    size = 0
    try:
        with archive.open(member) as file:
            while piece := file.read(_PIECE_BYTES):
                size += len(piece)
                yield piece
    except NotImplementedError as error:
        raise Unreadable(f"packed in a way that is not known ({brief(error)})") from error
    except _BROKEN as error:
        raise Unreadable(f"broken ({brief(error)})") from error
    if size != member.file_size:
        raise Unreadable("broken (it ends too early)")


def _name(member: zipfile.ZipInfo) -> str:
    """Take names that are not marked as UTF-8 for it where they are, as most tools write them."""
    if member.flag_bits & _UTF8:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename
