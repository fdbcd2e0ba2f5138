"""What asks for threads where there are none: it runs at once, one after the other.

Decides what stands in: `threading.Thread` runs its work in `start`, `ThreadPoolExecutor` in
`submit`, an event loop's executor as well, and the loop itself waits for time only. Models ask
sub-models from pools of threads; their code gives the same results here, one call after the
other (`llm_query_batched` is as fast as ever). A thread that waits for another one that was
not started yet waits for ever, until its cell's time is over.
"""

import asyncio
import concurrent.futures
import selectors
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

_ENDLESS_S: Final = 3600.0


class Timer(selectors.SelectSelector):
    """A selector that has nothing to wait for but time."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Remember it; nothing will ever come."""
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, -1, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Forget it."""
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """List what is remembered."""
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep."""
        if timeout is None or timeout > 0:
            time.sleep(_ENDLESS_S if timeout is None else timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop in which nothing runs beside it."""

    def __init__(self) -> None:
        super().__init__(Timer())

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        """Run it now."""
        del executor
        future = self.create_future()
        _settle(future, lambda: func(*args))
        return future


class Pool(concurrent.futures.Executor):
    """Stands in for `ThreadPoolExecutor`."""

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **_: Any,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        del thread_name_prefix
        self._first = initializer
        self._first_given = initargs
        self._closed = False

    def submit(
        self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any
    ) -> "concurrent.futures.Future[Result]":
        """Run it now."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        first, self._first = self._first, None
        if first is not None:
            first(*self._first_given)
        future: concurrent.futures.Future[Result] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()
        _settle(future, lambda: fn(*args, **kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Take nothing any more."""
        del wait, cancel_futures
        self._closed = True


class Thread(threading.Thread):
    """A thread that has run when `start` returns."""

    def start(self) -> None:
        """Run it now."""
        if self._started.is_set():  # type: ignore[attr-defined]
            raise RuntimeError("threads can only be started once")
        self._started.set()  # type: ignore[attr-defined]
        try:
            self.run()
        except SystemExit:
            return
        except Exception as error:
            given = (type(error), error, error.__traceback__, self)
            threading.excepthook(threading.ExceptHookArgs(given))

    def is_alive(self) -> bool:
        """Tell that it has ended already, or was not started."""
        return False

    def join(self, timeout: float | None = None) -> None:
        """Return at once."""
        del timeout
        if not self._started.is_set():  # type: ignore[attr-defined]
            raise RuntimeError("cannot join thread before it is started")


def stand_in() -> None:
    """Put them in place, for all that is imported from now on."""
    threading.Thread = Thread  # type: ignore[misc]
    threading.Timer.__bases__ = (Thread,)
    concurrent.futures.ThreadPoolExecutor = Pool  # type: ignore[misc, assignment]
    for module in (asyncio, asyncio.events):
        module.new_event_loop = Loop  # type: ignore[attr-defined]


def _settle(future: Any, work: Callable[[], Any]) -> None:
    try:
        result = work()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # as an executor does
        future.set_exception(error)
    else:
        future.set_result(result)
