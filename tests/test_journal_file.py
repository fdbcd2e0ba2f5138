"""Contract: journals/writer and reader. What was flushed survives; what is torn is said."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.core import events as ev
from abyme.core.ids import NodeId
from abyme.core.limits import Limits
from abyme.core.profile import Profile, SubPrompts
from abyme.errors import JournalError
from abyme.journals import codec, reader, writer
from abyme.journals.writer import JournalWriter

FREE = ev.ModelFacts(name="scripted:m", price=ev.Price(input_usd_micro=0, output_usd_micro=0))
WORDS = dict.fromkeys(("system", "question", "output", "no_code", "no_output", "last_turn"), "")
SUB = SubPrompts(
    **{one.name: "" for one in msgspec.structs.fields(SubPrompts) if one.required}
    | {"map_items": 1}
)


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
        profile=Profile(name="strong", sub=SUB, **WORDS),
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


def test_a_torn_run_can_be_continued_once_it_is_cut(path: Path) -> None:
    path.write_bytes(WHOLE[:-3])

    with JournalWriter(path) as journal:
        journal.cut(reader.read(path).intact_bytes)
        journal.append(run()[-1])

    assert path.read_bytes() == WHOLE


def test_nothing_is_written_behind_a_torn_line(path: Path) -> None:
    """It would become damage in the middle of the file."""
    path.write_bytes(WHOLE[:-3])
    journal = JournalWriter(path)
    journal.append(run()[-1])

    with pytest.raises(JournalError, match=r"ends in a torn line, which must be cut off first$"):
        journal.close()
    assert path.read_bytes() == WHOLE[:-3]


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


def test_what_cannot_be_cut_off_now_is_cut_off_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system refused even that; meanwhile nothing is written behind it."""
    real, taken = os.write, []

    def half(fd: int, data: bytes) -> int:
        if taken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        taken.append(real(fd, data[:7]))
        return taken[0]

    def no_cut(fd: int, size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = JournalWriter(path)
    for one in run():
        journal.append(one)
    monkeypatch.setattr(os, "write", half)
    monkeypatch.setattr(os, "ftruncate", no_cut)
    with pytest.raises(JournalError, match=r"Input/output error$"):
        journal.flush()
    with pytest.raises(JournalError, match=r"ends in a torn line"):
        journal.flush()
    left = path.read_bytes()
    monkeypatch.undo()
    journal.close()

    assert left == WHOLE[:7]
    assert path.read_bytes() == WHOLE


FILLED = """
import resource, sys
from pathlib import Path
from abyme.core.events import Record
from abyme.errors import JournalError
from abyme.journals import codec
from abyme.journals.writer import JournalWriter

path = Path(sys.argv[1])
first, *rest = sys.stdin.buffer.readlines()
whole = first + b"".join(rest)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
wrong = []
for room in range(len(first), len(whole)):
    path.unlink(missing_ok=True)
    journal = JournalWriter(path, sync_interval_s=0)
    journal.append(codec.decode(first, Record))
    journal.flush()
    for line in rest:
        journal.append(codec.decode(line, Record))
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
    try:
        journal.flush()
    except JournalError as error:
        full = str(error).endswith("File too large") and path.read_bytes() == first
    else:
        full = False
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    journal.close()
    if not full or path.read_bytes() != whole:
        wrong.append(room)
print(wrong)
"""


def test_a_disk_that_fills_up_at_any_byte_loses_no_line(path: Path) -> None:
    """RLIMIT_FSIZE stands for the disk: a write that passes it is cut short, the next refused."""
    done = subprocess.run(
        [sys.executable, "-c", FILLED, str(path)],
        input=WHOLE,
        capture_output=True,
        check=False,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert (done.stdout.decode(), done.stderr.decode()) == ("[]\n", "")


def test_a_journal_that_was_deleted_is_not_written_any_more(path: Path) -> None:
    """`rm -r` on a run that runs: records that nobody can read back must not be acted on."""
    journal = JournalWriter(path)
    journal.append(run()[0])
    journal.flush()
    path.unlink()
    journal.append(run()[1])

    with pytest.raises(JournalError, match=r" was deleted while it was written$"):
        journal.close()


def test_a_journal_that_was_moved_is_written_where_it_is(path: Path) -> None:
    with JournalWriter(path) as journal:
        journal.append(run()[0])
        journal.flush()
        path.rename(path.with_name("moved.jsonl"))
        for one in run()[1:]:
            journal.append(one)

    assert path.with_name("moved.jsonl").read_bytes() == WHOLE


@pytest.mark.parametrize("size", [0, FIRST - 1, FIRST + 1])
def test_a_journal_that_another_process_truncates_is_refused(path: Path, size: int) -> None:
    """Whatever is written next would leave a gap, or stand behind half a line."""
    journal = JournalWriter(path)
    journal.append(run()[0])
    journal.flush()
    os.truncate(path, size)
    journal.append(run()[1])

    with pytest.raises(JournalError) as caught:
        journal.close()
    assert str(caught.value) == (
        f"{path} was changed by somebody else: it has {size:,} bytes where {FIRST:,} were written"
    )


def test_a_place_that_is_read_only_is_a_typed_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere, so the kernel's answer is played."""

    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)

    with pytest.raises(JournalError, match=r"^cannot open .*: Read-only file system$"):
        JournalWriter(path)


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


def test_who_looks_whether_a_run_is_running_is_in_nobodys_way(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`abyme runs` takes the lock for an instant; the writer tries again."""
    path.touch()
    looker = os.open(path, os.O_RDONLY)
    fcntl.flock(looker, fcntl.LOCK_SH)
    monkeypatch.setattr(writer.time, "sleep", lambda _: os.close(looker))

    JournalWriter(path).close()


def test_a_journal_that_is_removed_while_it_is_opened_is_a_typed_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`abyme runs prune` holds the lock while it removes a run."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: path.unlink())

    with pytest.raises(JournalError, match=r" was deleted while it was opened$"):
        JournalWriter(path)


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
        ([record(0, started(schema=0))], "line 1: schema 0 is none: they count from 1"),
        (
            [record(0, started(schema=-(10**10)))],
            "line 1: schema -10000000000 is none: they count from 1",
        ),
    ],
)
def test_a_journal_that_is_not_ours_is_refused_by_line(
    path: Path, lines: list[ev.Record], message: str
) -> None:
    write(path, lines)

    with pytest.raises(JournalError) as caught:
        reader.read(path)
    assert str(caught.value) == f"{path}, {message}"


@pytest.mark.parametrize("schema", ["true", "2.0", '"2"', "1e999", "null", "[2]"])
def test_a_schema_that_is_no_whole_number_starts_no_run(path: Path, schema: str) -> None:
    said = b'"schema":%d' % ev.SCHEMA
    path.write_bytes(WHOLE.replace(said, b'"schema":' + schema.encode()))

    with pytest.raises(JournalError, match=r", line 1: the first line does not start a run$"):
        reader.read(path)


USED = ev.Usage(prompt_tokens=5, completion_tokens=2, cost_usd_micro=7)
CARRIED = ev.Carried(calls=1, tokens=5, usd_micro=7)


@pytest.mark.parametrize(
    ("event", "figure"),
    [
        (ev.CallSettled(call=1, text="x", finish="stop", usage=USED), '"prompt_tokens":5'),
        (ev.CallSettled(call=1, text="x", finish="stop", usage=USED), '"completion_tokens":2'),
        (
            ev.CallReserved(
                call=1, attempt=1, model="m", purpose="sub", worst_usd_micro=7, worst_tokens=5
            ),
            '"worst_usd_micro":7',
        ),
        (
            ev.RunResumed(
                believed=1, limits=Limits(), carried=CARRIED, next_call=2, resumed_at="2026"
            ),
            '"usd_micro":7',
        ),
        (ev.StopRequested(), '"at_s":1.0'),
    ],
)
@pytest.mark.parametrize("forged", ["-1", "-1e30", "1e999", "true", "null"])
def test_a_figure_that_would_lift_a_ceiling_is_refused(
    path: Path, event: ev.AnyEvent, figure: str, forged: str
) -> None:
    """Whoever goes on with a run takes over what its journal says was spent."""
    write(path, [record(0, started()), record(1, event)])
    name = figure.partition(":")[0]
    lines = path.read_bytes().replace(figure.encode(), f"{name}:{forged}".encode())
    path.write_bytes(lines)

    with pytest.raises(JournalError, match=r", line 2: "):
        reader.read(path)


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


SCHEMA_1 = Path(__file__).with_name("journal_schema_1.jsonl")


def test_a_journal_of_schema_1_is_read_as_0_1_0_wrote_it() -> None:
    """A whole run with a child: its text was `text`, and is `context.text` now."""
    recording = reader.read(SCHEMA_1)

    asked = [r.event for r in recording.records if isinstance(r.event, ev.CallsRequested)]
    part = ev.ContextPart(text="one\ntwo é")
    assert [batch.requests for batch in asked] == [
        [ev.Request(prompt="How many lines?", context=part)],
        [ev.Request(prompt="Say it", text="alp")],
    ]
    assert (recording.schema, recording.started.schema) == (1, ev.SCHEMA)
    assert recording.intact_bytes == SCHEMA_1.stat().st_size
    assert len(recording.records) == 24


def test_an_old_line_that_fits_no_migration_is_an_error_that_names_it(path: Path) -> None:
    lines = SCHEMA_1.read_bytes().splitlines(keepends=True)
    for damaged in (b"[]", b"{}", b'{"event":{"kind":"calls_requested","purpose":"rlm"}}'):
        path.write_bytes(lines[0] + damaged + b"\n")

        with pytest.raises(JournalError, match=r", line 2: no record of its schema: "):
            reader.read(path)


def test_records_can_be_taken_one_by_one(path: Path) -> None:
    """A torn last line is left out as in `read`."""
    path.write_bytes(WHOLE + b'{"seq":')

    assert list(reader.each(path)) == run()


def test_reading_holds_the_records_and_not_the_file_beside(path: Path) -> None:
    """Schema and torn line are found on the way: one pass, a line at a time."""
    event = ev.CellStarted(cell=1, code="x" * 100_000)
    path.write_bytes(
        b"".join(
            codec.encode(one) + b"\n"
            for one in [run()[0], *(record(seq, event) for seq in range(1, 100))]
        )
    )
    tracemalloc.start()
    try:
        count = sum(1 for _ in reader.each(path))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert count == 100
    assert peak_bytes < 2_000_000


def test_a_line_without_end_is_not_read_into_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MOST_LINE_BYTES", len(WHOLE))
    path.write_bytes(WHOLE + b"x" * len(WHOLE))

    with pytest.raises(JournalError, match=r": a line is longer than [\d,]+ bytes$"):
        reader.read(path)


@pytest.mark.parametrize("trap", ["link", "pipe", "socket", "folder"])
def test_a_journal_that_is_no_file_is_neither_read_nor_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    """A run's folder may come from somebody else. A pipe would be waited for, for ever."""
    other = path.with_name("other")
    other.write_bytes(WHOLE)
    monkeypatch.chdir(path.parent)  # the address of a socket is short
    if trap == "link":
        path.symlink_to(other)
    elif trap == "pipe":
        os.mkfifo(path)
    elif trap == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)

    with pytest.raises(JournalError, match=r"^cannot read .*: it is no regular file$"):
        reader.read(path)
    with pytest.raises(JournalError, match=r"^cannot open .*: it is no regular file$"):
        JournalWriter(path)
    assert other.read_bytes() == WHOLE


def test_a_link_to_nothing_does_not_make_a_file_elsewhere(path: Path) -> None:
    path.symlink_to(path.with_name("other"))

    with pytest.raises(JournalError, match=r"it is no regular file$"):
        JournalWriter(path)
    assert not path.with_name("other").exists()


def test_a_run_that_only_waits_leaves_word_of_its_time(path: Path) -> None:
    """The sign of an earlier process counts until there is a new one."""
    sign = path.with_name("alive")
    sign.write_text("7")
    journal = JournalWriter(path)
    said = [sign.read_text()]
    for elapsed_s in (1234.5, 1235.0):
        journal.alive(elapsed_s)
        said.append(sign.read_text())
    journal.append(run()[0])
    journal.close()
    journal.alive(9999)

    assert said == ["7", "000000001234.500\n", "000000001235.000\n"]
    assert sign.read_text() == said[-1]
    assert sign.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == WHOLE[:FIRST]


@pytest.mark.parametrize("trap", ["link", "hard link", "folder"])
def test_a_sign_of_life_that_cannot_be_left_or_leads_elsewhere_harms_nothing(
    path: Path, trap: str
) -> None:
    sign, mine = path.with_name("alive"), path.with_name("mine")
    mine.write_text("precious")
    if trap == "link":
        sign.symlink_to(mine)
    elif trap == "hard link":
        sign.hardlink_to(mine)
    else:
        sign.mkdir()

    with JournalWriter(path) as journal:
        journal.alive(5.0)
        journal.append(run()[0])

    assert (mine.read_text(), path.read_bytes()) == ("precious", WHOLE[:FIRST])


def test_a_missing_journal_is_a_typed_error(path: Path) -> None:
    with pytest.raises(JournalError, match=r": No such file or directory$"):
        reader.read(path)
