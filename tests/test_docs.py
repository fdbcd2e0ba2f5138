"""Contract: the documentation. Links lead somewhere, tables match the code, snippets run."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import abyme.errors
from abyme.apps.cli.main import abyme as cli
from abyme.core import events as ev
from abyme.core.limits import Limits
from abyme.testing import ScriptedModel

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
REFERENCE = ROOT / "docs" / "reference"
FENCE = re.compile(r"^<!-- run -->\n```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def rows(page: Path) -> list[list[str]]:
    """Cells of every table row but the heads, without back-quotes."""
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    cells = [[c.strip().strip("`") for c in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0][:3] != "---"]


def snippets() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = FENCE.findall(text)
        for number, code in enumerate(found):
            yield f"{page.relative_to(ROOT)}:{number}", code


SNIPPETS = list(snippets())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]

    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_page_is_linked_from_another() -> None:
    """A page that nobody finds is not documentation."""
    linked = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        if "://" not in link
    }
    folders = {target for target in linked if target.is_dir()}
    orphans = [p for p in PAGES if p not in linked and p.parent not in folders]

    assert [p.name for p in orphans] == ["CHANGELOG.md", "README.md"]


def commands() -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {sub}": c for sub, c in command.commands.items()}
    return found


def test_the_reference_lists_exactly_the_options_that_there_are() -> None:
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    listed = {
        part.partition("\n")[0]: set(re.findall(r"^\| `(--[a-z-]+)", part, re.MULTILINE))
        for part in text.split("\n## ")[1:]
    }
    real = {
        name: {
            next(o for o in param.opts if o.startswith("--"))
            for param in command.params
            if isinstance(param, click.Option)
        }
        for name, command in commands().items()
    }

    assert listed == real


def test_the_reference_lists_every_limit_with_its_default() -> None:
    table = {row[0]: row[1] for row in rows(REFERENCE / "settings.md") if len(row) == 3}
    del table["field"]
    defaults = Limits()

    assert table == {name: str(getattr(defaults, name)) for name in Limits.__struct_fields__}


def test_the_reference_lists_every_event() -> None:
    table = [row[0] for row in rows(REFERENCE / "events.md")][1:]

    assert sorted(table) == sorted(kind.__struct_config__.tag for kind in ev.AnyEvent.__args__)


def test_the_reference_lists_every_error() -> None:
    table = [row[0] for row in rows(REFERENCE / "errors.md")][1:]
    real = [
        name
        for name, value in vars(abyme.errors).items()
        if isinstance(value, type) and issubclass(value, abyme.errors.AbymeError)
    ]

    assert sorted(table) == sorted(real)


def test_every_page_with_python_has_a_snippet_that_is_run() -> None:
    """A fence that is not marked is one that nobody has tried."""
    fences = sum(page.read_text(encoding="utf-8").count("```python\n") for page in PAGES)

    assert len(SNIPPETS) == fences


@pytest.mark.parametrize(("code"), [c for _, c in SNIPPETS], ids=[name for name, _ in SNIPPETS])
def test_a_snippet_does_what_it_says(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABYME_HOME", str(tmp_path))
    model = ScriptedModel(["```repl\nsubmit(2)\n```"] * 4)

    exec(compile(code, "snippet", "exec"), {"model": model, "__name__": "__main__"})
