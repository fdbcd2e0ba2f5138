"""What went wrong -> one sentence, an exit code, and for programs one JSON object.

Exit codes: 0 answered, 1 failed, 2 the caller's mistake, 3 partial, 130 stopped.
Boundary: the only place of the command line that turns exceptions into words; what is
no `AbymeError` is a bug, says so, and shows its traceback only with ``ABYME_DEBUG``.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from abyme.apps.cli import streams
from abyme.apps.cli.terminal import err
from abyme.apps.safe_text import safe
from abyme.errors import AbymeError, ConfigError, ContextError, JournalError

ANSWERED, FAILED, USAGE, PARTIAL, STOPPED = 0, 1, 2, 3, 130

OUTPUT = "standard output"

OF_STATUS = {"answered": ANSWERED, "partial": PARTIAL, "failed": FAILED, "stopped": STOPPED}


def report(error: BaseException, args: Sequence[str]) -> int:
    """Say it and choose the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        err().say(error.format_message())
        return USAGE
    sentence, code = _judge(error)
    err().say(f"abyme: {sentence}")
    for note in getattr(error.__cause__, "__notes__", ()) if code == STOPPED else ():
        err().say(note)  # click raises its own error from a KeyboardInterrupt
    begun = error if isinstance(error, AbymeError) and error.run is not None else None
    if begun is not None:
        from abyme.apps.cli.answers import spent  # noqa: PLC0415
        from abyme.apps.cli.going_on import how_to_go_on  # noqa: PLC0415

        err().say(spent(_status(begun), begun.usage, begun.run))
        if hint := how_to_go_on(begun.run, str(begun)):
            err().say(hint)
    if _wants_json(args):
        stopped = code == STOPPED
        try:
            print_json(_failure(args, sentence, begun, stopped=stopped))
        except OSError:
            streams.give_up(sys.stdout)  # it was said on stderr
    return code


def _status(error: AbymeError) -> str:
    """Tell how a run stands: one that was not gone on with as it ended before."""
    from abyme.journals.folder import RunFolder  # noqa: PLC0415

    if isinstance(error, ConfigError):
        with contextlib.suppress(JournalError):
            answer = RunFolder(error.run).answer()
            return answer.status if answer else "failed"
    return "failed"


def print_json(value: object) -> None:
    """Write one JSON object, on stdout, whatever is in it."""
    from abyme.journals.codec import encode  # noqa: PLC0415

    try:
        sys.stdout.buffer.write(encode(value) + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        error.filename = OUTPUT  # what is large is not held, so that nobody could tell later
        raise


def _judge(error: BaseException) -> tuple[str, int]:
    match error:
        case click.ClickException():
            return _misused(error), USAGE
        case ConfigError() | ContextError():
            return str(error), USAGE
        case AbymeError():
            return str(error), FAILED
        case click.Abort() | KeyboardInterrupt():
            return "stopped", STOPPED
        case OSError(strerror=str(reason)):
            return _of_the_system(error, reason), FAILED
        case _:
            return _bug(error), FAILED


def _of_the_system(error: OSError, reason: str) -> str:
    """Say of what it is, where the system does not."""
    if error.filename == OUTPUT or not (error.filename or streams.takes_all(sys.stdout)):
        return f"{OUTPUT} cannot be written ({reason})"
    return f"{reason}: {error.filename}" if error.filename else reason


def _misused(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"; see `{context.command_path} --help`" if context else ""
    return error.format_message().rstrip(".") + hint


def _bug(error: BaseException) -> str:
    if os.environ.get("ABYME_DEBUG"):
        err().write(safe("".join(traceback.format_exception(error))))
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" at {os.path.basename(frame[0].filename)}:{frame[0].lineno}" if frame else ""  # noqa: PTH119
    return (
        f"a bug in abyme, please report it: {type(error).__name__}: {error}{place} "
        "(ABYME_DEBUG=1 shows the whole traceback)"
    )


def _wants_json(args: Sequence[str]) -> bool:
    before = args[: args.index("--")] if "--" in args else args
    return "--json" in before


def _failure(
    args: Sequence[str], sentence: str, begun: AbymeError | None, *, stopped: bool
) -> dict[str, Any]:
    if args[:1] not in (["ask"], ["resume"]):
        return {"error": sentence}
    from abyme.apps.cli.usage import as_object  # noqa: PLC0415
    from abyme.core.tally import Tally  # noqa: PLC0415
    from abyme.run.usage import usage_of  # noqa: PLC0415

    return {
        "answer": None,
        "status": "stopped" if stopped else "failed",
        "evidence": [],
        "usage": as_object(begun.usage if begun else usage_of(Tally(), wall_s=0.0)),
        "run": str(begun.run) if begun else None,
        "error": sentence,
    }
