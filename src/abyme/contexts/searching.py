"""Ranked passages for a REPL, from indexes in confined helpers, one pair a memory.

Decides how long an answer may wait for an index that is still being built, and what the model
is told when it looked at less than everything. A helper is started by the first question, serves
a context and all its parts, and is started again once after it has failed.
Does not look at texts, and ranks nothing itself.
"""

import asyncio
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from abyme.contexts.confined import Confined, HelperFailed, HelperUnavailable
from abyme.core.seeks import Search, Sought
from abyme.errors import ContextError

if TYPE_CHECKING:
    from abyme.contexts.seeking import Where
    from abyme.contexts.texts import Memory

MEMORY_BYTES: Final = 2_000_000_000
WAIT_S, WAIT_AGAIN_S = 5.0, 0.5
"""For an index that is not there yet, the first question and those that follow: several of them
must fit into a cell. Then what is indexed answers: only then does an answer depend on when it
was asked for, and it says so.
"""
ANSWER_TIMEOUT_S: Final = 60.0
MAX_CONTEXTS: Final = 32
"""Known to a helper at once; of more, the one that has asked first is told again."""
MAX_STARTS: Final = 2
_NO_TEXT: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""What no index takes."""
WORDS, MEANING = "index", "embed"
NEEDS: Final = {WORDS: (), MEANING: ("wordllama",)}
NO_MEANING: Final = (
    "ranking by meaning is not installed on this host (pip install 'abyme[semantic]'); "
    "search(words) ranks by words"
)


async def search(wanted: Search, where: "Where") -> Sought:
    """Find the passages that rank best.

    Raises:
        ContextError: it cannot be done here.
    """
    job = WORDS if wanted.meaning is None else MEANING
    memory = where.memory
    found = memory.companion(job, lambda: Finder(memory, job))
    assert isinstance(found, Finder)
    return await found.asked(wanted, where)


class Finder:
    """The helper of one memory and job. Asked from any thread, one question at a time."""

    def __init__(self, memory: "Memory", job: str) -> None:
        self._memory = memory
        self._job = job
        self._turn = threading.Lock()
        self._thread = ThreadPoolExecutor(1, f"abyme-{job}")
        """Its own: who waits for an index keeps nobody else's work waiting."""
        self._helper: Confined | None = None
        self._known: dict[object, int] = {}
        self._told = self._starts = 0
        self._closed = self._has_waited = False
        self._why: HelperUnavailable | None = None

    async def asked(self, wanted: Search, where: "Where") -> Sought:
        """Find passages; who is cancelled while others are asking never asks.

        Raises:
            ContextError: see `ask`.
        """
        if self._closed:
            raise HelperUnavailable("the context is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.ask, wanted, where)

    def ask(self, wanted: Search, where: "Where") -> Sought:
        """Find passages.

        Raises:
            ContextError: no helper can be had, or it failed.
        """
        with self._turn:
            try:
                return self._ask(wanted, where)
            except HelperFailed:
                self._drop()
                raise
            except HelperUnavailable as error:
                if self._job == MEANING and "No module named" in str(error):
                    return Sought(complete=False, note=NO_MEANING)
                raise

    def close(self) -> None:
        """End the helper. Safe to repeat."""
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)
        helper = self._helper
        if helper is not None:
            helper.close()

    def _ask(self, wanted: Search, where: "Where") -> Sought:
        helper = self._running()
        question = {
            "t": "search",
            "id": self._tell_of(helper, where),
            "words": [_plain(word) for word in wanted.words],
            "meaning": None if wanted.meaning is None else _plain(wanted.meaning),
            "k": wanted.k,
            "documents": wanted.documents,
            "wait_s": WAIT_AGAIN_S if self._has_waited else WAIT_S,
        }
        self._has_waited = True
        helper.send(question)
        answer, _ = helper.receive(ANSWER_TIMEOUT_S)
        if answer.get("t") == "failed":  # this question: the index goes on
            raise ContextError(f"this search failed: {str(answer.get('why'))[:200]}")
        if answer.get("t") != "found":
            raise HelperFailed(self._job, f"ended ({str(answer.get('why'))[:200]})")
        try:
            return self._sought(answer, where)
        except (KeyError, TypeError, ValueError) as error:
            raise HelperFailed(self._job, "broke the rules") from error

    def _running(self) -> Confined:
        """Give the helper, started if need be.

        Raises:
            HelperUnavailable: it does not start, or has failed too often.
        """
        if self._why is not None:
            raise self._why
        if self._closed:
            raise HelperUnavailable("the context is closed")
        if self._helper is not None:
            return self._helper
        if self._starts >= MAX_STARTS:
            raise HelperUnavailable("the search index of this context failed twice")
        self._starts += 1
        size = os.fstat(self._memory.fd).st_size
        helper = Confined(
            self._job, memory_bytes=MEMORY_BYTES, mapped_bytes=size, needs=NEEDS[self._job]
        )
        try:
            helper.start()
        except HelperUnavailable as error:
            self._why = error
            raise
        self._helper = helper
        if self._closed:  # meanwhile
            helper.close()
        helper.send({"t": "arena", "bytes": size}, [self._memory.fd])
        return helper

    def _tell_of(self, helper: Confined, where: "Where") -> int:
        """Give the number by which the helper knows a context, told of it if need be."""
        number = self._known.get(where.key)
        if number is None:
            self._told += 1
            number = self._known[where.key] = self._told
            helper.send({"t": "context", "id": number}, [where.index_fd])
            if len(self._known) > MAX_CONTEXTS:
                oldest = next(iter(self._known))
                helper.send({"t": "forget", "id": self._known.pop(oldest)})
        return number

    def _sought(self, answer: dict[str, Any], where: "Where") -> Sought:
        """Believe nothing of an answer but places that are there."""
        places: list[list[int | float | str]] = []
        for document, start, end, score in answer["places"]:
            if not all(type(one) is int for one in (document, start, end)):
                raise TypeError
            if not 0 <= document < len(where.index):
                raise ValueError
            entry = where.index[document]
            if not 0 <= start < end <= entry.chars:
                raise ValueError
            line = where.memory.line(entry, start)
            places.append([document, start, end, line, float(score)])
        done, of = int(answer["indexed_bytes"]), int(answer["wanted_bytes"])
        complete = done >= of
        note = None
        if not complete:
            share = f"the first {done / 1e6:,.0f} of {of / 1e6:,.0f} MB"
            rest = (
                "grep looks at all of it, docs= narrows a search"
                if answer["full"]
                else "the index is still growing: search again later, or use grep"
            )
            note = f"search looked at {share} only; {rest}"
        return Sought(places=places, total=len(places), complete=complete, note=note)

    def _drop(self) -> None:
        helper, self._helper = self._helper, None
        self._known.clear()
        self._has_waited = False
        if helper is not None:
            helper.close()


def _plain(words: str) -> str:
    """Leave out what would end a question, or could not be written."""
    return _NO_TEXT.sub(" ", words)
