"""Contract: folding. Near its model's window a prompt keeps its head and its last turns; what is
between becomes a line each, and the REPL keeps everything.
"""

import re
from itertools import pairwise

import pytest
from core_doubles import Run, facts
from hypothesis import given, settings
from hypothesis import strategies as st

from abyme import RLM
from abyme.core import effects as do
from abyme.core import events as ev
from abyme.core import folding, tokens
from abyme.core.folding import HEADER, Folded, Room, Trace, trace
from abyme.core.limits import Limits
from abyme.core.tree import Tree
from abyme.errors import ConfigError, ModelError
from abyme.ports import ModelReply
from abyme.run import profiles
from abyme.testing import ScriptedModel

WINDOW = 16_384
STRONG = profiles.load("strong")


def prompt_tokens(messages):
    return sum(tokens.estimate(message.content) for message in messages)


def extends(after, before):
    return tuple(after[: len(before)]) == tuple(before)


def prose(chars, word="lorem"):
    return (f"{word} ipsum dolor sit amet consectetur adipiscing elit\n" * chars)[:chars]


def run_turns(turns, *, output="", until=None, **more):
    """Drive so many turns; give the run, and the messages of each turn."""
    run = Run(
        root=facts("test:root", **{"window_tokens": WINDOW} | more),
        limits=Limits(max_turns=200, max_calls=None, max_tokens=None),
    )
    run.ready()
    asked = [run.one(do.AskModel).messages]
    for turn in range(1, turns + 1):
        run.code(f"# step {turn}\nname_{turn} = {turn}")
        changed = [ev.Name(name=f"name_{turn}", type="list", size=turn)]
        run.done(output or prose(10_000), cell=turn, changed=changed)
        asked.append(run.one(do.AskModel).messages)
    return run, asked


def test_every_prompt_stays_within_the_window_and_most_extend_the_one_before():
    _, asked = run_turns(60)

    reply = folding.reply_tokens(STRONG, facts(window_tokens=WINDOW))
    assert max(map(prompt_tokens, asked)) <= WINDOW - reply
    extensions = sum(map(extends, asked[1:], asked))
    assert extensions > 60 * 2 // 3 - 1


def test_prompts_stay_within_the_window_by_a_real_tokenizer_too():
    bpe_openai = pytest.importorskip("bpe_openai")
    o200k = bpe_openai.get_encoding("o200k_base")
    room = WINDOW - folding.reply_tokens(STRONG, facts(window_tokens=WINDOW))
    for words in (prose(10_000), "3141592653 " * 909, "\u4e00\u4e2a\u53cc\u91cd " * 2_000):
        _, asked = run_turns(10, output=words)

        assert max(len(o200k.encode("".join(m.content for m in one))) for one in asked) <= room


def test_the_head_stays_byte_for_byte_and_the_last_turn_is_whole():
    _, asked = run_turns(40)

    first = asked[0]
    for messages in asked:
        assert messages[0] == first[0]
        assert messages[1].content.startswith(first[1].content)
        assert [m.role for m in messages[1:]] == ["user", "assistant"] * (
            len(messages) // 2 - 1
        ) + ["user"]
    assert prose(10_000).rstrip("\n") in asked[-1][-1].content


def test_folded_turns_say_what_ran_what_it_left_and_how_much_it_printed():
    _, asked = run_turns(8)

    opened = asked[-1][1].content
    block = opened[opened.index(HEADER) :]
    assert re.fullmatch(
        re.escape(HEADER) + r"\n<data ([0-9a-f]{8})>\n(.*)\n</data \1>", block, re.DOTALL
    )
    assert "\nturn 2: # step 2 -> name_2: list[2]; printed 10,000 characters\n" in block


def test_folded_lines_are_only_added_to_until_they_are_joined():
    """So that the text before them stays in a prompt cache."""
    _, asked = run_turns(20)

    blocks = [
        messages[1].content.removesuffix("\n" + messages[1].content[-len("</data 12345678>") :])
        for messages in asked
        if HEADER in messages[1].content
    ]
    assert len(set(blocks)) > 3
    assert all(after.startswith(before) for before, after in pairwise(blocks))


def test_many_folded_lines_are_joined_into_one_that_keeps_the_names():
    _, asked = run_turns(150)

    opened = asked[-1][1].content
    block = opened[opened.index(HEADER) :]
    first, last, names = re.search(r"\nturns (\d+) to (\d+) left: (.*)\n", block).groups()
    assert first == "1"
    assert f"name_{last}" in names
    assert f"\nturn {int(last) + 1}: # step {int(last) + 1} -> " in block
    room = Room.of(STRONG, facts(window_tokens=WINDOW)).tokens
    assert tokens.estimate(block) <= room // folding.LINES_SHARE


def test_a_last_output_that_is_too_long_by_itself_is_cut_to_head_and_tail():
    output = "HEAD " + "0123456789 " * 900 + " TAIL"
    _, asked = run_turns(1, output=output, window_tokens=6_000)

    last = asked[-1][-1].content
    assert "HEAD" in last
    assert "TAIL" in last
    assert "characters cut" in last
    assert prompt_tokens(asked[-1]) <= 3_000


def test_a_reply_that_fills_the_window_is_cut_too():
    run = Run(root=facts("test:root", window_tokens=8_192))
    run.ready()
    run.code("x = '''\n" + prose(30_000) + "\n'''")
    run.done("done")
    messages = run.one(do.AskModel).messages

    assert prompt_tokens(messages) <= 8_192 // 2
    assert "characters cut" in messages[-2].content
    assert "done" in messages[-1].content


def test_a_reply_may_take_half_of_the_window_at_most():
    run = Run(root=facts("test:root", window_tokens=5_000))
    run.ready()

    assert run.one(do.AskModel).max_output_tokens == 2_500


LINES = "\n".join(f"| line {number} of the preview" for number in range(40))


@pytest.mark.parametrize("window", [1_500, 1_700, 2_048, 3_000, 4_096])
@pytest.mark.parametrize("words", [2, 100, 500, 2_000])
def test_prompt_and_reply_fit_a_small_window_and_the_question_is_whole(window, words):
    question = ("what is it? " * words)[: 5 * words]
    run = Run(root=facts("test:root", window_tokens=window), question=question, preview=LINES)
    run.ready()
    notes = ["a note of the REPL " * 10] * 20
    names = [ev.Name(name=f"a_name_of_{i}", type="list", size=i) for i in range(60)]
    if run.tree.finished is not None:
        assert tokens.estimate(STRONG.system + question) + 896 > window - 200
        return
    for cell in range(1, 12):
        asked = run.one(do.AskModel)
        prompt = sum(tokens.estimate(m.content) + 4 for m in asked.messages)
        assert prompt + asked.max_output_tokens <= window
        assert question in asked.messages[1].content
        assert asked.max_output_tokens >= folding.LEAST_REPLY_TOKENS
        run.code(f"x = {cell}\n# {prose(2_000)}")
        run.done(prose(10_000), cell=cell, changed=names, notes=notes)


def test_a_large_question_leaves_less_to_a_reply_but_not_less_than_the_least():
    def reply(words):
        run = Run(root=facts("test:root", window_tokens=8_192), question="word " * words)
        run.ready()
        return run.one(do.AskModel).max_output_tokens

    caps = [reply(words) for words in (10, 1_000, 3_000, 4_000, 5_000)]
    assert caps[:2] == [4_096, 4_096]
    assert caps == sorted(caps, reverse=True)
    assert folding.LEAST_REPLY_TOKENS <= caps[-1] < 1_000


def test_a_preview_is_left_out_from_its_end_before_a_window_is_too_small():
    run = Run(root=facts("test:root", window_tokens=1_800), preview=LINES)
    run.ready()
    told = run.one(do.AskModel).messages[1].content

    assert "\n| line 0 of the preview\n" in told
    assert "\n[the rest of this description is left out: the window is small]\n" in told
    assert "line 39" not in told


def test_a_question_that_can_never_fit_is_refused_before_anything_is_spent(tmp_path):
    model = ScriptedModel(["```repl\nsubmit(1)\n```"])
    rlm = RLM(model=model, window_tokens=4_096, runs_dir=tmp_path, warm=0)
    needed = (
        r"has 4,096 tokens; .* take about [678],\d\d\d, a turn and a reply 896 more; ask a short"
    )
    with rlm, pytest.raises(ConfigError, match=needed):
        rlm.ask("word " * 6_000, "a text")

    assert model.requests == []
    assert list(tmp_path.iterdir()) == []


def test_a_child_whose_question_can_never_fit_fails_and_its_parent_goes_on():
    run = Run(sub=facts("test:sub", window_tokens=4_096))
    run.ready()
    run.code()
    run.ask("word " * 6_000, purpose="rlm", text="a text", model="test:sub")
    run.ready("0.0")
    (result,) = run.one(do.AnswerBatch).results

    assert result.failure.fault == "child_failed"
    assert "the window of test:sub is too small" in result.failure.message


def test_without_a_known_window_nothing_is_folded():
    _, asked = run_turns(30, window_tokens=None)

    assert all(map(extends, asked[1:], asked))


def test_a_prompt_that_did_not_fit_is_folded_to_half_and_asked_again():
    run, _ = run_turns(12, window_tokens=None)
    sent = run.one(do.AskModel)
    run.at_s = 100.0
    run.fail(sent.reserved.call, "context_length")
    again = run.one(do.AskModel)

    assert prompt_tokens(again.messages) <= prompt_tokens(sent.messages) // 2
    assert again.reserved.call != sent.reserved.call
    assert "turn 13 of 200" in sent.messages[-1].content
    assert "turn 13 of 200 · left: 3,500 s" in again.messages[-1].content
    assert run.tree.finished is None

    run.code(
        "more = 1",
    )
    run.done(prose(10_000), cell=13)
    later = [run.one(do.AskModel).messages]
    for turn in range(14, 30):
        run.code(f"name_{turn} = 1")
        run.done(prose(10_000), cell=turn)
        later.append(run.one(do.AskModel).messages)
    assert max(map(prompt_tokens, later)) < prompt_tokens(sent.messages)


def test_a_prompt_is_shortened_three_times_in_a_row_at_most():
    run, _ = run_turns(12, window_tokens=None)
    asked = 0
    while run.all(do.AskModel):
        asked += 1
        run.fail(run.one(do.AskModel).reserved.call, "context_length")

    assert asked == 4
    assert (run.one(do.Finish).status, run.one(do.Finish).reason) == (
        "failed",
        "context_length happened",
    )


def test_a_reply_between_lets_three_more_be_shortened():
    run, _ = run_turns(12, window_tokens=None)
    for cell in range(13, 18):
        run.fail(run.one(do.AskModel).reserved.call, "context_length")
        run.code()
        run.done(prose(10_000), cell=cell)

    assert run.tree.finished is None


def test_a_first_prompt_that_does_not_fit_ends_the_run_as_before():
    run = Run()
    run.ready()
    run.fail(run.one(do.AskModel).reserved.call, "context_length")

    assert run.one(do.Finish).status == "failed"


def test_a_provider_that_counts_more_than_was_estimated_makes_the_room_smaller():
    room = Room.of(STRONG, facts(window_tokens=WINDOW))
    before = room.tokens
    room.counted(1_000, ev.Usage(prompt_tokens=1_500))
    assert before is not None
    assert room.tokens == before * 1000 // 1500
    room.counted(1_000, ev.Usage(prompt_tokens=500))
    assert before * 1000 // 1500 < room.tokens < before


def test_a_provider_that_counts_less_does_not_make_the_room_larger():
    room = Room.of(STRONG, facts(window_tokens=WINDOW))
    before = room.tokens
    room.counted(1_000, ev.Usage(prompt_tokens=600))

    assert room.tokens == before == WINDOW - 4_096 - WINDOW // 16


def test_the_same_records_give_the_same_folded_prompts_again():
    run, _ = run_turns(25)

    again = Tree(run.started)
    assert [again.step(record) for record in run.records] == run.history


TURNS = st.tuples(
    st.sampled_from(
        ["", "word " * 40, prose(3_000), prose(12_000), "31415926 " * 1_000, "\u8a9e" * 4_000]
    ),
    st.sampled_from(["x = 1", "# long\n" + "y = 2\n" * 400, None]),
    st.sampled_from(["", "E" * 9_000]),
)


@given(st.lists(TURNS, min_size=1, max_size=25), st.integers(5_000, 60_000))
@settings(max_examples=25, deadline=None)
def test_whatever_turns_bring_prompts_fit_roles_alternate_and_the_end_is_there(turns, window):
    run = Run(root=facts("test:root", window_tokens=window), limits=Limits(max_turns=99))
    run.ready()
    room = window - folding.reply_tokens(STRONG, facts(window_tokens=window))
    cell = 0
    for output, code, error in turns:
        if code is None:
            run.reply("I think about it.")
        else:
            cell += 1
            run.code(code)
            how = {"ended": "raised", "error": f"{error}\nKeyError: 1"} if error else {}
            run.done(f"BEGIN {output} END", cell=cell, **how)
        messages = run.one(do.AskModel).messages

        assert prompt_tokens(messages) <= room
        assert [m.role for m in messages[1:]] == ["user", "assistant"] * (
            len(messages) // 2 - 1
        ) + ["user"]
        if code is not None:
            assert "BEGIN" in messages[-1].content
            assert "END" in messages[-1].content
            assert ("KeyError: 1" in messages[-1].content) == bool(error)


def finished(**more):
    values = {"cell": 1, "output": "", "ended": "clean"} | more
    return ev.CellFinished(**values)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import re\n\n# count months\nx = 1", "# count months"),
        ("import re\nfrom math import tau", "import re"),
        ("#\n# ----\nrows = []", "rows = []"),
        ("x = '" + "a" * 200 + "'", "x = '" + "a" * 72 + "..."),
        ("", "..."),
        ("a =\t1\x00\x1b[31m", "a = 1[31m"),
    ],
)
def test_the_first_line_that_says_something_stands_for_a_cell(code, line):
    assert trace(1, code, finished()).code == line


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"ended": "raised", "error": "  File\nKeyError: 'x'"}, "raised KeyError"),
        (
            {"ended": "raised", "error": "Traceback\njson.decoder.JSONDecodeError: no"},
            "raised JSONDecodeError",
        ),
        ({"ended": "raised", "error": "you must submit now: 7"}, "raised"),
        ({"ended": "rolled_back"}, "stopped and undone"),
        ({"ended": "interrupted"}, "interrupted"),
        ({"ended": "lost"}, "lost"),
    ],
)
def test_a_folded_turn_says_how_it_ended_if_not_cleanly(how, said):
    assert trace(4, "x = 1", finished(**how)).line() == f"turn 4: x = 1; {said}"


def test_a_turn_without_code_is_folded_to_that():
    assert trace(4, None).line() == "turn 4: nothing ran"


def test_names_that_are_not_worth_showing_are_not_folded_either():
    names = [
        ev.Name(name="rows", type="list", size=3),
        ev.Name(name="i", type="int", aside=True),
    ]

    assert trace(1, "x", finished(changed=names)).names == ("rows: list[3]",)


def test_a_line_lists_a_dozen_names():
    names = [ev.Name(name=f"n{i}", type="int") for i in range(15)]
    line = trace(1, "x", finished(changed=names)).line()

    assert line.endswith("n11: int and 3 more")


@given(
    st.lists(
        st.builds(
            ev.Name,
            name=st.text(max_size=200),
            type=st.text(max_size=200),
            size=st.none() | st.integers(0, 10**9),
        ),
        max_size=20,
    ),
    st.text(max_size=100),
)
@settings(max_examples=100, deadline=None)
def test_nothing_a_guest_words_breaks_a_line_or_closes_the_fence(names, error):
    done = finished(changed=names, ended="raised", error=error + "</data 01234567>")
    folded = Folded("01234567")
    folded.add(trace(1, "x = 1", done), 100_000)

    inside = folded.text.removeprefix(f"{HEADER}\n<data 01234567>\n")
    inside = inside.removesuffix("\n</data 01234567>")
    assert inside.isprintable()
    assert "</data 01234567>" not in inside


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 80)), max_size=60), st.integers(200, 9000)
)
@settings(max_examples=60, deadline=None)
def test_folded_lines_never_take_more_than_their_part_of_the_room(turns, room):
    folded = Folded("01234567")
    for number, (names, chars) in enumerate(turns, 1):
        left = tuple(f"name_{number}_{i}: dict[{i}]" for i in range(names))
        folded.add(Trace(number, "c" * chars, left, "", 100), room)
    most = room // folding.LINES_SHARE
    frame = tokens.estimate(
        HEADER + "<data 01234567>\n\n</data 01234567>turns 1 to 60 left: no names"
    )

    assert tokens.estimate(folded.text) <= max(most, frame + most // 4 + 10)


def turn_of(request):
    """Read the number of the turn that is asked for off the status line."""
    return int(re.findall(r"\[turn (\d+) of", request.messages[-1].content)[-1])


def played(cell_of, *, most_chars=10**9):
    """Script a model whose endpoint counts as we estimate, and takes so many characters."""

    def root(request):
        if sum(len(message.content) for message in request.messages) > most_chars:
            return ModelError("too long", failure="context_length", retryable=False)
        usage = ev.Usage(prompt_tokens=prompt_tokens(request.messages), completion_tokens=60)
        text = f"```repl\n{cell_of(turn_of(request))}\n```"
        return ModelReply(text=text, finish="stop", usage=usage)

    return ScriptedModel(root)


def sixty(turn):
    """Ten kilobytes of output in each; a name of turn 2 is used in turn 59."""
    if turn == 2:
        return "kept = {'two': len(context)}\nprint(context[:10_000])"
    if turn == 59:
        return "answer_59 = kept['two'] + 59\nprint(context[-10_000:])"
    if turn == 60:
        return "submit(answer_59)"
    return f"# part {turn}\npart_{turn} = context[{turn * 1000}:][:10_000]\nprint(part_{turn})"


def test_sixty_turns_with_ten_kilobytes_each_stay_in_a_window_of_16k_and_answer(tmp_path):
    model, limits = played(sixty), Limits(max_turns=60)
    with RLM(model=model, runs_dir=tmp_path, window_tokens=WINDOW, limits=limits) as rlm:
        answer = rlm.ask("How long?", prose(100_000))

    assert (answer.status, answer.value) == ("answered", 100_059)
    asked = [request.messages for request in model.requests]
    assert len(asked) == 60
    assert all(len(messages[-1].content) > 10_000 for messages in asked[1:])
    assert max(map(prompt_tokens, asked)) + model.requests[0].max_output_tokens <= WINDOW
    assert sum(map(extends, asked[1:], asked)) >= 40
    assert "kept" in asked[58][1].content  # in turn 59, by its line or by its name


def twenty(turn):
    return "submit(turn_3)" if turn == 20 else f"turn_{turn} = {turn}; print(context)"


def test_a_folded_run_that_is_killed_goes_on_with_the_same_prompts(tmp_path):
    model = played(twenty)
    given_ = {"runs_dir": tmp_path, "window_tokens": 8_320, "limits": Limits(max_turns=20)}
    with RLM(model=model, **given_) as rlm:
        answer = rlm.ask("Which?", prose(5_000))
        assert (answer.status, answer.value) == ("answered", 3)
        whole = [request.messages for request in model.requests]
        events = answer.run / "events.jsonl"
        lines = events.read_bytes().splitlines(keepends=True)
        settled = [n for n, line in enumerate(lines) if b'"call_settled"' in line]
        events.write_bytes(b"".join(lines[: settled[14]]))
        (answer.run / "answer.json").unlink()
        model.requests.clear()
        again = rlm.resume(answer.run, context=prose(5_000))

    assert (again.status, again.value) == ("answered", 3)
    first = model.requests[0].messages
    assert HEADER in first[1].content
    assert first[:-1] == whole[14][:-1]
    assert "[the run was interrupted and goes on" in first[-1].content
    assert "[turn 15 of 20 " in first[-1].content


def test_a_provider_that_finds_a_prompt_too_long_is_asked_with_a_shorter_one(tmp_path):
    """Without a declared window."""
    model = played(twenty, most_chars=27_000)
    with RLM(model=model, runs_dir=tmp_path, limits=Limits(max_turns=20)) as rlm:
        answer = rlm.ask("Which?", prose(8_000))

    assert (answer.status, answer.value) == ("answered", 3)
    assert answer.usage.failed == 1


@pytest.mark.parametrize("window", [0, 1023, 1e6, True, "16k"])
def test_a_window_that_is_none_is_refused(window):
    with pytest.raises(ConfigError, match="window_tokens must be a whole number >= 1024"):
        RLM(model=ScriptedModel([]), window_tokens=window)


def test_a_window_of_the_sub_model_goes_with_a_sub_model():
    with pytest.raises(ConfigError, match="there is a window for the sub-model"):
        RLM(model=ScriptedModel([]), sub_window_tokens=4_096)
    rlm = RLM(model=ScriptedModel([]), sub_model=ScriptedModel([]), sub_window_tokens=4_096)

    assert (rlm.spec.root.window_tokens, rlm.spec.sub.window_tokens) == (None, 4_096)
