"""What a model is told beside an error that a limit of its REPL has brought about.

Decides which errors those are, by type and number alone: Python does not say what was too much. The
limits are asked of the kernel, because a cell may have lowered its own. Where there is none to ask
(WASI has no setrlimit), the limit is named without its number.
"""

import errno
from typing import Final

NO_THREAD: Final = "can't start new thread"
SHARED_PROCESSES: Final = 4096
"""From here on RLIMIT_NPROC stands for many REPLs together."""


def passed(error: BaseException) -> list[str]:
    """Name the limit that an error comes from, and its number; nothing for other errors."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        has = _limit("RLIMIT_DATA", "{:,} bytes a process, and as much for all that it forks")
        return [f"this would have passed memory_bytes{has}: hold less at once"]
    if number == errno.EAGAIN or (type(error) is RuntimeError and error.args[:1] == (NO_THREAD,)):
        has = _limit("RLIMIT_NPROC", "{:,} processes and threads, three of them the engine's")
        return [f"new processes and threads would have passed max_processes{has}, or memory_bytes"]
    if number == errno.EMFILE:
        return [f"a process has no more descriptors{_limit('RLIMIT_NOFILE', '{:,}')}: close some"]
    return []


def _limit(name: str, words: str) -> str:
    try:
        import resource  # noqa: PLC0415 - not on every platform; in the jail it is loaded already
    except ImportError:
        return ""
    most, _ = resource.getrlimit(getattr(resource, name))
    if most < 0 or (name == "RLIMIT_NPROC" and most >= SHARED_PROCESSES):
        return ""
    return f" ({words.format(most)})"
