"""Finding passages by words: `search`, for questions whose answer stands in prose.

A passage is a stretch of a few lines in which as many of the words stand as possible, rare
words counting more. Words are compared by their beginning and without case, so that
"governs" finds "governed"; words of a document's name count for each of its passages. Chinese
and Japanese, written without spaces, are looked for by pairs of characters.

Invariant: `text[start:end] == quote` for every hit, as of `grep`. Keeps no index: a search
reads the texts that could hold a best passage. From `ASKED_CHARS` on the host is asked, who keeps
one and ranks by the functions of this file; where it does not answer, the texts are read here. To
rank by meaning it is always asked.
"""

import heapq
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from abyme.guest.places import CUT, Hit, Hits, TextOf

Ask: TypeAlias = Callable[[dict[str, Any]], dict[str, Any] | None]
ASKED_CHARS: Final = 2_000_000
READ_CHARS: Final = 24_000_000
"""So much is read here (0.2 s) where the host's index is not complete yet."""
MAX_ASKED: Final = 1_000
MAX_MEANING_CHARS: Final = 2_000
NO_MEANING: Final = "search by meaning is not to be had here; search(words) ranks by words"
REACH_CHARS: Final = 300
"""From a passage's first word to its last."""
SHOWN_CHARS: Final = 400
MAX_WORDS: Final = 30
MAX_WORD_CHARS: Final = 200
INSTEAD: Final = 'try others, or grep(r"(?i)part of a word")'
NAME_SHARE: Final = 0.9
"""What a word of the document's name counts for in each of its passages."""
NUMBER_SHARE: Final = 1.5
"""The same of a number: documents are asked for by number."""
ENDINGS: Final = ("ing", "ies", "ied", "ed", "es", "s", "e", "y")
LEAST_STEM: Final = 3
UNSPACED: Final = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
"""Kana, and ideographs of the first plane."""
COMMON: Final = frozenset(
    re.findall(
        r"\w+",
        "a about an and any are as at be been by can did do does for from had has have he her "
        "his how i if in into is it its many me much must of on or our s she should so than "
        "that the their them there they this to was we were what when where which who whose "
        "why will with would you your",
    )
)


class Search:
    """`search` over the texts of one context."""

    def __init__(
        self, names: Sequence[str | int], text_of: TextOf, chars: Sequence[int], ask: Ask
    ) -> None:
        """`chars`: of every text; `ask`: the host, which may not answer."""
        self._names = names
        self._text_of = text_of
        self._chars = chars
        self._ask = ask
        self._notes: dict[str, None] = {}

    def find(
        self,
        words: str | Iterable[str],
        numbers: Sequence[int],
        k: int,
        *,
        meaning: bool = False,
    ) -> Hits:
        """Find the `k` best passages, best first.

        Raises:
            ValueError: there is no word to look for, or `k` is no number of passages.
            LookupError: it cannot be ranked by `meaning` here.
        """
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"k must be a whole number from 1, not {k!r:.80}")
        stems = stems_of(words)
        hits = None
        if meaning:
            hits = self._asked(stems, numbers, k, _plain(words)[:MAX_MEANING_CHARS])
            if hits is None:
                raise LookupError(NO_MEANING)
        elif sum(self._chars[number] for number in numbers) >= ASKED_CHARS:
            hits = self._asked(stems, numbers, k, None)
        if hits is None:
            hits = self._read(stems, numbers, k)
        if not hits and not self._notes:
            some = "" if len(numbers) == len(self._names) else " of these docs"
            self._notes[f"no passage{some} has any of these words; {INSTEAD}"] = None
        return hits

    def _asked(
        self, stems: Sequence[str], numbers: Sequence[int], k: int, meaning: str | None
    ) -> Hits | None:
        """Have the host find them; None: it does not.

        Raises:
            LookupError: it says why it cannot.
        """
        every = len(numbers) == len(self._names)
        sought = self._ask(
            {
                "type": "search",
                "words": [stem[:MAX_WORD_CHARS] for stem in stems],
                "k": min(k, MAX_ASKED),
                "documents": None if every else sorted(numbers),
                "meaning": meaning,
            }
        )
        if sought is None:
            return None
        chars = sum(self._chars[number] for number in numbers)
        if meaning is None and not sought.get("complete", True) and chars <= READ_CHARS:
            return None  # so few are read before the rest is indexed
        places, note = sought.get("places", []), sought.get("note")
        if note is not None:
            if meaning is not None and not places and not sought.get("complete", True):
                raise LookupError(note)
            self._notes[note] = None
        return Hits(self._place(number, start, end) for number, start, end, *_ in places)

    def _read(self, stems: Sequence[str], numbers: Sequence[int], k: int) -> Hits:
        """Find them in the texts."""
        texts = {number: lowered(self._text_of(number)) for number in numbers}
        found = {number: [text.count(stem) for stem in stems] for number, text in texts.items()}
        passages = 1 + sum(map(len, texts.values())) / REACH_CHARS
        totals = [sum(column) for column in zip(*found.values(), strict=True)]
        weights = [math.log(1 + passages / (1 + total)) for total in totals]
        named = {number: in_name(self._names[number], stems) for number in numbers}

        def bound(number: int) -> float:
            """Tell what a passage of this text can score at most."""
            every = zip(weights, found[number], named[number], strict=True)
            return sum(w * max(share, count > 0) for w, count, share in every)

        best: list[tuple[float, int, int, int]] = []
        for number in sorted(numbers, key=bound, reverse=True):
            if len(best) >= k and bound(number) <= best[0][0]:
                break
            for passage in passages_in(texts[number], stems, weights, named[number]):
                if len(best) < k:
                    heapq.heappush(best, (passage[0], -number, *passage[1:]))
                elif passage[0] > best[0][0]:
                    heapq.heapreplace(best, (passage[0], -number, *passage[1:]))
        ranked = sorted(best, key=lambda one: (-one[0], -one[1], one[2]))
        return Hits(self._place(-number, start, end) for _, number, start, end in ranked)

    def take_notes(self) -> list[str]:
        """Say what was not found since the last call."""
        notes, self._notes = list(self._notes), {}
        return notes

    def _place(self, number: int, start: int, end: int) -> Hit:
        """Widen a passage to whole lines, one more on each side, as far as there is room."""
        text = self._text_of(number)
        room = (SHOWN_CHARS - (end - start)) // 2
        first, last = max(0, start - room), min(len(text), end + room)
        begin = text.find("\n", first, start) + 1 if first else 0
        stop = len(text) if last == len(text) else text.rfind("\n", end, last)
        begin, stop = begin or first, stop if stop >= 0 else last
        quote = text[begin:stop]
        cut_before = begin > 0 and text[begin - 1] != "\n"
        cut_behind = stop < len(text) and text[stop] != "\n"
        shown = CUT * cut_before + quote + CUT * cut_behind
        line = text.count("\n", 0, begin) + 1
        return Hit(self._names[number], line, shown, (number, begin, stop), quote)


def stems_of(words: str | Iterable[str]) -> list[str]:
    """Cut words to what their forms have in common; the common ones are left out.

    Raises:
        ValueError: there is no word to look for.
    """
    every = re.findall(r"\w+(?:\.\w+)*", _plain(words).lower())
    telling = [word for word in every if word not in COMMON] or every
    if not telling:
        raise ValueError(f"there is no word to look for in {words!r}")
    parts = (part for word in telling for part in _parts(word))
    return list(dict.fromkeys(map(_stem, parts)))[:MAX_WORDS]


def _plain(words: str | Iterable[str]) -> str:
    return words if isinstance(words, str) else " ".join(map(str, words))


def _parts(word: str) -> Iterable[str]:
    """Cut what is written without spaces into pairs; anything else is a word."""
    at = 0
    for run in UNSPACED.finditer(word):
        yield from filter(None, [word[at : run.start()]])
        text, at = run.group(), run.end()
        yield from (text[n : n + 2] for n in range(max(1, len(text) - 1)))
    yield from filter(None, [word[at:]])


def _stem(word: str) -> str:
    for ending in ENDINGS:
        if word.endswith(ending) and "." not in word and len(word) - len(ending) >= LEAST_STEM:
            return word.removesuffix(ending)
    return word


def lowered(text: str) -> str:
    """Without case, every character where it was."""
    low = text.lower()
    if len(low) == len(text):
        return low
    return "".join(c if len(c.lower()) != 1 else c.lower() for c in text)


def in_name(name: str | int, stems: Sequence[str]) -> list[float]:
    """Tell what each word counts for by the name: "8" stands in "pep-0008.rst"."""
    low = str(name).lower()
    numbers = {digits.lstrip("0") for digits in re.findall(r"\d+", low)}
    return [
        NUMBER_SHARE * (stem.lstrip("0") in numbers)
        if stem.isdecimal()
        else NAME_SHARE * (stem in low)
        for stem in stems
    ]


def passages_in(
    text: str, stems: Sequence[str], weights: Sequence[float], named: Sequence[float]
) -> list[tuple[float, int, int]]:
    """Stretches of one text that no better one overlaps: score, start, end."""
    hits = sorted(
        (at, at + len(stem), word) for word, stem in enumerate(stems) for at in _starts(text, stem)
    )
    scored = []
    first = 0
    inside: dict[int, int] = {}
    score = sum(weight * share for weight, share in zip(weights, named, strict=True))
    gain = [weight * max(0.0, 1 - share) for weight, share in zip(weights, named, strict=True)]
    for at, end, word in hits:
        inside[word] = inside.get(word, 0) + 1
        score += gain[word] if inside[word] == 1 else 0
        while end - hits[first][0] > REACH_CHARS and hits[first][0] < at:
            left = hits[first][2]
            inside[left] -= 1
            score -= gain[left] if inside[left] == 0 else 0
            first += 1
        near = 1 - (end - hits[first][0]) / REACH_CHARS / 10
        scored.append((score * near, hits[first][0], end))
    return _apart(scored)


def _apart(scored: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    kept: list[tuple[float, int, int]] = []
    for one in scored:  # in order of their ends
        if kept and one[1] < kept[-1][2]:
            kept[-1] = max(kept[-1], one)
        else:
            kept.append(one)
    return kept


def _starts(text: str, stem: str) -> Iterable[int]:
    """Where words begin that begin like this."""
    anywhere = UNSPACED.match(stem) is not None
    whole = len(stem) <= LEAST_STEM and not anywhere
    at = text.find(stem)
    while at >= 0:
        end = at + len(stem)
        before = text[at - 1] if at else " "
        begins = anywhere or not before.isalnum() or UNSPACED.match(before) is not None
        if begins and (not whole or not text[end : end + 2].isalnum()):
            yield at
        at = text.find(stem, end)
