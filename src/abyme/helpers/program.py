"""A helper's program: it loads one job, confines itself, and serves the host.

Run by path, never imported by the host::

    python -s -S -P program.py JOB LINK_FD       (environment: see `contexts.confined`)

The first frame is the order. A job is a module of `abyme.helpers` with ``prepare(order)``, which
loads all that it will ever need, and ``serve(link)``. Invariant: before `serve` begins, this
process is confined and has verified it, except for the job `read`, which forks a process for
each document and confines that. What serves is a fork too: it dies with this program, which
only waits for it or for the end of the host, and tells by its exit status how it ended.
"""

import importlib
import os
import signal
import socket
import sys
from types import ModuleType
from typing import Any, Final, NoReturn

READ: Final = "read"
LINK_FD: Final = 3
OUT_OF_MEMORY, OUT_OF_TIME, OF_SIGNAL = 65, 66, 128
"""Exit statuses; of a signal: 128 and its number."""


def main(job: str, link_fd: int) -> None:
    """Launch, step by step."""
    _find_own_package()
    from abyme.guest.kernel.lockdown import NotJailed, verify_descriptors  # noqa: PLC0415
    from abyme.helpers.confine import Ground  # noqa: PLC0415
    from abyme.helpers.link import Link  # noqa: PLC0415

    if link_fd != LINK_FD:  # low enough for the limit on descriptors
        os.dup2(link_fd, LINK_FD)
        os.close(link_fd)
    link = Link(socket.socket(fileno=LINK_FD))
    first = link.receive()
    if first is None:
        return
    order = first[0]
    sys.path += order["folders"]
    module = importlib.import_module(f"abyme.helpers.{job}")
    module.prepare(order["order"])
    _close_imports()
    ground = Ground()
    try:
        verify_descriptors(LINK_FD)
        ground.prepare()
        os.dup2(0, 2)  # what went wrong until here, the host reads; from here on nobody does
        ground.verify()
        if job == READ:
            module.serve(link, ground, order)
        else:
            _serve(module, link, ground, order)
    except NotJailed as layer:
        link.send({"t": "refused", "why": f"this layer is not on: {layer}"})


def _find_own_package() -> None:
    """Make `abyme.helpers` and what it stands on importable, without the code of the host.

    `abyme/__init__` belongs to the host, and the folder above it may hold a whole
    environment of packages; those that a job needs lie in the folders of its order.
    """
    parent = ModuleType("abyme")
    parent.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]  # noqa: PTH100, PTH120
    sys.modules["abyme"] = parent


def _close_imports() -> None:
    """Nothing is looked for any more: what was not loaded is not there."""
    sys.path.clear()
    sys.path_importer_cache.clear()


def _serve(module: ModuleType, link: Any, ground: Any, order: dict[str, Any]) -> NoReturn:
    """Fork the process that serves, and wait for its end."""
    from abyme.helpers.confine import Bounds  # noqa: PLC0415
    from abyme.helpers.link import wait_for  # noqa: PLC0415

    bounds = Bounds(order["memory_bytes"], order["mapped_bytes"], order["cpu_s"])
    pid = ground.fork()
    if pid:
        end = wait_for(pid, link.fileno())
        if end is None:
            os._exit(0)
        status, used = end
        os._exit(_told(status, used.ru_utime + used.ru_stime, bounds.cpu_s))
    code = 1
    try:
        layers = ground.confine(bounds, {link.fileno()}, receives=True)
        link.send({"t": "ready", "layers": layers})
        module.serve(link)
        code = 0
    except MemoryError:
        code = OUT_OF_MEMORY
    except Exception as error:  # noqa: BLE001 - nobody would read it but the host
        _tell(link, error)
    finally:
        os._exit(code)


def _tell(link: Any, error: Exception) -> None:
    try:
        link.send({"t": "refused", "why": f"{type(error).__name__}: {error}"[:300]})
    except OSError:
        return


def _told(status: int, cpu_s: float, limit_s: int | None) -> int:
    code = os.waitstatus_to_exitcode(status)
    killed = code in (-signal.SIGKILL, -signal.SIGXCPU)
    if killed and limit_s is not None and cpu_s >= limit_s / 2:
        return OUT_OF_TIME
    return code if code >= 0 else OF_SIGNAL - code


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
