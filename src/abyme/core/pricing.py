"""What a call may cost and what it did cost, in tokens and micro-dollars.

Estimates count UTF-8 bytes: English runs at about 4 bytes a token, code at 3,
JSON at 2.5, Chinese at 3 for one or two tokens, digits of some models at 1. A
byte-level tokenizer never makes more tokens than bytes, so the worst case takes 1;
the expected one takes 3.5. Money rounds up.
"""

from collections.abc import Iterable

from abyme.core.events import Failure, ModelFacts, Price, Usage
from abyme.core.ledger import Amount
from abyme.core.profile import Message

MESSAGE_TOKENS = 8
"""Role, separators: what a chat template puts around a message."""
CLOSING_TOKENS = 1024
"""Output of a closing turn: one block that submits what is held."""
BILLING_UNKNOWN = frozenset({"stream_cut", "timed_out", "cancelled", "bad_reply"})
"""Faults that may hide a reply which the provider has made, and bills."""
GATEWAY_TIMEOUTS = frozenset({408, 504, 524})
"""HTTP statuses of a gateway that gave up on a provider which may have worked."""


def prompt_bytes(messages: Iterable[Message]) -> int:
    """UTF-8 bytes of a prompt."""
    return sum(len(m.content.encode("utf-8", "surrogatepass")) for m in messages)


def worst(model: ModelFacts, messages: tuple[Message, ...], max_output_tokens: int) -> Amount:
    """Most that one attempt can cost at the declared price."""
    prompt = prompt_bytes(messages) + MESSAGE_TOKENS * len(messages)
    return Amount(1, prompt + max_output_tokens, _usd(model.price, prompt, max_output_tokens))


def closing(model: ModelFacts, messages: tuple[Message, ...], grown_bytes: int) -> Amount:
    """Cost of one short turn when the prompt has grown by so much. Counted as `worst` counts,
    or the turn that it is kept back for would be refused.
    """
    prompt = prompt_bytes(messages) + grown_bytes + MESSAGE_TOKENS * (len(messages) + 2)
    return Amount(1, prompt + CLOSING_TOKENS, _usd(model.price, prompt, CLOSING_TOKENS))


def expected(model: ModelFacts, size_bytes: int, output_tokens: int) -> Amount:
    """Cost of an ordinary call with a prompt of `size_bytes`."""
    prompt = size_bytes * 2 // 7 + MESSAGE_TOKENS
    return Amount(1, prompt + output_tokens, _usd(model.price, prompt, output_tokens))


def actual(model: ModelFacts, usage: Usage) -> Amount:
    """Cost by the provider's usage; its own figure for the money, where it gives one."""
    tokens = usage.prompt_tokens + usage.completion_tokens
    if usage.cost_usd_micro is not None:
        return Amount(1, tokens, usage.cost_usd_micro)
    return Amount(1, tokens, _usd(model.price, usage.prompt_tokens, usage.completion_tokens))


def billed(model: ModelFacts, failure: Failure, usage: Usage | None, worst: Amount) -> Amount:
    """Cost of an attempt that was sent and failed. Where the provider may have worked and gave
    no figures, its worst case.
    """
    unknown = failure.fault in BILLING_UNKNOWN or failure.status in GATEWAY_TIMEOUTS
    if unknown and (usage is None or usage.estimated):
        return worst
    return actual(model, usage or Usage())


def _usd(price: Price | None, prompt_tokens: int, output_tokens: int) -> int:
    if price is None:
        return 0
    total = prompt_tokens * price.input_usd_micro + output_tokens * price.output_usd_micro
    return -(-total // 1_000_000)
