"""Fetch the code base that the demo asks about: three wheels, pinned by hash.

Decides where it lies, that only Python sources are taken, and that nothing half done is
ever used: a package appears by one rename once pip has checked its wheel's hash. A
second run finds everything; one that was cut off goes on with what was missing. Nothing
of it is imported or installed.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


class DemoFailed(Exception):
    """The demo cannot go on; the text says why and what to do."""


def fetch(folder: Path) -> Path:
    """Give the folder that holds the packages, complete.

    Raises:
        DemoFailed: a package cannot be downloaded or its hash differs.
    """
    code = folder / "code"
    code.mkdir(parents=True, exist_ok=True)
    wanted = _requirements()
    for number, (name, requirement) in enumerate(wanted, 1):
        if (code / name).is_dir():
            continue
        version = requirement.partition(" ")[0]
        print(f"fetching {version} from PyPI ({number} of {len(wanted)})", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            _unpack(_download(requirement, Path(scratch)), name, code)
    return code


def is_complete(folder: Path) -> bool:
    """Tell whether every package is there."""
    return all((folder / "code" / name).is_dir() for name, _ in _requirements())


def _requirements() -> list[tuple[str, str]]:
    """List packages, by name and as pip reads them."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    return [(pin.partition("==")[0], pin) for pin in pins]


def _download(requirement: str, scratch: Path) -> Path:
    wanted = scratch / "requirements.txt"
    wanted.write_text(requirement + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "-q"]
    command += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--progress-bar", "on"]
    done = subprocess.run([*command, "-d", str(scratch), "-r", str(wanted)], check=False)
    found = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(found) != 1:
        raise DemoFailed(f"pip could not get {requirement.partition(' ')[0]}: see above")
    return found[0]


def _unpack(wheel: Path, name: str, code: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        members = [m for m in archive.namelist() if m.startswith(f"{name}/") and m.endswith(".py")]
        archive.extractall(wheel.parent, members)
    try:
        (wheel.parent / name).replace(code / name)
    except OSError:
        if not (code / name).is_dir():  # else another demo was quicker
            raise
