"""Which sub-calls of a run equal an earlier one: they are paid once, and are not lost.

Decides what counts as the same request, as the core's `recall.key` does, without a digest of
every text: a display looks at each of them while the run goes on. Does not count what came
of them (`view`).
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from abyme.core import events as ev
from abyme.core.ids import BatchId

if TYPE_CHECKING:
    from abyme.apps.view import CellView

Wanted: TypeAlias = tuple[str, str | None, str, str | None]
"""Of a sub-call: prompt, text, schema, model. Equal ones are paid once."""


@dataclass(slots=True)
class Repeats:
    """Tells which sub-calls of a run equal an earlier one that was made."""

    _made: set[Wanted] = field(default_factory=set)
    _asked: dict[Wanted, list[tuple["CellView", BatchId]]] = field(default_factory=dict)
    """Those of which no call has been made yet, in the order asked: perhaps none ever is,
    because their batch was refused.
    """

    def ask(self, cell: "CellView", event: ev.CallsRequested) -> None:
        """Take a batch in."""
        for request in event.requests if event.purpose == "llm" else ():
            if request.fresh:
                continue
            wanted = _wanted(request)
            if wanted in self._made:
                cell.repeats += 1
            else:
                self._asked.setdefault(wanted, []).append((cell, event.batch))

    def make(self, cell: "CellView", event: ev.CallReserved) -> None:
        """Take the call of a batch's request in: those that were asked for later wait for it."""
        batch = cell.batch(event)
        place = event.position
        if batch is None or batch.purpose != "llm":
            return
        if place is None or place >= len(batch.requests):
            return
        if batch.requests[place].fresh:
            return
        wanted = _wanted(batch.requests[place])
        self._made.add(wanted)
        asked = self._asked.pop(wanted, [])
        own = [n for n, (of, number) in enumerate(asked) if of is cell and number == event.batch]
        for other, _ in asked[own[0] + 1 :] if own else ():
            other.repeats += 1


def _wanted(request: ev.Request) -> Wanted:
    schema = json.dumps(request.schema, sort_keys=True) if request.schema else ""
    return request.prompt, request.text, schema, request.model
