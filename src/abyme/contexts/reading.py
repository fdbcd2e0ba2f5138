"""What confined readers make of a file, item by item: the loader's way to every format.

Decides which helper reads what: one process a reader, started when the first file needs it, kept
for the next ones, ended when it did not keep its rules. It never looks at the file itself, and
believes nothing that it is told of it: names are bounded, texts are UTF-8 or the file is
unreadable, pages rise within their text, and everything together stays within `ReadLimits`.

Does not choose readers (`kinds`), place items in a context or make their names unique (`load`).
"""

import array
import contextlib
import fcntl
import itertools
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Self, TypeAlias

from abyme.contexts.confined import (
    END_TIMEOUT_S,
    HEADER,
    MAX_HEAD_BYTES,
    Confined,
    HelperFailed,
    HelperUnavailable,
)
from abyme.contexts.kinds import Kind
from abyme.helpers.emit import Unreadable

__all__ = [
    "DocumentItem",
    "Item",
    "MemberItem",
    "Passing",
    "ReadLimits",
    "Readers",
    "SkippedItem",
    "Unreadable",
]


READERS: Final = "abyme.helpers.readers"
PIECE_BYTES: Final = 1 << 20
MAX_TEXT_BYTES: Final = 512_000_000
"""Of one document's text, as UTF-8, and of its table: both are in memory at once."""
MAX_PAGES: Final = 2_000_000
MAX_EMPTY_PAGES: Final = 100_000
"""Without a character between them, as in a scan."""
MAX_WORDS_CHARS, MAX_WORD_CHARS = 300, 120
NEARLY: Final = 0.8
"""Of its memory in use when it was killed: memory is why."""
F_SETPIPE_SZ: Final = 1031
OUT_OF_TIME: Final = (-signal.SIGKILL, -signal.SIGXCPU)
"""How a process ends that used its processor time. What is told of that time is less exact."""
OF_NO_MEMORY: Final = (-signal.SIGSEGV, -signal.SIGABRT)
"""How libraries end that are refused memory at once, which no peak shows."""


@dataclass(frozen=True, slots=True)
class DocumentItem:
    """A text of the file. `name` is relative to the file; ``""`` is the file itself."""

    name: str
    text: str
    media: str
    pages: tuple[int, ...] = ()
    page_word: str = "page"
    table: bytes | None = None
    """The same rows as an Arrow IPC file, as the reader says; nobody has looked into it."""
    note: str | None = None


@dataclass(frozen=True, slots=True)
class MemberItem:
    """A file that lies in the file. Its bytes can be taken until the next item is asked for."""

    name: str
    data: Iterator[bytes]
    """Pieces of up to 1 MB. Raises Unreadable if the file breaks off or goes beyond a limit."""
    size_bytes: int | None = None
    """As the container says; not checked."""


@dataclass(frozen=True, slots=True)
class SkippedItem:
    """Something that was met and cannot be read."""

    name: str
    reason: str


Item: TypeAlias = DocumentItem | MemberItem | SkippedItem


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What reading one file may take. Beyond any of them it is Unreadable, with what is said."""

    cpu_s: int = 60
    wall_s: float = 300.0
    """Without the time that whoever takes the items needs."""
    memory_bytes: int = 1_000_000_000
    out_bytes: int = 4_000_000_000
    """Of all texts, tables and members together."""
    items: int = 200_000


class Readers:
    """Readers of a load, to be used from any thread; `close` ends their processes."""

    def __init__(self, limits: ReadLimits | None = None) -> None:
        self._limits = limits or ReadLimits()
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, ReadLimits], list[Confined]] = {}
        self._running: set[Confined] = set()
        self._closed = False

    def open(
        self, fd: int, kind: Kind, name: str, limits: ReadLimits | None = None
    ) -> Generator[Item, None, None]:
        """Read the file behind a descriptor, which stays the caller's; `name` helps some readers.

        A generator: close it (or let it end) before the descriptor is closed. The position
        of the descriptor is moved.

        Raises:
            Unreadable: the file cannot be read, or no further than the items that were given.
            HelperUnavailable: nothing can be read by helpers on this system.
        """
        limits = limits or self._limits
        helper = self._take(kind, limits)
        ours, theirs = os.pipe()
        sound = False
        try:
            with contextlib.suppress(OSError):  # a user may have too many wide pipes already
                fcntl.fcntl(theirs, F_SETPIPE_SZ, PIECE_BYTES)
            try:
                helper.send({"name": name}, [fd, theirs])
            finally:
                os.close(theirs)
            try:
                yield from _Incoming(ours, limits).items()
            except _Finished as said:
                sound = _end_of(helper) is not None
                if said.unreadable is not None:
                    raise said.unreadable from None
            except EOFError:
                end = _end_of(helper)
                sound = end is not None
                raise Passing(_why_ended(end, limits)) from None
        except HelperFailed as error:
            raise Passing(f"its reader failed ({error.why})") from error
        except MemoryError:
            raise Passing("there is no memory left for what its reader gives") from None
        finally:
            os.close(ours)
            self._give_back(helper, kind, limits, sound=sound)

    def close(self) -> None:
        """End all readers. Safe to repeat."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, set()
            self._idle = {}
        for helper in running:
            helper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, kind: Kind, limits: ReadLimits) -> Confined:
        """Have a reader of that kind that nobody uses, started if there is none."""
        with self._lock:
            if self._closed:
                raise HelperUnavailable("readers are closed")
            idle = self._idle.get((kind.reader, limits))
            if idle:
                return idle.pop()
            helper = self._new(kind, limits)
            self._running.add(helper)
        try:
            helper.start()
        except BaseException:
            self._give_back(helper, kind, limits, sound=False)
            raise
        return helper

    def _new(self, kind: Kind, limits: ReadLimits) -> Confined:
        return Confined(
            "read",
            memory_bytes=limits.memory_bytes,
            cpu_s=limits.cpu_s,
            order={"reader": f"{READERS}.{kind.reader}", "needs": kind.needs},
            needs=kind.needs,
        )

    def _give_back(self, helper: Confined, kind: Kind, limits: ReadLimits, *, sound: bool) -> None:
        with self._lock:
            if sound and not self._closed:
                self._idle.setdefault((kind.reader, limits), []).append(helper)
                return
            self._running.discard(helper)
        helper.close()


class Passing(Unreadable):
    """A file could not be read by what may be otherwise on another day."""


class _Finished(Exception):
    """The reader has said its last word."""

    def __init__(self, unreadable: Unreadable | None) -> None:
        self.unreadable = unreadable


class _Broken(Unreadable):
    """A member breaks off; what is behind it can be read."""


class _Incoming:
    """What comes through the pipe of one document, checked."""

    def __init__(self, fd: int, limits: ReadLimits) -> None:
        self._fd = fd
        self._limits = limits
        self._left_s = limits.wall_s
        self._left_bytes = limits.out_bytes
        self._end: Exception | None = None
        """Met in the midst of a member."""
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def items(self) -> Iterator[Item]:
        """Give items until the reader's last word.

        Raises:
            _Finished: that came.
            EOFError: it did not.
            Unreadable: it is not to be listened to any longer.
        """
        layers = self._head()
        if layers.get("t") != "confined":
            raise HelperUnavailable(f"a reader cannot be confined here ({layers.get('why')})")
        for _ in range(self._limits.items):
            head = self._head()
            match head.get("t"):
                case "document":
                    yield self._document(head)
                case "member":
                    data = self._pieces()
                    yield MemberItem(_name(head), data, _count(head, "size", None))
                    self._leave(data)
                case "skipped":
                    yield SkippedItem(_name(head), _words(head, "why"))
                case "done":
                    raise _Finished(None)
                case "unreadable":
                    raise _Finished(Unreadable(_words(head, "why")))
                case "memory":
                    raise _Finished(Passing(_too_much_memory(self._limits)))
                case _:
                    raise _broke_the_rules()
        raise Unreadable(f"more than {self._limits.items:,} entries")

    def _document(self, head: dict[str, Any]) -> DocumentItem:
        pages, text_bytes = _count(head, "pages", 0) or 0, _count(head, "text", 0) or 0
        table_bytes = _count(head, "table", None)
        if text_bytes > MAX_TEXT_BYTES or (table_bytes or 0) > MAX_TEXT_BYTES:
            raise Unreadable(f"a text of more than {size_words(MAX_TEXT_BYTES)}")
        if pages > min(MAX_PAGES, text_bytes + MAX_EMPTY_PAGES):
            raise Unreadable(f"more pages than its text can have ({pages:,})")
        places = array.array("Q", bytes(self._exactly(pages * 8)))
        if sys.byteorder == "big":
            places.byteswap()
        try:
            text = self._exactly(text_bytes).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise _broke_the_rules() from None
        if places and not (
            places[0] == 0
            and places[-1] <= len(text)
            and all(a <= b for a, b in itertools.pairwise(places))
        ):
            raise _broke_the_rules()
        table = None if table_bytes is None else bytes(self._exactly(table_bytes))
        note = None if head.get("note") is None else _words(head, "note")
        media, page_word = _words(head, "media")[:MAX_WORD_CHARS], _words(head, "page_word")
        return DocumentItem(
            _name(head), text, media, tuple(places), page_word[:MAX_WORD_CHARS], table, note
        )

    def _pieces(self) -> Iterator[bytes]:
        """Give a member. Whatever ends it is Unreadable to whoever takes it; `items` knows more."""
        try:
            yield from self._stretches()
        except _Broken:
            raise
        except (_Finished, EOFError, Unreadable) as error:
            self._end = error
            told = error.unreadable if isinstance(error, _Finished) else error
            kind = Passing if isinstance(told, Passing) else Unreadable
            raise kind(str(told or "") or "its archive breaks off") from error

    def _leave(self, data: Iterator[bytes]) -> None:
        """Let what nobody took of a member go by."""
        with contextlib.suppress(Unreadable):
            for _piece in data:
                pass
        if self._end is not None:
            raise self._end

    def _stretches(self) -> Iterator[bytes]:
        while True:
            head_bytes, size = HEADER.unpack(self._exactly(HEADER.size))
            if not size and not head_bytes:
                return
            if head_bytes:
                self._unfinished(head_bytes)
            if size > PIECE_BYTES:
                raise _broke_the_rules()
            yield bytes(self._exactly(size))

    def _unfinished(self, head_bytes: int) -> NoReturn:
        """Read the head that comes in the place of a member's piece: it broke off."""
        head = self._head(head_bytes)
        if head.get("t") == "broken":
            raise _Broken(_words(head, "why"))
        if head.get("t") == "unreadable":
            raise _Finished(Unreadable(_words(head, "why")))
        if head.get("t") == "memory":
            raise _Finished(Passing(_too_much_memory(self._limits)))
        raise _broke_the_rules()

    def _head(self, size: int | None = None) -> dict[str, Any]:
        if size is None:
            size, body_bytes = HEADER.unpack(self._exactly(HEADER.size))
            if body_bytes:
                raise _broke_the_rules()
        if size > MAX_HEAD_BYTES:
            raise _broke_the_rules()
        try:
            head = json.loads(self._exactly(size))
        except (ValueError, RecursionError):
            raise _broke_the_rules() from None
        if not isinstance(head, dict):
            raise _broke_the_rules()
        return head

    def _exactly(self, size: int) -> bytearray:
        """Read that many bytes, within the time and the amount that are left."""
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise Unreadable(f"more than {size_words(self._limits.out_bytes)} when unpacked")
        data = bytearray()
        while len(data) < size:  # what is only announced takes no memory here
            self._wait()
            got = os.read(self._fd, min(size - len(data), PIECE_BYTES))
            if not got:
                raise EOFError
            data += got
        return data

    def _wait(self) -> None:
        if self._poll.poll(0):
            return
        before = time.monotonic()
        if not self._poll.poll(max(1, int(self._left_s * 1000))):
            raise Passing(f"takes more than {self._limits.wall_s:g} s to read")
        self._left_s -= time.monotonic() - before


def _end_of(helper: Confined) -> dict[str, Any] | None:
    """Hear how the process of a document ended; None: it did not, and is ended now."""
    try:
        end, _ = helper.receive(END_TIMEOUT_S)
    except HelperFailed:
        return None
    return end


def _why_ended(end: dict[str, Any] | None, limits: ReadLimits) -> str:
    if end is None:
        return "broken (its reader ended)"
    status, cpu_s, peak = end["status"], end["cpu_s"], end["peak_bytes"]
    if status in OUT_OF_TIME and cpu_s >= limits.cpu_s / 2:
        return f"takes more than {limits.cpu_s} s to read"
    if status < 0 and peak > limits.memory_bytes * NEARLY:
        return _too_much_memory(limits)
    if status in OF_NO_MEMORY:
        most = size_words(limits.memory_bytes)
        return f"crashes its reader (signal {-status}), or needs more than {most} of memory"
    if status < 0:
        return f"crashes its reader (signal {-status})"
    return "broken (its reader ended)"


def _too_much_memory(limits: ReadLimits) -> str:
    return f"needs more than {size_words(limits.memory_bytes)} of memory"


def _broke_the_rules() -> Unreadable:
    return Unreadable("broken (its reader broke the rules)")


def _name(head: dict[str, Any]) -> str:
    name = head.get("name")
    if not isinstance(name, str):
        raise _broke_the_rules()
    return name


def _words(head: dict[str, Any], key: str) -> str:
    """Take a few words for people: one line, nothing that a terminal would obey."""
    words = head.get(key)
    if not isinstance(words, str):
        raise _broke_the_rules()
    return "".join(c if c.isprintable() else " " for c in words[:MAX_WORDS_CHARS])


def _count(head: dict[str, Any], key: str, default: int | None) -> int | None:
    count = head.get(key, default)
    if count is None:
        return default
    if type(count) is not int or not 0 <= count < 1 << 53:
        raise _broke_the_rules()
    return count


def size_words(size_bytes: int) -> str:
    """Write a limit for people."""
    unit, name = (10**9, "GB") if size_bytes >= 10**9 else (10**6, "MB")
    return f"{size_bytes / unit:.1f} {name}"
