"""A REPL in a WebAssembly interpreter: made once, then asked for one cell after the other.

Decides what a cell sees of the interpreter that it shares with its own host's glue: nothing that
is in the way. Between cells `__main__`, the streams and the running event loop are the glue's.
"""

import asyncio
import builtins
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from abyme.guest.calls import Calls
from abyme.guest.client import CELL
from abyme.guest.interpreter import prepare
from abyme.guest.interrupts import Interrupts
from abyme.guest.repl import Kit, Repl
from abyme.guest.sink import Sink
from abyme.guest.surface import Surface
from abyme.guest.unraised import Teller
from abyme.guest.wasm import no_network, threads
from abyme.guest.wasm.client import FileClient
from abyme.guest.wasm.view import FileView

TOLD: Final = "/told"
CONTEXT: Final = "/context"


@dataclass(frozen=True, slots=True)
class Order:
    """A REPL as the host wants it."""

    seed: int
    output_chars: int
    imports: str
    """What cells may import; see `abyme.core.isolation.Imports`."""
    allowed: list[str]


class Program:
    """One REPL."""

    def __init__(self, order: Order, report: Callable[[int, bytes], None]) -> None:
        """`report` takes bytes for the host."""
        glue = _Glue()
        threads.stand_in()
        no_network.stand_in()
        path = list(sys.path)
        sink = Sink()
        namespace = prepare(sink)
        sys.path[:] = path  # nothing but the standard library, read-only
        Teller(sink).install()
        client = FileClient(TOLD, report)
        calls = Calls(client)
        view = FileView(CONTEXT)
        view.ask_by(calls.seek)
        surface = Surface(view, calls, namespace)
        interrupts = Interrupts()
        interrupts.remember()
        kit = Kit(client, interrupts, calls, view, (), sink, surface, namespace)
        kit.gate.install(order.imports, allowed=order.allowed, namespace=namespace)
        self._main = sys.modules["__main__"]
        self._repl = Repl(kit, output_chars=order.output_chars, alone=False, snapshots=False)
        client.expect(CELL)
        random.seed(order.seed)
        self._loop: asyncio.AbstractEventLoop | None = threads.Loop()
        self._builtins = glue.replaced()
        glue.put_back()

    def run(self) -> None:
        """Run the cell that the host has told of, and tell of it."""
        glue = _Glue()
        sys.modules["__main__"] = self._main
        vars(builtins).update(self._builtins)
        asyncio.events._set_running_loop(None)  # noqa: SLF001 - the glue's own always "runs"
        asyncio.set_event_loop(self._loop)
        try:
            self._repl.run_next()
        finally:
            self._loop = _current_loop()
            glue.put_back()


class _Glue:
    """What the interpreter's own host stands on."""

    def __init__(self) -> None:
        self._main: Any = sys.modules["__main__"]
        self._streams = sys.stdout, sys.stderr
        self._loop = asyncio.events._get_running_loop()  # noqa: SLF001
        self._current = _current_loop()
        self._builtins = dict(vars(builtins))

    def replaced(self) -> dict[str, Any]:
        """Give the builtins that are others now."""
        was, missing = self._builtins, object()
        return {
            name: now for name, now in vars(builtins).items() if was.get(name, missing) is not now
        }

    def put_back(self) -> None:
        vars(builtins).update(self._builtins)  # more of them than the engine stands on
        sys.modules["__main__"] = self._main
        sys.stdout, sys.stderr = self._streams
        asyncio.events._set_running_loop(self._loop)  # noqa: SLF001
        asyncio.set_event_loop(self._current)


def _current_loop() -> asyncio.AbstractEventLoop | None:
    """Give the loop that `asyncio.get_event_loop` would, without a running one."""
    running = asyncio.events._get_running_loop()  # noqa: SLF001
    asyncio.events._set_running_loop(None)  # noqa: SLF001
    try:
        return asyncio.get_event_loop()
    except RuntimeError:
        return None
    finally:
        asyncio.events._set_running_loop(running)  # noqa: SLF001
