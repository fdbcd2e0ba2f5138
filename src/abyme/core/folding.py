"""Folding: older turns shrink to a line each when a prompt nears its model's window.

Decides how many tokens a reply and a prompt may have (a large first message leaves less to
both), and what is left of a turn: what ran, what it left in which names, how it ended, how much
it printed. The REPL keeps everything.

Invariants: all lines stand inside one data fence, and what a guest has worded in them (names,
types, a class of error) is bounded and cannot break a line; lines are only ever added, or the
oldest joined into one, so that the text before stands for many turns (prompt caches).
Does not decide which turns are folded (`transcript`) or when one is asked again (`machine`).
"""

from dataclasses import dataclass, field

from abyme.core import fences, replies, tokens, words
from abyme.core.events import CellFinished, ModelFacts, Name, Usage
from abyme.core.profile import Profile

MARGIN_SHARE = 16
"""Of the window, the part that is kept free: estimates err, chat templates add their own."""
LEARNED_SHARE = 8
"""A prompt that a provider found too long is taken to be so much over."""
LINES_SHARE = 6
"""Of the room, the part that folded lines may take; then the oldest are joined, to half of it."""
LEAST_REPLY_TOKENS = 256
"""That a reply may have, however full the window."""
LEAST_TURN_TOKENS = 640
"""That a turn takes of the next prompt when all that can be cut of it is."""
TURNS_TOKENS = 1_024
"""Kept for turns rather than for a reply where the first message leaves little."""
CODE_CHARS = 80
MAX_NAMES = 12
"""In one line."""

HEADER = (
    "[Older turns are folded, a line each; the latest follow. The session still has all that they "
    "made: SHOW_VARS() lists your names, print(name) shows one again, calls[i].text the result "
    "of a sub-call.]"
)


def reply_tokens(profile: Profile, model: ModelFacts) -> int:
    """Tokens that a turn's reply may have: half of the window at most, the rest is the prompt's."""
    most = min(profile.max_output_tokens, model.max_output_tokens)
    return most if model.window_tokens is None else max(1, min(most, model.window_tokens // 2))


@dataclass(slots=True)
class Room:
    """How long a prompt may be, in tokens by our estimate.

    A provider that counts more than was estimated makes the room smaller at once, and slowly
    larger again; one that counts less does not: what comes next may be other text.
    """

    most: int | None
    """By the window; None: it is not known."""
    window: int | None = None
    reply: int = 0
    """Tokens that a reply may have."""
    _counted: tokens.Calibration = field(default_factory=tokens.Calibration)

    @classmethod
    def of(cls, profile: Profile, model: ModelFacts | None) -> "Room":
        """Make that of a model's turns."""
        if model is None or model.window_tokens is None:
            return cls(None)
        window, reply = model.window_tokens, reply_tokens(profile, model)
        return cls(max(1, window - reply - window // MARGIN_SHARE), window, reply)

    @property
    def first(self) -> int | None:
        """Tokens that a first prompt may have, so that a reply and a turn after it fit."""
        if self.window is None:
            return None
        return self.window - LEAST_REPLY_TOKENS - LEAST_TURN_TOKENS

    def begins(self, first: int) -> None:
        """Make replies shorter where a first prompt of so many tokens leaves too little beside."""
        if self.window is None:
            return
        usable = self.window - self.window // MARGIN_SHARE
        left = usable - first
        least = min(self.reply, LEAST_REPLY_TOKENS)
        self.reply = max(least, min(self.reply, left - min(TURNS_TOKENS, left // 2)))
        self.most = max(1, usable - self.reply)

    def reply_beside(self, prompt: int) -> int | None:
        """Tokens that the reply to a prompt may have; None: the window does not say."""
        if self.window is None:
            return None
        usable = self.window - self.window // MARGIN_SHARE
        left = usable - self._counted.expected("", prompt)
        return min(self.reply, max(LEAST_REPLY_TOKENS, left))

    @property
    def tokens(self) -> int | None:
        """Estimated tokens that a prompt may have; None: as many as there are."""
        if self.most is None:
            return None
        return self.most * tokens.ONE // max(tokens.ONE, self._counted.expected("", tokens.ONE))

    def counted(self, estimated: int, usage: Usage) -> None:
        """Learn what the provider counted of a prompt."""
        self._counted.saw("", estimated, usage)

    def refused(self, estimated: int) -> None:
        """Learn that a prompt did not fit, whatever window was declared."""
        less = max(1, estimated - estimated // LEARNED_SHARE)
        self.most = less if self.most is None else min(self.most, less)


@dataclass(frozen=True, slots=True)
class Trace:
    """What is left of a turn when it is folded."""

    turn: int
    code: str
    """The first line that says something; empty: nothing ran."""
    names: tuple[str, ...] = ()
    """Made or changed, with type and size."""
    ended: str = ""
    """How, if not cleanly."""
    printed_chars: int = 0

    def line(self) -> str:
        """Word it."""
        if not self.code:
            return f"turn {self.turn}: nothing ran"
        parts = [f"turn {self.turn}: {self.code}"]
        if self.names:
            more = len(self.names) - MAX_NAMES
            shown = ", ".join(self.names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
            parts[0] += f" -> {shown}"
        if self.ended:
            parts.append(self.ended)
        if self.printed_chars:
            parts.append(f"printed {self.printed_chars:,} characters")
        return "; ".join(parts)


def trace(turn: int, code: str | None, finished: CellFinished | None = None) -> Trace:
    """Make what is left of a turn."""
    if code is None:
        return Trace(turn, "")
    headline = _headline(code)
    if finished is None:
        return Trace(turn, headline)
    return Trace(
        turn,
        headline,
        tuple(name_and_size(name) for name in finished.changed if not name.aside),
        _ended(finished),
        len(finished.output) + finished.dropped_chars if finished.output.strip() else 0,
    )


def name_and_size(name: Name) -> str:
    """Word a variable as the model is shown it."""
    return words.name_and_size(name.name, name.type, name.size)


def _headline(code: str) -> str:
    """Find the first line of a cell that says something; imports do not, if there is more."""
    lines = [line.strip() for line in code[: replies.MAX_CHARS].splitlines()]
    telling = [line for line in lines if any(map(str.isalnum, line))]
    best = next((line for line in telling if not line.startswith(("import ", "from "))), None)
    text = best or (telling[0] if telling else "...")
    text = words.plain(text, CODE_CHARS + 1)
    return text if len(text) <= CODE_CHARS else f"{text[: CODE_CHARS - 3]}..."


def _ended(finished: CellFinished) -> str:
    match finished.ended:
        case "clean":
            return ""
        case "raised":
            last = (finished.error or "").rstrip().rpartition("\n")[2].partition(":")[0].strip()
            kind = last.rpartition(".")[2]
            return f"raised {words.name(kind)}" if kind.isidentifier() else "raised"
        case "rolled_back":
            return "stopped and undone"
        case "lost":
            return "lost"
        case "interrupted":
            return "interrupted"


@dataclass(slots=True)
class Folded:
    """The folded turns of one node."""

    nonce: str
    _turns: list[Trace] = field(default_factory=list)
    """Those that have a line each."""
    _joined: tuple[int, int] | None = None
    """First and last of those that share a line."""
    _names: dict[str, None] = field(default_factory=dict)
    """What these left, the latest last."""
    _names_tokens: int = 0
    """That the names of the shared line may take."""

    @property
    def text(self) -> str:
        """The block, as it stands in the prompt; empty where nothing is folded."""
        lines = [one.line() for one in self._turns]
        if self._joined is not None:
            lines.insert(0, self._joined_line(*self._joined))
        return f"{HEADER}\n{fences.data(chr(10).join(lines), self.nonce)}" if lines else ""

    def add(self, turn: Trace, room_tokens: int) -> None:
        """Fold a turn, the oldest that is not; keep within a part of the room."""
        self._turns.append(turn)
        most = room_tokens // LINES_SHARE
        if tokens.estimate(self.text) <= most:
            return
        self._names_tokens = most // 4
        while self._turns and tokens.estimate(self.text) > most // 2:
            self._join(self._turns.pop(0))

    def _join(self, turn: Trace) -> None:
        first = turn.turn if self._joined is None else self._joined[0]
        self._joined = first, turn.turn
        for name in turn.names:
            label = name.partition(":")[0]
            self._names.pop(label, None)
            if label != words.NO_NAME:
                self._names[label] = None

    def _joined_line(self, first: int, last: int) -> str:
        """Name what the oldest turns left: as many names as fit, the latest of them."""
        shown: list[str] = []
        left = self._names_tokens
        for name in reversed(self._names):
            left -= tokens.estimate(name) + 1
            if left < 0:
                break
            shown.insert(0, name)
        more = len(self._names) - len(shown)
        named = ", ".join(([f"{more} older names"] if more else []) + shown)
        return f"turns {first} to {last} left: {named or 'no names'}"
