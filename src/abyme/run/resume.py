"""Takes a run up from its folder: what it was, where it can go on, whether that makes sense.

Decides what is refused before anything is opened: a run that has its answer, one that would
meet the same limit at once, one that is being written, one that other rules have recorded.
Changes nothing on disk but a torn last line of the journal.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import structs

from abyme.core import events as ev
from abyme.core import history
from abyme.core.limits import Limits
from abyme.errors import ConfigError, JournalError
from abyme.run import folders
from abyme.run.answers import recorded
from abyme.run.usage import usage_of

if TYPE_CHECKING:
    from abyme.journals.folder import RunFolder
    from abyme.journals.reader import Recording
    from abyme.journals.writer import JournalWriter


@dataclass(frozen=True, slots=True)
class TakenUp:
    """A run that can go on. Its journal is open, and locked against others."""

    folder: "RunFolder"
    journal: "JournalWriter"
    records: list[ev.Record]
    past: history.Past
    begins: ev.RunResumed

    @property
    def started(self) -> ev.RunStarted:
        """What decided the run, with the limits that hold from here on."""
        return structs.replace(self.past.retraced.tree.started, limits=self.begins.limits)


def take_up(
    folder: "RunFolder", *, limits: Limits | Mapping[str, Any] | None, now: datetime
) -> TakenUp:
    """Open a run to go on with it; `limits` replace its own, a mapping only those it names.

    Raises:
        ConfigError: there is nothing to go on with, or not under these limits.
        JournalError: it is running, damaged, or was recorded by other rules.
    """
    journal = folder.open_journal()
    try:
        recording = folder.recording()
        before = recording.limits
        wanted = limits if isinstance(limits, Limits) else _changed(before, limits or {})
        past = past_of(recording, other_limits=wanted != before)
        past.retraced.at_s = max(past.retraced.at_s, folder.alive_s() or 0.0)
        try:
            _check(past, before, wanted)
        except ConfigError as error:
            at_s = past.retraced.at_s
            error.run, error.usage = folder.path, usage_of(past.tally, wall_s=at_s)
            _write_answer(folder, past, recording.records)
            raise
        if recording.torn_bytes:
            journal.cut(recording.intact_bytes)
    except BaseException:
        journal.close()
        raise
    begins = ev.RunResumed(
        believed=past.believed,
        limits=wanted,
        carried=past.carried,
        next_call=past.next_call,
        held=past.ended.value if past.ended is not None else None,
        evidence=past.ended.evidence if past.ended is not None else [],
        derivations=past.ended.derivations if past.ended is not None else [],
        resumed_at=now.isoformat(timespec="seconds"),
    )
    return TakenUp(folder, journal, recording.records, past, begins)


def _write_answer(folder: "RunFolder", past: history.Past, records: list[ev.Record]) -> None:
    """Write how a run ended that was killed before it could do so itself."""
    if past.ended is not None and folder.answer() is None:
        with contextlib.suppress(JournalError):
            folder.write_answer(folders.outcome(recorded(records, run=folder.path)))


def past_of(recording: "Recording", *, other_limits: bool = False) -> history.Past:
    """Find out where a run can go on.

    Raises:
        JournalError: it was recorded by other rules than this version's.
    """
    if recording.schema != ev.SCHEMA:
        raise JournalError(
            f"the run was recorded by an earlier version (schema {recording.schema}): "
            "`abyme show` shows it, but only that version can go on with it"
        )
    try:
        return history.past(recording.records, other_limits=other_limits)
    except (history.Diverged, *history.IMPOSSIBLE) as error:
        raise JournalError(
            f"this version would not have run it so ({error}): `abyme show` shows it, but to go "
            "on with it takes the version that recorded it (run.json names that)"
        ) from error


def _changed(limits: Limits, changes: Mapping[str, Any]) -> Limits:
    unknown = changes.keys() - set(Limits.__struct_fields__)
    if unknown:
        raise ConfigError(f"no such limit: {', '.join(sorted(unknown))}")
    return Limits(**(structs.asdict(limits) | dict(changes)))


def _check(past: history.Past, before: Limits, wanted: Limits) -> None:
    ended = past.ended
    if ended is None or past.is_answered:
        return
    mended = isinstance(past.cause, ev.StopRequested | ev.SessionLost | ev.CallFailed)
    short = past.short_of(wanted)
    if short is not None:
        raise ConfigError(f"the limits allow no further turn ({short}): raise that limit")
    if ended.status == "partial" and not mended and wanted == before:
        raise ConfigError(
            f"the run ended at a limit ({ended.reason}) and would meet it again: raise that limit"
        )
