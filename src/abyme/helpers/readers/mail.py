"""E-mail: the headers that matter, the text, and what is attached.

Decides what a message says: its plain text where there is one, else its HTML; forwarded messages
and attachments are members under their own names, read as any other file.
"""

import email
import email.header
import email.policy
from collections.abc import Iterator
from email.message import Message
from typing import BinaryIO, Final, NamedTuple

from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers import charsets

MEDIA: Final = "message/rfc822"
HEADERS: Final = ("From", "To", "Cc", "Date", "Subject")
_MAX_PARTS: Final = 1_000
_MAX_NAME_CHARS: Final = 150
_MAX_HEADER_CHARS: Final = 10_000
_EXTENSIONS: Final = {"text/html": ".html", "text/plain": ".txt", "message/rfc822": ".eml"}


class Attached(NamedTuple):
    """A file that came with a message."""

    name: str
    data: bytes


class Read(NamedTuple):
    """A message, read."""

    text: str
    attached: list[Attached]
    note: str | None


def prepare() -> None:
    """Load charsets, what `email` loads late, and HTML where it can be read."""
    import email.generator  # noqa: PLC0415
    import email.parser  # noqa: F401, PLC0415

    charsets.prepare()
    _can_read_html()


def read(file: BinaryIO, emit: Emit) -> None:
    """Emit the message, then its attachments.

    Raises:
        Unreadable: it is no message.
    """
    found = message(file.read())
    emit.document("", found.text, media=MEDIA, note=found.note)
    for one in found.attached:
        emit.member(one.name, [one.data], len(one.data))


def message(data: bytes) -> Read:
    """Read one message.

    Raises:
        Unreadable: it has no headers of a message, or is nested too deeply.
    """
    try:
        parsed = email.message_from_bytes(data, policy=email.policy.compat32)
        return _read(parsed)
    except RecursionError:
        raise Unreadable("nested too deeply") from None


def _read(parsed: Message) -> Read:
    if not any(parsed.get(header) is not None for header in (*HEADERS, "Message-ID", "Received")):
        raise Unreadable("not a message: it has no headers")
    texts: list[str] = []
    attached: list[Attached] = []
    notes: list[str] = []
    for count, part in enumerate(_leaves(parsed)):
        if count == _MAX_PARTS:
            notes.append(f"only the first {_MAX_PARTS:,} parts are read")
            break
        kind = part.get_content_type()
        if kind in ("text/plain", "text/html") and not _is_attachment(part):
            texts.append(_text(part, notes) if kind == "text/html" else _plain(part))
        else:
            attached.append(_attached(part, len(attached) + 1))
    head = [f"{name}: {value}" for name in HEADERS if (value := _header(parsed, name))]
    if attached:
        head.append("Attachments: " + ", ".join(one.name for one in attached))
    body = "\n\n".join(text.strip("\n") for text in texts if text.strip())
    return Read("\n".join(head) + "\n\n" + body, attached, "; ".join(dict.fromkeys(notes)) or None)


def _leaves(root: Message) -> Iterator[Message]:
    """Give the parts that hold something, of alternatives the one that is read best."""
    waiting = [root]
    while waiting:
        part = waiting.pop()
        content = part.get_payload()
        if part.get_content_maintype() != "multipart" or not isinstance(content, list):
            yield part
            continue
        inner = [one for one in content if isinstance(one, Message)]
        if part.get_content_subtype() == "alternative":
            inner = [_best(inner)] if inner else []
        waiting += reversed(inner)


def _best(choices: list[Message]) -> Message:
    for part in choices:
        if part.get_content_type() == "text/plain" and _plain(part).strip():
            return part
    return choices[-1]


def _is_attachment(part: Message) -> bool:
    return part.get_content_disposition() == "attachment" or bool(_name(part))


def _name(part: Message) -> str:
    try:
        name = part.get_filename()
    except (ValueError, LookupError, TypeError):  # malformed RFC 2231
        return ""
    return " ".join(_unfolded(name).split()) if name else ""


def _attached(part: Message, number: int) -> Attached:
    kind = part.get_content_type()
    content = part.get_payload()
    if kind == "message/rfc822" and isinstance(content, list) and content:
        inner = content[0]
        data = inner.as_bytes() if isinstance(inner, Message) else b""
    else:
        data = _bytes(part)
    name = _name(part).replace("\\", "/").rpartition("/")[2][-_MAX_NAME_CHARS:]
    plain = "".join(char for char in name if char.isprintable()).strip(". ")
    return Attached(plain or f"part-{number}{_extension(kind)}", data)


def _extension(kind: str) -> str:
    family, _, form = kind.partition("/")
    is_picture = family == "image" and form.isalnum()
    return f".{form}" if is_picture else _EXTENSIONS.get(kind, ".bin")


def _bytes(part: Message) -> bytes:
    try:
        data = part.get_payload(decode=True)
    except (ValueError, LookupError):
        data = None
    return data if isinstance(data, bytes) else b""


def _plain(part: Message) -> str:
    return charsets.decoded(_bytes(part), _charset(part)).replace("\r\n", "\n").replace("\0", "")


def _charset(part: Message) -> str | None:
    try:
        return part.get_content_charset()
    except (ValueError, LookupError, TypeError):
        return None


def _text(part: Message, notes: list[str]) -> str:
    data = _bytes(part)
    html = charsets.decoded(data, _charset(part) or charsets.declared(data))
    if not _can_read_html():
        notes.append("its HTML is as it was sent: needs abyme[documents]")
        return html.replace("\0", "")
    from abyme.helpers.readers import markup  # noqa: PLC0415

    return markup.visible(html).text


def _can_read_html() -> bool:
    from abyme.helpers.readers import markup  # noqa: PLC0415

    try:
        markup.prepare()
    except ImportError:
        return False
    return True


def _header(parsed: Message, name: str) -> str:
    # What `get` gives of bytes beyond ASCII is question marks.
    values = (str(value) for key, value in parsed.raw_items() if key.lower() == name.lower())
    return " ".join(_unfolded(next(values, "")[:_MAX_HEADER_CHARS]).split())


def _unfolded(value: str) -> str:
    """Decode ``=?utf-8?q?...?=``; bytes that are not ASCII are taken for UTF-8 or windows-1252."""
    if not value.isascii():
        value = charsets.decoded(value.encode("utf-8", "surrogateescape"), None)
    if "=?" not in value:
        return value
    try:
        pieces = email.header.decode_header(value)
    except (ValueError, LookupError, email.errors.HeaderParseError):
        return value
    words = "".join(
        charsets.decoded(piece, charset) if isinstance(piece, bytes) else piece
        for piece, charset in pieces
    )
    return words if words.strip() else value
