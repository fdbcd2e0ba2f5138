"""A run that somebody waits for: what they are told, and how they end it.

Shared by the commands that run something. Decides what Ctrl-C does, what is said although
nobody asked (a REPL that did not come out as it was), and how a context is read meanwhile.
Does not decide anything about the run (`run.api`) or what a run looks like (`progress`).
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from abyme.apps.cli.asking import Asker
from abyme.apps.cli.terminal import err
from abyme.apps.view import RunView

if TYPE_CHECKING:
    from pathlib import Path

    from abyme.apps.cli.progress import Progress
    from abyme.contexts.cache import IngestCache
    from abyme.contexts.choice import Choice
    from abyme.contexts.load import Loaded
    from abyme.contexts.load import Progress as Reading
    from abyme.core.events import Record
    from abyme.core.ids import NodeId
    from abyme.journals.folder import RunFolder
    from abyme.run.api import RLM

WORTH_A_BAR_BYTES = 100_000_000
"""Reading less than that is over before a bar could be seen."""


class Watched:
    """Passes on what happens, and knows what a run has come to."""

    def __init__(self, shown: "Progress") -> None:
        self.shown = shown
        self.asker = Asker(err(), shown)
        self.begun = False
        self.killed = False
        self._stops = 0
        self._name = ""
        self._past: list[Record] = []

    @property
    def view(self) -> RunView:
        """What the run has come to."""
        return self.shown.view

    def goes_on(self, name: str, past: "Iterable[Record]") -> None:
        """Keep what a run had done until it goes on: only then is known what of it counts."""
        self._name, self._past = name, list(past)

    def record(self, record: "Record") -> None:
        """Take one."""
        from abyme.core import events as ev  # noqa: PLC0415

        self.begun = True
        if isinstance(record.event, ev.RunResumed):
            self._take_up(record)
            return
        self.asker.record(record)
        if self.killed and isinstance(record.event, ev.StopRequested):
            self._stops += 1
            if self._stops == 1:
                self.shown.note("stopping now")
            return
        self.shown.record(record)
        if isinstance(record.event, ev.SessionRebuilt):
            self._say_what_differs(record.node, record.event.differs)

    def text(self, node: "NodeId", piece: str) -> None:
        """Take a piece of a reply that is being written."""
        self.shown.text(node, piece)

    def _take_up(self, record: "Record") -> None:
        from abyme.apps.tree import going_on  # noqa: PLC0415

        past, self._past = [*self._past, record], []
        self.shown.past(past)
        self.shown.note(f"resuming {self._name} {going_on(self.view.resumed[-1])}")

    def _say_what_differs(self, node: "NodeId", differs: "Sequence[Any]") -> None:
        from abyme.apps.tree import differing  # noqa: PLC0415

        for difference in differs:
            self.shown.warn(f"REPL rebuilt: {differing(node, difference)}")


@contextmanager
def watched(*, quiet: bool) -> Iterator[Watched]:
    """Show what happens on stderr, to the end."""
    from abyme.apps.cli.progress import progress  # noqa: PLC0415

    shown = progress(err(), quiet=quiet)
    try:
        yield Watched(shown)
    finally:
        shown.close()


@contextmanager
def says_how_to_go_on(watching: Watched, runs_dir: "Path | None") -> Iterator[None]:
    """Let an impatient Ctrl-C, which ends all at once, still tell how to go on."""
    from abyme.apps.cli.going_on import how_to_go_on, run_of  # noqa: PLC0415

    try:
        yield
    except KeyboardInterrupt as stop:
        started = watching.view.started
        run = None if started is None else run_of(started, runs_dir)
        if run is not None and (hint := how_to_go_on(run, "")):
            stop.add_note(hint)
        raise


def read_in(
    paths: Sequence[str], shown: "Progress", choice: "Choice", cache: "IngestCache | None"
) -> "Loaded":
    """Read and seal what the user named. Whoever takes the context closes it."""
    from abyme.contexts.load import load_paths  # noqa: PLC0415
    from abyme.run import spec, storage  # noqa: PLC0415

    def reading(so_far: "Reading") -> None:
        if so_far.total_bytes >= WORTH_A_BAR_BYTES:
            shown.bytes_done("reading", so_far.size_bytes, so_far.total_bytes)

    found = load_paths(
        paths,
        stdin=sys.stdin.buffer if "-" in paths else None,
        choice=choice,
        env=os.environ,
        on_progress=reading,
        room=storage.room(spec.cache_dir()),
        cache=cache,
    )
    tell(cache, shown)
    return found


def tell(cache: "IngestCache | None", shown: "Progress") -> None:
    """Say what the cache has to tell, each thing once: some of it comes while a run goes on."""
    while cache and cache.notes:
        shown.warn(cache.notes.pop(0))


@contextmanager
def loaded(
    paths: Sequence[str], shown: "Progress", choice: "Choice", *, ingest_cache: bool = False
) -> Iterator[Any]:
    """Read what the user named, say what was read, and close it in the end."""
    from abyme.run import spec, storage  # noqa: PLC0415

    cache = storage.ingest_cache(spec.cache_dir(), wanted=ingest_cache)
    found = read_in(paths, shown, choice, cache)
    shown.note(found.summary())
    try:
        yield found.context
    finally:
        found.context.close()
        tell(cache, shown)


def loaded_again(
    folder: "RunFolder", paths: Sequence[str], shown: "Progress"
) -> AbstractContextManager[Any]:
    """Read a run's input from elsewhere, and of it what the run wanted."""
    from abyme.contexts.again import choice_of  # noqa: PLC0415

    return loaded(paths, shown, choice_of(folder.manifest()))


@contextmanager
def interrupts(rlm: "RLM", watched: Watched) -> Iterator[None]:
    """Ctrl-C once: finish with what is there. Twice, or a polite kill: stop now.

    The handlers print nothing, because they may interrupt printing: what they bring about
    is shown when it comes back as a record.
    """
    presses = 0

    def pressed(number: int, frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        if not watched.begun or presses > 2:
            signal.default_int_handler(number, frame)
        rlm.stop()

    def killed(number: int, frame: FrameType | None) -> None:
        nonlocal presses
        watched.killed = True
        if presses < 1:
            pressed(number, frame)
        pressed(number, frame)

    with _handling(signal.SIGINT, pressed), _handling(signal.SIGTERM, killed):
        yield


@contextmanager
def _handling(
    number: signal.Signals, handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
