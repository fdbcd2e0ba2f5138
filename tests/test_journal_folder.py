"""Contract: journals/folder. A run is found again, and its files are private and whole."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from abyme.core.events import Evidence
from abyme.core.limits import Limits
from abyme.errors import JournalError
from abyme.journals import folder
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
