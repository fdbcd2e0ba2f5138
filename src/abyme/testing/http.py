"""A small HTTP/1.1 server for test doubles: requests in, whatever bytes out.

Standard library only, so that every fault can be put on the wire exactly. Serves
loopback. Not for production: it reads bodies whole and checks little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

BACKLOG: Final = 4096
MOST_HEAD_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Handler = Callable[[HttpRequest, asyncio.StreamWriter], Awaitable[None]]
"""Writes the whole response, or closes the writer."""


class HttpServer:
    """Listens on loopback and gives every request to `handler`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", port, backlog=BACKLOG, limit=MOST_HEAD_BYTES
        )
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def stop(self) -> None:
        """Close every connection, in the middle of a reply too."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                request = await _read(reader, writer)
                if request is None:
                    break
                answering = asyncio.ensure_future(self._handler(request, writer))
                try:
                    await answering
                finally:
                    answering.cancel()
                if request.headers.get("connection", "").lower() == "close":
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client has gone
        finally:
            writer.transport.abort() if writer.is_closing() else writer.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> HttpRequest | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, *_ = [*first.split(" "), "", ""]
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(int(headers.get("content-length") or 0))
    return HttpRequest(method, path.partition("?")[0], headers, body)


def response(status: int, body: bytes, content_type: str, *headers: tuple[str, str]) -> bytes:
    """Bytes of a whole response."""
    lines = [
        status_line(status),
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def stream_head() -> bytes:
    """Head of a chunked response of server-sent events."""
    lines = (status_line(200), "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk; an empty one ends the response."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def status_line(status: int) -> str:
    """First line of a response."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Scripted"
    return f"HTTP/1.1 {status} {phrase}"
