"""Every error this package raises on purpose.

AbymeError
├── ConfigError             the caller's mistake; nothing has started, nothing was spent
├── ContextError            the input cannot be read or sealed
├── LimitReached            a ceiling in `Limits` would be passed
├── ModelError              the provider failed; `.failure` says how, `.retryable` what to do
├── SandboxError            the jail failed, not the code inside it
│   ├── SandboxUnavailable  this host cannot build what was asked for; we do not fall lower
│   └── ProtocolViolation   the guest broke the wire rules; its session is dead
└── JournalError            a run's folder cannot be written, found or read

A cell that raises is not an error here: it is a `CellFinished` event that the
model reads. No failure is ever returned as text among data.
"""

from typing import Any, Literal, TypeAlias

Fault: TypeAlias = Literal[
    "auth",  # 401, 403: the key is missing, wrong or not allowed
    "quota",  # 402, or a 429 that says the account is empty: retrying does not help
    "model_not_found",  # 404: no such model or path
    "context_length",  # 413, or a 400 that says so: the prompt does not fit
    "bad_request",  # any other 4xx: the request is wrong
    "rate_limited",  # 429, 503 with Retry-After
    "server",  # 5xx
    "unreachable",  # DNS, refused connection, TLS
    "timed_out",  # no byte for too long
    "stream_cut",  # the reply ended before its end
    "empty_reply",  # a reply without text
    "output_cap",  # reasoning ate the whole output allowance
    "refused",  # the model declined
    "content_filter",  # the provider withheld the reply
    "bad_reply",  # not the protocol: garbage JSON
    "bad_shape",  # the reply does not fit the schema that was asked for, repairs included
    "limit",  # the ledger did not allow the call
    "depth",  # recursion deeper than `Limits.depth`
    "cycle",  # the same question on the same context as an ancestor
    "child_failed",  # an `rlm_query` child ended without an answer
    "not_allowed",  # a model that the user did not allow, or a batch that the user declined
    "cancelled",  # the run or the parent cell ended first
]
"""Why a model call has no result."""


class AbymeError(Exception):
    """Base class: catch this to catch everything raised on purpose.

    If it ended a run that had begun, `run` is the run's folder (a `Path`), and `usage` what was
    spent until then (an `abyme.run.usage.Usage`).
    """

    run: Any = None
    usage: Any = None


class ConfigError(AbymeError):
    """A setting is out of range, missing, or contradicts another one."""


class ContextError(AbymeError):
    """The input is empty, absent, or cannot be sealed."""


class LimitReached(AbymeError):
    """Granting `asked` more of `limit` would pass `ceiling`."""

    def __init__(
        self, limit: str, *, used: int, asked: int, ceiling: int, spent: int | None = None
    ) -> None:
        """Take `used` as what is spent, held for calls in flight, and kept for the last turn."""
        spent = used if spent is None else spent
        super().__init__(_ceiling_words(limit, spent, used - spent, asked, ceiling))
        self.limit = limit
        self.used = used
        self.spent = spent
        self.asked = asked
        self.ceiling = ceiling


class ModelError(AbymeError):
    """One attempt at a model call failed.

    `failure` is one word of `Fault`; `retry_after_s` is the
    provider's own wish, None when it named none. `usage` is an
    `abyme.core.events.Usage`: what was billed all the same, None when nothing
    is known to have been. `sent` is False for a request that never left this machine.
    """

    def __init__(  # noqa: PLR0913  one argument a field
        self,
        message: str,
        *,
        failure: Fault,
        retryable: bool,
        retry_after_s: float | None = None,
        status: int | None = None,
        usage: Any = None,
        sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.status = status
        self.usage = usage
        self.sent = sent


class SandboxError(AbymeError):
    """The jail failed; the code in it may be innocent."""


class SandboxUnavailable(SandboxError):
    """The host cannot build the jail that was asked for."""


class ProtocolViolation(SandboxError):
    """The guest sent a frame it may not send."""


class JournalError(AbymeError):
    """A run cannot be recorded, found or read back."""


def _ceiling_words(limit: str, spent: int, kept: int, asked: int, ceiling: int) -> str:
    """Dollars for the ledger's micro-dollars."""

    def words(amount: int) -> str:
        return f"${amount / 1e6:,.4f}" if limit == "max_usd" else f"{amount:,}"

    taken = f"{words(spent)} spent"
    if kept:
        taken += f" and {words(kept)} held for calls in flight or kept back for the last turn"
    return f"{limit}: {words(asked)} needed beside {taken}, the ceiling is {words(ceiling)}"
