"""Contract: models/completion and sse. The wire alone, without a socket."""

import datetime as dt
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.core.profile import Message
from abyme.errors import ModelError
from abyme.models import faults
from abyme.models.completion import (
    MOST_TEXT_CHARS,
    Draft,
    allowed_bytes,
    beside_bytes,
    finished,
    request_body,
    well_formed,
)
from abyme.models.names import resolve
from abyme.models.response_format import is_strict
from abyme.models.sse import EventReader, EventTooLong
from abyme.ports import ModelRequest

KEYS = {"ABYME_API_KEY": "k"}
STREAM = (
    b": a comment\r\n\r\ndata: one\r\n\r\nevent: x\nid: 7\ndata:two\n\n"
    b"data: \xe6\xbc\xa2\n\ndata: last"
)


def ask(**fields: Any) -> ModelRequest:
    given = {"messages": [Message("user", "hi")], "max_output_tokens": 9} | fields
    return ModelRequest(**given)


def body(name: str, request: ModelRequest, *without: str, stream: bool = False) -> dict[str, Any]:
    endpoint = resolve(name, env=KEYS)
    raw = request_body(endpoint, request, stream=stream, without=frozenset(without))
    decoded: dict[str, Any] = json.loads(raw)
    return decoded


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    reader = EventReader(1000)
    edges = [0, *sorted(cuts), len(STREAM)]
    found = [e for a, b in itertools.pairwise(edges) for e in reader.feed(STREAM[a:b])]

    assert found == [b"one", b"two", "漢".encode()]
    assert list(reader.end()) == [b"last"]


def test_a_line_without_end_is_not_kept_for_ever() -> None:
    reader = EventReader(100)
    assert list(reader.feed(b"x" * 100)) == []
    with pytest.raises(EventTooLong):
        list(reader.feed(b"x"))


@given(st.text(st.characters(exclude_categories=[]), max_size=20))
def test_well_formed_text_can_be_sent_and_keeps_all_that_could_be(text: str) -> None:
    clean = well_formed(text)

    assert clean.encode("utf-8").decode("utf-8") == clean
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert clean == text


def test_each_provider_gets_its_own_fields() -> None:
    request = ask(temperature=0.0, seed=3, stop=["END"], prefill="```")

    openai = body("openai:gpt-4o", request)
    assert (openai["max_completion_tokens"], openai["seed"]) == (9, 3)
    assert [m["role"] for m in openai["messages"]] == ["user"]
    anthropic = body("anthropic:m", request)
    assert (anthropic["max_tokens"], "seed" in anthropic) == (9, False)
    assert body("openrouter:m", request)["usage"] == {"include": True}
    vllm = body("vllm:m", request)
    assert (vllm["continue_final_message"], vllm["add_generation_prompt"]) == (True, False)
    assert body("llamacpp:m", request)["messages"][-1] == {"role": "assistant", "content": "```"}
    assert body("llamacpp:m", request, "prefill")["messages"][-1]["role"] == "user"


def test_what_is_not_given_is_not_sent() -> None:
    assert sorted(body("ollama:m", ask())) == ["max_tokens", "messages", "model"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("openai:gpt-4o", {"logprobs": True}),
        ("openrouter:qwen/qwen3-coder", {"logprobs": True}),
        ("deepseek:deepseek-chat", {"logprobs": True}),
        ("ollama:m", {"logprobs": True}),
        ("vllm:m", {"logprobs": True}),
        ("llamacpp:m", {"logprobs": True, "top_logprobs": 1}),
        ("local:coder-1.5b", {"logprobs": True, "top_logprobs": 1}),
        ("openai:gpt-5", {}),
        ("openai:o4-mini", {}),
        ("openrouter:openai/gpt-5", {}),
        ("deepseek:deepseek-reasoner", {}),
        ("anthropic:m", {}),
        ("gemini:m", {}),
        ("n1n:m", {}),
    ],
)
def test_log_probabilities_are_asked_for_where_the_model_gives_them(
    name: str, fields: dict[str, Any]
) -> None:
    found = body(name, ask(logprobs=True))

    assert {key: value for key, value in found.items() if "logprobs" in key} == fields


def test_log_probabilities_are_asked_for_only_when_wanted_and_not_of_a_stream() -> None:
    assert "logprobs" not in body("llamacpp:m", ask())
    assert "logprobs" not in body("llamacpp:m", ask(logprobs=True), stream=True)
    refused = body("llamacpp:m", ask(logprobs=True), "logprobs")
    assert ("logprobs" in refused, "top_logprobs" in refused) == (False, False)
    assert "top_logprobs" not in body("llamacpp:m", ask(logprobs=True), "top_logprobs")


OPEN = {"type": "object", "properties": {"a": {"type": "integer"}}}
CLOSED = OPEN | {"required": ["a"], "additionalProperties": False}
LIST = {"type": "array", "items": {"type": "integer"}}


def sent_schema(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema} | more}


@pytest.mark.parametrize(
    ("name", "schema", "sent"),
    [
        ("openai:gpt-5", OPEN, sent_schema(OPEN)),
        ("openai:gpt-5", CLOSED, sent_schema(CLOSED, strict=True)),
        ("openai:gpt-5", LIST, None),  # no array at the root
        ("n1n:o3", CLOSED, sent_schema(CLOSED, strict=True)),
        ("openrouter:m", OPEN, sent_schema(OPEN)),
        ("gemini:m", OPEN, sent_schema(OPEN)),
        ("anthropic:m", CLOSED, sent_schema(CLOSED, strict=True)),
        ("anthropic:m", OPEN, None),  # strict must be true
        ("deepseek:m", CLOSED, {"type": "json_object"}),
        ("deepseek:m", LIST, None),
        ("ollama:m", LIST, sent_schema(LIST)),
        ("vllm:m", LIST, sent_schema(LIST)),
        ("llamacpp:m", OPEN, sent_schema(OPEN)),
        ("local:coder-0.5b", LIST, sent_schema(LIST)),
    ],
)
def test_each_provider_gets_the_schema_in_the_form_it_takes(
    name: str, schema: dict[str, Any], sent: dict[str, Any] | None
) -> None:
    assert body(name, ask(schema=schema)).get("response_format") == sent


def test_a_refused_form_gives_way_to_a_weaker_one_and_at_last_to_none() -> None:
    request = ask(schema=CLOSED)
    weaker = body("openai:m", request, "json_schema")["response_format"]
    assert weaker == {"type": "json_object"}
    assert "response_format" not in body("openai:m", request, "json_schema", "json_object")
    assert "response_format" not in body("llamacpp:m", ask(schema=LIST), "json_schema")
    assert "response_format" not in body("openai:m", ask())


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        (OPEN, False),
        (CLOSED | {"required": []}, False),
        (CLOSED | {"properties": {"a": OPEN}}, False),
        (CLOSED | {"properties": {"a": {"anyOf": [{"type": "null"}, CLOSED]}}}, True),
        (CLOSED | {"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": OPEN}}, False),
        (CLOSED | {"properties": {"a": {"items": {"minLength": 1}}}}, False),
        (CLOSED | {"properties": {"a": True}}, False),
    ],
)
def test_strict_is_said_of_schemas_that_openai_takes_strictly(
    schema: dict[str, Any], strict: bool
) -> None:
    assert is_strict(schema) is strict


def test_a_schema_that_cannot_be_encoded_is_not_sent() -> None:
    schema = OPEN | {"title": "\ud800"}
    assert "response_format" not in body("openai:m", ask(schema=schema))


@pytest.mark.parametrize("name", ["o3", "o4-mini", "openai/gpt-5", "gpt-5.1-mini", "gpt-12"])
def test_reasoning_models_are_known_behind_a_gateway(name: str) -> None:
    sent = body(f"n1n:{name}", ask(temperature=0.5, stop=["x"]))
    assert sorted(sent) == ["max_completion_tokens", "messages", "model"]


@pytest.mark.parametrize("name", ["gpt-4o", "gpt-4.1", "foo-o3-bar", "olmo", "gpt-oss:20b", "o"])
def test_other_models_are_not_taken_for_reasoning_ones(name: str) -> None:
    assert "temperature" in body(f"n1n:{name}", ask(temperature=0.5))


def test_a_refused_field_is_left_out_and_the_cap_is_renamed() -> None:
    sent = body("openai:gpt-4o", ask(temperature=0.5), "temperature", "max_completion_tokens")
    assert sorted(sent) == ["max_tokens", "messages", "model"]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"choices": None},
        {"choices": [None]},
        {"choices": {"0": 1}},
        {"choices": [{"message": "x"}]},
        {"choices": [{"message": {"content": 7, "refusal": 7}, "finish_reason": 7}]},
        {"choices": [{"delta": {"content": [1, {"text": 2}]}}], "usage": [1]},
        {"usage": {"prompt_tokens_details": 1, "completion_tokens_details": "x", "cost": []}},
        {"choices": [{"logprobs": 7}]},
    ],
)
def test_a_reply_of_any_shape_is_an_error_and_never_a_crash(data: dict[str, Any]) -> None:
    draft = Draft()
    assert draft.take(data) == ""
    with pytest.raises(faults.ModelError) as caught:
        finished(resolve("ollama:m", env={}), ask(), draft)
    assert caught.value.failure == "empty_reply"


def test_content_in_parts_is_joined() -> None:
    draft = Draft()
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    draft.take({"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]})
    assert finished(resolve("ollama:m", env={}), ask(), draft).text == "ab"


def test_deepseeks_cached_tokens_are_read() -> None:
    draft = Draft()
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 64}
    draft.take({"choices": [{"message": {"content": "a"}}], "usage": usage})
    reply = finished(resolve("ollama:m", env={}), ask(), draft)
    assert (reply.usage.cached_tokens, reply.usage.estimated) == (10, False)


def test_retry_after_as_a_date_counts_from_now() -> None:
    now = dt.datetime(2026, 1, 1, 12, 0, 0, tzinfo=dt.UTC)
    headers = {"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}
    assert faults.retry_after_s(headers, {}, now) == 30.0


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 8192 tokens",
        "request (18031 tokens) exceeds the available context size (2048 tokens)",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "The input token count (1048577) exceeds the maximum number of tokens",
        "context_length_exceeded",
        "Input is longer than the model's context length",
    ],
)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_prompt_that_does_not_fit_is_known_in_every_dialect(words: str, status: int) -> None:
    endpoint = resolve("ollama:m", env={})
    now = dt.datetime.now(dt.UTC)
    error = faults.from_status(endpoint, status, {"error": {"message": words}}, {}, now)
    assert (error.failure, error.retryable) == ("context_length", False)


def test_a_429_that_mentions_tokens_is_a_rate_limit_and_not_a_long_prompt() -> None:
    words = "Rate limit reached: too many tokens per minute for the context window tier"
    endpoint = resolve("ollama:m", env={})
    error = faults.from_status(endpoint, 429, {"error": words}, {}, dt.datetime.now(dt.UTC))
    assert error.failure == "rate_limited"


@pytest.mark.parametrize(
    ("tokens", "size_bytes"), [(0, 1 << 20), (4096, 1310720), (1 << 20, 64 << 20)]
)
def test_what_is_taken_of_a_reply_depends_on_the_output_that_was_allowed(
    tokens: int, size_bytes: int
) -> None:
    assert allowed_bytes(ask(max_output_tokens=tokens)) == size_bytes


@pytest.mark.parametrize(
    "message",
    [
        {"content": "ж" * 6},
        {"content": [{"type": "text", "text": "x" * 11}]},
        {"content": "x", "reasoning_content": "x" * 10},
        {"content": "x", "reasoning": "\U0001f600" * 3},
        {"content": "x", "refusal": "x" * 10},
    ],
)
def test_text_and_reasoning_together_are_bounded(message: dict[str, Any]) -> None:
    draft = Draft(most_bytes=10)
    draft.take({"choices": [{"message": message}]})

    with pytest.raises(ModelError, match="the reply passes 10 bytes") as caught:
        finished(resolve("openai:m", env=KEYS), ask(), draft)
    assert caught.value.failure == "bad_reply"


def test_what_is_just_within_bounds_is_taken() -> None:
    draft = Draft(most_bytes=10)
    draft.take({"choices": [{"message": {"content": "x" * 4, "reasoning": "x" * 6}}]})

    assert finished(resolve("openai:m", env=KEYS), ask(), draft).text == "xxxx"


def test_a_reply_of_megabytes_is_refused() -> None:
    draft = Draft(parts=["x" * (MOST_TEXT_CHARS + 1)])

    with pytest.raises(ModelError, match="4,194,304 are taken"):
        finished(resolve("openai:m", env=KEYS), ask(), draft)


def test_log_probabilities_are_room_for_more_json_and_not_for_more_text() -> None:
    plain, wanted = ask(max_output_tokens=1000), ask(max_output_tokens=1000, logprobs=True)

    assert (beside_bytes(plain), beside_bytes(wanted)) == (0, 2_560_000)
    assert allowed_bytes(plain) == allowed_bytes(wanted)
    drafts = [Draft(allowed_bytes(one), beside_bytes(one)) for one in (plain, wanted)]
    assert drafts[1].most_written_bytes - drafts[0].most_written_bytes == 2_560_000
