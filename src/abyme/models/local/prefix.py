"""The state of a prompt's beginning, kept on disk: a run's first turn need not read it again.

The root model's system text and examples are the same in every run, and a model of
1.5B on two cores reads 30 to 70 tokens a second. The server evaluates them once, its
state (28 kB a token) is saved, and the next server restores it in milliseconds.

Invariant: a file stands for exactly one beginning, model, window and runtime: its name
is their hash. Holds prompt texts only, never a question or a document. Whatever goes
wrong here is no failure: the prompt is evaluated as usual.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from abyme.core.profile import Message
from abyme.models.completion import well_formed

if TYPE_CHECKING:
    import aiohttp

    from abyme.models.names import Endpoint

LEAST_CHARS: Final = 1000
"""A shorter beginning is read faster than a file is worth."""
MOST_FILES: Final = 8
SLOT: Final = 0
TIMEOUT_S: Final = 600.0


def beginning(messages: Sequence[Message]) -> list[Message]:
    """All but the last message, if that is worth keeping."""
    first = list(messages[:-1])
    return first if sum(len(m.content) for m in first) >= LEAST_CHARS else []


def file_name(endpoint: Endpoint, runtime: str, messages: Sequence[Message]) -> str:
    """Name of the file that stands for this beginning."""
    parts: list[Any] = [endpoint.model, endpoint.window_tokens, runtime]
    parts += [[m.role, m.content] for m in messages]
    digest = hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()
    return f"{endpoint.model}-{digest[:24]}.prefix"


async def warm(endpoint: Endpoint, folder: Path, runtime: str, messages: Sequence[Message]) -> None:
    """Bring the beginning of `messages` into the server: from its file, or into one."""
    import aiohttp  # noqa: PLC0415

    first = beginning(messages)
    if not first:
        return
    path = folder / file_name(endpoint, runtime, first)
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {endpoint.api_key}"},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            raise_for_status=True,
        ) as session:
            slot = f"{endpoint.base_url.removesuffix('/v1')}/slots/{SLOT}"
            if path.exists():
                with contextlib.suppress(aiohttp.ClientResponseError):
                    await _post(session, f"{slot}?action=restore", {"filename": path.name})
                    path.touch()
                    return
            said = [{"role": m.role, "content": well_formed(m.content)} for m in first]
            body = {"messages": said, "max_tokens": 1, "id_slot": SLOT}
            await _post(session, endpoint.chat_url, body)
            new = path.with_name(f"{path.name}.{os.getpid()}")
            await _post(session, f"{slot}?action=save", {"filename": new.name})
            new.replace(path)
            _prune(folder)


async def _post(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> None:
    async with session.post(url, json=body) as response:
        await response.read()


def _prune(folder: Path) -> None:
    files = sorted(folder.glob("*.prefix*"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[:-MOST_FILES]:
        path.unlink(missing_ok=True)
