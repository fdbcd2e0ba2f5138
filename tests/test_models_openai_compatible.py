"""Contract: models/openai_compatible. Over real HTTP, against `ScriptedEndpoint`."""

import asyncio
import json
import socket
import traceback
from typing import Any

import pytest

from abyme.core.events import Doubt, Price
from abyme.core.profile import Message
from abyme.errors import ModelError
from abyme.models import openai_compatible as under_test
from abyme.models.names import Endpoint, resolve
from abyme.models.openai_compatible import OpenAICompatible
from abyme.ports import ModelReply, ModelRequest
from abyme.testing import Billing, Fault, Reply, ScriptedEndpoint

KEY = "sk-secret-1234567890"


def ask(text: str = "hi", **fields: Any) -> ModelRequest:
    return ModelRequest(messages=[Message("user", text)], max_output_tokens=100, **fields)


def at(endpoint: ScriptedEndpoint, model: str = "any", key: str | None = None) -> Endpoint:
    return resolve(model, base_url=endpoint.url, api_key=key, env={})


async def exchange(
    script: Any, request: ModelRequest | None = None, *, stream: bool = False, **options: Any
) -> tuple[ModelReply, list[str], ScriptedEndpoint]:
    timeout_s = options.pop("idle_timeout_s", 30.0)
    async with ScriptedEndpoint(script, **options) as endpoint:
        model = OpenAICompatible(at(endpoint, key=KEY), idle_timeout_s=timeout_s)
        pieces: list[str] = []
        try:
            reply = await model.complete(request or ask(), pieces.append if stream else None)
        finally:
            await model.aclose()
        return reply, pieces, endpoint


def failure(script: Any, request: ModelRequest | None = None, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        asyncio.run(exchange(script, request, **options))
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert KEY not in repr(caught.value.__context__)
    return caught.value


def test_a_reply_brings_text_finish_and_usage() -> None:
    answer = Reply(text="four", prompt_tokens=11, completion_tokens=7, cached_tokens=3)
    reply, _, endpoint = asyncio.run(exchange([answer]))

    assert (reply.text, reply.finish) == ("four", "stop")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (11, 7)
    assert (reply.usage.cached_tokens, reply.usage.estimated) == (3, False)
    assert endpoint.requests == [
        {"model": "any", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
    ]
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_streamed_reply_arrives_in_pieces_with_usage() -> None:
    text = "Ünïcode and more than one event of the stream: 漢字 \U0001f600"
    reply, pieces, endpoint = asyncio.run(exchange([text], stream=True))

    assert (reply.text, "".join(pieces)) == (text, text)
    assert len(pieces) > 1
    assert reply.usage.completion_tokens == endpoint.completion_tokens
    assert endpoint.requests[0]["stream_options"] == {"include_usage": True}


def test_the_providers_own_cost_is_rounded_up_to_micro_dollars() -> None:
    reply, _, _ = asyncio.run(exchange([Reply(text="x", cost_usd=0.0000123)]))

    assert reply.usage.cost_usd_micro == 13


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"prompt_tokens": -5, "completion_tokens": 1},
        {"prompt_tokens": "many", "completion_tokens": True},
        {"prompt_tokens": 10**30, "completion_tokens": 1.5, "cost": "NaN"},
    ],
)
def test_absent_or_absurd_usage_is_estimated_and_marked(told: Any) -> None:
    billing = Billing(report=lambda usage: told)
    reply, _, _ = asyncio.run(exchange(["漢字"], ask("漢字漢字"), billing=billing))

    assert reply.usage.estimated
    assert reply.usage.prompt_tokens == 6
    assert reply.usage.cost_usd_micro is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "kind", "retryable"),
    [
        (Fault.unauthorized(), "auth", False),
        (Fault.http(403, "not allowed"), "auth", False),
        (Fault.http(402, "pay"), "quota", False),
        (Fault.quota(), "quota", False),
        (Fault.http(404, "The model `any` does not exist"), "model_not_found", False),
        (Fault.http(400, "any is not a valid model ID"), "model_not_found", False),
        (Fault.http(413, "too big"), "context_length", False),
        (Fault.context_length(), "context_length", False),
        (Fault.http(422, "messages: field required"), "bad_request", False),
        (Fault.http(400, "blocked by the content_filter"), "content_filter", False),
        (Fault.http(400, "API key not valid. Please pass one."), "auth", False),
        (Fault.http(307, "", location="http://elsewhere.example/v1"), "bad_request", False),
        (Fault.rate_limited(2), "rate_limited", True),
        (Fault.http(503, "busy", retry_after="7"), "rate_limited", True),
        (Fault.server(500), "server", True),
        (Fault.server(529), "server", True),
        (Fault.stream_error("upstream died", 502), "server", True),
        (Fault.stream_error("slow down", 429), "rate_limited", True),
        (Fault.garbage_json(), "bad_reply", True),
        (Fault.garbage_json("<html>Welcome</html>"), "bad_reply", True),
        (Fault.garbage_json("{}"), "bad_reply", True),
        (Fault.garbage_json("[1]"), "bad_reply", True),
        (Fault.empty_reply(), "empty_reply", True),
        (Fault.cut_stream(after_chars=9), "stream_cut", True),
        (Fault.cut_stream(after_chars=0), "stream_cut", True),
        (Fault.drop(), "stream_cut", True),
        (Reply(refusal="I will not"), "refused", False),
        (Reply(text="bad words", finish="content_filter"), "content_filter", False),
        (Reply(reasoning="hmm", reasoning_tokens=100, text="no room"), "output_cap", False),
        (Reply(text="<think>on and on", finish="length"), "output_cap", False),
    ],
)
def test_every_fault_is_typed(fault: Any, kind: str, retryable: bool, stream: bool) -> None:
    error = failure([fault], stream=stream)

    assert (error.failure, error.retryable) == (kind, retryable)
    assert str(error).startswith("custom:any: ")


def test_a_hung_connection_is_timed_out() -> None:
    error = failure([Fault.hang()], idle_timeout_s=0.05)

    assert (error.failure, error.retryable) == ("timed_out", True)
    assert "no byte for 0.05 s" in str(error)


def test_a_closed_port_is_unreachable() -> None:
    with socket.socket() as held:  # bound and not listening: nobody else can take it
        held.bind(("127.0.0.1", 0))
        endpoint = resolve("m", base_url=f"127.0.0.1:{held.getsockname()[1]}", env={})

        async def one() -> None:
            model = OpenAICompatible(endpoint)
            try:
                await model.complete(ask())
            finally:
                await model.aclose()

        with pytest.raises(ModelError, match="nobody answers at") as caught:
            asyncio.run(one())

    assert (caught.value.failure, caught.value.retryable) == ("unreachable", True)


def test_what_was_billed_for_a_failed_attempt_is_in_the_error() -> None:
    thought = failure([Reply(reasoning="hmm", reasoning_tokens=100, text="no room")])
    cut = failure([Fault.cut_stream(after_chars=9)], stream=True)
    none = failure([Fault.server()])

    assert (thought.usage.completion_tokens, thought.usage.estimated) == (100, False)
    assert (cut.usage.prompt_tokens, cut.usage.completion_tokens) == (2, 3)
    assert cut.usage.estimated
    assert none.usage is None


def test_retry_after_is_read_in_all_its_forms() -> None:
    assert failure([Fault.rate_limited(2)]).retry_after_s == 2.0
    assert failure([Fault.http(429, "x", retry_after_ms="1500")]).retry_after_s == 1.5
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert failure([Fault.http(429, "x", retry_after=past)]).retry_after_s == 0.0
    reset = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1m2.5s"}
    assert failure([Fault.http(429, "x", **reset)]).retry_after_s == 62.5
    assert failure([Fault.http(429, '"retryDelay": "34s"')]).retry_after_s == 34.0
    for nonsense in ("soon", "-5", "nan", "Wed, 21 Oct 2015 07:28:00 +99999999999999"):
        assert failure([Fault.http(429, "x", retry_after=nonsense)]).retry_after_s is None


def test_a_key_in_the_providers_words_is_redacted_and_the_words_are_cut() -> None:
    error = failure([Fault.http(400, f"bad {KEY} and sk-abc***xyz \x1b[31m" + "x" * 1000)])

    assert "sk-" not in str(error)
    assert "\x1b" not in str(error)
    assert len(str(error)) < 400


def test_the_key_is_in_no_repr() -> None:
    endpoint = resolve("m", base_url="http://127.0.0.1:1/v1", api_key=KEY, env={})

    assert KEY not in repr(endpoint)
    assert KEY not in repr(vars(OpenAICompatible(endpoint)))


def test_redirects_are_not_followed() -> None:
    async def both() -> tuple[int, str]:
        async with (
            ScriptedEndpoint(["never"]) as target,
            ScriptedEndpoint([Fault.http(307, "", location=f"{target.url}/x")]) as first,
        ):
            model = OpenAICompatible(at(first, key=KEY))
            with pytest.raises(ModelError) as caught:
                await model.complete(ask())
            await model.aclose()
            return target.calls, str(caught.value)

    calls, message = asyncio.run(both())
    assert calls == 0
    assert "give that address as --base-url" in message


def test_lone_surrogates_are_replaced_before_sending() -> None:
    text = "a\ud800b \udce9 \U0001f600 漢"
    _, _, endpoint = asyncio.run(exchange(["ok"], ask(text)))

    assert endpoint.requests[0]["messages"][0]["content"] == "a\ufffdb \ufffd \U0001f600 漢"


def test_a_prefill_is_sent_last_and_stripped_when_echoed() -> None:
    request = ask(prefill="```python\n")
    continued, _, endpoint = asyncio.run(exchange(["print(1)"], request))
    echoed, _, _ = asyncio.run(exchange(["```python\nprint(1)"], request))

    assert endpoint.requests[0]["messages"][-1] == {"role": "assistant", "content": "```python\n"}
    assert continued.text == echoed.text == "print(1)"


def test_reasoning_left_in_the_text_is_dropped() -> None:
    reply, _, _ = asyncio.run(exchange(["<think>\nlet me\n</think>\n\nthe answer"]))

    assert reply.text == "the answer"


def test_a_parameter_that_the_model_refuses_is_left_out_from_then_on() -> None:
    async def twice() -> tuple[ModelError, list[dict[str, Any]]]:
        words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        async with ScriptedEndpoint([Fault.http(400, words), "ok"]) as endpoint:
            model = OpenAICompatible(at(endpoint))
            with pytest.raises(ModelError) as caught:
                await model.complete(ask(temperature=0.0))
            await model.complete(ask(temperature=0.0))
            await model.aclose()
            return caught.value, endpoint.requests

    error, (first, second) = asyncio.run(twice())
    assert (error.failure, error.retryable, error.retry_after_s) == ("bad_request", True, 0.0)
    assert (first["max_tokens"], "max_completion_tokens" in first) == (100, False)
    assert (second["max_completion_tokens"], "max_tokens" in second) == (100, False)
    assert second["temperature"] == 0.0


def test_the_same_refusal_twice_is_final() -> None:
    async def twice() -> list[bool]:
        fault = Fault.http(400, "temperature is not supported by this model")
        async with ScriptedEndpoint([fault, fault]) as endpoint:
            model = OpenAICompatible(at(endpoint))
            seen = []
            for _ in range(2):
                with pytest.raises(ModelError) as caught:
                    await model.complete(ask(temperature=0.0))
                seen.append(caught.value.retryable)
            await model.aclose()
            return seen

    assert asyncio.run(twice()) == [True, False]


SHAPE = {"type": "object", "properties": {"a": {"type": "integer"}}}


def forms(endpoint: ScriptedEndpoint) -> list[str | None]:
    return [(body.get("response_format") or {}).get("type") for body in endpoint.requests]


async def asked(replies: list[Any], *schemas: dict[str, Any]) -> tuple[list[Any], list[bool]]:
    """Ask once for each schema; give the forms that were sent, and which could be tried again."""
    async with ScriptedEndpoint(replies) as endpoint:
        model = OpenAICompatible(at(endpoint))
        again = []
        for schema in schemas:
            try:
                await model.complete(ask(schema=schema))
            except ModelError as error:
                again.append(error.retryable)
        await model.aclose()
        return forms(endpoint), again


@pytest.mark.parametrize(
    "words",
    [
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with m",
        "This response_format type is unavailable now",
        "Unrecognized request argument supplied: response_format",
    ],
)
def test_a_form_that_the_model_refuses_is_weakened_from_then_on(words: str) -> None:
    refusal = Fault.http(400, words)
    other = SHAPE | {"title": "other"}
    sent, again = asyncio.run(asked([refusal, refusal, "{}", "{}"], SHAPE, SHAPE, SHAPE, other))
    assert sent == ["json_schema", "json_object", None, None]
    assert again == [True, True]


@pytest.mark.parametrize(
    "words",
    [
        "Invalid schema for response_format 'reply': In context=(), 'default' is not permitted.",
        "Failed to initialize samplers: failed to parse grammar",
        "At least one of min_value or max_value must be set",
    ],
)
def test_a_schema_that_the_model_refuses_costs_no_other_schema_its_form(words: str) -> None:
    other = SHAPE | {"title": "other"}
    sent, again = asyncio.run(
        asked([Fault.http(400, words), "{}", "{}", "{}"], SHAPE, SHAPE, other, SHAPE)
    )
    assert sent == ["json_schema", "json_object", "json_schema", "json_object"]
    assert again == [True]


def test_a_request_that_is_refused_without_any_form_is_not_tried_again() -> None:
    refusal = Fault.http(400, "no")
    sent, again = asyncio.run(asked([refusal] * 3, SHAPE, SHAPE, SHAPE))
    assert sent == ["json_schema", "json_object", None]
    assert again == [True, True, False]


def test_calls_at_once_that_are_refused_a_field_may_all_be_tried_again() -> None:
    """The first refusal teaches; the others were sent before it came."""

    async def both() -> list[bool]:
        both_sent = asyncio.Barrier(2)

        async def refuse(_: dict[str, Any]) -> Fault:
            await both_sent.wait()
            return Fault.http(400, "temperature is not supported by this model")

        async with ScriptedEndpoint(refuse) as endpoint:
            model = OpenAICompatible(at(endpoint))
            calls = (model.complete(ask(temperature=0.0)) for _ in range(2))
            failed = await asyncio.gather(*calls, return_exceptions=True)
            await model.aclose()
            return [e.retryable for e in failed if isinstance(e, ModelError)]

    assert asyncio.run(both()) == [True, True]


def test_openais_reasoning_models_get_neither_temperature_nor_stop() -> None:
    async def one() -> dict[str, Any]:
        async with ScriptedEndpoint(["ok"]) as endpoint:
            model = OpenAICompatible(at(endpoint, "openai/gpt-5-mini"))
            await model.complete(ask(temperature=0.0, stop=["END"], seed=7))
            await model.aclose()
            return endpoint.requests[0]

    body = asyncio.run(one())
    assert sorted(body) == ["max_completion_tokens", "messages", "model", "seed"]


def test_many_calls_at_once_share_connections_that_stay_open() -> None:
    async def many() -> tuple[int, int, set[str]]:
        async with ScriptedEndpoint(lambda body: body["messages"][0]["content"]) as endpoint:
            model = OpenAICompatible(at(endpoint), connections=8)
            replies = await asyncio.gather(*(model.complete(ask(f"q{i}")) for i in range(100)))
            await model.aclose()
            return endpoint.calls, endpoint.most_in_flight, {r.text for r in replies}

    calls, most, texts = asyncio.run(many())
    assert (calls, texts) == (100, {f"q{i}" for i in range(100)})
    assert most <= 8


def test_few_descriptors_mean_few_connections_and_not_a_failure(monkeypatch) -> None:
    monkeypatch.setattr(under_test.resource, "getrlimit", lambda _: (200, 4096))

    async def many() -> tuple[int, int]:
        async with ScriptedEndpoint({"": "ok"}) as endpoint:
            model = OpenAICompatible(at(endpoint))
            await asyncio.gather(*(model.complete(ask()) for _ in range(100)))
            await model.aclose()
            return endpoint.calls, endpoint.most_in_flight

    calls, most = asyncio.run(many())
    assert calls == 100
    assert most <= 16


def test_a_closed_model_can_be_used_again_in_another_loop() -> None:
    with ScriptedEndpoint(["one", "two"]) as endpoint:
        model = OpenAICompatible(at(endpoint))

        async def one() -> str:
            reply = await model.complete(ask())
            await model.aclose()
            await model.aclose()
            return reply.text

        assert [asyncio.run(one()), asyncio.run(one())] == ["one", "two"]


def test_the_list_of_models_is_read() -> None:
    async def listed() -> list[str]:
        async with ScriptedEndpoint([], model="tiny") as endpoint:
            model = OpenAICompatible(at(endpoint))
            names = await model.models()
            await model.aclose()
            return names

    assert asyncio.run(listed()) == ["tiny"]


def test_import_does_not_bring_aiohttp_in() -> None:
    import subprocess
    import sys

    code = (
        "import sys, json, abyme.models.openai_compatible, abyme.models.names, abyme.testing;"
        "print(json.dumps([m for m in ('aiohttp', 'genai_prices') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert json.loads(done.stdout) == []


def test_billing_is_counted_independently_of_what_is_reported() -> None:
    price = Price(input_usd_micro=1_000_000, output_usd_micro=2_000_000)
    billing = Billing(price=price, report=lambda usage: usage | {"prompt_tokens": 0})
    reply, _, endpoint = asyncio.run(exchange(["12345678"], ask("1234"), billing=billing))

    assert (reply.usage.prompt_tokens, reply.usage.estimated) == (4, True)
    assert (endpoint.prompt_tokens, endpoint.completion_tokens) == (1, 2)
    assert endpoint.billed_usd_micro == 5


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("field", ["text", "reasoning"])
def test_a_reply_without_end_is_cut_at_the_output_that_was_allowed(
    field: str, stream: bool
) -> None:
    """100 tokens of at most 64 bytes, and a megabyte that need not be counted among them."""
    endless = Reply(**{"text": "four", field: "x" * 1_200_000})

    error = failure([endless], stream=stream, billing=Billing(obeys_cap=False))

    assert error.failure == "bad_reply"
    assert "the reply passes 1,054,976 bytes" in str(error)
    assert error.usage.completion_tokens > 0


def test_a_body_is_not_read_beyond_what_such_a_reply_can_take() -> None:
    error = failure([Reply(text="x" * 5_000_000)], billing=Billing(obeys_cap=False))

    assert error.failure == "bad_reply"
    assert "the reply passes 4,219,904 bytes" in str(error)


def test_doubts_are_read_where_they_are_wanted() -> None:
    answer = Reply(text="A or B", logprobs=[("A", -0.5), (" or", -0.001), (" B", -1.5)])
    wanted, _, first = asyncio.run(exchange([answer], ask(logprobs=True)))
    plain, _, second = asyncio.run(exchange([answer], ask()))

    assert wanted.doubts == [
        Doubt(start=0, end=1, logprob=-0.5),
        Doubt(start=4, end=6, logprob=-1.5),
    ]
    assert plain.doubts is None
    assert [r.requests[0].get("logprobs") for r in (first, second)] == [True, None]


def test_doubts_are_of_the_text_without_what_was_stripped_from_it() -> None:
    answer = Reply(
        text="<think>\nA?</think>\nB", logprobs=[("<think>\nA?", -1.0), ("</think>\nB", -0.5)]
    )
    reply, _, _ = asyncio.run(exchange([answer], ask(logprobs=True)))

    assert (reply.text, reply.doubts) == ("B", [Doubt(start=0, end=1, logprob=-0.5)])


def test_an_endpoint_that_gives_no_log_probabilities_is_no_failure() -> None:
    reply, _, _ = asyncio.run(exchange(["A"], ask(logprobs=True)))

    assert (reply.text, reply.doubts) == ("A", None)


@pytest.mark.parametrize("figure", ["NaN", "-Infinity"])
def test_figures_that_json_cannot_carry_cost_no_reply(figure: str) -> None:
    token = f'{{"token": "A", "logprob": {figure}, "bytes": [65]}}'
    body = (
        '{"choices": [{"message": {"content": "A"}, "finish_reason": "stop", '
        f'"logprobs": {{"content": [{token}]}}}}]}}'
    )
    reply, _, _ = asyncio.run(exchange([Fault.garbage_json(body)], ask(logprobs=True)))

    assert (reply.text, reply.doubts) == ("A", None)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "Unrecognized request argument supplied: logprobs"),
        (400, "Logprobs is not enabled for models/some-model"),
        (403, "You are not allowed to request logprobs from this model"),
        (404, "No endpoints found that give log_probs"),
        (422, "logprobs: Input should be a valid integer"),
        (400, ""),
    ],
)
def test_log_probabilities_that_are_refused_are_not_asked_for_again(
    status: int, words: str
) -> None:
    async def twice() -> tuple[ModelError, ModelReply, list[dict[str, Any]]]:
        async with ScriptedEndpoint([Fault.http(status, words), "A"]) as endpoint:
            model = OpenAICompatible(at(endpoint))
            with pytest.raises(ModelError) as caught:
                await model.complete(ask(logprobs=True))
            reply = await model.complete(ask(logprobs=True))
            await model.aclose()
            return caught.value, reply, endpoint.requests

    error, reply, (first, second) = asyncio.run(twice())
    assert (error.failure, error.retryable, error.retry_after_s) == ("bad_request", True, 0.0)
    assert (reply.text, reply.doubts) == ("A", None)
    assert (first["logprobs"], "logprobs" in second) == (True, False)


def test_a_form_is_not_given_up_for_log_probabilities_that_are_refused() -> None:
    async def twice() -> list[dict[str, Any]]:
        words = "logprobs is not supported with response_format"
        async with ScriptedEndpoint([Fault.http(400, words), "{}"]) as endpoint:
            model = OpenAICompatible(at(endpoint))
            with pytest.raises(ModelError):
                await model.complete(ask(logprobs=True, schema=SHAPE))
            await model.complete(ask(logprobs=True, schema=SHAPE))
            await model.aclose()
            return endpoint.requests

    _, second = asyncio.run(twice())
    assert ("logprobs" in second, second["response_format"]["type"]) == (False, "json_schema")


def test_a_model_that_never_had_the_field_is_not_asked_again_for_its_sake() -> None:
    error = failure([Fault.http(403, "logprobs are not for you")], ask())

    assert (error.failure, error.retryable) == ("auth", False)
