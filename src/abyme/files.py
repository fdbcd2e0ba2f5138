"""Files in folders that somebody else may have filled: opened so that none is a trap.

A run's folder can come from anywhere: in an archive, on a shared disk. Invariant: what is
opened here is a regular file under its own name. A link is not followed, so that nothing
outside of the folder is read or overwritten; a pipe or a device is not waited for; and no
more is read whole than the caller names. Does not judge what a file holds.

Every failure is an `OSError` with words in `strerror`. Standard library only.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

_NO_FILE: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV})
"""What open(2) says of a link, a socket, a pipe without a reader, a folder, a dead device."""


class UnfitFile(OSError):
    """What has this name is no regular file, or is longer than what is asked for."""


def open_regular(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file, as open(2) does; a descriptor.

    Raises:
        OSError: `UnfitFile` if it is anything but a regular file.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, mode)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise _not_regular(path) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_regular(path)
    return fd


def read_whole(path: Path, most_bytes: int) -> bytes:
    """Read a file that has at most so many bytes.

    Raises:
        OSError: `UnfitFile` if it is no regular file, or longer.
    """
    with open(open_regular(path, os.O_RDONLY), "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > most_bytes:
            words = f"it has {size_bytes:,} bytes, at most {most_bytes:,} are read"
            raise UnfitFile(errno.EFBIG, words, str(path))
        return file.read(size_bytes)


def create_anew(path: Path) -> int:
    """Make a file, 0600, in the place of whatever has its name; a descriptor for writing.

    Raises:
        OSError: also if somebody else puts something there at the same time.
    """
    path.unlink(missing_ok=True)
    return open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def _not_regular(path: Path) -> UnfitFile:
    return UnfitFile(errno.EINVAL, "it is no regular file", str(path))
