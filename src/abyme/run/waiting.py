"""Waits for asynchronous work in callers that are not: in a loop that lives over several calls.

Decides where that loop runs: in the caller's thread, or in one beside it where the caller's
has a loop already, as notebooks do.
"""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")


class Waiting:
    """One loop, made when it is first needed."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._thread: ThreadPoolExecutor | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end."""
        if self._runner is None and self._thread is None and in_a_loop():
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

            self._thread = ThreadPoolExecutor(1, thread_name_prefix="abyme")
        if self._thread is not None:
            return self._thread.submit(self._run_here, work).result()
        return self._run_here(work)

    def close(self) -> None:
        """End the loop. Safe to repeat."""
        runner, self._runner = self._runner, None
        thread, self._thread = self._thread, None
        if runner is not None and thread is not None:
            thread.submit(runner.close).result()
        elif runner is not None:
            runner.close()
        if thread is not None:
            thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run_here(self, work: Coroutine[Any, Any, T]) -> T:
        if self._runner is None:
            import asyncio  # noqa: PLC0415

            self._runner = asyncio.Runner()
        return self._runner.run(work)


def in_a_loop() -> bool:
    """Tell whether this thread runs an event loop already."""
    import asyncio  # noqa: PLC0415

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
