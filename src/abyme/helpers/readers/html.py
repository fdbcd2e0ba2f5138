"""HTML: its visible text, the title first."""

from typing import BinaryIO, Final

from abyme.helpers.emit import Emit, Unreadable
from abyme.helpers.readers import charsets, markup

MEDIA: Final = "text/html"


def prepare() -> None:
    """Load the library and the charsets."""
    markup.prepare()
    charsets.prepare()


def read(file: BinaryIO, emit: Emit) -> None:
    """Emit the text.

    Raises:
        Unreadable: there is nothing to see.
    """
    data = file.read()
    title, text = markup.visible(charsets.decoded(data, charsets.declared(data)))
    shown = text if not title or title in text[: len(title) + 8] else f"{title}\n\n{text}".rstrip()
    if not shown.strip():
        raise Unreadable("no text")
    emit.document("", shown, media=MEDIA)
