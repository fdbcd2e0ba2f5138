"""Contract: ``abyme context``. It shows what would be read, and costs nothing."""

import json
from pathlib import Path

import pytest

from abyme.apps.cli import context as module
from abyme.apps.cli import main
from abyme.contexts.manifest import DocumentFacts


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no key, no cache of the user's own."""
    monkeypatch.setenv("ABYME_HOME", str(tmp_path / "home"))
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    monkeypatch.chdir(folder)
    (folder / "a.txt").write_text("alpha\n")
    (folder / "sub" / "wide.txt").write_text("Ω" * 10)
    (folder / "b.bin").write_bytes(b"\0\1\2\xff" * 100)


def context(capfdbinary, *args: str) -> tuple[int, str, str]:
    code = main.run(["context", *args])
    out, err = capfdbinary.readouterr()
    return code, out.decode(), err.decode()


def rows(out: str) -> dict[str, str]:
    return {line[2:13].strip(): line[13:] for line in out.splitlines()[1:] if line[2:13].strip()}


def test_it_says_what_would_be_read_and_what_not(capfdbinary) -> None:
    code, out, err = context(capfdbinary, ".")

    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "2 documents: 16 characters, about 9 tokens"
    told = rows(out)
    assert told["largest"] == "10  sub/wide.txt"
    assert told["kinds"] == "2  text/plain"
    assert told["skipped"] == "1  binary: b.bin"
    assert told["memory"].endswith("once for all REPLs (1 document at 2 bytes a character)")


def test_a_single_file_is_one_text(capfdbinary) -> None:
    code, out, _ = context(capfdbinary, "a.txt")
    assert (code, out.splitlines()[0]) == (0, "one text: 6 characters, about 2 tokens")


def test_patterns_choose_and_are_counted(capfdbinary) -> None:
    code, out, _ = context(capfdbinary, ".", "--exclude", "sub/", "--exclude", "*.bin")
    assert code == 0
    assert out.splitlines()[0].startswith("1 document: 6 characters")
    assert rows(out)["left out"] == "1 folder and 1 file by --include and --exclude"


def test_large_files_are_skipped_with_their_limit(capfdbinary) -> None:
    code, out, _ = context(capfdbinary, ".", "--max-file-size", "10")
    assert code == 0
    assert rows(out)["skipped"] == "2  over 10 bytes: b.bin, sub/wide.txt"


def test_all_names_everything(capfdbinary) -> None:
    for number in range(8):
        Path(f"{number}.bin").write_bytes(b"\0\1\2\xff" * 100)
    _, short, _ = context(capfdbinary, ".")
    _, full, _ = context(capfdbinary, ".", "--all")
    assert rows(short)["skipped"].endswith("3.bin, 4.bin, ...")
    assert rows(full)["skipped"] == "9  binary:"
    assert [f"{number}.bin" in full for number in range(8)] == [True] * 8
    assert "a.txt" in full


def test_json_lists_every_document_and_what_was_skipped(capfdbinary) -> None:
    code, out, err = context(capfdbinary, ".", "--json")
    told = json.loads(out)

    assert (code, err) == (0, "")
    assert (told["shape"], told["chars"], told["tokens_estimated"]) == ("documents", 16, 9)
    assert told["skipped"] == [{"name": "b.bin", "reason": "binary"}]
    assert told["left_out"] == {"files": 0, "folders": 0}
    assert (told["cached"], told["notes"], told["revisions"]) == (False, [], {})
    assert told["memory_bytes"] > 16
    assert told["documents"][1] == {
        "name": "sub/wide.txt",
        "chars": 10,
        "bytes_a_char": 2,
        "media": "text/plain",
        "encoding": "utf-8",
        "source_bytes": 20,
        "source_sha256": "f98faf1e4b4c87970f837a83d04d501b5d8c3d86c4569e5aba4bb964e5f123c7",
        "pages": 0,
        "page_word": None,
        "table": False,
    }


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("absent",), "cannot read 'absent': No such file or directory"),
        (("b.bin",), "nothing to read: b.bin: binary"),
        (("*.rst",), "no file matches '*.rst'"),
        (("a.txt", "--include", "*.md"), "nothing to read: left out 1 file"),
        (("http://127.0.0.1:1/x",), "cannot read http://127.0.0.1:1/x: "),
        (("git+.",), "cannot read git+.: not a git repository"),
    ],
)
def test_where_nothing_would_be_read_it_says_why_and_exits_with_1(capfdbinary, args, said) -> None:
    code, out, err = context(capfdbinary, *args)
    assert (code, out) == (1, "")
    assert err.startswith(f"abyme: {said}")

    code, out, _ = context(capfdbinary, *args, "--json")
    assert code == 1
    assert json.loads(out)["error"].startswith(said)


@pytest.mark.parametrize("size", ["ten", "-1", "10XB", "1 i", "", "1e3"])
def test_a_size_that_is_none_is_wrong_usage(capfdbinary, size) -> None:
    code, _, err = context(capfdbinary, "a.txt", "--max-file-size", size)
    assert code == 2
    assert "is no size such as 500000, 20MB or 1GiB" in err


@pytest.mark.parametrize(
    ("size", "bytes_"),
    [("500", 500), ("20MB", 20_000_000), ("1.5 GiB", 3 << 29), ("2k", 2000), ("0", 0)],
)
def test_sizes_are_read_as_people_write_them(size, bytes_) -> None:
    from abyme.apps.cli.options import Bytes

    assert Bytes().convert(size, None, None) == bytes_


def test_a_name_cannot_command_the_terminal(capfdbinary) -> None:
    Path("\x1b[31mred.txt").write_text("x")
    _, out, _ = context(capfdbinary, ".", "--all")
    assert "\x1b" not in out
    assert r"\x1b[31mred.txt" in out


def test_standard_input_is_read(capfdbinary, monkeypatch) -> None:
    import io
    from types import SimpleNamespace

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"piped")))
    code, out, _ = context(capfdbinary, "-")
    assert (code, out.splitlines()[0]) == (0, "one text: 5 characters, about 1 token")


def test_help_teaches_by_examples(capfdbinary) -> None:
    code, out, _ = context(capfdbinary, "--help")
    assert code == 0
    assert "abyme context git+.@v1.0 --include '*.py'" in out


def facts(name: str, pages: int, page_word: str, media: str) -> DocumentFacts:
    return DocumentFacts(
        name=name, chars=9, kind=0, media=media, pages=[*range(pages)], page_word=page_word
    )


def test_the_head_of_a_table_is_no_row_of_it() -> None:
    headed, bare = "text/csv; header=present", "text/csv; header=absent"
    lines = [
        "".join(text for text, _ in line)
        for media in (headed, bare)
        for line in module._documents([facts("a", 3, "row", media)], everything=False)
    ]
    assert [line.split("a, ")[1] for line in lines if "  a, " in line] == ["2 rows", "3 rows"]
    assert [line.rsplit(", ")[-1] for line in lines if "kinds" in line] == ["2 rows", "3 rows"]


def test_one_name_that_is_told_of_often_is_named_once() -> None:
    told = module._grouped("skipped", {"broken": ["x.zip"] * 1000 + ["y.zip"]}, everything=False)
    assert [line[1][0] for line in told] == ["1,001  broken: x.zip (x 1,000), y.zip"]


def test_what_an_extra_would_read_is_said(capfdbinary, monkeypatch) -> None:
    Path("c.pdf").write_bytes(b"%PDF-1.4\n1 0 obj\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    _, out, _ = context(capfdbinary, ".")
    assert rows(out)["install"] == "pip install 'abyme[documents]'"


def test_a_single_document_has_its_kind_and_pages(capfdbinary) -> None:
    cells = [{"cell_type": "code", "source": "a = 1", "outputs": []}] * 2
    Path("n.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4, "metadata": {}}))
    _, out, _ = context(capfdbinary, "n.ipynb")
    assert rows(out)["kind"] == "application/x-ipynb+json, 2 cells"


def test_a_url_that_is_not_fetched_says_which_are(capfdbinary) -> None:
    code, _, err = context(capfdbinary, "ftp://x/y")
    assert (code, err) == (1, "abyme: cannot read 'ftp://x/y': only http and https are fetched\n")
