"""Folders of runs whose host was killed: they hold a copy of a context, and must not stay.

Decides which those are: folders of ours, by name and owner, whose lock (flock(2)) nobody holds,
older than it takes to make one. Removed when the next run begins. Where there is no flock
(Windows), nothing is, and the system's own cleaning has to do.
"""

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Final

from abyme.guest.kernel.credentials import UNUSED_ID

with contextlib.suppress(ImportError):
    import fcntl

LOCK: Final = "lock"
MADE_WITHIN_S: Final = 60.0


def hold(folder: Path) -> int:
    """Take a folder's lock; a descriptor to be closed with the run, and that the kernel closes.

    Raises:
        OSError: it cannot be taken.
    """
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if "fcntl" in globals():
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def sweep(parent: Path, prefix: str) -> None:
    """Remove what killed runs have left in `parent`."""
    if "fcntl" not in globals():
        return
    ours = {os.geteuid(), UNUSED_ID} if os.geteuid() == 0 else {os.geteuid()}
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            facts = folder.lstat()
            if facts.st_uid in ours and time.time() - facts.st_mtime > MADE_WITHIN_S:
                os.close(hold(folder))
                shutil.rmtree(folder, ignore_errors=True)
