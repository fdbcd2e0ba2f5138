"""The program of one REPL's process: it holds the WebAssembly interpreter and passes frames.

Run by path, never imported by the host::

    python -s -P child.py < ORDER       (environment: see `process`)

The launch is a checklist, `main`. Invariant: no line of a model's runs before everything
that confines this process is on and was verified. Frames are not looked into: what a cell sends
is judged by the host (`wired.frames`), what the host sends is believed. A process serves one
REPL; it ends with its wire, and when its interpreter is not to be trusted any more.
"""

import json
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

RUN: Final = "__abyme.run()"


@dataclass(frozen=True, slots=True)
class Order:
    """A REPL as the host wants it."""

    wire: int | str
    """Descriptor, or on Windows what `socket.share` gave, in hexadecimal."""
    told: str
    """The REPL's own folder, in which what it is told appears."""
    context: str
    """The folder of its context."""
    site: str
    """The folder of packages in which the interpreter is installed."""
    runtime: str
    """The folder of the interpreter's own files."""
    memory_bytes: int
    inside: dict[str, object]
    """What the program in the interpreter is told; see `abyme.guest.wasm.program.Order`."""


def main() -> None:
    """Launch, step by step."""
    order = Order(**json.loads(sys.stdin.buffer.read()))
    package = _find_own_package()
    sys.path.append(order.site)
    from abyme.sandboxes.wasm import confine, sources  # noqa: PLC0415
    from abyme.sandboxes.wasm.passing import TRAPPED, Inbox, Outbox, end  # noqa: PLC0415
    from abyme.sandboxes.wasm.stream import PacketStream  # noqa: PLC0415

    wire = PacketStream(_connected(order.wire))
    outbox = Outbox(wire)
    inbox = Inbox(wire, Path(order.told))
    script = sources.script(package, order.inside)
    try:
        import eryx  # noqa: PLC0415 - native code, loaded before no file can be any more

        confinement = confine.Confinement(order.memory_bytes)
        layers = confinement.before_threads(order.told, [order.context, order.runtime])
        volumes = [(order.told, "/told", True), (order.context, "/context", True)]
        session = eryx.Session(volumes=volumes, on_stdout=outbox.take)
        session.execute(script)
        layers += confinement.before_cells()
    except Exception as error:  # noqa: BLE001 - whatever it is, the host is told that it is off
        refused = str(error) if isinstance(error, confine.NotConfined) else type(error).__name__
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - read by the host
        outbox.send({"t": "refused", "layer": refused[:200]})
        end(1)
    threading.Thread(target=inbox.serve, daemon=True).start()
    outbox.send({"t": "ready", "layers": ["wasm", *layers], "snapshots": False})
    while True:
        cell = inbox.cells.get()
        try:
            session.execute(RUN)
        except eryx.EryxError:
            end(TRAPPED)
        outbox.cell_over()
        inbox.forget(cell)


def _connected(wire: int | str) -> socket.socket:
    if isinstance(wire, str):
        return socket.fromshare(bytes.fromhex(wire))  # type: ignore[attr-defined, no-any-return, unused-ignore]
    return socket.socket(fileno=wire)


def _find_own_package() -> Path:
    """Make our modules importable without the code of the packages above them."""
    package = Path(__file__).resolve().parents[2]
    for name in ("abyme", "abyme.sandboxes", "abyme.sandboxes.wasm"):
        module = sys.modules[name] = ModuleType(name)
        module.__path__ = [str(package.joinpath(*name.split(".")[1:]))]
    return package


if __name__ == "__main__":
    main()
