"""Takes apart what a model writes as evidence: a place, and the quote that stands there.

``name``, ``name:line``, ``name:line: quote``, ``name, page 4``, ``name, page 4: quote`` and
``name: quote`` are such. Which of the names is one of a document is the caller's to say.

Invariant: linear in the text; a place is looked for in its first `HEAD_CHARS` characters only.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

HEAD_CHARS: Final = 1_200
"""A name of a document, and a place; names of members have 1,000 at most."""
MOST_READINGS: Final = 50
_MARK: Final = re.compile(
    r":(?P<line>\d{1,11})(?:-\d{1,11})?(?![^\s:,])"
    r"|,? (?:page|slide|chapter|cell|p\.) ?(?P<page>\d{1,6})(?!\w)"
    r"|:(?=\s)"
)
_BEFORE: Final = " \t\n:,"
_QUOTES: Final = "\"'`“”‘’«»"  # noqa: RUF001
_CUT: Final = ("…", "...")


class Claim(NamedTuple):
    """One way to read a text: as a place, with a quote or without."""

    name: str
    line: int | None
    page: int | None
    quote: str


def claims(text: str) -> Iterator[Claim]:
    """Give the ways to read a text as a place in a document, the shortest name first."""
    head = text[:HEAD_CHARS]
    for number, mark in enumerate(_MARK.finditer(head)):
        if number == MOST_READINGS:
            return
        line, page = mark["line"], mark["page"]
        yield Claim(
            name=head[: mark.start()].strip(),
            line=None if line is None else int(line),
            page=None if page is None else int(page),
            quote=text[mark.end() :].lstrip(_BEFORE).rstrip(),
        )


def bare(quote: str) -> Iterator[str]:
    """Give a quote as it is, then without the marks that a model puts around it."""
    yield quote
    without = uncut(quote)
    if without != quote:
        yield without
    inner = without.strip()
    if inner[:1] and inner[0] in _QUOTES:
        inner = inner[1:]
    if inner[-1:] and inner[-1] in _QUOTES:
        inner = inner[:-1]
    if inner != without and inner:
        yield inner
        if uncut(inner) != inner:
            yield uncut(inner)


def uncut(quote: str) -> str:
    """Take the ellipses off that say that a quote was cut."""
    left = quote.strip()
    if not left.startswith(_CUT) and not left.endswith(_CUT):
        return quote
    for cut in _CUT:
        left = left.removeprefix(cut).removesuffix(cut)
    return left
