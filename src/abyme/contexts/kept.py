"""Contexts on disk: those that paths alone do not give again, so that a run can go on.

    <folder>/<key>/         0700; the key is the hash of the content, so runs share it
      manifest.json         names, sizes, hashes: what the key is made of
      index, arena          as they lie in memory (`abyme.layout`)
    <folder>/.lock          held shared while a context is stored, alone while some are dropped

Decides what must be kept and how it is found again. Invariant: a folder named by a key is
whole and durable (it appears by rename), and nothing is sealed from it whose hash differs.
The folder may come from somebody else: links, pipes and devices are damage, and no more is
read than a context of its size has. Does not know of runs: the caller says which keys they
name.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec import structs

from abyme.contexts.arena import ArenaWriter
from abyme.contexts.manifest import DocumentFacts, Manifest
from abyme.contexts.places import is_remote, place_of
from abyme.contexts.sealed import SealedContext, Source, finish
from abyme.contexts.sizes import size_words
from abyme.contexts.walk import is_read_once
from abyme.errors import ContextError
from abyme.files import open_regular, read_whole
from abyme.layout import ADOPT_BYTES, Index, read_index

KEEP_BYTES: Final = 1 << 30
"""A larger context is not kept: the run goes on without, and cannot be resumed."""

MOST_LISTED_BYTES: Final = 1 << 30
"""Of a manifest, of an index."""

_KEY: Final = re.compile(r"[0-9a-f]{64}")
_PIECE_BYTES: Final = 4 << 20
_SEND_BYTES: Final = 64 << 20
_PARTIAL, _TRASH = ".abyme-partial-", ".abyme-trash-"
"""Of our own making, whatever else a user has put into the folder."""


class Kept(NamedTuple):
    """A context on disk."""

    path: Path
    size_bytes: int


def key_of(manifest: Manifest) -> str:
    """Name a context by its content: SHA-256 over shape, names, kinds and hashes.

    Empty where these are not known (a part of another context is not hashed again).
    """
    documents = [
        (d.name, d.kind, d.sealed_sha256, *filter(None, [d.table_sha256]))
        for d in manifest.documents
    ]
    if any(d.sealed_sha256 is None for d in manifest.documents):
        return ""
    return hashlib.sha256(json.dumps([manifest.shape, documents]).encode("ascii")).hexdigest()


def must_be_kept(sources: Sequence[str]) -> bool:
    """Tell whether paths alone do not give a context again: Python values, stdin, pipes, URLs."""
    return not sources or any(is_read_once(path) or is_remote(path) for path in sources)


def located(sources: Sequence[str]) -> list[str]:
    """Make paths absolute, from the working directory of now; standard input stays ``-``."""
    return [path if is_read_once(path) else place_of(path) for path in sources]


def keep(context: SealedContext, folder: Path, *, max_bytes: int = KEEP_BYTES) -> str:
    """Store a context, unless it is there; its key. For a thread of its own.

    The run's spec must name the key before: whoever drops contexts that no run names would
    drop this one. The context may be closed meanwhile.

    Raises:
        ContextError: it is too large, its hashes are not known, or the disk is full.
    """
    key = key_of(context.manifest)
    if not key:
        raise ContextError("a part of another context is not kept")
    fds: list[int] = []
    try:
        fds += map(os.dup, context.fds)
        size = sum(os.fstat(fd).st_size for fd in fds)
        if size > max_bytes:
            most = size_words(max_bytes)
            raise ContextError(f"a context of {size_words(size)} is not kept: at most {most}")
        with _locked(folder, fcntl.LOCK_SH):
            if not (folder / key).exists():
                _store(folder, key, fds, context.manifest)
    except OSError as error:
        raise ContextError(f"the context cannot be kept in {folder}: {error.strerror}") from error
    finally:
        for fd in fds:
            os.close(fd)
    return key


def reopen(folder: Path, key: str) -> SealedContext:
    """Seal a kept context again; every hash is looked at on the way.

    Raises:
        ContextError: it is not there, is damaged, or there is no memory to seal it in.
    """
    place = folder / key
    if not _KEY.fullmatch(key) or not place.is_dir():
        raise ContextError(f"the run's context is not kept in {folder}")
    try:
        facts = json.loads(read_whole(place / "manifest.json", MOST_LISTED_BYTES))
        manifest = msgspec.convert(facts, Manifest)
        arena = open_regular(place / "arena", os.O_RDONLY)
        try:
            size = os.fstat(arena).st_size
            if size > KEEP_BYTES:
                raise ValueError(f"{size_words(size)} of text, at most {size_words(KEEP_BYTES)}")
            index = read_index(read_whole(place / "index", MOST_LISTED_BYTES), size)
            context = _sealed(arena, index, manifest)
        finally:
            os.close(arena)
    except OSError as error:
        raise ContextError(f"cannot read {place}: {error.strerror}") from error
    except RecursionError:
        raise ContextError(f"{place} is damaged: nested too deeply") from None
    except (ValueError, struct.error, msgspec.ValidationError) as error:
        raise ContextError(f"{place} is damaged: {error}") from None
    if _contents(context.manifest) != _contents(manifest) or key_of(manifest) != key:
        context.close()
        raise ContextError(f"{place} is damaged: its content has another hash")
    context.manifest = structs.replace(
        manifest, documents=context.manifest.documents, in_file=not context.is_sealed
    )
    return context


def _contents(manifest: Manifest) -> list[DocumentFacts]:
    """Look at documents but for where in the arena their tables lie."""
    return [structs.replace(facts, table=None) for facts in manifest.documents]


def unused(folder: Path, named: AbstractSet[str]) -> list[Kept]:
    """List what `drop` would remove: contexts without a run, and what was cut off half-way."""
    try:
        found = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ContextError(f"cannot read {folder}: {error.strerror}") from error
    ours = [path for path in found if _is_ours(path) and path.name not in named]
    return [Kept(path, _size(path)) for path in ours]


def drop(folder: Path, named: Callable[[], AbstractSet[str]]) -> list[Kept]:
    """Remove contexts that no run names. `named` is asked while no run can begin to keep one.

    Raises:
        ContextError: a run is storing its context just now, or a folder cannot be changed.
    """
    if not folder.is_dir():
        return []
    try:
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            dropped = unused(folder, named())
            trash = [_to_trash(kept.path) for kept in dropped]
    except BlockingIOError:
        raise ContextError("a run is storing its context just now; prune again later") from None
    except OSError as error:
        raise ContextError(f"cannot clear {folder}: {error.strerror}") from error
    for path in trash:
        shutil.rmtree(path, ignore_errors=True)  # what is left is trash for the next time
    return dropped


def _store(folder: Path, key: str, fds: Sequence[int], manifest: Manifest) -> None:
    """Write a context beside its place and move it there."""
    place = folder / f"{_PARTIAL}{key[:16]}-{os.getpid()}-{threading.get_ident()}"
    place.mkdir(mode=0o700)
    try:
        for name, fd in zip(("index", "arena"), fds, strict=True):
            with _created(place / name) as out:
                _send(out, fd, os.fstat(fd).st_size)
        facts = json.dumps(msgspec.to_builtins(manifest), separators=(",", ":")).encode("ascii")
        with _created(place / "manifest.json") as out:
            view = memoryview(facts)
            while view:
                view = view[os.write(out, view) :]
        _sync(place)
        try:
            place.rename(folder / key)
        except OSError:
            if not (folder / key).exists():
                raise
        _sync(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)  # nothing is there once it was moved


@contextmanager
def _created(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield fd
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _send(out: int, source: int, size: int) -> None:
    at = 0
    while at < size:
        at += os.sendfile(out, source, at, min(_SEND_BYTES, size - at))


def _sync(folder: Path) -> None:
    """Make names durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sealed(arena: int, index: Index, manifest: Manifest) -> SealedContext:
    facts = manifest.documents
    if len(index) != len(facts):
        raise ValueError(f"{len(index)} texts for {len(facts)} documents")
    tables = sum(size for _, size in index.extras.tables.values())
    if sum(index.sizes) + tables > os.fstat(arena).st_size:
        raise ValueError("its texts overlap")
    writer = ArenaWriter()
    try:
        for entry in map(index.__getitem__, range(len(index))):
            pieces = _pieces(arena, entry.offset, entry.size_bytes)
            if entry.size_bytes < ADOPT_BYTES:
                writer.add(b"".join(pieces), entry.kind)
            else:
                writer.add_pieces(pieces, entry.kind)
        sources = [
            _source(arena, index, number, writer)._replace(
                encoding=told.encoding, size_bytes=told.source_bytes, sha256=told.source_sha256
            )
            for number, told in enumerate(facts)
        ]
        return finish(writer, manifest.shape, _names(manifest), sources)
    finally:
        writer.close()


def _names(manifest: Manifest) -> list[str]:
    names = [document.name for document in manifest.documents]
    return names if manifest.shape == "documents" or any(names) else []


def _source(arena: int, index: Index, number: int, writer: ArenaWriter) -> Source:
    """Take over what the index tells of a document: pages, media type, table."""
    extras = index.extras
    table = extras.tables.get(number)
    if table is not None:
        table = writer.add_blob(b"".join(_pieces(arena, *table)))
    return Source(
        media=extras.media.get(number),
        pages=extras.pages.get(number, ()),
        page_word=extras.words.get(number, "page"),
        table=table,
    )


def _pieces(arena: int, at: int, size_bytes: int) -> Iterator[bytes]:
    """Read a text with pread(2): under a map, a file that is cut short would be a signal."""
    end = at + size_bytes
    while at < end:
        piece = os.pread(arena, min(_PIECE_BYTES, end - at), at)
        if not piece:
            raise ValueError("it was cut short while it was read")
        yield piece
        at += len(piece)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = open_regular(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


def _to_trash(path: Path) -> Path:
    if path.name.startswith(_TRASH):
        return path
    return path.rename(path.with_name(_TRASH + path.name.removeprefix(_PARTIAL)))


def _is_ours(path: Path) -> bool:
    ours = _KEY.fullmatch(path.name) or path.name.startswith((_PARTIAL, _TRASH))
    return bool(ours) and path.is_dir() and not path.is_symlink()


def _size(path: Path) -> int:
    try:
        return sum(file.lstat().st_size for file in path.iterdir())
    except OSError:  # somebody removes it just now
        return 0
