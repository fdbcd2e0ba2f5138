"""`OpenAICompatible`: any endpoint that speaks OpenAI's chat completions, over pooled HTTP.

One call of `complete` is one attempt; there is no retry here. Streams only when
somebody reads along. Redirects are not followed, because they would carry the key
to another host. Invariant: whatever goes wrong is a `ModelError`, and the key is in
none of them.

Catches every `aiohttp.ClientError` and `OSError` at one boundary (`complete`); `broken` names
them.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
import re
import resource
from typing import TYPE_CHECKING, Any, Final

import msgspec

from abyme.errors import Fault, ModelError
from abyme.models import faults
from abyme.models import response_format as shapes
from abyme.models.broken import CUT, broken
from abyme.models.completion import (
    MOST_REPLY_BYTES,
    Draft,
    allowed_bytes,
    asks_logprobs,
    beside_bytes,
    finished,
    read_usage,
    request_body,
)
from abyme.models.sse import EventReader, EventTooLong

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from abyme.errors import Fault
    from abyme.models.names import Endpoint
    from abyme.ports import ModelReply, ModelRequest

MOST_ERROR_BYTES: Final = 64 << 10
CONNECTIONS: Final = 1024
LEAST_CONNECTIONS: Final = 16
RESERVED_DESCRIPTORS: Final = 192
"""Kept for sandboxes, journals and documents when ``ulimit -n`` is low."""
CONNECT_TIMEOUT_S: Final = 30.0
KEEP_S: Final = 15.0
KEEP_LOOPBACK_S: Final = 4.0
"""An idle connection is kept so long: less than the 5 s of uvicorn (vLLM) and llama.cpp."""
NOTHING: Final[frozenset[str]] = frozenset()
MOST_UNFIT: Final = 255
DRAIN_TIMEOUT_S: Final = 1.0
"""After ``[DONE]`` the connection is kept only if the server ends the body soon."""

OPTIONAL: Final = (
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "stop",
    "seed",
    "stream_options",
    "usage",
    "logprobs",
    "top_logprobs",
)
LOGPROBS: Final = re.compile(r"log.?prob", re.IGNORECASE)
REFUSES: Final = re.compile(
    r"unsupported|not support|unrecognized|unknown|unexpected|deprecated|not permitted"
    r"|extra (?:fields|inputs)|invalid (?:parameter|argument)|unavailable",
    re.IGNORECASE,
)
NO_NUMBER: Final = re.compile(rb"NaN|Infinity")
"""What servers in Python write for log-probabilities that are no numbers."""


class OpenAICompatible:
    """A model at an endpoint. Implements `abyme.ports.Model`.

    Used in one event loop at a time; after `aclose` it may be used again.
    `idle_timeout_s` is how long no byte may come, the first one included.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        idle_timeout_s: float = 120.0,
        connections: int = CONNECTIONS,
    ) -> None:
        self.endpoint = endpoint
        self._idle_timeout_s = idle_timeout_s
        self._connections = min(connections, _descriptors_to_spare())
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._refused: frozenset[str] = NOTHING
        self._unfit: dict[bytes, frozenset[str]] = {}
        """Forms that were refused for one schema."""
        self._url = endpoint.chat_url

    async def complete(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """One attempt; see `abyme.ports.Model`."""
        import aiohttp  # noqa: PLC0415  60 ms that a run with another model need not pay

        draft = Draft(allowed_bytes(request), beside_bytes(request))
        try:
            return await self._attempt(request, on_text, draft)
        except ModelError as error:
            if error.usage is None and (draft.size_bytes or draft.usage):
                error.usage = read_usage(self.endpoint, draft, request)
            raise
        except (aiohttp.ClientError, OSError, UnicodeError, EventTooLong) as error:
            # Raised below, so that no traceback leads to aiohttp's frames, which hold the key.
            failed = self._broken(error, begun=bool(draft.parts))
        if draft.size_bytes or draft.usage:
            failed.usage = read_usage(self.endpoint, draft, request)
        raise failed

    async def aclose(self) -> None:
        """Close every connection. Safe to repeat."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def models(self) -> list[str]:
        """Names of the models that the endpoint lists.

        Raises:
            ModelError: it cannot be asked, or does not keep a list.
        """
        import aiohttp  # noqa: PLC0415

        try:
            async with self._open().get(
                self.endpoint.models_url, allow_redirects=False, proxy=self.endpoint.proxy
            ) as response:
                data = await self._read_json(response)
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            failed = self._broken(error, begun=False)
        else:
            entries = data.get("data")
            found = [e.get("id") for e in entries if isinstance(e, dict)] if entries else []
            return [name for name in found if isinstance(name, str)]
        raise failed

    async def _attempt(
        self, request: ModelRequest, on_text: Callable[[str], None] | None, draft: Draft
    ) -> ModelReply:
        without = self._refused | self._unfit.get(_digest(request.schema), NOTHING)
        body = request_body(self.endpoint, request, stream=on_text is not None, without=without)
        async with self._open(streams=on_text is not None).post(
            self._url, data=body, allow_redirects=False, proxy=self.endpoint.proxy
        ) as response:
            streamed = "text/event-stream" in response.headers.get("Content-Type", "")
            if response.status != 200:
                asked = asks_logprobs(
                    self.endpoint, request, stream=on_text is not None, without=without
                )
                raise await self._refusal(response, request, without, logprobs=asked)
            if streamed:
                await self._read_stream(response, on_text, draft)
            else:
                data = await self._read_json(response, draft.most_written_bytes)
                text = draft.take(data)
                if on_text is not None and text:
                    on_text(text)
        if draft.failure is not None:
            raise self._reported(draft.failure)
        if draft.usage is None and draft.finish is None and not draft.parts:
            raise self._error("bad_reply", "the reply is no chat completion: it has no choices")
        return finished(self.endpoint, request, draft)

    async def _read_json(
        self, response: aiohttp.ClientResponse, most_bytes: int = MOST_REPLY_BYTES
    ) -> dict[str, Any]:
        if response.status != 200:
            raise (await self._said(response))[0]
        raw = await _read_capped(response, most_bytes)
        if raw is None:
            raise self._error("bad_reply", f"the reply passes {most_bytes:,} bytes")
        data = _decode(raw)
        if isinstance(data, dict):
            return data
        raise self._error("bad_reply", faults.no_json(self.endpoint, raw))

    async def _read_stream(
        self,
        response: aiohttp.ClientResponse,
        on_text: Callable[[str], None] | None,
        draft: Draft,
    ) -> None:
        reader = EventReader(draft.most_written_bytes)
        size_bytes = 0
        try:
            async for chunk in response.content.iter_any():
                size_bytes += len(chunk)
                if size_bytes > MOST_REPLY_BYTES:
                    raise EventTooLong
                for payload in reader.feed(chunk):
                    if payload == b"[DONE]":
                        await _drain(response)
                        return
                    self._take(payload, on_text, draft)
            for payload in reader.end():
                if payload != b"[DONE]":
                    self._take(payload, on_text, draft)
        except (OSError, _payload_error()):
            if draft.finish is None:
                raise
        if draft.finish is None and draft.failure is None:
            raise self._error("stream_cut", CUT)

    def _take(self, payload: bytes, on_text: Callable[[str], None] | None, draft: Draft) -> None:
        data = _decode(payload)
        if not isinstance(data, dict):
            head = faults.quote(self.endpoint, payload[:80].decode("utf-8", "replace"))
            raise self._error("bad_reply", f"a piece of the stream is not JSON but {head!r}")
        text = draft.take(data)
        if draft.too_long is not None:
            raise self._error("bad_reply", draft.too_long)
        if text and on_text is not None:
            on_text(text)

    async def _said(self, response: aiohttp.ClientResponse) -> tuple[ModelError, str]:
        """Read an error, and the provider's words for it."""
        raw = await _read_capped(response, MOST_ERROR_BYTES) or b""
        body = _decode(raw)
        if body is None:
            body = raw.decode("utf-8", "replace")
        headers = {name.lower(): value for name, value in response.headers.items()}
        now = dt.datetime.now(dt.UTC)
        error = faults.from_status(self.endpoint, response.status, body, headers, now)
        return error, faults.said(body)

    async def _refusal(
        self,
        response: aiohttp.ClientResponse,
        request: ModelRequest,
        without: frozenset[str],
        *,
        logprobs: bool,
    ) -> ModelError:
        """Leave out, from now on, a field that this model says it does not take.

        Such a 400 costs nothing, and the next attempt differs from this one, which went
        `without` what had been learned until then. A 400 that says nothing of the kind is
        taken to be about the schema, if one was sent; other schemas keep their form.
        `logprobs`: it asked for log-probabilities. OpenAI refuses these by a 403.
        """
        error, words = await self._said(response)
        if logprobs and response.status < 500 and LOGPROBS.search(words):
            self._refused |= {"logprobs"}
            error.failure, error.retryable, error.retry_after_s = "bad_request", True, 0.0
            return error
        if error.failure != "bad_request":
            return error
        refused = _fields(words)
        field = shapes.response_format(self.endpoint.preset, request.schema, without)
        form = {field["type"]} if field is not None else set()
        if form and REFUSES.search(words) and shapes.is_about_the_form(words):
            refused |= form
        if form and not refused:
            self._unfit = dict([*self._unfit.items()][-MOST_UNFIT:])
            self._unfit[_digest(request.schema)] = without | form
            refused = form
        else:
            refused |= {"logprobs"} if logprobs and not refused else NOTHING
            self._refused |= refused
        if refused - without:
            error.retryable, error.retry_after_s = True, 0.0
        return error

    def _reported(self, failure: Any) -> ModelError:
        """Turn an error object that came with status 200 into an error."""
        inner = failure.get("error")
        code = inner.get("code") if isinstance(inner, dict) else None
        code = int(code) if isinstance(code, int | str) and re.fullmatch(r"\d+", str(code)) else 0
        if 400 <= code < 600:
            now = dt.datetime.now(dt.UTC)
            return faults.from_status(self.endpoint, code, failure, {}, now)
        words = faults.said(failure)
        status = 429 if re.search(r"rate.?limit|overloaded", words, re.IGNORECASE) else 500
        return faults.from_status(self.endpoint, status, failure, {}, dt.datetime.now(dt.UTC))

    def _broken(self, error: Exception, *, begun: bool) -> ModelError:
        idle_s = self._idle_timeout_s
        return broken(self.endpoint, error, idle_timeout_s=idle_s, begun=begun)

    def _error(self, fault: Fault, message: str) -> ModelError:
        return faults.error(self.endpoint, fault, message)

    def _open(self, *, streams: bool = False) -> aiohttp.ClientSession:
        """Return the connections for this kind of call.

        llama.cpp closes a connection after a stream without saying so, which would break
        the next call on it. On loopback a new one costs next to nothing.
        """
        reused = not (streams and self.endpoint.loopback)
        if reused not in self._sessions:
            import aiohttp  # noqa: PLC0415

            keep_s = KEEP_LOOPBACK_S if self.endpoint.loopback else KEEP_S
            headers = {"Content-Type": "application/json", "User-Agent": "abyme"}
            if self.endpoint.api_key:
                headers["Authorization"] = f"Bearer {self.endpoint.api_key}"
            self._sessions[reused] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections,
                    ttl_dns_cache=300,
                    force_close=not reused,
                    keepalive_timeout=keep_s if reused else None,
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=min(CONNECT_TIMEOUT_S, self._idle_timeout_s),
                    sock_read=self._idle_timeout_s,
                ),
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._sessions[reused]


def _fields(words: str) -> set[str]:
    """Read the fields that a provider does not take out of its words."""
    if "prefill" in words or "must end with a user message" in words:
        return {"prefill"}
    if not REFUSES.search(words):
        return set()
    refused = set(re.findall(r"\w+", words)).intersection(OPTIONAL)
    first = re.search("|".join(OPTIONAL), words)
    if "max_tokens" in refused and "max_completion_tokens" in refused and first:
        return {first.group()}  # "use the other one instead"
    return refused


def _digest(schema: dict[str, Any] | None) -> bytes:
    if schema is None:
        return b""
    text = json.dumps(schema, sort_keys=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).digest()


def _descriptors_to_spare() -> int:
    """How many connections this process may open and still do its other work."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS
    return max(LEAST_CONNECTIONS, soft - RESERVED_DESCRIPTORS)


async def _read_capped(response: aiohttp.ClientResponse, most_bytes: int) -> bytes | None:
    chunks, size_bytes = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size_bytes += len(chunk)
        if size_bytes > most_bytes:
            return None
    return b"".join(chunks)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read the body's end, so that the connection can serve the next call."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            await response.content.readany()
    except (OSError, _payload_error()):
        response.close()


def _payload_error() -> type[Exception]:
    import aiohttp  # noqa: PLC0415

    return aiohttp.ClientPayloadError


def _decode(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    if not NO_NUMBER.search(raw):
        return None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
