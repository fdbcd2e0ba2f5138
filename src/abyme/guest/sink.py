"""Where a cell's output goes: stdout, stderr and echo in one, in order.

Decides what is kept. The whole output up to `MAX_KEPT_CHARS`, or what its memory has room for, is
kept for `last_output`; of what the model is shown the head and the tail stay, and the
middle is counted. Writing is cheap whatever the size of the pieces: they are
joined a thousand at a time.
"""

import io
import threading
from dataclasses import dataclass

MAX_KEPT_CHARS = 128 << 20
MEMORY_SHARE = 4
"""Bytes that a REPL process may have, for each character that is kept."""
JOIN_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Shown:
    """Output of a cell as the model sees it, and how much was cut out of its middle."""

    text: str
    dropped_chars: int


class Sink(io.TextIOBase):
    """A text stream in memory. Never closed, never a terminal, has no descriptor."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    name = "<cell output>"
    mode = "w"

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler of a cell may print while it prints
        self._blocks: list[str] = []
        self._pieces: list[str] = []
        self._chars = 0
        self._lost_chars = 0
        self._most_chars = MAX_KEPT_CHARS
        self.buffer = _Bytes(self)

    def bound(self, memory_bytes: int) -> None:
        """Keep no more than a process has room for, twice while it is cut, of one byte each."""
        self._most_chars = min(MAX_KEPT_CHARS, memory_bytes // MEMORY_SHARE)

    def write(self, text: str) -> int:
        """Add text.

        Raises:
            TypeError: if it is not text.
        """
        if not isinstance(text, str):
            msg = f"write() argument must be str, not {type(text).__name__}"
            raise TypeError(msg)
        size = len(text)
        with self._lock:
            if self._chars + size > self._most_chars:
                self._shrink()
            self._pieces.append(text if type(text) is str else str.__str__(text))
            self._chars += size
            if len(self._pieces) >= JOIN_EVERY:
                self._blocks.append("".join(self._pieces))
                self._pieces.clear()
        return size

    def writable(self) -> bool:
        """Can be written to."""
        return True

    def isatty(self) -> bool:
        """Is no terminal."""
        return False

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Stay open: the next cell prints here too."""

    def take(self) -> tuple[str, int]:
        """All that was written since the last call, and the characters that were lost."""
        with self._lock:
            text = "".join([*self._blocks, *self._pieces])
            lost = self._lost_chars
            self._blocks.clear()
            self._pieces.clear()
            self._chars = self._lost_chars = 0
        return text, lost

    def _shrink(self) -> None:
        """Endless output: keep the first half and the last quarter of what is allowed."""
        text = "".join([*self._blocks, *self._pieces])
        head, tail = self._most_chars // 2, self._most_chars // 4
        if len(text) <= head + tail:
            return
        self._lost_chars += len(text) - head - tail
        self._blocks[:] = [text[:head], text[-tail:]]
        self._pieces.clear()
        self._chars = head + tail


SLACK = 0.1
"""Part of an output that may be over the limit."""


class _Bytes(io.RawIOBase):
    """``sys.stdout.buffer``: bytes in, the same text out."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: object) -> int:
        """Add bytes, as UTF-8; what is not UTF-8 is shown escaped."""
        plain = bytes(data)  # type: ignore[call-overload]
        self._sink.write(plain.decode("utf-8", "backslashreplace"))
        return len(plain)

    def writable(self) -> bool:
        """Can be written to."""
        return True


def show(text: str, lost_chars: int, max_chars: int) -> Shown:
    """Cut to about `max_chars`, at line ends where they are near, and say so in the middle.

    What is over by less than `SLACK` is not cut: a hole would cost a turn.
    """
    if len(text) * (1 - SLACK) <= max_chars and not lost_chars:
        return Shown(text, 0)
    near = max_chars // 16
    head = max_chars // 2
    tail = len(text) - (max_chars - head)
    head = text.rfind("\n", head - near, head) + 1 or head
    tail = text.find("\n", tail, tail + near) + 1 or tail
    dropped = max(0, tail - head) + lost_chars
    where = "" if lost_chars else "; last_output has them"
    begins = text[:head].removesuffix("\n")
    return Shown(f"{begins}\n[... {dropped:,} characters cut{where} ...]\n{text[tail:]}", dropped)
