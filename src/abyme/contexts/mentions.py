"""Finds the documents that a question names.

``PEP 8`` names ``pep-0008.rst``, ``machine.py`` names ``src/core/machine.py``: a document is
named if its path or file name stands in the question as written, or if the words and numbers
of its name do, side by side, without case, punctuation and leading zeros.

Invariant: time grows with the names and with a bounded part of the question.
Does not guess what a question is about: a few words of a long name do not name it.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

QUESTION_CHARS: Final = 4000
MOST_NAMES: Final = 20_000
"""With more documents only what is written as a file name, or between quotes, is looked up."""
_NAME_CHARS: Final = 400
_AMBIGUOUS: Final = 2
"""One plain word names no more documents than these."""
_TOKEN: Final = re.compile(r"[^\W\d_]+|\d+")
_QUOTED: Final = re.compile(r"'([^'\n]{3,400})'|\"([^\"\n]{3,400})\"|`([^`\n]{1,400})`")
_MODULE: Final = re.compile(r"\w+(?:\.\w+)+")
"""``package.module`` names ``package/module.py``."""
_CALLED: Final = re.compile(r"(?:file|module|document) (\w+)|(\w+) (?:file|module|document)\b")
"""A plain word that is said to be a document's name. Any other may just be a word."""
_STRETCH: Final = re.compile(r"\[\d+:\d+\]$")
_SUFFIX: Final = re.compile(r"\.[^\W_]{1,8}$")
_LONG: Final = 6
"""Characters of a name that is known with another suffix too: ``report.pdf`` is ``report.txt``."""
_TRIES: Final = 50
_WORDS: Final = 20
_PAIRS: Final = 60
_WORD_CHARS: Final = 40
"""Bounds on what is looked up."""
_AROUND: Final = "'\"`()[]{}<>,;:!?.*"
_BETWEEN: Final = frozenset({"and", "or", "to", "through", "versus", "vs"})


def mentioned(names: Sequence[str], question: str, most: int) -> list[int]:
    """Return the positions of names that stand in a question, the surest first, `most` of them."""
    if len(question) > QUESTION_CHARS:
        half = QUESTION_CHARS // 2
        question = f"{question[:half]}\n{question[-half:]}"
    question = question.casefold()
    found = dict.fromkeys(islice(_as_written(names, question), most))
    if len(names) <= MOST_NAMES and len(found) < most:
        found |= dict.fromkeys(_by_words(names, question))
    return list(found)[:most]


def _as_written(names: Sequence[str], question: str) -> Iterator[int]:
    """Look up what looks like a file name, and what is quoted: as a path, or its last part."""
    wanted = [next(filter(None, found)) for found in _QUOTED.findall(question)]
    wanted += [word.removesuffix("'s").strip(_AROUND) for word in question.split()]
    wanted += [word.replace(".", "/") for word in wanted if _MODULE.fullmatch(word)]
    wanted = [word for word in dict.fromkeys(wanted) if len(word) > 2 and re.search(r"[./_]", word)]
    if not wanted:
        return
    listed = "\n" + "\n".join(name.replace("\n", " ") for name in names).casefold() + "\n"
    for word in wanted[:_WORDS]:
        stem = _SUFFIX.sub("", word)
        for end in (f"{word}\n", f"{stem}.") if len(stem) >= _LONG else (f"{word}\n",):
            at = listed.find(end)
            tries = 0
            while at >= 0 and tries < _TRIES:
                closes = listed.find("\n", at)
                if listed[at - 1] in "\n/" and "/" not in listed[at + len(end) : closes]:
                    yield listed.count("\n", 0, at) - 1
                at, tries = listed.find(end, closes), tries + 1


def _by_words(names: Sequence[str], question: str) -> Iterator[int]:
    """Look names up by their words and numbers."""
    tokens_said = _TOKEN.findall(question)
    said = _phrases(tokens_said)
    first = {_plain(token) for token in tokens_said}
    first |= {token.removesuffix("s") for token in first}
    alone: dict[str, list[int]] = {}
    named = {next(filter(None, found)) for found in _QUOTED.findall(question)}
    named |= {next(filter(None, found)) for found in _CALLED.findall(question)}
    for position, name in enumerate(names):
        stem = _STRETCH.sub("", name[-_NAME_CHARS:]).rpartition("/")[2]
        tokens = [_plain(token) for token in _TOKEN.findall(_SUFFIX.sub("", stem).casefold())]
        if not tokens or tokens[0] not in first:
            continue
        if len(tokens) == 1:
            alone.setdefault(tokens[0], []).append(position)
        elif f" {' '.join(tokens)} " in said:
            yield position
    for token, positions in alone.items():
        known = len(token) > 3 and not token.isdigit() and token in named
        if known and len(positions) <= _AMBIGUOUS:
            yield from positions


def _phrases(tokens: list[str]) -> str:
    """Write a question as plain words; ``peps 8, 20`` is also ``pep 8`` and ``pep 20``."""
    plain = [_plain(token) for token in tokens]
    phrases = [" ".join(plain)]
    word = ""
    for token in plain:
        if token.isdigit() and word and len(phrases) < 2 * _PAIRS:
            phrases += [f"{word} {token}", f"{word.removesuffix('s')} {token}"]
        elif not token.isdigit() and token not in _BETWEEN:
            word = token if len(token) < _WORD_CHARS else ""
    return f" {' / '.join(phrases)} "


def _plain(token: str) -> str:
    return token.lstrip("0") or "0" if token.isdigit() else token
