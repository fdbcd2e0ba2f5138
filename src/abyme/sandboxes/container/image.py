"""The guest's image: an interpreter, and the part of abyme that runs inside.

Decides what is in it and what it is called. Its name ends in a digest of the guest's sources, so an
image of another version of abyme is never taken for this one's. Nothing is built by itself:
`python -m abyme.sandboxes.container` does it once, and says what it does.
"""

import functools
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import abyme.guest

REPOSITORY = "localhost/abyme-guest"
COMMAND = "python -m abyme.sandboxes.container"
BASE = "docker.io/library/python:3.13-slim"
FILES = ("wire.py", "layout.py", "estimates.py")
"""Beside the package `guest`: all that it may import of abyme."""


@functools.cache
def digest() -> str:
    """Digest of the guest as it is installed here."""
    made = hashlib.sha256()
    for path in _sources():
        name = path.relative_to(_root()).as_posix()
        made.update(f"{name}\0{path.stat().st_size}\0".encode())
        made.update(path.read_bytes())
    return made.hexdigest()[:16]


def name() -> str:
    """Name of the image that fits."""
    return f"{REPOSITORY}:{digest()}"


def lay_out(folder: Path) -> None:
    """Put what the image is built of into a folder."""
    for path in _sources():
        target = folder / "abyme" / path.relative_to(_root())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (folder / "abyme" / "digest").write_text(digest(), encoding="ascii")
    shutil.copyfile(Path(__file__).with_name("Containerfile"), folder / "Containerfile")


def build(engine: str, base: str, options: Sequence[str] = ()) -> int:
    """Build the image; the engine speaks for itself. Gives its exit status."""
    with tempfile.TemporaryDirectory(prefix="abyme-image-") as made:
        lay_out(Path(made))
        command = [engine, "build", "--file", f"{made}/Containerfile", "--tag", name()]
        command += ["--network=none", "--build-arg", f"BASE={base}", *options, made]
        return subprocess.run(command, check=False).returncode  # noqa: S603 - the user's engine


def _root() -> Path:
    return Path(abyme.guest.__file__).parent.parent


def _sources() -> Iterator[Path]:
    root = _root()
    yield from sorted((root / "guest").rglob("*.py"))
    yield from (root / name for name in FILES)
