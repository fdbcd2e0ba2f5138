"""Contract: journals/folder. A run is found again, and its files are private and whole."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from abyme.core.events import Evidence
from abyme.core.limits import Limits
from abyme.errors import JournalError
from abyme.journals import folder, prune
from abyme.journals.folder import Outcome, RunFolder, RunSpec, RunUsage

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
SPEC = RunSpec(
    question="where is \udce9?",
    model="scripted:m",
    sub_model="scripted:m",
    limits=Limits(max_usd="0.10"),
    started_at="2026-11-22T12:00:00Z",
)


def make(runs_dir: Path, second: int) -> RunFolder:
    run = folder.create(runs_dir, now=NOON.replace(second=second))
    run.write_spec(SPEC)
    return run


def test_a_run_is_named_by_its_start_and_four_digits(tmp_path: Path) -> None:
    run = folder.create(tmp_path / "runs", now=NOON)

    stamp, _, digits = run.id.partition("-")
    assert stamp == "20261122T120000"
    assert len(digits) == 4
    assert int(digits, 16) >= 0


def test_folder_and_files_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run = make(tmp_path / "runs", 0)
    finally:
        os.umask(before)

    modes = [p.stat().st_mode & 0o777 for p in (run.path.parent, run.path, run.path / "run.json")]
    assert modes == [0o700, 0o700, 0o600]


def test_what_is_written_is_read_back_and_leaves_no_partial_file(tmp_path: Path) -> None:
    run = make(tmp_path, 0)
    outcome = Outcome(
        status="partial",
        value={"n": [1, "\ud800"]},
        evidence=[Evidence(path="a\udcff.py", line=3, start=1, end=2, quote="x")],
        reason="max_usd",
        usage=RunUsage(calls=2, prompt_tokens=3, completion_tokens=4, cost_usd=0.5, wall_s=1.0),
    )
    run.write_answer(outcome)
    run.write_manifest({"documents": [{"name": "a\udcff.py", "chars": 3}]})

    assert run.spec() == SPEC
    assert run.answer() == outcome
    assert run.manifest() == {"documents": [{"name": "a\udcff.py", "chars": 3}]}
    assert sorted(path.name for path in run.path.iterdir()) == [
        "answer.json",
        "manifest.json",
        "run.json",
    ]


def test_a_run_without_an_answer_has_not_ended(tmp_path: Path) -> None:
    assert make(tmp_path, 0).answer() is None


def test_a_damaged_answer_is_a_typed_error(tmp_path: Path) -> None:
    run = make(tmp_path, 0)
    (run.path / "answer.json").write_text('{"status": "wonderful", "value": 1}')

    with pytest.raises(JournalError, match=r"answer\.json is damaged: Invalid enum value"):
        run.answer()


FILES = ("run.json", "manifest.json", "answer.json")
READ = (RunFolder.spec, RunFolder.manifest, RunFolder.skipped, RunFolder.answer)


def test_a_link_in_a_folder_of_somebody_else_overwrites_nothing(tmp_path: Path) -> None:
    """The name that a file is written under before it is moved is known to everybody."""
    run, mine = make(tmp_path, 0), tmp_path / "mine"
    mine.write_text("precious")
    for name in FILES:
        (run.path / f".{name}.partial").symlink_to(mine)
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).symlink_to(mine)

    run.write_spec(SPEC)
    run.write_manifest({"documents": []})
    run.write_answer(Outcome(status="answered", value=1))

    assert mine.read_text() == "precious"
    assert (run.spec(), run.answer()) == (SPEC, Outcome(status="answered", value=1))
    assert sorted(path.name for path in run.path.iterdir()) == sorted(FILES)


def test_what_an_earlier_write_left_is_written_anew(tmp_path: Path) -> None:
    run = make(tmp_path, 0)
    (run.path / ".answer.json.partial").write_text("x" * 1000)

    run.write_answer(Outcome(status="answered", value=1))

    assert run.answer() == Outcome(status="answered", value=1)


@pytest.mark.parametrize("trap", ["link", "link to nothing", "pipe", "folder"])
def test_what_is_no_file_is_not_waited_for_and_not_read(tmp_path: Path, trap: str) -> None:
    run, mine = make(tmp_path, 0), tmp_path / "mine"
    mine.write_text('{"status": "answered", "value": "private"}')
    (run.path / "run.json").unlink()
    for name in FILES:
        if trap == "pipe":
            os.mkfifo(run.path / name)
        elif trap == "folder":
            (run.path / name).mkdir()
        else:
            (run.path / name).symlink_to(mine if trap == "link" else tmp_path / "nothing")

    for read in READ:
        with pytest.raises(JournalError, match=r"^cannot read .*\.json: it is no regular file$"):
            read(run)
    assert folder.list_runs(tmp_path) == [run]


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """A hole in a file takes no disk."""
    run = make(tmp_path, 0)
    os.truncate(run.path / "run.json", folder.MOST_BYTES + 1)

    with pytest.raises(JournalError, match=r"it has 67,108,865 bytes, at most 67,108,864 are read"):
        run.spec()


@pytest.mark.parametrize("trap", ["link", "pipe"])
def test_a_run_whose_journal_is_no_file_does_not_run_and_can_be_removed(
    tmp_path: Path, trap: str
) -> None:
    run, mine = make(tmp_path / "runs", 0), tmp_path / "mine"
    mine.write_text("precious")
    if trap == "link":
        run.events_path.symlink_to(mine)
    else:
        os.mkfifo(run.events_path)

    assert not run.is_running()
    prune.remove(run)
    assert (folder.list_runs(tmp_path / "runs"), mine.read_text()) == ([], "precious")


def test_a_run_says_how_long_it_had_been_at_work(tmp_path: Path) -> None:
    run = make(tmp_path, 0)
    before = run.alive_s()
    with run.open_journal() as journal:
        journal.alive(1234.5)

    assert (before, run.alive_s()) == (None, 1234.5)


@pytest.mark.parametrize("said", ["", "-1", "nan", "inf", "1e999", "soon", "0" * 65])
def test_a_sign_of_life_that_says_nothing_is_none(tmp_path: Path, said: str) -> None:
    run = make(tmp_path, 0)
    (run.path / "alive").write_text(said)

    assert run.alive_s() is None


def test_runs_are_listed_newest_first_and_other_folders_are_not(tmp_path: Path) -> None:
    early, late = make(tmp_path, 1), make(tmp_path, 2)
    (tmp_path / "notes").mkdir()
    (tmp_path / "a-file").write_text("")

    assert folder.list_runs(tmp_path) == [late, early]


def test_two_runs_of_one_second_are_listed_by_when_they_were_written(tmp_path: Path) -> None:
    runs = [make(tmp_path, 1) for _ in range(3)]
    for age_s, run in enumerate(runs):
        os.utime(run.path / "run.json", (1_000 - age_s, 1_000 - age_s))

    assert folder.list_runs(tmp_path) == runs


def test_no_folder_means_no_runs(tmp_path: Path) -> None:
    assert folder.list_runs(tmp_path / "absent") == []


def test_a_run_is_found_by_latest_id_beginning_digits_and_path(tmp_path: Path) -> None:
    early, late = make(tmp_path, 1), make(tmp_path, 2)

    assert folder.find(tmp_path, "latest") == late
    assert folder.find(tmp_path, early.id) == early
    assert folder.find(tmp_path, "20261122T120001") == early
    assert folder.find(tmp_path, late.id[-4:]) == late
    assert folder.find(tmp_path / "absent", str(early.path)).path == early.path.resolve()


def test_a_beginning_that_two_runs_share_names_both(tmp_path: Path) -> None:
    early, late = make(tmp_path, 1), make(tmp_path, 2)

    with pytest.raises(JournalError) as caught:
        folder.find(tmp_path, "2026")
    assert str(caught.value) == f"'2026' could be 2 runs: {late.id}, {early.id}"


@pytest.mark.parametrize("name", ["", "zzz", "..", "/"])
def test_a_run_that_is_not_there_is_a_typed_error(tmp_path: Path, name: str) -> None:
    make(tmp_path, 1)

    with pytest.raises(JournalError, match=r"; `abyme runs` lists them$"):
        folder.find(tmp_path, name)


def test_latest_without_runs_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"^no runs in .* yet$"):
        folder.find(tmp_path, "latest")


def test_a_run_is_running_while_its_journal_is_open(tmp_path: Path) -> None:
    run = make(tmp_path, 1)
    before = run.is_running()
    journal = run.open_journal()
    during = run.is_running()
    journal.close()

    assert (before, during, run.is_running()) == (False, True, False)


def test_a_place_that_cannot_be_written_names_the_way_out(tmp_path: Path) -> None:
    """A file where the folder should be, because root may write everywhere."""
    (tmp_path / "runs").write_text("")

    with pytest.raises(JournalError, match=r"; name another one with --runs-dir$"):
        folder.create(tmp_path / "runs")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://user:secret@host:8080/v1?key=secret#secret", "https://host:8080/v1"),
        ("http://[::1]:8000/v1/", "http://[::1]:8000/v1/"),
    ],
)
def test_credentials_are_cut_out_of_a_url(url: str, kept: str) -> None:
    assert folder.redact_url(url) == kept
