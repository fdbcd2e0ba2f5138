"""Standard streams that are closed or cannot be written, as under cron or on a full disk.

Decides what stands in for them. Invariant: descriptors 0 to 2 are taken before anything
else is opened, so that no file of a run can land on one and be written to by mistake.
Does not decide what is said, or where it goes instead.
"""

import os
import sys
from typing import TextIO


def fill() -> None:
    """Put something in place of streams that this process was started without.

    What stands in for an output cannot be written either, so that whoever has something to
    say there is told.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, os.O_RDONLY)
        if opened == number:
            os.set_inheritable(number, True)  # noqa: FBT003
        else:
            os.dup2(opened, number)
            os.close(opened)
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def give_up(stream: TextIO) -> None:
    """Send what the stream still holds nowhere; the interpreter would complain of it at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
    except (OSError, ValueError):  # no file at all
        return


def takes_all(stream: TextIO) -> bool:
    """Tell whether what the stream still holds can be written; what cannot be is given up."""
    try:
        stream.flush()
    except (OSError, ValueError):
        give_up(stream)
        return False
    return True


def flush() -> None:
    """Write out what is held, as far as that can be."""
    for stream in (sys.stdout, sys.stderr):
        takes_all(stream)
