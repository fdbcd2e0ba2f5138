"""An answer, delivered: the value on stdout, all else on stderr, and the exit code.

Shared by the commands that bring an answer. The answer is data: stdout holds it and nothing
else; where stdout cannot be written it goes to stderr, because it was paid for.
Does not decide what a value looks like (`answers`).
"""

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abyme.apps.cli import failures, streams
from abyme.apps.cli.terminal import Terminal, err, out

if TYPE_CHECKING:
    from abyme.apps.cli.watching import Watched
    from abyme.core.events import Evidence
    from abyme.run.answers import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How an answer is wanted."""

    as_json: bool
    """One object with everything."""
    typed: bool = False
    """It was asked for by a schema: JSON, a text too."""
    quiet: bool = False


def deliver(answer: "Answer", form: Form, watched: "Watched") -> int:
    """Print all; the exit code says whether the answer came where it belongs, too."""
    stderr = err()
    delivered = _print_value(answer, stderr, form)
    ending = _ending(answer, form, watched, delivered=delivered)
    for line in (*_remarks(answer, form), *ending):
        stderr.say(line)
    return failures.OF_STATUS[answer.status] if delivered else failures.FAILED


def _remarks(answer: "Answer", form: Form) -> Iterator[str]:
    """Tell what belongs to the value, with ``--quiet`` too."""
    from abyme.apps.cli.answers import references, why_left_out  # noqa: PLC0415

    if not form.as_json:
        yield from references(answer.evidence, answer.derivations)
    yield from why_left_out(answer.missing, answer.refused)
    if answer.unfit is not None and not form.as_json:
        yield f"what was there does not fit the schema: {json.dumps(answer.unfit)}"


def _ending(answer: "Answer", form: Form, watched: "Watched", *, delivered: bool) -> Iterator[str]:
    """Tell how the run ended, and how it can be gone on with."""
    from abyme.apps.cli.answers import spent  # noqa: PLC0415
    from abyme.apps.cli.going_on import how_to_go_on  # noqa: PLC0415
    from abyme.apps.cli.usage import divided  # noqa: PLC0415

    if answer.status != "answered":
        yield f"{answer.status}: {answer.reason or 'no reason was given'}{_of_nothing(answer)}"
    if answer.unrecorded is not None:
        yield f"the end of the run is not recorded: {answer.unrecorded}"
    if not form.quiet:
        yield from divided(answer.usage)
    if not (form.quiet and delivered) or answer.status != "answered":
        yield spent(answer.status, answer.usage, answer.run)
    if answer.status != "answered":
        hint = how_to_go_on(answer.run, answer.reason or "", watched.view.limits)
        if hint is not None:
            yield hint


def _of_nothing(answer: "Answer") -> str:
    """Say of a partial answer that there is none: an empty stdout could be one."""
    held = answer.value is not None or answer.unfit is not None
    return "" if held or answer.status != "partial" else "; no answer was held"


def _print_value(answer: "Answer", stderr: Terminal, form: Form) -> bool:
    """Write the answer on stdout; it was paid for, so where that fails, on stderr. A reader who
    has gone has perhaps had enough of it, and is told where it is instead.
    """
    from abyme.apps.cli.answers import as_json, as_text  # noqa: PLC0415
    from abyme.apps.cli.going_on import name_of  # noqa: PLC0415

    write = as_json if form.typed else as_text
    try:
        if form.as_json:
            failures.print_json(_whole(answer))
        elif answer.value is not None:
            out().data(write(answer.value))
    except BrokenPipeError:
        streams.give_up(sys.stdout)
        stderr.say(
            "whoever reads standard output has closed it before the whole answer was written; "
            f"`abyme show {shlex.quote(name_of(answer.run))}` prints it"
        )
        return False
    except OSError as error:
        streams.give_up(sys.stdout)
        stderr.say(f"standard output cannot be written ({error.strerror}); the answer is:")
        stderr.data(json.dumps(_whole(answer)) if form.as_json else write(answer.value))
        return False
    return True


def _whole(answer: "Answer") -> dict[str, Any]:
    from msgspec import to_builtins  # noqa: PLC0415

    from abyme.apps.cli.usage import as_object  # noqa: PLC0415

    found: dict[str, Any] = {
        "answer": answer.value,
        "status": answer.status,
        "evidence": [_as_object(n, one) for n, one in enumerate(answer.evidence, 1)],
        "usage": as_object(answer.usage),
        "run": str(answer.run),
    }
    if answer.derivations:
        numbered = enumerate(answer.derivations, len(answer.evidence) + 1)
        found["derivations"] = [{"number": n, **to_builtins(one)} for n, one in numbered]
    if answer.refused:
        found["refused"] = to_builtins(answer.refused)
    if answer.unfit is not None:
        found["unfit"] = answer.unfit
    if answer.status == "failed":
        found["error"] = answer.reason or "the run failed"
    return found


def _as_object(number: int, evidence: "Evidence") -> dict[str, Any]:
    found: dict[str, Any] = {
        "number": number,
        "path": evidence.path,
        "line": evidence.line,
        "start": evidence.start,
        "end": evidence.end,
        "quote": evidence.quote,
    }
    if evidence.page is not None:
        found[evidence.page_word] = evidence.page
    if evidence.places > 1:
        found["places"] = evidence.places
    return found
