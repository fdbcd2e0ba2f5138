"""Contract: the fourteen things that a model asked for, as it is shown them.

Each test plays the root model through the real jail and reads the requests that it was sent.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from abyme import RLM, Limits
from abyme.core import events as ev
from abyme.errors import ModelError
from abyme.journals.folder import RunFolder
from abyme.testing import ScriptedModel

TEXT = "alpha beta\ngamma delta\n" * 50


@dataclass
class Played:
    """A run, and what the root was shown in each turn."""

    answer: Any
    shown: list[str]
    subs: list[str]
    """Prompts of sub-calls."""
    requests: list[Any]


def reply_to(prompt):
    return f"reply to {prompt}"


class Stage:
    """Plays the root's turns from a list (code where there is no fence), sub-calls by `sub`."""

    def __init__(self, runs_dir):
        self._runs_dir = runs_dir
        self._answer = None
        self._model = ScriptedModel(self._reply)
        self._rlm = RLM(model=self._model, runs_dir=runs_dir)

    def __call__(self, *replies, context=TEXT, sub=reply_to, **more):
        shown, subs, turns = [], [], iter(replies)

        def answer(request):
            if request.messages[0].role != "system":
                subs.append(request.messages[0].content)
                return sub(subs[-1])
            shown.append(request.messages[-1].content)
            reply = next(turns)
            return reply if "```" in reply or "~~~" in reply else f"```repl\n{reply}\n```"

        self._answer = answer
        self._model.requests.clear()
        if not more:
            return Played(self._ask(self._rlm, context), shown, subs, list(self._model.requests))
        with RLM(model=self._model, runs_dir=self._runs_dir, **more) as rlm:
            return Played(self._ask(rlm, context), shown, subs, list(self._model.requests))

    def _reply(self, request):
        return self._answer(request)

    def _ask(self, rlm, context):
        return rlm.ask("What is asked?", context)

    def close(self):
        self._rlm.close()


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("runs"))
    yield stage
    stage.close()


# 1. State survives errors


def test_1_an_error_keeps_what_was_bound_and_every_reply_that_was_paid_for(play):
    played = play(
        "outs = llm_query_batched(['a', 'b'])\nprint(outs[0])\nlabels = dict(enumerate(outs))\n"
        "ratio = 1 / 0",
        "submit([outs, labels[1], calls[-1].text])",
    )

    seen = played.shown[1]
    assert "reply to a\n" in seen
    assert "    ratio = 1 / 0\n" in seen
    assert "ZeroDivisionError: division by zero" in seen
    assert "[new or changed: outs: list[2], labels: dict[2]]" in seen
    assert "[the cell raised; what it had bound is kept]" in seen
    assert played.answer.value == [["reply to a", "reply to b"], "reply to b", "reply to b"]
    events = [record.event for record in RunFolder(played.answer.run).recording().records]
    assert [e.text for e in events if isinstance(e, ev.CallSettled)][1:3] == [
        "reply to a",
        "reply to b",
    ]


# 2. No failure as text


def test_2_a_failed_call_raises_with_its_reason_and_the_others_are_kept(play):
    def sub(prompt):
        if prompt == "bad":
            return ModelError("the provider would not", failure="refused", retryable=False)
        return f"reply to {prompt}"

    played = play(
        "outs = llm_query_batched(['good', 'bad'])",
        "submit([one.text for one in calls])",
        sub=sub,
    )

    assert "BatchFailed: 1 of 2 sub-calls failed" in played.shown[1]
    assert "the provider would not" in played.shown[1]
    assert played.answer.value == ["reply to good", None]


def test_2_an_empty_reply_is_asked_for_again_and_is_never_an_answer(play):
    replies = iter(["", "at last"])

    def sub(_prompt):
        if text := next(replies):
            return text
        return ModelError("empty", failure="empty_reply", retryable=True, retry_after_s=0.0)

    played = play("submit(llm_query('p'))", sub=sub)

    assert (played.answer.value, len(played.subs)) == ("at last", 2)


# 3. A typed map that owns classification


def fruit(prompt):
    """Label the numbered items of a call; of a stone no label is known."""
    items = re.findall(r"^(\d+)\. (.*)$", prompt, re.MULTILINE)
    known = {number: "fruit" if "apple" in item else "other" for number, item in items}
    return json.dumps({n: "mineral" if "stone" in i else known[n] for n, i in items})


def test_3_a_map_gives_values_aligned_with_its_items_and_names_what_it_could_not(play):
    played = play(
        "items = ['apple 1', 'pear', 'stone 7', 'apple 1']\n"
        "kinds = llm_map(items, 'What is it?', labels=['fruit', 'other'])\n"
        "print(kinds, kinds.unresolved)",
        "submit([list(kinds), kinds.errors[2].fault])",
        sub=fruit,
    )

    assert "\n['fruit', 'other', None, 'fruit'] [2]\n" in played.shown[1]
    assert (
        "\n[llm_map: 1 of 4 items have no value (None; positions in .unresolved, why in .errors), "
        "the first because: 'mineral' is none of the labels (asked 3 times)]\n"
    ) in played.shown[1]
    assert "kinds: Mapped[4]" in played.shown[1]
    assert played.answer.value == [["fruit", "other", None, "fruit"], "bad_shape"]


def test_3_a_map_packs_asks_for_the_missing_only_and_pays_equal_items_once(play):
    played = play(
        "kinds = llm_map(['pear', 'stone', 'pear', 'plum'], 'What?', labels=['fruit', 'other'])",
        "submit(llm_map(['plum', 'pear'], 'What?', labels=['fruit', 'other']))",
        sub=fruit,
    )

    asked = [re.findall(r"^\d+\. (.*)$", prompt, re.MULTILINE) for prompt in played.subs]
    assert asked == [["pear", "stone", "plum"], ["stone"], ["stone"]]
    assert played.answer.value == ["other", "other"]


def test_3_a_map_of_a_schema_gives_values_of_that_shape(play):
    played = play(
        "form = {'type': 'object', 'properties': {'n': {'type': 'integer'}}, 'required': ['n']}\n"
        "submit(llm_map(['one', 'two'], 'Which number?', schema=form))",
        sub=lambda _: '{"1": {"n": 1}, "2": {"n": 2}}',
    )

    assert played.answer.value == [{"n": 1}, {"n": 2}]


# 4. A preview in the first message


def test_4_the_first_message_tells_what_a_first_look_would(play):
    records = "".join(
        f"{n:04}|2024-01-{n % 28 + 1:02}|item {n * 7919 % 1000}\n" for n in range(400)
    )
    longest = "x" * 300
    played = play("submit(1)", context=f"first line\n{records}{longest}\nlast line\n")

    first = played.shown[0]
    assert first.startswith("What is asked?\n\n")
    for told in ("str", "403 lines", "300 characters", "| first line", "| last line"):
        assert told in first
    assert re.search(r"(?i)look like|like this|pattern", first)


def test_4_of_documents_it_tells_how_many_and_their_names(play):
    documents = {f"part/{n}.txt": f"text {n}\n" * n for n in range(1, 41)}
    played = play("submit(1)", context=documents)

    assert re.search(r"\b40 (documents|names|texts)\b", played.shown[0])
    for told in ("part/", "820 lines"):
        assert told in played.shown[0]


# 5. One-step submission


def test_5_a_cell_may_compute_and_submit_at_once_and_values_stay_typed(play):
    played = play("submit({'lines': len(context.splitlines()), 'both': [True, 1.5]})")

    assert played.answer.status == "answered"
    assert played.answer.value == {"lines": 100, "both": [True, 1.5]}


def test_5_what_was_submitted_is_echoed_with_size_head_and_tail(play):
    played = play(
        "submit('start ' + 'm' * 2000 + ' end', evidence=['not in it'])",
        "submit(1)",
    )

    assert "submitted: str, 2,010 characters: 'start mmm" in played.shown[1]
    assert " end'" in played.shown[1]
    assert "not in the context word for word: 'not in it'" in played.shown[1]


@pytest.mark.parametrize("empty", ["''", "None", "[]", "{}", "'  '"])
def test_5_an_empty_answer_is_refused(play, empty):
    played = play(f"submit({empty})", "submit('something')")

    assert "ValueError" in played.shown[1]
    assert played.answer.value == "something"


def test_5_a_cell_that_raises_does_not_submit(play):
    played = play("submit('early')\n1/0", "submit('late')")

    assert "only kept as a draft" in played.shown[1]
    assert played.answer.value == "late"


# 6. Honest limits


def test_6_one_line_says_what_is_left_and_what_a_sub_call_takes(play):
    played = play("x = 1", "submit(1)", window_tokens=32_000)

    first, second = (shown.splitlines()[-1] for shown in played.shown)
    assert re.fullmatch(
        r"\[turn 1 of 30 · left: 10,000 model calls, 20M tokens, 3,(600|599) s"
        r" · a cell may compute 15 s · sub-model: 32,000 tokens a call, batches run in parallel\]",
        first,
    )
    assert re.fullmatch(
        r"\[turn 2 of 30 · left: 9,998 model calls, [\d.]+M tokens, 3,\d+ s\]", second
    )


def test_6_the_end_is_announced_and_a_draft_is_the_answer_if_nothing_else_is(play):
    played = play(
        "answer['content'] = 'a draft'",
        "x = 1",
        "x = 2",
        "1/0",
        limits=Limits(max_turns=4),
    )

    assert "[2 more turns after this one: submit soon]" in played.shown[1]
    assert "[1 more turn after this one: submit soon]" in played.shown[2]
    assert "[LAST TURN (4 of 4): reply with one ```repl block that calls submit" in played.shown[3]
    assert (played.answer.status, played.answer.value) == ("partial", "a draft")


# 7. Nothing is ignored silently


@pytest.mark.parametrize(
    "reply",
    [
        "```python\nsubmit(7)\n```",
        "```\nsubmit(7)\n```",
        "I will now look.\n```repl\nsubmit(7)",
        "~~~py\nsubmit(7)\n~~~",
        '```repl\ntext = """\n```\nnot the end\n```\n"""\nsubmit(7)\n```',
    ],
)
def test_7_every_fence_runs_and_one_inside_a_string_does_not_cut(play, reply):
    assert play(reply).answer.value == 7


def test_7_what_was_dropped_is_told(play):
    played = play(
        "```repl\nx = 1\n```\nand then\n```repl\nsubmit(1)\n```", "prose ```", "submit(x)"
    )

    assert "[only the first block ran; 1 more block after it dropped]" in played.shown[1]
    assert "[nothing ran: reply with one ```repl block" in played.shown[2]


# 8. Errors with a line


def test_8_a_traceback_has_the_models_own_frames_and_their_lines_only(play):
    played = play(
        "import json\ndef read(text):\n    return json.loads(text)\nread('{')",
        "submit(1)",
    )

    seen = played.shown[1]
    assert "File \"<cell 1>\", line 4, in <module>\n    read('{')" in seen
    assert 'File "<cell 1>", line 3, in read\n    return json.loads(text)' in seen
    assert "JSONDecodeError: Expecting property name" in seen
    assert seen.count('File "') == 2


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("input('name? ')", "print what you need"),
        ("open('notes.txt')", "context"),
        ("import subprocess\nsubprocess.run(['ls'])", "do it in Python"),
    ],
)
def test_8_what_cannot_work_says_why(play, code, told):
    played = play(code, "submit(1)")

    assert told in played.shown[1]


def test_8_classes_eval_and_exit_behave(play):
    played = play(
        "class Row:\n    size = 3\nexec('kept = Row.size')\ntotal = eval('kept + 4')\n"
        "import sys; sys.exit()",
        "submit([total, Row().size])",
    )

    assert "exit ended this cell only" in played.shown[1]
    assert played.answer.value == [7, 3]


# 9. Plain Python


def test_9_later_globals_are_seen_and_a_bare_last_expression_is_shown(play):
    played = play("def f():\n    return later", "later = 41", "f() + 1", "submit(f())")

    assert re.match(r"<data \w+>\n42\n</data", played.shown[3])
    assert played.answer.value == 41


# 10. Cut output keeps head and tail


def test_10_cut_output_keeps_head_tail_and_error_and_the_whole_can_be_read(play):
    played = play(
        "print('HEAD')\nfor n in range(9_000): print('line', n)\nprint('TAIL')\n1/0",
        "submit([len(last_output) > 80_000, last_output.count('line')])",
    )

    seen = played.shown[1]
    assert len(seen) < 12_000
    assert "HEAD\nline 0\n" in seen
    assert "line 8999\nTAIL\n" in seen
    assert "ZeroDivisionError" in seen
    assert "last_output" in seen
    assert played.answer.value == [True, 9_000]


# 11. What changed


def test_11_new_and_changed_names_are_told_with_type_and_size(play):
    played = play(
        "labels = dict.fromkeys(range(188))\ndef clean(text): return text.strip()\n"
        "for i in range(3): pass",
        "labels[188] = None",
        "submit(1)",
    )

    assert "labels: dict[188]" in played.shown[1]
    assert "clean: function" in played.shown[1]
    assert "i: int" not in played.shown[1]
    assert "[new or changed: labels: dict[189]]" in played.shown[2]


# 12. A short prompt


def test_12_the_contract_is_short_and_help_is_there(play):
    played = play("help(llm_query)\nhelp(grep)\nhelp(llm_map)", "submit(1)")

    system = played.requests[0].messages[0].content
    assert len(system) < 2_500
    for name in (
        "context",
        "grep(",
        "llm_map(",
        "llm_query(",
        "rlm_query(",
        "submit(",
        "SHOW_VARS()",
    ):
        assert name in system
    assert "llm_query(prompt, text=None, *, model=None" in played.shown[1]
    assert "grep(pattern" in played.shown[1]
    assert "llm_map(items" in played.shown[1]
    assert "Judge many small items by one instruction" in played.shown[1]


# 13. The same question is paid once


def test_13_the_same_question_is_paid_once_unless_it_is_to_be_fresh(play):
    played = play(
        "a = llm_query('p')\nb = llm_query_batched(['p', 'q', 'p'])",
        "c = llm_query('p', fresh=True)\nd = llm_query('p', samples=3)\nsubmit(len(d))",
    )

    assert played.subs == ["p", "q"] + ["p"] * 4
    assert played.answer.value == 3


# 14. Finishing early


def test_14_the_first_cell_may_finish_once_it_has_read(play):
    played = play("submit(context.count('gamma'), evidence=grep('gamma')[:1])")

    assert (played.answer.status, played.answer.value) == ("answered", 50)
    assert [place.quote for place in played.answer.evidence] == ["gamma delta"]
    assert len(played.shown) == 1
