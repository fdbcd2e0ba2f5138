"""Contract: abyme.testing. The doubles that users get."""

import asyncio
import dataclasses
import doctest
import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest

import abyme.testing.endpoint
from abyme.core.events import Doubt, Usage
from abyme.core.profile import Message
from abyme.errors import ConfigError, ModelError
from abyme.ports import ModelReply, ModelRequest
from abyme.testing import (
    FakeClock,
    Fault,
    RateLimit,
    Reply,
    ScriptedEndpoint,
    ScriptedModel,
    ScriptRanOut,
    read_script,
    settle,
)
from abyme.testing.__main__ import main as serve
from abyme.testing.replies import FAULTS


def ask(text: str = "q") -> ModelRequest:
    return ModelRequest(messages=[Message("user", text)], max_output_tokens=10)


def post(url: str, text: str = "q", **fields: Any) -> tuple[int, Any]:
    messages = fields.pop("messages", [{"role": "user", "content": text}])
    body = json.dumps({"model": "m", "messages": messages, **fields}).encode()
    request = urllib.request.Request(f"{url}/chat/completions", body)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def said(url: str, text: str = "q", **fields: Any) -> str:
    return post(url, text, **fields)[1]["choices"][0]["message"]["content"]


def test_exports_are_sorted_and_exist() -> None:
    exported = [name for name in abyme.testing.__all__ if hasattr(abyme.testing, name)]
    assert exported == sorted(abyme.testing.__all__)


def test_the_examples_in_the_docstrings_run() -> None:
    found = doctest.testmod(abyme.testing.endpoint)
    assert (found.failed, found.attempted > 0) == (0, True)


def test_a_scripted_model_answers_in_order_and_keeps_the_requests() -> None:
    error = ModelError("busy", failure="server", retryable=True)
    model = ScriptedModel(["one", error, "two"])

    assert asyncio.run(model.complete(ask("a"))).text == "one"
    with pytest.raises(ModelError, match="busy"):
        asyncio.run(model.complete(ask("b")))
    assert asyncio.run(model.complete(ask("c"))).text == "two"
    assert [r.messages[0].content for r in model.requests] == ["a", "b", "c"]


def test_a_script_that_runs_out_says_what_was_asked() -> None:
    model = ScriptedModel(["one"])
    asyncio.run(model.complete(ask()))

    with pytest.raises(ScriptRanOut, match="holds 1 replies; request 2 ends with 'more'"):
        asyncio.run(model.complete(ask("more")))


def test_a_scripted_model_may_be_a_function_asynchronous_too() -> None:
    async def later(request: ModelRequest) -> str:
        await asyncio.sleep(0)
        return "later"

    upper = ScriptedModel(lambda request: request.messages[-1].content.upper())
    assert asyncio.run(upper.complete(ask("a"))).text == "A"
    assert asyncio.run(ScriptedModel(later).complete(ask())).text == "later"


def test_a_scripted_models_usage_is_a_count_of_bytes() -> None:
    reply: ModelReply = asyncio.run(ScriptedModel(["漢字"]).complete(ask("abcd")))

    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (2, 2)


def test_a_scripted_models_empty_reply_is_an_error() -> None:
    with pytest.raises(ModelError) as caught:
        asyncio.run(ScriptedModel([""]).complete(ask()))
    assert caught.value.failure == "empty_reply"


def test_a_scripted_model_streams_line_by_line() -> None:
    pieces: list[str] = []
    asyncio.run(ScriptedModel(["a\nb"]).complete(ask(), pieces.append))
    assert pieces == ["a\n", "b"]


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    async def run() -> list[tuple[str, float]]:
        clock = FakeClock(start_s=100.0)
        woken: list[tuple[str, float]] = []

        async def sleeper(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append((name, clock.now_s()))

        plan = (("c", 3), ("a", 1), ("b", 1), ("z", 9))
        tasks = [asyncio.create_task(sleeper(*entry)) for entry in plan]
        await settle()
        assert clock.sleepers == 4
        await clock.run(5)
        assert (clock.sleepers, clock.now_s()) == (1, 105.0)
        clock.advance(4)
        await asyncio.gather(*tasks)
        return woken

    assert asyncio.run(run()) == [("a", 101.0), ("b", 101.0), ("c", 103.0), ("z", 109.0)]


def test_running_the_clock_lets_chained_sleeps_see_their_own_times() -> None:
    async def run() -> list[float]:
        clock = FakeClock()
        seen = []

        async def ticks() -> None:
            for _ in range(3):
                await clock.sleep(2)
                seen.append(clock.now_s())

        task = asyncio.create_task(ticks())
        await clock.run(5)
        task.cancel()
        return seen

    assert asyncio.run(run()) == [2.0, 4.0]


def test_a_cancelled_sleeper_is_forgotten() -> None:
    async def run() -> tuple[int, float]:
        clock = FakeClock()
        task = asyncio.create_task(clock.sleep(5))
        await settle()
        task.cancel()
        await settle()
        clock.advance(10)
        return clock.sleepers, clock.now_s()

    assert asyncio.run(run()) == (0, 10.0)


def test_a_clock_never_goes_back() -> None:
    with pytest.raises(ValueError, match="never goes back"):
        FakeClock().advance(-1)


def test_an_endpoint_answers_from_a_list_then_says_that_it_has_run_out() -> None:
    with ScriptedEndpoint(["one", Fault.server(503), "two"]) as endpoint:
        assert said(endpoint.url) == "one"
        assert post(endpoint.url)[0] == 503
        assert said(endpoint.url) == "two"
        status, body = post(endpoint.url)

    assert (status, endpoint.calls) == (400, 4)
    assert body["error"]["message"] == "the script has run out of replies after 3"


def test_an_endpoint_answers_by_substring_of_the_last_message_first() -> None:
    script = {"France": "Paris", "Peru": ["Lima", "still Lima"], "": "who knows"}
    talk = [
        {"role": "user", "content": "and Peru?"},
        {"role": "assistant", "content": "France"},
        {"role": "user", "content": "go on"},
    ]
    with ScriptedEndpoint(script) as endpoint:
        assert said(endpoint.url, "capital of France?") == "Paris"
        assert said(endpoint.url, "capital of Peru?") == "Lima"
        assert said(endpoint.url, messages=talk[:1]) == "still Lima"
        assert said(endpoint.url, messages=talk) == "Paris"
        assert said(endpoint.url, "hello") == "who knows"


def test_an_endpoint_answers_from_a_function() -> None:
    with ScriptedEndpoint(lambda body: body["messages"][0]["content"][::-1]) as endpoint:
        assert said(endpoint.url, "abc") == "cba"


def test_an_endpoint_keeps_to_the_cap_on_output() -> None:
    with ScriptedEndpoint(["12345678"]) as endpoint:
        _, body = post(endpoint.url, max_tokens=1)

    choice = body["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("1234", "length")
    assert body["usage"]["completion_tokens"] == endpoint.completion_tokens == 1


def test_an_endpoint_checks_the_key() -> None:
    with ScriptedEndpoint(["never"], api_key="right") as endpoint:
        assert post(endpoint.url)[0] == 401


def test_a_limit_on_calls_at_once_refuses_or_queues() -> None:
    async def burst(limit: RateLimit) -> tuple[list[int], int]:
        inside = most = 0

        async def answer(body: dict[str, Any]) -> str:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            for _ in range(50):
                await asyncio.sleep(0)
            inside -= 1
            return "ok"

        async with ScriptedEndpoint(answer, rate_limit=limit) as endpoint:
            calls = [asyncio.to_thread(post, endpoint.url) for _ in range(6)]
            return sorted(status for status, _ in await asyncio.gather(*calls)), most

    statuses, most = asyncio.run(burst(RateLimit(concurrent=2, queues=True)))
    assert statuses == [200] * 6
    assert most <= 2


def test_a_limit_on_the_rate_refuses_with_retry_after() -> None:
    limit = RateLimit(calls_per_s=0.001, burst=2, retry_after_s=7)
    with ScriptedEndpoint({"": "ok"}, rate_limit=limit) as endpoint:
        assert [post(endpoint.url)[0] for _ in range(3)] == [200, 200, 429]


def test_a_fault_is_a_value() -> None:
    assert Fault.rate_limited(retry_after_s=1) == Fault.http(
        429, "Rate limit reached", retry_after="1"
    )


def test_a_script_file_has_replies_faults_and_fields(tmp_path) -> None:
    path = tmp_path / "replies.json"
    path.write_text(
        json.dumps(
            [
                "plain",
                {"text": "rich", "cost_usd": 0.5},
                {"fault": "rate_limited", "retry_after_s": 1},
                {"fault": "empty_reply"},
                {"text": "A", "logprobs": [["A", -0.1]]},
            ]
        ),
        encoding="utf-8",
    )
    rich = Reply(text="rich", cost_usd=0.5)
    *first, unsure = read_script(path)
    assert first == ["plain", rich, Fault.rate_limited(1), Reply()]
    assert [tuple(pair) for pair in unsure.logprobs] == [("A", -0.1)]
    path.write_text('{"a": "b", "": ["c", {"fault": "hang"}]}', encoding="utf-8")
    assert read_script(path) == {"a": "b", "": ["c", Fault.hang()]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "cannot read the script"),
        ("3", "a list of replies or an object"),
        ("[3]", "a string, a reply, or a fault"),
        ('[{"fault": "__init__"}]', "a string, a reply, or a fault"),
        ('[{"txt": "a"}]', "unexpected keyword argument 'txt'"),
        ('[{"text": "a", "logprobs": [["a"]]}]', "pairs of a token and a number"),
        ('[{"text": "a", "logprobs": [["a", "sure"]]}]', "pairs of a token and a number"),
    ],
)
def test_a_script_file_that_is_none_is_refused(tmp_path, text: str, says: str) -> None:
    path = tmp_path / "replies.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        read_script(path)


def test_another_process_gets_the_same_endpoint(tmp_path) -> None:
    path = tmp_path / "replies.json"
    path.write_text('["from afar"]', encoding="utf-8")
    command = [sys.executable, "-m", "abyme.testing", "--script", str(path)]
    with subprocess.Popen(
        [*command, "--until-stdin-closes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        assert said(server.stdout.readline().strip()) == "from afar"
        server.stdin.close()
        assert server.wait(10) == 0


def test_a_port_that_is_taken_is_an_error_at_the_start() -> None:
    with ScriptedEndpoint([]) as first:
        port = int(first.url.rsplit(":", 1)[1].split("/")[0])
        with pytest.raises(OSError, match="cannot be had"), ScriptedEndpoint([], port=port):
            pass


@pytest.mark.parametrize("script", [{"a": "b"}, "text"])
def test_a_scripted_model_refuses_what_is_no_list_of_replies(script):
    with pytest.raises(TypeError, match="a ScriptedModel takes a list of replies or a function"):
        ScriptedModel(script)


def test_the_help_of_the_endpoint_tells_every_fault_and_a_script_it_reads(capsys, tmp_path):
    with pytest.raises(SystemExit):
        serve(["--help"])
    told = capsys.readouterr().out
    assert [name for name in FAULTS if name not in told] == []
    (tmp_path / "s.json").write_text(
        '["text", {"text": "...", "prompt_tokens": 100},'
        ' {"text": "A", "logprobs": [["A", -0.1]]},'
        ' {"fault": "rate_limited", "retry_after_s": 1}]'
    )
    assert len(read_script(tmp_path / "s.json")) == 4
    assert '"logprobs": [["A", -0.1]]' in told


def test_an_endpoint_gives_log_probabilities_to_whom_asks_for_them() -> None:
    answer = Reply(text="é!", logprobs=[("é", -0.5), ("!", -0.25)])
    with ScriptedEndpoint([answer] * 2) as endpoint:
        _, plain = post(endpoint.url)
        _, asked = post(endpoint.url, logprobs=True)

    assert "logprobs" not in plain["choices"][0]
    assert asked["choices"][0]["logprobs"]["content"] == [
        {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": []},
        {"token": "!", "logprob": -0.25, "bytes": [33], "top_logprobs": []},
    ]


def test_a_scripted_model_gives_doubts_to_whom_asks_for_them() -> None:
    unsure = ModelReply(
        text="A",
        finish="stop",
        usage=Usage(),
        doubts=[Doubt(start=0, end=1, logprob=-0.5)],
    )
    model = ScriptedModel([unsure, unsure])
    asked = dataclasses.replace(ask(), logprobs=True)

    assert asyncio.run(model.complete(ask())).doubts is None
    assert asyncio.run(model.complete(asked)).doubts == unsure.doubts
