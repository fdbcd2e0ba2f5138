"""Contract: models/redacted. A provider that repeats a key does not bring it into a run."""

import asyncio
import dataclasses

import pytest

from abyme import RLM
from abyme.core.events import Doubt, Usage
from abyme.errors import ModelError
from abyme.models.redacted import Redacted
from abyme.ports import Message, ModelReply, ModelRequest
from abyme.testing import ScriptedEndpoint, ScriptedModel

KEY, OTHER = "sk-canary-0123456789", "sk-canary-01"
REQUEST = ModelRequest(messages=[Message(role="user", content="?")], max_output_tokens=9)


class Echo:
    """Says what it is told to, in pieces."""

    def __init__(self, *pieces: str, error: str = "") -> None:
        self._pieces, self._error = pieces, error

    async def complete(self, request, on_text=None):
        for piece in self._pieces:
            if on_text is not None:
                on_text(piece)
        if self._error:
            raise ModelError(self._error, failure="server", retryable=False)
        usage = Usage(prompt_tokens=1, completion_tokens=1)
        return ModelReply(text="".join(self._pieces), finish="stop", usage=usage)

    async def aclose(self) -> None:
        return


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_a_key_is_cut_out_of_a_reply_and_of_its_stream(size):
    text = f"a {KEY} sk-can b {OTHER} sk-"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    heard = []
    model = Redacted(Echo(*pieces), [KEY, OTHER, None])
    reply = asyncio.run(model.complete(REQUEST, heard.append))
    assert reply.text == "a [API key] sk-can b [API key] sk-"
    assert KEY[:12] not in "".join(heard)
    assert "".join(heard).startswith("a [API key]")
    assert "".join(heard).endswith(" sk-")


def test_a_key_is_cut_out_of_an_error():
    with pytest.raises(ModelError, match=r"^bad key \[API key\]$"):
        asyncio.run(Redacted(Echo(error=f"bad key {KEY}"), [KEY]).complete(REQUEST))


def test_a_word_that_serves_as_a_key_is_left_in():
    assert asyncio.run(Redacted(Echo("ok, k"), ["k"]).complete(REQUEST)).text == "ok, k"


def test_a_key_that_a_provider_repeats_is_in_no_file_of_the_run(tmp_path):
    with (
        ScriptedEndpoint([f"```repl\nsubmit('{KEY}')\n```"], api_key=KEY) as endpoint,
        RLM(model="m", base_url=endpoint.url, api_key=KEY, runs_dir=tmp_path) as rlm,
    ):
        assert rlm.ask("What?", "text").value == "[API key]"
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"[API key]" in kept
    assert KEY.encode() not in kept


@pytest.mark.parametrize(("text", "kept"), [("the word", True), (f"say {KEY} twice", False)])
def test_doubts_whose_places_have_moved_are_not_known_any_more(text, kept):
    doubts = [Doubt(start=4, end=6, logprob=-0.5)]
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    told = ModelReply(text=text, finish="stop", usage=usage, doubts=doubts)
    model = Redacted(ScriptedModel([told]), [KEY])
    request = dataclasses.replace(REQUEST, logprobs=True)

    assert asyncio.run(model.complete(request)).doubts == (doubts if kept else None)
