"""How a value and its evidence are written for people.

Decides how a reference looks: numbers from 1, places first, then how things were computed, in
the order of the answer's `evidence` and `derivations`; the same numbers everywhere.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abyme.apps.safe_text import safe_line
from abyme.core.derived import labels_of
from abyme.core.events import Derivation, Evidence, Refused

if TYPE_CHECKING:
    from abyme.run.usage import Usage

EXCERPT_CHARS = 160
FEW = 3


def as_text(value: object) -> str:
    """Text as it is, anything else as indented JSON."""
    return value if isinstance(value, str) else as_json(value)


def as_json(value: object) -> str:
    """Indented JSON, of a text too."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def place(evidence: Evidence) -> str:
    """``path:line  "excerpt"``, or ``path, page 3  "excerpt"``."""
    quote = safe_line(evidence.quote, EXCERPT_CHARS)
    places = f" (the first of {evidence.places} places)" if evidence.places > 1 else ""
    return f'{where(evidence)}  "{quote}"{places}'


def where(evidence: Evidence) -> str:
    """``path:line``, or the page where the document has pages."""
    path = safe_line(evidence.path)
    if evidence.page is None:
        return f"{path}:{evidence.line}"
    return f"{path}, {safe_line(evidence.page_word)} {evidence.page}"


def computed(derivation: Derivation) -> str:
    """Write ``computed in cell 3: llm_map over 188 items ("Who?"): person 33 (first ...)``."""
    said = _what(derivation)
    if derivation.labels:
        said += f": {safe_line(labels_of(derivation.labels))}"
    if derivation.claimed:
        said += f" (the cell made of it: {safe_line(labels_of(derivation.claimed))})"
    if derivation.checked:
        said += "; instruction and places as the cell says"
    if derivation.places:
        said += f" (first places: {_together(derivation.places[:FEW])}"
        more = derivation.total - len(derivation.places[:FEW])
        said += f", {more:,} more)" if more > 0 else ")"
    if derivation.missing:
        said += f" ({derivation.missing:,} of its places are not there)"
    return said if derivation.checked else f"{said}, as the cell says"


def _what(derivation: Derivation) -> str:
    """Write ``computed in cell 3: grep('Who', docs='*.txt'): 6``."""
    asked = safe_line(derivation.asked, EXCERPT_CHARS)
    if derivation.how == "selected":
        return f"selected in cell {derivation.cell}: {derivation.items:,} places"
    said = f"computed in cell {derivation.cell}: "
    if derivation.how == "llm_map":
        return said + f'llm_map over {derivation.items:,} items ("{asked}")'
    scope = f", {safe_line(derivation.scope, EXCERPT_CHARS)}" if derivation.scope else ""
    return said + f"{derivation.how}({asked!r}{scope}): {derivation.items:,}"


def _together(places: Sequence[Evidence]) -> str:
    """``a.txt:4, :9, b.txt:1``."""
    shown, before = [], None
    for one in places:
        plain = where(one)
        short = f":{one.line}" if one.path == before and one.page is None else plain
        shown.append(short)
        before = one.path
    return ", ".join(shown)


def references(evidence: Sequence[Evidence], derivations: Sequence[Derivation]) -> Iterator[str]:
    """Give what speaks for an answer, numbered."""
    lines = [*map(place, evidence), *map(computed, derivations)]
    for number, line in enumerate(lines, 1):
        yield f"  [{number}] {line}"


def why_left_out(missing: Sequence[str], refused: Sequence[Refused]) -> Iterator[str]:
    """Say which evidence is none, why, and what is nearest to it."""
    placeless = [one.quote for one in refused if one.why in {"short", "common"}]
    long = [one.quote for one in refused if one.why == "long"]
    absent = [one for one in missing if one not in placeless and one not in long]
    if absent:
        yield left_out(absent)
    for one in refused:
        if one.near is not None:
            near = safe_line(one.near.text, EXCERPT_CHARS)
            path = safe_line(one.near.path)
            yield f'    nearest: {path}:{one.near.line}  "{near}" ({safe_line(one.near.differs)})'
    for quote in placeless:
        shown = safe_line(quote, EXCERPT_CHARS)
        yield f"'{shown}' is too short or too common to be evidence without a place: left out"
    for quote in long:
        yield f"'{safe_line(quote, EXCERPT_CHARS)}' is too long a quote to look for: left out"


def left_out(missing: Sequence[str]) -> str:
    """Say which evidence is none."""
    from abyme.apps.amounts import count  # noqa: PLC0415

    quotes = [f"'{safe_line(quote, EXCERPT_CHARS)}'" for quote in missing[:FEW]]
    more = ["..."] if len(missing) > FEW else []
    one = len(missing) == 1
    number = count(len(missing), "piece of evidence", "pieces of evidence")
    words = (
        "was not found in the context and is" if one else "were not found in the context and are"
    )
    return f"{number} {words} left out: {', '.join([*quotes, *more])}"


def spent(status: str, usage: "Usage", run: Path) -> str:
    """How a run ended, what it used, and where it lies."""
    from abyme.apps.cli.usage import in_a_line  # noqa: PLC0415

    return f"{status} · {in_a_line(usage)} · {run}"
