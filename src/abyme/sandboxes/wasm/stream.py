"""Packets over a stream, where there is no SOCK_SEQPACKET (macOS, Windows).

Decides nothing but where a packet ends: four bytes of length before each. Takes the place of a
socket of packets in `wired.channel`: what `recv` gives is one packet, what `send` could not send
whole goes on when it is called again with the same packet.
"""

import socket
import struct
from typing import Final

LENGTH: Final = struct.Struct("!I")
MAX_PACKET_BYTES: Final = 1 << 16


class PacketStream(socket.socket):
    """One end of a stream, packet by packet. Never reads beyond the packet that it gives."""

    def __init__(self, stream: socket.socket) -> None:
        """Take a connected stream over; `stream` is of no use any more."""
        super().__init__(stream.family, stream.type, stream.proto, stream.detach())
        self._incoming = bytearray()
        self._outgoing = b""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Give the next packet; nothing if the other end is gone, or sends what is none.

        Raises:
            BlockingIOError: it is not there whole, and the stream does not block.
        """
        while (lacks := self._lacks()) > 0:
            got = super().recv(lacks, flags)
            if not got:
                return b""
            self._incoming += got
        packet, self._incoming = bytes(self._incoming[LENGTH.size :]), bytearray()
        return packet if 0 < len(packet) <= bufsize else b""

    def send(self, data: bytes, flags: int = 0, /) -> int:  # type: ignore[override]
        """Send a packet whole.

        Raises:
            BlockingIOError: it did not go whole; call again with the same packet.
        """
        if not self._outgoing:
            self._outgoing = LENGTH.pack(len(data)) + data
        while self._outgoing:
            sent = super().send(self._outgoing, flags)
            self._outgoing = self._outgoing[sent:]
        return len(data)

    def _lacks(self) -> int:
        """Count the bytes to read next: of the length, then of the packet."""
        have = len(self._incoming)
        if have < LENGTH.size:
            return LENGTH.size - have
        size: int = LENGTH.unpack_from(self._incoming)[0]
        return min(size, MAX_PACKET_BYTES) + LENGTH.size - have


def pair() -> tuple[PacketStream, PacketStream]:
    """Make both ends."""
    ours, theirs = socket.socketpair()
    return PacketStream(ours), PacketStream(theirs)
