"""Whether a failed attempt is made again, and after how long. The driver adds jitter."""

from abyme.core.events import Failure

MAX_ATTEMPTS = 5
MAX_ATTEMPTS_RATE_LIMITED = 10
"""A provider that says when to come back is believed more often."""
MAX_ATTEMPTS_HOPELESS = 3
"""Of what a second try seldom mends: an empty reply, an address where nobody answers."""
PACED_ATTEMPTS = 4
"""After "rate limited" without a time, so many more attempts come after the first delay."""
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
MAX_RETRY_AFTER_S = 120.0
"""A provider that wants a longer pause has failed for this run."""


def delay_s(failure: Failure, attempt: int) -> float | None:
    """Return seconds to wait before attempt ``attempt + 1``, or None when there is none."""
    if not failure.retryable or attempt >= _most(failure):
        return None
    if failure.retry_after_s is not None:
        return failure.retry_after_s if failure.retry_after_s <= MAX_RETRY_AFTER_S else None
    if failure.fault == "rate_limited":  # the limiter keeps the pace: no need to wait for long
        attempt = max(1, attempt - PACED_ATTEMPTS)
    delay: float = FIRST_DELAY_S * 2 ** (attempt - 1)
    return min(delay, MAX_DELAY_S)


def _most(failure: Failure) -> int:
    match failure.fault:
        case "rate_limited":
            return MAX_ATTEMPTS_RATE_LIMITED
        case "empty_reply" | "output_cap" | "bad_reply" | "unreachable":
            return MAX_ATTEMPTS_HOPELESS
        case _:
            return MAX_ATTEMPTS
