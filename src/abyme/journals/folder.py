"""A run is a folder: where it lies, what is in it, how it is found again.

    20261122T205430-4f2a/     0700; named by its start (UTC) and four random digits
      run.json                what was asked, of which models, within which limits
      manifest.json           the context: names, sizes, hashes
      events.jsonl            the journal (`writer`, `reader`)
      alive                   seconds it had been at work, while it had nothing to record
      answer.json             how it ended; absent while it runs or if it was killed
    contexts/                 what cannot be read again from paths, kept for `resume`

Invariant: files are 0600 and appear whole or not at all; no API key is among them
(`RunSpec` has no field for one, and `redact_url` cuts credentials out of a URL). The folder may
come from somebody else: nothing in it leads out of it, keeps us waiting, or fills the memory.
Does not know where runs are kept by default: the caller names `runs_dir`.
"""

import contextlib
import fcntl
import math
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from abyme.core.events import Derivation, Evidence
from abyme.core.limits import Limits
from abyme.errors import JournalError
from abyme.files import create_anew, open_regular, read_whole
from abyme.journals import codec, reader
from abyme.journals.writer import SIGN, JournalWriter

T = TypeVar("T")

LATEST = "latest"
MOST_BYTES: Final = 64 << 20
MOST_SIGN_BYTES: Final = 64
MOST_LISTED_BYTES: Final = 1 << 30
"""Of a manifest, which grows with the documents."""


class RunSpec(Struct, frozen=True, kw_only=True):
    """run.json: what decided the run, for people and for `resume`. Never a key."""

    question: str
    model: str
    sub_model: str
    base_url: str | None = None
    sub_base_url: str | None = None
    limits: Limits
    sources: list[str] = []
    """Paths as the user gave them; empty for a context made of Python values."""
    located: list[str] = []
    """The same paths, absolute: a run can be resumed from another working directory."""
    context_key: str = ""
    """Hash of the context's content; empty if that was not known."""
    kept: bool = False
    """The context lies under `contexts/`, because paths alone do not give it again."""
    sandbox: str = "jail"
    profile: str = ""
    abyme: str = ""
    python: str = ""
    started_at: str = ""
    """ISO 8601, UTC."""


class RunUsage(Struct, frozen=True, kw_only=True):
    """What the run used, every descendant included."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    """None: some price is unknown."""
    wall_s: float = 0.0


class Outcome(Struct, frozen=True, kw_only=True):
    """answer.json: how the run ended."""

    status: Literal["answered", "partial", "failed", "stopped"]
    value: Any
    evidence: list[Evidence] = []
    derivations: list[Derivation] = []
    reason: str | None = None
    usage: RunUsage = RunUsage()


class _Skipped(Struct):
    name: str
    reason: str


class _Skipping(Struct):
    """Of manifest.json, what a reader of a run is told."""

    skipped: list[_Skipped] = []
    in_file: bool = False


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run on disk."""

    path: Path

    @property
    def id(self) -> str:
        """The folder's name; a unique beginning of it, or its last four digits, find it too."""
        return self.path.name

    @property
    def events_path(self) -> Path:
        """Where the journal lies."""
        return self.path / "events.jsonl"

    def write_spec(self, spec: RunSpec) -> None:
        """Write run.json."""
        self._write("run.json", spec)

    def write_manifest(self, manifest: object) -> None:
        """Write manifest.json: a struct or plain values."""
        self._write("manifest.json", manifest)

    def write_answer(self, outcome: Outcome) -> None:
        """Write answer.json; the run has ended."""
        self._write("answer.json", outcome)

    def remove_answer(self) -> None:
        """Remove answer.json: the run goes on."""
        with contextlib.suppress(OSError):
            (self.path / "answer.json").unlink(missing_ok=True)

    def open_journal(self) -> JournalWriter:
        """Open the journal for writing, new or to go on with it."""
        return JournalWriter(self.events_path)

    def has_spec(self) -> bool:
        """Tell whether run.json was written: the first thing of a run but its empty journal."""
        return os.path.lexists(self.path / "run.json")

    def spec(self) -> RunSpec:
        """Read run.json.

        Raises:
            JournalError: if it is absent or damaged.
        """
        return self._read("run.json", RunSpec)

    def answer(self) -> Outcome | None:
        """Read answer.json; None if the run has not ended.

        Raises:
            JournalError: if it is damaged.
        """
        if not os.path.lexists(self.path / "answer.json"):
            return None
        return self._read("answer.json", Outcome)

    def manifest(self) -> object:
        """Read manifest.json as plain values.

        Raises:
            JournalError: if it is absent or damaged.
        """
        return self._read("manifest.json", object, MOST_LISTED_BYTES)

    def skipped(self) -> list[tuple[str, str]]:
        """Read from manifest.json what was not read, and why; none where it does not say.

        Raises:
            JournalError: if it is damaged.
        """
        if not os.path.lexists(self.path / "manifest.json"):
            return []
        listed = self._read("manifest.json", _Skipping, MOST_LISTED_BYTES).skipped
        return [(item.name, item.reason) for item in listed]

    def lay_in_file(self) -> bool:
        """Read from manifest.json whether the context lay in a file, and not in sealed memory.

        Raises:
            JournalError: if it is damaged.
        """
        if not os.path.lexists(self.path / "manifest.json"):
            return False
        return self._read("manifest.json", _Skipping, MOST_LISTED_BYTES).in_file

    def recording(self) -> reader.Recording:
        """Read the journal.

        Raises:
            JournalError: see `reader.read`.
        """
        return reader.read(self.events_path)

    def is_running(self) -> bool:
        """Tell whether some process holds the journal open for writing."""
        try:
            fd = open_regular(self.events_path, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def alive_s(self) -> float | None:
        """Read how long the run had been at work by its last sign of life
        (`JournalWriter.alive`); None if it left none, or none that can be read.
        """
        try:
            elapsed_s = float(read_whole(self.path / SIGN, MOST_SIGN_BYTES))
        except (OSError, ValueError):
            return None
        return elapsed_s if 0 <= elapsed_s < math.inf else None

    def _write(self, name: str, value: object) -> None:
        data = codec.encode(value) + b"\n"
        target, partial = self.path / name, self.path / f".{name}.partial"
        try:
            with os.fdopen(create_anew(partial), "wb") as file:
                file.write(data)
                file.flush()
                os.fdatasync(file.fileno())
            partial.replace(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise JournalError(f"cannot write {target}: {error.strerror}") from error

    def _read(self, name: str, kind: type[T], most_bytes: int = MOST_BYTES) -> T:
        path = self.path / name
        try:
            return codec.decode(read_whole(path, most_bytes), kind)
        except OSError as error:
            raise JournalError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise JournalError(f"{path} is damaged: {error}") from None


def create(runs_dir: Path, *, now: datetime | None = None) -> RunFolder:
    """Make the folder of a new run.

    Raises:
        JournalError: if `runs_dir` cannot be written.
    """
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%S")
    try:
        runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = runs_dir / f"{stamp}-{secrets.token_hex(2)}"
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:
                continue
            return RunFolder(path)
    except OSError as error:
        message = f"cannot make a run's folder in {runs_dir}: {error.strerror}"
        raise JournalError(f"{message}; name another one with --runs-dir") from error


def list_runs(runs_dir: Path) -> list[RunFolder]:
    """Every run of a folder, newest first. An absent folder has none."""
    return sorted(_runs(runs_dir), key=_age, reverse=True)


def find(runs_dir: Path, name: str) -> RunFolder:
    """One run by ``latest``, its id, a unique beginning or end of it, or its path.

    Raises:
        JournalError: if there is none, or more than one.
    """
    runs = list_runs(runs_dir)
    if name == LATEST:
        if not runs:
            raise JournalError(f"no runs in {runs_dir} yet")
        return runs[0]
    if name and _is_run(Path(name)):
        return RunFolder(Path(name).resolve())
    exact = [run for run in runs if run.id == name]
    found = exact or [run for run in runs if name and run.id.startswith(name)]
    found = found or [run for run in runs if name and run.id.endswith(f"-{name}")]
    if not found:
        raise JournalError(f"no run {name!r} in {runs_dir}; `abyme runs` lists them")
    if len(found) > 1:
        some = ", ".join(run.id for run in found[:5])
        raise JournalError(f"{name!r} could be {len(found)} runs: {some}")
    return found[0]


def contexts_dir(runs_dir: Path) -> Path:
    """Where the contexts of these runs are kept that paths alone do not give again."""
    return runs_dir / "contexts"


def redact_url(url: str) -> str:
    """Cut user, password, query and fragment out of a URL: keys hide there."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _runs(runs_dir: Path) -> Iterator[RunFolder]:
    try:
        entries = list(runs_dir.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalError(f"cannot read {runs_dir}: {error.strerror}") from error
    for path in entries:
        if not path.name.startswith(".") and _is_run(path):  # a dot: on its way out
            yield RunFolder(path)


def _age(run: RunFolder) -> tuple[str, int, str]:
    """Sort key: the start in seconds is in the name; within one, the older run.json."""
    try:
        written_ns = (run.path / "run.json").lstat().st_mtime_ns
    except OSError:
        written_ns = 0
    return run.id.partition("-")[0], written_ns, run.id


def _is_run(path: Path) -> bool:
    return os.path.lexists(path / "events.jsonl") or os.path.lexists(path / "run.json")
