"""Contract: layers. Imports point down the list only; peers are strangers.

Also what follows from the ranks: guest code stands on the standard library, the
core touches nothing outside, only settings read the environment, imports are light.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
RANK = {  # lower imports nothing higher
    "abyme.errors": 0,
    "abyme.wire": 0,
    "abyme.layout": 0,
    "abyme.estimates": 0,
    "abyme.files": 0,
    "abyme.proxies": 0,
    "abyme.core": 1,
    "abyme.ports": 2,
    "abyme.guest": 2,  # imports GUEST only; above it may be started and measured
    "abyme.helpers": 2,  # imports HELPERS only; above it may be started
    "abyme.models": 3,
    "abyme.sandboxes": 3,
    "abyme.contexts": 3,
    "abyme.journals": 3,
    "abyme.run": 4,
    "abyme.fleet": 5,
    "abyme.evals": 6,
    "abyme.apps": 7,
    "abyme.__init__": 8,  # the public facade
    "abyme.testing": 8,
    "abyme.__main__": 8,
}
GUEST = {
    "abyme.wire",
    "abyme.layout",
    "abyme.estimates",
    "abyme.guest",
}  # all that guest code may import from us
HELPERS = {"abyme.wire", "abyme.layout", "abyme.estimates", "abyme.guest", "abyme.helpers"}
OUTSIDE = {  # what a pure core must not touch
    "asyncio",
    "concurrent",
    "datetime",
    "io",
    "multiprocessing",
    "os",
    "pathlib",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
}
HEAVY = {"aiohttp", "charset_normalizer", "genai_prices", "pathspec", "re2", "rich", "xllamacpp"}
MAY_READ_ENVIRONMENT = (
    "abyme/run/spec.py",
    "abyme/apps/cli/",
    "abyme/guest/kernel/lockdown.py",  # checks that it is empty
)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts)


def layer(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports(path: Path) -> Iterator[str]:
    """Full names, lazy and type-only imports included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(folder: str = "abyme") -> list[Path]:
    found = sorted((SRC / folder).rglob("*.py"))
    assert found, f"no source in {folder}"
    return found


def test_imports_only_point_down() -> None:
    """Catches a line in the wrong folder, lazy imports included."""
    bad = set()
    for path in sources():
        here = layer(module_of(path))
        for there in {layer(name) for name in imports(path) if name.startswith("abyme.")}:
            if here == there:
                continue
            if here == "abyme.guest":
                allowed = there in GUEST
            elif here == "abyme.helpers":
                allowed = there in HELPERS
            else:
                allowed = RANK.get(there, 99) < RANK.get(here, -1)
            if not allowed:
                bad.add((module_of(path), there))
    assert bad == set()


@pytest.mark.parametrize(
    "folder", ["abyme/guest", "abyme/wire.py", "abyme/layout.py", "abyme/estimates.py"]
)
def test_what_runs_in_the_jail_stands_on_the_standard_library(folder: str) -> None:
    """A dependency there would be one more thing inside the boundary."""
    paths = [SRC / folder] if folder.endswith(".py") else sources(folder)
    roots = {name.split(".")[0] for path in paths for name in imports(path)}

    assert roots - set(sys.stdlib_module_names) - {"abyme"} == set()


def test_the_core_touches_nothing_outside() -> None:
    """No clock, no file, no await: it decides, others wait."""
    touched = {
        (module_of(path), name)
        for path in sources("abyme/core")
        for name in imports(path)
        if name.split(".")[0] in OUTSIDE
    }
    waits = {
        module_of(path)
        for path in sources("abyme/core")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await)
    }

    assert (touched, waits) == (set(), set())


def test_only_settings_and_the_command_line_read_the_environment() -> None:
    """Everything else is told: a library must not depend on who started it."""
    readers = {
        path.relative_to(SRC).as_posix()
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("os", "environ"), ("os", "getenv"), ("os", "environb")}
    }
    allowed = {
        name for name in readers if any(name.startswith(prefix) for prefix in MAY_READ_ENVIRONMENT)
    }

    assert readers - allowed == set()


@pytest.mark.parametrize("statement", ["import abyme", "import abyme.apps.cli.main"])
def test_importing_is_light(statement: str) -> None:
    """The slow libraries are loaded by what needs them, when it does."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )

    assert HEAVY & set(done.stdout.split()) == set()
