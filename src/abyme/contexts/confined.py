"""A program of ours that runs confined beside the host: started, spoken to, ended."""

from abyme.errors import ContextError


class HelperUnavailable(ContextError):
    """No helper can be confined on this system, or the program does not start; says what to do."""


class HelperFailed(ContextError):
    """A helper ended, or did not keep its rules.

    `why`: ``crashed (signal 11)``, ``out of memory``, ``more than 60 s``, ``broke the rules``.
    """

    def __init__(self, job: str, why: str) -> None:
        super().__init__(f"the helper {job!r} failed: {why}")
        self.job = job
        self.why = why
