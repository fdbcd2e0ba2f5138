"""Contract: run/sources. What a Python program names is read as on the command line."""

from contextlib import closing
from pathlib import Path

import pytest

from abyme import ConfigError, ContextError, Sources
from abyme.contexts.choice import Choice
from abyme.run.folders import open_context
from abyme.run.spec import surroundings


def names(given: object) -> list[str]:
    context, _ = open_context(given)
    with closing(context):
        return [context.label(number) for number in range(context.documents)]


def test_sources_are_paths_and_which_files_of_them_are_wanted(tmp_path: Path) -> None:
    for name in ("a.md", "b.log", "c.md"):
        (tmp_path / name).write_text(name)
    assert names(Sources(tmp_path, exclude="*.log")) == ["a.md", "c.md"]
    assert names(Sources(f"{tmp_path}/*.log", tmp_path / "a.md")) == ["b.log", "a.md"]
    assert names(tmp_path) == ["a.md", "b.log", "c.md"]


def test_a_single_pattern_may_be_a_text() -> None:
    assert Sources("x", include="*.md", exclude=["a", "b"], max_file_bytes=0).choice == Choice(
        include=("*.md",), exclude=("a", "b"), max_file_bytes=0
    )


def test_what_names_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="names nothing"):
        Sources()
    with pytest.raises(ConfigError, match="max_file_bytes must be 0 or more, got -1"):
        Sources("x", max_file_bytes=-1)
    with pytest.raises(ContextError, match="cannot read 'absent'"):
        open_context(Sources("absent"))


def test_a_text_that_looks_like_a_source_is_a_text() -> None:
    context, _ = open_context("https://example.org/")
    with closing(context):
        assert context.text(0) == "https://example.org/"


def test_of_the_environment_sources_get_no_key_and_no_proxy() -> None:
    env = {"PATH": "/bin", "HOME": "/h", "https_proxy": "http://p", "OPENAI_API_KEY": "k"}
    assert surroundings(env) == {"PATH": "/bin", "HOME": "/h"}
