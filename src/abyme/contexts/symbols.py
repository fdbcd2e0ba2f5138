"""Classes and functions of a document of code, for a REPL: asked of a confined helper.

Decides a document's language by its name. Invariant: what the helper says is checked against the
document before anybody is told. Parsing is the helper's (`abyme.helpers.symbols`), and so is what
a symbol is; documents in other languages are the guest's to cut by plainer means.
"""

import asyncio
import contextlib
import importlib.util
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import msgspec

from abyme.contexts.confined import Confined, HelperFailed
from abyme.core.seeks import Sought, Symbols
from abyme.errors import ContextError
from abyme.helpers.symbols import GRAMMARS
from abyme.layout import Entry

if TYPE_CHECKING:
    from abyme.contexts.seeking import Where
    from abyme.contexts.texts import Memory

LANGUAGES: Final = {
    **dict.fromkeys(("py", "pyi", "pyw"), "python"),
    **dict.fromkeys(("c", "h"), "c"),
    **dict.fromkeys(("cc", "cpp", "cxx", "hh", "hpp", "hxx", "ipp", "cu", "cuh"), "cpp"),
    **dict.fromkeys(("js", "mjs", "cjs", "jsx"), "javascript"),
    **dict.fromkeys(("ts", "mts", "cts"), "typescript"),
    "go": "go",
    "java": "java",
    "rs": "rust",
    "tsx": "tsx",
}
"""By the last suffix of a name."""
MAX_CHARS: Final = 8_000_000
MEMORY_BYTES: Final = 2 << 30
TIMEOUT_S: Final = 10.0
_KEPT: Final = 64
_HEAD_CHARS: Final = 20_000
_IS_CPP: Final = re.compile(
    r"^\s*(?:class \w|namespace\b|template\s*<|public:|using \w)", re.MULTILINE
)
_Found: TypeAlias = list[tuple[int, int, int, int, str, str]]


async def symbols(wanted: Symbols, where: "Where") -> Sought:
    """Find the symbols of one document, by their beginnings.

    Raises:
        ContextError: the document is not there, in no language that is known, or too large; the
            extra is missing; the helper failed.
    """
    if wanted.document >= len(where.index):
        raise ContextError(f"there is no document {wanted.document}")
    entry = where.index[wanted.document]
    names = where.index.names
    name = names[wanted.document] if wanted.document < len(names) else ""
    finder = cast("SymbolFinder", where.memory.companion("symbols", SymbolFinder))
    return await finder.found(where.memory, entry, name)


def language_of(name: str, head: str) -> str | None:
    """Tell a document's language by its name; by its beginning what a header is a header of."""
    language = LANGUAGES.get(name.rpartition(".")[2].lower()) if "." in name else None
    if language is None and head.startswith("#!") and "python" in head.partition("\n")[0]:
        return "python"
    if language == "c" and name[-2:].lower() == ".h" and _IS_CPP.search(head):
        return "cpp"
    return language


class SymbolFinder:
    """A helper, started when it is first asked, and what it last said."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "abyme-symbols")
        self._helper: Confined | None = None
        self._found: dict[tuple[Entry, str], Sought] = {}
        self._is_closed = False

    async def found(self, memory: "Memory", entry: Entry, name: str) -> Sought:
        """Find the symbols of a text; who is cancelled while others are asking never asks.

        Raises:
            ContextError: see `symbols`.
        """
        if self._is_closed:
            raise ContextError("the context is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.find, memory, entry, name)

    def find(self, memory: "Memory", entry: Entry, name: str) -> Sought:
        """Find the symbols of a text; for worker threads.

        Raises:
            ContextError: see `symbols`.
        """
        language = language_of(name, memory.cut(entry, 0, _HEAD_CHARS))
        if language is None:
            raise ContextError(f"{name or 'this text'}: no language that is known by its name")
        if entry.chars > MAX_CHARS:
            raise ContextError(f"{name}: more than {MAX_CHARS:,} characters")
        with self._lock:
            known = self._found.get((entry, language))
            if known is None:
                known = self._ask(memory.cut(entry, 0, entry.chars), language)
                self._found[entry, language] = known
                if len(self._found) > _KEPT:
                    del self._found[next(iter(self._found))]
        return known

    def close(self) -> None:
        """End the helper. Safe to repeat."""
        self._is_closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)
        helper = self._helper
        if helper is not None:
            helper.close()

    def _ask(self, text: str, language: str) -> Sought:
        helper = self._running(language)
        try:
            helper.send({"language": language}, body=text.encode("utf-8", "surrogatepass"))
            head, body = helper.receive(TIMEOUT_S)
            found = msgspec.json.decode(body, type=_Found)
            _check(found, len(text))
        except (HelperFailed, ValueError, msgspec.DecodeError):
            self._helper = None
            helper.close()
            raise ContextError("this document crashes its parser, or takes it too long") from None
        places: list[list[int | float | str]] = [list(one) for one in found]
        return Sought(places=places, total=len(places), complete=head.get("complete") is True)

    def _running(self, language: str) -> Confined:
        if self._is_closed:
            raise ContextError("the context is closed")
        if self._helper is None:
            for module in ("tree_sitter", GRAMMARS[language][0]):
                if importlib.util.find_spec(module) is None:
                    raise ContextError("symbols need abyme[code]")
            needs = ["tree_sitter", *(module for module, _ in GRAMMARS.values())]
            there = [one for one in dict.fromkeys(needs) if importlib.util.find_spec(one)]
            helper = Confined("symbols", memory_bytes=MEMORY_BYTES, needs=there)
            with contextlib.ExitStack() as undo:
                undo.callback(helper.close)
                helper.start()
                undo.pop_all()
            self._helper = helper
        return self._helper


def _check(found: _Found, chars: int) -> None:
    """See that places rise and lie within the text.

    Raises:
        ValueError: they do not.
    """
    before = 0
    for start, end, line, depth, _, _ in found:
        if not (before <= start < end <= chars and line >= 1 and depth >= 0):
            raise ValueError((start, end, line, depth))
        before = start
