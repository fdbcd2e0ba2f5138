"""What a provider says that a reply cost, as far as it can be believed.

Pure. Decides: which figures are plausible, and what stands in for those that are missing or
are not: our own estimate, upward, marked as one. Invariant: for text that was sent or
received there are at least as many tokens as no tokenizer goes below (`tokens.least`), and a
figure in money is not far below the declared price, whatever is said to have been cached.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from msgspec import structs

from abyme.core import tokens
from abyme.core.events import Price, Usage
from abyme.core.pricing import declared_usd_micro
from abyme.models.prices import micro

MOST_TOKENS: Final = 1 << 40
MOST_USD: Final = Decimal(1_000_000)
ORDINARY_BYTES: Final = 8
"""To a token, on the average: ordinary text has less, whatever its language."""
CAUTIOUS_BYTES: Final = 3
BELIEVED_PERCENT: Final = 45
"""Of what the tokens cost at the declared price, the least that a figure in money is believed
to be: batches and quiet hours are sold at half. A price from the table can be that of the
longest prompts, which is twice that of others."""
CACHED_DISCOUNT: Final = 50
"""Of input that was cached, the greatest that is given (DeepSeek)."""


def read(
    given: Mapping[str, Any],
    *,
    sent: Sequence[str],
    received: str,
    thought_chars: int,
    price: Price | None,
) -> Usage:
    """Read a `usage` object, empty if there was none. `received` is the reply's text with
    whatever reasoning stands in it, `thought_chars` the reasoning that came beside it.
    """
    told_prompt, told_completion = (
        _count(given, "prompt_tokens"),
        _count(given, "completion_tokens"),
    )
    prompt_text = "\n".join(sent)
    prompt = _believed(told_prompt, prompt_text)
    completion = _believed(told_completion, received)
    cached = _cached(given) if prompt is not None else 0
    thought = _count(given.get("completion_tokens_details"), "reasoning_tokens") or 0
    if prompt is not None and completion is not None:
        hidden = _hidden(given, prompt, completion, cached)
        completion, thought = completion + hidden, max(thought, hidden)
    estimated = prompt is None or completion is None
    if prompt is None:
        prompt = _at_least(told_prompt, prompt_text)
    if completion is None:
        completion = _at_least(told_completion, received) + -(-thought_chars // 3)
    usage = Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=min(cached, prompt),
        reasoning_tokens=min(thought, completion),
        estimated=estimated,
    )
    figure = _figure(given)
    if not figure:
        return usage
    if figure * 100 < _believed_from(usage, price):
        return structs.replace(usage, estimated=True)
    return structs.replace(usage, cost_usd_micro=figure)


def _believed(told: int | None, text: str) -> int | None:
    if told is None:
        return None
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if told * ORDINARY_BYTES >= size_bytes:
        return told
    return told if told >= tokens.plausible(text) else None


def _at_least(told: int | None, text: str) -> int:
    """Estimate; upward where a provider has told what cannot be, for it bills by other figures."""
    size_bytes = 0 if told is None else len(text.encode("utf-8", "surrogatepass"))
    return max(told or 0, tokens.estimate(text), -(-size_bytes // CAUTIOUS_BYTES))


def _cached(given: Mapping[str, Any]) -> int:
    found = _count(given.get("prompt_tokens_details"), "cached_tokens")
    if found is None:
        found = _count(given, "prompt_cache_hit_tokens")  # DeepSeek
    return found or 0


def _hidden(given: Mapping[str, Any], prompt: int, completion: int, cached: int) -> int:
    """Count reasoning that is billed and stands in `total_tokens` alone (Gemini, xAI).

    A rest that equals the cached input is something else: a gateway that counts it apart.
    """
    total = _count(given, "total_tokens") or 0
    hidden = max(0, total - prompt - completion)
    return 0 if hidden == cached else hidden


def _figure(given: Mapping[str, Any]) -> int | None:
    """Read the provider's figure, in dollars (OpenRouter), as micro-dollars. With a key of the
    user's own at the provider behind it, that one's bill comes on top.

    Zero is what a gateway says that does not know a price: as good as none.
    """
    dollars = _dollars(given.get("cost"))
    if dollars is None:
        return None
    if given.get("is_byok") is True and isinstance(given.get("cost_details"), dict):
        dollars += _dollars(given["cost_details"].get("upstream_inference_cost")) or 0
    return micro(dollars)


def _believed_from(usage: Usage, price: Price | None) -> int:
    """Hundredths of the least micro-dollars to believe. Who lies about tokens is not believed to
    give a discount.
    """
    if price is None or usage.estimated:
        return declared_usd_micro(price, usage) * 100
    cached = price.input_usd_micro // CACHED_DISCOUNT
    if price.cached_usd_micro is not None:
        cached = min(cached, price.cached_usd_micro)
    discounted = structs.replace(price, cached_usd_micro=cached)
    return declared_usd_micro(discounted, usage) * BELIEVED_PERCENT


def _count(holder: Any, name: str) -> int | None:
    value = holder.get(name) if isinstance(holder, Mapping) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST_TOKENS:
        return None
    return value


def _dollars(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        dollars = Decimal(str(value))
    except ArithmeticError:
        return None
    return dollars if dollars.is_finite() and 0 <= dollars < MOST_USD else None
