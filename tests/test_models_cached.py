"""Contract: models/cached. The same request is paid once; nothing spoilt is given out."""

import asyncio
import dataclasses
import errno
import os
import stat
import threading

import pytest

from abyme.core.events import Doubt, Usage
from abyme.core.profile import Message
from abyme.errors import ModelError
from abyme.models import cached as under_test
from abyme.models.cached import Cached, key_of, sweep
from abyme.ports import ModelReply, ModelRequest
from abyme.testing import ScriptedModel

WHO = "https://host.example/v1 some-model"
PAID = Usage(prompt_tokens=5, completion_tokens=2)


def ask(text="hi", **fields):
    return ModelRequest(messages=[Message("user", text)], max_output_tokens=100, **fields)


def reply(text, finish="stop"):
    return ModelReply(text=text, finish=finish, usage=PAID)


def through(folder, script, *requests, identity=WHO, **options):
    """Ask one after another; return the replies, and how many the model itself was asked for."""

    async def all_of_them():
        model = ScriptedModel(script)
        cached = Cached(model, folder, identity, **options)
        replies = [await cached.complete(request) for request in requests]
        await cached.aclose()
        assert model.closed
        return replies, len(model.requests)

    return asyncio.run(all_of_them())


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_the_same_request_is_answered_from_the_first_and_costs_nothing(tmp_path):
    (first, second), asked = through(tmp_path, [reply("one")], ask(), ask())

    assert (first, asked) == (reply("one"), 1)
    assert second == ModelReply(text="one", finish="stop", usage=Usage(cost_usd_micro=0))


def test_another_process_finds_it_too(tmp_path):
    through(tmp_path, [reply("one")], ask())

    assert through(tmp_path, [], ask())[0][0].text == "one"


@pytest.mark.parametrize(
    "other",
    [
        {"text": "ho"},
        {"temperature": 0.0},
        {"stop": ["x"]},
        {"prefill": "```"},
        {"seed": 1},
        {"schema": {"type": "object"}},
        {"logprobs": True},
    ],
)
def test_any_field_of_the_request_makes_it_another(tmp_path, other):
    replies, _ = through(tmp_path, [reply("one"), reply("two")], ask(), ask(**other))

    assert [r.text for r in replies] == ["one", "two"]


def test_every_field_of_a_request_is_in_its_name():
    names = {field.name for field in dataclasses.fields(ModelRequest)}

    assert names == {
        *("messages", "max_output_tokens", "temperature", "stop", "prefill", "seed", "schema"),
        "fresh",
        "fence",
        "logprobs",
    }


def test_who_is_asked_is_in_the_name(tmp_path):
    through(tmp_path, [reply("one")], ask())

    assert through(tmp_path, [reply("two")], ask(), identity="other")[0][0].text == "two"


def test_texts_cannot_be_moved_from_one_message_into_another():
    def messages(*pairs):
        return dataclasses.replace(ask(), messages=[Message(*pair) for pair in pairs])

    split = messages(("user", "a"), ("user", "b"))
    assert key_of(WHO, split) != key_of(WHO, messages(("user", "auserb")))
    assert key_of(WHO, ask(stop=["a", "b"])) != key_of(WHO, ask(stop=["ab"]))
    assert key_of(WHO, ask(seed=1)) != key_of(WHO, ask(seed=True))


def test_a_fresh_request_is_neither_answered_from_it_nor_kept(tmp_path):
    fresh = ask(fresh=True)
    replies, _ = through(tmp_path, [reply("one"), reply("two")], fresh, ask())
    again, _ = through(tmp_path, [reply("three")], fresh, ask())

    assert [r.text for r in replies] == ["one", "two"]
    assert [r.text for r in again] == ["three", "two"]


@pytest.mark.parametrize("finish", ["length", "content_filter", "tool_calls"])
def test_a_reply_that_did_not_end_by_itself_is_not_kept(tmp_path, finish):
    through(tmp_path, [reply("cut", finish)], ask())

    assert files(tmp_path) == []


def test_a_failure_is_not_kept(tmp_path):
    failed = ModelError("busy", failure="server", retryable=True)
    with pytest.raises(ModelError):
        through(tmp_path, [failed], ask())

    assert files(tmp_path) == []


def test_a_kept_reply_is_streamed_too(tmp_path):
    through(tmp_path, [reply("one\ntwo")], ask())

    async def streamed():
        pieces = []
        await Cached(ScriptedModel([]), tmp_path, WHO).complete(ask(), pieces.append)
        return pieces

    assert asyncio.run(streamed()) == ["one\ntwo"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-5],
        lambda data: b"\xff" + data,
        lambda data: data.replace(b"one", b"two"),
        lambda data: data.replace(b'"key":"', b'"key":"0'),
        lambda data: b"[1]",
        lambda data: b"[" * 100_000,
    ],
)
def test_a_spoilt_entry_is_removed_and_the_model_is_asked(tmp_path, spoil):
    through(tmp_path, [reply("one")], ask())
    (kept,) = files(tmp_path)
    kept.write_bytes(spoil(kept.read_bytes()))

    replies, asked = through(tmp_path, [reply("new")], ask(), ask())

    assert ([r.text for r in replies], asked) == (["new", "new"], 1)


@pytest.mark.parametrize("trap", ["link", "pipe", "hole"])
def test_an_entry_that_is_no_file_is_a_miss_and_goes(tmp_path, trap):
    """A pipe would be waited for, for ever; a hole takes memory and no disk."""
    folder, mine = tmp_path / "cache", tmp_path / "mine"
    through(folder, [reply("one")], ask())
    (kept,) = files(folder)
    mine.write_bytes(kept.read_bytes())
    os.utime(mine, (1_000, 1_000))
    kept.unlink()
    if trap == "link":
        kept.symlink_to(mine)
    elif trap == "pipe":
        os.mkfifo(kept)
    else:
        kept.touch()
        os.truncate(kept, under_test.MOST_ENTRY_BYTES + 1)

    replies, asked = through(folder, [reply("new")], ask(), ask())

    assert ([r.text for r in replies], asked) == (["new", "new"], 1)
    assert kept.is_file()
    assert not kept.is_symlink()
    assert (b"one" in mine.read_bytes(), mine.stat().st_mtime) == (True, 1_000)


def test_an_entry_that_cannot_be_read_just_now_stays(tmp_path, monkeypatch):
    """Too many open files, say."""
    through(tmp_path, [reply("one")], ask())

    def busy(path, most_bytes):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(under_test, "read_whole", busy)
    assert through(tmp_path, [reply("new", "length")], ask())[1] == 1
    monkeypatch.undo()
    assert through(tmp_path, [], ask())[0][0].text == "one"


def test_an_entry_under_a_foreign_name_is_not_given_out(tmp_path):
    through(tmp_path, [reply("one")], ask())
    (kept,) = files(tmp_path)
    key = key_of(WHO, ask("other"))
    foreign = tmp_path / key[:2] / f"{key[2:]}.json"
    foreign.parent.mkdir(exist_ok=True)
    kept.rename(foreign)

    assert through(tmp_path, [reply("new")], ask("other"))[0][0].text == "new"


def test_what_is_kept_is_for_its_owner_alone(tmp_path):
    folder = tmp_path / "replies"
    through(folder, [reply("one")], ask())
    (kept,) = files(folder)

    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_costs_nothing_but_the_saving(tmp_path):
    taken = tmp_path / "file"
    taken.write_text("no folder")

    replies, asked = through(taken, [reply("one"), reply("two")], ask(), ask())

    assert ([r.text for r in replies], asked) == (["one", "two"], 2)


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(under_test.os, "replace", full)
    replies, _ = through(tmp_path, [reply("one")], ask())

    assert (replies[0].text, files(tmp_path)) == ("one", [])


def test_a_reply_that_json_cannot_carry_is_not_kept(tmp_path):
    replies, _ = through(tmp_path, [reply("a\ud800")], ask())

    assert (replies[0].text, files(tmp_path)) == ("a\ud800", [])


def filled(folder, count, size_bytes=100):
    """Entries, the first one used longest ago."""
    paths = []
    for number in range(count):
        path = folder / f"{number % 3:02d}" / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size_bytes)
        os.utime(path, (10_000 + number, 10_000 + number))
        paths.append(path)
    return paths


def test_beyond_its_size_what_was_not_used_for_longest_goes(tmp_path):
    paths = filled(tmp_path, 11)

    sweep(tmp_path, 1000)

    assert [path for path in paths if path.exists()] == paths[2:]


def test_within_its_size_all_stays_but_what_nobody_finishes(tmp_path):
    paths = filled(tmp_path, 10)
    old, new = tmp_path / "00" / ".new-old", tmp_path / "00" / ".new-new"
    for path, used_s in ((old, 5000), (new, 10_000)):
        path.touch()
        os.utime(path, (used_s, used_s))

    sweep(tmp_path, 1000)

    assert all(path.exists() for path in [*paths, new])
    assert not old.exists()


def test_a_hit_makes_an_entry_young_again(tmp_path):
    through(tmp_path, [reply("one")], ask())
    (kept,) = files(tmp_path)
    os.utime(kept, (1, 1))

    through(tmp_path, [], ask())

    assert kept.stat().st_mtime > 1


def test_writing_looks_after_the_size(tmp_path):
    texts = [f"{number:03d}" * 100 for number in range(40)]
    through(tmp_path, [reply(t) for t in texts], *[ask(t) for t in texts], max_bytes=5000)

    assert sum(path.stat().st_size for path in files(tmp_path)) <= 5000


def test_an_entry_larger_than_the_whole_is_not_kept(tmp_path):
    through(tmp_path, [reply("x" * 1000)], ask(), max_bytes=1000)

    assert files(tmp_path) == []


def test_many_writers_and_sweepers_at_once_give_out_nothing_wrong(tmp_path):
    wrong = []

    def work(start):
        texts = [f"{(start + number) % 30}-" + "y" * 200 for number in range(60)]
        replies, _ = through(
            tmp_path, lambda r: r.messages[0].content, *map(ask, texts), max_bytes=6000
        )
        wrong.extend(r.text for r, t in zip(replies, texts, strict=True) if r.text != t)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_the_word_that_fences_data_makes_no_difference_and_is_put_back(tmp_path):
    def fenced(word):
        content = f"look\n<data {word}>\nx\n</data {word}>"
        return dataclasses.replace(ask(), messages=[Message("user", content)], fence=word)

    through(tmp_path, [reply("it says <data aaaa1111>")], fenced("aaaa1111"))

    assert through(tmp_path, [], fenced("bbbb2222"))[0][0].text == "it says <data bbbb2222>"


NAME = "16ffc3ecaf669f7eb46f7102cf2d16498c1060ffd410269fb1dc252e74aaf3c0"
"""Of the plain request, before there were doubts."""
DOUBTS = [Doubt(start=0, end=2, logprob=-0.5), Doubt(start=2, end=3, logprob=-1.25)]


def unsure(text, doubts=DOUBTS):
    return dataclasses.replace(reply(text), doubts=doubts)


@pytest.mark.parametrize("doubts", [DOUBTS, [], None])
def test_doubts_are_kept_and_given(tmp_path, doubts):
    (_, second), asked = through(
        tmp_path, [unsure("one", doubts)], ask(logprobs=True), ask(logprobs=True)
    )

    assert (second.text, second.doubts, asked) == ("one", doubts, 1)


def test_an_entry_of_before_there_were_doubts_is_still_read(tmp_path):
    """Byte for byte as it was written then."""
    path = tmp_path / NAME[:2] / f"{NAME[2:]}.json"
    path.parent.mkdir()
    digest = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    path.write_text(f'{{"key":"{NAME}","text":"one","text_sha256":"{digest}"}}')

    (found,), asked = through(tmp_path, [], ask())
    assert (found.text, found.doubts, asked) == ("one", None, 0)


def test_a_reply_without_doubts_is_kept_as_before_there_were_any(tmp_path):
    through(tmp_path, [reply("one")], ask())
    (kept,) = files(tmp_path)

    assert b"doubts" not in kept.read_bytes()


def test_doubts_that_were_spoilt_are_not_given_out(tmp_path):
    through(tmp_path, [unsure("one")], ask(logprobs=True))
    (kept,) = files(tmp_path)
    kept.write_bytes(kept.read_bytes().replace(b"-0.5", b"-0.1"))

    (found,), asked = through(tmp_path, [reply("new")], ask(logprobs=True))
    assert (found.text, asked) == ("new", 1)


def test_doubts_of_a_text_that_repeats_the_fence_are_not_kept(tmp_path):
    """Another run has another word there, so that their places would be wrong."""
    request = ask(logprobs=True, fence="aaaa1111")
    other = dataclasses.replace(request, fence="bbbb222222")
    through(tmp_path, [unsure("<data aaaa1111>")], request)
    (found,), _ = through(tmp_path, [], other)

    assert (found.text, found.doubts) == ("<data bbbb222222>", None)
