"""`ScriptedEndpoint`: an OpenAI-compatible server on loopback that does as it is told.

Serves ``/v1/chat/completions`` (streaming and not) and ``/v1/models``. Counts what a
provider would bill, independently of what it reports. Public, for tests and benches.
Waits in real time where a script asks for latency; `FakeClock` does not reach it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from abyme.testing import http
from abyme.testing.replies import BYTES_PER_TOKEN, Answer, Chooser, Fault, Reply, Script

if TYPE_CHECKING:
    from abyme.core.events import Price

CHARS_PER_EVENT: Final = 24
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """What the endpoint charges, and what it says."""

    price: Price | None = None
    obeys_cap: bool = True
    """False: replies go on beyond ``max_tokens``."""
    report: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
    """Turns the true usage into the one that is reported; None reports none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """A simulated limit. Beyond it: 429, or a silent wait if `queues`."""

    calls_per_s: float | None = None
    burst: int = 1
    concurrent: int | None = None
    queues: bool = False
    retry_after_s: float | None = 1.0


class ScriptedEndpoint:
    """An endpoint for tests. Use it as a context manager, synchronous or not.

    >>> with ScriptedEndpoint({"capital of France": "Paris"}) as endpoint:
    ...     print(endpoint.url.startswith("http://127.0.0.1:"))
    True

    As a synchronous one it serves from a thread of its own. A function as script is
    called where the server runs. `latency_s` is waited before every reply; a function is
    given the request.
    """

    def __init__(  # noqa: PLR0913  independent behaviours, all by name
        self,
        script: Script,
        *,
        latency_s: float | Callable[[dict[str, Any]], float] = 0.0,
        api_key: str | None = None,
        billing: Billing | None = None,
        rate_limit: RateLimit | None = None,
        port: int = 0,
        model: str = "scripted",
    ) -> None:
        self._chooser = Chooser(script)
        self._latency_s = latency_s if callable(latency_s) else lambda _: latency_s
        self._api_key = api_key
        self._billing = billing or Billing()
        self._gate = _Gate(rate_limit) if rate_limit else None
        self._port = port
        self._model = model
        self._server = http.HttpServer(self._handle)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.url = ""
        """Base URL, known once it serves."""
        self.requests: list[dict[str, Any]] = []
        """Bodies of the chat requests, faults included."""
        self.headers: list[dict[str, str]] = []
        """Their headers, names in lower case."""
        self.calls = 0
        """Chat requests received."""
        self.refused = 0
        """Chat requests that the rate limit answered with 429."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.prompt_tokens = 0
        """Billed, whatever was reported."""
        self.completion_tokens = 0

    @property
    def billed_usd_micro(self) -> int:
        """What all calls cost at `Billing.price`, rounded up once."""
        price = self._billing.price
        if price is None:
            return 0
        total = self.prompt_tokens * price.input_usd_micro
        return -(-(total + self.completion_tokens * price.output_usd_micro) // 1_000_000)

    async def __aenter__(self) -> Self:
        port = await self._server.start(self._port)
        self.url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        if not self.url:
            self._thread.join()
            msg = f"port {self._port} of loopback cannot be had"
            raise OSError(msg)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self, started: threading.Event) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._stopped = asyncio.Event()
            async with self:
                started.set()
                await self._stopped.wait()

        try:
            asyncio.run(serve())
        except OSError:
            self.url = ""
        finally:
            started.set()

    async def _handle(self, request: http.HttpRequest, writer: asyncio.StreamWriter) -> None:
        if request.path.endswith("/models") and request.method == "GET":
            listed = {"object": "list", "data": [{"id": self._model, "object": "model"}]}
            writer.write(http.response(200, _json(listed), JSON))
        elif request.path.endswith("/chat/completions") and request.method == "POST":
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                await self._chat(request, writer)
            finally:
                self.in_flight -= 1
        else:
            _refuse(writer, Fault.http(404, f"no such path: {request.path}"))
        await writer.drain()

    async def _chat(self, request: http.HttpRequest, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        try:
            body = json.loads(request.body)
        except ValueError:
            _refuse(writer, Fault.http(400, "the request is not JSON"))
            return
        self.requests.append(body)
        self.headers.append(request.headers)
        if self._api_key and request.headers.get("authorization") != f"Bearer {self._api_key}":
            _refuse(writer, Fault.unauthorized())
            return
        if self._gate is None:
            await self._answer(body, writer)
            return
        refused = await self._gate.enter()
        if refused is not None:
            self.refused += 1
            _refuse(writer, refused)
            return
        try:
            await self._answer(body, writer)
        finally:
            self._gate.leave()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        answer = self._chooser.choose(body)
        if inspect.isawaitable(answer):
            answer = await answer
        delay_s = self._latency_s(body) + (answer.after_s if isinstance(answer, Reply) else 0.0)
        if delay_s:
            await asyncio.sleep(delay_s)
        if isinstance(answer, Fault):
            await self._fail(answer, body, writer)
        else:
            self._complete(body, answer, writer)

    def _complete(self, body: dict[str, Any], answer: Answer, writer: asyncio.StreamWriter) -> None:
        assert not isinstance(answer, Fault)
        reply = Reply(text=answer) if isinstance(answer, str) else answer
        text, finish, usage = self._bill(body, reply)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.refusal:
            message |= {"refusal": reply.refusal, "content": None}
        if body.get("stream"):
            wanted = (body.get("stream_options") or {}).get("include_usage")
            events = _pieces(message, finish) + (
                [{"choices": [], "usage": usage}] if wanted else []
            )
            sent = b"".join(http.chunk(_event(e)) for e in events if e.get("usage", 1) is not None)
            done = http.chunk(b"data: [DONE]\n\n") + http.chunk(b"")
            writer.write(http.stream_head() + sent + done)
            return
        choice = {"index": 0, "message": message, "finish_reason": finish}
        if reply.logprobs is not None and body.get("logprobs") is True:
            choice["logprobs"] = {"content": [_logprob(*pair) for pair in reply.logprobs]}
        data = {"object": "chat.completion", "model": body.get("model"), "choices": [choice]}
        if usage is not None:
            data["usage"] = usage
        writer.write(http.response(200, _json(data), JSON))

    def _bill(self, body: dict[str, Any], reply: Reply) -> tuple[str, str, dict[str, Any] | None]:
        cap = body.get("max_completion_tokens") or body.get("max_tokens")
        text, finish = reply.text, reply.finish
        thought = reply.reasoning_tokens or _tokens(reply.reasoning)
        if self._billing.obeys_cap and isinstance(cap, int):
            room = max(0, cap - thought)
            if _tokens(text) > room:
                cut = text.encode()[: room * BYTES_PER_TOKEN]
                text, finish = cut.decode("utf-8", "ignore"), "length"
        prompt = reply.prompt_tokens
        if prompt is None:
            prompt = sum(_tokens(str(m.get("content"))) for m in body.get("messages", []))
        completion = reply.completion_tokens
        if completion is None:
            completion = thought + _tokens(text)
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": thought},
        }
        if reply.cost_usd is not None:
            usage["cost"] = reply.cost_usd
        if not reply.usage:
            return text, finish, None
        report = self._billing.report
        return text, finish, report(usage) if report else usage

    async def _fail(self, fault: Fault, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        match fault.kind:
            case "status":
                _refuse(writer, fault)
            case "slow_first_byte":
                await asyncio.sleep(fault.delay_s)
                self._complete(body, fault.text, writer)
            case "garbage_json":
                writer.write(http.response(200, fault.text.encode(), JSON))
            case "stream_error":
                error = {"error": {"message": fault.message, "code": fault.status}}
                if body.get("stream"):
                    writer.write(http.stream_head() + http.chunk(_event(error)) + http.chunk(b""))
                else:
                    writer.write(http.response(200, _json(error), JSON))
            case "cut_stream":
                text, _, _ = self._bill(body, Reply(text=fault.text[: fault.after_chars]))
                pieces = _pieces({"role": "assistant", "content": text}, "stop")[:-1]
                if body.get("stream"):
                    sent = http.stream_head() + b"".join(http.chunk(_event(e)) for e in pieces)
                else:
                    sent = http.response(200, _json(pieces), JSON)[:-1]
                writer.write(sent)
                await writer.drain()
                writer.close()
            case "hang":
                await asyncio.Event().wait()
            case "drop":
                writer.close()


class _Gate:
    """Keeps a simulated rate: a bucket of calls, and a number of calls at once."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._inside = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._next_s = 0.0

    async def enter(self) -> Fault | None:
        limit = self._limit
        full = limit.concurrent is not None and self._inside >= limit.concurrent
        wait_s = self._wait_s()
        if not limit.queues and (full or wait_s > 0):
            return Fault.rate_limited(limit.retry_after_s)
        if limit.calls_per_s:
            now_s = asyncio.get_running_loop().time()
            earliest_s = now_s - (limit.burst - 1) / limit.calls_per_s
            self._next_s = max(self._next_s, earliest_s) + 1 / limit.calls_per_s
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        if limit.concurrent is not None and self._inside >= limit.concurrent:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future  # the place is handed over, so `_inside` stays
        else:
            self._inside += 1
        return None

    def leave(self) -> None:
        while self._waiting:
            future = self._waiting.pop(0)
            if not future.done():
                future.set_result(None)
                return
        self._inside -= 1

    def _wait_s(self) -> float:
        if not self._limit.calls_per_s:
            return 0.0
        return max(0.0, self._next_s - asyncio.get_running_loop().time())


def _refuse(writer: asyncio.StreamWriter, fault: Fault) -> None:
    error = {"error": {"message": fault.message, "code": fault.status}}
    writer.write(http.response(fault.status, _json(error), JSON, *fault.headers))


def _pieces(message: dict[str, Any], finish: str) -> list[dict[str, Any]]:
    """Split a message into the events of a stream, the last of which has the finish."""
    content = message.get("content") or ""
    rest = {name: value for name, value in message.items() if name != "content"}
    cuts = range(0, len(content), CHARS_PER_EVENT)
    deltas = [rest, *({"content": content[at : at + CHARS_PER_EVENT]} for at in cuts)]
    events: list[dict[str, Any]] = [
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}
        for delta in deltas
    ]
    last = {"index": 0, "delta": {}, "finish_reason": finish}
    return [*events, {"object": "chat.completion.chunk", "choices": [last]}]


def _logprob(token: str, logprob: float) -> dict[str, Any]:
    raw = list(token.encode("utf-8", "surrogatepass"))
    return {"token": token, "logprob": logprob, "bytes": raw, "top_logprobs": []}


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + _json(data) + b"\n\n"


def _json(data: Any) -> bytes:
    return json.dumps(data).encode()


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)
