"""Server-sent events, as far as chat completions use them: ``data:`` lines.

Pure: bytes in, payloads out, however the bytes are cut. Comments, other fields
and blank lines are skipped. Invariant: no more than `most_bytes` of one unfinished
line are kept.
"""

from collections.abc import Iterator


class EventTooLong(Exception):
    """One event is longer than any reply can be."""


class EventReader:
    """Splits a stream into the payloads of its ``data:`` lines."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield each payload that `chunk` completes.

        Raises:
            EventTooLong: one line passes the cap.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > self._most_bytes:
            raise EventTooLong
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()

    def end(self) -> Iterator[bytes]:
        """Yield what a stream without a last line break still holds."""
        rest, self._rest = self._rest, b""
        if rest.startswith(b"data:"):
            yield rest[5:].strip()
