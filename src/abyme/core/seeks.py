"""What a REPL may ask of its own context through the host: lines, passages, symbols.

Data for the wire and for `ports.Context.seek`. It costs no budget and is no event. Lines and
symbols: the same question to the same context has the same answer, whenever it is asked. Ranked
passages are an exception in large contexts: how rare a word is, is counted over what is indexed
by then, for this context and for others on the same memory. While the index grows (`complete` is
False), and where child contexts were asked first, order and scores may differ.
"""

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Documents: TypeAlias = list[Annotated[int, Meta(ge=0)]] | None
"""Numbers of the node's own context, rising; None: all."""


Ranges: TypeAlias = list[Annotated[int, Meta(ge=0)]] | None
"""Documents in short: the first and the one behind the last, of one stretch after another,
rising; None: all."""


class Grep(Struct, frozen=True, kw_only=True, tag="grep"):
    """Lines that match. Refused where only Python's `re` could do it, or needs less time."""

    pattern: Annotated[str, Meta(max_length=20_000)]
    """Python's; `^` and `$` stand at every line."""
    flags: Annotated[int, Meta(ge=0, lt=1 << 16)] = 0
    """Python's."""
    documents: Ranges = None
    limit: Annotated[int, Meta(ge=0)] | None = None
    """Lines to give; None: all there are, up to what an answer holds."""
    count: bool = False
    """Give the number of matches alone, several in a line counted."""


class Search(Struct, frozen=True, kw_only=True, tag="search"):
    """The passages that rank best for some words."""

    words: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=50)]
    """Without case, cut to what their forms share."""
    k: Annotated[int, Meta(ge=1, le=1_000)]
    documents: Documents = None
    meaning: Annotated[str, Meta(max_length=2_000)] | None = None
    """Rank by likeness of meaning to this sentence instead, where that extra is installed."""


class Symbols(Struct, frozen=True, kw_only=True, tag="symbols"):
    """Classes and functions of a document of code."""

    document: Annotated[int, Meta(ge=0)]


Seek: TypeAlias = Grep | Search | Symbols


class Sought(Struct, frozen=True, kw_only=True):
    """What was found, as numbers: the REPL has the texts."""

    places: list[list[int | float | str]] = []
    """grep: document, start and end of the line, start and end of the match, line number.
    search: document, start, end, line number, score.
    symbols: start, end, line number, depth, kind, name."""
    total: int = 0
    """grep: matches counted, or lines given."""
    complete: bool = True
    """False: there is more than was asked for, or than could be looked at."""
    note: str | None = None
    """What the model should know, in one sentence."""
    crossed: bool = False
    """grep: some matches went over a line's end, so that they are not among the lines."""
