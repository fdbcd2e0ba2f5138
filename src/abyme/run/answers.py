"""What a run brought, as its user gets it: from its end, or from its journal."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from abyme.core.effects import Finish
from abyme.core.events import (
    Derivation,
    Evidence,
    EvidenceChecked,
    Record,
    Refused,
    RunFinished,
)
from abyme.core.ids import ROOT
from abyme.core.tally import Tally
from abyme.run.shape import NoFit, Shape
from abyme.run.usage import Usage, usage_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a run brought."""

    value: Any
    """As submitted: text, number, list... None if there is nothing. With a schema: the instance
    of the class that was given, or checked JSON; None if there is nothing that fits."""
    status: Literal["answered", "partial", "failed", "stopped"]
    evidence: list[Evidence]
    """Places that the host found in its own copy of the context."""
    missing: list[str]
    """Quotes that were submitted as evidence and were not taken: they are not in the context, or
    say nothing without a place."""
    usage: Usage
    run: Path
    """The run's folder."""
    reason: str | None = None
    """What kept it from being `answered`."""
    unfit: Any = None
    """What was held and does not fit the schema, as JSON; then `value` is None."""
    unrecorded: str | None = None
    """Why the end of the run is not in its folder: a full disk."""
    derivations: list[Derivation] = field(default_factory=list)
    """How it was computed, as far as the host could check it."""
    refused: list[Refused] = field(default_factory=list)
    """Why, for each of `missing`, and what in the context is nearest to it."""

    @property
    def response(self) -> str:
        """The value as text, as users of the official engine read it."""
        return self.value if isinstance(self.value, str) else str(self.value)


def answer_of(
    finished: RunFinished | Finish, *, checked: EvidenceChecked | None, usage: Usage, run: Path
) -> Answer:
    """Make the answer of a run's end; `checked` is what was said of its evidence last."""
    return Answer(
        value=finished.value,
        status=finished.status,
        evidence=list(finished.evidence),
        missing=list(checked.missing) if checked else [],
        refused=list(checked.refused) if checked else [],
        derivations=list(finished.derivations),
        usage=usage,
        run=run,
        reason=finished.reason,
    )


def recorded(records: Sequence[Record], *, run: Path) -> Answer:
    """Make the answer of a run that ended, from its journal alone."""
    tally, checked = Tally(), None
    for record in records:
        tally.take(record)
        if record.node == ROOT and isinstance(record.event, EvidenceChecked):
            checked = record.event
    finished = records[-1].event
    assert isinstance(finished, RunFinished)
    usage = usage_of(tally, wall_s=records[-1].at_s)
    return answer_of(finished, checked=checked, usage=usage, run=run)


def shaped(answer: Answer, shape: Shape | None) -> Answer:
    """Give the value its shape. What was held at a limit was perhaps never looked at."""
    if shape is None or answer.value is None:
        return answer
    try:
        return replace(answer, value=shape.make(answer.value))
    except NoFit as error:
        answer = replace(answer, value=None, unfit=answer.value)
        if answer.status != "answered":
            return answer
        return replace(answer, status="failed", reason=f"bad_shape: {error}")
