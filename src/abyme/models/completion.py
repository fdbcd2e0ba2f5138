"""Chat completions on the wire: a request's bytes, and what a reply says.

Pure: no socket, no clock. Decides how `ModelRequest` is written and how text,
finish are read from what providers really send (`usage` reads what it cost), and how much of
it is taken. Invariant: what is returned has text; a reply without any, or without end, is an
error with its reason.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from abyme.core.events import Usage
from abyme.errors import ModelError
from abyme.models import doubts, faults
from abyme.models import usage as usages
from abyme.models.names import Endpoint
from abyme.models.presets import NO_LOGPROBS, REASONING
from abyme.models.response_format import response_format
from abyme.ports import ModelReply, ModelRequest

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
CAPS: Final = frozenset({"max_tokens", "max_completion_tokens"})
MOST_REPLY_BYTES: Final = 64 << 20
"""Of a body, whatever was asked for."""
MOST_TEXT_CHARS: Final = 4 << 20
"""Of a reply: four times what any output cap gives. More is an attack on our memory."""
TOKEN_BYTES: Final = 64
"""The longest token that is no run of one character has 61."""
SPARE_BYTES: Final = 1 << 20
"""Beyond the tokens that were allowed: some providers do not count reasoning among them."""
WRITTEN: Final = 4
"""Bytes that JSON takes for one of text, and what stands beside it."""
LOGPROB_BYTES: Final = 2560
"""Of JSON for a token's log-probability, where a server lists 20 other tokens beside it."""
DEFAULT_ONLY: Final = frozenset({"temperature", "stop"})


def request_body(
    endpoint: Endpoint, request: ModelRequest, *, stream: bool, without: frozenset[str]
) -> bytes:
    """Bytes of the request. `without` names the fields that this model is known to refuse."""
    preset = endpoint.preset
    reasoning = REASONING.search(endpoint.model) is not None
    if reasoning:
        without |= DEFAULT_ONLY
    messages = [{"role": m.role, "content": m.content} for m in request.messages]
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": messages,
        _cap_field(endpoint, without, reasoning=reasoning): request.max_output_tokens,
        "temperature": request.temperature,
        "stop": list(request.stop) or None,
        "seed": request.seed if preset.seed else None,
        "stream": stream or None,
        "stream_options": {"include_usage": True} if stream else None,
        "response_format": response_format(preset, request.schema, without),
        **dict(preset.extra),
    }
    if asks_logprobs(endpoint, request, stream=stream, without=without):
        body |= dict(preset.logprobs)
    if request.prefill and preset.prefill != "none" and "prefill" not in without:
        messages.append({"role": "assistant", "content": request.prefill})
        if preset.prefill == "flags":
            body |= {"add_generation_prompt": False, "continue_final_message": True}
    body = {
        name: value
        for name, value in body.items()
        if value is not None and (name not in without or name in CAPS)
    }
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        body["messages"] = [m | {"content": well_formed(m["content"])} for m in messages]
        body.pop("response_format", None)
        return msgspec.json.encode(body)


def asks_logprobs(
    endpoint: Endpoint, request: ModelRequest, *, stream: bool, without: frozenset[str]
) -> bool:
    """Tell whether a request asks for log-probabilities. Replies that are read along do not."""
    wanted = request.logprobs and not stream and "logprobs" not in without
    return wanted and NO_LOGPROBS.search(endpoint.model) is None and bool(endpoint.preset.logprobs)


def _cap_field(endpoint: Endpoint, without: frozenset[str], *, reasoning: bool) -> str:
    if "max_completion_tokens" in without:
        return "max_tokens"
    if "max_tokens" in without or reasoning:
        return "max_completion_tokens"
    return endpoint.preset.cap_field


def well_formed(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot carry, by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def allowed_bytes(request: ModelRequest) -> int:
    """UTF-8 bytes of text and reasoning together that are taken for a request."""
    return min(MOST_REPLY_BYTES, SPARE_BYTES + TOKEN_BYTES * request.max_output_tokens)


def beside_bytes(request: ModelRequest) -> int:
    """Bytes of JSON that are taken beside text and reasoning."""
    return LOGPROB_BYTES * request.max_output_tokens if request.logprobs else 0


@dataclass(slots=True)
class Draft:
    """A reply as far as it has arrived; of text and reasoning at most `most_bytes`."""

    most_bytes: int = MOST_REPLY_BYTES
    beside_bytes: int = 0
    size_bytes: int = 0
    parts: list[str] = field(default_factory=list)
    finish: str | None = None
    refusal: str = ""
    thought_chars: int = 0
    usage: dict[str, Any] | None = None
    logprobs: Any = None
    """As they came last: of a whole reply, or of one piece of a stream."""
    failure: Any = None
    """An error object that came in place of the reply or in the middle of it."""

    @property
    def most_written_bytes(self) -> int:
        """Of the JSON that it comes in."""
        return min(MOST_REPLY_BYTES, WRITTEN * self.most_bytes + self.beside_bytes)

    @property
    def too_long(self) -> str | None:
        """Say that it passes what is taken, if it does."""
        if self.size_bytes <= self.most_bytes:
            return None
        return f"the reply passes {self.most_bytes:,} bytes, far beyond the output that was allowed"

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self.parts)

    def take(self, data: dict[str, Any]) -> str:
        """Take in a whole reply or one piece of a stream; return the text it added."""
        if data.get("error"):
            self.failure = data
        usage = data.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        choices = data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return ""
        if choice.get("error"):
            self.failure = choice
        if isinstance(choice.get("finish_reason"), str):
            self.finish = choice["finish_reason"]
        self.logprobs = choice.get("logprobs")
        message = choice.get("delta") or choice.get("message")
        if not isinstance(message, dict):
            return self._add(_plain(choice.get("text")))
        if isinstance(message.get("refusal"), str):
            self.refusal += message["refusal"]
            self.size_bytes += _size_bytes(message["refusal"])
        for name in ("reasoning_content", "reasoning"):
            if isinstance(message.get(name), str):
                self.thought_chars += len(message[name])
                self.size_bytes += _size_bytes(message[name])
        return self._add(_plain(message.get("content")))

    def _add(self, text: str) -> str:
        if text:
            self.parts.append(text)
            self.size_bytes += _size_bytes(text)
        return text


def finished(endpoint: Endpoint, request: ModelRequest, draft: Draft) -> ModelReply:
    """Make the reply of a draft that has ended.

    Raises:
        ModelError: the reply has no text. What was billed for it is in `.usage`.
    """
    text = _without_thought(draft)
    if request.prefill:
        text = text.removeprefix(request.prefill)
    usage = read_usage(endpoint, draft, request)
    finish = draft.finish or "stop"
    too_long = draft.too_long
    if len(text) > MOST_TEXT_CHARS:
        too_long = f"the reply has {len(text):,} characters, {MOST_TEXT_CHARS:,} are taken"
    if too_long is not None:
        raise faults.error(endpoint, "bad_reply", too_long, usage=usage)
    if text.strip() and finish != "content_filter":
        unsure = doubts.read(draft.logprobs, text) if request.logprobs else None
        return ModelReply(text=text, finish=finish, usage=usage, doubts=unsure)
    raise no_text(endpoint, request, draft, usage)


def no_text(endpoint: Endpoint, request: ModelRequest, draft: Draft, usage: Usage) -> ModelError:
    """Say why there is no text."""
    if draft.refusal:
        said = faults.quote(endpoint, draft.refusal)
        return faults.error(endpoint, "refused", f"the model declined: {said}", usage=usage)
    if draft.finish == "content_filter":
        message = "the provider's filter withheld the reply; rephrase or use another model"
        return faults.error(endpoint, "content_filter", message, usage=usage)
    thought = draft.thought_chars or usage.reasoning_tokens
    if draft.finish == "length":
        cap = f"{request.max_output_tokens:,} output tokens were used up"
        message = (
            f"{cap} by reasoning before any text; allow more output or less reasoning"
            if thought
            else f"{cap} without any text; allow more output"
        )
        return faults.error(endpoint, "output_cap", message, usage=usage)
    message = "the reply holds reasoning and no text" if thought else "the reply is empty"
    return faults.error(endpoint, "empty_reply", message, usage=usage)


def read_usage(endpoint: Endpoint, draft: Draft, request: ModelRequest) -> Usage:
    """Tokens and money as the provider counts them; our estimate, marked, where it does not."""
    return usages.read(
        draft.usage or {},
        sent=[m.content for m in request.messages],
        received=draft.text,
        thought_chars=draft.thought_chars,
        price=endpoint.price,
    )


def _plain(content: Any) -> str:
    if isinstance(content, list):
        pieces = [p.get("text") for p in content if isinstance(p, dict)]
        content = "".join(p for p in pieces if isinstance(p, str))
    return content if isinstance(content, str) else ""


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _without_thought(draft: Draft) -> str:
    """Drop reasoning that a server without a reasoning parser left at the head of the text."""
    text = draft.text
    if not text.lstrip().startswith(THINK_OPEN):
        return text
    thought, closed, rest = text.partition(THINK_CLOSE)
    draft.thought_chars += len(thought)
    return rest.lstrip("\n") if closed else ""
