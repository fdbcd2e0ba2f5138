"""What an engine sends to a model and gets from it, counted outside of the engine.

Decides the measure that engines are compared by: characters of message texts, the same for
every engine, told apart into the root's and all others. Invariant: a request of which the first
messages are those of the very first request is the root's turn, whatever the engine says of it;
everything else (sub-models, children) is a sub-call. Attempts that fail are counted as sent.

A proxy on loopback. It keeps connections alive while an answer is thought about (a person may
take minutes), and adds the key, so that no engine holds one. Does not retry or judge.
"""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self, TypeAlias
from urllib.parse import urlsplit

SIGN_OF_LIFE_S: Final = 15.0
LONGEST_S: Final = 6 * 3600.0
"""For one reply."""
Messages: TypeAlias = list[dict[str, Any]]
Reply: TypeAlias = tuple[int, str, bytes]
"""Status, content type, body."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One attempt. `reply` is None where it failed."""

    messages: Messages
    reply: str | None

    @property
    def prompt_chars(self) -> int:
        return sum(len(text_of(message)) for message in self.messages)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run sent and got, in calls and characters."""

    root_turns: int
    sub_calls: int
    failed: int
    """Attempts without a reply; in neither of the two above."""
    first_prompt_chars: int
    root_prompt_chars: int
    sub_prompt_chars: int
    root_reply_chars: int
    sub_reply_chars: int


def text_of(message: dict[str, Any]) -> str:
    """A message's text, all parts of it."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return content or ""


def count(exchanges: Sequence[Exchange]) -> Counts:
    """Count a run. The first exchange is the root's."""
    first = exchanges[0].messages if exchanges else []
    opening = first[: _opening(first)]
    root = [one for one in exchanges if one.messages[: len(opening)] == opening]
    sub = [one for one in exchanges if one.messages[: len(opening)] != opening]
    return Counts(
        root_turns=sum(one.reply is not None for one in root),
        sub_calls=sum(one.reply is not None for one in sub),
        failed=sum(one.reply is None for one in exchanges),
        first_prompt_chars=exchanges[0].prompt_chars if exchanges else 0,
        root_prompt_chars=sum(one.prompt_chars for one in root),
        sub_prompt_chars=sum(one.prompt_chars for one in sub),
        root_reply_chars=sum(len(one.reply or "") for one in root),
        sub_reply_chars=sum(len(one.reply or "") for one in sub),
    )


def _opening(messages: Messages) -> int:
    """How many of the first request's messages stay: all but the beginning of a reply."""
    begun = bool(messages) and messages[-1].get("role") == "assistant"
    return len(messages) - begun


class CountingProxy:
    """Passes chat completions on to `upstream` and keeps what went by. A context manager."""

    def __init__(self, upstream: str, *, key: str | None = None) -> None:
        self.exchanges: list[Exchange] = []
        """In the order in which requests came."""
        self._upstream = upstream.rstrip("/")
        self._key = key
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def send(self, body: bytes) -> "Future[Reply]":
        """Send a request on, and keep it. The future never fails."""
        with self._lock:
            place = len(self.exchanges)
            self.exchanges.append(Exchange(json.loads(body).get("messages", []), None))
        coming: Future[Reply] = Future()
        threading.Thread(target=self._exchange, args=(body, place, coming), daemon=True).start()
        return coming

    def _exchange(self, body: bytes, place: int, coming: "Future[Reply]") -> None:
        status, kind, reply = self._post("/chat/completions", body)
        text = reply_text(kind, reply) if status == 200 else None
        with self._lock:
            self.exchanges[place] = Exchange(self.exchanges[place].messages, text)
        coming.set_result((status, kind, reply))

    def _post(self, path: str, body: bytes) -> Reply:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._upstream + path, body, headers)
        direct = urlsplit(self._upstream).hostname in ("127.0.0.1", "localhost", "::1")
        opener = urllib.request.build_opener(*[urllib.request.ProxyHandler({})] * direct)
        try:
            with opener.open(request, timeout=LONGEST_S) as response:
                return 200, response.headers.get_content_type(), response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get_content_type(), error.read()
        except (OSError, HTTPException) as error:
            return 502, "application/json", json.dumps({"error": {"message": str(error)}}).encode()


def reply_text(kind: str, body: bytes) -> str | None:
    """The reply's text, of a stream or of one object; None where there is none."""
    try:
        if kind == "text/event-stream":
            pieces = [
                json.loads(line[5:])
                for line in body.decode().splitlines()
                if line.startswith("data:") and "[DONE]" not in line
            ]
            deltas = [choice["delta"] for piece in pieces for choice in piece.get("choices", ())]
            return "".join(delta.get("content") or "" for delta in deltas)
        return json.loads(body)["choices"][0]["message"]["content"] or ""
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _handler(proxy: CountingProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            listed = {"object": "list", "data": [{"id": "counted", "object": "model"}]}
            self._whole(200, "application/json", json.dumps(listed).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply = proxy.send(body)
            with suppress(OSError):  # the engine has gone
                try:
                    soon = reply.result(SIGN_OF_LIFE_S)
                except TimeoutError:
                    self._late(reply, stream=bool(json.loads(body).get("stream")))
                else:
                    self._whole(*soon)

        def _whole(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _late(self, reply: "Future[Reply]", *, stream: bool) -> None:
            """Say that somebody is there until the reply comes: a comment, or blanks."""
            self.send_response(200)
            kind = "text/event-stream" if stream else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while True:
                try:
                    status, _, body = reply.result(SIGN_OF_LIFE_S)
                    break
                except TimeoutError:
                    self._chunk(b": waiting\n\n" if stream else b" ")
            if status != 200:  # too late to say so: cut the connection
                self.close_connection = True
                return
            self._chunk(body)
            self._chunk(b"")

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

    return Handler
