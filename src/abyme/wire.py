"""Frames between the host and a guest: 4 bytes of length, then one JSON object.

Standard library only, because both sides import it. JSON with every non-ASCII
character escaped, so that lone surrogates pass unchanged; never pickle.

The jail sends a frame as packets over a SOCK_SEQPACKET socket (`packets`,
`PacketReader`): a process that is killed in the middle of a frame, and another
one that goes on with the same socket, must not desynchronise the stream. A byte
in front of each packet says whether it begins a frame.

A container has one stream with its host instead of sockets: there, packets and words travel
as messages, each with a channel and a length in front (`message`, `MessageReader`).

Invariant: nothing longer than `MAX_FRAME_BYTES` is ever buffered, and what
comes out of `decode` is a JSON object or an error. The host does not use it for what a
guest sends: that is decoded by its schema, in bounds (`sandboxes/wired/frames`).
"""

import json
import re
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

MAX_FRAME_BYTES = 64 << 20
HEADER = struct.Struct("!I")
PACKET_BYTES = 60_000
"""Well below the smallest default socket buffer, so that a packet always fits."""
FIRST, NEXT = b"\1", b"\0"
OUT_OF_MEMORY = 77
"""Exit status of a process whose cell has left less memory than the engine needs."""
RESERVE_BYTES = 32 << 20
"""Of the memory that a process may have: what a cell must leave to the engine."""
STRING = re.compile(rb'"[^"]*"?')
"""Of JSON without its backslashes."""
MAX_COSTLY_NUMBERS = 20_000
DIGITS_BLOCK = 256
ENGINE_PROCESSES = 3
"""Of a REPL: supervisor, snapshot, and the process that runs the cell."""


class WireError(Exception):
    """The bytes are not a frame. The connection cannot be trusted any more."""


def encode(frame: dict[str, Any]) -> bytes:
    """Bytes of one frame.

    Raises:
        WireError: if it would pass the cap. Split the content instead.
    """
    body = json.dumps(frame, separators=(",", ":"), check_circular=False).encode("ascii")
    if len(body) > MAX_FRAME_BYTES:
        msg = f"frame of {len(body):,} bytes exceeds {MAX_FRAME_BYTES:,}"
        raise WireError(msg)
    return HEADER.pack(len(body)) + body


def packets(data: bytes) -> Iterator[bytes]:
    """Cut an encoded frame into packets."""
    mark = FIRST
    for start in range(0, len(data), PACKET_BYTES):
        yield mark + data[start : start + PACKET_BYTES]
        mark = NEXT


class PacketReader:
    """Turns packets into bodies of frames, for `decode`. A new frame ends an unfinished one,
    which is dropped.
    """

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._body: bytearray | None = None
        self._length = 0

    @property
    def partial(self) -> bool:
        """A frame has begun and not ended."""
        return self._body is not None

    def feed(self, packet: bytes) -> bytearray | None:
        """Take the body of the frame that `packet` completes, if it does.

        Raises:
            WireError: on a frame that is too long or is followed by something else.
        """
        mark = packet[:1]
        if mark == FIRST:
            self._begin(packet)
        elif mark != NEXT:
            msg = "packet without a mark"
            raise WireError(msg)
        elif self._body is None:
            return None  # the rest of a frame whose beginning went to a process that is gone
        else:
            self._body += packet[1:]
        body = self._body
        if body is None or len(body) < self._length:
            return None
        if len(body) > self._length:
            msg = "more than one frame in a packet"
            raise WireError(msg)
        self._body = None
        return body

    def _begin(self, packet: bytes) -> None:
        if len(packet) < 1 + HEADER.size:
            msg = "packet without a length"
            raise WireError(msg)
        (self._length,) = HEADER.unpack_from(packet, 1)
        if self._length > self._max_bytes:
            msg = f"frame of {self._length:,} bytes announced, {self._max_bytes:,} allowed"
            raise WireError(msg)
        self._body = bytearray(packet[1 + HEADER.size :])


def decode(body: bytes | bytearray) -> dict[str, Any]:
    """Make a frame of a body.

    Raises:
        WireError: if it is not a JSON object.
    """
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError) as error:
        msg = f"body is not JSON: {type(error).__name__}"
        raise WireError(msg) from None
    if not isinstance(frame, dict):
        msg = "body is not a JSON object"
        raise WireError(msg)
    return frame


def has_more_values(body: bytes | bytearray, most: int) -> bool:
    """Tell, without making them, whether JSON holds more than `most` values.

    Each is behind a comma or in a list or object of its own, so their signs outside of
    strings are counted. What is not JSON gets some answer, in linear time.
    """
    if len(body) <= most or _signs(body) <= most:
        return False
    plain = _without_escapes(body)
    if plain.count(b'"') > 4 * most + 4:  # each string is a value, or the key of one
        return True
    return _signs(STRING.sub(b"", plain)) > most


def has_costly_numbers(body: bytes | bytearray) -> bool:
    """Tell whether JSON holds too many numbers of hundreds of digits, or with an exponent below
    zero: they take up to a thousand times the time of others to read. In linear time.
    """
    if len(body) <= MAX_COSTLY_NUMBERS or _cost(body) <= MAX_COSTLY_NUMBERS:
        return False
    return _cost(STRING.sub(b"", _without_escapes(body))) > MAX_COSTLY_NUMBERS


def _signs(body: bytes | bytearray) -> int:
    return sum(body.count(sign) for sign in (b",", b"[", b"{"))


def _cost(body: bytes | bytearray) -> int:
    """Tenths of a block of digits, or exponents. Whatever has 511 digits fills a block."""
    starts = range(0, len(body) - DIGITS_BLOCK + 1, DIGITS_BLOCK)
    blocks = sum([body[start : start + DIGITS_BLOCK].isdigit() for start in starts])
    return blocks * 10 + body.count(b"e-") + body.count(b"E-")


def _without_escapes(body: bytes | bytearray) -> bytes:
    return bytes(body).replace(rb"\\", b"").replace(rb"\"", b"")


class Channel(IntEnum):
    """What a message between a host and a container is."""

    ORDER = 1
    """JSON: to the container, the REPL that is wanted; from it, what came of that."""
    WIRE = 2
    """A packet of the REPL's wire."""
    CONTROL = 3
    """Words to the REPL's supervisor; from it, their echo."""
    INTERRUPT = 4
    """To the container: signal the REPL itself, which has no supervisor."""
    USE = 5
    """JSON from the container: what its processes use. To it, empty: look."""
    ENDED = 6
    """From the container: the REPL has ended."""


MESSAGE = struct.Struct("!BI")


def message(channel: Channel, body: bytes = b"") -> bytes:
    """Bytes of one message."""
    return MESSAGE.pack(channel, len(body)) + body


class MessageReader:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Channel, bytes]]:
        """Give the messages that `data` completes.

        Raises:
            WireError: if the stream does not hold messages.
        """
        self._buffer += data
        while len(self._buffer) >= MESSAGE.size:
            number, length = MESSAGE.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES or number not in _CHANNELS:
                text = "the stream does not hold messages"
                raise WireError(text)
            end = MESSAGE.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[MESSAGE.size : end])
            del self._buffer[:end]
            yield Channel(number), body


_CHANNELS = frozenset(Channel)
