"""``abyme ask``: one question, answered; the answer on stdout, all else on stderr.

Decides what is printed where, what Ctrl-C does, and the exit code. The answer is data:
stdout holds it and nothing else, evidence and progress go to stderr. Does not decide
anything about the run (`run.api`).
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from abyme.apps.cli import failures, options, streams
from abyme.apps.cli.terminal import Terminal, err, out
from abyme.errors import ConfigError

if TYPE_CHECKING:
    from abyme.apps.cli.progress import Progress
    from abyme.contexts.load import Progress as Reading
    from abyme.core.events import Record
    from abyme.core.limits import Limits
    from abyme.run.api import RLM, Answer


WORTH_A_BAR_BYTES = 100_000_000
"""Reading less than that is over before a bar could be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command line, as click read it. Field names are those of its parameters."""

    question: str
    paths: tuple[str, ...]
    model: str | None
    sub_model: str | None
    base_url: str | None
    api_key: str | None
    max_usd: Decimal | object | None
    price: str | None
    max_calls: int | object | None
    depth: int | None
    timeout: float | object | None
    max_turns: int | None
    runs_dir: Path | None
    as_json: bool
    quiet: bool


@click.command("ask", short_help="Answer a question over files and folders.")
@click.argument("question")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--model", metavar="M", help="Root model, PROVIDER:MODEL; see `abyme models`.")
@click.option("--sub-model", metavar="M", help="Model for sub-calls; by default the root model.")
@click.option("--base-url", metavar="URL", help="Any OpenAI-compatible endpoint.")
@click.option(
    "--api-key",
    metavar="KEY",
    help="Others on this machine can see it in the list of processes: rather set ABYME_API_KEY.",
)
@click.option(
    "--max-usd",
    type=options.DOLLARS,
    metavar="X|none",
    help="Ceiling in dollars for the whole run; 5 if not given.",
)
@click.option(
    "--price",
    metavar="IN,OUT[,CACHED]",
    help="Dollars for a million tokens: in, out, and input that the provider had cached.",
)
@click.option(
    "--max-calls",
    type=options.COUNT,
    metavar="N|none",
    help="Ceiling of model calls; 10,000 if not given.",
)
@click.option(
    "--depth",
    type=click.IntRange(min=0),
    metavar="N",
    help="0: no sub-calls, 1: sub-models, 2: children with a REPL of their own...; 3 if not given.",
)
@click.option(
    "--timeout",
    type=options.SECONDS,
    metavar="S|none",
    help="Wall time in seconds; 3600 if not given.",
)
@click.option(
    "--max-turns",
    type=click.IntRange(min=1),
    metavar="N",
    help="Turns of each model; 30 if not given.",
)
@options.RUNS_DIR
@options.JSON
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def command(**given: Any) -> int:
    """Answer QUESTION over files and folders.

    PATH is a file, a folder, or - for standard input. The answer is printed on stdout,
    its evidence and the progress on stderr. Exit codes: 0 answered, 3 partial, 1 failed,
    2 wrong usage, 130 stopped.

    Ctrl-C once finishes with what is there, twice stops now.
    """
    asked = Asked(**given)
    if not asked.question.strip():
        raise ConfigError("the question is empty: say what you want to know of the paths")
    if not asked.paths:
        raise ConfigError("no PATH is given: name a file or a folder, or - to read stdin")
    from abyme.apps.cli.progress import progress  # noqa: PLC0415

    shown = progress(err(), quiet=asked.quiet)
    try:
        answer = _answer(asked, shown)
    finally:
        shown.close()
    delivered = _print(answer, asked)
    return failures.OF_STATUS[answer.status] if delivered else failures.FAILED


def _answer(asked: Asked, shown: "Progress") -> "Answer":
    from abyme.run.api import RLM  # noqa: PLC0415

    watched = Watched(shown)
    with RLM(
        asked.model,
        asked.sub_model,
        base_url=asked.base_url,
        api_key=asked.api_key,
        price=asked.price,
        limits=_limits(asked),
        runs_dir=asked.runs_dir,
        warm=0,
        on_record=watched.record,
        on_text=shown.text,
    ) as rlm:
        if rlm.spec.root.local or rlm.spec.sub.local:
            from abyme.apps.cli.weights import make_sure_of_weights  # noqa: PLC0415

            make_sure_of_weights(rlm.spec, shown, default=asked.model is None)
        rlm.warm_up()
        with _loaded(asked.paths, shown) as context, _interrupts(rlm, watched):
            return rlm.ask(asked.question, context)


class Watched:
    """Passes records on, and knows whether the run has begun."""

    def __init__(self, shown: "Progress") -> None:
        self._shown = shown
        self.begun = False
        self.killed = False
        self._stops = 0

    def record(self, record: "Record") -> None:
        """Take one."""
        from abyme.core.events import StopRequested  # noqa: PLC0415

        self.begun = True
        if self.killed and isinstance(record.event, StopRequested):
            self._stops += 1
            if self._stops == 1:
                self._shown.note("stopping now")
            return
        self._shown.record(record)


@contextmanager
def _loaded(paths: tuple[str, ...], shown: "Progress") -> Iterator[Any]:
    from abyme.contexts.load import load_paths  # noqa: PLC0415

    def reading(so_far: "Reading") -> None:
        if so_far.total_bytes >= WORTH_A_BAR_BYTES:
            shown.bytes_done("reading", so_far.size_bytes, so_far.total_bytes)

    stdin = sys.stdin.buffer if "-" in paths else None
    loaded = load_paths(paths, stdin=stdin, on_progress=reading)
    shown.note(loaded.summary())
    try:
        yield loaded.context
    finally:
        loaded.context.close()


@contextmanager
def _interrupts(rlm: "RLM", watched: Watched) -> Iterator[None]:
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


def _limits(asked: Asked) -> "Limits":
    from abyme.core.limits import Limits  # noqa: PLC0415

    wanted = {
        "max_usd": asked.max_usd,
        "max_calls": asked.max_calls,
        "depth": asked.depth,
        "timeout_s": asked.timeout,
        "max_turns": asked.max_turns,
    }
    given = {
        name: None if value is options.NO_CEILING else value
        for name, value in wanted.items()
        if value is not None
    }
    return Limits(**given)  # type: ignore[arg-type]  # click has checked the types


# -- what is printed -----------------------------------------------------------------


def _print(answer: "Answer", asked: Asked) -> bool:
    """Print all, and tell whether the answer came where it belongs."""
    from abyme.apps.cli.answers import left_out, place, spent  # noqa: PLC0415

    stderr = err()
    delivered = _print_value(answer, stderr, as_json=asked.as_json)
    for number, evidence in enumerate(answer.evidence, 1):
        if not asked.as_json:
            stderr.say(f"  [{number}] {place(evidence)}")
    if answer.missing:
        stderr.say(left_out(answer.missing))
    if answer.status != "answered":
        stderr.say(f"{answer.status}: {answer.reason or 'no reason was given'}")
    if answer.unrecorded is not None:
        stderr.say(f"the end of the run is not recorded: {answer.unrecorded}")
    if not asked.quiet or answer.status != "answered":
        stderr.say(spent(answer.status, answer.usage, answer.run))
    return delivered


def _print_value(answer: "Answer", stderr: Terminal, *, as_json: bool) -> bool:
    """Write the answer on stdout; it was paid for, so where that fails, on stderr."""
    from abyme.apps.cli.answers import as_text  # noqa: PLC0415

    try:
        if as_json:
            failures.print_json(_as_json(answer))
        elif answer.value is not None:
            out().data(as_text(answer.value))
    except BrokenPipeError:
        raise
    except OSError as error:
        streams.give_up(sys.stdout)
        stderr.say(f"standard output cannot be written ({error.strerror}); the answer is:")
        text = json.dumps(_as_json(answer)) if as_json else as_text(answer.value)
        stderr.data(text)
        return False
    return True


def _as_json(answer: "Answer") -> dict[str, Any]:
    found: dict[str, Any] = {
        "answer": answer.value,
        "status": answer.status,
        "evidence": [
            {"path": e.path, "line": e.line, "start": e.start, "end": e.end, "quote": e.quote}
            for e in answer.evidence
        ],
        "usage": {k: v for k, v in asdict(answer.usage).items() if k != "overrun_usd"},
        "run": str(answer.run),
    }
    if answer.status == "failed":
        found["error"] = answer.reason or "the run failed"
    return found
