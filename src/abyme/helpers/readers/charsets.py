"""Bytes of markup and of messages -> characters, by what they say of themselves.

Decides by a byte-order mark, else by the charset that is declared, else UTF-8, else
windows-1252, as browsers do (WHATWG, Encoding). What no charset can decode is U+FFFD.
Plain text files are not decoded here: the host guesses there.
"""

import codecs
import contextlib
import encodings
import importlib
import pkgutil
import re
from typing import Final

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED: Final = re.compile(
    rb"""<meta[^>]{0,500}?charset\s*=\s*["']?\s*([\w.:-]{1,40})|<\?xml[^>]{0,200}?encoding=["']([\w.:-]{1,40})""",
    re.IGNORECASE,
)
_HEAD_BYTES: Final = 4096
_MEANT: Final = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}
"""What is written under these names is the wider charset."""


def prepare() -> None:
    """Load the codecs: a confined process has no files to load them from."""
    for module in pkgutil.iter_modules(encodings.__path__):
        with contextlib.suppress(ImportError):  # those of other systems
            importlib.import_module(f"encodings.{module.name}")
    codecs.lookup("raw-unicode-escape")  # what `email` decodes headers with


def declared(data: bytes) -> str | None:
    """Find the charset that a page of markup declares."""
    match = _DECLARED.search(data[:_HEAD_BYTES])
    return (match[1] or match[2]).decode("ascii") if match else None


def decoded(data: bytes, charset: str | None) -> str:
    """Decode, believing a mark most and `charset` next."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    named = _codec(charset)
    for encoding in (named, "utf-8") if named else ("utf-8",):
        try:
            return data.decode(encoding)
        except UnicodeError:
            continue
    return data.decode(named or "cp1252", "replace")


def _codec(charset: str | None) -> str | None:
    if not charset:
        return None
    try:
        found = codecs.lookup(charset.strip().strip("\"'").removeprefix("x-"))
    except (LookupError, ValueError):
        return None
    is_text = getattr(found, "_is_text_encoding", True)
    return _MEANT.get(found.name, found.name) if is_text else None
