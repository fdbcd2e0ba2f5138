"""Contract: contexts/walk, filters. Patterns, globs and ``~``: what is read of what was named."""

from contextlib import closing
from pathlib import Path
from zipfile import ZipFile

import pytest

from abyme.contexts.choice import Choice
from abyme.contexts.filters import split_glob
from abyme.contexts.load import load_paths
from abyme.contexts.places import at_home
from abyme.contexts.walk import Excluded, Walk
from abyme.errors import ConfigError, ContextError

TREE = ("a.md", "b.txt", "docs/c.md", "docs/deep/d.md", "docs/deep/e.py", "node/f.md", ".hid/g.md")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in TREE:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def walked(*paths, choice=None, **more) -> Walk:
    with closing(Walk(paths, choice=choice or Choice(), **more)) as walk:
        return walk


def names(*paths, **choice) -> list[str]:
    return [file.name for file in walked(*paths, choice=Choice(**choice)).found]


def test_include_reads_only_what_fits_at_any_depth(tree) -> None:
    expected = [".hid/g.md", "a.md", "docs/c.md", "docs/deep/d.md", "node/f.md"]
    assert sorted(names(".", include=("*.md",))) == expected


def test_a_pattern_with_a_slash_counts_from_the_root_of_names(tree) -> None:
    assert names(".", include=("/docs/*.md",)) == ["docs/c.md"]
    assert names("docs", "node", include=("docs/*.md",)) == ["docs/c.md"]


def test_a_folder_that_is_included_brings_all_that_is_in_it(tree) -> None:
    assert names(".", include=("deep/",)) == ["docs/deep/d.md", "docs/deep/e.py"]


def test_a_later_pattern_takes_back_what_an_earlier_one_said(tree) -> None:
    assert names("docs", include=("*.md", "!d.md")) == ["c.md"]


def test_an_excluded_folder_is_not_entered_and_counts_as_one(tree, monkeypatch) -> None:
    walk = walked(".", choice=Choice(exclude=("docs/", "*.txt")))
    assert walk.excluded == Excluded(files=1, folders=1)
    assert walk.excluded.words() == "left out 1 folder and 1 file by --include and --exclude"
    assert [file.name for file in walk.found] == ["a.md", ".hid/g.md", "node/f.md"]
    assert walk.skipped == []


def test_a_named_file_is_left_out_as_well(tree) -> None:
    walk = walked("a.md", "b.txt", choice=Choice(exclude=("*.txt",)))
    assert [file.name for file in walk.found] == ["a.md"]
    assert walk.excluded == Excluded(files=1)


def test_nothing_left_says_what_left_it_out(tree) -> None:
    said = "nothing to read: left out 1 file by --include and --exclude"
    with pytest.raises(ContextError, match=said):
        load_paths(["a.md"], choice=Choice(include=("*.py",)))


def test_exclude_holds_for_members_of_archives_and_include_for_the_archive(tree) -> None:
    with ZipFile("z.zip", "w") as archive:
        for name in TREE:
            archive.writestr(name, name)
    choice = Choice(include=("*.zip",), exclude=("docs/", "*.txt"))
    loaded = load_paths(["."], choice=choice)
    loaded.context.close()
    assert list(loaded.context.names) == ["z.zip/a.md", "z.zip/node/f.md", "z.zip/.hid/g.md"]
    said = "left out 1 folder and 8 files by --include and --exclude"
    assert loaded.summary() == f"read 3 files (22 bytes), {said}"


@pytest.mark.parametrize("pattern", ["", "  ", "# notes"])
def test_a_pattern_that_fits_nothing_is_the_callers_mistake(tree, pattern) -> None:
    with pytest.raises(ConfigError, match="fits nothing"):
        walked(".", choice=Choice(exclude=(pattern,)))


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.md", ["a.md"]),
        ("docs/*.md", ["docs/c.md"]),
        ("docs/**/*.md", ["docs/c.md", "docs/deep/d.md"]),
        ("do?s/d*", ["docs/deep/d.md", "docs/deep/e.py"]),
        ("**/deep/*.py", ["docs/deep/e.py"]),
        ("./docs/[c-z]*.md", ["docs/c.md"]),
        ("*/deep", ["docs/deep/d.md", "docs/deep/e.py"]),
    ],
)
def test_a_glob_that_no_shell_expanded_names_files_by_their_paths(tree, glob, expected) -> None:
    walk = walked(glob)
    assert [file.name for file in walk.found] == expected
    assert not walk.single


def test_a_glob_of_an_absolute_path_names_files_from_its_folder_on(tree) -> None:
    assert names(f"{tree}/docs/**/*.md") == ["c.md", "deep/d.md"]


def test_a_name_that_exists_literally_wins_over_a_glob(tree) -> None:
    (tree / "[ab].md").write_text("literal")
    walk = walked("[ab].md")
    assert [file.path for file in walk.found] == [str(tree / "[ab].md")]
    assert walk.single


def test_a_glob_does_not_enter_folders_where_nothing_can_fit(tree) -> None:
    (tree / "node" / "closed").mkdir(mode=0)
    walk = walked("docs/*.md", "*/c.md")
    assert walk.skipped == []
    assert [file.name for file in walk.found] == ["docs/c.md"]


def test_a_glob_without_a_match_is_an_error_that_says_so(tree) -> None:
    with pytest.raises(ContextError, match=r"^no file matches 'docs/\*\.rst'$"):
        walked("docs/*.rst")


def test_a_glob_below_a_folder_that_is_not_there_is_an_absent_path(tree) -> None:
    with pytest.raises(ContextError, match="cannot read 'absent/"):
        walked("absent/*.md")


def test_a_glob_is_found_again_from_another_working_directory(tree, monkeypatch) -> None:
    place = str(tree / "docs/**/*.md")
    monkeypatch.chdir(tree / "node")
    walk = walked("docs/**/*.md", located=[place])
    assert [file.name for file in walk.found] == ["docs/c.md", "docs/deep/d.md"]


def test_git_ignores_inside_a_glob_too(tree) -> None:
    (tree / ".git").mkdir()
    (tree / ".gitignore").write_text("d.md\n")
    walk = walked("docs/**/*.md")
    assert [file.name for file in walk.found] == ["docs/c.md"]
    assert walk.skipped == [("docs/deep/d.md", "ignored by .gitignore")]


def test_home_is_expanded_unless_a_file_has_that_name(tree) -> None:
    assert at_home("~/x", {"HOME": "/home/u"}) == "/home/u/x"
    assert at_home("git+~/x@v1", {"HOME": "/home/u"}) == "git+/home/u/x@v1"
    assert at_home("~nobody-of-that-name/x", {}) == "~nobody-of-that-name/x"
    (tree / "~").mkdir()
    (tree / "~" / "x").write_text("here")
    assert at_home("~/x", {"HOME": "/home/u"}) == "~/x"
    assert names("~") == ["x"]


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a/b*/c", ("a", "b*/c")),
        ("/*.md", ("/", "*.md")),
        ("*.md", (".", "*.md")),
        ("a/b", ("a/b", "")),
    ],
)
def test_a_glob_begins_at_its_first_part_with_a_wildcard(path, parts) -> None:
    assert split_glob(path) == parts
