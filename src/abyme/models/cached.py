"""Replies kept on disk by the hash of what was asked, so that the same is not paid twice.

Decides: what is kept (whole replies that ended by themselves), under which name (SHA-256 of
who was asked and of every field of the request), and what goes when there is too much (what
was not used for longest). A reply from here costs nothing, and its usage says so.

Invariant: what is given out was written whole and is for that very request; anything else is
removed and the model is asked. A request that is `fresh` passes by, both ways. No failure of
the disk is a failure of the call. Several processes may use one folder: entries appear whole
or not at all, and one that another process removed is a miss.

The folder holds replies in plain JSON, readable by its owner alone. It holds no key: it must
stand over whatever cuts keys out of replies (`redacted`).
"""

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs

from abyme.core.events import Doubt, Usage
from abyme.files import UnfitFile, read_whole
from abyme.ports import Model, ModelReply, ModelRequest

MAX_BYTES: Final = 1 << 30
MOST_ENTRY_BYTES: Final = 64 << 20
"""Of one reply as JSON; what is larger is none of ours."""
KEEP: Final = 0.9
"""Part of the most bytes that is left after old entries are removed."""
LOOK_EVERY: Final = 1 / 64
"""Part of the most bytes that this process writes before it looks at the folder again: other
processes write there too."""
ABANDONED_S: Final = 3600.0
"""A file that was begun and not finished for so long has no writer any more."""
BEGUN: Final = ".new-"
FENCE: Final = "\ufdd0fence\ufdd1"
"""Noncharacters: no text that is exchanged has them."""
FREE: Final = Usage(cost_usd_micro=0)


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One file."""

    key: str
    text: str
    text_sha256: str
    """Of the doubts too, where there are any."""
    doubts: list[Doubt] | None = None


class Cached:
    """Implements `ports.Model` over another one.

    `identity` names who answers: an endpoint's address and the model. `folder` is made when
    the first reply is kept.
    """

    def __init__(
        self, model: Model, folder: Path, identity: str, max_bytes: int = MAX_BYTES
    ) -> None:
        self._model = model
        self._folder = folder
        self._identity = identity
        self._max_bytes = max_bytes
        self._looked = False
        self._unseen_bytes = 0
        """Written since the folder was looked at."""
        self._sweeping: asyncio.Task[None] | None = None

    async def complete(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """Give the reply that is kept, else ask; see `ports.Model`."""
        if request.fresh:
            return await self._model.complete(request, on_text)
        key = key_of(self._identity, request)
        kept = self._read(key)
        if kept is not None:
            text = kept.text.replace(FENCE, request.fence) if request.fence else kept.text
            if on_text is not None:
                on_text(text)
            return ModelReply(text=text, finish="stop", usage=FREE, doubts=kept.doubts)
        reply = await self._model.complete(request, on_text)
        if reply.finish == "stop" and reply.text.strip():
            text = _unfenced(reply.text, request.fence)
            moved = reply.doubts is None or text != reply.text
            self._keep(key, text, None if moved else list(reply.doubts or ()))
        return reply

    async def aclose(self) -> None:
        """Close the model beneath."""
        if self._sweeping is not None:
            await self._sweeping
        if self._unseen_bytes:
            self._unseen_bytes = 0
            await asyncio.to_thread(sweep, self._folder, self._max_bytes)
        await self._model.aclose()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key[2:]}.json"

    def _read(self, key: str) -> Entry | None:
        path = self._path(key)
        try:
            entry = msgspec.json.decode(read_whole(path, MOST_ENTRY_BYTES), type=Entry)
        except (UnfitFile, msgspec.DecodeError, UnicodeDecodeError):
            entry = None
        except OSError:
            return None
        if entry is None or entry.key != key or entry.text_sha256 != _sha256(entry):
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path, follow_symlinks=False)  # it was used now
        return entry

    def _keep(self, key: str, text: str, doubts: list[Doubt] | None) -> None:
        path = self._path(key)
        entry = Entry(key=key, text=text, text_sha256="", doubts=doubts)
        try:
            data = msgspec.json.encode(structs.replace(entry, text_sha256=_sha256(entry)))
        except UnicodeEncodeError:
            return  # a lone surrogate, which no JSON carries
        if len(data) > min(self._max_bytes * KEEP, MOST_ENTRY_BYTES):
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write_whole(path, data)
            self._unseen_bytes += len(data)
        due = self._unseen_bytes > self._max_bytes * LOOK_EVERY or not self._looked
        if due and self._sweeping is None:
            self._looked, self._unseen_bytes = True, 0
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        try:
            await asyncio.to_thread(sweep, self._folder, self._max_bytes)
        finally:
            self._sweeping = None


def _unfenced(text: str, fence: str) -> str:
    """Put one word in place of that which fences data, for it is another one in each run."""
    return text.replace(fence, FENCE) if fence else text


def key_of(identity: str, request: ModelRequest) -> str:
    """SHA-256 of who is asked and of all that may change the reply, as hexadecimal digits."""
    fields: list[Any] = [
        identity,
        [[m.role, _unfenced(m.content, request.fence)] for m in request.messages],
        request.max_output_tokens,
        request.temperature,
        list(request.stop),
        request.prefill,
        request.seed,
        request.schema,
        *(["logprobs"] if request.logprobs else []),
    ]
    data = b"".join(_plain(field) for field in fields)
    return hashlib.sha256(data).hexdigest()


def sweep(folder: Path, max_bytes: int) -> None:
    """Remove what was not used for longest, until a tenth of `max_bytes` is free; if less than
    `max_bytes` is taken, nothing but what was never finished.
    """
    found, taken_bytes, newest_s = [], 0, 0.0
    for entry in _files(folder):
        with contextlib.suppress(OSError):
            stat = entry.stat(follow_symlinks=False)
            found.append((stat.st_mtime, stat.st_size, entry))
            taken_bytes += stat.st_size
            newest_s = max(newest_s, stat.st_mtime)
    found.sort(key=lambda one: one[:2])
    too_many = taken_bytes > max_bytes
    for used_s, size_bytes, entry in found:
        abandoned = entry.name.startswith(BEGUN) and used_s < newest_s - ABANDONED_S
        if abandoned or (too_many and taken_bytes > max_bytes * KEEP):
            with contextlib.suppress(OSError):
                os.unlink(entry.path)  # noqa: PTH108  a path of the listing, 100,000 times
            taken_bytes -= size_bytes


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """List the files in the folders of the folder; one that is gone meanwhile has none."""
    with contextlib.suppress(OSError), os.scandir(folder) as shards:
        for shard in shards:
            if shard.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError), os.scandir(shard.path) as files:
                    yield from files


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside and rename. Not synced: what a power cut leaves is not valid, and goes."""
    descriptor, beside = tempfile.mkstemp(prefix=BEGUN, dir=path.parent)  # 0600
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor
            file.write(data)
        os.replace(beside, path)  # noqa: PTH105  by name, as mkstemp gave it
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)  # noqa: PTH108
        raise


def _plain(value: Any) -> bytes:
    """Bytes of a value that no other value has. The order of keys counts: a schema's is the
    order in which a model writes its fields.
    """
    if isinstance(value, str):
        data = b"s" + value.encode("utf-8", "surrogatepass")
    elif isinstance(value, list | tuple):
        data = b"l" + b"".join(_plain(one) for one in value)
    elif isinstance(value, dict):
        data = b"d" + b"".join(_plain(pair) for pair in value.items())
    else:
        data = b"v" + repr(value).encode("ascii")
    return b"%d:%b" % (len(data), data)


def _sha256(entry: Entry) -> str:
    data = entry.text.encode("utf-8", "surrogatepass")
    if entry.doubts is not None:
        data += b"\0" + msgspec.json.encode(entry.doubts)
    return hashlib.sha256(data).hexdigest()
