"""The process of one REPL, from the host: started, killed, waited for.

Decides how the interpreter of the child is started: with none of the user's settings, an
environment of a few names, a temporary folder of its own, in a session of its own so that Ctrl-C
at the terminal does not reach it. Implements `abyme.sandboxes.wired.body.Body`; works by Popen
alone, so that it needs nothing of Linux.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, Final, cast

from abyme.errors import SandboxUnavailable
from abyme.sandboxes.wasm.stream import PacketStream
from abyme.sandboxes.wired.body import Use

UNPACK_TIMEOUT_S: Final = 60.0
UNPACK: Final = "import sys; sys.path.append(sys.argv[1]); import eryx; eryx.Session()"


class Child:
    """A running child."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def interrupt(self) -> None:
        """Kill it: nothing inside can be interrupted, and the session is rebuilt."""
        self.kill()

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()

    async def gone(self) -> None:
        """Wait for its end."""
        await self.status()

    async def status(self) -> int:
        """Wait for its end; its exit status, as in subprocess."""
        return await asyncio.get_running_loop().run_in_executor(None, self._process.wait)

    def use(self) -> Use | None:
        """Not looked at: one thread, which cannot compute while it waits."""
        return None


def start(order: dict[str, Any], wire: PacketStream, errors: Any, temporary: Path) -> Child:
    """Start a child on its end of the wire, which is closed here.

    Raises:
        OSError: it cannot be started.
    """
    windows = sys.platform == "win32"
    with wire:
        process = subprocess.Popen(  # noqa: S603 - our own program, by full path
            [sys.executable, "-s", "-P", str(Path(__file__).with_name("child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=_environment(temporary),
            cwd=temporary,
            pass_fds=() if windows else (wire.fileno(),),
            start_new_session=not windows,
        )
        given: int | str = wire.fileno()
        if sys.platform == "win32":
            given = wire.share(process.pid).hex()
        with contextlib.suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as stdin:
            stdin.write(json.dumps({**order, "wire": given}).encode())
    return Child(process)


def unpack(site: Path, folder: Path) -> None:
    """Have the interpreter unpack its own files into a folder, before anything confines it.

    Raises:
        SandboxUnavailable: it cannot.
    """
    done = subprocess.run(  # noqa: S603 - our own line
        [sys.executable, "-s", "-P", "-c", UNPACK, str(site)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=_environment(folder),
        timeout=UNPACK_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise SandboxUnavailable(f"the wasm interpreter does not start: {''.join(said)}")


def _environment(temporary: Path) -> dict[str, str]:
    made = {
        "ERYX_ALLOCATOR": "on-demand",
        "ERYX_WARM_INSTANCES": "0",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC0",
    }
    return made | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
