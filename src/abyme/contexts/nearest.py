"""What is most like a quote that is not in the context, and in what it differs.

Decides what counts as near. Fragments of the quote, three words each, then single words, are
looked for without case; around each place where one stands the words are compared with the
quote's, and the likeliest stretch is taken.

Invariant: the work is bounded in characters, not in time, so that the same quote has the same
nearest text: `QUOTE_CHARS` of the quote, `LOOKED_CHARS` of the context and `COMPARED_CHARS` around
candidates at most, about a second.
Does not decide whether a quote is there (`evidence`).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final, NamedTuple

from abyme.contexts.texts import Texts

QUOTE_CHARS: Final = 2_000
LOOKED_CHARS: Final = 200 << 20
"""Together: of each kind of fragments half."""
COMPARED_CHARS: Final = 2 << 20
DOCUMENT_CHARS: Final = 1_000
"""What a document counts for at least."""
WIDE: Final = 4
"""What a character counts for whose case is found in a table."""
MAX_FRAGMENTS: Final = 3
MAX_CANDIDATES: Final = 300
"""Places of a fragment that are compared; a common word has more than can be."""
KEPT: Final = 6
"""Of those, the likeliest, whose words are compared in their order."""
MOST_WORDS: Final = 120
"""Of a quote that are compared."""
LIKE: Final = 0.5
"""Share of the quote's words; what has fewer is not near."""
SLACK_WORDS: Final = 3
SHOWN_WORDS: Final = 6
_CJK: Final = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD: Final = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
"""Of scripts without blanks each character."""
_MARKS: Final = dict(zip(map(ord, "‘’‚“”„«»–—−…"), '\'\'\'"""""---.', strict=True))  # noqa: RUF001


class Stretch(NamedTuple):
    """A stretch of a document, and in what it differs from the quote."""

    document: int
    start: int
    end: int
    differs: str


def words(text: str) -> list[str]:
    """Take the words of a text, without case."""
    return _WORD.findall(text.lower())


def nearest(texts: Texts, quote: str) -> Stretch | None:
    """Find the stretch that is most like a quote; None: there is none like it."""
    spans = [one.span() for one in _WORD.finditer(quote[:QUOTE_CHARS])][:MOST_WORDS]
    if not spans:
        return None
    quote = quote[spans[0][0] : spans[-1][1]]
    wanted = words(quote)
    room = len(quote) + len(quote) // 2 + 40
    for fragments in (_fragments(quote, 3), _fragments(quote, 1)):
        candidates: dict[tuple[int, int], float] = {}
        for document, at, around in _places(texts, fragments, room):
            shared = sum((Counter(wanted) & Counter(words(around))).values()) / len(wanted)
            if shared >= LIKE:
                candidates[document, at] = shared
        likely = sorted(candidates, key=lambda one: (-candidates[one], one))[:KEPT]
        found = [_fitted(texts, quote, wanted, (document, at, room)) for document, at in likely]
        scored = [one for one in found if one is not None and one[0] >= LIKE]
        if scored:
            return max(scored, key=lambda one: one[0])[1]
    return None


def _fragments(quote: str, size: int) -> list[str]:
    """Cut the longest stretches of so many words out of a quote, of all parts of it."""
    spans = [one.span() for one in _WORD.finditer(quote)]
    size = min(size, len(spans))
    every = [
        " ".join(quote[spans[n][0] : spans[n + size - 1][1]].lower().split())
        for n in range(len(spans) - size + 1)
    ]
    third = max(1, -(-len(every) // MAX_FRAGMENTS))
    return [max(every[n : n + third], key=len) for n in range(0, len(every), third)]


def _places(texts: Texts, fragments: Sequence[str], room: int) -> Iterator[tuple[int, int, str]]:
    """Give document, offset and surroundings of the places where a fragment stands."""
    left = dict.fromkeys(fragments, MAX_CANDIDATES)
    cased = any(one.upper() != one for one in fragments)
    read, compared = 0, 0
    for document in range(len(texts)):
        read += DOCUMENT_CHARS
        for start, piece in texts.windows(document, 2 * room):
            low = piece.lower() if cased else piece
            if len(low) != len(piece):  # some capitals are longer when they are small
                low = piece
            read += len(piece) if piece.isascii() or not cased else WIDE * len(piece)
            for fragment in fragments:
                at = low.find(fragment)
                while at >= 0 and left[fragment]:
                    left[fragment] -= 1
                    around = piece[max(0, at - room) : at + room]
                    compared += len(around)
                    yield document, start + at, around
                    if compared >= COMPARED_CHARS // 2:
                        return
                    at = low.find(fragment, at + len(fragment))
            if read >= LOOKED_CHARS // 2:
                return


def _fitted(
    texts: Texts, quote: str, wanted: Sequence[str], where: tuple[int, int, int]
) -> tuple[float, Stretch] | None:
    """Cut the surroundings of a place to the words that answer to the quote's."""
    document, at, room = where
    begin = max(0, at - room)
    text = texts.piece(document, begin, at + room)
    spans = [one.span() for one in _WORD.finditer(text)]
    there = [text[start:end].lower() for start, end in spans]
    longest = SequenceMatcher(None, wanted, there, autojunk=False).find_longest_match()
    if not longest.size:
        return None
    low = max(0, longest.b - longest.a - SLACK_WORDS)
    high = longest.b + len(wanted) - longest.a + SLACK_WORDS
    blocks = SequenceMatcher(None, wanted, there[low:high], autojunk=False).get_matching_blocks()
    first, last = blocks[0], blocks[-2]
    low, high = (
        max(0, low + first.b - first.a),
        min(len(there), low + last.b + len(wanted) - last.a),
    )
    start, end = spans[low][0], spans[high - 1][1]
    score = SequenceMatcher(None, wanted, there[low:high], autojunk=False).ratio()
    differs = difference(quote, text[start:end])
    return score, Stretch(document, begin + start, begin + end, differs)


def difference(quote: str, text: str) -> str:
    """Say in words in what a text differs from a quote of it."""
    rules = {
        "white space": lambda one: " ".join(one.split()),
        "quotation marks or dashes": lambda one: one.translate(_MARKS),
        "capitals": str.casefold,
    }

    def same(names: Sequence[str]) -> bool:
        one, other = quote, text
        for name in names:
            one, other = rules[name](one), rules[name](other)
        return one == other

    if same(list(rules)):
        needed = [name for name in rules if not same([one for one in rules if one != name])]
        return " and ".join(needed) or "white space"
    mine, theirs = words(quote), words(text)
    if mine == theirs:
        return "punctuation"
    matcher = SequenceMatcher(None, mine, theirs, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            has, wants = _shown(theirs[c:d]), _shown(mine[a:b])
            return f"there it says {has}, not {wants}" if c < d else f"{wants} is not there"
    return "punctuation"


def _shown(some: Sequence[str]) -> str:
    return repr(" ".join(some[:SHOWN_WORDS])) if some else "nothing"
