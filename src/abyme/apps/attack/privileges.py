"""As whom the list is run, and how a process becomes that: by giving something up for ever.

Decides the privileges that a host may start abyme with. A process of its own is needed for each:
who it is must be settled before it starts, what the kernel denies it before it builds a jail.
An ordinary user may not read the interpreter of root: then another one is looked for.
"""

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from abyme.guest.kernel import credentials, seccomp
from abyme.guest.kernel.libc import prctl
from abyme.guest.kernel.policy import Rule, Test

CLONE_NEWUSER: Final = 0x10000000
_NO_USER_NAMESPACE: Final = Test(0, (0,), mask=CLONE_NEWUSER)
_NEVER: Final = Test(0, (), wide=True)

USER_NAMESPACES: Final = (
    Rule("unshare", 272, (_NO_USER_NAMESPACE,)),
    Rule("clone", 56, (_NO_USER_NAMESPACE,)),
    Rule("clone3", 435, (_NEVER,), errno.ENOSYS),
)
"""The calls that make one, as a container's own filter refuses them."""
LANDLOCK: Final = (Rule("landlock_create_ruleset", 444, (_NEVER,), errno.ENOSYS),)
"""The call without which there is none, as on a kernel that does not know it."""

WORLD_READ, WORLD_ENTER = 0o004, 0o001
CLOSED: Final = "an ordinary user cannot read"
NO_PYTHON: Final = (
    f"there is no Python {sys.version_info.major}.{sys.version_info.minor} that an ordinary user "
    "may run; --everybody-python names another one that abyme is installed for"
)
SYSTEM_PYTHONS: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Privilege:
    """A way in which a host may start abyme."""

    name: str
    words: str
    user: bool | None
    """True: an ordinary user; False: uid 0; None: whoever has started the check."""
    give_up: Callable[[], None]


def _without_capabilities() -> None:
    credentials.drop_capabilities()
    prctl(credentials.PR_SET_NO_NEW_PRIVS, 1)
    prctl(credentials.PR_SET_DUMPABLE, 1)  # dropping them has cleared it; /proc/self is needed


def _denied(*rules: Rule) -> None:
    seccomp.install(seccomp.compile_filter(rules, otherwise=seccomp.ALLOW))


def _container() -> None:
    _without_capabilities()
    _denied(*USER_NAMESPACES)


PRIVILEGES: Final = (
    Privilege("as-started", "whoever has started this", user=None, give_up=lambda: None),
    Privilege("root", "root with all that it has", user=False, give_up=lambda: None),
    Privilege(
        "root-no-userns",
        "root, user namespaces forbidden",
        user=False,
        give_up=lambda: _denied(*USER_NAMESPACES),
    ),
    Privilege("user", "an ordinary user", user=True, give_up=lambda: None),
    Privilege("bare-root", "uid 0 without capabilities", user=False, give_up=_without_capabilities),
    Privilege(
        "container",
        "uid 0 without capabilities or user namespaces, as in a default container",
        user=False,
        give_up=_container,
    ),
    Privilege(
        "no-userns",
        "an ordinary user, user namespaces forbidden",
        user=True,
        give_up=lambda: _denied(*USER_NAMESPACES),
    ),
    Privilege(
        "no-landlock",
        "a kernel without Landlock",
        user=None,
        give_up=lambda: _denied(*LANDLOCK),
    ),
)


def by_name(name: str) -> Privilege:
    """Find one; `KeyError` if there is none."""
    return {one.name: one for one in PRIVILEGES}[name]


def can_be_tried(privilege: Privilege) -> bool:
    """Tell whether whoever runs this can start a process as that."""
    return os.geteuid() == 0 or privilege.user is not False


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a process that is to be somebody."""

    python: str
    roots: Sequence[Path] = ()
    """Folders that packages are in, beside the interpreter's own."""
    uid: int | None = None
    """Become this user and group, with no other groups; None: stay."""


def start_as(
    privilege: Privilege, roots: Sequence[Path], everybody: str | None = None
) -> Start | str:
    """Find an interpreter for it that can read `roots`, abyme's own first; or say what is missing.

    `everybody`: one that brings all but abyme itself.
    """
    if os.geteuid() != 0 or not privilege.user:
        return Start(sys.executable, roots)
    if everybody is not None:
        roots = roots[:1]
    for root in (*roots, *([Path(everybody)] if everybody else ())):
        if not _open_to_all(root):
            return f"{CLOSED} {root}: work from a folder that everybody may enter"
    for python in [everybody] if everybody else _pythons():
        if _open_to_all(Path(python).resolve()) and (everybody or _same_version(python)):
            return Start(python, roots, credentials.UNUSED_ID)
    return NO_PYTHON


def _pythons() -> Iterator[str]:
    """Name this interpreter, if its own library is where it is, and those of the system."""
    if _open_to_all(Path(os.__file__)):
        yield sys.executable
    for name in (f"python{sys.version_info.major}.{sys.version_info.minor}", "python3"):
        if found := shutil.which(name, path=SYSTEM_PYTHONS):
            yield found


def _same_version(python: str) -> bool:
    """Whether extension modules of this interpreter can be loaded by that one, too."""
    tail = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return python == sys.executable or Path(python).resolve().name == tail


def _open_to_all(path: Path) -> bool:
    """Whether anybody may read it and enter all folders above."""
    try:
        readable = path.stat().st_mode & WORLD_READ
        return bool(readable) and all(one.stat().st_mode & WORLD_ENTER for one in path.parents)
    except OSError:
        return False
