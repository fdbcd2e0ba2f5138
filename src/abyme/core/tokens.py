"""What a token count of a provider's is worth, and what is learned from it.

`estimate` (`abyme.estimates`) is what to expect of a text. `least` is what no known tokenizer
goes below, so that a provider that says less is not believed.
`Calibration` learns by how much a model's own counts differ from the estimate.

Invariant: pure: same text, same number. Not a bound for money: that is `pricing.worst`.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from abyme.core.events import Usage
from abyme.estimates import CHUNKS, SAMPLED_CHARS, estimate, estimate_each, unsampled

__all__ = ["SAMPLED_CHARS", "Calibration", "estimate", "estimate_each", "least", "plausible"]

DOUBT: Final = 4
LONGEST_BYTES: Final = 64
"""Of a token whose repeated characters count once.

In the vocabularies of OpenAI (cl100k, o200k), Qwen, DeepSeek and Mistral (Tekken) the longest
such token is a Thai phrase of 61 bytes. Longer ones are runs of one character.
"""
WORDS_A_TOKEN: Final = 2
"""The same vocabularies hold no token with a blank between letters or digits: whatever stands
between blanks and begins with one is a token or more. Half of that is still asked of
tokenizers that join words (SuperBPE, arXiv 2503.13423: at best a third fewer tokens)."""
REPEATS: Final = re.compile(r"(.)\1+", re.DOTALL)


def plausible(text: str) -> int:
    """Tokens below which a provider's count is not believed: `least`, or a quarter of the
    estimate of a text without its repeats, which tokenizers differ over most.
    """
    once = REPEATS.sub(r"\1", text[:SAMPLED_CHARS])
    return max(least(text), unsampled(once) // DOUBT)


def least(text: str) -> int:
    """Tokens that no known tokenizer goes below; 0 only for no text."""
    if not text:
        return 0
    data = text.encode("utf-8", "surrogatepass")
    words = (b" " + data.translate(CHUNKS)).count(b" a") // WORDS_A_TOKEN
    if len(data) // LONGEST_BYTES <= words:
        return max(1, words)
    once = REPEATS.sub(r"\1", text).encode("utf-8", "surrogatepass")
    return max(1, words, len(once) // LONGEST_BYTES)


LEAST_ESTIMATED: Final = 256
"""A shorter prompt says more of the provider's own template than of its tokenizer."""
ONE: Final = 1000
LOWEST, HIGHEST = ONE // 2, ONE * 4
"""Bounds of what is learned: a provider that counts oddly may not stop a run, nor open it."""
SLOWNESS: Final = 16


@dataclass(slots=True)
class Calibration:
    """By model: the provider's prompt tokens for a thousand that were estimated.

    Goes up at once and down by a sixteenth of the way, so that what is expected errs upward.
    """

    _ratios: dict[str, int] = field(default_factory=dict)

    def saw(self, model: str, estimated: int, usage: Usage) -> None:
        """Learn from a reply. Figures that are themselves an estimate teach nothing."""
        if usage.estimated or not usage.prompt_tokens or estimated < LEAST_ESTIMATED:
            return
        seen = min(HIGHEST, max(LOWEST, -(-usage.prompt_tokens * ONE // estimated)))
        ratio = self._ratios.get(model, ONE)
        self._ratios[model] = max(seen, ratio - (ratio - seen) // SLOWNESS)

    def expected(self, model: str, estimated: int) -> int:
        """Prompt tokens to expect of a model where so many were estimated."""
        return -(-estimated * self._ratios.get(model, ONE) // ONE)
