"""Contract: apps/attack. The table tells all that did not hold, within 80 columns, and a check
whose results are not whole is no good one.
"""

import io
import json
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from abyme.apps.attack import __main__ as command
from abyme.apps.attack import privileges, report, rounds
from abyme.apps.attack.privileges import PRIVILEGES, Start, by_name, can_be_tried, start_as
from abyme.apps.attack.rounds import Round, Told
from abyme.apps.cli.terminal import terminal
from abyme.guest.kernel import credentials
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
        ([made("held"), made(broken="it does not come up")], 1),
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


def test_on_linux_the_jail_must_have_run_whatever_else_held(monkeypatch):
    def play(tier, *_):
        one = made("held") if tier == "wasm" else made(unavailable="neither can be had")
        return replace(one, tier=tier)

    monkeypatch.setattr(command, "play", play)
    monkeypatch.setattr("sys.platform", "linux")
    done = CliRunner().invoke(command.command, [])

    assert done.exit_code == 1
    assert done.output.splitlines()[-1] == "no round ran in: jail"
    assert CliRunner().invoke(command.command, ["--tier", "wasm"]).exit_code == 0


@pytest.mark.parametrize(
    ("tier", "why", "broken"),
    [
        ("jail", "the jail did not come up: this layer is not on: seccomp", True),
        ("jail", "the jail's interpreter did not start: it said nothing", True),
        ("jail", "it is not installed (msgspec)", True),
        ("jail", "neither user namespaces nor Landlock can be had", False),
        ("jail", "no system call filter on this kernel and machine (i686)", False),
        ("wasm", "this layer is not on: landlock", True),
        ("wasm", "the wasm tier needs an extra: pip install 'abyme[wasm]'", False),
        ("wasm", "it is not installed (eryx)", False),
        ("container", "the engine did not start one", False),
    ],
)
def test_a_tier_that_does_not_come_up_is_broken_unless_the_host_lacks_it(
    monkeypatch, tmp_path, tier, why, broken
):
    said = tmp_path / "said"
    said.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps({'unavailable': why})}\nEND\n")
    said.chmod(0o755)
    monkeypatch.setattr(rounds, "start_as", lambda *_: Start(str(said)))
    one = rounds.play(tier, PRIVILEGES[0], "*", lambda _: None)

    assert (one.broken, one.unavailable) == (
        (f"it does not come up: {why}", "") if broken else ("", why)
    )
    assert one.holds is not broken


def test_a_broken_round_is_told_of_with_its_reason_and_counted():
    one = made(broken="it does not come up: not on: seccomp")
    stream = io.StringIO()
    report.summary([one, made("held"), made(unavailable="no engine")], terminal(stream, {}))

    assert shown(one).splitlines()[1:] == [
        "jail, root: root with all that it has",
        "  broken: it does not come up: not on: seccomp",
    ]
    assert stream.getvalue() == (
        "\n2 rounds (1 of them broken, 1 more not run): 1 held, 0 holes, 0 broken, 0 passed over\n"
    )


def test_an_ordinary_user_gets_an_interpreter_that_one_can_run_or_a_hint(monkeypatch, tmp_path):
    """The folders of this test's are open, up to the file system's root."""
    everybody = {"open", "python"}
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(privileges, "_open_to_all", lambda path: path.name in everybody)
    monkeypatch.setattr(privileges, "_pythons", lambda: iter(["/closed/other"]))
    user, is_open, closed = by_name("user"), tmp_path / "open", tmp_path / "closed"
    given = str(tmp_path / "python")

    assert start_as(user, [is_open]) == privileges.NO_PYTHON
    assert start_as(user, [closed]) == (
        f"an ordinary user cannot read {closed}: work from a folder that everybody may enter"
    )
    assert start_as(user, [is_open, closed], given) == Start(
        given, [is_open], credentials.UNUSED_ID
    )
    assert start_as(by_name("root"), [closed]) == Start(sys.executable, [closed])


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
