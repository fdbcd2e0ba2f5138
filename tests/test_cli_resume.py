"""Contract: ``abyme resume`` and ``abyme replay``, from the command line to the jail and back."""

import json
import os
from pathlib import Path

import pytest

from abyme import RLM, ModelError
from abyme.apps.cli import main
from abyme.core import events as ev
from abyme.journals.folder import RunFolder, list_runs
from abyme.testing import Fault, ScriptedEndpoint, ScriptedModel

LOOK = "```repl\nhits = grep('needle')\nprint(len(hits))\n```"
FAN = "```repl\ngot = llm_query_batched(['p', 'q'])\nprint(got)\n```"
CLOCK = "```repl\nimport time\nnow = time.time_ns()\nprint(now)\n```"
SUBMIT = "```repl\nsubmit(got, evidence=hits)\n```"


@pytest.fixture(autouse=True)
def runs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ABYME_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "runs"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.txt").write_text("hay\n")
    (folder / "b.txt").write_text("hay\nhay needle\n")
    return folder


class Abyme:
    """Runs a command in this process."""

    def __init__(self, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        self._capture = capsysbinary

    def __call__(self, *args: object) -> tuple[int, str, list[str]]:
        code = main.run([str(arg) for arg in args])
        out, err = self._capture.readouterr()
        return code, out.decode(), err.decode().splitlines()

    def asked(self, script: object, files: Path, *options: object) -> RunFolder:
        """A run of a question with this script."""
        with ScriptedEndpoint(script) as endpoint:
            at = ("--base-url", endpoint.url, "--model", "m", "--price", "1,2")
            self("ask", "where?", files, *at, *options)
        return list_runs(Path(os.environ["ABYME_HOME"]) / "runs")[0]

    def resumed(self, script: object, *options: object) -> tuple[int, str, list[str], int]:
        """`resume latest` with this script; the number of calls is the last."""
        with ScriptedEndpoint(script) as endpoint:
            ended = self("resume", "latest", "--base-url", endpoint.url, *options)
        return *ended, endpoint.calls


@pytest.fixture
def abyme(capsysbinary: pytest.CaptureFixture[bytes]) -> Abyme:
    return Abyme(capsysbinary)


def killed(run: RunFolder, before: type[ev.Event], number: int = 1) -> int:
    """Leave of a run what a kill before its so-manieth such record leaves; how many records."""
    records = run.recording().records
    cut = [r.seq for r in records if isinstance(r.event, before)][number - 1]
    lines = run.events_path.read_bytes().splitlines(keepends=True)
    run.events_path.write_bytes(b"".join(lines[:cut]))
    (run.path / "answer.json").unlink()
    return cut


def without_times(lines: list[str]) -> list[str]:
    return [line.partition("s] ")[2] if line.startswith("[") else line for line in lines]


# -- going on ------------------------------------------------------------------------


def test_a_killed_run_says_where_it_goes_on_and_what_it_has_spent_and_asks_only_what_is_missing(
    abyme, files
) -> None:
    run = abyme.asked([LOOK, FAN, "one", "two", SUBMIT], files)
    cut = killed(run, ev.CallSettled, 4)
    records = run.recording().records
    (lost,) = {
        r.event.call: r.event for r in records if isinstance(r.event, ev.CallReserved)
    }.keys() - {r.event.call for r in records if isinstance(r.event, ev.CallSettled)}
    worst = next(r.event.worst_usd_micro for r in records if getattr(r.event, "call", None) == lost)

    code, out, err, calls = abyme.resumed(["two", SUBMIT])

    (resumed,) = [r.event for r in run.recording().records if isinstance(r.event, ev.RunResumed)]
    assert (code, json.loads(out), calls) == (0, ["one", "two"], 2)
    assert resumed.carried.unknown_usd_micro == worst
    assert without_times(err)[0].startswith(f"resuming {run.id} after record {cut - 1}: $0.0")
    assert without_times(err)[0].endswith(
        f" spent, up to ${worst / 1e6:.4f} of it unknown (1 call was in flight)"
    )
    assert without_times(err)[1] == "root: REPL rebuilt from 1 cell"
    assert without_times(err)[2].startswith("root: cell 2: got = llm_query_batched")
    assert err[-2] == '  [1] b.txt:2  "hay needle"'
    assert err[-1].startswith("answered · 6 calls · ")
    assert f", up to ${worst / 1e6:.4f} of it unknown · " in err[-1]


def test_a_run_whose_key_was_refused_goes_on_by_the_line_that_it_ended_with(abyme, files) -> None:
    with ScriptedEndpoint([LOOK, Fault.unauthorized()]) as endpoint:
        at = ("--base-url", endpoint.url, "--model", "m")
        code, _, err = abyme("ask", "where?", files, *at)
    assert (code, err[-1].startswith("to go on: abyme resume ")) == (1, True)

    command = err[-1].removeprefix("to go on: abyme ").split()
    with ScriptedEndpoint(["```repl\nsubmit(len(hits))\n```"]) as endpoint:
        code, out, _ = abyme(*command, "--base-url", endpoint.url)

    assert (code, out, endpoint.calls) == (0, "1\n", 1)


def test_a_limit_that_was_met_must_be_raised_and_the_line_says_to_what(abyme, files) -> None:
    run = abyme.asked([LOOK, LOOK], files, "--max-turns", "2")

    code, _, err, calls = abyme.resumed([SUBMIT])
    assert (code, calls) == (2, 0)
    assert err[0] == (
        "abyme: the limits allow no further turn (max_turns: 2 turns used): raise that limit"
    )
    assert err[1].startswith("partial · 2 calls · ")
    assert err[2:] == [f"to go on: abyme resume {run.id} --max-turns 4"]

    code, out, err, _ = abyme.resumed(["```repl\nsubmit(len(hits))\n```"], "--max-turns", "4")
    assert (code, out) == (0, "1\n")
    assert err[0].startswith(f"resuming {run.id} after record ")
    assert err[0].endswith("from there on set aside")


def test_json_is_the_object_that_ask_gives(abyme, files) -> None:
    run = abyme.asked([LOOK, FAN, "one", "two", SUBMIT], files)
    killed(run, ev.CellStarted, 2)

    code, out, _, _ = abyme.resumed(["one", "two", SUBMIT], "--json")

    answer = json.loads(out)
    usage = answer.pop("usage")
    assert code == 0
    assert (answer["answer"], answer["status"], answer["run"]) == (
        ["one", "two"],
        "answered",
        str(run.path),
    )
    assert (usage["calls"], usage["unknown_calls"]) == (5, 0)
    assert usage["by_model"]["custom:m"]["calls"] == 5
    assert list(usage["by_depth"]) == ["0"]


@pytest.mark.parametrize("flags", [[], ["--quiet"]])
def test_a_cell_that_came_out_otherwise_is_named_with_quiet_too(abyme, files, flags) -> None:
    run = abyme.asked([CLOCK, "```repl\nsubmit(1)\n```"], files)
    killed(run, ev.CellStarted, 2)

    code, _, err, _ = abyme.resumed([], *flags)

    assert code == 0
    assert [line for line in err if "rebuilt:" in line] == [
        "REPL rebuilt: root, cell 1: its output differs (now)"
    ]


def test_with_a_schema_the_answer_is_json_in_ask_and_in_resume(abyme, files, tmp_path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "string"}')
    run = abyme.asked(["```repl\nsubmit('x')\n```"], files, "--schema", schema)
    assert run.recording().started.answer_schema == {"type": "string"}
    killed(run, ev.EvidenceChecked)

    code, out, _, _ = abyme.resumed([])

    assert (code, out) == (0, '"x"\n')


# -- what cannot be gone on with -----------------------------------------------------


def test_an_answered_run_gives_its_answer_again(abyme, files) -> None:
    abyme.asked(["```repl\nsubmit(1)\n```"], files)

    code, out, _err = abyme("resume", "latest")

    assert (code, out) == (0, "1\n")


def test_a_run_that_is_still_running_is_left_alone(abyme, files) -> None:
    run = abyme.asked([LOOK, Fault.unauthorized()], files)
    with run.open_journal():
        code, out, err = abyme("resume", run.id[-4:])

    assert (code, out, len(err)) == (2, "", 1)
    assert "another process" in err[0]


def test_changed_files_are_named_and_a_copy_is_taken(abyme, files, tmp_path) -> None:
    abyme.asked([LOOK, Fault.unauthorized()], files)
    copy = tmp_path / "copy"
    files.rename(copy)
    files.mkdir()
    for path in copy.iterdir():
        (files / path.name).write_bytes(path.read_bytes())
    (files / "b.txt").write_text("other\n")

    code, _, err, calls = abyme.resumed([SUBMIT])
    assert (code, calls) == (2, 0)
    assert "(changed: b.txt)" in err[0]
    assert "PATH...` takes a copy of it" in err[0]

    code, out, _, _ = abyme.resumed(["```repl\nsubmit(len(hits))\n```"], copy)
    assert (code, out) == (0, "1\n")


def test_a_model_that_was_a_python_object_is_said(abyme, runs_dir) -> None:
    refused = ModelError("no", failure="refused", retryable=False)
    with RLM(model=ScriptedModel([LOOK, refused]), runs_dir=runs_dir) as rlm:
        rlm.ask("where?", "hay needle")

    code, _, err = abyme("resume", "latest")

    assert code == 2
    assert "the run's model was a Python object" in err[0]


def test_who_wants_to_be_asked_must_be_there(abyme, files) -> None:
    abyme.asked([LOOK, Fault.unauthorized()], files)

    code, _, err, calls = abyme.resumed([SUBMIT], "--confirm-usd", "0.1")

    assert (code, calls) == (2, 0)
    assert err == [
        (
            "abyme: nobody can be asked: --confirm-usd needs a terminal for stdin and stderr "
            "(`--confirm-usd none` does without)"
        )
    ]


@pytest.mark.parametrize("command", ["resume", "replay"])
def test_a_run_that_is_not_there_is_the_callers_mistake(abyme, runs_dir, command) -> None:
    assert abyme(command, "zzz") == (
        2,
        "",
        [f"abyme: no run 'zzz' in {runs_dir}; `abyme runs` lists them"],
    )


# -- replay --------------------------------------------------------------------------


def test_a_run_that_comes_out_the_same_is_said_so(abyme, files) -> None:
    run = abyme.asked([LOOK, FAN, "one", "two", SUBMIT], files)
    before = run.events_path.read_bytes()

    records = len(before.splitlines())
    assert abyme("replay", "latest", "--quiet") == (
        0,
        f"same: {records} records, 3 cells of 1 node\n",
        [],
    )
    assert run.events_path.read_bytes() == before


def test_the_first_difference_is_named_and_all_of_them_if_asked(abyme, files) -> None:
    run = abyme.asked([CLOCK, CLOCK, "```repl\nsubmit(now)\n```"], files)
    ends = [r.seq for r in run.recording().records if isinstance(r.event, ev.CellFinished)]
    lines = [
        f"record {ends[0]}: root, cell 1: its output differs (now)",
        f"record {ends[1]}: root, cell 2: its output differs (now)",
    ]

    code, out, _ = abyme("replay", "latest")
    assert (code, out.splitlines()) == (
        1,
        ["differs: 2 of 3 cells of 1 node", lines[0], "and 1 more (--all lists them)"],
    )
    code, out, _ = abyme("replay", "latest", "--all")
    assert (code, out.splitlines()[1:]) == (1, lines)

    code, out, _ = abyme("replay", "latest", "--json")
    told = json.loads(out)
    assert (code, told["same"], told["cells"], told["diverged"]) == (1, False, 3, None)
    assert told["differences"][1] == {
        "record": ends[1],
        "node": "0",
        "cell": 2,
        "what": "its output differs",
        "names": ["now"],
    }


def test_a_journal_that_other_rules_have_made_is_not_run(abyme, files) -> None:
    run = abyme.asked([LOOK, SUBMIT], files)
    data = run.events_path.read_bytes()
    run.events_path.write_bytes(data.replace(b'"code":"hits', b'"code":"hats'))

    code, out, _ = abyme("replay", "latest")

    assert code == 1
    assert out.splitlines()[0].startswith("differs at record ")
    assert out.splitlines()[1] == "no cell was run"
