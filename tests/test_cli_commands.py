"""Contract: the commands that read: runs, show, models, and how failures are said."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs
from recorded_run import EVENTS, PLACE, RECORDS

from abyme.apps.cli import failures, main, options
from abyme.contexts.kept import keep
from abyme.contexts.sealed import from_value
from abyme.core import events as ev
from abyme.core.limits import Limits
from abyme.errors import ContextError, JournalError
from abyme.journals import folder, prune
from abyme.journals.folder import Outcome, RunFolder, RunSpec, RunUsage

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def recorded(runs_dir: Path, second: int = 0, *, ended: bool = True) -> RunFolder:
    run = folder.create(runs_dir, now=NOON.replace(second=second))
    run.write_spec(
        RunSpec(
            question="how many?\x1b[31m",
            model="openai:m",
            sub_model="openai:m",
            limits=Limits(),
            started_at="2026-11-22T12:00:00+00:00",
        )
    )
    with run.open_journal() as journal:
        for record in RECORDS if ended else RECORDS[:-3]:
            journal.append(record)
    if ended:
        usage = RunUsage(
            calls=6, prompt_tokens=400, completion_tokens=40, cost_usd=0.00118, wall_s=3.5
        )
        run.write_answer(Outcome(status="answered", value="two", evidence=[PLACE], usage=usage))
    return run


def abyme(capsysbinary: pytest.CaptureFixture[bytes], *args: str | Path) -> tuple[int, str, str]:
    code = main.run([str(arg) for arg in args])
    out, err = capsysbinary.readouterr()
    return code, out.decode(), err.decode()


def test_runs_are_listed_newest_first_with_status_and_cost(runs_dir, capsysbinary) -> None:
    done, cut = recorded(runs_dir, 1), recorded(runs_dir, 2, ended=False)

    code, out, err = abyme(capsysbinary, "runs", "--runs-dir", runs_dir)

    question = "how many?\\x1b[31m"
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{cut.id}  interrupted    $0.0012  2026-11-22 12:00  {question}",
        f"{done.id}  answered       $0.0012  2026-11-22 12:00  {question}",
        "2 runs · 12 calls · 800 + 80 tokens · $0.0024 · 6.5 s",
    ]


def test_runs_as_json_are_one_object(runs_dir, capsysbinary) -> None:
    done = recorded(runs_dir)

    code, out, _ = abyme(capsysbinary, "runs", "--runs-dir", runs_dir, "--json")

    assert code == 0
    used = {"calls": 6, "prompt_tokens": 400, "completion_tokens": 40}
    used |= {"cost_usd": 0.00118, "in_flight_usd": 0.0, "wall_s": 3.5}
    assert json.loads(out) == {
        "runs": [
            {
                "id": done.id,
                "run": str(done.path),
                "status": "answered",
                "question": "how many?\x1b[31m",
                "model": "openai:m",
                "sub_model": "openai:m",
                "started_at": "2026-11-22T12:00:00+00:00",
                **used,
            }
        ],
        "total": {"runs": 1, "unknown_costs": 0, **used},
    }


def test_one_damaged_run_harms_no_other(runs_dir, capsysbinary) -> None:
    recorded(runs_dir, 1)
    (recorded(runs_dir, 2).path / "run.json").write_bytes(b"{")

    code, out, _ = abyme(capsysbinary, "runs", "--runs-dir", runs_dir)

    assert code == 0
    *lines, total = out.splitlines()
    assert [line.split()[1] for line in lines] == ["damaged", "answered"]
    assert total == (
        "2 runs · 6 calls · 400 + 40 tokens · $0.0012, and 1 run of unknown cost · 3.5 s"
    )


def test_what_was_in_flight_when_a_run_was_killed_is_counted_apart(runs_dir, capsysbinary) -> None:
    """Nobody knows whether it was billed; 700 millionths at worst, each."""
    run = recorded(runs_dir, ended=False)
    cut = next(n for n, record in enumerate(RECORDS) if isinstance(record.event, ev.CallFailed))
    lines = run.events_path.read_bytes().splitlines(keepends=True)
    run.events_path.write_bytes(b"".join(lines[:cut]))

    _, out, _ = abyme(capsysbinary, "runs", "--runs-dir", runs_dir, "--json")
    _, text, _ = abyme(capsysbinary, "runs", "--runs-dir", runs_dir)

    total = json.loads(out)["total"]
    assert (total["cost_usd"], total["in_flight_usd"]) == (0.00012, 0.0014)
    last = "1 run · 3 calls · 100 + 10 tokens · $0.0001, and up to $0.0014 in flight · 1.1 s"
    assert text.splitlines()[-1] == last


def test_an_interrupted_run_whose_journal_is_damaged_has_an_unknown_cost(
    runs_dir, capsysbinary
) -> None:
    recorded(runs_dir, ended=False).events_path.write_bytes(b"{}\n")

    code, out, _ = abyme(capsysbinary, "runs", "--runs-dir", runs_dir, "--json")

    shown = json.loads(out)
    assert (code, shown["runs"][0]["status"], shown["runs"][0]["cost_usd"]) == (
        0,
        "interrupted",
        None,
    )
    assert shown["total"]["unknown_costs"] == 1


def ids(out: str) -> list[str]:
    return [run["id"] for run in json.loads(out)["runs"]]


FILTERS = [
    ([], "3 2 1 0"),
    (["--limit", "2"], "3 2"),
    (["--status", "answered"], "1 0"),
    (["--status", "interrupted,damaged"], "3 2"),
    (["--status", "answered", "--limit", "1"], "1"),
    (["--model", "nai:m"], "2 1 0"),
    (["--model", "gpt"], ""),
    (["--since", "2026-11-22T12:00:01"], "3 2 1"),
    (["--since", "2026-11-22T14:00:02+02:00"], "3 2"),
    (["--grep", "HOW"], "2 1 0"),
    (["--grep", "how", "--since", "2026-11-22", "--status", "interrupted"], "2"),
]


@pytest.mark.parametrize(("chosen_by", "seconds"), FILTERS)
def test_runs_are_chosen_by_status_model_age_and_question(
    chosen_by, seconds, runs_dir, capsysbinary
) -> None:
    runs = [recorded(runs_dir, second, ended=second < 2) for second in range(4)]
    (runs[3].path / "run.json").write_bytes(b"{")

    code, out, _ = abyme(capsysbinary, "runs", "--runs-dir", runs_dir, "--json", *chosen_by)

    chosen = [runs[int(second)] for second in seconds.split()]
    assert (code, ids(out)) == (0, [run.id for run in chosen])
    assert json.loads(out)["total"]["runs"] == len(chosen)


def test_a_run_that_goes_on_is_running_whatever_its_old_answer_says(runs_dir, capsysbinary) -> None:
    with recorded(runs_dir).open_journal():
        _, out, _ = abyme(capsysbinary, "runs", "--runs-dir", runs_dir, "--json")

    assert [run["status"] for run in json.loads(out)["runs"]] == ["running"]


def test_no_run_like_that_is_said(runs_dir, capsysbinary) -> None:
    assert abyme(capsysbinary, "runs", "--runs-dir", runs_dir)[1] == f"no runs in {runs_dir} yet\n"
    _, out, _ = abyme(capsysbinary, "runs", "--runs-dir", runs_dir, "--grep", "x")
    assert out == f"no runs in {runs_dir} like that\n"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90m", "2026-11-22T10:30:00+00:00"),
        ("12h", "2026-11-22T00:00:00+00:00"),
        ("2d", "2026-11-20T12:00:00+00:00"),
        ("4w", "2026-10-25T12:00:00+00:00"),
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01T02:00:00+02:00", "2026-11-01T02:00:00+02:00"),
    ],
)
def test_an_age_or_a_date_is_a_moment(text, at) -> None:
    assert options.moment(text, NOON).isoformat() == at


def test_prune_says_what_it_would_do_and_does_nothing(runs_dir, capsysbinary) -> None:
    runs = [recorded(runs_dir, second) for second in range(3)]
    size = sum(file.stat().st_size for file in runs[0].path.iterdir())

    args = ("runs", "prune", "--runs-dir", runs_dir, "--keep", "2")
    code, out, err = abyme(capsysbinary, *args)

    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{runs[0].id}  answered     {size / 1000:>6.1f} kB  how many?\\x1b[31m",
        f"would remove 1 run ({size / 1000:.1f} kB); --yes does it",
    ]
    assert folder.list_runs(runs_dir) == runs[::-1]


PRUNED = [
    (["--keep", "0"], "1 2"),
    (["--keep", "2"], "1"),
    (["--keep", "3"], ""),
    (["--status", "answered"], "1"),
    (["--status", "interrupted"], "2"),
    (["--older-than", "2026-11-22T12:00:02"], "1"),
    (["--older-than", "2026-11-23", "--status", "answered,partial", "--keep", "1"], "1"),
    (["--older-than", "2026-11-22"], ""),
]


@pytest.mark.parametrize(("chosen_by", "gone"), PRUNED)
def test_prune_removes_what_all_options_fit_and_no_running_or_damaged_run(
    chosen_by, gone, runs_dir, capsysbinary
) -> None:
    damaged, *runs = [recorded(runs_dir, second, ended=second != 2) for second in range(4)]
    (damaged.path / "run.json").write_bytes(b"{")

    with runs[2].open_journal():
        args = ("runs", "prune", "--runs-dir", runs_dir, "--yes", "--json", *chosen_by)
        code, out, _ = abyme(capsysbinary, *args)

    removed = [runs[int(second) - 1] for second in gone.split()]
    assert (code, ids(out)) == (0, [run.id for run in removed[::-1]])
    assert json.loads(out)["damaged"] == [damaged.id]
    stay = [run for run in (damaged, *runs) if run not in removed]
    assert folder.list_runs(runs_dir) == stay[::-1]
    assert {path.name for path in runs_dir.iterdir()} == {run.id for run in stay}


def test_a_damaged_run_is_removed_by_its_name(runs_dir, capsysbinary) -> None:
    damaged, other = recorded(runs_dir, 1), recorded(runs_dir, 2)
    (damaged.path / "run.json").write_bytes(b"{")

    args = ("runs", "prune", "--runs-dir", runs_dir, "--yes")
    _, out, _ = abyme(capsysbinary, *args, "--status", "damaged")
    assert out == (
        "removed 0 runs (0 B)\n"
        "1 damaged run stays, and kept contexts with it; name one to remove it: "
        f"{damaged.id}\n"
    )
    code, _, _ = abyme(capsysbinary, *args, damaged.id)

    assert (code, folder.list_runs(runs_dir)) == (0, [other])


def named_context(run: RunFolder, text: str) -> str:
    context = from_value(text)
    key = keep(context, folder.contexts_dir(run.path.parent))
    context.close()
    run.write_spec(structs.replace(run.spec(), context_key=key, kept=True))
    return key


def test_a_kept_context_goes_with_the_last_run_that_names_it(runs_dir, capsysbinary) -> None:
    first, second, third = [recorded(runs_dir, second) for second in range(3)]
    shared, _ = (named_context(run, "shared") for run in (first, second))
    own = named_context(third, "own")
    contexts = folder.contexts_dir(runs_dir)

    def pruned(run: RunFolder) -> list[str]:
        args = ("runs", "prune", "--runs-dir", runs_dir, "--json", run.id)
        _, planned, _ = abyme(capsysbinary, *args)
        _, done, _ = abyme(capsysbinary, *args, "--yes")
        assert json.loads(done) == json.loads(planned) | {"removed": True}
        return [Path(one["path"]).name for one in json.loads(done)["contexts"]]

    assert pruned(first) == []
    assert pruned(second) == [shared]
    assert [path.name for path in contexts.iterdir() if path.is_dir()] == [own]


def test_contexts_stay_while_nobody_knows_what_a_damaged_run_needs(runs_dir, capsysbinary) -> None:
    damaged, done = recorded(runs_dir, 1), recorded(runs_dir, 2)
    key = named_context(damaged, "needed")
    (damaged.path / "run.json").write_bytes(b"{")

    args = ("runs", "prune", "--runs-dir", runs_dir, "--yes", "--json", done.id)
    _, out, _ = abyme(capsysbinary, *args)

    assert (ids(out), json.loads(out)["contexts"]) == ([done.id], [])
    assert (folder.contexts_dir(runs_dir) / key).is_dir()


def test_what_a_ctrl_c_left_half_removed_goes_the_next_time(
    runs_dir, capsysbinary, monkeypatch
) -> None:
    """The run is out of the list at once; a half deleted one is never shown as damaged."""
    run, other = recorded(runs_dir, 1), recorded(runs_dir, 2)

    def interrupted(path: Path, **_: object) -> None:
        (path / "run.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    args = ("runs", "prune", "--runs-dir", runs_dir, "--yes")
    code, _, _ = abyme(capsysbinary, *args, run.id)
    monkeypatch.undo()
    assert (code, folder.list_runs(runs_dir)) == (130, [other])

    assert abyme(capsysbinary, *args, "--keep", "1")[1] == "removed 0 runs (0 B)\n"
    assert [path.name for path in runs_dir.iterdir()] == [other.id]


def test_a_run_that_began_meanwhile_is_not_removed(runs_dir) -> None:
    """Between the list and the removal somebody resumed it: the lock decides."""
    run = recorded(runs_dir)
    with run.open_journal(), pytest.raises(JournalError, match=rf"^{run.id} is running$"):
        prune.remove(run)

    assert folder.list_runs(runs_dir) == [run]


def test_what_cannot_be_removed_is_said_and_the_others_go(
    runs_dir, capsysbinary, monkeypatch
) -> None:
    first, second = recorded(runs_dir, 1), recorded(runs_dir, 2)
    real = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path == second.path:
            raise PermissionError(13, "Permission denied")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    args = ("runs", "prune", "--runs-dir", runs_dir, "--yes", "--json", "--keep", "0")
    code, out, err = abyme(capsysbinary, *args)

    why = f"cannot remove {second.path}: Permission denied"
    assert (code, err) == (1, f"abyme: {why}\n")
    assert (ids(out), json.loads(out)["failed"]) == ([first.id], [why])


def test_of_a_link_only_the_link_is_removed(tmp_path, runs_dir, capsysbinary) -> None:
    elsewhere = recorded(tmp_path / "elsewhere")
    runs_dir.mkdir()
    (runs_dir / elsewhere.id).symlink_to(elsewhere.path)

    abyme(capsysbinary, "runs", "prune", "--runs-dir", runs_dir, "--yes", "--keep", "0")

    assert (folder.list_runs(runs_dir), elsewhere.answer() is None) == ([], False)


def test_show_prints_the_tree_the_cells_and_the_answer(runs_dir, capsysbinary) -> None:
    run = recorded(runs_dir)

    code, out, err = abyme(capsysbinary, "show", "latest", "--runs-dir", runs_dir)

    counters = "2 sub-calls: 1 done, 1 failed, 1 child"
    bad = "\\x1b]0;owned\\x07\\x1b[31mred\\u202e"
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{run.id}  2026-11-22T20:54:30+00:00",
        f"question  how many? {bad}",
        "model     openai:m",
        "context   2 documents, 1,234 characters",
        "",
        f"root  turn 2 of 5  how many? {bad}",
        f"├ 1 labels = llm_query_batched(parts)  ValueError  {counters} · 1.0 s",
        "│   0.0  turn 1 of 5  deeper?",
        "│   └ 1 submit(4)  submitted  0.1 s",
        "└ 2 submit(labels)  submitted  0.5 s",
        "",
        "── root, cell 1  ValueError",
        "  # look",
        "  import re",
        "  labels = llm_query_batched(parts)",
        "  rlm_query('deeper?', parts[0])",
        "▸ 2 sub-calls: 1 done, 1 failed, 1 child · $0.0008",
        f"  2  two {bad}",
        f"  3  timed_out: {bad}",
        f"│ out {bad}",
        "│ Traceback ...",
        f"│ ValueError: {bad}",
        "│ note: kept: labels",
        "",
        "── root, cell 2  submitted",
        "  submit(labels)",
        "",
        "── 0.0, cell 1  submitted",
        "  submit(4)",
        f'│ [1] a\\udcff.py:7  "def x(): {bad}"',
        "",
        "answered",
        f"two {bad}",
        f'  [1] a\\udcff.py:7  "def x(): {bad}"',
        "depth 0: 5 calls · 300 + 30 tokens · $0.0011",
        "depth 1: 1 call · 100 + 10 tokens · $0.0001",
        "6 calls · 2 failed · 400 + 40 tokens · $0.0012, up to $0.0007 of it unknown · 3.5 s",
    ]


def test_show_as_json_holds_every_record(runs_dir, capsysbinary) -> None:
    run = recorded(runs_dir)

    code, out, _ = abyme(capsysbinary, "show", run.id[-4:], "--runs-dir", runs_dir, "--json")

    shown = json.loads(out)
    assert code == 0
    assert [r["event"]["kind"] for r in shown["records"]] == [
        event.__struct_config__.tag for _, _, event in EVENTS
    ]
    del shown["records"]
    usage = shown.pop("usage")
    assert usage["unknown_usd"] == 0.0007
    assert usage["by_depth"]["1"]["prompt_tokens"] == 100
    assert [(c["node"], c["cell"], c["cost_usd"]) for c in usage["by_cell"]] == [
        ("0", None, 0.00024),
        ("0", 1, 0.00082),
        ("0.0", None, 0.00012),
    ]
    assert shown == {"run": str(run.path), "status": "answered", "torn_bytes": 0}


def test_show_says_that_a_run_was_cut_off_and_its_record_torn(runs_dir, capsysbinary) -> None:
    run = recorded(runs_dir, ended=False)
    with run.events_path.open("ab") as file:
        file.write(b'{"seq":')

    code, out, _ = abyme(capsysbinary, "show", "latest", "--runs-dir", runs_dir)

    assert code == 0
    assert [line for line in out.splitlines()[-5:-1] if "depth" not in line] == [
        "the last record is torn (7 bytes) and left out",
        "interrupted: it did not end",
    ]


def test_a_run_that_is_not_there_is_the_callers_mistake(runs_dir, capsysbinary) -> None:
    code, out, err = abyme(capsysbinary, "show", "zzz", "--runs-dir", runs_dir)

    assert (code, out) == (2, "")
    assert err == f"abyme: no run 'zzz' in {runs_dir}; `abyme runs` lists them\n"


def test_models_never_print_a_key(runs_dir, capsysbinary, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("ABYME_HOME", str(runs_dir))

    for args in (["models"], ["models", "--json"]):
        code, out, err = abyme(capsysbinary, *args)
        assert code == 0
        assert "openai" in out
        assert "sk-canary" not in out + err


MISTAKES = [
    (["ask"], "Missing argument 'QUESTION'; see `abyme ask --help`"),
    (["ask", "q"], "no PATH is given: name a file or a folder, or - to read stdin"),
    (["ask", " ", "x"], "the question is empty: say what you want to know of the paths"),
    (["ask", "q", "x", "--max-usd", "much"], "'much' is neither a number nor `none`"),
    (["ask", "q", "x", "--max-usd", "-1"], "'-1' is out of range: 0 or more, or `none`"),
    (["ask", "q", "x", "--max-usd", "nan"], "'nan' is neither a number nor `none`"),
    (["ask", "q", "x", "--depth", "-1"], "-1 is not in the range x>=0"),
    (["ask", "q", "x", "--model", "nobody:m"], "unknown provider 'nobody'"),
    (["ask", "q", "x", "--model", "openai:m"], "set OPENAI_API_KEY (or ABYME_API_KEY)"),
    (["sing"], "No such command 'sing'"),
    (["runs", "sing"], "No such command 'sing'"),
    (["runs", "--status", "won"], "'won' is none of answered, partial, failed, stopped, running"),
    (["runs", "--since", "soon"], "'soon' is neither an age (90m, 12h, 30d, 4w) nor a date"),
    (["runs", "--since", "999999999w"], "'999999999w' is neither an age"),
    (["runs", "--limit", "1", "prune", "--keep", "1"], "options go behind `prune`"),
    (["runs", "prune"], "say which runs: by name, or by --older-than, --keep and --status"),
    (["runs", "prune", "x", "--keep", "1"], "--keep and --status, not both"),
    (["runs", "prune", "x", "--runs-dir", "."], "no run 'x' in .; `abyme runs` lists them"),
]


@pytest.mark.parametrize(("args", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_2(args, sentence, capsysbinary, monkeypatch) -> None:
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)

    code, out, err = abyme(capsysbinary, *args)

    assert (code, out) == (2, "")
    assert err.startswith("abyme: ")
    assert sentence in err
    assert err.count("\n") == 1


NOTHING_USED = {
    **dict.fromkeys(("calls", "failed", "unknown_calls", "estimated_calls"), 0),
    **dict.fromkeys(("prompt_tokens", "completion_tokens"), 0),
    **dict.fromkeys(("cached_tokens", "reasoning_tokens"), 0),
    **dict.fromkeys(("cost_usd", "overrun_usd", "unknown_usd", "wall_s"), 0.0),
    "by_model": {},
    "by_cell": [],
    "by_depth": {},
}


def test_with_json_a_mistake_is_an_object_on_stdout_too(capsysbinary) -> None:
    code, out, err = abyme(capsysbinary, "ask", " ", "x", "--json")

    sentence = "the question is empty: say what you want to know of the paths"
    assert (code, err) == (2, f"abyme: {sentence}\n")
    assert json.loads(out) == {
        "answer": None,
        "status": "failed",
        "evidence": [],
        "usage": NOTHING_USED,
        "run": None,
        "error": sentence,
    }


def test_a_question_called_json_is_not_an_option(capsysbinary) -> None:
    code, out, _ = abyme(capsysbinary, "ask", "--", "--json")

    assert (code, out) == (2, "")


@pytest.mark.parametrize(
    ("error", "code", "start"),
    [
        (ContextError("nothing to read\x1b[2J"), 2, "abyme: nothing to read\\x1b[2J\n"),
        (JournalError("disk full"), 1, "abyme: disk full\n"),
        (KeyboardInterrupt(), 130, "abyme: stopped\n"),
        (OSError(28, "No space left on device"), 1, "abyme: No space left on device\n"),
        (PermissionError(13, "Permission denied", "x"), 1, "abyme: Permission denied: x\n"),
        (
            ZeroDivisionError("x"),
            1,
            "abyme: a bug in abyme, please report it: ZeroDivisionError: x",
        ),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(error, code, start, capsysbinary) -> None:
    assert failures.report(error, []) == code
    out, err = capsysbinary.readouterr()
    assert out == b""
    assert err.decode().startswith(start)


def test_every_status_has_an_exit_code() -> None:
    statuses = ev.RunFinished.__annotations__["status"].__args__
    assert {status: failures.OF_STATUS[status] for status in statuses} == {
        "answered": 0,
        "partial": 3,
        "failed": 1,
        "stopped": 130,
    }


def test_help_names_every_command_and_option_group(capsysbinary) -> None:
    code, out, _ = abyme(capsysbinary, "--help")

    assert code == 0
    listed = [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line]
    assert listed == [
        "ask",
        "cache",
        "context",
        "doctor",
        "models",
        "replay",
        "resume",
        "runs",
        "show",
    ]


def test_a_closed_pipe_ends_quietly() -> None:
    """``abyme --help | true``."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "abyme", "--help"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    os.close(write_end)

    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("command", [["runs"], ["show", "latest", "--json"], ["--help"]])
def test_an_output_that_cannot_be_written_is_named(tmp_path, command) -> None:
    recorded(tmp_path / "runs")
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "ABYME_HOME": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "abyme", *command],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, **env},
    )

    said = "abyme: standard output cannot be written (Bad file descriptor)\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_one_document_is_one(runs_dir, capsysbinary) -> None:
    run = recorded(runs_dir)
    data = run.events_path.read_bytes()
    run.events_path.write_bytes(data.replace(b'"context_documents":2', b'"context_documents":1'))

    _, out, _ = abyme(capsysbinary, "show", "latest", "--runs-dir", runs_dir)

    assert "context   1 document, 1,234 characters" in out.splitlines()


def test_the_command_takes_all_descriptors_that_it_may_have(monkeypatch) -> None:
    wanted = []
    monkeypatch.setattr(main.resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(main.resource, "setrlimit", lambda what, pair: wanted.append((what, pair)))
    monkeypatch.setattr(main.sys, "argv", ["abyme", "--version"])

    with pytest.raises(SystemExit):
        main.main()

    assert wanted == [(main.resource.RLIMIT_NOFILE, (4096, 4096))]


def test_help_names_the_defaults_of_the_limits(capsysbinary) -> None:
    _, out, _ = abyme(capsysbinary, "ask", "--help")

    limits = Limits()
    words = " ".join(out.split())
    for value in (limits.max_usd, f"{limits.max_calls:,}", limits.depth, limits.max_turns):
        assert f"{value} if not given" in words
    assert f"{limits.timeout_s:g} if not given" in words
