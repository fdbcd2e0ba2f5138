"""`ScriptedModel`: a model that answers from a list or a function. Public, for tests.

Keeps every request it was asked. Its usage is a count of bytes, so the same
exchange always costs the same. No network, no clock.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

from abyme.core.events import Usage
from abyme.errors import ModelError
from abyme.ports import ModelReply, ModelRequest

Scripted: TypeAlias = str | ModelReply | BaseException
"""A reply, or an error to raise. An empty text is an error, as from any model."""

Script: TypeAlias = Iterable[Scripted] | Callable[[ModelRequest], Scripted | Awaitable[Scripted]]


class ScriptRanOut(AssertionError):
    """More was asked than the script holds: the test or the code under it is wrong."""


class ScriptedModel:
    """Answers each request from `script`, in the order of the requests.

    >>> model = ScriptedModel(["first", ModelError("busy", failure="server", retryable=True)])
    >>> model = ScriptedModel(lambda request: request.messages[-1].content.upper())

    A function may be asynchronous. `requests` holds what was asked, `closed` whether
    `aclose` was called. A reply's `doubts` are given where the request asks for them.
    """

    def __init__(self, script: Script) -> None:
        if isinstance(script, str | Mapping):
            raise TypeError(
                "a ScriptedModel takes a list of replies or a function of the request, "
                f"not {type(script).__name__}; a dict is a script for ScriptedEndpoint"
            )
        self.requests: list[ModelRequest] = []
        self.closed = False
        self._answer = script if callable(script) else None
        self._replies = None if callable(script) else iter(script)

    async def complete(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """Give the next reply, or raise the next error."""
        self.requests.append(request)
        found = self._next(request)
        if inspect.isawaitable(found):
            found = await found
        if isinstance(found, BaseException):
            raise found
        reply = found if isinstance(found, ModelReply) else _reply(request, found)
        if not reply.text:
            raise ModelError(
                "scripted: the reply is empty",
                failure="empty_reply",
                retryable=True,
                usage=reply.usage,
            )
        if reply.doubts is not None and not request.logprobs:
            reply = dataclasses.replace(reply, doubts=None)
        if on_text is not None:
            for line in reply.text.splitlines(keepends=True):
                on_text(line)
        return reply

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def _next(self, request: ModelRequest) -> Scripted | Awaitable[Scripted]:
        if self._answer is not None:
            return self._answer(request)
        assert self._replies is not None
        for reply in self._replies:
            return reply
        last = request.messages[-1].content if request.messages else ""
        raise ScriptRanOut(
            f"the script holds {len(self.requests) - 1} replies; "
            f"request {len(self.requests)} ends with {last[-200:]!r}"
        )


def _reply(request: ModelRequest, text: str) -> ModelReply:
    prompt_tokens = sum(_tokens(m.content) for m in request.messages)
    usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=_tokens(text))
    return ModelReply(text=text, finish="stop", usage=usage)


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // 3)
