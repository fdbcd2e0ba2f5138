"""Mailboxes: each message a document, named by its number; its attachments lie below it.

Decides where a message begins: a line ``From ... 12:30...`` behind a blank line or at the very
beginning. ``>From`` and ``>>From`` lose one ``>`` (mboxrd). One message at a time is in memory.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers import mail

MAX_MESSAGE_BYTES: Final = 256 << 20
_FROM: Final = re.compile(rb"From .{0,300}\d:\d\d")
_QUOTED: Final = re.compile(rb"^>(>*From )", re.MULTILINE)
_LINE_BYTES: Final = 1 << 20

prepare = mail.prepare


def read(file: BinaryIO, emit: Emit) -> None:
    """Emit every message.

    Raises:
        Unreadable: there is none.
    """
    number = 0
    for number, data in enumerate(_messages(file), 1):
        name = f"{number:04}"
        if data is None:
            emit.skipped(name, f"a message of more than {MAX_MESSAGE_BYTES >> 20} MB")
            continue
        try:
            found = mail.message(data)
        except Unreadable as error:
            emit.skipped(name, str(error))
            continue
        emit.document(name, found.text, media=mail.MEDIA, note=found.note)
        for one in found.attached:
            emit.member(f"{name}/{one.name}", [one.data], len(one.data))
    if not number:
        raise Unreadable("not a mailbox: no message begins")


def _messages(file: BinaryIO) -> Iterator[bytes | None]:
    """Give message by message; None is one that is too large."""
    lines: list[bytes] = []
    size = 0
    inside, may_begin = False, True
    while line := file.readline(_LINE_BYTES):
        if may_begin and _FROM.match(line):
            if inside:
                yield _whole(lines, size)
            lines, size, inside = [], 0, True
        elif inside:
            size += len(line)
            if size <= MAX_MESSAGE_BYTES:
                lines.append(line)
            else:
                lines.clear()
        may_begin = line in (b"\n", b"\r\n")
    if inside:
        yield _whole(lines, size)


def _whole(lines: list[bytes], size: int) -> bytes | None:
    return _QUOTED.sub(rb"\1", b"".join(lines)) if size <= MAX_MESSAGE_BYTES else None
