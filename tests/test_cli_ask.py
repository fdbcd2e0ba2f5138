"""Contract: ``abyme ask`` from the command line to the jail, against a scripted endpoint."""

import io
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from msgspec import structs
from recorded_run import RECORDS

from abyme.apps.cli import failures, main
from abyme.apps.cli.going_on import how_to_go_on
from abyme.apps.cli.progress import Silent
from abyme.apps.cli.terminal import err
from abyme.apps.cli.watching import Watched, says_how_to_go_on
from abyme.core.limits import Limits
from abyme.errors import JournalError
from abyme.journals import folder
from abyme.journals.folder import RunFolder, RunSpec
from abyme.journals.writer import JournalWriter
from abyme.testing import Fault, ScriptedEndpoint

KEY = "sk-canary-0123456789"
LOOK = "```repl\nhits = grep('needle')\nprint(len(hits))\n```"
SUBMIT = "```repl\nsubmit(f'{len(hits)} in {hits[0].name}', evidence=hits)\n```"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ABYME_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.txt").write_text("hay\n")
    (folder / "b.txt").write_text("hay\nhay needle \x1b]0;owned\x07\n")
    (folder / "c.bin").write_bytes(b"\0\1\2\3" * 20)
    return folder


class Abyme:
    """Runs ``abyme ask`` in this process against an endpoint."""

    def __init__(self, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        self._capture = capsysbinary

    def __call__(self, endpoint: ScriptedEndpoint, *args: object) -> tuple[int, str, str]:
        code = main.run(["ask", *map(str, args), "--base-url", endpoint.url, "--model", "m"])
        out, err = self._capture.readouterr()
        return code, out.decode(), err.decode()


@pytest.fixture
def abyme(capsysbinary: pytest.CaptureFixture[bytes]) -> Abyme:
    return Abyme(capsysbinary)


def test_the_answer_is_all_of_stdout_and_evidence_is_on_stderr(abyme, files, home) -> None:
    with ScriptedEndpoint([LOOK, SUBMIT]) as endpoint:
        code, out, err = abyme(endpoint, "where?", files)

    (run,) = (home / "runs").iterdir()
    lines = err.splitlines()
    assert (code, out) == (0, "1 in b.txt\n")
    assert lines[0].startswith("read 2 files (")
    assert lines[0].endswith("skipped 1: c.bin (binary)")
    assert lines[-2] == '  [1] b.txt:2  "hay needle \\x1b]0;owned\\x07"'
    assert lines[-1].startswith("answered · 2 calls · ")
    assert lines[-1].endswith(f" · {run}")
    cells = [line.partition("root: ")[2] for line in lines if "root: cell" in line]
    assert cells[0] == "cell 1: hits = grep('needle')"
    assert cells[1].startswith("cell 1 ok in ")
    assert cells[3].startswith("cell 2 submitted in ")


def test_json_is_one_object_with_everything(abyme, files, home) -> None:
    with ScriptedEndpoint([LOOK, SUBMIT]) as endpoint:
        code, out, _ = abyme(endpoint, "where?", files, "--json", "--price", "1,2")
        spent = endpoint.prompt_tokens * 1 + endpoint.completion_tokens * 2

    (run,) = (home / "runs").iterdir()
    answer = json.loads(out)
    usage = answer.pop("usage")
    assert (code, out.count("\n")) == (0, 1)
    assert answer == {
        "answer": "1 in b.txt",
        "status": "answered",
        "evidence": [
            {
                "number": 1,
                "path": "b.txt",
                "line": 2,
                "start": 4,
                "end": 4 + len("hay needle \x1b]0;owned\x07"),
                "quote": "hay needle \x1b]0;owned\x07",
            }
        ],
        "run": str(run),
    }
    assert (usage["calls"], usage["cost_usd"]) == (2, pytest.approx(spent / 1e6, abs=2e-6))
    assert usage["prompt_tokens"] == endpoint.prompt_tokens
    assert usage["completion_tokens"] == endpoint.completion_tokens


def test_quiet_says_nothing_but_the_evidence(abyme, files) -> None:
    with ScriptedEndpoint([LOOK, SUBMIT]) as endpoint:
        _, out, err = abyme(endpoint, "where?", files, "--quiet")

    assert (out, len(err.splitlines())) == ("1 in b.txt\n", 1)


def test_a_typed_answer_is_printed_as_json(abyme, files) -> None:
    with ScriptedEndpoint(["```repl\nsubmit({'n': [1, 2]})\n```"]) as endpoint:
        _, out, _ = abyme(endpoint, "where?", files)

    assert json.loads(out) == {"n": [1, 2]}


def test_standard_input_is_a_document(abyme, monkeypatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"one\ntwo\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    with ScriptedEndpoint(["```repl\nsubmit(context.splitlines())\n```"]) as endpoint:
        code, out, _ = abyme(endpoint, "which?", "-")

    assert (code, json.loads(out)) == (0, ["one", "two"])


def test_a_limit_that_is_met_is_partial_and_exit_3(abyme, files, home) -> None:
    draft = "```repl\nanswer['content'] = 'draft'\n```"
    with ScriptedEndpoint([draft] * 9) as endpoint:
        code, out, err = abyme(endpoint, "where?", files, "--max-turns", "2")

    (run,) = (home / "runs").iterdir()
    assert (code, out) == (3, "draft\n")
    assert "max_turns" in err.splitlines()[-3]
    assert err.splitlines()[-1] == f"to go on: abyme resume {run.name} --max-turns 4"


def test_a_provider_that_refuses_the_key_is_failed_and_exit_1(abyme, files) -> None:
    with ScriptedEndpoint([Fault.unauthorized()]) as endpoint:
        code, out, _ = abyme(endpoint, "where?", files, "--json")

    answer = json.loads(out)
    assert (code, answer["status"], answer["answer"]) == (1, "failed", None)
    assert "key" in answer["error"]
    assert answer["usage"]["calls"] == 1


def test_a_key_is_in_no_file_of_the_run_and_in_no_output(abyme, files, home) -> None:
    script = [LOOK, "```repl\nimport os\nprint(dict(os.environ))\n```", SUBMIT]
    with ScriptedEndpoint(script, api_key=KEY) as endpoint:
        code, out, err = abyme(endpoint, "where?", files, "--api-key", KEY)

    kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert code == 0
    assert len(kept) > 1000
    assert KEY.encode() not in kept
    assert KEY not in out + err


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: folder / "absent", "absent"),
        (lambda folder: folder, "nothing to read"),
    ],
)
def test_nothing_to_read_is_exit_2_before_any_call(abyme, tmp_path, make, sentence) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with ScriptedEndpoint([LOOK]) as endpoint:
        code, out, err = abyme(endpoint, "where?", make(folder))

    assert (code, out, endpoint.calls) == (2, "", 0)
    assert err.startswith("abyme: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_without_a_key_and_without_weights_it_names_the_command(files, capsysbinary) -> None:
    """Nothing is downloaded when nobody at a terminal has agreed."""
    code = main.run(["ask", "where?", str(files)])

    out, err = capsysbinary.readouterr()
    assert (code, out) == (2, b"")
    assert b"run `abyme models pull coder-1.5b`" in err


def test_a_surrogate_in_name_and_answer_does_not_break_printing(abyme, tmp_path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    try:
        (folder / "caf\udce9.txt").write_text("needle\n")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (folder / "other.txt").write_text("hay\n")
    submit = "```repl\nsubmit('\\udce9', evidence=hits)\n```"
    for flags in ([], ["--json"]):
        with ScriptedEndpoint([LOOK, submit]) as endpoint:
            code, out, _ = abyme(endpoint, "where?", folder, *flags)
        assert code == 0
        assert "\\udce9" in out


# -- signals and terminals -----------------------------------------------------------


def environment(home: Path) -> dict[str, str]:
    path = os.pathsep.join(sys.path)
    return {**os.environ, "PYTHONPATH": path, "ABYME_HOME": str(home), "TERM": "xterm-256color"}


def test_a_polite_kill_stops_at_once(files, home) -> None:
    with ScriptedEndpoint([LOOK, Fault.hang()]) as endpoint:
        process = start(endpoint, files, home)
        wait_for(process, "root: cell 1 ok")
        process.terminate()
        out, err = process.communicate()

    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-2].startswith("stopped · ")
    assert err.splitlines()[-1].startswith("to go on: abyme resume ")
    assert "Ctrl-C" not in err
    assert err.splitlines().count("stopping now") == 1


def command(endpoint: ScriptedEndpoint, files: Path) -> list[str]:
    ask = ["ask", "where?", str(files), "--base-url", endpoint.url, "--model", "m"]
    return [sys.executable, "-m", "abyme", *ask]


def start(endpoint: ScriptedEndpoint, files: Path, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(endpoint, files),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home),
    )


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"ended before it said {words!r}")


def test_ctrl_c_once_finishes_with_what_is_there(files, home) -> None:
    waits = "```repl\nfound = 'so far'\nllm_query('?')\n```"
    script = [waits, Fault.hang(), "```repl\nsubmit(found)\n```"]
    with ScriptedEndpoint(script) as endpoint:
        process = start(endpoint, files, home)
        wait_for(process, "asks for 1 sub-call")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()

    assert (process.returncode, out) == (3, "so far\n")
    assert "finishing with what is there; Ctrl-C again stops now" in err


def test_ctrl_c_twice_stops_now_and_names_the_run(files, home) -> None:
    with ScriptedEndpoint([LOOK, Fault.hang(), Fault.hang()]) as endpoint:
        process = start(endpoint, files, home)
        wait_for(process, "root: cell 1 ok")
        process.send_signal(signal.SIGINT)
        wait_for(process, "Ctrl-C again stops now")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()

    (run,) = (home / "runs").iterdir()
    assert (process.returncode, out) == (130, "")
    assert str(run) in err


def test_an_impatient_ctrl_c_still_says_how_to_go_on(tmp_path, capsysbinary) -> None:
    """The third one ends all at once, without a word of the run itself."""
    others = [folder.create(tmp_path) for _ in range(3)]
    for number, run in enumerate(others):
        spec = RunSpec(question="q", model="m", sub_model="m", limits=Limits(), sources=["x"])
        run.write_spec(spec)
        with run.open_journal() as journal:
            event = structs.replace(RECORDS[0].event, seed=number)
            journal.append(structs.replace(RECORDS[0], event=event))
    watching = Watched(Silent(err()))
    watching.record(RECORDS[0])  # its seed is 1

    with pytest.raises(KeyboardInterrupt) as stop, says_how_to_go_on(watching, tmp_path):
        raise KeyboardInterrupt
    aborted = click.Abort()
    aborted.__cause__ = stop.value

    assert failures.report(aborted, []) == 130
    assert capsysbinary.readouterr().err.decode().splitlines() == [
        "abyme: stopped",
        f"to go on: abyme resume {others[1].path}",
    ]


def on_a_terminal(endpoint: ScriptedEndpoint, files: Path, home: Path) -> tuple[int, bytes]:
    """Exit code, and everything that was written to the terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(endpoint, files), stdin=theirs, stdout=theirs, stderr=theirs, env=environment(home)
    )
    os.close(theirs)
    shown = b""
    while data := _read(ours):
        shown += data
    os.close(ours)
    return process.wait(), shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO when the other side is closed
        return b""


def test_on_a_terminal_the_tree_is_live_and_no_document_steers_it(files, home) -> None:
    loud = "```repl\nprint(hits[0].text)\nsubmit(hits[0].text, evidence=hits)\n```"
    with ScriptedEndpoint([LOOK, loud]) as endpoint:
        code, shown = on_a_terminal(endpoint, files, home)

    assert code == 0
    assert b"root" in shown
    assert b"grep('needle')" in shown
    assert b"hay needle \\x1b]0;owned\\x07" in shown
    assert b"\x1b]0;owned" not in shown


# -- streams that are closed or full, as under cron ----------------------------------


@pytest.mark.parametrize(
    ("streams", "ends"),
    [
        ("2>&-", (0, "")),
        ("2>/dev/full", (0, "")),
        ("<&-", (0, "")),
        (">&- 2>answer", (1, "standard output cannot be written (Bad file descriptor)")),
        (">/dev/full 2>answer", (1, "standard output cannot be written (No space left on device)")),
        (">&- 2>&- <&-", (1, "")),
    ],
)
def test_a_stream_that_is_closed_or_full_costs_no_answer(
    files, home, tmp_path, streams, ends
) -> None:
    code, words = ends
    with ScriptedEndpoint([LOOK, SUBMIT]) as endpoint:
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {streams}', "sh", *command(endpoint, files)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(home),
            cwd=tmp_path,
            check=False,
        )

    told = (tmp_path / "answer").read_text() if "answer" in streams else done.stderr
    assert done.returncode == code
    assert done.stdout == ("" if code else "1 in b.txt\n")
    assert words in told
    assert ("\n1 in b.txt\n" in told) == ("answer" in streams)
    assert not any(word in told for word in ("Traceback", "a bug", "Exception ignored"))


@pytest.mark.parametrize("flags", [[], ["--quiet"], ["--json"]])
def test_a_reader_that_has_gone_costs_no_evidence_and_no_folder(files, home, flags) -> None:
    """``abyme ask ... | true``."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with ScriptedEndpoint([LOOK, SUBMIT]) as endpoint:
        done = subprocess.run(
            [*command(endpoint, files), *flags],
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(home),
            check=False,
        )
    os.close(write_end)

    (run,) = (home / "runs").iterdir()
    gone, *evidence, ending = done.stderr.splitlines()[-2 if flags == ["--json"] else -3 :]
    assert done.returncode == 1
    assert gone == (
        "whoever reads standard output has closed it before the whole answer was written; "
        f"`abyme show {run.name}` prints it"
    )
    found = [] if flags == ["--json"] else ['  [1] b.txt:2  "hay needle \\x1b]0;owned\\x07"']
    assert evidence == found
    assert ending.startswith("answered · 2 calls · ")
    assert ending.endswith(f" · {run}")


def test_a_run_that_breaks_names_its_folder_and_what_was_spent(
    abyme, files, home, monkeypatch
) -> None:
    def full(self: JournalWriter) -> None:
        if any(b"call_settled" in record for record in self._group):
            raise JournalError("cannot write events.jsonl: No space left on device")
        flush(self)

    flush = JournalWriter.flush
    monkeypatch.setattr(JournalWriter, "flush", full)
    with ScriptedEndpoint([LOOK]) as endpoint:
        code, out, err = abyme(endpoint, "where?", files, "--json")

    (run,) = (home / "runs").iterdir()
    answer = json.loads(out)
    assert (code, answer["status"], answer["run"]) == (1, "failed", str(run))
    assert (answer["usage"]["calls"], "No space left" in answer["error"]) == (1, True)
    assert err.splitlines()[-2].startswith("failed · 1 call · ")
    assert err.splitlines()[-2].endswith(f" · {run}")
    assert err.splitlines()[-1] == f"to go on: abyme resume {run.name}"


def test_an_answer_that_is_not_recorded_is_printed_and_that_is_said(
    abyme, files, monkeypatch
) -> None:
    def full(*_: object) -> None:
        raise JournalError("cannot write answer.json: No space left on device")

    monkeypatch.setattr(RunFolder, "write_answer", full)
    with ScriptedEndpoint([LOOK, SUBMIT]) as endpoint:
        code, out, err = abyme(endpoint, "where?", files, "--quiet")

    assert (code, out) == (0, "1 in b.txt\n")
    assert "the end of the run is not recorded: cannot write answer.json: No space left" in err


def test_a_run_keeps_the_paths_as_given_and_show_names_all_that_was_skipped(
    abyme, files, home, capsysbinary
) -> None:
    for number in range(5):
        (files / f"{number}.bin").write_bytes(b"\0\0")
    with ScriptedEndpoint([LOOK, SUBMIT]) as endpoint:
        abyme(endpoint, "where?", files)

    (run,) = (home / "runs").iterdir()
    assert main.run(["show", "latest", "--full"]) == 0
    shown = capsysbinary.readouterr().out.decode().splitlines()
    assert json.loads((run / "run.json").read_text())["sources"] == [str(files)]
    assert [line for line in shown if line.startswith("skipped")] == [
        *(f"skipped   {name}.bin (binary)" for name in "01234c"),
    ]


def test_evidence_that_is_not_in_the_context_is_left_out_and_that_is_said(abyme, files) -> None:
    wrong = "```repl\nsubmit(1, evidence=['no such thing', 'b.txt:2: hay needle'])\n```"
    with ScriptedEndpoint([wrong]) as endpoint:
        code, out, err = abyme(endpoint, "where?", files, "--quiet")

    said = "1 piece of evidence was not found in the context and is left out: 'no such thing'"
    assert (code, out) == (0, "1\n")
    assert err.splitlines()[0].startswith("  [1] b.txt:2  ")
    assert err.splitlines()[1] == said


# -- shapes, the cache, how to go on -------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot read the schema "),
        ("[1", "is not JSON"),
        ("[1]", "is no JSON object"),
        ('{"type": "nope"}', '.json: the schema cannot be kept: /type cannot be "nope"; it takes'),
    ],
)
def test_a_schema_that_will_not_do_is_said_before_anything_is_read(
    abyme, files, tmp_path, text, sentence
) -> None:
    path = tmp_path / "schema.json"
    if text is not None:
        path.write_text(text)
    with ScriptedEndpoint([]) as endpoint:
        code, out, err = abyme(endpoint, "where?", files, "--schema", path)

    assert (code, out, err.count("\n"), endpoint.calls) == (2, "", 1, 0)
    assert sentence in err


def test_what_does_not_fit_the_schema_is_no_answer_and_not_worth_going_on(
    abyme, files, tmp_path
) -> None:
    path = tmp_path / "schema.json"
    path.write_text('{"type": "object"}')
    with ScriptedEndpoint(["```repl\nsubmit([1])\n```"] * 3) as endpoint:
        code, out, err = abyme(endpoint, "where?", files, "--schema", path)

    assert (code, out, endpoint.calls) == (1, "", 3)
    assert "what was there does not fit the schema: [1]" in err.splitlines()
    assert "to go on" not in err


def test_equal_calls_of_another_run_come_from_the_cache(abyme, files, home) -> None:
    script = ["```repl\nsubmit(llm_query('p'))\n```", "reply"]
    with ScriptedEndpoint(script) as endpoint:
        abyme(endpoint, "where?", files, "--cache")
        code, out, _ = abyme(endpoint, "where?", files, "--cache", "--json")

    assert (code, json.loads(out)["answer"], endpoint.calls) == (0, "reply", 2)
    assert json.loads(out)["usage"]["prompt_tokens"] == 0


def test_each_model_has_its_price_and_replies_their_cap(abyme, files) -> None:
    script = ["```repl\nsubmit(llm_query('p'))\n```", "reply"]
    prices = ["--price", "1,2", "--sub-model", "s", "--sub-price", "30,40"]
    with ScriptedEndpoint(script) as endpoint:
        code, out, _ = abyme(
            endpoint, "where?", files, "--json", *prices, "--max-output-tokens", "77"
        )

    root, sub = (json.loads(out)["usage"]["by_model"][name] for name in ("custom:m", "custom:s"))
    assert code == 0
    for used, price_in, price_out in ((root, 1, 2), (sub, 30, 40)):
        usd_micro = used["prompt_tokens"] * price_in + used["completion_tokens"] * price_out
        assert used["cost_usd"] == usd_micro / 1e6
    assert [body["max_tokens"] for body in endpoint.requests] == [77, 77]


def test_a_partial_without_an_answer_says_so(abyme, files, capsysbinary) -> None:
    with ScriptedEndpoint([LOOK] * 2) as endpoint:
        code, out, err = abyme(endpoint, "where?", files, "--max-turns", "2", "--quiet")

    assert (code, out) == (3, "")
    assert err.splitlines()[0] == "partial: max_turns: 2 turns used; no answer was held"
    main.run(["show", "latest"])
    assert "no answer was held" in capsysbinary.readouterr().out.decode().splitlines()


KEPT = "held for calls in flight or kept back for the last turn"

HINTS = [
    ("stopped by the user", []),
    ("max_usd: $0.01 needed beside $1.0000 spent, the ceiling is $2.5000", ["--max-usd", "5"]),
    ("the call was not made: max_calls: 1 needed", ["--max-calls", "20000"]),
    ("timeout_s: 0.5 s are over", ["--timeout", "1"]),
    ("max_tokens: too large, says the provider", []),
    ("memory_bytes: no option", []),
]


NEEDED = [
    (
        Limits(max_usd="0.01"),
        f"max_usd: $0.0445 needed beside $0.0000 spent and $0.0565 {KEPT}, the ceiling is $0.0100",
        ["--max-usd", "0.16"],
    ),
    (
        Limits(max_usd=0),
        f"max_usd: $0.0445 needed beside $0.0000 spent and $0.0565 {KEPT}, the ceiling is $0.0000",
        ["--max-usd", "0.16"],
    ),
    (
        Limits(max_tokens=3000),
        f"max_tokens: 6,883 needed beside 0 spent and 38,019 {KEPT}, the ceiling is 3,000",
        ["--max-tokens", "68000"],
    ),
    (
        Limits(max_calls=0),
        "max_calls: 1 needed beside 0 spent, the ceiling is 0",
        ["--max-calls", "2"],
    ),
    (
        Limits(max_usd=0),
        "max_usd: $0.0000 needed beside $0.0000 spent, the ceiling is $0.0000",
        ["--max-usd", "5"],
    ),
    (Limits(timeout_s=0), "timeout_s: 0 s are over", ["--timeout", "3600"]),
]


@pytest.mark.parametrize(("limits", "reason", "options"), NEEDED)
def test_a_limit_that_is_far_too_low_is_raised_to_what_was_needed(
    tmp_path, limits, reason, options
) -> None:
    run = folder.create(tmp_path)
    run.write_spec(RunSpec(question="q", model="m", sub_model="m", limits=limits, sources=["x"]))

    assert shlex.split(how_to_go_on(run.path, reason, limits))[-2:] == options


@pytest.mark.parametrize(("reason", "options"), HINTS)
def test_the_limit_that_was_met_is_doubled(tmp_path, reason, options) -> None:
    run = folder.create(tmp_path)
    limits = Limits(max_usd="2.5", timeout_s=0.5, max_tokens=None)
    run.write_spec(RunSpec(question="q", model="m", sub_model="m", limits=limits, sources=["x"]))

    words = shlex.split(how_to_go_on(run.path, reason, limits).removeprefix("to go on: "))

    assert words == ["abyme", "resume", str(run.path), *options]


def test_a_context_that_was_not_kept_must_be_given_again(tmp_path) -> None:
    run = folder.create(tmp_path)
    spec = RunSpec(question="q", model="m", sub_model="m", limits=Limits(), sources=["-", "a b"])
    run.write_spec(spec)

    assert how_to_go_on(run.path, "").endswith(f"{run.id} - 'a b'")
    run.write_spec(structs.replace(spec, kept=True))
    assert how_to_go_on(run.path, "").endswith(run.id)
