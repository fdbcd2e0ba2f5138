"""Bytes of a file -> its characters, exactly, or a reason why it is not text.

Decides the encoding: a byte-order mark, else UTF-8, else UTF-16 without a mark
(zeros at every other byte), else charset-normalizer's judgement on the part
that is not UTF-8. A tie there goes to the encoding that is used more.

Invariant: characters are kept as they are: line ends, lone surrogates, everything.
Does not read files, and runs no parser of a format.
"""

import codecs
import hashlib
from typing import Final, NamedTuple

from abyme.contexts.arena import CODEC, kind_of
from abyme.layout import ASCII

MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""In this order: the mark of UTF-32-LE begins with that of UTF-16-LE."""

LEGACY: Final = (
    *("cp1252", "cp1251", "cp932", "gb18030", "cp949", "big5", "euc_jp", "cp1250"),
    *("cp1254", "cp1253", "koi8_r", "cp1255", "cp1256", "mac_roman"),
)
"""Encodings that are thought of, the more common first."""

_SAMPLE_BYTES: Final = 16 << 10
_BEFORE_BYTES: Final = 4 << 10


class NotText(Exception):
    """The bytes are no text; the message is the reason that the user is shown."""


class Decoded(NamedTuple):
    """A text, ready for the arena."""

    payload: bytes
    kind: int
    encoding: str
    source_bytes: int
    source_sha256: str
    sealed_sha256: str


def decode(data: bytes) -> Decoded:
    """Decode a whole file.

    Raises:
        NotText: it is binary, or in no encoding that is known.
    """
    digest = hashlib.sha256(data).hexdigest()
    if data.isascii() and b"\0" not in data:
        return Decoded(data, ASCII, "utf-8", len(data), digest, digest)
    encoding, skip = sniff(data)
    try:
        text = str(memoryview(data)[skip:], encoding, errors_of(encoding))
    except UnicodeDecodeError as error:
        raise NotText(f"broken {encoding}") from error
    if "\0" in text:
        raise NotText("binary")
    kind = kind_of(text)
    payload = text.encode(CODEC[kind], "surrogatepass")
    sealed = hashlib.sha256(payload).hexdigest()
    return Decoded(payload, kind, encoding, len(data), digest, sealed)


def sniff(data: bytes) -> tuple[str, int]:
    """Find the encoding of a whole file, and how many bytes its mark has.

    Raises:
        NotText: it is binary, or in no encoding that is known.
    """
    by_look = look(data)
    if by_look:
        return by_look
    for errors in ("strict", "surrogatepass"):
        try:
            str(data, "utf-8", errors)
        except UnicodeDecodeError as error:
            start = error.start
        else:
            return "utf-8", 0
    return legacy(data, start), 0


def look(head: bytes) -> tuple[str, int] | None:
    """Tell encoding and mark from the beginning of a file, if a mark or zeros give them away.

    Raises:
        NotText: there are zeros as in no text.
    """
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    return (_utf16_without_mark(head), 0) if b"\0" in head else None


def errors_of(encoding: str) -> str:
    """Name the error handler that keeps lone surrogates, where an encoding can hold them."""
    return "surrogatepass" if encoding.startswith("utf-") else "strict"


def legacy(data: bytes, start: int) -> str:
    """Guess the encoding of bytes that stop being UTF-8 at `start`.

    Raises:
        NotText: none of `LEGACY` makes sense of them.
    """
    from charset_normalizer import from_bytes  # noqa: PLC0415  (30 ms, for few files)

    line = data.rfind(b"\n", max(0, start - _BEFORE_BYTES), start) + 1
    sample = data[line : start + _SAMPLE_BYTES]
    matches = from_bytes(
        sample, cp_isolation=[*LEGACY], preemptive_behaviour=False, enable_fallback=False
    )
    best = matches.best()
    if best is None:
        return _western(sample)
    equal = [m for m in matches if (m.chaos, m.coherence) == (best.chaos, best.coherence)]
    named = {name for match in equal for name in match.could_be_from_charset}
    return next((name for name in LEGACY if name in named), best.encoding)


def _western(sample: bytes) -> str:
    """Take a short text with many quotes and dashes for what it is: too little to judge by."""
    controls = any(byte < 32 and byte not in b"\t\n\f\r" for byte in sample)
    if controls or sum(byte > 127 for byte in sample) * 2 > len(sample):
        raise NotText("binary")
    return LEGACY[0]


def _utf16_without_mark(data: bytes) -> str:
    even, odd = b"\0" in data[::2], b"\0" in data[1::2]
    if even == odd:
        raise NotText("binary")
    encoding = "utf-16-be" if even else "utf-16-le"
    sample = data[: _SAMPLE_BYTES * 2]
    text = sample[: len(sample) & ~1].decode(encoding, "replace")
    written = sum(char.isprintable() or char in "\t\n\r\f" for char in text)
    if len(data) % 2 or written < 0.95 * len(text):
        raise NotText("binary")
    return encoding
