"""What a call may cost and what it did cost, in tokens and micro-dollars.

The worst case counts a token for each UTF-8 byte: a byte-level tokenizer never makes more.
What to expect comes from `tokens`. Money rounds up. Neither counts on a provider's cache;
only what was in fact paid does, by the usage that came back. Where a provider gives its own
figure in money, that is what was paid; else its tokens at the declared price.
"""

import json
from collections.abc import Iterable
from typing import Any

from abyme.core.events import Failure, ModelFacts, Price, Usage
from abyme.core.ledger import Amount
from abyme.core.profile import Message

MILLION = 1_000_000
MESSAGE_TOKENS = 8
"""Role, separators: what a chat template puts around a message."""
CLOSING_TOKENS = 1024
"""Output of a closing turn at least: one block that submits what is held."""
CLOSING_SHARE = 4
"""Of what a model may put out, the part that a closing turn may: some think before they write."""
BILLING_UNKNOWN = frozenset({"stream_cut", "timed_out", "cancelled", "bad_reply"})
"""Faults that may hide a reply which the provider has made, and bills."""
GATEWAY_TIMEOUTS = frozenset({408, 504, 524})
"""HTTP statuses of a gateway that gave up on a provider which may have worked."""


def prompt_bytes(messages: Iterable[Message]) -> int:
    """UTF-8 bytes of a prompt."""
    return sum(len(m.content.encode("utf-8", "surrogatepass")) for m in messages)


def worst(
    model: ModelFacts,
    messages: tuple[Message, ...],
    max_output_tokens: int,
    form: dict[str, Any] | None = None,
) -> Amount:
    """Most that one attempt can cost at the declared price. A `form` that is passed on with the
    prompt counts as a part of it, as it does with some providers.
    """
    prompt = prompt_bytes(messages) + MESSAGE_TOKENS * len(messages)
    prompt += 0 if form is None else len(json.dumps(form))
    return Amount(1, prompt + max_output_tokens, _usd(model.price, prompt, max_output_tokens))


def closing(model: ModelFacts, messages: tuple[Message, ...], grown_bytes: int) -> Amount:
    """Cost of one short turn when the prompt has grown by so much. Counted as `worst` counts,
    or the turn that it is kept back for would be refused.
    """
    prompt = prompt_bytes(messages) + grown_bytes + MESSAGE_TOKENS * (len(messages) + 2)
    output = closing_tokens(model)
    return Amount(1, prompt + output, _usd(model.price, prompt, output))


def closing_tokens(model: ModelFacts) -> int:
    """Output of a closing turn at most."""
    return max(CLOSING_TOKENS, model.max_output_tokens // CLOSING_SHARE)


def ordinary(model: ModelFacts, prompt_tokens: int, output_tokens: int) -> Amount:
    """Cost of an ordinary call whose prompt is expected to have so many tokens."""
    prompt = prompt_tokens + MESSAGE_TOKENS
    return Amount(1, prompt + output_tokens, _usd(model.price, prompt, output_tokens))


def actual(model: ModelFacts, usage: Usage) -> Amount:
    """Cost by the provider's usage; its own figure for the money, where it gives one."""
    tokens = usage.prompt_tokens + usage.completion_tokens
    if usage.cost_usd_micro is not None:
        return Amount(1, tokens, usage.cost_usd_micro)
    return Amount(1, tokens, declared_usd_micro(model.price, usage))


def declared_usd_micro(price: Price | None, usage: Usage) -> int:
    """Cost of a usage at the declared price, cached input at its own; 0 for a price unknown."""
    if price is None:
        return 0
    cached_price = price.cached_usd_micro
    cached = 0 if cached_price is None else usage.cached_tokens
    total = (
        (usage.prompt_tokens - cached) * price.input_usd_micro
        + cached * (cached_price or 0)
        + usage.completion_tokens * price.output_usd_micro
    )
    return -(-total // MILLION)


def billed(model: ModelFacts, failure: Failure, usage: Usage | None, worst: Amount) -> Amount:
    """Cost of an attempt that was sent and failed. Where the provider may have worked and gave
    no figures, its worst case; or what has in fact arrived, if that is more.
    """
    unknown = failure.fault in BILLING_UNKNOWN or failure.status in GATEWAY_TIMEOUTS
    known = actual(model, usage or Usage())
    if not unknown or (usage is not None and not usage.estimated):
        return known
    if known.tokens <= worst.tokens and known.usd_micro <= worst.usd_micro:
        return worst
    return Amount(1, max(known.tokens, worst.tokens), max(known.usd_micro, worst.usd_micro))


def _usd(price: Price | None, prompt_tokens: int, output_tokens: int) -> int:
    """Most that so many tokens cost, whatever of them turns out to be cached."""
    if price is None:
        return 0
    dearest = max(price.input_usd_micro, price.cached_usd_micro or 0)
    return -(-(prompt_tokens * dearest + output_tokens * price.output_usd_micro) // MILLION)
