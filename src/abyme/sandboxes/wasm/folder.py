"""A run's private folder: its context as files, and a place of its own for each REPL.

Decides what lies where. The folder is made by `tempfile.mkdtemp`, so nobody else can reach it; the
interpreter's own files are unpacked into it too, never into a folder that others could have made
before (its default is a fixed name in the shared temporary folder)::

    RUN/context/index, arena      of the run; of a REPL's own context RUN/N/context/...
    RUN/N/told/                   what REPL N is told
    RUN/runtime/                  the interpreter

Where the host is root, a REPL's process becomes a user who owns nothing: then the folder is given
to that user. Landlock keeps the processes of one run from the folders of another.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from abyme.errors import SandboxError, SandboxUnavailable
from abyme.guest.kernel.credentials import UNUSED_ID
from abyme.ports import Context
from abyme.sandboxes.wasm.leftovers import hold, sweep

MAX_CONTEXT_BYTES: Final = 400 << 20
"""Of the texts as they lie in memory. The interpreter's whole memory is 4 GB at most."""
PREFIX: Final = "abyme-wasm-"
PIECE_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a REPL lives."""

    own: Path
    told: Path
    context: Path

    def remove(self) -> None:
        """Remove it, with a context of its own. Safe to repeat."""
        shutil.rmtree(self.own, ignore_errors=True)

    def again(self) -> "Place":
        """Make it empty, for another REPL in the place of one that is gone.

        Raises:
            SandboxError: it cannot be.
        """
        try:
            shutil.rmtree(self.told, ignore_errors=True)
            self.told.mkdir()
            give(self.told)
        except OSError as error:
            raise SandboxError(f"a REPL's folder cannot be made: {error}") from None
        return self


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runtime = path / "runtime"
        self._lock = hold(path)
        self._repls = 0

    @classmethod
    def made(cls, context: Context) -> Self:
        """Make it, with the run's context.

        Raises:
            SandboxUnavailable: the context is too large for this tier.
            SandboxError: it cannot be written.
        """
        check_size(context)
        try:
            sweep(Path(tempfile.gettempdir()), PREFIX)
            made = cls(Path(tempfile.mkdtemp(prefix=PREFIX)))
            try:
                made.runtime.mkdir()
                copy_context(context, made.path / "context")
            except BaseException:
                made.remove()
                raise
        except OSError as error:
            raise SandboxError(f"the context cannot be copied for this run: {error}") from None
        return made

    def place(self, context: Context | None) -> Place:
        """Make a place for a REPL; with a context of its own, or the run's.

        Raises:
            SandboxError: it cannot be written.
        """
        self._repls += 1
        own = self.path / str(self._repls)
        place = Place(own, own / "told", (self.path if context is None else own) / "context")
        try:
            own.mkdir()
            if context is not None:
                check_size(context)
                copy_context(context, place.context)
            give(own)
        except OSError as error:
            raise SandboxError(f"the context cannot be copied for a REPL: {error}") from None
        return place

    def hand_over(self) -> None:
        """Let the REPLs' processes read what lies here.

        Raises:
            SandboxError: it cannot be given to their user.
        """
        try:
            give(self.path)
        except OSError as error:
            raise SandboxError(f"the run's folder cannot be handed over: {error}") from None

    def remove(self) -> None:
        """Remove all of it. Safe to repeat."""
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def give(folder: Path) -> None:
    """Give a folder and all in it to the user that a child of root's becomes; else do nothing.

    Raises:
        OSError: the system says no.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    with contextlib.suppress(PermissionError):  # uid 0 without capabilities: so is the child
        for path in (folder, *folder.rglob("*")):
            os.chown(path, UNUSED_ID, UNUSED_ID, follow_symlinks=False)


def check_size(context: Context) -> None:
    """See that a context fits into the interpreter.

    Raises:
        SandboxUnavailable: it does not.
    """
    _, arena = context.fds
    size = os.fstat(arena).st_size
    if size > MAX_CONTEXT_BYTES:
        raise SandboxUnavailable(
            f"the wasm tier takes contexts up to {MAX_CONTEXT_BYTES:,} bytes, this one has "
            f"{size:,}: use another tier, or give less"
        )


def copy_context(context: Context, folder: Path) -> None:
    """Copy the index and the arena of a context into files."""
    folder.mkdir(parents=True)
    for name, fd in zip(("index", "arena"), context.fds, strict=True):
        with (folder / name).open("wb") as file:
            at = 0
            while piece := os.pread(fd, PIECE_BYTES, at):
                file.write(piece)
                at += len(piece)
