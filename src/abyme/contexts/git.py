"""A git repository at a revision -> its files, read out of the object store.

Decides which commands are run (`git_process`: how). Invariant: nothing of the repository's own
making runs and nothing is written into it: no checkout, so no hooks, filters, attributes or
links; only `rev-parse`, `ls-tree` and `cat-file`, which start no programs. A repository on this
machine is read without any transport, so that no missing object is fetched by what its settings
name; of one on another machine one commit is fetched first, into a bare repository of ours.
Names come out of the tree, which says what it likes: they lead nowhere, and those that would
are skipped. Does not read working trees (`walk`).
"""

import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import PurePosixPath
from typing import BinaryIO, Final

from abyme.contexts.decode import NotText
from abyme.contexts.git_process import PIECE_BYTES, Git, Process
from abyme.contexts.places import is_local, repository, without_secrets
from abyme.contexts.remote import Elsewhere
from abyme.contexts.sizes import size_words
from abyme.contexts.walk import Found, Skipped
from abyme.errors import ContextError

MOST_FILES: Final = 1_000_000
"""Of one revision: a tree may name another ten times, and so on, ten levels deep."""
MOST_NAME_CHARS: Final = 1_000
MOST_NAMES_BYTES: Final = 200 * 10**6
"""Of all names together."""
MOST_BYTES: Final = 10**9
"""Of one file: it is unpacked into memory, and may have been packed a thousandfold."""
_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES: Final = 1024
MOST_FAILURES: Final = 100
"""Each costs another git: after so many no more is read."""
_FETCH_SILENCE_S: Final = 3_600.0
"""A quiet fetch says nothing until it ends; git itself ends one where nothing comes."""
_MISSING: Final = "missing in the repository"
_KINDS: Final = {b"120000": "link", b"160000": "submodule"}


def revision_of(source: str, *, env: Mapping[str, str], closing: ExitStack) -> Elsewhere:
    """List the files of ``git+PLACE@REV``.

    Raises:
        ContextError: there is no git, no such repository or revision, or git refuses it.
    """
    place, revision = repository(source)
    if is_local(place):
        if not os.path.isdir(place):  # noqa: PTH112
            raise ContextError("there is no such folder")
        git = Git(place, env, protocols="none")
    else:
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="abyme-git-"))
        git = Git(folder, env, protocols="http:https:ssh")
        _fetch(git, place, revision)
        git, revision = Git(folder, env, protocols="none"), "FETCH_HEAD"
    commit = _commit(git, revision)
    blobs = _Blobs(git)
    closing.callback(blobs.close)
    found: list[Found] = []
    skipped: list[Skipped] = []
    listed = git.stream("ls-tree", "-r", "-z", "-l", "--full-name", commit)
    names_bytes = 0
    for number, entry in enumerate(listed, 1):
        names_bytes += len(entry)
        if number > MOST_FILES:
            raise ContextError(f"more than {MOST_FILES:,} files")
        if names_bytes > MOST_NAMES_BYTES:
            raise ContextError(f"names of more than {size_words(MOST_NAMES_BYTES)}")
        facts, _, path = entry.partition(b"\t")
        mode, _, oid, size = facts.split()
        name = os.fsdecode(path)
        if len(name) > MOST_NAME_CHARS:
            skipped.append(Skipped(name[:100] + "…", f"a name of {len(name):,} characters"))
        elif (reason := _KINDS.get(mode) or _leads_out(name)) is not None:
            skipped.append(Skipped(name, reason))
        elif not size.isdigit():
            skipped.append(Skipped(name, _MISSING))
        elif int(size) > MOST_BYTES:
            skipped.append(Skipped(name, f"over {size_words(MOST_BYTES)}"))
        else:
            opened = partial(blobs.open, oid, int(size))
            found.append(Found(name, f"{commit[:12]}:{name}", int(size), opened))
    name = PurePosixPath(os.path.abspath(place) if is_local(place) else place).name  # noqa: PTH100
    name = name.removesuffix(".git") or "repository"
    return Elsewhere(name=name, found=found, skipped=skipped, revision=commit)


def _commit(git: Git, revision: str) -> str:
    try:
        return git.line("rev-parse", "--verify", "--end-of-options", revision + "^{commit}")
    except ContextError as error:
        if "single revision" in str(error):
            raise ContextError(f"there is no revision {revision!r}") from None
        raise


class _Blobs:
    """Files of a repository, out of one `cat-file`; safe in threads, one at a time."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._failures = 0

    def open(self, oid: bytes, size: int) -> BinaryIO:
        """Unpack one into memory.

        Raises:
            NotText: it stands for a file that is kept elsewhere.
            OSError: the repository is broken.
        """
        spool = os.fdopen(os.memfd_create("abyme-blob", os.MFD_CLOEXEC), "w+b", buffering=0)
        try:
            with self._lock:
                self._copy(oid, size, spool.fileno())
            _refuse_pointer(spool.fileno(), size)
            spool.seek(0)
        except BaseException:
            spool.close()
            raise
        return spool

    def close(self) -> None:
        """End git."""
        if self._process is not None:
            self._process.__exit__(None, None, None)
            self._process = None

    def _copy(self, oid: bytes, size: int, spool: int) -> None:
        """Copy ``OID blob SIZE``, the content, and a line end.

        What is said is said about what was asked, or this git is ended: whatever it would say
        next could be the rest of another object, made to look like an answer.
        """
        if self._failures >= MOST_FAILURES:
            raise OSError(0, "the repository is broken")
        try:
            self._answer(oid, size, spool)
        except BaseException as error:
            self._failures += 1
            self.close()
            if isinstance(error, ContextError):
                raise OSError(0, str(error)) from None
            raise

    def _answer(self, oid: bytes, size: int, spool: int) -> None:
        if self._process is None:
            self._process = self._git.start("cat-file", "--batch", stdin=subprocess.PIPE)
        self._process.order(oid)
        held = self._process.read(PIECE_BYTES)
        while b"\n" not in held and (piece := self._process.read(PIECE_BYTES)):
            held += piece
        head, _, held = held.partition(b"\n")
        if head.split()[1:] == [b"missing"]:
            raise OSError(0, _MISSING)
        if head.split() != [oid, b"blob", str(size).encode()]:
            raise OSError(0, "what its tree names is no file")
        left = size + 1
        while len(held) < left:
            _write(spool, held[: left - 1])
            left -= len(held)
            held = self._process.read(min(left, PIECE_BYTES))
            if not held:
                raise OSError(0, "the repository is broken")
        if held[left - 1 :] != b"\n":
            raise OSError(0, "the repository is broken")
        _write(spool, held[: left - 1])


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _refuse_pointer(spool: int, size: int) -> None:
    if size <= _POINTER_BYTES and os.pread(spool, len(_POINTER), 0) == _POINTER:
        raise NotText("Git LFS pointer: its content is not in the repository")


def _fetch(git: Git, url: str, revision: str) -> None:
    """Fetch one commit, without its history, into a new repository without hooks."""
    if any(char in revision for char in ":+*^~ ") or revision.startswith("/"):
        raise ContextError(f"{revision!r}: of a remote a branch, a tag or a whole hash is read")
    git.line("init", "-q", "--bare", "--template=")
    fetch = ("--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-commit-graph")
    try:
        words = ("fetch", "-q", *fetch, "--", url, revision)
        git.line(*words, silence_s=_FETCH_SILENCE_S)
    except ContextError as error:
        raise ContextError(str(error).replace(url, without_secrets(url))) from None


def _leads_out(name: str) -> str | None:
    """Give the reason to skip a name that no honest tree has."""
    parts = name.split("/")
    if name.startswith("/") or any(part in {"", ".", ".."} for part in parts):
        return "its name leads out of the repository"
    return "inside a .git folder" if ".git" in map(str.lower, parts) else None
