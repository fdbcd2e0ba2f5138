"""Contexts in the user's cache folder: whole ones on disk, mapped when they are wanted again.

    <folder>/<key>/         0700; the key is the hash of the three files in it
      manifest.json         names, sizes, hashes, what was skipped
      index, arena          as they lie in memory (`abyme.layout`)
    <folder>/recipes/       0700; what was read -> the key of what came of it
      <recipe>.json
    <folder>/.abyme-partial-*   being written; its writer holds a lock on the folder

Invariant: nothing is opened that is not this user's alone (owner, mode, no link), or whose
bytes do not have the hash of its name; every byte is looked at, on all cores. An entry may be
dropped while a run has it mapped: the run keeps its descriptor. Durable it need not be: what a
crash left half-written has another hash.
Does not decide what is worth storing, or what a recipe is made of (`cache`).
"""

import fcntl
import hashlib
import itertools
import json
import os
import secrets
import shutil
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from abyme.contexts.arena import is_sealed, sealed_bytes
from abyme.contexts.manifest import Manifest
from abyme.contexts.sealed import SealedContext
from abyme.contexts.texts import Memory
from abyme.errors import ContextError
from abyme.files import open_regular
from abyme.layout import read_index

RECIPES: Final = "recipes"
MOST_LISTED_BYTES: Final = 1 << 30
"""Of a manifest, of an index."""

_PARTIAL, _TRASH = ".abyme-partial-", ".abyme-trash-"
_HEX_CHARS: Final = 64
_PIECE_BYTES: Final = 16 << 20
_READ_BYTES: Final = 1 << 20
_FILES: Final = ("manifest.json", "index", "arena")


class Damaged(Exception):
    """An entry is not what its name says, or not this user's alone; the message says why."""


class Dropped(Exception):
    """Whoever stored an entry does not want it any more."""


class Entry(NamedTuple):
    """A context in the cache."""

    key: str
    size_bytes: int
    used_s: float
    """When it was last opened or stored, seconds since 1970."""
    named: list[str]
    """Paths that it was read from; empty if that is not known."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What is written down of a recipe."""

    key: str
    named: list[str]


def store(
    folder: Path, fds: Sequence[int], manifest: Manifest, is_dropped: Callable[[], bool]
) -> str:
    """Write a context, unless it is there; its key. `fds` are its index and its arena.

    Raises:
        Dropped: as soon as `is_dropped` says so; nothing is left.
        OSError: the disk is full, or the folder cannot be written to.
    """
    index, arena = fds
    with _partial(folder) as place:
        facts = msgspec.json.encode(manifest)
        _write(place / "manifest.json", facts)
        listed = os.pread(index, os.fstat(index).st_size, 0)
        _write(place / "index", listed)
        sums = _copied(arena, place / "arena", is_dropped)
        key = _root(facts, listed, sums)
        try:
            place.rename(folder / key)
        except OSError:
            if not (folder / key).is_dir():
                raise
    return key


def opened(folder: Path, key: str) -> SealedContext:
    """Map a context; every byte of it is hashed before.

    Raises:
        Damaged: it is not what it was, or not this user's alone.
        OSError: it is not there, or cannot be read.
        ContextError: there is no memory for its index.
    """
    place = folder / key
    _check_own(place.lstat(), stat.S_ISDIR)
    fds: list[int] = []
    try:
        for name in _FILES:
            fds.append(open_regular(place / name, os.O_RDONLY))
            _check_own(os.fstat(fds[-1]), stat.S_ISREG)
        facts, listed = map(_whole, fds[:2])
        memory = Memory(fds.pop())
    finally:
        for fd in fds:
            os.close(fd)
    try:
        _check_hash(_root(facts, listed, _sums(memory.fd)), key)
        manifest = msgspec.json.decode(facts, type=Manifest)
        index = read_index(listed, os.fstat(memory.fd).st_size)
        memory.check_untouched()
        context = SealedContext(sealed_bytes(listed, "abyme-index"), memory, index)
    except (ValueError, struct.error, ContextError) as error:
        memory.release()
        raise Damaged(str(error)) from None
    except BaseException:
        memory.release()
        raise
    context.manifest = msgspec.structs.replace(manifest, in_file=True)
    with suppress(OSError):
        os.utime(place)
    return context


def write_recipe(folder: Path, name: str, recipe: Recipe) -> None:
    """Remember what came of a recipe."""
    recipes = folder / RECIPES
    recipes.mkdir(mode=0o700, exist_ok=True)
    beside = recipes / f"{_PARTIAL}{secrets.token_hex(8)}"
    try:
        _write(beside, msgspec.json.encode(recipe))
        beside.replace(recipes / f"{name}.json")
    finally:
        beside.unlink(missing_ok=True)


def read_recipe(folder: Path, name: str) -> Recipe:
    """Look a recipe up.

    Raises:
        FileNotFoundError: nothing came of it yet.
        Damaged: what is there is none, or not this user's.
        OSError: it cannot be read.
    """
    fd = open_regular(folder / RECIPES / f"{name}.json", os.O_RDONLY)
    try:
        _check_own(os.fstat(fd), stat.S_ISREG)
        recipe = msgspec.json.decode(_whole(fd), type=Recipe)
    except (ValueError, RecursionError) as error:
        raise Damaged(str(error)) from None
    finally:
        os.close(fd)
    if not _is_key(recipe.key):
        raise Damaged("it names no entry")
    return recipe


def forget(folder: Path, name: str) -> None:
    """Remove a recipe and what it names, whatever state they are in."""
    path = folder / RECIPES / f"{name}.json"
    with suppress(OSError, Damaged):
        remove(folder, read_recipe(folder, name).key)
    with suppress(OSError):
        path.unlink()


def check_folder(folder: Path) -> None:
    """Make the folder, and see that it is this user's alone.

    Raises:
        Damaged: it is not.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_own(folder.lstat(), stat.S_ISDIR)


def entries(folder: Path) -> list[Entry]:
    """List what is stored, that used last at the end.

    Raises:
        OSError: the folder cannot be read.
    """
    if not folder.is_dir():
        return []
    named: dict[str, list[str]] = {}
    for recipe in _recipes(folder):
        with suppress(OSError, Damaged):
            found = read_recipe(folder, recipe.stem)
            named[found.key] = found.named
    listed = [
        Entry(path.name, _size(path), path.lstat().st_mtime, named.get(path.name, []))
        for path in folder.iterdir()
        if _is_key(path.name)
    ]
    return sorted(listed, key=lambda entry: (entry.used_s, entry.key))


def shrink(folder: Path, max_bytes: int) -> list[Entry]:
    """Remove those not used for longest until at most so many bytes stay; what was removed.

    What a writer left that is no more goes as well, and recipes of what is gone.

    Raises:
        OSError: the folder cannot be read.
    """
    listed = entries(folder)
    size = sum(entry.size_bytes for entry in listed)
    removed = []
    for entry in listed:
        if size <= max_bytes:
            break
        remove(folder, entry.key)
        size -= entry.size_bytes
        removed.append(entry)
    _sweep(folder)
    return removed


def remove(folder: Path, key: str) -> None:
    """Remove an entry. Whoever has it mapped keeps it.

    Raises:
        OSError: it cannot be moved out of its place.
    """
    trash = folder / f"{_TRASH}{secrets.token_hex(8)}"
    with suppress(FileNotFoundError):
        (folder / key).rename(trash)
    _delete(trash)


def _sweep(folder: Path) -> None:
    """Remove what is left over: trash, what a writer that is gone began, recipes of nothing."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.startswith(_TRASH) or (path.name.startswith(_PARTIAL) and _is_left(path)):
            _delete(path)
    for path in _recipes(folder):
        with suppress(OSError):
            try:
                gone = not (folder / read_recipe(folder, path.stem).key).is_dir()
            except Damaged:
                gone = True
            if gone:
                path.unlink()


def _recipes(folder: Path) -> list[Path]:
    try:
        return sorted((folder / RECIPES).glob("*.json"))
    except OSError:
        return []


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """Make a folder to write into; what is left of it goes."""
    place = folder / f"{_PARTIAL}{secrets.token_hex(8)}"
    place.mkdir(mode=0o700)
    lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield place
    finally:
        _delete(place)  # nothing is there once it was moved
        os.close(lock)


def _is_left(place: Path) -> bool:
    """Whether nobody writes there any more."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)


def _copied(arena: int, path: Path, is_dropped: Callable[[], bool]) -> list[bytes]:
    """Copy an arena piece by piece; the hash of each piece."""
    if not is_sealed(arena) and _linked(arena, path):
        return _sums(arena)
    size = os.fstat(arena).st_size
    buffer = memoryview(bytearray(_READ_BYTES))
    sums = []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for start in range(0, size, _PIECE_BYTES):
            if is_dropped():
                raise Dropped
            at, end = start, min(start + _PIECE_BYTES, size)
            while at < end:
                at += os.sendfile(fd, arena, at, end - at)
            sums.append(_sum(arena, start, buffer))
    finally:
        os.close(fd)
    return sums


def _linked(arena: int, path: Path) -> bool:
    """Give the nameless file of a context that is too large for memory a name, if it lies here."""
    try:
        os.link(f"/proc/self/fd/{arena}", path, src_dir_fd=arena)  # linkat(2), open(2): O_TMPFILE
    except OSError:
        return False
    return True


def _sums(fd: int) -> list[bytes]:
    """Hash the pieces of a file, on all cores."""
    starts = range(0, os.fstat(fd).st_size, _PIECE_BYTES)
    threads = min(os.cpu_count() or 1, len(starts) or 1)
    buffers = [memoryview(bytearray(_READ_BYTES)) for _ in range(threads)]
    shares = [starts[n::threads] for n in range(threads)]
    with ThreadPoolExecutor(threads, "abyme-cache") as pool:
        done = pool.map(
            lambda share, buffer: [_sum(fd, start, buffer) for start in share], shares, buffers
        )
        rows = itertools.zip_longest(*done)
        return [digest for row in rows for digest in row if digest is not None]


def _sum(fd: int, start: int, buffer: memoryview) -> bytes:
    digest, at, end = hashlib.sha256(), start, start + _PIECE_BYTES
    while at < end and (got := os.preadv(fd, [buffer[: end - at]], at)):
        digest.update(buffer[:got])
        at += got
    return digest.digest()


def _root(facts: bytes, listed: bytes, sums: Sequence[bytes]) -> str:
    parts = [hashlib.sha256(part).hexdigest() for part in (facts, listed)]
    parts += [digest.hex() for digest in sums]
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _whole(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    if size > MOST_LISTED_BYTES:
        raise Damaged(f"a file of {size:,} bytes that should be small")
    pieces, at = [], 0
    while piece := os.pread(fd, size - at, at):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def _check_hash(found: str, key: str) -> None:
    if found != key:
        raise Damaged("its content has another hash")


def _check_own(status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    if not is_kind(status.st_mode):
        raise Damaged("it is a link, or no file")
    if status.st_uid != os.geteuid():
        raise Damaged(f"it belongs to the user {status.st_uid}")
    if status.st_mode & 0o077:
        raise Damaged("others may open it")


def _is_key(name: str) -> bool:
    return len(name) == _HEX_CHARS and not set(name) - set("0123456789abcdef")


def _delete(path: Path) -> None:
    with suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _size(path: Path) -> int:
    try:
        return sum(file.lstat().st_size for file in path.iterdir())
    except OSError:  # somebody removes it just now, or it is none
        return 0
