"""Contract: contexts/kept and again. A run goes on over the very same input, or not at all."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest
from msgspec import Struct, structs, to_builtins

from abyme.contexts import kept
from abyme.contexts.again import again, check_same
from abyme.contexts.arena import ArenaWriter
from abyme.contexts.kept import drop, keep, key_of, located, must_be_kept, reopen, unused
from abyme.contexts.load import load_paths
from abyme.contexts.manifest import DocumentFacts, Manifest
from abyme.contexts.sealed import SealedContext, Source, finish, from_value
from abyme.core.events import Span
from abyme.errors import ContextError
from abyme.guest.adopt import View
from abyme.layout import LATIN1, UCS2, Entry, read_index, write_index

WIDE = "ж" * (kept.ADOPT_BYTES // 2 + 5)
VALUES = [
    "alpha\nbeta",
    "\ud83d\ud800 lone",
    WIDE + "😀",
    ["", "x", "é\x00"],
    {"a.txt": "one", "b\udcff": WIDE, "": "three"},
]


class Origin(Struct, kw_only=True):
    sources: list[str] = []
    located: list[str] = []
    context_key: str = ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "contexts"


def texts(context: SealedContext) -> list[str]:
    found = [context.text(number) for number in range(context.documents)]
    context.close()
    return found


def put(folder: Path, value: object) -> tuple[str, object]:
    """Keep a value: its key and its manifest, as a run's folder has it."""
    context = from_value(value)
    key = keep(context, folder)
    manifest = to_builtins(context.manifest)
    context.close()
    return key, manifest


def test_pages_media_types_and_tables_come_back(folder: Path) -> None:
    rows = b"ARROW1" + bytes(range(256)) * 20
    writer = ArenaWriter()
    writer.add_text("one\ftwo")
    writer.add_text("a,b\n1,2\n")
    place = writer.add_blob(rows)
    writer.add_text("plain")
    sources = [
        Source("utf-8", 9, "0" * 64, "application/pdf", (0, 4), "slide"),
        Source(None, 8, "1" * 64, "text/csv", table=place),
        Source("utf-8", 5, "2" * 64),
    ]
    context = finish(writer, "documents", ["a.pdf", "b.csv", "c.txt"], sources)
    key = keep(context, folder)
    again = reopen(folder, key)
    assert [structs.replace(d, table=None) for d in again.manifest.documents] == [
        structs.replace(d, table=None) for d in context.manifest.documents
    ]
    index_fd, arena_fd = again.fds
    size = os.fstat(arena_fd).st_size
    extras = read_index(os.pread(index_fd, os.fstat(index_fd).st_size, 0), size).extras
    assert extras.pages == {0: [0, 4]}
    assert extras.words == {0: "slide"}
    assert extras.media == {0: "application/pdf", 1: "text/csv"}
    offset, length = extras.tables[1]
    assert os.pread(arena_fd, length, offset) == rows
    again.close()
    context.close()
    path = folder / key / "arena"
    data = bytearray(path.read_bytes())
    data[place[0] + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ContextError, match="its content has another hash"):
        reopen(folder, key)


@pytest.mark.parametrize("value", VALUES, ids=["ascii", "surrogates", "wide", "list", "mapping"])
def test_a_kept_context_comes_back_as_it_was(folder: Path, value: object) -> None:
    context = from_value(value)
    expected = [context.text(number) for number in range(context.documents)]
    key = keep(context, folder)

    back = reopen(folder, key)

    assert (back.shape, back.names, back.manifest) == (
        context.shape,
        context.names,
        context.manifest,
    )
    assert View(*back.fds).context == View(*context.fds).context
    assert texts(back) == expected
    context.close()


def test_what_is_kept_is_for_its_owner_only(folder: Path) -> None:
    before = os.umask(0)
    try:
        key, _ = put(folder, "private")
    finally:
        os.umask(before)

    paths = [folder, folder / key, *sorted((folder / key).iterdir())]
    modes = {path.name: path.stat().st_mode & 0o777 for path in paths}
    assert modes == {
        "contexts": 0o700,
        key: 0o700,
        "arena": 0o600,
        "index": 0o600,
        "manifest.json": 0o600,
    }


def test_the_same_content_is_kept_once(folder: Path) -> None:
    """Runs share it: the second one writes nothing."""
    key, _ = put(folder, {"a": "one"})
    written = (folder / key / "arena").stat().st_mtime_ns

    assert put(folder, {"a": "one"})[0] == key
    assert (folder / key / "arena").stat().st_mtime_ns == written
    assert len(list(folder.iterdir())) == 2  # and the lock


@pytest.mark.parametrize("other", [{"b": "one"}, ["one"], "one", {"a": "one", "b": ""}])
def test_another_name_shape_or_text_is_another_content(folder: Path, other: object) -> None:
    assert put(folder, other)[0] != put(folder, {"a": "one"})[0]


def test_the_same_bytes_of_another_width_are_another_content(folder: Path) -> None:
    """Two bytes are one character of UCS-2, and two of Latin-1."""
    keys = {
        key_of(Manifest(shape="text", documents=[facts]))
        for kind in (UCS2, LATIN1)
        for facts in [DocumentFacts(name="", chars=2 // kind, kind=kind, sealed_sha256="0" * 64)]
    }
    assert len(keys) == 2


def test_a_context_may_be_closed_while_it_is_stored(folder: Path, monkeypatch) -> None:
    """A run can end before a slow disk has everything."""
    context = from_value("alpha")
    real = kept._store

    def closing(*args) -> None:
        context.close()
        real(*args)

    monkeypatch.setattr(kept, "_store", closing)

    assert texts(reopen(folder, keep(context, folder))) == ["alpha"]


def test_a_large_context_is_not_kept(folder: Path) -> None:
    context = from_value("x" * 10_000)
    with pytest.raises(ContextError) as caught:
        keep(context, folder, max_bytes=10_000)
    context.close()

    assert str(caught.value) == "a context of 12.4 kB is not kept: at most 10.0 kB"
    assert not folder.exists()


def test_a_part_of_a_context_is_not_kept(folder: Path) -> None:
    """Its texts are not hashed again."""
    whole = from_value(["one", "two"])
    part = whole.part([Span(document=1)], "text")
    with pytest.raises(ContextError, match=r"^a part of another context is not kept$"):
        keep(part, folder)
    part.close()
    whole.close()


def test_a_full_disk_leaves_nothing_half_kept(folder: Path, monkeypatch) -> None:
    context = from_value("alpha")

    def full(out: int, *_: object) -> int:
        os.write(out, b"al")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "sendfile", full)
    with pytest.raises(ContextError, match=r"^the context cannot be kept in .*: No space left"):
        keep(context, folder)
    monkeypatch.undo()

    assert [path.name for path in folder.iterdir()] == [".lock"]
    assert texts(reopen(folder, keep(context, folder))) == ["alpha"]
    context.close()


def test_two_runs_may_store_the_same_content_at_once(folder: Path, monkeypatch) -> None:
    """The second rename finds the place taken, which is as good."""
    context = from_value("alpha")
    real = os.fsync

    def meanwhile(fd: int) -> None:
        monkeypatch.undo()
        shutil.copytree(next(folder.glob(".abyme-partial-*")), folder / key_of(context.manifest))
        real(fd)

    monkeypatch.setattr(os, "fsync", meanwhile)

    assert texts(reopen(folder, keep(context, folder))) == ["alpha"]
    assert list(folder.glob(".abyme-partial-*")) == []
    context.close()


@pytest.mark.parametrize("name", ["arena", "index", "manifest.json"])
def test_a_kept_context_that_was_changed_is_refused(folder: Path, name: str) -> None:
    """Every single byte of its three files is either unused padding or noticed."""
    key, _ = put(folder, {"a": "one", "b": "twø"})
    path = folder / key / name
    data = path.read_bytes()
    steps = range(0, len(data), 1 if len(data) < 4096 else 512)
    taken = []
    for at in steps:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            taken.append(texts(reopen(folder, key)))
        except ContextError as error:
            assert str(error).startswith(f"{folder / key} is damaged: ")  # noqa: PT017

    assert all(one == ["one", "twø"] for one in taken)
    path.write_bytes(data[: len(data) // 2 if name != "arena" else 5])
    with pytest.raises(ContextError, match=r" is damaged: "):
        reopen(folder, key)


@pytest.mark.parametrize("trap", ["link", "pipe"])
@pytest.mark.parametrize("name", ["arena", "index", "manifest.json"])
def test_a_kept_file_that_is_no_file_is_not_waited_for(
    tmp_path: Path, folder: Path, name: str, trap: str
) -> None:
    key, _ = put(folder, "alpha")
    path = folder / key / name
    moved = path.rename(tmp_path / "moved")
    if trap == "link":
        path.symlink_to(moved)
    else:
        os.mkfifo(path)

    with pytest.raises(ContextError, match=r"^cannot read .*: it is no regular file$"):
        reopen(folder, key)


def test_a_lock_that_leads_elsewhere_makes_no_file_there(tmp_path: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / ".lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ContextError, match=r": it is no regular file$"):
        put(folder, "alpha")
    assert not (tmp_path / "elsewhere").exists()


def test_texts_that_overlap_would_fill_the_memory(folder: Path) -> None:
    """A small file of an index could stand for a million times its arena."""
    key, _ = put(folder, ["one", "two"])
    size = (folder / key / "arena").stat().st_size
    whole = Entry(0, size, size, LATIN1)
    (folder / key / "index").write_bytes(write_index("list", [whole, whole], []))

    with pytest.raises(ContextError, match=r" is damaged: its texts overlap$"):
        reopen(folder, key)


def test_an_arena_larger_than_any_that_is_kept_is_refused(folder: Path) -> None:
    key, _ = put(folder, "alpha")
    os.truncate(folder / key / "arena", kept.KEEP_BYTES + 1)

    with pytest.raises(ContextError, match=r" is damaged: 1\.1 GB of text, at most 1\.1 GB$"):
        reopen(folder, key)


def test_a_manifest_that_nests_without_end_is_damaged(folder: Path) -> None:
    key, _ = put(folder, "alpha")
    (folder / key / "manifest.json").write_bytes(b"[" * 100_000)

    with pytest.raises(ContextError, match=r" is damaged: nested too deeply$"):
        reopen(folder, key)


@pytest.mark.parametrize("key", ["", "0" * 64, "..", "../contexts", "A" * 64])
def test_a_key_that_is_none_is_a_typed_error(folder: Path, key: str) -> None:
    put(folder, "alpha")

    with pytest.raises(ContextError, match=r"^the run's context is not kept in "):
        reopen(folder, key)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [([], True), (["-"], True), (["a", "-"], True), (["/dev/fd/63"], True), (["a", "b/"], False)],
)
def test_what_paths_do_not_give_again_must_be_kept(sources: list[str], expected: bool) -> None:
    assert must_be_kept(sources) is expected


def origin_of(*sources: str) -> tuple[Origin, object]:
    """Load as a run does: its spec, and its manifest."""
    context = load_paths(sources).context
    manifest = to_builtins(context.manifest)
    context.close()
    key = key_of(context.manifest)
    return Origin(sources=list(sources), located=located(sources), context_key=key), manifest


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_paths_are_read_again_from_another_working_directory(
    tmp_path: Path, folder: Path, monkeypatch
) -> None:
    """Names stay as they were, since they come from the paths as given."""
    write(tmp_path, src__a="1", src__in__b="2", c="3", d__a="4")
    monkeypatch.chdir(tmp_path)
    origin, manifest = origin_of("src", "./c", "d/../d/a", str(tmp_path / "d" / "a"))
    monkeypatch.chdir("/")

    context = again(origin, manifest, folder)

    assert (context.names, context.sources) == (["src/a", "src/in/b", "c", "d/a"], origin.sources)
    assert texts(context) == ["1", "2", "3", "4"]


def test_a_run_of_before_is_read_from_where_we_are(tmp_path: Path, folder: Path, monkeypatch):
    write(tmp_path, a="1")
    monkeypatch.chdir(tmp_path)
    _, manifest = origin_of("a")

    assert texts(again(Origin(sources=["a"]), manifest, folder)) == ["1"]
    monkeypatch.chdir("/")
    with pytest.raises(ContextError) as caught:
        again(Origin(sources=["a"]), manifest, folder)
    assert str(caught.value) == (
        "the context of the run is gone (cannot read 'a': No such file or directory); "
        "put it back as it was, or ask again with `abyme ask`"
    )


def test_a_folder_that_has_changed_is_refused_and_the_documents_named(
    tmp_path: Path, folder: Path
) -> None:
    write(tmp_path, src__a="1", src__b="2", src__c="3", src__d="4")
    origin, manifest = origin_of(str(tmp_path / "src"))
    (tmp_path / "src" / "b").unlink()
    write(tmp_path, src__c="x", src__d="y", src__e="5", src__f="6", src__g="7")

    with pytest.raises(ContextError) as caught:
        again(origin, manifest, folder)
    assert str(caught.value) == (
        "the context is not what the run began on (changed: c, d; gone: b; new: e, f; and 1 more)"
        "; put it back as it was, or ask again with `abyme ask`"
    )


def test_a_file_that_became_a_folder_is_refused(tmp_path: Path, folder: Path) -> None:
    write(tmp_path, a="1")
    origin, manifest = origin_of(str(tmp_path / "a"))
    (tmp_path / "a").unlink()
    write(tmp_path, a__a="1")

    with pytest.raises(ContextError, match=r"\(it was one text and is named documents\)"):
        again(origin, manifest, folder)


def test_documents_in_another_order_are_another_context(tmp_path: Path, folder: Path) -> None:
    """Places in the journal count documents."""
    write(tmp_path, a="1", b="2")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    _, manifest = origin_of(a, b)
    origin, _ = origin_of(b, a)

    with pytest.raises(ContextError, match=r"\(its documents come in another order\)"):
        again(origin, manifest, folder)


def test_values_come_back_from_what_was_kept(folder: Path) -> None:
    key, manifest = put(folder, {"a": "one", "b": "two"})
    origin = Origin(context_key=key)

    assert texts(again(origin, manifest, folder)) == ["one", "two"]
    _, another = put(folder, {"a": "one"})
    with pytest.raises(ContextError, match=r"\(new: b\)"):
        again(origin, another, folder)


def test_a_context_that_the_caller_gives_is_compared_too(folder: Path) -> None:
    _, manifest = put(folder, ["one", "two"])
    same, another = from_value(["one", "two"]), from_value(["one", "three"])

    check_same(same, manifest)
    with pytest.raises(ContextError, match=r"\(changed: text 1\)"):
        check_same(another, manifest)
    with pytest.raises(ContextError, match=r"^the run's manifest is damaged: "):
        check_same(same, {"shape": "heap"})
    same.close()
    another.close()


def test_standard_input_among_paths_is_kept_whole(folder: Path) -> None:
    key, manifest = put(folder, {"stdin": "one", "b": "two"})
    origin = Origin(sources=["-", "b"], located=["-", "/nowhere/b"], context_key=key)

    context = again(origin, manifest, folder)

    assert context.sources == ["-", "b"]
    assert texts(context) == ["one", "two"]


def test_a_context_that_was_not_kept_says_so(folder: Path) -> None:
    context = from_value("alpha")
    manifest = to_builtins(context.manifest)
    context.close()

    with pytest.raises(ContextError) as caught:
        again(Origin(), manifest, folder)
    assert str(caught.value) == f"the run's context is not kept in {folder}"


def test_only_what_no_run_names_is_dropped(folder: Path) -> None:
    """Also what a killed process left half-way."""
    mine, _ = put(folder, "mine")
    other, _ = put(folder, "other")
    (folder / ".abyme-partial-1234").mkdir()
    (folder / ".abyme-partial-1234" / "arena").write_bytes(b"12345")

    listed = unused(folder, {mine})
    dropped = drop(folder, lambda: {mine})

    assert {one.path.name: one.size_bytes for one in listed}[".abyme-partial-1234"] == 5
    assert dropped == listed
    assert sorted(one.path.name for one in listed) == sorted([".abyme-partial-1234", other])
    assert sorted(path.name for path in folder.iterdir()) == [".lock", mine]


def test_trash_of_an_earlier_time_is_emptied(folder: Path) -> None:
    """Ctrl-C between the rename and the end of the removal."""
    key, _ = put(folder, "mine")
    (folder / key).rename(folder / f".abyme-trash-{key}")

    drop(folder, set)

    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_what_is_not_ours_stays(folder: Path) -> None:
    """Somebody may have named a folder of their own by --runs-dir."""
    (folder / "notes").mkdir(parents=True)
    (folder / ("0" * 64)).write_text("a file")
    (folder / ("1" * 64)).symlink_to(folder / "notes")

    assert drop(folder, set) == []
    assert (folder / "notes").is_dir()


def test_nothing_is_dropped_while_a_run_stores_its_context(folder: Path) -> None:
    key, _ = put(folder, "mine")
    storing = os.open(folder / ".lock", os.O_RDWR)
    fcntl.flock(storing, fcntl.LOCK_SH)
    try:
        with pytest.raises(ContextError, match=r"^a run is storing its context just now; "):
            drop(folder, set)
    finally:
        os.close(storing)

    assert (folder / key).is_dir()


def test_no_folder_means_nothing_to_drop(folder: Path) -> None:
    assert (unused(folder, set()), drop(folder, set)) == ([], [])
    assert not folder.exists()
