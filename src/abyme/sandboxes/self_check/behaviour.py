"""An entry of the list that every sandbox passes: cells, and what must come of them.

Decides how a cell says what it found. A check of semantics prints `HELD` if Python behaves as it
should. An attack tries for its goal and prints `HELD` if it was refused, or `HOLE` and what it got.
Whatever else comes of it, an entry that says neither is broken and proves nothing; it may be
ended by force only in the ways of `ends`. The host looks for itself whether a goal was
reached (`world`), so `HELD` alone is not believed.

Code may hold placeholders, filled by `str.replace`; the host watches each of these after every
entry. Files: ``{dir}`` a folder of the host with a file ``canary`` in it, ``{canary}`` that file's
text, ``{mark}`` a word for names of anything that is made elsewhere (``/tmp``, ``/dev/shm``, a
queue), ``{key}`` a number for the keys of System V objects, ``{env}`` the name of a variable of the
host's environment. Processes: ``{pid}`` one of the same user, ``{host}`` the host's own. Sockets:
``{port}`` a port of 127.0.0.1 with a listener for TCP and one for UDP, ``{abstract}`` the name of
an abstract unix socket (without the NUL), ``{unix}`` the path of another one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from abyme.core.events import AnswerSubmitted, CallsRequested, CellFinished
from abyme.core.isolation import Imports
from abyme.core.limits import Limits
from abyme.errors import SandboxError
from abyme.ports import Context, SessionFacts

HELD: Final = "held"
HOLE: Final = "HOLE"
LOST: Final = "lost"
"""Beginning of the way in which a dead session ends a cell, as in ``lost: ProtocolViolation``."""

Need = Literal["fork", "threads", "ctypes", "snapshots", "context_map", "mseal"]
"""What a tier or host must have for an entry to mean anything; else it is passed over, and said."""

ContextShape = Literal["text", "documents", "list"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the host was told of an entry."""

    cells: Sequence[CellFinished]
    """Of `Behaviour.cells`, as far as they came."""
    submitted: Sequence[AnswerSubmitted]
    batches: Sequence[CallsRequested]
    context: Context
    """The host's own copy: `check` it for what was submitted as evidence."""
    facts: SessionFacts
    lost: SandboxError | None = None
    """The session died of this."""


Judge = Callable[[Seen], str]
"""The host's own judgement: what is wrong, or nothing if it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One entry."""

    id: str
    """Class and name, as in ``file.read``; never changed once published."""
    sentence: str
    """What holds, for a reader."""
    source: str
    """Manual page, CVE, or section of the design that it comes from."""
    cells: tuple[str, ...]
    """Run one after the other in a REPL of their own; the last one prints the verdict. Those of an
    attack are numbered from 2: before them the host binds a name, to look for it afterwards.
    Sub-calls are answered: a prompt P by ``<P>``, one that begins with ``fail`` by a failure."""
    ends: tuple[str, ...] = ()
    """What may end a cell instead: beginnings of `CellFinished.limit`, or `LOST` and an error's
    class."""
    needs: frozenset[Need] = frozenset()
    kind: Literal["attack", "semantics"] = "attack"
    judge: Judge | None = None
    """Asked at the end. A check of semantics that has one need not print a verdict."""
    loses: str = ""
    """Why what earlier cells had bound may be gone after it, where that is documented."""
    context: ContextShape = "text"
    """The shape of the REPL's `context`; the texts are in `samples`."""
    limits: Limits | None = None
    """Other ceilings than `run.LIMITS`."""
    imports: Imports = "any"
    """The import policy is a second line: but for its own entries, the first is what is tried."""
