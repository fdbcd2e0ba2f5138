"""Contract: contexts/room, arena, stream. Large inputs: no wider than they are, memory or file."""

import hashlib
import io
import mmap
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from jail_doubles import bench

from abyme.contexts import room as module
from abyme.contexts import stream
from abyme.contexts.arena import ArenaWriter
from abyme.contexts.choice import Choice
from abyme.contexts.load import load_paths
from abyme.contexts.room import MEMORY_ONLY, Room, available_bytes
from abyme.contexts.sealed import SealedContext
from abyme.core.events import Evidence, Span
from abyme.errors import ContextError
from abyme.layout import ADOPT_BYTES, ASCII, LATIN1, UCS2, UCS4

LINE = "one line of the text\n"
TEXT = LINE * (2 * ADOPT_BYTES // len(LINE))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "cache", memory_bytes=ADOPT_BYTES)


@pytest.fixture
def in_file(source: Path, room: Room):
    context = load_paths([source], room=room).context
    yield context
    context.close()


def truncate(context: SealedContext, size_bytes: int) -> None:
    """Do what another process of this user could: through /proc, where the file has no name."""
    fd = os.open(f"/proc/self/fd/{context.fds[1]}", os.O_WRONLY)
    os.ftruncate(fd, size_bytes)
    os.close(fd)


def test_what_memory_would_not_hold_lies_in_a_file_and_reads_the_same(
    in_file: SealedContext,
) -> None:
    assert not in_file.is_sealed
    assert in_file.manifest.in_file
    assert in_file.text(0) == TEXT
    assert in_file.piece(0, len(TEXT) - 5, len(TEXT) + 5) == TEXT[-5:]
    part = in_file.part([Span(document=0, start=3, end=9)], "text")
    assert part.text(0) == TEXT[3:9]
    part.close()


def test_evidence_is_found_in_a_file(in_file: SealedContext) -> None:
    start = 7 * len(LINE)
    found, missing = in_file.check([f"in.txt:{8}"])
    assert (found, missing) == (
        [
            Evidence(
                path="in.txt", line=8, start=start, end=start + len(LINE) - 1, quote=LINE.strip()
            )
        ],
        [],
    )


def test_the_file_has_no_name_and_only_this_user_may_open_it(
    in_file: SealedContext, room: Room
) -> None:
    status = os.fstat(in_file.fds[1])
    assert (stat.S_IMODE(status.st_mode), status.st_nlink) == (0o600, 0)
    assert room.folder is not None
    assert list(room.folder.iterdir()) == []
    assert stat.S_IMODE(room.folder.stat().st_mode) == 0o700


def test_without_nameless_files_the_name_is_gone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # open(2) refuses: it is a folder
    fd = module.nameless(tmp_path)
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    assert list(tmp_path.iterdir()) == []


def test_who_has_the_descriptor_cannot_write(in_file: SealedContext) -> None:
    arena = in_file.fds[1]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(arena, b"x", 0)
    with pytest.raises(OSError, match=r"Invalid argument|Bad file"):
        os.ftruncate(arena, 0)
    with pytest.raises(PermissionError):
        mmap.mmap(arena, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def test_more_than_was_expected_moves_into_the_file(room: Room) -> None:
    writer = ArenaWriter(room, expected_bytes=10)
    writer.add(b"small", ASCII)
    writer.add(b"a" * ADOPT_BYTES, ASCII)
    writer.add_pieces([b"b" * ADOPT_BYTES, b"c"], ASCII)
    fd, placed = writer.seal()
    pieces = [os.pread(fd, text.entry.size_bytes, text.entry.offset) for text in placed]
    os.close(fd)
    assert pieces == [b"small", b"a" * ADOPT_BYTES, b"b" * ADOPT_BYTES + b"c"]
    assert [text.sha256 for text in placed] == [hashlib.sha256(p).hexdigest() for p in pieces]


def test_a_file_that_is_cut_short_is_an_error_on_the_host(in_file: SealedContext) -> None:
    truncate(in_file, 4096)
    with pytest.raises(ContextError, match="cut short by another process"):
        in_file.piece(0, 0, 10)


def test_a_file_that_is_changed_is_an_error_on_the_host(in_file: SealedContext) -> None:
    size = os.fstat(in_file.fds[1]).st_size
    truncate(in_file, size - 4096)
    truncate(in_file, size)
    with pytest.raises(ContextError, match="changed by another process"):
        in_file.check([LINE * 2])


def test_a_cell_reads_the_file_and_ends_by_name_when_it_is_cut(in_file: SealedContext) -> None:
    with bench() as jail, jail.repl(context=in_file) as repl:
        assert repl.out("print(len(context), context.count('line'))") == (
            f"{len(TEXT)} {len(TEXT) // len(LINE)}\n"
        )
        truncate(in_file, 4096)
        finished = repl.cell("context.count('line')")
    assert finished.limit is not None
    assert finished.limit.startswith("crashed (signal 7: ")
    assert "file was cut" in finished.limit


def test_without_a_folder_too_much_is_refused_before_it_is_read(source: Path) -> None:
    with pytest.raises(ContextError, match=r"^the input needs 2\.1 MB and may take 1\.0 MB of mem"):
        load_paths([source], room=Room(memory_bytes=1_000_000))


def test_without_room_on_the_disk_too_much_is_refused(
    source: Path, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SimpleNamespace(f_bavail=100, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _folder: disk)
    with pytest.raises(ContextError, match=r"needs 2\.1 MB: .* the disk of .* has 409\.6 kB free"):
        load_paths([source], room=room)


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(
    source: Path, tmp_path: Path
) -> None:
    with pytest.raises(ContextError, match=r"cannot use .*in\.txt/cache"):
        load_paths([source], room=Room(source / "cache", memory_bytes=0))


def test_a_share_of_what_is_available_is_taken() -> None:
    assert 0 < available_bytes() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < MEMORY_ONLY.most_memory_bytes() < available_bytes() * 1.5


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "max\n", "memory.current": "7\n", "memory.stat": "inactive_file 3"}, []),
        (
            {"memory.max": "100", "memory.current": "70", "memory.stat": "x 1\ninactive_file 3"},
            [33],
        ),
        ({"memory.max": "100", "memory.current": "170", "memory.stat": "inactive_file 3"}, [0]),
        ({"memory.max": "100"}, []),
        ({}, []),
    ],
)
def test_a_control_group_leaves_what_it_has_not_used(
    tmp_path: Path, files: dict[str, str], left: list[int]
) -> None:
    for name, words in files.items():
        (tmp_path / name).write_text(words)
    assert module._left(tmp_path) == left


@pytest.mark.parametrize(
    ("tail", "kind"),
    [("a", ASCII), ("é", LATIN1), ("日", UCS2), ("é日", UCS2), ("é日😀é", UCS4), ("😀", UCS4)],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_streamed_text_is_as_narrow_as_its_widest_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: str, kind: int, encoding: str
) -> None:
    monkeypatch.setattr(stream, "PIECE_BYTES", 1000)
    text = "x" * 2500 + "".join(char + "y" * 2500 for char in tail)
    data = text.encode(encoding)
    path = tmp_path / "wide.txt"
    path.write_bytes(data)
    writer = ArenaWriter()
    with path.open("rb", buffering=0) as file:
        told = stream.stream(file, writer)
    fd, [sealed] = writer.seal()
    os.close(fd)
    assert (sealed.entry.kind, sealed.entry.chars) == (kind, len(text))
    assert (told.chars, told.source_bytes) == (len(text), len(data))
    assert told.source_sha256 == hashlib.sha256(data).hexdigest()


def test_binary_behind_text_leaves_the_arena_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "late.bin"
    path.write_bytes(b"x" * 9_000_000 + "é".encode() + b"\0")
    writer = ArenaWriter()
    writer.add(b"before", ASCII)
    with path.open("rb", buffering=0) as file, pytest.raises(stream.NotText, match="binary"):
        stream.stream(file, writer)
    writer.add(b"after", ASCII)
    fd, placed = writer.seal()
    assert os.fstat(fd).st_size == 4096
    os.close(fd)
    assert [text.entry.size_bytes for text in placed] == [6, 5]


def test_standard_input_larger_than_memory_lies_in_a_file(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PIECE_BYTES", 100_000)
    with stream.spooled(io.BytesIO(TEXT.encode()), room) as spool:
        assert not str(Path(f"/proc/self/fd/{spool.fileno()}").readlink()).startswith("/memfd:")
        spool.seek(0)
        assert spool.read() == TEXT.encode()
    context = load_paths(["-"], stdin=io.BytesIO(TEXT.encode()), room=room).context
    assert (context.is_sealed, context.text(0)) == (False, TEXT)
    context.close()


def test_what_is_binary_or_over_the_limit_needs_no_room(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with (tmp_path / "sparse.img").open("wb") as file:
        file.truncate(1 << 40)
    loaded = load_paths([tmp_path], room=Room(memory_bytes=ADOPT_BYTES))
    assert [file.name for file in loaded.read] == ["a.txt"]
    assert loaded.skipped == [("sparse.img", "binary")]
    loaded.context.close()
    (tmp_path / "sparse.img").write_bytes(b"text " * ADOPT_BYTES)
    choice = Choice(max_file_bytes=1000)
    loaded = load_paths([tmp_path], choice=choice, room=Room(memory_bytes=ADOPT_BYTES))
    assert loaded.skipped == [("sparse.img", "over 1.0 kB")]
    loaded.context.close()


def test_what_finds_no_room_is_told_by_its_largest_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").write_bytes(b"text " * ADOPT_BYTES)
    with pytest.raises(ContextError, match=r"; the largest: b\.txt \(.*--max-file-size or --excl"):
        load_paths([tmp_path], room=Room(memory_bytes=ADOPT_BYTES))
