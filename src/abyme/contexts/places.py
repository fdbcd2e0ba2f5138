"""What a user wrote for a source: a path, a URL, or a git repository at a revision.

Decides by the beginning of the text which of them it is. Reads no files and fetches nothing.
"""

import os
import pwd
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from abyme.errors import ContextError

GIT: Final = "git+"
_URL: Final = re.compile(r"(?i)https?://")
_HOST: Final = re.compile(r"(?i)(?:https?|ssh)://")


def is_url(source: str) -> bool:
    """Tell a URL that is fetched."""
    return _URL.match(source) is not None


def is_git(source: str) -> bool:
    """Tell a repository at a revision: ``git+PATH@REV``, ``git+https://host/repo@REV``."""
    return source.startswith(GIT)


def is_elsewhere(source: str) -> bool:
    """Tell what is no path of a file or folder."""
    return is_url(source) or is_git(source)


def is_remote(source: str) -> bool:
    """Tell what lies on another machine, so that it can be another one tomorrow."""
    return is_url(source) or (is_git(source) and not is_local(repository(source)[0]))


def is_local(place: str) -> bool:
    """Tell a repository's path from its URL."""
    return _HOST.match(place) is None


def repository(source: str) -> tuple[str, str]:
    """Split ``git+PLACE@REV`` into place and revision (HEAD where none is named).

    Raises:
        ContextError: there is no place, or the revision would be an option of git's.
    """
    place = source.removeprefix(GIT).removeprefix("file://")
    scheme, rest = "", place
    if not is_local(place):
        scheme, _, rest = place.partition("://")
        host, slash, path = rest.partition("/")
        scheme, rest = f"{scheme}://{host}{slash}", path
    before, at, revision = rest.rpartition("@")
    if not at or (is_local(place) and os.path.isdir(place)):  # noqa: PTH112
        before, revision = rest, "HEAD"
    where = scheme + before
    if not (before if scheme else where):
        raise ContextError(f"{source!r} names no repository: write git+PATH@REV, or git+. for HEAD")
    if revision.startswith("-") or not revision or not revision.isprintable():
        raise ContextError(f"{revision!r} is no revision of a repository")
    return where, revision


def without_secrets(source: str) -> str:
    """Cut user and password out of a URL, so that it can be shown and recorded."""
    if not is_elsewhere(source):
        return source
    git = GIT if is_git(source) else ""
    place = source.removeprefix(git)
    if is_local(place):
        return source
    try:
        parts = urlsplit(place)
    except ValueError:
        return f"{git}(a URL that cannot be read)"
    return git + urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def at_home(path: str, env: Mapping[str, str]) -> str:
    """Expand ``~`` as a shell would have; a file of that very name wins."""
    if path.startswith(f"{GIT}~"):
        return GIT + at_home(path.removeprefix(GIT), env)
    if not path.startswith("~") or os.path.lexists(path):
        return path
    user, slash, rest = path[1:].partition("/")
    try:
        home = pwd.getpwnam(user).pw_dir if user else env.get("HOME")
        home = home or pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return path
    return home + slash + rest


def place_of(source: str) -> str:
    """Name a source so that it is found from any working directory."""
    if not is_elsewhere(source):
        return os.path.abspath(source)  # noqa: PTH100
    if is_remote(source):
        return source
    place, revision = repository(source)
    return f"{GIT}{os.path.abspath(place)}@{revision}"  # noqa: PTH100


def at_commit(place: str, commit: str | None) -> str:
    """Pin a repository to the commit that was read of it."""
    return f"{GIT}{repository(place)[0]}@{commit}" if commit is not None else place
