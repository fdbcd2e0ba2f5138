"""The job that reads documents: for each one a process of its own, confined, that ends with it.

Decides what of a reader is loaded before (its module, what it needs, and what its own
``prepare()`` touches, where it has one: after lock-down nothing can be imported), and how what it
emits is written down. Invariant: this server never looks at a document; the process that does has
the document's descriptor, one pipe to write to, and nothing else, and what it makes of
one document cannot reach the next.

A stream, as `contexts.reading` takes it: heads (length, 0, JSON) and what they announce. Behind
the head of a document lie its pages (64-bit little endian), its text (UTF-8, surrogates passed)
and its table, as long as it says; behind that of a member pieces (0, length, bytes), the
last one empty, or a head that says why it breaks off.
"""

import array
import encodings
import encodings.aliases
import fcntl
import gc
import importlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from abyme.helpers.emit import Unreadable
from abyme.helpers.link import HEADER, Link, wait_for

if TYPE_CHECKING:
    from abyme.helpers.confine import Ground

DOCUMENT_FD, STREAM_FD, FIRST_FREE_FD = 3, 4, 5
PIECE_BYTES: Final = 1 << 20
TEXT_STEP_CHARS: Final = 4 << 20
MAX_NAME_CHARS: Final = 16_000
MAX_REASON_CHARS: Final = 300

_reader: list[ModuleType] = []


def prepare(order: Mapping[str, Any]) -> None:
    """Load a reader and all that it will need."""
    _load_encodings()
    for name in order["needs"]:
        importlib.import_module(name)
    module = importlib.import_module(order["reader"])
    if "prepare" in vars(module):
        module.prepare()
    _reader.append(module)


def serve(link: Link, ground: "Ground", order: Mapping[str, Any]) -> None:
    """Fork a process for each document until the host is gone."""
    gc.collect()
    gc.freeze()
    link.send({"t": "ready", "layers": ["helper"]})
    while (message := link.receive()) is not None:
        head, _, fds = message
        if len(fds) != 2:
            return  # the host is out of descriptors, and sees that this has ended
        pid = ground.fork()
        if pid == 0:
            _read_one(ground, {**order, **head}, fds)
        for fd in fds:
            os.close(fd)
        end = wait_for(pid, link.fileno())
        if end is None:
            return
        status, used = end
        link.send(
            {
                "t": "end",
                "status": os.waitstatus_to_exitcode(status),
                "cpu_s": used.ru_utime + used.ru_stime,
                "peak_bytes": used.ru_maxrss << 10,
            }
        )


def _read_one(ground: "Ground", order: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Be the process that reads one document. Does not return."""
    from abyme.guest.kernel.lockdown import NotJailed  # noqa: PLC0415 - loaded already
    from abyme.helpers.confine import Bounds  # noqa: PLC0415

    stream = Stream(STREAM_FD)
    try:
        _keep_only(fds)
        bounds = Bounds(order["memory_bytes"], order["mapped_bytes"], order["cpu_s"])
        layers = ground.confine(bounds, {DOCUMENT_FD, STREAM_FD})
        stream.head({"t": "confined", "layers": layers})
        os.lseek(DOCUMENT_FD, 0, os.SEEK_SET)
        with open(DOCUMENT_FD, "rb", closefd=False) as file:
            file.raw.name = order["name"]  # type: ignore[attr-defined] # what the user calls it
            _read(stream, file)
    except NotJailed as layer:
        stream.head({"t": "refused", "why": f"this layer is not on: {layer}"})
    except MemoryError:
        os.write(STREAM_FD, OUT_OF_MEMORY)
    except OSError:
        os._exit(1)  # nobody listens any more
    finally:
        os._exit(0)


def _read(stream: "Stream", file: BinaryIO) -> None:
    try:
        _reader[0].read(file, stream)
    except Unreadable as error:
        stream.head({"t": "unreadable", "why": str(error)[:MAX_REASON_CHARS]})
    except RecursionError:
        stream.head({"t": "unreadable", "why": "nested too deeply"})
    except MemoryError:
        raise
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:  # noqa: BLE001 - a hostile document finds the bugs of its reader
        where = f"broken ({type(error).__name__}: {error})"
        stream.head({"t": "unreadable", "why": where[:MAX_REASON_CHARS]})
    else:
        stream.head({"t": "done"})


class Stream:
    """Implements `abyme.helpers.emit.Emit` by writing to a pipe; what is read too slowly waits."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def document(  # noqa: PLR0913 - see Emit
        self,
        name: str,
        text: str,
        *,
        media: str,
        pages: Sequence[int] = (),
        page_word: str = "page",
        table: bytes | memoryview | None = None,
        note: str | None = None,
    ) -> None:
        """Give a text."""
        starts = range(0, len(text), TEXT_STEP_CHARS)
        pieces = [text[at : at + TEXT_STEP_CHARS] for at in starts] if len(starts) > 1 else [text]
        size = sum(len(piece.encode("utf-8", "surrogatepass")) for piece in pieces)
        self.head(
            {
                "t": "document",
                "name": name[:MAX_NAME_CHARS],
                "media": media,
                "pages": len(pages),
                "page_word": page_word,
                "text": size,
                "table": None if table is None else len(table),
                "note": note if note is None else note[:MAX_REASON_CHARS],
            }
        )
        places = array.array("Q", pages)
        if sys.byteorder == "big":
            places.byteswap()
        self._write(places.tobytes())
        for piece in pieces:
            self._write(piece.encode("utf-8", "surrogatepass"))
        self._write(table or b"")

    def member(self, name: str, data: Iterable[bytes], size_bytes: int | None = None) -> None:
        """Give a file that lies in this one."""
        self.head({"t": "member", "name": name[:MAX_NAME_CHARS], "size": size_bytes})
        try:
            for given in data:
                view = memoryview(given)
                for at in range(0, len(view), PIECE_BYTES):
                    piece = view[at : at + PIECE_BYTES]
                    self._write(HEADER.pack(0, len(piece)))
                    self._write(piece)
        except Unreadable as error:  # the members behind it may be sound
            self.head({"t": "broken", "why": str(error)[:MAX_REASON_CHARS]})
        else:
            self._write(HEADER.pack(0, 0))

    def skipped(self, name: str, reason: str) -> None:
        """Tell of something that was met and cannot be read."""
        why = reason[:MAX_REASON_CHARS]
        self.head({"t": "skipped", "name": name[:MAX_NAME_CHARS], "why": why})

    def head(self, words: Mapping[str, Any]) -> None:
        """Write a head."""
        data = json.dumps(words, separators=(",", ":")).encode("ascii")
        self._write(HEADER.pack(len(data), 0) + data)

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


def _framed(words: Mapping[str, Any]) -> bytes:
    data = json.dumps(words).encode("ascii")
    return HEADER.pack(len(data), 0) + data


OUT_OF_MEMORY: Final = _framed({"t": "memory"})
"""Made before there is no memory to make it."""


def _keep_only(fds: Sequence[int]) -> None:
    """Document and stream at fixed numbers, /dev/null below, no more."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in fds]
    for fd, place in zip(high, (DOCUMENT_FD, STREAM_FD), strict=True):
        os.dup2(fd, place)
    os.closerange(FIRST_FREE_FD, os.sysconf("SC_OPEN_MAX"))


def _load_encodings() -> None:
    """Load every text encoding: charsets are named in documents."""
    for name in sorted(set(encodings.aliases.aliases.values())):
        try:
            encodings.search_function(name)
        except (ImportError, LookupError):
            continue
