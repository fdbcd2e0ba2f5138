"""One round: the list on one tier at one privilege, in a process of its own.

Decides what becomes of it: results, or why there are none. A child that dies, or that says less
than it was asked to, makes a broken round, never a good one; so does a tier that does not come up
for any reason but that the host lacks what it is made of.
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

import abyme
from abyme.apps.attack.privileges import Privilege, can_be_tried, start_as
from abyme.sandboxes.self_check.entries import ENTRIES
from abyme.sandboxes.self_check.world import VARIABLE, secret

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_TAIL_CHARS: Final = 400
LACKING: Final[Mapping[str, tuple[str, ...]]] = {
    "jail": ("neither user namespaces nor Landlock can be had", "no system call filter on this"),
    "wasm": ("the wasm tier needs ", "it is not installed"),
}
"""How reasons begin that lie with the host. A tier that is not named here is made by others: an
engine of the host's may fail for any reason of its own."""
ORDER: Final = {entry.id: number for number, entry in enumerate(ENTRIES)}


@dataclass(frozen=True, slots=True)
class Told:
    """What a round tells of one entry."""

    id: str
    outcome: str
    words: str
    took_s: float


@dataclass(slots=True)
class Round:
    """What came of it."""

    tier: str
    privilege: str
    words: str
    """Of the privilege."""
    results: list[Told] = field(default_factory=list)
    python: str = ""
    layers: Sequence[str] = ()
    unavailable: str = ""
    """Why it cannot be had here. No failure: nothing could run."""
    broken: str = ""
    """Why its results are not whole, or why there are none where there must be."""

    @property
    def holds(self) -> bool:
        """No hole, nothing broken."""
        outcomes = {one.outcome for one in self.results}
        return not self.broken and not outcomes & {"hole", "broken"}

    def count(self, outcome: str, entry_class: str | None = None) -> int:
        """Count the entries, of one class or of all, with this outcome."""
        return sum(
            one.outcome == outcome and entry_class in (None, class_of(one.id))
            for one in self.results
        )

    def classes(self) -> list[str]:
        """Name the classes, in order of the list."""
        return list(dict.fromkeys(class_of(one.id) for one in self.results))


def class_of(entry: str) -> str:
    """Give the class that stands in an id."""
    return entry.partition(".")[0]


def play(
    tier: str,
    privilege: Privilege,
    globs: str,
    on_told: Callable[[Told], None],
    everybody: str | None = None,
) -> Round:
    """Run a round to its end. `globs`: of ids, with commas between them.

    `everybody`: an interpreter with all that abyme needs that an ordinary user may run.
    """
    made = Round(tier, privilege.name, privilege.words)
    if not can_be_tried(privilege):
        made.unavailable = "must be started as root"
        return made
    roots = [Path(module.__file__ or "").parents[1] for module in (abyme, msgspec)]
    start = start_as(privilege, roots, everybody)
    if isinstance(start, str):
        made.unavailable = start
        return made
    canary = secret()
    with subprocess.Popen(  # noqa: S603 - our own program
        [start.python, "-m", "abyme.apps.attack.child", tier, privilege.name, globs, canary],
        env={"PATH": PATH, "PYTHONPATH": ":".join(map(str, start.roots)), VARIABLE: canary},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        user=start.uid,
        group=start.uid,
        extra_groups=None if start.uid is None else [],
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        done = False
        for line in child.stdout:
            done = _take(made, json.loads(line), on_told) or done
        tail = child.stderr.read()[-MAX_TAIL_CHARS:].strip()
    made.results.sort(key=lambda one: ORDER[one.id])
    if made.unavailable and not _is_the_hosts(tier, made.unavailable):
        made.broken, made.unavailable = f"it does not come up: {made.unavailable}", ""
    elif not done and not made.unavailable:
        made.broken = f"the round ended before its end (status {child.returncode}): {tail}"
    return made


def _is_the_hosts(tier: str, why: str) -> bool:
    """Whether a tier that does not come up is not there, rather than broken."""
    return tier not in LACKING or why.startswith(LACKING[tier])


def _take(made: Round, line: dict[str, Any], on_told: Callable[[Told], None]) -> bool:
    """Take a line of the child's; True: it was the last."""
    match line:
        case {"unavailable": str(why)}:
            made.unavailable = why
        case {"python": str(python), "layers": [*layers]}:
            made.python, made.layers = python, layers
        case {"id": _}:
            told = Told(**line)
            made.results.append(told)
            on_told(told)
        case {"done": True}:
            return True
        case _:
            made.broken = f"the round said {str(line)[:MAX_TAIL_CHARS]}"
    return False
