"""What a `ScriptedEndpoint` answers: replies and faults as values, and scripts of them.

Pure data and choice; `endpoint` puts it on the wire. Invariant: a script never
answers more than it holds: the request after the last is a 400 that says so.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from abyme.errors import ConfigError

BYTES_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One completion. What is None is counted from the text, four bytes a token."""

    text: str = ""
    finish: str = "stop"
    reasoning: str = ""
    refusal: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    """The provider's own figure, as OpenRouter gives one."""
    usage: bool = True
    """False: the reply says nothing of tokens."""
    after_s: float = 0.0
    """Wait so long before it, beside the endpoint's own latency."""
    logprobs: Sequence[tuple[str, float]] | None = None
    """Tokens and the natural logarithms of their probabilities, for requests that ask for them
    and do not stream. The tokens should make up the text."""

    def __post_init__(self) -> None:
        for pair in self.logprobs or ():
            token, logprob = pair if len(pair) == 2 else (None, None)
            if not isinstance(token, str) or not isinstance(logprob, int | float):
                raise TypeError(f"logprobs holds pairs of a token and a number, not {pair!r}")


FaultKind: TypeAlias = Literal[
    "status", "cut_stream", "slow_first_byte", "garbage_json", "hang", "stream_error", "drop"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail. Made by its class methods."""

    kind: FaultKind
    status: int = 200
    message: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    text: str = ""
    after_chars: int = 0
    delay_s: float = 0.0

    @classmethod
    def http(cls, status: int, message: str = "scripted fault", **headers: str) -> Fault:
        """Answer with this status; ``retry_after="1"`` becomes the header ``Retry-After: 1``."""
        names = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        return cls(kind="status", status=status, message=message, headers=names)

    @classmethod
    def rate_limited(cls, retry_after_s: float | None = None) -> Fault:
        """429, with ``Retry-After`` if given."""
        headers = {} if retry_after_s is None else {"retry_after": f"{retry_after_s:g}"}
        return cls.http(429, "Rate limit reached", **headers)

    @classmethod
    def server(cls, status: int = 500) -> Fault:
        """Fail with a 5xx."""
        return cls.http(status, "The server had an error")

    @classmethod
    def unauthorized(cls) -> Fault:
        """401."""
        return cls.http(401, "Incorrect API key provided")

    @classmethod
    def quota(cls) -> Fault:
        """429 that no waiting helps."""
        return cls.http(429, "You exceeded your current quota (insufficient_quota)")

    @classmethod
    def context_length(cls) -> Fault:
        """400 that says that the prompt does not fit."""
        return cls.http(400, "This model's maximum context length is 8192 tokens")

    @classmethod
    def cut_stream(cls, after_chars: int = 0, text: str = "This reply is cut.") -> Fault:
        """Close the connection after so many characters of `text`."""
        return cls(kind="cut_stream", after_chars=after_chars, text=text)

    @classmethod
    def slow_first_byte(cls, delay_s: float, text: str = "late") -> Fault:
        """Answer `text`, but only after so long."""
        return cls(kind="slow_first_byte", delay_s=delay_s, text=text)

    @classmethod
    def garbage_json(cls, text: str = '{"choices": [{"mess') -> Fault:
        """Status 200 with a body that is not JSON."""
        return cls(kind="garbage_json", text=text)

    @classmethod
    def stream_error(cls, message: str = "overloaded", status: int = 502) -> Fault:
        """Status 200 with an error object in the place of the reply."""
        return cls(kind="stream_error", message=message, status=status)

    @classmethod
    def empty_reply(cls) -> Reply:
        """Build a completion without text."""
        return Reply(text="")

    @classmethod
    def hang(cls) -> Fault:
        """Take the request and never answer."""
        return cls(kind="hang")

    @classmethod
    def drop(cls) -> Fault:
        """Close the connection without a word."""
        return cls(kind="drop")


FAULTS: Final = (
    "http",
    "rate_limited",
    "server",
    "unauthorized",
    "quota",
    "context_length",
    "cut_stream",
    "slow_first_byte",
    "garbage_json",
    "stream_error",
    "empty_reply",
    "hang",
    "drop",
)
"""Names that a script file may use."""

Answer: TypeAlias = str | Reply | Fault
Request: TypeAlias = dict[str, Any]
Script: TypeAlias = (
    Sequence[Answer]
    | Mapping[str, Answer | Sequence[Answer]]
    | Callable[[Request], Answer | Awaitable[Answer]]
)
"""In order of the requests; by a substring of the request (the last message that is not
the assistant's first, then all of it; ``""`` fits everything, entries are tried in order,
a list under a substring is used up one by one); or by a function of the request."""


class Chooser:
    """Picks the answer for each request."""

    def __init__(self, script: Script) -> None:
        self._function = script if callable(script) else None
        self._texts: dict[str, Answer | list[Answer]] = {}
        if isinstance(script, Mapping):
            for key, value in script.items():
                single = isinstance(value, str | Reply | Fault)
                self._texts[key] = value if single else list(value)  # type: ignore[assignment,arg-type]
        elif isinstance(script, Sequence):
            self._texts = {"": list(script)}
        self._used = 0

    def choose(self, request: Request) -> Answer | Awaitable[Answer]:
        """Return what to answer."""
        if self._function is not None:
            return self._function(request)
        last, whole = _texts(request)
        for text in (last, whole):
            for key, value in self._texts.items():
                if key and key in text:
                    return self._one(value)
        if "" in self._texts:
            return self._one(self._texts[""])
        return Fault.http(400, f"the script has no answer for a request that ends {last[-200:]!r}")

    def _one(self, value: Answer | list[Answer]) -> Answer:
        if not isinstance(value, list):
            return value
        if not value:
            return Fault.http(400, f"the script has run out of replies after {self._used}")
        self._used += 1
        return value.pop(0)


def read_script(path: Path) -> Script:
    """Read a script from JSON: a list, or an object substring -> reply.

    A reply is a string, an object with the fields of `Reply`, or
    ``{"fault": "rate_limited", "retry_after_s": 1}`` with a fault's arguments.

    Raises:
        ConfigError: if it is not one.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the script {path}: {error}") from None
    if isinstance(data, list):
        return [_answer(entry) for entry in data]
    if isinstance(data, dict):
        return {
            key: [_answer(e) for e in value] if isinstance(value, list) else _answer(value)
            for key, value in data.items()
        }
    raise ConfigError(f"{path} must hold a list of replies or an object substring -> reply")


def _answer(entry: Any) -> Answer:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, dict):
        fields = dict(entry)
        name = fields.pop("fault", None)
        try:
            if name is None:
                return Reply(**fields)
            if name in FAULTS:
                made: Fault | Reply = getattr(Fault, name)(**fields)
                return made
        except TypeError as error:
            raise ConfigError(f"script entry {entry!r}: {error}") from None
    raise ConfigError(f"script entry {entry!r}: a string, a reply, or a fault of {FAULTS}")


def _texts(request: Request) -> tuple[str, str]:
    messages = request.get("messages")
    pairs: list[tuple[str, str]] = []
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict) and isinstance(message.get("content"), str):
            pairs += [(str(message.get("role")), message["content"])]
    asked = [text for role, text in pairs if role != "assistant"]
    return asked[-1] if asked else "", "\n".join(text for _, text in pairs)
