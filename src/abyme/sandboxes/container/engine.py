"""The container engine: which one, and the words that it is spoken to in.

Decides what a container is allowed: no network, a read-only root, a user who is not root, no
capability, no way to new privileges, ceilings on memory and processes. Invariant: an image is
never pulled or built here, and no option of the user's weakens a container. What
the words have brought is verified from inside (`guest/kernel/contained`), not believed.
"""

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from abyme.core.limits import Limits
from abyme.errors import SandboxUnavailable
from abyme.sandboxes.container import image
from abyme.wire import ENGINE_PROCESSES

ENGINES = ("docker", "podman")
ANSWER_TIMEOUT_S = 30.0
LABEL = "abyme.run"
USER = "65534:65534"
PROCESSES_BESIDE = ENGINE_PROCESSES + 8
"""The relay, the fork server, and what a runtime runs in the container while it starts."""
MEMORY_BESIDE_BYTES = 256 << 20
OPEN_FILES = 1024
FILTER = Path(__file__).with_name("seccomp.json")
"""The engine's system call filter: narrower than its own, but for user namespaces, so that the jail
can be had inside. Cells have a filter of their own under it, which allows none. The same file
is `deploy/seccomp.json`, for abyme itself in a container."""

Kind = Literal["docker", "podman"]


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that was found, with the image that is there."""

    path: str
    kind: Kind
    runtime: str
    image: str

    def run(self, name: str, run: str, files: Sequence[Path], limits: Limits) -> list[str]:
        """Give the command that starts a container with a context."""
        memory = 3 * limits.memory_bytes + MEMORY_BESIDE_BYTES  # cell, snapshot, forks
        command = [self.path]
        if self.runtime and self.kind == "podman":
            command += ["--runtime", self.runtime]
        command += ["run", "--rm", "--interactive", "--pull=never", f"--name={name}"]
        if self.runtime and self.kind == "docker":
            command += [f"--runtime={self.runtime}"]
        command += [f"--label={LABEL}={run}", "--network=none", "--ipc=none", "--hostname=abyme"]
        command += ["--read-only", f"--user={USER}", "--cap-drop=ALL"]
        command += ["--security-opt=no-new-privileges", f"--security-opt=seccomp={FILTER}"]
        command += ["--log-driver=none", "--workdir=/"]
        command += [f"--pids-limit={limits.max_processes + PROCESSES_BESIDE}"]
        command += [f"--memory={memory}", f"--memory-swap={memory}"]
        command += [f"--ulimit=nofile={OPEN_FILES}:{OPEN_FILES}", "--ulimit=core=0:0"]
        if self.kind == "podman":
            command += ["--read-only-tmpfs=false"]  # else /tmp and /run can be written
        for file, place in zip(files, ("index", "arena"), strict=True):
            command += [f"--volume={file}:/context/{place}:ro,z"]
        return [*command, self.image]

    async def kill(self, name: str) -> None:
        """End a container; one that is gone is fine."""
        await answer([self.path, "kill", name])

    async def remove(self, run: str) -> None:
        """Remove what is left of a run."""
        _, out, _ = await answer(
            [self.path, "ps", "--all", "--quiet", f"--filter=label={LABEL}={run}"]
        )
        if out.split():
            await answer([self.path, "rm", "--force", *out.split()])


async def find(engine: str, runtime: str, named_image: str) -> Engine:
    """Find an engine that answers and has the image.

    Raises:
        SandboxUnavailable: if there is none, with what to do.
    """
    wanted = named_image or image.name()
    why = ""
    for path in _installed(engine):
        status, _, error = await answer([path, "image", "inspect", wanted])
        if status == 0:
            return Engine(path, await _kind(path), runtime, wanted)
        command = f"{image.COMMAND} --engine {engine}" if engine else image.COMMAND
        why = _why_not(path, error, wanted=wanted, command="" if named_image else command)
    raise SandboxUnavailable(why)


async def builder(engine: str) -> str:
    """Find an engine that answers, to build the image with: the same ones, in the same order.

    Raises:
        SandboxUnavailable: if there is none.
    """
    why = ""
    for path in _installed(engine):
        status, _, error = await answer([path, "image", "ls", "--quiet"])
        if status == 0:
            return path
        why = _silent(path, error)
    raise SandboxUnavailable(why)


async def answer(command: Sequence[str]) -> tuple[int, str, str]:
    """Run a short command of the engine; status and what it has said.

    Raises:
        SandboxUnavailable: if it does not end.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxUnavailable(f"{command[0]} cannot be run: {error}") from None
    try:
        out, said = await asyncio.wait_for(process.communicate(), ANSWER_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise SandboxUnavailable(f"{command[0]} {command[1]} does not answer") from None
    texts = out.decode("utf-8", "replace"), said.decode("utf-8", "replace")
    return process.returncode or 0, *texts


def _installed(engine: str) -> list[str]:
    """Find the engine that was named, or those that there are, in the order of choice.

    Raises:
        SandboxUnavailable: if there is none.
    """
    found = [path for path in map(shutil.which, [engine] if engine else ENGINES) if path]
    if found:
        return found
    if engine:
        raise SandboxUnavailable(f"the container engine {engine!r} is not on the PATH")
    raise SandboxUnavailable("install Docker or Podman: neither is on the PATH")


async def _kind(path: str) -> Kind:
    """Ask which engine it is: `docker` may be Podman under another name."""
    _, out, _ = await answer([path, "--version"])
    return "podman" if "podman" in out.lower() else "docker"


def _why_not(path: str, error: str, *, wanted: str, command: str) -> str:
    name = Path(path).name
    if not any(word in error.lower() for word in ("no such image", "not known", "not found")):
        return _silent(path, error)
    if command:
        return f"{name} has no image of the guest of this version: `{command}` builds it"
    return f"{name} has no image {wanted}"


def _silent(path: str, error: str) -> str:
    said = error.strip().splitlines()[-1:] or ["it said nothing"]
    return f"{Path(path).name} does not answer: {said[0]}"
