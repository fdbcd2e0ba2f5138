"""Providers that are known by name: where they listen and how they differ. Data only.

Every one speaks OpenAI's chat completions. A field here is a difference that the
provider documents; what only one model of a provider refuses is learned from its
reply (`openai_compatible`). A new provider is one more entry of `PRESETS`.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

GENERAL_KEY: Final = "ABYME_API_KEY"
OPENAI_KEY: Final = "OPENAI_API_KEY"
LOGPROBS: Final = (("logprobs", True),)
LLAMA_LOGPROBS: Final = (("logprobs", True), ("top_logprobs", 1))
"""llama.cpp would list 20 other tokens beside each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One provider."""

    name: str
    base_url: str
    key_names: tuple[str, ...] = ()
    """Environment variables that hold its key, the first wins. Empty: it needs none."""
    cap_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the provider calls the cap on output."""
    prefill: Literal["message", "flags", "none"] = "message"
    """How a begun reply is passed on: as a last assistant message, as one with vLLM's flags,
    or not at all (the provider would answer it, or refuse it)."""
    seed: bool = True
    shape: Literal["grammar", "schema", "strict", "object", "none"] = "schema"
    """What it takes as `response_format` (`models/response_format`): a JSON Schema of any kind,
    one of an object, one that can be kept strictly, the word that it be an object, or nothing."""
    logprobs: tuple[tuple[str, object], ...] = ()
    """Fields that ask for log-probabilities, where it documents that it gives them."""
    extra: tuple[tuple[str, object], ...] = ()
    """Fields sent with every request."""
    prices: str | None = None
    """The provider's name in the table of `genai-prices`."""
    example: str = "MODEL"
    """A model to name in messages."""


PRESETS: Final[dict[str, Preset]] = {
    preset.name: preset
    for preset in (
        Preset(
            name="openai",
            base_url="https://api.openai.com/v1",
            key_names=(OPENAI_KEY,),
            cap_field="max_completion_tokens",
            prefill="none",
            logprobs=LOGPROBS,
            prices="openai",
            example="gpt-5",
        ),
        Preset(
            name="anthropic",
            base_url="https://api.anthropic.com/v1",
            key_names=("ANTHROPIC_API_KEY",),
            prefill="none",
            seed=False,
            shape="strict",
            prices="anthropic",
            example="claude-sonnet-4-6",
        ),
        Preset(
            name="gemini",
            base_url="https://generativelanguage.googleapis.com/v1beta/openai",
            key_names=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            prefill="none",
            seed=False,
            prices="google",
            example="gemini-2.5-pro",
        ),
        Preset(
            name="openrouter",
            base_url="https://openrouter.ai/api/v1",
            key_names=("OPENROUTER_API_KEY",),
            logprobs=LOGPROBS,
            extra=(("usage", {"include": True}),),
            prices="openrouter",
            example="qwen/qwen3-coder",
        ),
        Preset(
            name="deepseek",
            base_url="https://api.deepseek.com/v1",
            key_names=("DEEPSEEK_API_KEY",),
            prefill="none",
            seed=False,
            shape="object",
            logprobs=LOGPROBS,
            prices="deepseek",
            example="deepseek-chat",
        ),
        Preset(
            name="n1n",
            base_url="https://api.n1n.ai/v1",
            key_names=("N1N_API_KEY",),
            example="gpt-5",
        ),
        Preset(
            name="ollama",
            base_url="http://127.0.0.1:11434/v1",
            shape="grammar",
            logprobs=LOGPROBS,
            example="qwen2.5-coder:7b",
        ),
        Preset(
            name="vllm",
            base_url="http://127.0.0.1:8000/v1",
            prefill="flags",
            shape="grammar",
            logprobs=LOGPROBS,
        ),
        Preset(
            name="llamacpp",
            base_url="http://127.0.0.1:8080/v1",
            shape="grammar",
            logprobs=LLAMA_LOGPROBS,
        ),
    )
}

CUSTOM: Final = Preset(name="custom", base_url="", key_names=(), logprobs=LOGPROBS)
"""An endpoint that is known by its address alone."""

LOCAL: Final = Preset(
    name="local",
    base_url="",
    shape="grammar",
    logprobs=LLAMA_LOGPROBS,
    example="coder-1.5b",
)
"""A model that this package serves by itself."""

REASONING: Final = re.compile(r"(?:^|/)(?:o[1-9]\d?|gpt-(?:[5-9]|[1-9]\d))(?![a-z0-9])")
"""OpenAI's reasoning models, which take `max_completion_tokens` and neither a temperature
nor stop words, behind whatever gateway."""

NO_LOGPROBS: Final = re.compile(rf"{REASONING.pattern}|(?:^|/)deepseek-reasoner")
"""Models that document that they give no log-probabilities: those that think."""
