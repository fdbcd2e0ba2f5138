"""Stands in for `abyme.guest.kernel.libc` where there is no kernel: no process can be made."""

import errno
import os
from typing import NoReturn


def fork_unseen() -> NoReturn:
    """Refuse.

    Raises:
        OSError: always.
    """
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
