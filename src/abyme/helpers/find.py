"""The job `find`: patterns of a model's, over an arena that is mapped once, by RE2.

Decides how a pattern is read for each kind of text, and how far a text is looked at in windows.
It answers with numbers only. Invariant: what it gives is what `re` would find
(`abyme.guest.linear`), in time linear to the text but for lines that only `re` can judge; where
it cannot keep that it refuses, and the guest looks for itself.

A window is the lines that begin in so many bytes of a text: a match that holds no line's end
is found in it as in the whole. Other patterns look at whole texts.
"""

import array
import codecs
import functools
import mmap
import os
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from abyme.guest.linear import Linear, NotLinear
from abyme.guest.patterns import Pattern
from abyme.helpers import lines as found_in
from abyme.helpers.lines import Narrow, Plain, Stretch, Wide
from abyme.helpers.link import Link
from abyme.layout import LATIN1, UCS2, WIDTH, WORDS, Index, read_index

MAX_WIDE_BYTES: Final = 128 << 20
"""Of a text that has to be given to RE2 as UTF-8, whole."""
TWINS_BYTES: Final = 256 << 20
"""Of texts kept as UTF-8, in each helper: to make them takes longer than to look at them."""
MAX_PLACES: Final = 200_000
DFA_BYTES: Final = 64 << 20
"""What RE2 may use for one expression."""
MAX_CONTEXTS: Final = 64
LINE_END: Final = {1: b"\n", 2: b"\n\0", 4: b"\n\0\0\0"}
ALL: Final = -1
"""In the place of a window: the whole text."""


class Refused(Exception):
    """A question is not answered here; the message says why."""


def prepare(_: Mapping[str, Any]) -> None:
    """Load all that is needed later."""
    _compiled("", is_utf8=False)
    unicodedata.lookup("DIGIT ONE")  # its module is a library, which `\\N{...}` would look for
    for codec in ("utf-16-le", "utf-32-le"):
        codecs.lookup(codec)


def serve(link: Link) -> None:
    """Answer until the host is gone."""
    job: Job | None = None
    while (frame := link.receive()) is not None:
        head, _, fds = frame
        if head["t"] == "arena":
            job = Job(fds[0], head["window_bytes"])
        elif job is None:
            return
        elif head["t"] == "context":
            job.add(head["key"], fds[0])
        else:
            link.send(*job.answer(head))


class Job:
    """What one helper knows."""

    def __init__(self, arena_fd: int, window_bytes: int) -> None:
        self._window_bytes = window_bytes
        self._area = mmap.mmap(arena_fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
        os.close(arena_fd)
        self._contexts: OrderedDict[int, Index] = OrderedDict()
        self._twins = Twins()

    def add(self, key: int, index_fd: int) -> None:
        """Take the index of a context; the oldest of too many goes."""
        data = os.pread(index_fd, os.fstat(index_fd).st_size, 0)
        os.close(index_fd)
        self._contexts.pop(key, None)  # told again: the newest, as it is to the host
        self._contexts[key] = read_index(data, len(self._area))
        if len(self._contexts) > MAX_CONTEXTS:
            self._contexts.popitem(last=False)

    def answer(self, head: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Answer one question: head and body."""
        try:
            if head["t"] == "plan":
                return self._plan(head), b""
            index = self._contexts[head["key"]]
            if head["t"] == "ends":
                counts = [self._ends(index, doc, window) for doc, window in head["units"]]
                return {"ends": counts}, b""
            return self._find(index, head)
        except Refused as error:
            return {"refused": str(error)}, b""

    def _plan(self, head: Mapping[str, Any]) -> dict[str, Any]:
        """Tell whether a pattern can be looked for at all, and whether in windows."""
        engines = [
            engine_of(head["pattern"], head["flags"], kind, crlf=False) for kind in head["kinds"]
        ]
        return {"crosses": any(engine.linear.crosses for engine in engines)}

    def _find(self, index: Index, head: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        limit = head["limit"]
        most = MAX_PLACES if limit is None else min(limit, MAX_PLACES)
        places = array.array("q")
        total, crossed, complete = 0, False, True
        for doc, stretch, engine, before in self._stretches(index, head):
            if head["count"]:
                total += engine.count(stretch)
                continue
            line, counted = 1, 0
            for begin, stop, start, end in engine.lines(stretch):
                if begin < 0:
                    crossed = True
                    continue
                if total >= most:
                    complete = False
                    break
                line += stretch.ends(counted, begin)
                counted = begin
                spans = (at + before for at in (begin, stop, start, end))
                places.extend((doc, *spans, line))
                total += 1
            if not complete:
                break
        told = {"total": total, "crossed": crossed, "complete": complete}
        return told, places.tobytes()

    def _stretches(
        self, index: Index, head: Mapping[str, Any]
    ) -> Iterator[tuple[int, Stretch, "Engine", int]]:
        """Go through what is to be looked at: document, text, expression, characters before."""
        pattern, flags = head["pattern"], head["flags"]
        engines: dict[int, Engine] = {}
        words, area = index.words, self._area
        for first, behind, window in head["units"]:
            for doc in range(first, behind):  # of a hundred thousand each step here is 10 ms
                offset, _, chars, kind = words[doc * WORDS : doc * WORDS + 4]
                engine = engines.get(kind)
                if engine is None:
                    engine = engines[kind] = engine_of(pattern, flags, kind, crlf=False)
                whole = engine.linear.crosses
                low, high = 0, chars
                if window != ALL and not whole:
                    low, high = self._window(index, doc, window)
                if low == high:
                    continue
                width = WIDTH[kind]
                at, size = offset + low * width, high - low
                end = at + size * width
                if engine.linear.opens_ends and self._has_crlf(index, doc, low, high):
                    engine = engine_of(pattern, flags, kind, crlf=True)
                if not whole and area[end - width : end] == LINE_END[width]:
                    size -= 1
                yield doc, self._stretch(at, size, kind, engine), engine, low

    def _stretch(self, at: int, size: int, kind: int, engine: "Engine") -> Stretch:
        whole = engine.linear.crosses
        if kind <= LATIN1:
            return Narrow(self._area, at, size, engine.found, whole=whole)
        if size * WIDTH[kind] > MAX_WIDE_BYTES:
            raise Refused("a text is too long to be looked at as a whole")
        data = self._twins.get(at, size)
        if data is None:
            text = self._text(at, size, kind)
            try:
                data = text.encode()
            except UnicodeEncodeError:
                return Plain(text, engine.pattern, crlf=engine.crlf, whole=whole)
            self._twins.keep(at, size, data)
        return Wide(data, size, engine.found, whole=whole)

    def _text(self, at: int, size: int, kind: int) -> str:
        data = self._area[at : at + size * WIDTH[kind]]
        text = str(data, "utf-16-le" if kind == UCS2 else "utf-32-le", "surrogatepass")
        if len(text) != size:  # two lone surrogates side by side: one character to the codec
            wide = array.array("I", array.array("H", data))
            text = str(wide.tobytes(), "utf-32-le", "surrogatepass")
        return text

    def _window(self, index: Index, doc: int, window: int) -> tuple[int, int]:
        """Give the lines that begin in a window, as characters."""
        entry = index[doc]
        if window == ALL:
            return 0, entry.chars
        step = self._window_bytes // WIDTH[entry.kind]
        low = self._line_from(index, doc, window * step)
        return low, self._line_from(index, doc, (window + 1) * step)

    def _line_from(self, index: Index, doc: int, at: int) -> int:
        """Find the first line that begins at a character or behind it."""
        entry = index[doc]
        if not 0 < at < entry.chars:
            return min(at, entry.chars)
        width = WIDTH[entry.kind]
        end = b"\n".ljust(width, b"\0")
        place, stop = entry.offset + (at - 1) * width, entry.offset + entry.size_bytes
        while (place := self._area.find(end, place, stop)) >= 0:
            if not (place - entry.offset) % width:
                return (place - entry.offset) // width + 1
            place += 1
        return entry.chars

    def _has_crlf(self, index: Index, doc: int, low: int, high: int) -> bool:
        r"""Tell whether ``$`` stands before ``\r`` somewhere here: the text has ``\r\n``, and
        these characters have it too, or end in ``\r``.
        """
        entry = index[doc]
        width = WIDTH[entry.kind]
        start, end = entry.offset + low * width, entry.offset + high * width
        carriage = b"\r".ljust(width, b"\0")
        if self._seen(b"\r", start, end) < 0:
            return False
        if self._aligned(carriage + b"\n".ljust(width, b"\0"), start, end, width):
            return True
        if self._area[end - width : end] != carriage:
            return False
        stop = entry.offset + entry.size_bytes
        return self._aligned(carriage + b"\n".ljust(width, b"\0"), entry.offset, stop, width)

    def _seen(self, byte: bytes, start: int, end: int) -> int:
        view = memoryview(self._area)[start:end]
        found = _literal(byte)
        at: int = found.Match(found.Anchor.UNANCHORED, view, 0, end - start)[0][0]
        return at

    def _aligned(self, wanted: bytes, start: int, end: int, width: int) -> bool:
        place = start
        while (place := self._area.find(wanted, place, end)) >= 0:
            if not (place - start) % width:
                return True
            place += 1
        return False

    def _ends(self, index: Index, doc: int, window: int) -> int:
        """Count the line ends of a window."""
        entry = index[doc]
        width = WIDTH[entry.kind]
        low, high = self._window(index, doc, window)
        data = self._area[entry.offset + low * width : entry.offset + high * width]
        if width == 1:
            return data.count(b"\n")
        return self._text(entry.offset + low * width, high - low, entry.kind).count("\n")


class Twins:
    """Wide texts as UTF-8, for the next question; the oldest go."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._bytes = 0

    def get(self, at: int, size: int) -> bytes | None:
        """Give the twin of so many characters at a place, if it is there."""
        data = self._kept.get((at, size))
        if data is not None:
            self._kept.move_to_end((at, size))
        return data

    def keep(self, at: int, size: int, data: bytes) -> None:
        """Keep one."""
        self._kept[at, size] = data
        self._bytes += len(data)
        while self._bytes > TWINS_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped)


class Engine:
    """A pattern, for texts of one kind."""

    def __init__(self, pattern: Pattern, linear: Linear, found: Any, *, crlf: bool) -> None:
        self.pattern, self.linear, self.found, self.crlf = pattern, linear, found, crlf

    def lines(self, stretch: Stretch) -> Iterator[tuple[int, ...]]:
        """Find lines, see `abyme.helpers.lines.lines`."""
        by_re = type(stretch) is Plain or self.linear.exact
        return found_in.lines(stretch, None if by_re else self.pattern, crlf=self.crlf)

    def count(self, stretch: Stretch) -> int:
        """Count matches."""
        if type(stretch) is Plain:
            return stretch.count()
        return found_in.count(stretch, self.pattern, self.linear, crlf=self.crlf)


@functools.lru_cache(maxsize=64)
def engine_of(pattern: str, flags: int, kind: int, *, crlf: bool) -> Engine:
    """Make RE2's form of a pattern.

    Raises:
        Refused: it has none.
    """
    try:
        python = Pattern(pattern, flags)
        linear = Linear.of(python.tree, python.flags, kind, crlf=crlf)
    except (ValueError, NotLinear) as error:
        raise Refused(str(error)) from None
    compiled = _compiled(linear.pattern, is_utf8=kind > LATIN1)
    if not compiled.ok():
        raise Refused(f"RE2 does not take it: {compiled.error()}")
    return Engine(python, linear, compiled, crlf=crlf)


def _compiled(pattern: str, *, is_utf8: bool) -> Any:
    from re2 import _re2  # noqa: PLC0415 - the module's own functions copy a str for each match

    options = _re2.RE2.Options()
    encoding = _re2.RE2.Options.Encoding
    options.encoding = encoding.UTF8 if is_utf8 else encoding.LATIN1
    options.max_mem = DFA_BYTES
    options.log_errors = False
    options.never_capture = True
    return _re2.RE2(pattern.encode("ascii"), options)


@functools.lru_cache(maxsize=4)
def _literal(byte: bytes) -> Any:
    return _compiled(f"\\x{byte[0]:02x}", is_utf8=False)
