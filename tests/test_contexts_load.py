"""Contract: contexts/load. What is read, what is skipped and why, and that nothing is altered."""
# ruff: noqa: RUF001  (other alphabets are the subject)

import hashlib
import io
import os
import socket
from pathlib import Path

import pytest

from abyme.contexts import load, stream
from abyme.contexts.choice import Choice
from abyme.contexts.load import load_paths
from abyme.contexts.sizes import size_words
from abyme.errors import ContextError
from abyme.guest.adopt import View


def loaded_texts(loaded):
    context = loaded.context
    texts = {context.label(n): context.text(n) for n in range(context.documents)}
    context.close()
    return texts


def write(folder, files=None, **more):
    """Write files; in keywords, one underscore is a dot and two are a folder."""
    keywords = {name.replace("__", "/").replace("_", "."): data for name, data in more.items()}
    for name, data in {**(files or {}), **keywords}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())


def test_a_file_is_a_text_and_a_folder_is_documents(tmp_path):
    write(tmp_path, a_txt="alpha", sub__b_txt="beta")
    one = load_paths([tmp_path / "a.txt"])
    assert (one.context.shape, View(*one.context.fds).context) == ("text", "alpha")
    assert one.context.names == ["a.txt"]
    folder = load_paths([str(tmp_path)])
    assert folder.context.shape == "documents"
    assert loaded_texts(folder) == {"a.txt": "alpha", "sub/b.txt": "beta"}
    assert folder.summary() == "read 2 files (9 bytes)"
    one.context.close()


def test_several_paths_keep_names_apart(tmp_path, monkeypatch):
    write(tmp_path, x__a_txt="1", y__a_txt="2", z__x__a_txt="3", a_txt="4")
    monkeypatch.chdir(tmp_path)
    paths = ["x", "y", "z/x", "a.txt", str(tmp_path / "x" / "a.txt"), "x"]
    expected = {"x/a.txt": "1", "y/a.txt": "2", "z/x/a.txt": "3", "a.txt": "4"}
    assert loaded_texts(load_paths(paths)) == expected


@pytest.mark.parametrize(
    "paths", [["src", "src/in"], ["src/in", "src"], ["src/in/a.py", "./src", "src/link/a.py"]]
)
def test_paths_that_overlap_read_each_file_once_under_a_name_that_exists(
    tmp_path, monkeypatch, paths
):
    write(tmp_path, src__in__a_py="1", src__b_py="2", src__in__c_py="3")
    (tmp_path / "src" / "link").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    loaded = load_paths([*paths, "."])
    assert all(Path(file.name).exists() for file in loaded.read)
    assert loaded_texts(loaded) == {"src/in/a.py": "1", "src/b.py": "2", "src/in/c.py": "3"}


def test_what_one_path_ignores_and_another_names_is_read(tmp_path, monkeypatch):
    write(tmp_path, {".gitignore": "build/\n", "build/a.txt": "1"})
    monkeypatch.chdir(tmp_path)
    assert loaded_texts(load_paths([".", "build"]))["build/a.txt"] == "1"


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(ContextError) as caught:
        load_paths([tmp_path])
    assert str(caught.value) == f"nothing to read: {tmp_path}: permission denied"


def test_a_relative_path_is_its_name_and_an_absolute_one_is_not(tmp_path, monkeypatch):
    write(tmp_path, src__a_py="1", src__b_py="2")
    monkeypatch.chdir(tmp_path)
    assert list(loaded_texts(load_paths(["src/a.py", str(tmp_path / "src/b.py")]))) == [
        *("src/a.py", "b.py"),
    ]


def test_standard_input_alone_is_a_text_and_beside_others_a_document(tmp_path):
    write(tmp_path, a_txt="alpha")
    alone = load_paths(["-"], stdin=io.BytesIO("größe".encode()))
    assert (alone.context.shape, loaded_texts(alone)) == ("text", {"stdin": "größe"})
    both = load_paths([tmp_path / "a.txt", "-"], stdin=io.BytesIO(b"in"))
    assert loaded_texts(both) == {"a.txt": "alpha", "stdin": "in"}


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        (b"one\r\ntwo\rthree\n", "one\r\ntwo\rthree\n", "utf-8"),
        ("日本 é".encode(), "日本 é", "utf-8"),
        ("\ufeffmark".encode(), "mark", "utf-8"),
        ("lone \ud800 one".encode("utf-8", "surrogatepass"), "lone \ud800 one", "utf-8"),
        ("mark é日😀\r\n".encode("utf-16"), "mark é日😀\r\n", "utf-16-le"),
        (b"\xfe\xff" + "mark é日".encode("utf-16-be"), "mark é日", "utf-16-be"),
        ("mark é日".encode("utf-32"), "mark é日", "utf-32-le"),
        ("no mark\nat all".encode("utf-16-le"), "no mark\nat all", "utf-16-le"),
        ("no mark\nat all".encode("utf-16-be"), "no mark\nat all", "utf-16-be"),
        ("café\n".encode("latin-1"), "café\n", "cp1252"),
        ("né à Orléans, où êtes-vous?".encode("latin-1"), "né à Orléans, où êtes-vous?", "cp1252"),
        ("“Größe” – 100 €".encode("cp1252"), "“Größe” – 100 €", "cp1252"),
        (b"# by Andr\xe9 D.\nimport os\n", "# by André D.\nimport os\n", "cp1252"),
        ("Привет, как дела? Это текст.".encode("cp1251"), "Привет, как дела? Это текст.", "cp1251"),
        ("これは日本語の文です。".encode("shift-jis"), "これは日本語の文です。", "cp932"),
        (
            "这是一个中文文本，用于测试。".encode("gb18030"),
            "这是一个中文文本，用于测试。",
            "gb18030",
        ),
    ],
)
def test_the_encoding_is_found_and_the_text_kept_exactly(
    tmp_path, data, text, encoding, monkeypatch
):
    """The same for a file that is read whole and for one that is taken in pieces."""
    write(tmp_path, a_txt=data)
    for streamed in (1 << 20, 0):
        monkeypatch.setattr(load, "STREAMED_BYTES", streamed)
        loaded = load_paths([tmp_path / "a.txt"])
        assert loaded.context.text(0) == text
        assert loaded.read == [("a.txt", len(text), len(data), encoding)]
        facts = loaded.context.manifest.documents[0]
        assert facts.source_sha256 == hashlib.sha256(data).hexdigest()
        assert (facts.source_bytes, facts.encoding) == (len(data), encoding)
        loaded.context.close()


SOUND = "中文文本，今天天气很好。\n".encode() * 20


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (SOUND + b"\xff\n", "1 byte is not UTF-8, in line 21: U+FFFD in its place"),
        (
            SOUND + b"caf\xe9, \xe9\n" + SOUND,
            "2 bytes are not UTF-8, the first in line 21: U+FFFD in their place",
        ),
        (SOUND[:-2], "cut inside its last character: U+FFFD in its place"),
        ("日本語".encode()[:-1], "cut inside its last character: U+FFFD in its place"),
        (b"\xef\xbb\xbf" + SOUND + b"\xff", None),
        ("Größe Köln Straße über Bär grün schön süß Öl\n".encode() + b"\xe9\n", None),
    ],
)
def test_a_few_broken_bytes_do_not_make_utf8_another_encoding(tmp_path, data, note, monkeypatch):
    write(tmp_path, a_txt=data)
    for streamed, piece in ((1 << 20, 1 << 20), (0, 1 << 20), (0, 7)):
        monkeypatch.setattr(load, "STREAMED_BYTES", streamed)
        monkeypatch.setattr(stream, "PIECE_BYTES", piece)
        loaded = load_paths([tmp_path / "a.txt"])
        wanted = data.decode("utf-8-sig", "replace")
        assert loaded.context.text(0).rstrip("\ufffd") == wanted.rstrip("\ufffd")
        assert loaded.read[0].encoding == "utf-8"
        notes = [one.note for one in loaded.notes]
        assert notes == [note] if note else "U+FFFD" in notes[0]
        assert [one.note for one in loaded.context.manifest.notes] == notes
        loaded.context.close()


def test_pieces_may_cut_a_character_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "STREAMED_BYTES", 0)
    text = "ascii first, then 日本 and 😀 " * 9
    for encoding in ("utf-8", "utf-16", "utf-8-sig"):
        write(tmp_path, a_txt=text.encode(encoding))
        for size in (1, 2, 3, 7, 64):
            monkeypatch.setattr(stream, "PIECE_BYTES", size)
            assert loaded_texts(load_paths([tmp_path / "a.txt"])) == {"a.txt": text}


def test_a_streamed_file_has_the_hashes_of_one_read_whole(tmp_path, monkeypatch):
    write(tmp_path, a_txt="é" * 100, b_txt="plain " * 100, c_txt="日" * 50)
    manifests = []
    for streamed in (1 << 20, 0):
        monkeypatch.setattr(load, "STREAMED_BYTES", streamed)
        loaded = load_paths([tmp_path])
        manifests.append(loaded.context.manifest)
        loaded.context.close()
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize("streamed", [1 << 20, 0])
def test_binary_files_are_skipped_and_leave_the_others_whole(tmp_path, monkeypatch, streamed):
    monkeypatch.setattr(load, "STREAMED_BYTES", streamed)
    noise = bytes(range(1, 256)) * 40
    write(
        tmp_path,
        a_txt="alpha",
        b_bin=b"\x7fELF\0\0\1\0ab",
        c_bin=noise,
        d_txt="delta",
        e_txt=b"\xff\xfe\0\xd8\0",
    )
    loaded = load_paths([tmp_path])
    assert loaded.skipped == [
        *(("b.bin", "binary"), ("c.bin", "binary"), ("e.txt", "broken utf-16-le")),
    ]
    assert loaded.summary() == "read 2 files (10 bytes), skipped 3: {}".format(
        "b.bin (binary), c.bin (binary), e.txt (broken utf-16-le)"
    )
    assert loaded_texts(loaded) == {"a.txt": "alpha", "d.txt": "delta"}


def test_what_is_not_a_file_is_skipped_and_never_waited_for(tmp_path):
    write(tmp_path, a_txt="alpha", sub__b_txt="beta")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "link").symlink_to("a.txt")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "outside").symlink_to("/etc")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "sock"))
    loaded = load_paths([tmp_path])
    assert sorted(loaded.skipped) == [
        *(("gone", "broken link"), ("link", "link"), ("outside", "link")),
        *(("pipe", "pipe"), ("sock", "socket"), ("sub/loop", "link")),
    ]
    assert loaded_texts(loaded) == {"a.txt": "alpha", "sub/b.txt": "beta"}


def test_a_link_that_is_named_is_followed(tmp_path):
    write(tmp_path, real__a_txt="alpha")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").symlink_to("real/a.txt")
    assert loaded_texts(load_paths([tmp_path / "link"])) == {"a.txt": "alpha"}
    assert loaded_texts(load_paths([tmp_path / "file"])) == {"file": "alpha"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_skipped(tmp_path):
    write(tmp_path, a_txt="alpha", b_txt="beta", c__d_txt="delta")
    (tmp_path / "b.txt").chmod(0)
    (tmp_path / "c").chmod(0)
    try:
        loaded = load_paths([tmp_path])
    finally:
        (tmp_path / "c").chmod(0o700)
    assert sorted(loaded.skipped) == [("b.txt", "permission denied"), ("c/", "permission denied")]
    assert loaded_texts(loaded) == {"a.txt": "alpha"}


def test_a_file_that_vanishes_is_skipped(tmp_path, monkeypatch):
    write(tmp_path, a_txt="alpha", b_txt="beta")
    read = load._Loader._small

    def vanishing(self, path):
        if path.path.endswith("b.txt"):
            Path(path.path).unlink()
        return read(self, path)

    monkeypatch.setattr(load._Loader, "_small", vanishing)
    loaded = load_paths([tmp_path])
    assert loaded.skipped == [("b.txt", "no such file or directory")]
    loaded.context.close()


def test_gitignore_files_hold_nested_ones_too(tmp_path):
    write(
        tmp_path,
        {
            ".gitignore": "*.log\nbuild/\n!keep.log\n/only_top.txt\n",
            "a.txt": "1",
            "a.log": "2",
            "keep.log": "3",
            "build/x.txt": "4",
            "sub/.gitignore": "!*.log\nsecret*\n",
            "sub/b.log": "5",
            "sub/secret.txt": "6",
            "sub/build/y.txt": "7",
            ".git/config": "8",
            "only_top.txt": "9",
            "sub/only_top.txt": "10",
        },
    )
    loaded = load_paths([tmp_path])
    assert sorted(name for name, reason in loaded.skipped if reason == "ignored by .gitignore") == [
        *("a.log", "build/", "only_top.txt", "sub/build/", "sub/secret.txt"),
    ]
    assert sorted(loaded_texts(loaded)) == [
        *(".gitignore", "a.txt", "keep.log", "sub/.gitignore", "sub/b.log", "sub/only_top.txt"),
    ]


def test_a_folder_of_a_work_tree_obeys_what_lies_above_it(tmp_path):
    write(
        tmp_path,
        {
            ".gitignore": "never seen by the tree below\n*.txt\n",
            "tree/.git/info/exclude": "private\n*.tmp\n",
            "tree/.gitignore": "*.log\n/src/top.md\nbuild/\n!kept.tmp\n",
            "tree/src/.gitignore": "!good.log\n",
            "tree/src/deep/a.txt": "1",
            "tree/src/deep/a.log": "2",
            "tree/src/deep/good.log": "3",
            "tree/src/top.md": "4",
            "tree/src/deep/private/x": "5",
            "tree/src/deep/kept.tmp": "6",
            "tree/build/b.txt": "7",
        },
    )
    inner = load_paths([tmp_path / "tree/src/deep"])
    assert inner.skipped == [
        *(("a.log", "ignored by .gitignore"), ("private/", "ignored by .git/info/exclude")),
    ]
    assert loaded_texts(inner) == {"a.txt": "1", "good.log": "3", "kept.tmp": "6"}
    outer = load_paths([tmp_path / "tree/src"])
    assert ("top.md", "ignored by .gitignore") in outer.skipped
    outer.context.close()
    assert loaded_texts(load_paths([tmp_path / "tree/build"])) == {"b.txt": "7"}


def test_a_linked_work_tree_obeys_the_exclude_file_of_its_repository(tmp_path):
    write(
        tmp_path,
        {
            "main/.git/info/exclude": "*.tmp\n",
            "main/.git/worktrees/side/commondir": "../..\n",
            "side/.git": f"gitdir: {tmp_path}/main/.git/worktrees/side\n",
            "side/a.txt": "1",
            "side/a.tmp": "2",
        },
    )
    assert loaded_texts(load_paths([tmp_path / "side"])) == {"a.txt": "1"}


def test_gitignore_files_count_in_a_work_tree_only(tmp_path):
    """An archive that was unpacked holds what somebody wanted in it: the kernel's, say."""
    write(tmp_path, {".gitignore": "/*\n", "a.c": "1", "repo/.git/config": "2"})
    write(tmp_path, {"repo/.gitignore": "*.o\n", "repo/b.c": "3", "repo/b.o": "4"})
    loaded = load_paths([tmp_path])
    assert sorted(loaded_texts(loaded)) == [".gitignore", "a.c", "repo/.gitignore", "repo/b.c"]
    everything = load_paths([tmp_path], choice=Choice(no_ignore=True))
    assert "repo/b.o" in loaded_texts(everything)
    assert everything.skipped == []


def test_a_file_that_is_named_is_read_although_it_is_ignored(tmp_path):
    write(tmp_path, {".gitignore": "*\n", "a.log": "1"})
    assert loaded_texts(load_paths([tmp_path / "a.log"])) == {"a.log": "1"}


def test_names_that_are_not_utf8_or_command_a_terminal_are_escaped(tmp_path):
    folder = os.fsencode(tmp_path)
    for name in (b"caf\xe9.txt", b"\x1b[2Jx.txt", b"new\nline.txt", "größe.txt".encode()):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(b"x")
    assert sorted(loaded_texts(load_paths([tmp_path]))) == [
        *("\\x1b[2Jx.txt", "caf\\xe9.txt", "größe.txt", "new\\nline.txt"),
    ]


def test_a_folder_deeper_than_python_recurses_is_read(tmp_path):
    path = tmp_path
    for _ in range(300):
        path = path / "d"
    path.mkdir(parents=True)
    (path / "a.txt").write_text("deep")
    assert list(loaded_texts(load_paths([tmp_path])).values()) == ["deep"]


def test_files_over_the_limit_are_skipped(tmp_path):
    write(tmp_path, a_txt="1234", b_txt="12345")
    loaded = load_paths([tmp_path], choice=Choice(max_file_bytes=4))
    assert loaded.summary() == "read 1 file (4 bytes), skipped 1: b.txt (over 4 bytes)"
    loaded.context.close()


def test_many_skipped_are_counted_by_reason_and_all_are_in_the_manifest(tmp_path):
    write(tmp_path, {f"{n}.bin": b"\0\0" for n in range(5)}, a_txt="a")
    loaded = load_paths([tmp_path])
    assert loaded.summary() == "read 1 file (1 byte), skipped 5: 5 binary (0.bin, ...)"
    listed = [(item.name, item.reason) for item in loaded.context.manifest.skipped]
    assert listed == [(f"{n}.bin", "binary") for n in range(5)]
    assert loaded.context.sources == [str(tmp_path)]
    loaded.context.close()


def test_progress_is_told_and_ends_at_the_total(tmp_path):
    for n in range(200):
        (tmp_path / f"{n:03}.txt").write_text("x" * n)
    told = []
    load_paths([tmp_path], on_progress=told.append).context.close()
    assert [step.files for step in told] == [64, 128, 192, 200]
    assert told[-1] == (200, 200, 19900, 19900)


def test_many_files_stay_in_order_and_whole(tmp_path):
    texts = {f"{n:04}": ("aé日😀"[n % 4] * n) for n in range(700)}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert list(loaded_texts(load_paths([tmp_path])).items()) == list(texts.items())


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({}, "no.txt", "cannot read '{}/no.txt': No such file or directory"),
        ({}, ".", "nothing to read: the folder holds no file"),
        ({"a_txt": "", "b_txt": ""}, ".", "nothing to read: the input is empty"),
        ({"a_txt": ""}, "a.txt", "nothing to read: the input is empty"),
        ({"a_bin": b"\0\1\0\0"}, "a.bin", "nothing to read: a.bin: binary"),
        (
            {"a_bin": b"\0\1\0\0", "b_bin": b"\0\0"},
            ".",
            "nothing to read: skipped 2: a.bin (binary), b.bin (binary)",
        ),
    ],
)
def test_nothing_to_read_is_said_in_words(tmp_path, files, path, message):
    write(tmp_path, **files)
    with pytest.raises(ContextError) as caught:
        load_paths([tmp_path / path])
    assert str(caught.value) == message.format(tmp_path)


def test_standard_input_that_is_empty_or_absent_is_an_error():
    with pytest.raises(ContextError, match=r"^nothing to read: the input is empty$"):
        load_paths(["-"], stdin=io.BytesIO(b""))
    with pytest.raises(ContextError, match=r"^there is no standard input to read$"):
        load_paths(["-"])
    with pytest.raises(ContextError, match=r"^nothing to read: no path was given$"):
        load_paths([])


def test_sizes_are_written_for_people():
    assert [size_words(n) for n in (0, 1, 999, 1000, 38_100_000, 4_000_000_000)] == [
        *("0 bytes", "1 byte", "999 bytes", "1.0 kB", "38.1 MB", "4.0 GB"),
    ]
