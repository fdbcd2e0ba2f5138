"""Contract: the public face. Real jail, real journal, scripted model."""

import asyncio
import stat
from dataclasses import replace

import pytest

import abyme
from abyme import RLM, ConfigError, ContextError, JournalError, Limits
from abyme.core import events as ev
from abyme.journals.folder import RunFolder
from abyme.journals.writer import JournalWriter
from abyme.run.spec import Settings, settle
from abyme.testing import Reply, ScriptedEndpoint, ScriptedModel


def code(*lines):
    return "```repl\n" + "\n".join(lines) + "\n```"


@pytest.fixture
def ask(tmp_path):
    """Ask a scripted root; gives the answer and the model that was asked."""

    def ask(context, *replies, question="What?", **more):
        model = ScriptedModel(list(replies))
        with RLM(model=model, runs_dir=tmp_path / "runs", **more) as rlm:
            return rlm.ask(question, context), model

    return ask


def test_an_answer_carries_value_status_evidence_usage_and_run(ask):
    text = "alpha\nbeta needle gamma\n"
    answer, _model = ask(
        text,
        code("hits = grep('needle')", "print(hits[0])"),
        code("submit(hits[0].text, evidence=[hits[0]])"),
    )

    assert (answer.value, answer.status, answer.reason) == ("beta needle gamma", "answered", None)
    assert [(e.line, e.quote) for e in answer.evidence] == [(2, "beta needle gamma")]
    assert answer.usage.calls == 2
    assert answer.usage.cost_usd == 0.0
    assert answer.run.is_dir()
    assert answer.response == answer.value


@pytest.mark.parametrize(
    ("context", "expression", "value"),
    [
        ("some text", "[type(context).__name__, len(context)]", ["str", 9]),
        (["a", "bc"], "[isinstance(context, list), len(context), context[1]]", [True, 2, "bc"]),
        (
            {"a.txt": "A", "b.txt": "B"},
            "[list(context), context['b.txt']]",
            [["a.txt", "b.txt"], "B"],
        ),
    ],
)
def test_a_context_is_what_was_given(ask, context, expression, value):
    answer, _ = ask(context, code(f"submit({expression})"))

    assert answer.value == value


def test_a_folder_is_a_mapping_of_names_to_texts(ask, tmp_path):
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("# A\n")
    (folder / "sub" / "b.md").write_text("# B\n")
    answer, _ = ask(folder, code("submit([list(context), context['sub/b.md']])"))

    assert answer.value == [["a.md", "sub/b.md"], "# B\n"]


def test_surrogates_and_crlf_reach_the_cell_and_the_journal_unchanged(ask):
    text = "one\r\ntwo \udcff three\r\n"
    answer, _model = ask(
        text,
        code("print(repr(context), context)"),
        code("submit(context)"),
    )

    assert answer.value == text
    cells = [r.event for r in RunFolder(answer.run).recording().records]
    output = next(e.output for e in cells if isinstance(e, ev.CellFinished))
    assert output == f"{text!r} {text}\n"


def test_the_same_rlm_answers_again_with_a_fresh_session(tmp_path):
    model = ScriptedModel([code("x = 1", "submit(x)"), code("submit('x' in globals())")])
    with RLM(model=model, runs_dir=tmp_path) as rlm:
        assert rlm.ask("one?", "text").value == 1
        assert rlm.ask("two?", "text").value is False


def test_sub_calls_and_children_work_from_a_cell(tmp_path):
    root = ScriptedModel(
        [
            code(
                "texts = llm_query_batched(['p1', 'p2'], texts=['t1', 't2'])",
                "child = rlm_query('how long is it?', 'abcdef')",
                "submit([texts, child, [c.text for c in calls]])",
            ),
            code("submit(len(context))"),
        ]
    )
    sub = ScriptedModel(lambda request: request.messages[0].content[:2].upper())
    with RLM(model=root, sub_model=sub, runs_dir=tmp_path) as rlm:
        answer = rlm.ask("What?", "parent text")

    assert answer.value == [["P1", "P2"], "6", ["P1", "P2", "6"]]


def test_a_refused_batch_raises_in_the_cell_before_anything_is_sent(tmp_path):
    root = ScriptedModel(
        [
            code(
                "try:",
                "    llm_query_batched([str(i) for i in range(50)])",
                "except LimitReached as error:",
                "    submit(str(error))",
            )
        ]
    )
    sub = ScriptedModel([])
    limits = Limits(max_calls=10)
    with RLM(model=root, sub_model=sub, runs_dir=tmp_path, limits=limits) as rlm:
        answer = rlm.ask("What?", "text")

    assert "nothing was sent: 50 calls" in answer.value
    assert sub.requests == []


def test_a_failed_sub_call_is_an_exception_and_never_a_text(tmp_path):
    from abyme import ModelError

    root = ScriptedModel(
        [
            code(
                "try:",
                "    llm_query_batched(['good', 'bad'])",
                "except BatchFailed as error:",
                "    submit([error.results, len(error.errors)])",
            )
        ]
    )

    def sub(request):
        if request.messages[0].content == "bad":
            raise ModelError("declined", failure="refused", retryable=False)
        return "fine"

    with RLM(model=root, sub_model=ScriptedModel(sub), runs_dir=tmp_path) as rlm:
        assert rlm.ask("What?", "text").value == [["fine", None], 1]


def test_a_runs_folder_is_private_and_holds_no_key(tmp_path, monkeypatch):
    monkeypatch.setenv("ABYME_API_KEY", "sk-secret-canary")
    model = ScriptedModel([code("submit(1)")])
    with RLM(model=model, runs_dir=tmp_path, api_key="sk-other-canary") as rlm:
        answer = rlm.ask("What?", "text")

    for path in answer.run.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"canary" not in path.read_bytes()
    assert stat.S_IMODE(answer.run.stat().st_mode) == 0o700


def test_a_key_in_the_hosts_environment_is_not_reachable_from_a_cell(ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env-canary")
    answer, _ = ask("text", code("import os", "submit(sorted(os.environ) + ['end'])"))

    assert "OPENAI_API_KEY" not in answer.value
    assert answer.value[-1] == "end"


def test_the_documented_exceptions_of_bad_input(tmp_path):
    with RLM(model=ScriptedModel([]), runs_dir=tmp_path) as rlm:
        with pytest.raises(ConfigError, match="question is empty"):
            rlm.ask("  ", "text")
        with pytest.raises(ContextError):
            rlm.ask("What?", "")
        with pytest.raises(ContextError):
            rlm.ask("What?", {})
        with pytest.raises(ContextError):
            rlm.ask("What?", tmp_path / "absent.txt")
        with pytest.raises(ContextError):
            rlm.ask("What?", {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_price_is_refused_up_front_with_the_ways_out(monkeypatch):
    monkeypatch.setenv("ABYME_API_KEY", "k")
    with pytest.raises(ConfigError, match=r"--price IN,OUT.*--max-usd none"):
        RLM(model="some-model", base_url="https://models.example/v1")
    RLM(model="some-model", base_url="https://models.example/v1", price=(1, 2)).close()
    RLM(model="some-model", base_url="http://127.0.0.1:1/v1").close()


def test_completion_speaks_like_the_official_engine(tmp_path):
    model = ScriptedModel([code("answer['content'] = 'yes'", "answer['ready'] = True")])
    with RLM(model=model, runs_dir=tmp_path) as rlm:
        assert rlm.completion("long prompt", root_prompt="is it?").response == "yes"


def test_asking_works_beside_a_running_loop(tmp_path):
    async def main():
        with RLM(model=ScriptedModel([code("submit(1)")]), runs_dir=tmp_path) as rlm:
            return rlm.ask("What?", "text").value

    assert asyncio.run(main()) == 1


def test_aask_is_awaited(tmp_path):
    async def main():
        async with RLM(model=ScriptedModel([code("submit(2)")]), runs_dir=tmp_path) as rlm:
            return (await rlm.aask("What?", "text")).value

    assert asyncio.run(main()) == 2


def test_every_record_is_seen_once_it_is_written(tmp_path):
    seen = []
    model = ScriptedModel([code("print(1)"), code("submit(1)")])
    with RLM(model=model, runs_dir=tmp_path, on_record=seen.append) as rlm:
        answer = rlm.ask("What?", "text")

    assert seen == list(RunFolder(answer.run).recording().records)
    assert isinstance(seen[0].event, ev.RunStarted)
    assert isinstance(seen[-1].event, ev.RunFinished)


def test_a_journal_on_disk_replays_to_the_same_end(ask):
    from abyme.core.tree import Tree

    answer, _ = ask("text", code("1/0"), code("print(llm_query)"), code("submit(3)"))
    records = RunFolder(answer.run).recording().records
    tree = Tree(records[0].event)
    for record in records[:-1]:
        tree.step(record)

    assert tree.finished is not None
    assert (tree.finished.status, tree.finished.value) == ("answered", 3)


def test_the_public_names_are_the_documented_ones():
    for name in abyme.__all__:
        assert getattr(abyme, name).__module__.startswith("abyme.")
    assert sorted(abyme.__all__) == dir(abyme)


def test_an_endpoint_names_its_only_model_itself(tmp_path):
    with ScriptedEndpoint([code("submit(1)")], model="the-one") as endpoint:
        with RLM(base_url=endpoint.url, runs_dir=tmp_path, profile="strong") as rlm:
            rlm.ask("What?", "text")

        assert endpoint.requests[0]["model"] == "the-one"
        assert rlm.spec.root.name == "custom:the-one"


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"model": "openai:m", "sub_model": "openai:s"}, ("given", "given")),
        ({"model": "openai:m", "sub_model": "anthropic:s"}, ("given", "anthropic")),
        (
            {"model": "openai:m", "sub_model": "s", "sub_base_url": "https://h.example"},
            ("given", "general"),
        ),
        ({"model": "m", "sub_model": "s", "base_url": "https://h.example"}, ("given", "given")),
        (
            {"model": "m", "base_url": "https://h.example", "sub_base_url": "http://h.example"},
            ("given", "general"),
        ),
        ({"model": "local:coder-1.5b", "sub_model": "openai:s"}, (None, "given")),
    ],
)
def test_a_given_key_goes_to_the_root_models_host_and_no_other(settings, keys):
    env = {"ABYME_API_KEY": "general", "ANTHROPIC_API_KEY": "anthropic"}
    spec = settle(Settings(**settings, api_key="given", price=(1, 1), sub_price=(1, 1)), env)
    assert (spec.root.api_key, spec.sub.api_key) == keys


def test_a_sub_model_without_a_key_of_its_own_is_told_why_the_given_one_is_not_sent():
    settings = Settings(model="openai:m", sub_model="anthropic:s", api_key="given")
    with pytest.raises(ConfigError, match=r"^the sub-model: anthropic needs a key: .* other host"):
        settle(settings, {})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": 5}, "a model is a name such as openai:gpt-5 or a Model, not 5"),
        ({"sub_model": b"m"}, "a model is a name such as openai:gpt-5 or a Model, not b'm'"),
        ({"limits": {}}, r"limits must be a Limits, such as Limits\(max_usd=1\), not {}"),
    ],
)
def test_settings_of_another_kind_are_refused(settings, words):
    with pytest.raises(ConfigError, match=f"^{words}$"):
        RLM(**{"model": ScriptedModel([])} | settings)


def test_a_question_that_is_no_text_is_refused(ask):
    with pytest.raises(ConfigError, match=r"^a question is a str, not NoneType$"):
        ask("text", question=None)


def full_disk_at(monkeypatch, event):
    """Let the journal fail from the first record of a kind on."""
    append, flush = JournalWriter.append, JournalWriter.flush
    seen = []

    def appended(self, record):
        seen.extend([record.event] if isinstance(record.event, event) else [])
        append(self, record)

    def flushed(self):
        if seen:
            raise JournalError("cannot write events.jsonl: No space left on device")
        flush(self)

    monkeypatch.setattr(JournalWriter, "append", appended)
    monkeypatch.setattr(JournalWriter, "flush", flushed)


def test_an_error_that_ends_a_run_names_its_folder_and_what_was_spent(ask, tmp_path, monkeypatch):
    full_disk_at(monkeypatch, ev.CallSettled)
    with pytest.raises(JournalError, match="No space left") as caught:
        ask("text", code("submit(1)"))
    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.name != "contexts")
    assert (caught.value.run, caught.value.usage.calls) == (run, 1)


def test_an_answer_that_cannot_be_recorded_is_given_all_the_same(ask, monkeypatch):
    full_disk_at(monkeypatch, ev.RunFinished)
    answer, _ = ask("text", code("submit(1)"))
    assert (answer.value, answer.status, answer.usage.calls) == (1, "answered", 1)
    assert answer.unrecorded == "cannot write events.jsonl: No space left on device"


def test_an_answer_without_its_file_is_given_all_the_same(ask, monkeypatch):
    def full(*_):
        raise JournalError("cannot write answer.json: No space left on device")

    monkeypatch.setattr(RunFolder, "write_answer", full)
    answer, _ = ask("text", code("submit(1)"))
    assert (answer.value, answer.unrecorded) == (
        1,
        "cannot write answer.json: No space left on device",
    )


def test_paths_are_kept_with_the_run_as_they_were_given(ask, tmp_path):
    (tmp_path / "a.txt").write_text("alpha")
    answer, _ = ask(tmp_path / "a.txt", code("submit(1)"))
    assert RunFolder(answer.run).spec().sources == [str(tmp_path / "a.txt")]
    answer, _ = ask("text", code("submit(1)"))
    assert RunFolder(answer.run).spec().sources == []


def test_quotes_that_are_not_in_the_context_are_missing(ask):
    answer, _ = ask(
        "alpha beta gamma",
        code("submit(1, evidence=['gamma delta beta', 'alpha beta gamma', 'delta and more'])"),
    )
    assert [place.quote for place in answer.evidence] == ["alpha beta gamma"]
    assert answer.missing == ["gamma delta beta", "delta and more"]


def test_what_a_provider_bills_beyond_the_declared_price_is_said(tmp_path):
    from abyme.core.events import Usage
    from abyme.ports import ModelReply

    class Greedy:
        async def complete(self, request, on_text=None):
            usage = Usage(prompt_tokens=1, completion_tokens=1, cost_usd_micro=900_000)
            return ModelReply(text=code("submit(1)"), finish="stop", usage=usage)

        async def aclose(self):
            pass

    with RLM(model=Greedy(), runs_dir=tmp_path, price=(1, 2)) as rlm:
        usage = rlm.ask("What?", "text").usage

    assert usage.cost_usd == 0.9
    assert 0.8 < usage.overrun_usd < 0.9


def test_equal_requests_of_two_runs_are_asked_once_with_a_cache_and_fresh_ones_again(tmp_path):
    cell = code("submit([llm_query('same'), llm_query('vote', samples=2)])")
    script = {"What?": cell, "same": "one", "vote": "two"}
    with ScriptedEndpoint(script) as endpoint:
        for asked, cost in ((4, 0), (6, 0)):
            settings = {"base_url": endpoint.url, "runs_dir": tmp_path / "runs", "cache": True}
            with RLM("m", **settings) as rlm:
                rlm._parts.spec = replace(rlm.spec, cache_dir=tmp_path / "cache")
                answer = rlm.ask("What?", "text")
            assert answer.value == ["one", ["two", "two"]]
            assert (endpoint.calls, answer.usage.cost_usd) == (asked, cost)


def test_a_price_is_the_root_models_and_another_sub_model_needs_its_own():
    models = {"model": "openai:r", "sub_model": "openai:s", "api_key": "key"}
    with pytest.raises(ConfigError, match=r"openai:s is unknown.* --sub-price IN,OUT"):
        RLM(**models, price=(1, 2))
    spec = RLM(**models, price=(1, 2), sub_price=(3, 4)).spec

    assert (spec.root.price.input_usd_micro, spec.sub.price.input_usd_micro) == (10**6, 3 * 10**6)


def test_a_ceiling_that_allows_no_turn_is_refused_before_anything_begins(tmp_path):
    model = ScriptedModel([])
    with (
        RLM(model=model, runs_dir=tmp_path, limits=Limits(max_tokens=2000)) as rlm,
        pytest.raises(ConfigError, match="the limits allow no turn: max_tokens: "),
    ):
        rlm.ask("What?", "text")

    assert list(tmp_path.iterdir()) == []


def test_a_sub_reply_that_was_cut_off_is_a_typed_failure_and_what_came_is_kept(tmp_path):
    cell = code(
        "try: llm_query('long')",
        "except ModelError as error: submit([error.fault, calls[-1].text])",
    )
    script = {"What?": cell, "long": Reply(text="the first half", finish="length")}
    with (
        ScriptedEndpoint(script) as endpoint,
        RLM("m", base_url=endpoint.url, runs_dir=tmp_path) as rlm,
    ):
        answer = rlm.ask("What?", "text")

    assert answer.value == ["output_cap", "the first half"]


def test_a_model_may_put_out_as_much_as_the_user_says(tmp_path):
    model = ScriptedModel([code("submit(1)")])
    with RLM(model=model, runs_dir=tmp_path, max_output_tokens=9000) as rlm:
        rlm.ask("What?", "text")

    assert model.requests[0].max_output_tokens == 9000
