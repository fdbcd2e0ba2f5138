"""Chat completions on the wire: a request's bytes, and what a reply says.

Pure: no socket, no clock. Decides how `ModelRequest` is written and how text,
finish and usage are read from what providers really send. Invariant: what is
returned has text; a reply without any is an error with its reason. Figures that
are negative, absurd or missing are replaced by an estimate and marked.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import msgspec

from abyme.core.events import Usage
from abyme.errors import ModelError
from abyme.models import faults
from abyme.models.names import Endpoint
from abyme.models.presets import REASONING
from abyme.models.prices import micro
from abyme.models.response_format import response_format
from abyme.ports import ModelReply, ModelRequest

MOST_TOKENS: Final = 1 << 40
MOST_USD: Final = Decimal(1_000_000)
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
CAPS: Final = frozenset({"max_tokens", "max_completion_tokens"})
DEFAULT_ONLY: Final = frozenset({"temperature", "stop"})


def estimate_tokens(text: str) -> int:
    """Tokens of a text where nobody counted: UTF-8 bytes / 3, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 3)


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


def _cap_field(endpoint: Endpoint, without: frozenset[str], *, reasoning: bool) -> str:
    if "max_completion_tokens" in without:
        return "max_tokens"
    if "max_tokens" in without or reasoning:
        return "max_completion_tokens"
    return endpoint.preset.cap_field


def well_formed(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot carry, by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(slots=True)
class Draft:
    """A reply as far as it has arrived."""

    parts: list[str] = field(default_factory=list)
    finish: str | None = None
    refusal: str = ""
    thought_chars: int = 0
    usage: dict[str, Any] | None = None
    failure: Any = None
    """An error object that came in place of the reply or in the middle of it."""

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
        message = choice.get("delta") or choice.get("message")
        if not isinstance(message, dict):
            return _plain(choice.get("text"), self.parts)
        if isinstance(message.get("refusal"), str):
            self.refusal += message["refusal"]
        for name in ("reasoning_content", "reasoning"):
            if isinstance(message.get(name), str):
                self.thought_chars += len(message[name])
        return _plain(message.get("content"), self.parts)


MOST_TEXT_CHARS = 4 << 20
"""Of a reply: four times what any output cap gives. More is an attack on our memory."""


def finished(endpoint: Endpoint, request: ModelRequest, draft: Draft) -> ModelReply:
    """Make the reply of a draft that has ended.

    Raises:
        ModelError: the reply has no text. What was billed for it is in `.usage`.
    """
    text = _without_thought(draft)
    if request.prefill:
        text = text.removeprefix(request.prefill)
    usage = read_usage(draft, request)
    finish = draft.finish or "stop"
    if len(text) > MOST_TEXT_CHARS:
        message = f"the reply has {len(text):,} characters, {MOST_TEXT_CHARS:,} are taken"
        raise faults.error(endpoint, "bad_reply", message, usage=usage)
    if text.strip() and finish != "content_filter":
        return ModelReply(text=text, finish=finish, usage=usage)
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


def read_usage(draft: Draft, request: ModelRequest) -> Usage:
    """Tokens as the provider counts them; our estimate, marked, where it does not."""
    given = draft.usage or {}
    prompt = _count(given.get("prompt_tokens"))
    completion = _count(given.get("completion_tokens"))
    estimated = prompt is None or completion is None
    if prompt is None:
        prompt = sum(estimate_tokens(m.content) for m in request.messages)
    if completion is None:
        completion = estimate_tokens(draft.text) + -(-draft.thought_chars // 3)
    inner, outer = given.get("prompt_tokens_details"), given.get("completion_tokens_details")
    cached = _count(inner.get("cached_tokens")) if isinstance(inner, dict) else None
    if cached is None:
        cached = _count(given.get("prompt_cache_hit_tokens"))  # DeepSeek
    thought = _count(outer.get("reasoning_tokens")) if isinstance(outer, dict) else None
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=min(cached or 0, prompt),
        reasoning_tokens=min(thought or 0, completion),
        cost_usd_micro=_cost(given.get("cost")),  # OpenRouter, in dollars
        estimated=estimated,
    )


def _plain(content: Any, parts: list[str]) -> str:
    if isinstance(content, list):
        pieces = [p.get("text") for p in content if isinstance(p, dict)]
        content = "".join(p for p in pieces if isinstance(p, str))
    if not isinstance(content, str) or not content:
        return ""
    parts.append(content)
    return content


def _without_thought(draft: Draft) -> str:
    """Drop reasoning that a server without a reasoning parser left at the head of the text."""
    text = draft.text
    if not text.lstrip().startswith(THINK_OPEN):
        return text
    thought, closed, rest = text.partition(THINK_CLOSE)
    draft.thought_chars += len(thought)
    return rest.lstrip("\n") if closed else ""


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST_TOKENS:
        return None
    return value


def _cost(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        dollars = Decimal(str(value))
    except ArithmeticError:
        return None
    return micro(dollars) if dollars.is_finite() and 0 <= dollars < MOST_USD else None
