"""Bytes of a file -> its characters, exactly, or a reason why it is not text.

Decides the encoding: a byte-order mark, else UTF-8, else UTF-16 without a mark
(zeros at every other byte), else UTF-8 with a few broken bytes if nearly all that is
not ASCII is sound, else charset-normalizer's judgement on the part that is not UTF-8.
A tie there goes to the encoding that is used more.

Invariant: characters are kept as they are: line ends, lone surrogates, everything. Only bytes
that are no UTF-8 in a text that is become U+FFFD, one each, and a note says so.
Does not read files, and runs no parser of a format.
"""

import codecs
import hashlib
import re
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

LOSSY: Final = "surrogateescape"
"""Error handler that keeps each byte that is not UTF-8 apart from what is; see `mended`."""

_ESCAPED: Final = re.compile("[\udc80-\udcff]")
_CUT: Final = re.compile("[\udcc2-\udcf4][\udc80-\udcbf]{0,2}\\Z")
_SOUND_A_BROKEN, _SOUND, _SOUND_BEFORE_CUT = 9, 3, 2
"""Sound characters beyond ASCII for each broken byte; at least; if only the end is cut."""
_SURE: Final = 1_000
"""Broken bytes after which a text that is not mostly UTF-8 will not become so."""
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
    note: str = ""
    """What of it could not be kept."""


class Survey:
    """Counts what is UTF-8 and what is not, in a text that was decoded as `LOSSY`."""

    def __init__(self) -> None:
        self.broken_bytes = 0
        self._sound = self._lines = self._first_line = 0
        self._is_cut = False

    def see(self, piece: str) -> None:
        """Look at the next piece."""
        broken = [found.start() for found in _ESCAPED.finditer(piece)]
        if broken and not self.broken_bytes:
            self._first_line = self._lines + piece.count("\n", 0, broken[0]) + 1
        self._lines += piece.count("\n")
        self._sound += len(piece) - len(piece.encode("ascii", "ignore")) - len(broken)
        if piece:
            cut = _CUT.search(piece)
            self._is_cut = cut is not None and len(cut[0]) == self.broken_bytes + len(broken)
        self.broken_bytes += len(broken)

    @property
    def is_utf8(self) -> bool:
        """Whether what was seen is UTF-8 but for a few bytes."""
        if self._is_cut:
            return self._sound >= _SOUND_BEFORE_CUT
        return self._sound >= max(_SOUND, _SOUND_A_BROKEN * self.broken_bytes)

    @property
    def is_hopeless(self) -> bool:
        """Whether there is no need to look further."""
        return self.broken_bytes > _SURE and not self.is_utf8

    def note(self) -> str:
        """Say what is lost, for people."""
        if self._is_cut:
            return "cut inside its last character: U+FFFD in its place"
        if self.broken_bytes == 1:
            return f"1 byte is not UTF-8, in line {self._first_line:,}: U+FFFD in its place"
        return (
            f"{self.broken_bytes:,} bytes are not UTF-8, the first in line "
            f"{self._first_line:,}: U+FFFD in their place"
        )


def decode(data: bytes) -> Decoded:
    """Decode a whole file.

    Raises:
        NotText: it is binary, or in no encoding that is known.
    """
    digest = hashlib.sha256(data).hexdigest()
    if data.isascii() and b"\0" not in data:
        return Decoded(data, ASCII, "utf-8", len(data), digest, digest)
    encoding, skip = look(data) or ("utf-8", 0)
    note = ""
    try:
        text = str(memoryview(data)[skip:], encoding, errors_of(encoding))
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise NotText(f"broken {encoding}") from error
        text, encoding, note = _broken(data, skip, error.start)
    if "\0" in text:
        raise NotText("binary")
    kind = kind_of(text)
    payload = text.encode(CODEC[kind], "surrogatepass")
    sealed = hashlib.sha256(payload).hexdigest()
    return Decoded(payload, kind, encoding, len(data), digest, sealed, note)


def _broken(data: bytes, skip: int, start: int) -> tuple[str, str, str]:
    """Decode what is not UTF-8 throughout: text, encoding, note.

    Raises:
        NotText: it is binary, or in no encoding that is known.
    """
    text = str(memoryview(data)[skip:], "utf-8", LOSSY)
    survey = Survey()
    survey.see(text)
    if survey.is_utf8:
        return mended(text), "utf-8", survey.note()
    if skip:
        raise NotText("broken utf-8")
    encoding = legacy(data, start)
    try:
        return str(data, encoding), encoding, ""
    except UnicodeDecodeError as error:
        raise NotText(f"broken {encoding}") from error


def mended(piece: str) -> str:
    """Put U+FFFD in the place of what is not UTF-8."""
    return _ESCAPED.sub("\ufffd", piece)


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
