"""Contract: contexts/cache and cached. The same files give the same context, or are read again."""

import errno
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from abyme.apps.cli import main
from abyme.contexts import cache as module
from abyme.contexts import cached
from abyme.contexts.cache import FOLDER, IngestCache
from abyme.contexts.choice import Choice
from abyme.contexts.confined import HelperUnavailable
from abyme.contexts.load import Loaded, load_paths
from abyme.contexts.reading import Item, Passing, Readers, Unreadable
from abyme.contexts.room import Room
from abyme.contexts.sealed import SealedContext, from_value
from abyme.core.events import Span
from abyme.layout import ADOPT_BYTES

LATER_NS = 10_000_000_000
FILES = {"a.txt": "alpha\n", "b.txt": "größer\n", "deep/c.txt": "日" * ADOPT_BYTES, "x.bin": "\0"}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files are worth it."""
    monkeypatch.setattr(module, "LEAST_FILES", 2)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "cache" / FOLDER


def later() -> int:
    """Tell a time at which files of now are old."""
    return time.time_ns() + LATER_NS


def read(source: Path, folder: Path, choice: Choice = Choice()) -> tuple[Loaded, list[str]]:  # noqa: B008
    """Load, and wait until it is stored; what the cache had to tell."""
    cache = IngestCache(folder, clock_ns=later)
    loaded = load_paths([source], choice=choice, cache=cache)
    cache.wait()
    return loaded, cache.notes


def contents(context: SealedContext) -> list[tuple[str, str]]:
    return [(context.label(n), context.text(n)) for n in range(context.documents)]


def stored(source: Path, folder: Path) -> Path:
    """Store what `source` has; the folder of the entry."""
    loaded, notes = read(source, folder)
    loaded.context.close()
    assert notes == []
    (entry,) = cached.entries(folder)
    return folder / entry.key


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_the_same_files_are_mapped_and_not_read_again(source: Path, folder: Path) -> None:
    first, _ = read(source, folder)
    second, notes = read(source, folder)
    assert (first.cached, second.cached, notes) == (False, True, [])
    assert (first.context.is_sealed, second.context.is_sealed) == (True, False)
    assert contents(second.context) == contents(first.context)
    assert second.context.manifest == structs.replace(first.context.manifest, in_file=True)
    assert second.summary() == (
        f"{first.summary().replace(')', ', from the cache)', 1)}, "
        "held in a file of your own, not in sealed memory"
    )
    assert (second.read, second.skipped) == (first.read, first.skipped)
    assert second.context.sources == [str(source)]
    part = second.context.part([Span(document=2, start=1, end=4)], "text")
    second.context.close()
    assert part.text(0) == "日" * 3
    part.close()
    first.context.close()


def test_what_is_stored_is_this_users_alone(source: Path, folder: Path) -> None:
    place = stored(source, folder)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in place.iterdir()}
    assert modes == {"manifest.json": "0o600", "index": "0o600", "arena": "0o600"}
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, place)] == ["0o700", "0o700"]
    assert left_over(folder) == []


def test_a_change_that_keeps_size_and_time_is_seen(source: Path, folder: Path) -> None:
    stored(source, folder)
    path = source / "a.txt"
    before = path.stat()
    path.write_text("ALPHA\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    loaded, _ = read(source, folder)
    assert (loaded.cached, loaded.context.text(0)) == (False, "ALPHA\n")
    loaded.context.close()


@pytest.mark.parametrize("name", ["d.txt", ".gitignore"])
def test_a_new_file_is_seen(source: Path, folder: Path, name: str) -> None:
    stored(source, folder)
    (source / name).write_text("*.bin\n")
    loaded, _ = read(source, folder)
    assert not loaded.cached
    loaded.context.close()


def test_another_choice_is_another_context(source: Path, folder: Path) -> None:
    stored(source, folder)
    loaded, _ = read(source, folder, Choice(max_file_bytes=100))
    assert (loaded.cached, [file.name for file in loaded.read]) == (False, ["a.txt", "b.txt"])
    loaded.context.close()


def test_a_file_changed_just_now_is_not_trusted_to_stay(source: Path, folder: Path) -> None:
    cache = IngestCache(folder)
    loaded = load_paths([source], cache=cache)
    cache.wait()
    loaded.context.close()
    assert not folder.exists()


def test_little_plain_text_is_not_worth_it(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "one.txt").write_text("one")
    loaded, _ = read(tmp_path / "one.txt", folder)
    loaded.context.close()
    assert not folder.exists()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def _link(path: Path) -> None:
    aside = path.parent.parent / "aside"
    path.rename(aside)
    path.symlink_to(aside)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _open_to_others(path: Path) -> None:
    path.chmod(0o644)


@pytest.mark.parametrize("name", ["arena", "index", "manifest.json"])
@pytest.mark.parametrize("harm", [_flip, _cut, _grow, _link, _pipe, _open_to_others])
def test_a_damaged_entry_is_removed_and_said_and_the_files_are_read(
    source: Path, folder: Path, name: str, harm
) -> None:
    place = stored(source, folder)
    harm(place / name)
    cache = IngestCache(folder, clock_ns=later)
    loaded = load_paths([source], cache=cache)
    assert not loaded.cached
    assert dict(contents(loaded.context)) == {n: FILES[n] for n in FILES if n != "x.bin"}
    (note,) = cache.notes
    assert note.startswith("a cached context was not used and is removed: ")
    cache.wait()
    loaded.context.close()
    again, notes = read(source, folder)
    assert (again.cached, notes) == (True, [])
    again.context.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's file")
def test_another_users_entry_is_not_used(source: Path, folder: Path) -> None:
    place = stored(source, folder)
    os.chown(place / "arena", 65534, 65534)
    loaded, notes = read(source, folder)
    assert not loaded.cached
    assert notes == ["a cached context was not used and is removed: it belongs to the user 65534"]
    loaded.context.close()


@pytest.mark.parametrize("words", ["", "{}", '{"key":"../../etc","named":[]}', "[" * 9000])
def test_a_recipe_that_is_none_names_nothing(source: Path, folder: Path, words: str) -> None:
    stored(source, folder)
    (recipe,) = (folder / cached.RECIPES).iterdir()
    recipe.write_text(words)
    loaded, notes = read(source, folder)
    assert not loaded.cached
    assert len(notes) == 1
    loaded.context.close()


def test_a_folder_that_others_may_enter_is_not_used(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    loaded, notes = read(source, folder)
    assert loaded.context.documents == 3
    loaded.context.close()
    assert len(notes) == 2
    assert all("others may open it" in note for note in notes)
    assert list(folder.iterdir()) == []


def test_without_a_folder_the_run_goes_on_and_it_is_said(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    loaded, notes = read(source, tmp_path / "file" / "contexts")
    assert loaded.context.documents == 3
    loaded.context.close()
    assert len(notes) == 2


def test_a_full_disk_leaves_nothing_and_is_said(source: Path, folder: Path) -> None:
    loaded = load_paths([source])
    cache = IngestCache(folder, clock_ns=later)
    recipe = module.Recipe("0" * 64, ["source"], is_large=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        cache.offer(recipe, loaded.context)
        cache.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    loaded.context.close()
    assert cache.notes == [f"the context is not cached in {folder}: File too large"]
    assert list(folder.iterdir()) == []


def test_a_run_that_ends_before_leaves_nothing(folder: Path) -> None:
    context = from_value(["x" * 100])
    cached.check_folder(folder)
    with pytest.raises(cached.Dropped):
        cached.store(folder, context.fds, context.manifest, lambda: True)
    context.close()
    assert list(folder.iterdir()) == []


def test_to_close_the_context_gives_storing_up(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def store(_folder, _fds, _manifest, is_dropped):
        begun.set()
        while not is_dropped():
            pass
        raise cached.Dropped

    monkeypatch.setattr(cached, "store", store)
    cache = IngestCache(folder, clock_ns=later)
    loaded = load_paths([source], cache=cache)
    begun.wait()
    loaded.context.close()
    assert cached.entries(folder) == []


KILLED = """
import sys, time
from pathlib import Path
from abyme.contexts import cached
from abyme.contexts.sealed import from_value
context = from_value("x" * 100)
def wait():
    print("writing", flush=True)
    time.sleep(600)
cached.store(Path(sys.argv[1]), context.fds, context.manifest, wait)
"""


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(
    folder: Path,
) -> None:
    cached.check_folder(folder)
    source = str(Path(cached.__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([source, *sys.path])},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"writing\n"
        assert cached.shrink(folder, 0) == []
        assert len(left_over(folder)) == 1
        child.send_signal(signal.SIGKILL)
    assert cached.shrink(folder, 0) == []
    assert left_over(folder) == []


def test_two_that_store_the_same_leave_one_entry(folder: Path) -> None:
    context = from_value({"a": "x" * 5000})
    cached.check_folder(folder)
    keys = {cached.store(folder, context.fds, context.manifest, lambda: False) for _ in range(2)}
    context.close()
    assert [entry.key for entry in cached.entries(folder)] == list(keys)
    assert left_over(folder) == []


def test_those_not_used_for_longest_go_first(folder: Path) -> None:
    cached.check_folder(folder)
    keys = []
    for number in range(3):
        context = from_value(f"{number}" * 5000)
        keys.append(cached.store(folder, context.fds, context.manifest, lambda: False))
        os.utime(folder / keys[-1], (number, number))
        context.close()
    cached.opened(folder, keys[0]).close()
    size = cached.entries(folder)[0].size_bytes
    removed = cached.shrink(folder, 2 * size)
    assert [entry.key for entry in removed] == [keys[1]]
    assert [entry.key for entry in cached.entries(folder)] == [keys[2], keys[0]]


def test_a_context_that_is_dropped_while_it_is_mapped_can_be_read(
    source: Path, folder: Path
) -> None:
    stored(source, folder)
    loaded, _ = read(source, folder)
    assert loaded.cached
    cached.shrink(folder, 0)
    assert loaded.context.text(1) == FILES["b.txt"]
    loaded.context.close()
    assert [path.name for path in folder.iterdir()] == [cached.RECIPES]
    assert list((folder / cached.RECIPES).iterdir()) == []


def test_what_is_larger_than_the_bound_is_not_stored(source: Path, folder: Path) -> None:
    cache = IngestCache(folder, max_bytes=1000, clock_ns=later)
    load_paths([source], cache=cache).context.close()
    cache.wait()
    assert (cached.entries(folder), cache.notes) == ([], [])


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        (Passing("takes more than 60 s to read"), False),
        (HelperUnavailable("a helper cannot be started"), False),
        (OSError(errno.EMFILE, "Too many open files"), False),
        (Unreadable("broken"), True),
        (OSError(errno.EACCES, "Permission denied"), True),
    ],
)
def test_what_may_be_otherwise_another_day_is_not_stored(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, is_kept: bool
) -> None:
    def fails(*_: object) -> Iterator[Item]:
        raise error
        yield

    (source / "z.zip").write_bytes(b"PK\3\4" + bytes(60))
    monkeypatch.setattr(Readers, "open", fails)
    loaded, _ = read(source, folder)
    assert [one.name for one in loaded.skipped] == ["x.bin", "z.zip"]
    assert loaded.has_passing is not is_kept
    assert bool(folder.exists() and cached.entries(folder)) is is_kept


def test_a_lock_is_held_while_an_entry_is_written(folder: Path) -> None:
    context = from_value("x" * 100)
    cached.check_folder(folder)
    held = []

    def look() -> bool:
        (partial,) = left_over(folder)
        fd = os.open(folder / partial, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.append(True)
        finally:
            os.close(fd)
        return False

    cached.store(folder, context.fds, context.manifest, look)
    context.close()
    assert held == [True]


def test_the_command_lists_prunes_and_clears(
    source: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ABYME_HOME", str(tmp_path / "home"))
    place = stored(source, folder)
    assert main.run(["cache", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(row["key"], row["sources"]) for row in listed["contexts"]] == [
        (place.name, [str(source)])
    ]
    size = sum(path.stat().st_size for path in place.iterdir())
    assert (listed["folder"], listed["size_bytes"]) == (str(folder), size)
    assert main.run(["cache"]) == 0
    assert place.name[:12] in capsys.readouterr().out
    assert main.run(["cache", "prune", "--max-bytes", "1GB", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": []}
    assert main.run(["cache", "clear"]) == 0
    assert capsys.readouterr().out.startswith("removed 1 context (")
    assert not place.exists()


def test_the_command_says_that_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ABYME_HOME", str(tmp_path))
    assert main.run(["cache"]) == 0
    assert capsys.readouterr().out.startswith("0 contexts (0 B of at most ")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert main.run(["cache", "clear"]) == 0
    assert capsys.readouterr().out == "removed 0 contexts (0 B)\n"


def test_the_context_command_waits_and_says_once_where_it_came_from(
    source: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ABYME_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "RACY_NS", -LATER_NS)
    seen = []
    for options in ([], [], ["--no-ingest-cache"]):
        assert main.run(["context", str(source), "--json", *options]) == 0
        seen.append(json.loads(capsys.readouterr().out)["cached"])
    assert seen == [False, True, False]
    (entry,) = cached.entries(folder)
    (folder / entry.key / "arena").chmod(0o644)
    assert main.run(["context", str(source)]) == 0
    told = capsys.readouterr().err
    assert told.count("a cached context was not used and is removed: others may open it") == 1


def test_a_context_larger_than_memory_gets_a_name_and_is_not_copied(
    source: Path, folder: Path
) -> None:
    cache = IngestCache(folder, clock_ns=later)
    first = load_paths([source], cache=cache, room=Room(folder, memory_bytes=0))
    cache.wait()
    second, notes = read(source, folder)
    assert (first.context.is_sealed, second.cached, notes) == (False, True, [])
    nodes = {os.fstat(loaded.context.fds[1]).st_ino for loaded in (first, second)}
    assert len(nodes) == 1
    assert contents(first.context) == contents(second.context)
    first.context.close()
    second.context.close()


def test_another_version_of_a_reader_reads_again(
    source: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(source, folder)
    (tmp_path / "site" / "PyPDFium2-99.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    loaded, _ = read(source, folder)
    assert not loaded.cached
    loaded.context.close()
