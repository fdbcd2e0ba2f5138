"""abyme: one question over an input of any size, by a Recursive Language Model in a jailed REPL.

    from pathlib import Path

    from abyme import RLM, Limits

    with RLM(model="openai:gpt-5", price=(1.25, 10), limits=Limits(max_usd=2)) as rlm:
        answer = rlm.ask("Which contracts renew by themselves?", Path("contracts/"))
    print(answer.value, answer.evidence)

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abyme.core.events import Evidence, Record
    from abyme.core.isolation import Isolation
    from abyme.core.limits import Limits
    from abyme.errors import (
        AbymeError,
        ConfigError,
        ContextError,
        JournalError,
        LimitReached,
        ModelError,
        SandboxError,
    )
    from abyme.run.answers import Answer
    from abyme.run.api import RLM
    from abyme.run.replay import Replayed, replay
    from abyme.run.sources import Sources
    from abyme.run.usage import Usage, Used

__all__ = [
    "RLM",
    "AbymeError",
    "Answer",
    "ConfigError",
    "ContextError",
    "Evidence",
    "Isolation",
    "JournalError",
    "LimitReached",
    "Limits",
    "ModelError",
    "Record",
    "Replayed",
    "SandboxError",
    "Sources",
    "Usage",
    "Used",
    "replay",
]

_HOME = {
    "RLM": "abyme.run.api",
    "Answer": "abyme.run.answers",
    "Usage": "abyme.run.usage",
    "Used": "abyme.run.usage",
    "replay": "abyme.run.replay",
    "Replayed": "abyme.run.replay",
    "Sources": "abyme.run.sources",
    "Isolation": "abyme.core.isolation",
    "Limits": "abyme.core.limits",
    "Evidence": "abyme.core.events",
    "Record": "abyme.core.events",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOME.get(name, "abyme.errors")), name)


def __dir__() -> list[str]:
    return __all__
