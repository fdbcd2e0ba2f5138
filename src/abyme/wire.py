"""Frames between the host and a guest: 4 bytes of length, then one JSON object.

Standard library only, because both sides import it. JSON with every non-ASCII
character escaped, so that lone surrogates pass unchanged; never pickle.

The jail sends a frame as packets over a SOCK_SEQPACKET socket (`packets`,
`PacketReader`): a process that is killed in the middle of a frame, and another
one that goes on with the same socket, must not desynchronise the stream. A byte
in front of each packet says whether it begins a frame.

Invariant: nothing longer than `MAX_FRAME_BYTES` is ever buffered, and what
comes out of `FrameReader` is a JSON object or an error. The *meaning* of a
guest's frame is checked by the session that receives it (`sandboxes/jail`).
"""

import json
import struct
from collections.abc import Iterator
from typing import Any

MAX_FRAME_BYTES = 64 << 20
HEADER = struct.Struct("!I")
PACKET_BYTES = 60_000
"""Well below the smallest default socket buffer, so that a packet always fits."""
FIRST, NEXT = b"\1", b"\0"


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


class FrameReader:
    """Turns a byte stream into frames, however it is cut. Keeps what is partial."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    @property
    def partial(self) -> bool:
        """A frame has begun and not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield each frame that `data` completes.

        Raises:
            WireError: on a length over the cap, or a body that is not a JSON object.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._buffer)
            if length > self._max_bytes:
                msg = f"frame of {length:,} bytes announced, {self._max_bytes:,} allowed"
                raise WireError(msg)
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield _decode(body)


def packets(data: bytes) -> Iterator[bytes]:
    """Cut an encoded frame into packets."""
    mark = FIRST
    for start in range(0, len(data), PACKET_BYTES):
        yield mark + data[start : start + PACKET_BYTES]
        mark = NEXT


class PacketReader:
    """Turns packets into frames. A new frame ends an unfinished one, which is dropped."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._frame: FrameReader | None = None

    @property
    def partial(self) -> bool:
        """A frame has begun and not ended."""
        return self._frame is not None

    def feed(self, packet: bytes) -> dict[str, Any] | None:
        """Take the frame that `packet` completes, if it does.

        Raises:
            WireError: on a frame that is too long, is not a JSON object, or is
                followed by something else.
        """
        mark = packet[:1]
        if mark == FIRST:
            self._frame = FrameReader(self._max_bytes)
        elif mark != NEXT:
            msg = "packet without a mark"
            raise WireError(msg)
        if self._frame is None:
            return None  # the rest of a frame whose beginning went to a process that is gone
        frames = list(self._frame.feed(packet[1:]))
        if not frames:
            return None
        if len(frames) > 1 or self._frame.partial:
            msg = "more than one frame in a packet"
            raise WireError(msg)
        self._frame = None
        return frames[0]


def _decode(body: bytes) -> dict[str, Any]:
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError) as error:
        msg = f"body is not JSON: {type(error).__name__}"
        raise WireError(msg) from None
    if not isinstance(frame, dict):
        msg = "body is not a JSON object"
        raise WireError(msg)
    return frame
