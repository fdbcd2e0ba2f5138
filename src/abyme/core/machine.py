"""One node of the recursion tree: think, run, look, submit. Without I/O.

Rule 1: every transition is listed in `NEXT`; an event that is not listed is our bug and raises.
Rule 2: no clock, no randomness, no await: same events in, same steps out.
Rule 3: an answer counts when its cell ends cleanly, the last one wins; prose never ends a node.
Rule 4: whatever limit is met, one closing turn is asked for, and what the node holds is kept.
Rule 5: a prompt that its model found too long is folded and asked again; no turn is lost to it.

A step is what the node wants next; `Tree` decides whether it may have it.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Literal, TypeAlias

from abyme.core import derived, fences, folding, grounds, replies
from abyme.core import events as ev
from abyme.core.effects import Budget
from abyme.core.folding import Room
from abyme.core.ids import NodeId
from abyme.core.profile import Message, Profile
from abyme.core.slots import fill
from abyme.core.transcript import (
    Transcript,
    answer_shape,
    differences,
    end_nears,
    loaded,
    other_packages,
    status_line,
    went_on,
)


class State(Enum):
    """Where a node stands."""

    OPENING = auto()
    """Waiting for its REPL."""
    THINKING = auto()
    """Waiting for its model."""
    RUNNING = auto()
    """A cell is executing; any number of its calls may be open."""
    CHECKING = auto()
    """Waiting for the host to look the evidence up."""
    DONE = auto()


NEXT: Final[dict[tuple[State, type[ev.Event]], frozenset[State]]] = {
    (State.OPENING, ev.SessionOpened): frozenset({State.THINKING, State.DONE}),
    (State.OPENING, ev.SessionLost): frozenset({State.DONE}),
    (State.OPENING, ev.SessionRebuilt): frozenset(
        {State.THINKING, State.RUNNING, State.CHECKING, State.DONE}
    ),
    (State.THINKING, ev.CallSettled): frozenset({State.RUNNING, State.THINKING, State.DONE}),
    (State.THINKING, ev.CallFailed): frozenset({State.THINKING, State.DONE}),
    (State.RUNNING, ev.CellStarted): frozenset({State.RUNNING}),
    (State.RUNNING, ev.CallsRequested): frozenset({State.RUNNING}),
    (State.RUNNING, ev.AnswerSubmitted): frozenset({State.RUNNING}),
    (State.RUNNING, ev.CellFinished): frozenset({State.THINKING, State.CHECKING, State.DONE}),
    (State.RUNNING, ev.SessionLost): frozenset({State.OPENING, State.DONE}),
    (State.CHECKING, ev.EvidenceChecked): frozenset({State.THINKING, State.DONE}),
}


class IllegalTransition(AssertionError):
    """The driver fed an event that cannot happen now: a bug in this package."""


@dataclass(frozen=True, slots=True)
class Think:
    """Ask the node's model for a turn."""

    messages: tuple[Message, ...]
    closing: bool
    """The last one: it may use what the ledger has set aside."""
    reply_tokens: int | None = None
    """That the model's window leaves for the reply; None: it is not known."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run a cell."""

    cell: int
    code: str


@dataclass(frozen=True, slots=True)
class Check:
    """Look evidence up, and the answer's shape."""

    evidence: tuple[ev.Place | str, ...]
    value: Any = None
    schema: dict[str, Any] | None = None
    derivations: tuple[ev.Computed, ...] = ()


@dataclass(frozen=True, slots=True)
class Reopen:
    """Start a new REPL in place of one that was lost, and run its cells again."""


@dataclass(frozen=True, slots=True)
class Done:
    """The node has ended."""

    status: Literal["answered", "partial", "failed"]
    value: Any
    evidence: tuple[ev.Evidence, ...] = ()
    reason: str | None = None
    derivations: tuple[ev.Derivation, ...] = ()


Step: TypeAlias = Think | Run | Check | Reopen | Done

MAX_EVIDENCE: Final = 200
"""Pieces that are looked up; a quote that is absent costs a search of the whole context."""
MAX_WRONG: Final = 2
"""Times that a model is told what is wrong with the shape of its answer."""
MAX_TOO_LONG: Final = 3
"""Times in a row that a prompt which was too long is folded and asked again."""
MAX_REOPENED: Final = 3
"""REPLs that one node may lose before it is given up."""


@dataclass(slots=True)
class Held:
    """What a node would answer if it had to stop now."""

    value: Any = None
    evidence: tuple[ev.Place | str, ...] = ()
    checked: tuple[ev.Evidence, ...] = ()
    computed: tuple[ev.Computed, ...] = ()
    derived: tuple[ev.Derivation, ...] = ()
    draft: bool = False
    """It was never submitted by a cell that ended cleanly; a later draft replaces it."""


@dataclass(slots=True)
class Machine:
    """One node."""

    node: NodeId
    question: str
    preview: str
    profile: Profile
    max_turns: int
    sub: ev.ModelFacts
    seed: int
    schema: dict[str, Any] | None = None
    """JSON Schema that the answer must fit."""
    model: ev.ModelFacts | None = None
    """That takes the turns; None: nothing is known of its window."""
    cell_s: float | None = None
    """That a cell may compute."""
    state: State = State.OPENING
    turn: int = 0
    cell: int = 0
    closing: str | None = None
    """Why this is the closing turn; None before."""
    held: Held = field(default_factory=Held)
    _submitted: Held | None = None
    """Of the running cell; becomes `held` when it ends cleanly."""
    _seen: list[str] = field(default_factory=list)
    """Outputs, where the profile wants them looked at."""
    _doubted: bool = False
    _asked_again: bool = False
    _closing_asked: bool = False
    _reopened: int = 0
    _interrupted: State | None = None
    """Where it stood when the run was cut off, while its REPL is rebuilt."""
    _code: str = ""
    """Of the running cell."""
    _packages: tuple[str, ...] = ()
    """Guest packages of its REPL, as the model was told."""
    _wrong: int = 0
    """Answers that were not of the right shape."""
    _too_long: int = 0
    """Times in a row that the prompt was."""
    _notes: list[str] = field(default_factory=list)
    _transcript: Transcript = field(init=False)
    _room: Room = field(init=False)

    def __post_init__(self) -> None:
        self._transcript = Transcript(self.profile, seed=self.seed, node=self.node)
        self._room = Room.of(self.profile, self.model)

    def step(self, event: ev.Event, budget: Budget) -> Step | None:
        """Take one fact in, say what the node wants next; None: nothing yet."""
        allowed = NEXT.get((self.state, type(event)))
        if allowed is None:
            raise IllegalTransition(f"{type(event).__name__} while {self.state.name}")
        step = self._take(event, budget)
        if self.state not in allowed:
            raise IllegalTransition(f"{type(event).__name__} led to {self.state.name}")
        return step

    def close(self, reason: str, budget: Budget) -> Step | None:
        """Meet a limit: ask for the closing turn, or end when it has been had.

        A turn that was to be asked is not had: the closing one stands in its place. While a
        cell runs nothing can be asked: the turn after it will be the closing one.
        """
        if self.state is State.DONE:
            return None
        if self.closing is not None:
            return self._end("partial", self.closing)
        self.closing = reason
        if self.state is State.OPENING and self.turn == 0:
            return self._end("partial", reason)
        if self.state is not State.THINKING:
            return None
        self._transcript.restate(self._status(budget, self.turn))
        self.turn -= 1
        return self._think()

    def cut_short(self, reason: str) -> Done:
        """End now with what is held."""
        return self._end("partial", self.closing or reason)

    def reopen(self) -> None:
        """Stand before a new REPL: the process that had the old one was killed."""
        if self.state is not State.OPENING:  # else it was about to be rebuilt already
            self._interrupted, self.state = self.state, State.OPENING
        self._submitted = None

    def hold(self, held: ev.RunResumed) -> None:
        """Hold what the run had ended with before; whatever it comes to now is better."""
        if self.held.value is None:
            checked, derived = tuple(held.evidence), tuple(held.derivations)
            self.held = Held(held.held, checked=checked, derived=derived, draft=True)

    @property
    def resumable(self) -> bool:
        """It has begun and not ended: there is something to go on with."""
        return self.state is not State.DONE and self.turn > 0

    def _take(self, event: ev.Event, budget: Budget) -> Step | None:  # noqa: PLR0911 - one a case
        match event:
            case ev.SessionOpened():
                return self._opened(event, budget)
            case ev.SessionRebuilt():
                return self._rebuilt(event, budget)
            case ev.SessionLost():
                return self._lost(event)
            case ev.CallSettled(text=text, usage=usage):
                self._too_long = 0
                if self._room.most is not None:
                    self._room.counted(self._transcript.tokens, usage)
                return self._replied(text, budget)
            case ev.CallFailed(failure=failure):
                return self._failed(failure, budget)
            case ev.AnswerSubmitted():
                computed = tuple(event.derivations)
                self._submitted = Held(event.value, tuple(event.evidence), computed=computed)
                return None
            case ev.CellFinished():
                return self._finished(event, budget)
            case ev.EvidenceChecked():
                return self._checked(event)
            case _:
                return None

    def _opened(self, event: ev.SessionOpened, budget: Budget) -> Step:
        status = self._status(budget, self.turn + 1)
        self._packages = tuple(event.packages)
        question = self.question + answer_shape(self.schema) + loaded(self._packages)
        self._transcript.question(question, event.preview or self.preview, status)
        if (most := self._room.first) is not None:
            self._transcript.cut_preview(most)
            if self._transcript.tokens > most:
                return self._end("failed", self._too_small())
            self._room.begins(self._transcript.tokens)
        self.state = State.THINKING
        return self._think()

    def _too_small(self) -> str:
        """Say that the window cannot take the first message, and what to do."""
        assert self.model is not None
        least = folding.LEAST_REPLY_TOKENS + folding.LEAST_TURN_TOKENS
        need = self._transcript.tokens
        return (
            f"the window of {self.model.name} is too small: it has {self.model.window_tokens:,} "
            "tokens; the system text, the question and the least that is said of the context take "
            f"about {need:,}, a turn and a reply {least:,} more; ask a shorter question, declare "
            "the model's real window (--window, window_tokens), or take a model with a larger one"
        )

    def _rebuilt(self, event: ev.SessionRebuilt, budget: Budget) -> Step:
        """Go on where the REPL was lost, or the run cut off."""
        before, self._interrupted = self._interrupted, None
        news = differences(event.differs) if before is None else went_on(event.differs)
        if (now := tuple(event.packages)) != self._packages:
            self._packages = now
            news = "; ".join(part for part in (news, other_packages(now)) if part)
        if before is State.RUNNING and self.closing is None:
            self.state = before
            self._notes.append(f"{news}; this cell was run again from its beginning")
            return Run(self.cell, self._code)
        if news:
            self._transcript.remark(f"[{news}]")
        if before is State.CHECKING and self.closing is None:
            self.state = before
            return self._check()
        self.state = State.THINKING
        if before is State.THINKING and (self.closing is None or self._closing_asked):
            self._transcript.restate(self._status(budget, self.turn))
            return self._asked()
        self._transcript.restate(self._status(budget, self.turn + 1))
        return self._think()

    def _failed(self, failure: ev.Failure, budget: Budget) -> Step:
        """End with a turn that brought nothing; if only its prompt was too long, shorten that."""
        if failure.fault == "context_length" and self._too_long < MAX_TOO_LONG:
            self._too_long += 1
            self._room.refused(self._transcript.tokens)
            if self._transcript.halve():
                self._transcript.restate(self._status(budget, self.turn))
                return self._asked()
        held = self.held.value is not None
        return self._end("partial" if held else "failed", failure.message)

    def _lost(self, event: ev.SessionLost) -> Step:
        self._reopened += 1
        self._submitted = None
        if self._last_turn_had():
            return self._end("partial", self._last_reason())
        if event.fatal or self._reopened > MAX_REOPENED or self.state is State.OPENING:
            return self._end("partial" if self.held.value is not None else "failed", event.why)
        lost = ev.CellFinished(cell=self.cell, output="", ended="lost", limit=event.why)
        self._transcript.cell(lost, notes=[], status="")
        self._interrupted, self.state = None, State.OPENING
        return Reopen()

    def _replied(self, text: str, budget: Budget) -> Step:
        reply = replies.parse(self.profile.prefill + text)
        self._transcript.reply(reply.kept or "(empty)", turn=self.turn, code=reply.code)
        if reply.code is None:
            if self._last_turn_had():
                return self._end_in_prose(reply.kept)
            self._transcript.nothing_ran(self._status(budget, self.turn + 1))
            return self._think()
        self._notes = [reply.dropped] if reply.dropped else []
        self.state = State.RUNNING
        self.cell += 1
        self._submitted, self._code = None, reply.code
        return Run(self.cell, reply.code)

    def _finished(self, event: ev.CellFinished, budget: Budget) -> Step:
        notes, self._notes = self._notes, []
        clean = event.ended == "clean"
        submitted, self._submitted = self._submitted, None
        if event.ended in ("rolled_back", "lost"):
            submitted = None  # a roll-back discards it with everything else
        if submitted is not None and clean and (doubt := self._doubt(submitted.value)):
            notes.append(doubt)
            if self.held.value is None or self.held.draft:
                self.held = submitted
                self.held.draft = True
            submitted = None
        if submitted is not None:
            self.held = submitted
            self.held.draft = not clean
            if not clean:
                notes.append(
                    "its answer is only kept as a draft: submit again in a cell that ends cleanly"
                )
        elif event.draft not in (None, "") and (self.held.value is None or self.held.draft):
            self.held = Held(event.draft, draft=True)
        if self.profile.look_first and event.output.strip():
            self._seen.append(event.output[: self.profile.output_chars])
        self._transcript.cell(event, notes=notes, status=self._status(budget, self.turn + 1))
        if submitted is not None and clean:
            self.state = State.CHECKING
            return self._check()
        if self._closing_asked:
            return self._end("partial", self.closing)
        self.state = State.THINKING
        return self._think()

    def _check(self) -> Check:
        held, evidence = self.held, self.held.evidence[:MAX_EVIDENCE]
        return Check(evidence, held.value, self.schema, held.computed[: derived.MAX_DERIVATIONS])

    def _checked(self, event: ev.EvidenceChecked) -> Step:
        if event.wrong is not None:
            return self._of_wrong_shape(event.wrong)
        self.held.checked, self.held.derived = tuple(event.found), tuple(event.derivations)
        taken = event.found or event.derivations
        again = event.missing and not taken and not self._asked_again
        if again and not self._last_turn_had():
            self._asked_again = True
            word = fences.nonce(self.seed, self.node, "nearest", self.cell)
            self._transcript.remark(derived.why_refused(event.missing, event.refused, word))
            self.state = State.THINKING
            return self._think()
        return self._end("partial" if self._closing_asked else "answered", self.closing)

    def _of_wrong_shape(self, wrong: str) -> Step:
        self._wrong += 1
        self.held.draft = True
        if self._last_turn_had() or self._wrong > MAX_WRONG:
            return self._end("failed", f"bad_shape: the answer does not fit the schema: {wrong}")
        self._transcript.remark(
            f"[answer not taken: it does not fit the JSON Schema: {wrong}; submit again]"
        )
        self.state = State.THINKING
        return self._think()

    def _end_in_prose(self, prose: str) -> Done:
        """End after a last turn without code. Its words are better than nothing, and said to be."""
        reason = self._last_reason()
        if self.held.value is None and prose:
            self.held = Held(prose)
            reason += "; the answer is the last reply as it stands, it was not submitted"
        return self._end("partial", reason)

    def _doubt(self, value: Any) -> str | None:
        """Say why an answer is not taken yet; None: it is."""
        if not self.profile.look_first or self._last_turn_had():
            return None
        if not self._seen:
            return "answer not taken yet: look at this output first, then submit"
        if self._doubted or not self.profile.doubt:
            return None
        why = grounds.doubt(value, code=self._code, question=self.question, seen=self._seen)
        self._doubted = why is not None
        return why and fill(self.profile.doubt, why=why, question=repr(self.question))

    def _last_turn_had(self) -> bool:
        return self._closing_asked or (self.turn >= self.max_turns and self.closing is None)

    def _last_reason(self) -> str:
        return self.closing or f"max_turns: {self.max_turns} turns used"

    def _think(self) -> Step:
        """Want a turn. The last one allowed, and the closing one, are announced as such."""
        if self._last_turn_had():
            return self._end("partial", self._last_reason())
        self.turn += 1
        last = self.closing or (self.turn == self.max_turns and f"{self.turn} of {self.max_turns}")
        if last:
            self._transcript.remark(self.profile.last_turn.replace("{reason}", last))
        self._closing_asked = self.closing is not None
        return self._asked()

    def _asked(self) -> Think:
        """Send what the transcript has, as much of it as the model's window takes."""
        self._transcript.fit(self._room.tokens)
        reply = self._room.reply_beside(self._transcript.tokens)
        return Think(self._transcript.messages, self._closing_asked, reply)

    def _status(self, budget: Budget, turn: int) -> str:
        turn, most = min(turn, self.max_turns), self.max_turns
        if turn > 1:
            line = status_line(budget, turn=turn, max_turns=most)
        else:  # what holds for all turns is said in the first, which stands
            line = status_line(budget, turn=turn, max_turns=most, sub=self.sub, cell_s=self.cell_s)
        return line if self.closing is not None else line + end_nears(budget, most - turn)

    def _end(self, status: Literal["answered", "partial", "failed"], reason: str | None) -> Done:
        self.state = State.DONE
        if self.held.value is None and self._submitted is not None:
            self.held = self._submitted  # of a cell that was still running
        held = self.held
        why = None if status == "answered" else reason
        return Done(status, held.value, held.checked, why, held.derived)
