"""Contract: journals/writer and reader. What was flushed survives; what is torn is said."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.core import events as ev
from abyme.core.ids import NodeId
from abyme.core.limits import Limits
from abyme.core.profile import Profile
from abyme.errors import JournalError
from abyme.journals import codec, reader, writer
from abyme.journals.writer import JournalWriter

FREE = ev.ModelFacts(name="scripted:m", price=ev.Price(input_usd_micro=0, output_usd_micro=0))
WORDS = dict.fromkeys(("system", "question", "output", "no_code", "no_output", "last_turn"), "")


def started(schema: int = ev.SCHEMA) -> ev.RunStarted:
    return ev.RunStarted(
        schema=schema,
        question="how many?",
        preview="",
        context_chars=1,
        context_documents=1,
        limits=Limits(),
        root=FREE,
        sub=FREE,
        profile=Profile(name="strong", **WORDS),
        seed=1,
        hash_seed=2,
        started_at="2026-11-22T20:54:30Z",
    )


def record(seq: int, event: ev.AnyEvent) -> ev.Record:
    return ev.Record(seq=seq, at_s=float(seq), node=NodeId("0"), event=event)


def run(count: int = 4) -> list[ev.Record]:
    cells = [record(seq, ev.CellStarted(cell=seq, code="é\ud800\n")) for seq in range(1, count)]
    return [record(0, started()), *cells]


def write(path: Path, records: list[ev.Record]) -> bytes:
    with JournalWriter(path) as journal:
        for one in records:
            journal.append(one)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_records_come_back_as_they_were_written(path: Path) -> None:
    size = len(write(path, run()))

    assert reader.read(path) == reader.Recording(run(), torn_bytes=0, intact_bytes=size)
    assert reader.read(path).started == started()


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    """A journal holds private documents. The umask is wide open on purpose."""
    before = os.umask(0)
    try:
        write(path, run())
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o600


WHOLE = b"".join(codec.encode(one) + b"\n" for one in run())
FIRST = WHOLE.index(b"\n") + 1


@given(st.integers(FIRST, len(WHOLE)))
def test_any_truncation_yields_a_prefix_of_the_records(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    """Power loss can leave any prefix of the file."""
    path = tmp_path_factory.mktemp("cut") / "events.jsonl"
    path.write_bytes(WHOLE[:cut])

    recording = reader.read(path)

    whole_lines = WHOLE[:cut].count(b"\n")
    assert recording.records == run()[:whole_lines]
    assert recording.intact_bytes + recording.torn_bytes == cut
    assert (recording.torn_bytes == 0) == WHOLE[:cut].endswith(b"\n")


@pytest.mark.parametrize("cut", [0, 1, FIRST - 1])
def test_a_run_cut_off_in_its_first_record_is_a_typed_error(path: Path, cut: int) -> None:
    path.write_bytes(WHOLE[:cut])

    with pytest.raises(JournalError, match=r"holds no complete record"):
        reader.read(path)


def test_a_torn_run_can_be_continued(path: Path) -> None:
    path.write_bytes(WHOLE[:-3])
    writer.truncate(path, reader.read(path).intact_bytes)

    write(path, run()[-1:])

    assert path.read_bytes() == WHOLE


def test_nothing_is_in_the_file_before_flush_and_all_of_it_after(path: Path) -> None:
    journal = JournalWriter(path)
    for one in run():
        journal.append(one)
    before = path.read_bytes()
    journal.flush()
    after = path.read_bytes()
    journal.close()

    assert (before, after) == (b"", WHOLE)


def test_a_group_is_one_system_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Group commit: a thousand replies cost one write."""
    sizes: list[int] = []
    real = os.write

    def counting(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return real(fd, data)

    with JournalWriter(path) as journal:
        for one in run():
            journal.append(one)
        monkeypatch.setattr(os, "write", counting)
        journal.flush()
        monkeypatch.undo()

    assert sizes == [len(WHOLE)]


def test_a_short_write_is_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with JournalWriter(path) as journal:
        for one in run():
            journal.append(one)
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
        journal.flush()
        monkeypatch.undo()

    assert path.read_bytes() == WHOLE


def test_a_full_disk_leaves_whole_lines_and_keeps_the_group(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half line that did fit is cut off; once there is room nothing is missing."""
    real = os.write
    room = [FIRST + 10]

    def full(fd: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = real(fd, data[: room[0]])
        room[0] -= taken
        return taken

    journal = JournalWriter(path)
    journal.append(run()[0])
    journal.flush()
    for one in run()[1:]:
        journal.append(one)
    room[0] = 10
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(JournalError, match=r"No space left on device$"):
        journal.flush()
    monkeypatch.undo()
    left = path.read_bytes()
    journal.close()

    assert left == WHOLE[:FIRST]
    assert path.read_bytes() == WHOLE


def test_a_failed_fdatasync_stops_the_next_flush(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports a lost page once; it must not be overheard."""

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", broken)
    journal = JournalWriter(path)
    journal.append(run()[0])
    journal.flush()

    with pytest.raises(JournalError, match=r"Input/output error$"):
        journal.close()
    journal.close()


def test_close_makes_the_last_group_durable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(path.read_bytes()))

    write(path, run())

    assert synced[-1] == WHOLE


def test_a_run_has_one_writer(path: Path) -> None:
    with JournalWriter(path), pytest.raises(JournalError, match=r"written by another process$"):
        JournalWriter(path)
    JournalWriter(path).close()


def test_a_closed_journal_refuses_records(path: Path) -> None:
    journal = JournalWriter(path)
    journal.close()
    journal.append(run()[0])

    with pytest.raises(JournalError, match=r"is closed$"):
        journal.flush()


KILLED = """
import os, signal, sys
from pathlib import Path
from abyme.journals.writer import JournalWriter
from abyme.journals import codec
from abyme.core.events import Record
journal = JournalWriter(Path(sys.argv[1]))
for line in sys.stdin.buffer:
    journal.append(codec.decode(line, Record))
journal.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_flushed_survives_sigkill(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        input=WHOLE,
        check=False,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == WHOLE


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([record(0, ev.StopRequested())], "line 1: the first line does not start a run"),
        ([*run(2), record(3, ev.StopRequested())], "line 3: record 3 is out of order"),
        ([*run(2), record(2, started())], "line 3: a run starts once, at its first line"),
        (
            [record(0, started(schema=99))],
            f"line 1: schema 99 is from a later version; this one reads up to {ev.SCHEMA}",
        ),
        ([record(0, started(schema=0))], "line 1: schema 0 is too old: no migration from 0"),
    ],
)
def test_a_journal_that_is_not_ours_is_refused_by_line(
    path: Path, lines: list[ev.Record], message: str
) -> None:
    write(path, lines)

    with pytest.raises(JournalError) as caught:
        reader.read(path)
    assert str(caught.value) == f"{path}, {message}"


def test_a_damaged_line_in_the_middle_is_an_error_not_a_gap(path: Path) -> None:
    lines = WHOLE.splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:-9] + b"\n" + lines[2])

    with pytest.raises(JournalError, match=r", line 2: "):
        reader.read(path)


def test_an_older_schema_is_migrated_line_by_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A made-up schema 0 called the field `inquiry`."""
    old = WHOLE.replace(b'"schema":%d' % ev.SCHEMA, b'"schema":%d' % (ev.SCHEMA - 1))
    path.write_bytes(old.replace(b'"question":"how', b'"inquiry":"how'))

    def step(line: dict) -> dict:
        event = line["event"]
        if event["kind"] == "run_started":
            event["schema"] += 1
            event["question"] = event.pop("inquiry")
        return line

    monkeypatch.setattr(reader, "MIGRATIONS", {ev.SCHEMA - 1: step})

    assert reader.read(path).records == run()


def test_a_missing_journal_is_a_typed_error(path: Path) -> None:
    with pytest.raises(JournalError, match=r": No such file or directory$"):
        reader.read(path)
