"""Containers for tests: real ones where an engine runs them, and a stand-in under bubblewrap."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jail_doubles import TEXT, OneRun

from abyme.contexts.sealed import from_value
from abyme.core.isolation import Isolation
from abyme.core.limits import Limits
from abyme.sandboxes.container import Container, image

LIMITS = Limits(cell_timeout_s=20, memory_bytes=512 << 20)
STAND_IN = Path(__file__).with_name("container_stand_in.py")


class StandIn:
    """An engine that is none: see `container_stand_in`."""

    def __init__(self, folder):
        if shutil.which("bwrap") is None:
            pytest.skip("the stand-in for a container engine needs bubblewrap (bwrap)")
        self.folder = folder
        self.path = folder / "podman"
        self.path.write_text(f"#!{sys.executable}\n{STAND_IN.read_text(encoding='utf-8')}")
        self.path.chmod(0o755)
        self.lacks()
        (folder / "told").touch()
        image.lay_out(folder / "guest")
        probe = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
        done = subprocess.run(probe, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"bubblewrap does not run here: {done.stderr.strip()}")

    @property
    def isolation(self):
        return Isolation(tier="container", engine=str(self.path), imports="any")

    def lacks(self, *words):
        (self.folder / "lacks").write_text("\n".join(words))

    def add_package(self, name, code):
        """Put a module into what its images have beside the standard library."""
        (self.folder / "packages").mkdir(exist_ok=True)
        (self.folder / "packages" / f"{name}.py").write_text(code)

    def runs(self):
        """How many containers were started."""
        told = (self.folder / "told").read_text().splitlines()
        return sum(json.loads(line)[0] == "run" for line in told)

    def forget_digest(self):
        (self.folder / "guest" / "abyme" / "digest").write_text("of another version")


def real_engine():
    """The isolation of an engine that has the image and runs it, or skip."""
    why = "neither docker nor podman is installed"
    for name in filter(shutil.which, ("docker", "podman")):
        command = [name, "run", "--rm", "--network=none", "--pull=never"]
        command += ["--entrypoint=python3", image.name(), "-c", "print('runs')"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            why = f"{name} does not answer"
            continue
        if done.stdout == "runs\n":
            return Isolation(tier="container", engine=name, imports="any")
        why = f"{name}: {(done.stderr.strip().splitlines() or ['it says nothing'])[-1]}"
    pytest.skip(f"no container runs here ({why}); `{image.COMMAND}` builds the image")


class Bench(OneRun):
    """A run of its own loop, as `jail_doubles.Bench`."""

    def __init__(self, loop, isolation, limits=LIMITS, context=TEXT, hash_seed=None):
        self.loop = loop
        self.context = from_value(context)
        self.sandbox = Container()
        try:
            self.run = self.wait(
                self.sandbox.begin(
                    context=self.context, limits=limits, isolation=isolation, hash_seed=hash_seed
                )
            )
        except BaseException:
            self.context.close()
            raise

    def close(self):
        self.wait(self.run.aclose())
        self.wait(self.sandbox.aclose())
        self.context.close()
