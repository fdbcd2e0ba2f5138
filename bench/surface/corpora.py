"""The texts that the questions are about, by name: of this machine, or of a folder of data.

Gives what is there; a corpus that is not there is an `Absent` with what to do. Names are
chosen as a user would see them. Does not ask anything.
"""

import lzma
import sysconfig
import tarfile
from collections.abc import Callable
from pathlib import Path

from demo import checks, corpus

from abyme.run.spec import cache_dir
from bench.surface import made

Texts = dict[str, str] | str


class Absent(Exception):
    """A corpus that is not here."""


def load(name: str, data: Path | None) -> Texts:
    """Read a corpus: names and texts, or one text."""
    return MAKERS[name](data)


def demo(_: Path | None) -> Texts:
    """The code base of the demo, fetched if it is not there."""
    return checks.read(corpus.fetch(cache_dir() / "demo"))


def stdlib(_: Path | None) -> Texts:
    """Sources of the Python that runs this, without its tests: Debian has none."""
    top = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "__pycache__"}
    texts = {}
    for path in sorted(top.rglob("*.py")):
        inside = path.relative_to(top)
        if left_out.isdisjoint(inside.parts):
            texts[inside.as_posix()] = path.read_text(encoding="utf-8", errors="replace")
    return texts


def peps(data: Path | None) -> Texts:
    return _of_archive(_found(data, "peps.tar.xz"))


def contracts(data: Path | None) -> Texts:
    return _of_archive(_found(data, "full_contract_txt.tar.xz"))


def novel(data: Path | None) -> Texts:
    return lzma.open(_found(data, "sherlock*.txt.xz"), "rt", encoding="utf-8").read()


def _found(data: Path | None, name: str) -> Path:
    if data is None:
        raise Absent(f"{name} is wanted: give --data FOLDER that holds it")
    path = next(data.rglob(name), None)
    if path is None:
        raise Absent(f"{name} is not under {data}")
    return path


def _of_archive(path: Path) -> dict[str, str]:
    """Read an archive's files, by their names alone."""
    texts = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                name = member.name.rsplit("/", 1)[-1]
                texts[name] = file.read().decode("utf-8", errors="replace")
    return dict(sorted(texts.items()))


MAKERS: dict[str, Callable[[Path | None], Texts]] = {
    "demo": demo,
    "stdlib": stdlib,
    "peps": peps,
    "novel": novel,
    "contracts": contracts,
    "messages": lambda _: made.messages(),
    "agreements": lambda _: made.agreements(),
    "diary": lambda _: made.diary(),
}
