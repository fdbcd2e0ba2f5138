"""Characters out of a sealed arena, on the host.

Invariant: what comes out equals what went in, lone surrogates included, and a
piece of a text costs that piece. The memory lives as long as a context that looks at it.
An arena that is a file is read by pread(2), since a map of one that somebody cuts short is
a signal, and every read looks whether it was touched.
Does not keep texts: every call copies.
"""

import array
import mmap
import os
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Final, Protocol

from abyme.contexts.arena import CODEC, is_sealed
from abyme.contexts.room import stamp
from abyme.errors import ContextError
from abyme.layout import UCS2, WIDTH, Entry, Index

WINDOW_CHARS: Final = 1 << 20


class Companion(Protocol):
    """What serves a memory, such as a helper that looks into it."""

    def close(self) -> None:
        """Let go."""
        ...


class Memory:
    """An arena that a context and all its parts look at; the last to let go closes it.

    Contexts are made, checked and closed in different threads.
    """

    def __init__(self, fd: int) -> None:
        """Take the descriptor over."""
        self.fd = fd
        self.is_sealed = is_sealed(fd)
        """False: a file, which other processes of this user could change."""
        self._stamp = stamp(fd)
        self._area: mmap.mmap | None = None
        self._view = memoryview(b"")
        if self.is_sealed:
            try:
                self._area = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
            except OSError as error:  # it takes a descriptor of its own
                os.close(fd)
                raise ContextError(f"the context cannot be mapped: {error.strerror}") from None
            self._view = memoryview(self._area)
        self._users = 1
        self._guard = Lock()
        self._counting = Lock()
        self._line_ends: dict[Entry, list[int]] = {}
        """Of a text, before each of its windows."""
        self._companions: dict[str, Companion] = {}

    def companion(self, what: str, make: Callable[[], Companion]) -> Companion:
        """Give what serves this memory, made when it is first asked for and closed with it.

        Raises:
            ContextError: it is closed.
        """
        with self._guard:
            if self._users == 0:
                raise ContextError("the context is closed")
            if what not in self._companions:
                self._companions[what] = make()
            return self._companions[what]

    def share(self) -> "Memory":
        """Look at it as well: one more has to `release` it.

        Raises:
            ContextError: it is closed.
        """
        with self._guard:
            if self._users == 0:
                raise ContextError("the context is closed")
            self._users += 1
        return self

    def release(self) -> None:
        """Let go; each user once."""
        with self._guard:
            self._users -= 1
            if self._users:
                return
        for companion in self._companions.values():
            companion.close()
        self._view.release()
        if self._area is not None:
            self._area.close()
        os.close(self.fd)

    def cut(self, entry: Entry, start: int, end: int) -> str:
        """Copy the characters from `start` to `end` of a text, cut to what is there.

        Raises:
            ContextError: the context is a file, and somebody has changed it.
        """
        start, end = max(0, start), min(entry.chars, end)
        if start >= end:
            return ""
        width = WIDTH[entry.kind]
        data = self._bytes(entry.offset + start * width, (end - start) * width)
        text = str(data, CODEC[entry.kind], "surrogatepass")
        if entry.kind == UCS2 and len(text) != end - start:
            # Two lone surrogates side by side are two characters here, one to the codec.
            wide = array.array("I", array.array("H", bytes(data)))
            text = str(wide.tobytes(), "utf-32-le", "surrogatepass")
        return text

    def check_untouched(self) -> None:
        """See that nobody has changed an arena that is a file.

        Raises:
            ContextError: somebody has.
        """
        if self.is_sealed:
            return
        now = stamp(self.fd)
        if now.is_same(self._stamp):
            return
        what = "cut short" if now.size_bytes < self._stamp.size_bytes else "changed"
        raise ContextError(f"the file of the context was {what} by another process")

    def _bytes(self, at: int, size: int) -> bytes | memoryview:
        if self._area is not None:
            return self._view[at : at + size]
        pieces, end = [], at + size
        while at < end:
            piece = os.pread(self.fd, end - at, at)
            if not piece:
                break
            pieces.append(piece)
            at += len(piece)
        self.check_untouched()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def line(self, entry: Entry, at: int) -> int:
        """Give the number, from 1, of the line that a character of a text stands in.

        Line ends are counted once for each window.
        """
        window = at // WINDOW_CHARS
        with self._counting:
            counts = self._line_ends.setdefault(entry, [0])
            while len(counts) <= window:
                start = (len(counts) - 1) * WINDOW_CHARS
                piece = self.cut(entry, start, start + WINDOW_CHARS)
                counts.append(counts[-1] + piece.count("\n"))
            before = counts[window]
        return before + self.cut(entry, window * WINDOW_CHARS, at).count("\n") + 1


class Texts:
    """Read access to the texts of one context."""

    def __init__(self, index: Index, memory: Memory) -> None:
        self.index = index
        self._memory = memory

    def __len__(self) -> int:
        return len(self.index)

    def whole(self, document: int) -> str:
        """Copy one text."""
        return self.piece(document, 0, self.index[document].chars)

    def piece(self, document: int, start: int, end: int) -> str:
        """Copy the characters from `start` to `end`, cut to what is there."""
        return self._memory.cut(self.index[document], start, end)

    def windows(self, document: int, overlap: int = 0) -> Iterator[tuple[int, str]]:
        """Cut a text into pieces of about a million characters: (start, piece).

        Each piece reaches `overlap` characters into the next, and is at least as long itself.
        """
        chars = self.index[document].chars
        step = max(WINDOW_CHARS, overlap)
        for start in range(0, chars, step):
            yield start, self.piece(document, start, start + step + overlap)
