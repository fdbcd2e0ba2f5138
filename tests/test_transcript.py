"""Contract: what the root model is shown after a cell."""

from abyme.core import events as ev
from abyme.core.effects import Budget
from abyme.core.transcript import Transcript, status_line
from abyme.run import profiles

BUDGET = Budget(usd=1.5, calls=9, tokens=1000, seconds=59.6, turns=3, depth=2)


def shown(**finished):
    values = {"cell": 1, "output": "", "ended": "clean"} | finished
    transcript = Transcript(profiles.load("strong"), seed=1, node="0")
    transcript.question("Q?", "preview", "[status]")
    transcript.reply("```repl\nx\n```", turn=1, code="x\n")
    transcript.cell(ev.CellFinished(**values), notes=[], status="[status]")
    return transcript.messages[-1].content


def test_a_cell_that_prints_nothing_is_told_to_print():
    assert "(no output: use print)" in shown()


def test_an_error_stands_after_the_output_and_what_is_kept_is_named():
    content = shown(
        output="half\n",
        error='  File "<cell 1>", line 2\n    1/0\nZeroDivisionError: division by zero',
        ended="raised",
        changed=[ev.Name(name="labels", type="dict", size=188)],
    )

    assert content.index("half") < content.index("1/0") < content.index("ZeroDivisionError")
    assert "[the cell raised; what it had bound is kept]" in content
    assert "[new or changed: labels: dict[188]]" in content


def test_an_error_is_never_cut():
    content = shown(output="H" * 9000, error="E" * 3000, ended="raised")

    assert "H" * 9000 in content
    assert "E" * 3000 in content


def test_a_value_that_looks_like_a_slot_is_left_alone():
    assert "{status} {nonce}" in shown(output="{status} {nonce}")


def test_a_prefix_never_changes():
    transcript = Transcript(profiles.load("strong"), seed=1, node="0")
    transcript.question("Q?", "preview", "[status]")
    before = transcript.messages
    transcript.reply("```repl\nx\n```", turn=1, code="x\n")
    transcript.cell(ev.CellFinished(cell=1, output="1", ended="clean"), notes=[], status="")

    assert transcript.messages[: len(before)] == before


def test_the_status_line_says_what_is_left():
    line = status_line(
        BUDGET, turn=1, max_turns=30, sub=ev.ModelFacts(name="m", price=None, window_tokens=8192)
    )

    assert line == (
        "[turn 1 of 30 · left: $1.50, 9 calls, 1,000 tokens, 60 s"
        " · sub-model: 8,192 tokens a call, batches run in parallel]"
    )


def test_a_switched_off_ceiling_is_not_spoken_of():
    budget = Budget(usd=None, calls=None, tokens=None, seconds=None, turns=3, depth=0)
    line = status_line(budget, turn=1, max_turns=30, sub=ev.ModelFacts(name="m", price=None))

    assert line == "[turn 1 of 30]"
