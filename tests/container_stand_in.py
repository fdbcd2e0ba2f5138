"""A stand-in for Docker or Podman: takes their words, and runs the guest under bubblewrap.

Run as an executable named like an engine. It holds no images and pulls none; what it is told is
appended to the file `told` beside it, one JSON list a line. What its containers lack is
in the file `lacks`, one word a line: network, read_only, user, capabilities, pids, userns,
landlock; also image, daemon, start, sense (it says what is no message) and end (it must be killed).
"""

import contextlib
import json
import os
import select
import signal
import site
import struct
import sys
import sysconfig
from pathlib import Path

HERE = Path(sys.argv[0]).parent
LANDLOCK_CREATE_RULESET = 444
ENOSYS = 38


def main(words):
    with (HERE / "told").open("a") as file:
        file.write(json.dumps(words) + "\n")
    lacks = set((HERE / "lacks").read_text().split())
    if words[0] == "--version":
        sys.stdout.write("podman version 0, a stand-in\n")
    elif "daemon" in lacks:
        sys.exit("Cannot connect to the daemon.")
    elif words[0] == "image":
        if "image" in lacks:
            sys.exit(f"Error: {words[-1]}: image not known")
    elif words[0] == "kill":
        os.kill(int((HERE / f"pid-{words[1]}").read_text()), signal.SIGKILL)
    elif words[0] == "wait":
        wait(int((HERE / f"pid-{words[1]}").read_text()))
    elif words[0] == "run":
        run(words, lacks)


def run(words, lacks):
    given = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    user = "0" if "user" in lacks else given["--user"].split(":")[0]
    command = ["bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--clearenv"]
    command += ["--cap-drop", "ALL", "--uid", user, "--gid", user]
    for lack, options in {
        "userns": ["--disable-userns"],
        "network": ["--share-net"],
        "capabilities": ["--cap-add", "CAP_CHOWN"],
        "landlock": ["--seccomp", str(no_landlock())],
    }.items():
        command += options if lack in lacks else []
    for lack, options in {"pids": ["--as-pid-1"], "read_only": ["--remount-ro", "/"]}.items():
        command += [] if lack in lacks else options
    relay = [os.path.realpath(sys.executable), "-s", "-S", "-P", "/opt/abyme/guest/relay.py"]
    at = command.index("--remount-ro") if "--remount-ro" in command else len(command)
    command[at:at] = mounts(words)
    if "start" in lacks:
        sys.exit("Error: runtime: not permitted")
    if "sense" in lacks:
        command, relay = ["echo"], ["hello, this is no message"]
    if "end" in lacks:
        command, relay = ["sleep"], ["1000"]
    (HERE / f"pid-{given['--name']}").write_text(str(os.getpid()))
    os.execvp(command[0], command + relay)


def wait(pid):
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(pid)], [], [])


def mounts(words):
    """The system's own files in place of an image's, and what the container is given."""
    made = ["--tmpfs", "/", "--proc", "/proc", "--dev", "/dev"]
    for folder in {"/usr", sys.base_prefix, os.path.realpath(sysconfig.get_path("stdlib"))}:
        made += ["--ro-bind", folder, folder]
    for name in ("lib", "lib64", "bin"):
        if Path("/", name).is_symlink():
            made += ["--symlink", f"usr/{name}", f"/{name}"]
        elif Path("/", name).exists():
            made += ["--ro-bind", f"/{name}", f"/{name}"]
    made += ["--ro-bind", str(HERE / "guest" / "abyme"), "/opt/abyme"]
    if (HERE / "packages").exists():
        place = next(filter(os.path.isdir, site.getsitepackages([sys.base_prefix])))
        made += ["--ro-bind", str(HERE / "packages"), place]
    for word in words:
        if word.startswith("--volume="):
            source, place, _ = word.removeprefix("--volume=").split(":")
            made += ["--ro-bind", source, place]
    return made


def no_landlock():
    """A filter under which the kernel has no Landlock, as seccomp(2) wants it.

    Its descriptor is left open for the container also where it is not wanted: so an engine may
    leak one of the host's (CVE-2024-21626), and the guest must not have it.
    """
    program = [
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 1, LANDLOCK_CREATE_RULESET),
        (0x06, 0, 0, 0x00050000 | ENOSYS),
        (0x06, 0, 0, 0x7FFF0000),
    ]
    fd, into = os.pipe()
    os.write(into, b"".join(struct.pack("HBBI", *one) for one in program))
    os.close(into)
    os.set_inheritable(fd, True)
    return fd


if __name__ == "__main__":
    main(sys.argv[1:])
