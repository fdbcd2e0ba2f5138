"""Ledger: the one place that says whether a run may spend more.

A run is a tree, and every node draws on one allowance of calls, tokens and
micro-dollars. Before an attempt the worst case is *reserved*; afterwards the
real amount is *settled*. So parallel children cannot overshoot together, and no
spend can be forgotten. An allowance for one closing turn is *set aside*, which
only that turn may touch.

Invariant: ``spent + held <= ceiling`` after every `reserve`, as long as no
provider bills more than the worst case; what it bills beyond is recorded in
`overrun_usd_micro` and stops further reserves.

Pure: no clock, no I/O, no locks (one tree owns one ledger).
Does not kill running code (sandboxes do) or cap one request (models do).
"""

from dataclasses import dataclass, field

from abyme.core.ids import CallId
from abyme.core.limits import Limits
from abyme.errors import LimitReached


@dataclass(frozen=True, slots=True)
class Amount:
    """Calls, tokens and money together."""

    calls: int = 0
    tokens: int = 0
    usd_micro: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.calls + other.calls, self.tokens + other.tokens, self.usd_micro + other.usd_micro
        )

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(
            self.calls - other.calls, self.tokens - other.tokens, self.usd_micro - other.usd_micro
        )


NOTHING = Amount()


@dataclass(slots=True)
class Ledger:
    """Spend of one run."""

    limits: Limits
    spent: Amount = NOTHING
    held: Amount = NOTHING
    aside: Amount = NOTHING
    overrun_usd_micro: int = 0
    _holds: dict[CallId, Amount] = field(default_factory=dict)
    _max_usd_micro: int | None = field(init=False)

    def __post_init__(self) -> None:
        self._max_usd_micro = self.limits.max_usd_micro

    def set_aside(self, closing: Amount) -> None:
        """Keep so much back for the closing turn. Replaces what was kept before."""
        self.aside = closing

    def check(
        self, asked: Amount, *, promised: Amount | None = None, closing: bool = False
    ) -> None:
        """See whether `asked` would fit beside what is `promised`, without taking it.

        `promised` is by default what is held; with `NOTHING` the question is whether it
        could ever fit.

        Raises:
            LimitReached: naming the first ceiling that would be passed. Nothing changes.
        """
        promised = self.held if promised is None else promised
        used = self.spent + promised + (NOTHING if closing else self.aside)
        for name, ceiling in self._ceilings():
            have, more = getattr(used, name), getattr(asked, name)
            if ceiling is not None and more and have + more > ceiling:
                spent = getattr(self.spent, name)
                raise LimitReached(
                    LIMIT_NAMES[name], used=have, asked=more, ceiling=ceiling, spent=spent
                )

    def reserve(self, call: CallId, worst: Amount, *, closing: bool = False) -> None:
        """Set the worst case of one attempt aside.

        Raises:
            LimitReached: if the attempt could pass a ceiling. Nothing changes.
        """
        if call in self._holds:
            msg = f"call {call} is held already"
            raise KeyError(msg)
        self.check(worst, closing=closing)
        self._holds[call] = worst
        self.held += worst

    def settle(self, call: CallId, actual: Amount) -> None:
        """Swap a hold for what the attempt cost. A failed one settles what was billed."""
        worst = self._holds.pop(call)
        self.held -= worst
        self.spent += actual
        self.overrun_usd_micro += max(0, actual.usd_micro - worst.usd_micro)

    def release(self, call: CallId) -> None:
        """Drop the hold of an attempt that was never sent."""
        self.held -= self._holds.pop(call)

    def resume(self, limits: Limits, carried: Amount) -> None:
        """Go on under these limits, with so much spent beside what is known of."""
        self.limits, self._max_usd_micro = limits, limits.max_usd_micro
        self.spent += carried

    def worst(self, call: CallId) -> Amount:
        """Tell what is held for `call`."""
        return self._holds[call]

    def left(self) -> dict[str, int | None]:
        """Tell what is neither spent nor held nor set aside; None: no ceiling. For display:
        `check` decides.
        """
        used = self.spent + self.held + self.aside
        return {
            name: None if ceiling is None else max(0, ceiling - getattr(used, name))
            for name, ceiling in self._ceilings()
        }

    def short_of(self, asked: Amount) -> str | None:
        """Name the limit that leaves less than `asked` beside what is set aside; None: none."""
        try:
            self.check(asked)
        except LimitReached as reached:
            return reached.limit
        return None

    def _ceilings(self) -> tuple[tuple[str, int | None], ...]:
        return (
            ("calls", self.limits.max_calls),
            ("usd_micro", self._max_usd_micro),
            ("tokens", self.limits.max_tokens),
        )


LIMIT_NAMES = {"calls": "max_calls", "usd_micro": "max_usd", "tokens": "max_tokens"}
"""Ledger column -> the setting that the user knows."""
