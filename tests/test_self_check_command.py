"""Contract: apps/attack. The table tells all that did not hold, within 80 columns, and a check
whose results are not whole is no good one.
"""

import io
import json

import pytest
from click.testing import CliRunner

from abyme.apps.attack import __main__ as command
from abyme.apps.attack import report, rounds
from abyme.apps.attack.privileges import PRIVILEGES, Start, can_be_tried
from abyme.apps.attack.rounds import Round, Told
from abyme.apps.cli.terminal import terminal
from abyme.sandboxes.self_check.behaviour import Behaviour
from abyme.sandboxes.self_check.entries import ENTRIES

ENTRY = Behaviour(id="file.read", sentence="It cannot be read.", source="open(2)", cells=("",))


def made(*outcomes, **fields):
    results = [Told("file.read", one, "seen " * 30 + "\x1b[31m", 0.1) for one in outcomes]
    return Round("jail", "root", "root with all that it has", results, "3.11.7", ["one"], **fields)


def shown(one):
    stream = io.StringIO()
    report.show(one, {"file.read": ENTRY}, terminal(stream, {}))
    return stream.getvalue()


def test_a_class_is_a_row_and_a_hole_is_told_with_its_sentence_and_source():
    lines = shown(made("held", "held", "hole")).splitlines()

    assert "  file                     2           1           0            0" in lines
    assert "  all                      2           1           0            0" in lines
    assert lines.count("  hole  file.read") == 1
    assert "    It cannot be read. [open(2)] Seen: seen seen" in "\n".join(lines)


def test_it_fits_80_columns_and_what_a_cell_said_cannot_reach_the_terminal():
    text = shown(made("hole", "broken", "passed_over", broken="status 1: \x1b[31m" + "x" * 200))

    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text


def test_only_a_whole_round_without_hole_or_broken_entry_is_good():
    assert made("held", "passed_over").holds
    assert not made("held", "hole").holds
    assert not made("held", "broken").holds
    assert not made("held", broken="the round ended before its end").holds


@pytest.mark.parametrize(
    ("rounds_made", "code"),
    [
        ([made("held")], 0),
        ([made("held", "hole")], 1),
        ([made("broken")], 1),
        ([made("held", broken="it died")], 1),
        ([made(unavailable="not installed")], 1),
        ([made("held"), made(unavailable="not installed")], 1),
    ],
)
def test_the_exit_code_is_0_only_if_all_that_was_asked_for_ran_and_held(
    monkeypatch, rounds_made, code
):
    left = list(rounds_made)
    monkeypatch.setattr(command, "play", lambda *_: left.pop(0))
    asked = [word for one in PRIVILEGES[: len(left)] for word in ("--privilege", one.name)]
    done = CliRunner().invoke(command.command, ["--tier", "jail", "--json", *asked])

    assert done.exit_code == code
    assert [one["holds"] for one in json.loads(done.stdout)["rounds"]] == [
        one.holds for one in rounds_made
    ]


def test_a_tier_that_nobody_asked_for_may_be_missing(monkeypatch):
    def play(tier, *_):
        return made("held") if tier == "jail" else made(unavailable="not installed")

    monkeypatch.setattr(command, "play", play)

    assert CliRunner().invoke(command.command, []).exit_code == 0


def test_the_list_names_every_entry_and_a_glob_that_fits_none_is_told_of():
    every = CliRunner().invoke(command.command, ["--list"]).output
    none = CliRunner().invoke(command.command, ["--only", "nothing.*"])

    assert [line.split()[0] for line in every.splitlines()] == [entry.id for entry in ENTRIES]
    assert none.exit_code == 2
    assert "no entry fits nothing.*" in none.output


def test_a_child_that_dies_makes_a_broken_round(monkeypatch):
    program = Start("/bin/false")
    monkeypatch.setattr(rounds, "start_as", lambda *_: program)
    one = rounds.play("jail", PRIVILEGES[0], "python.echo", lambda _: None)

    assert one.broken == "the round ended before its end (status 1): "
    assert not one.holds


def test_whoever_is_not_root_can_try_what_an_ordinary_user_is(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1001)

    assert [one.name for one in PRIVILEGES if can_be_tried(one)] == [
        "as-started", "user", "no-userns", "no-landlock",
    ]  # fmt: skip
