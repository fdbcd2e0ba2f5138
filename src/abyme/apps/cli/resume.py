"""``abyme resume``: goes on with a run that was cut off, stopped, or met a limit.

Reads the command line and finds the run; progress, Ctrl-C, answer and exit codes are those
of `ask` (`watching`, `delivery`). Does not decide where a run can go on (`run.resume`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from abyme.apps.cli import options
from abyme.errors import ConfigError, ContextError, JournalError

if TYPE_CHECKING:
    from abyme.apps.cli.watching import Watched
    from abyme.journals.folder import RunFolder
    from abyme.journals.reader import Recording
    from abyme.run.answers import Answer

OTHERWISE = dict.fromkeys(options.LIMITS, "the run's own")


@click.command("resume", short_help="Go on with a run that was cut off.")
@click.argument("run", metavar="RUN")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@options.limits(OTHERWISE)
@options.BASE_URL
@options.SUB_BASE_URL
@options.API_KEY
@options.CACHE
@options.RUNS_DIR
@options.JSON
@options.QUIET
def command(run: str, paths: tuple[str, ...], **given: Any) -> int:
    """Go on with a run that was killed, stopped, failed, or met a limit.

    RUN is an id or the beginning of one, a folder, or `latest`. What was paid for is not
    paid again, but for calls in flight when the run was cut off. Limits are the run's own;
    those given here take their place, and what was spent counts.

    PATH, or - for standard input, gives the input again where it cannot be read from where
    it was. It must be what it was.
    """
    from abyme.apps.cli.delivery import Form, deliver  # noqa: PLC0415
    from abyme.apps.cli.watching import says_how_to_go_on, watched  # noqa: PLC0415

    with _nothing_begun():
        folder = options.found(run, given["runs_dir"])
        recording = folder.recording()
    typed = recording.started.answer_schema is not None
    form = Form(as_json=given["as_json"], typed=typed, quiet=given["quiet"])
    runs_dir = folder.path.parent
    with watched(quiet=form.quiet) as watching, says_how_to_go_on(watching, runs_dir):
        watching.goes_on(folder.id, recording.records)
        answer = _answer(folder, recording, paths, given, watching)
    return deliver(answer, form, watching)


def _answer(
    folder: "RunFolder",
    recording: "Recording",
    paths: tuple[str, ...],
    given: dict[str, Any],
    watching: "Watched",
) -> "Answer":
    from abyme.apps.cli.asking import check_somebody_to_ask  # noqa: PLC0415
    from abyme.apps.cli.watching import interrupts, loaded_again  # noqa: PLC0415
    from abyme.run.api import RLM  # noqa: PLC0415

    limits = options.given_limits(given)
    check_somebody_to_ask(limits.get("confirm_usd", recording.limits.confirm_usd))
    with _nothing_begun():
        rlm = RLM.of_run(
            folder.path,
            runs_dir=given["runs_dir"],
            base_url=given["base_url"],
            sub_base_url=given["sub_base_url"],
            api_key=given["api_key"],
            cache=given["cache"],
            on_record=watching.record,
            on_text=watching.text,
            confirm=watching.asker.confirm,
        )
    with rlm:
        if rlm.spec.root.local or rlm.spec.sub.local:
            from abyme.apps.cli.weights import make_sure_of_weights  # noqa: PLC0415

            make_sure_of_weights(rlm.spec, watching.shown, default=False)
        again = loaded_again(folder, paths, watching.shown) if paths else nullcontext()
        with again as context, interrupts(rlm, watching), _nothing_begun():
            try:
                return rlm.resume(folder.path, context=context, limits=limits or None)
            except ContextError as error:
                if paths or error.run is not None:
                    raise
                copy = f"`abyme resume {folder.id} PATH...` takes a copy of it"
                raise ContextError(f"{error}; {copy}") from None


@contextmanager
def _nothing_begun() -> Iterator[None]:
    """Tell what keeps a run from being gone on with from what breaks it later."""
    try:
        yield
    except JournalError as error:
        if error.run is not None:
            raise
        raise ConfigError(str(error)) from None
