"""Ceilings a run must stay under. Data only; `ledger` decides, sandboxes enforce.

Units are in the names: ``_usd`` dollars, ``_s`` seconds, ``_bytes`` bytes,
``_chars`` code points. ``None`` switches a ceiling off and ``0`` really means zero.
"""

import math
from decimal import Decimal, InvalidOperation

from msgspec import Struct, structs

from abyme.errors import ConfigError

MICRO = 1_000_000
CLOSING_S = 60.0
"""Of `timeout_s`, or after a stop: for the closing turn."""
CLOSING_SHARE = 0.25
"""At most this part of `timeout_s`."""

DOLLARS = frozenset({"max_usd", "confirm_usd"})
FRACTIONS = frozenset({"timeout_s", "cell_timeout_s"})
"""Fields of any number; all others but `DOLLARS` are whole."""
CAN_BE_OFF = frozenset({"max_calls", "max_tokens", "timeout_s"})
AT_LEAST_ONE = frozenset({"max_turns", "max_processes"})


class Limits(Struct, frozen=True, kw_only=True):
    """Ceilings for one whole run, every descendant included.

    Raises:
        ConfigError: at construction, if a value is negative, no finite number, or None where
            a ceiling cannot be off.
    """

    max_usd: float | int | str | None = 5
    """Model spend in dollars. Checked before a call, against its worst case. Write exact
    figures as a `str`; a `Decimal` is kept as one, because a journal has no decimals."""
    confirm_usd: float | int | str | None = None
    """A batch that is expected to bring what was admitted since the user's last word above this
    waits for another."""
    max_calls: int | None = 10_000
    """Model calls, every attempt of the root model's turns and of sub-calls."""
    max_tokens: int | None = 20_000_000
    """Prompt and completion tokens together."""
    depth: int = 3
    """0: no sub-calls. 1: `llm_query`. 2: children with REPLs. And so on."""
    timeout_s: float | None = 3600.0
    """Wall time of the run."""
    max_turns: int = 30
    """Turns of each node."""
    cell_timeout_s: float = 15.0
    """Compute of one cell: wall time less the time spent waiting for its sub-calls."""
    memory_bytes: int = 2 << 30
    """Private memory of one REPL process; the sealed context is not counted. Processes that a
    cell forks may have as much together."""
    max_processes: int = 64
    """Processes and threads of one REPL."""
    cell_output_chars: int = 10_000
    """Output of one cell that the model is shown, head and tail."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if name not in DOLLARS:
                value = getattr(self, name)
                _check(name, value)
                if name in FRACTIONS and value is not None:
                    # as a journal gives it back: what a model is told of it must be the same
                    structs.force_setattr(self, name, float(value))
                continue
            dollars = getattr(self, name)
            usd_micro(dollars, name=f"Limits.{name}")
            if isinstance(dollars, Decimal):
                structs.force_setattr(self, name, str(dollars))

    @property
    def max_usd_micro(self) -> int | None:
        """The dollar ceiling in millionths, as the ledger counts it."""
        return usd_micro(self.max_usd, name="Limits.max_usd")

    @property
    def confirm_usd_micro(self) -> int | None:
        """`confirm_usd` in millionths."""
        return usd_micro(self.confirm_usd, name="Limits.confirm_usd")


def closing_s(timeout_s: float) -> float:
    """Tell how much of a run's time is kept for its closing turn."""
    return min(CLOSING_S, timeout_s * CLOSING_SHARE)


def _check(name: str, value: object) -> None:
    off = name in CAN_BE_OFF
    if value is None and off:
        return
    least = 1 if name in AT_LEAST_ONE else 0
    whole = isinstance(value, int) and not isinstance(value, bool)
    fraction = name in FRACTIONS and isinstance(value, float) and math.isfinite(value)
    if not (whole or fraction) or value < least:  # type: ignore[operator]  # a number by now
        noun = "a number" if name in FRACTIONS else "a whole number"
        or_none = " or None" if off else ""
        raise ConfigError(f"Limits.{name} must be {noun} >= {least}{or_none}, got {value!r}")


def usd_micro(value: Decimal | float | str | None, *, name: str) -> int | None:
    """Dollars as people write them -> whole micro-dollars, never through binary fractions.

    Raises:
        ConfigError: if it is not a finite number >= 0.
    """
    if value is None:
        return None
    try:
        dollars = Decimal(str(value))
    except InvalidOperation:
        raise ConfigError(f"{name} must be a number of dollars or None, got {value!r}") from None
    if not dollars.is_finite() or dollars < 0:
        raise ConfigError(f"{name} must be >= 0 or None, got {value}")
    return int(dollars * MICRO)
