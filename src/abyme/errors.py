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


class AbymeError(Exception):
    """Base class: catch this to catch everything raised on purpose."""


class ConfigError(AbymeError):
    """A setting is out of range, missing, or contradicts another one."""


class ContextError(AbymeError):
    """The input is empty, absent, or cannot be sealed."""


class LimitReached(AbymeError):
    """Granting `asked` more of `limit` would pass `ceiling`."""

    def __init__(self, limit: str, *, used: int, asked: int, ceiling: int) -> None:
        super().__init__(f"{limit}: {used:,} used + {asked:,} asked > {ceiling:,} allowed")
        self.limit = limit
        self.used = used
        self.asked = asked
        self.ceiling = ceiling


class ModelError(AbymeError):
    """One attempt at a model call failed.

    `failure` is one word of `abyme.core.events.Fault`; `retry_after_s` is the
    provider's own wish, None when it named none.
    """

    def __init__(
        self,
        message: str,
        *,
        failure: str,
        retryable: bool,
        retry_after_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.status = status


class SandboxError(AbymeError):
    """The jail failed; the code in it may be innocent."""


class SandboxUnavailable(SandboxError):
    """The host cannot build the jail that was asked for."""


class ProtocolViolation(SandboxError):
    """The guest sent a frame it may not send."""


class JournalError(AbymeError):
    """A run cannot be recorded, found or read back."""
