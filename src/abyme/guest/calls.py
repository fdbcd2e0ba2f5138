"""Sub-calls as the guest sees them: requests out, results in, failures as exceptions.

Decides how a batch is cut into frames, what a result looks like, and which
exception a failure becomes. Invariant: no failure is ever text among results, and
a call of a batch that succeeded is never lost with one that failed: it is in
`calls`, and in `BatchFailed.results`.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from abyme.guest.client import Abandoned, Client, Frame

MAX_TEXT_CHARS: Final = 64 << 20
"""Of one request: a longer text belongs into pieces."""
MAX_CALLS: Final = 100_000
"""In one batch."""
MAX_BATCH_CHARS: Final = 256 << 20
PIECE_CHARS: Final = 1 << 20
FRAME_CHARS: Final = 1 << 20
"""Requests go out in frames of about this many characters."""
REQUEST_CHARS: Final = 100
SPAN_CHARS: Final = 20
"""What a request, and each span in it, takes of a frame beside the text."""
SHORT_CHARS: Final = 200
SEEK_NUMBERS: Final = 1 << 40
"""Questions to the context are numbered from here, apart from batches, by cell: an answer that
comes late is never taken for another's."""
SEEKS_A_CELL: Final = 1 << 20


class ModelError(Exception):
    """A sub-call failed. `fault` is one word, the message says what to do."""

    __module__ = "builtins"  # shown without a module's name, as Python's own errors are

    def __init__(self, message: str, fault: str = "server") -> None:
        super().__init__(message)
        self.fault = fault

    def __reduce__(self) -> tuple[Any, ...]:
        return remade, (type(self).__name__, self.args, self.__dict__)


class LimitReached(ModelError):
    """A budget does not allow the sub-call; nothing was spent on it. Of a batch that was refused,
    `limit` names the budget, `used`, `asked` and `ceiling` are in its unit, `fit` of them would
    fit.
    """

    __module__ = "builtins"

    def __init__(
        self, message: str, fault: str = "limit", refusal: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, fault)
        figures = refusal or {}
        unit = 1e6 if figures.get("limit") == "max_usd" else 1
        self.limit: str | None = figures.get("limit")
        self.used, self.asked, self.ceiling = (
            figures[name] / unit if figures else None for name in ("used", "asked", "ceiling")
        )
        self.fit: int | None = figures.get("fit")


class BatchFailed(ModelError):
    """Some sub-calls of a batch failed. `results` is aligned with the prompts, None where one
    failed; `errors` maps the position of each failed one to its exception.
    """

    __module__ = "builtins"

    def __init__(self, results: list[Any], errors: dict[int, ModelError], what: str = "") -> None:
        first = next(iter(errors.values()))
        whole = (
            f"{len(errors)} of {len(results)} sub-calls failed, the first with: {first} "
            "(the others are in .results of this exception, and in `calls`)"
        )
        super().__init__(what or whole, first.fault)
        self.results = results
        self.errors = errors


def remade(kind: str, given: tuple[Any, ...], fields: dict[str, Any]) -> ModelError:
    """Make a failure again, for `copy` and `pickle`, which would not find its class."""
    known = {one.__name__: one for one in (ModelError, LimitReached, BatchFailed)}[kind]
    error = known.__new__(known)
    error.args = given
    error.__dict__.update(fields)
    return error


@dataclass(slots=True)
class Call:
    """One sub-call and what it brought: `text`, or `error` where it failed."""

    call: int
    prompt: str
    text: str | None
    error: str | None = None


@dataclass(slots=True)
class Calls:
    """Makes sub-calls over the wire."""

    client: Client
    log: list[Call] = field(default_factory=list)
    """The model's `calls`."""
    cell: int = 0
    next_batch: int = 0
    next_seek: int = 0
    open: bool = False
    """A cell is running. Threads that outlive their cell must wait for the next one."""
    _budget: dict[str, Any] = field(default_factory=dict)
    _told_at_s: float = 0.0

    def begin(self, frame: Frame) -> None:
        """Take from a cell's frame what sub-calls need."""
        self.cell, self.open = frame["cell"], True
        self.next_seek = SEEK_NUMBERS + self.cell * SEEKS_A_CELL
        self.next_batch = max(self.next_batch, frame["batch"])  # a thread may still wait for one
        self.told(frame["budget"])
        for result in frame["restore"]:
            self.record(result["asked"], result)

    def told(self, budget: dict[str, Any]) -> None:
        """Remember what the host says is left."""
        self._budget, self._told_at_s = budget, time.monotonic()

    def budget(self) -> dict[str, Any]:
        """Tell what is left, the seconds counted down since the host said so."""
        left = dict(self._budget)
        if left.get("seconds") is not None:
            passed = time.monotonic() - self._told_at_s
            left["seconds"] = round(max(0.0, left["seconds"] - passed), 1)
        return left

    def make(self, purpose: str, requests: Sequence[dict[str, Any]]) -> list[Any]:
        """Ask the host for all of `requests` and wait; texts, or values where a schema was asked.

        Raises:
            LimitReached: the host refused the whole, before anything was sent.
            BatchFailed: some of several failed.
            ModelError: the only one failed.
        """
        if not requests:
            return []
        results = self.ask(purpose, requests)
        errors: dict[int, ModelError] = {}
        brought: list[Any] = []
        for position, (request, result) in enumerate(zip(requests, results, strict=True)):
            self.record(request["prompt"], result)
            try:
                brought.append(brought_by(result, is_json=request["schema"] is not None))
            except ModelError as error:
                errors[position] = error
                brought.append(None)
        if not errors:
            return brought
        raise errors[0] if len(requests) == 1 else BatchFailed(brought, errors)

    def ask(
        self, purpose: str, requests: Sequence[dict[str, Any]], task: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Ask the host for all of `requests`, or to do a task with them, and wait.

        Raises:
            LimitReached: the host refused the whole, before anything was sent.
            ModelError: the cell was stopped.
        """
        if not self.open:
            msg = "no cell is running: sub-calls belong to a cell"
            raise RuntimeError(msg)
        batch, self.next_batch = self.next_batch, self.next_batch + 1
        self.client.expect(batch)
        try:
            every = frames(self.cell, batch, purpose, requests)
            if task is not None:
                every[-1]["task"] = task
            for frame in every:
                self.client.send(frame)
            return self._answers(batch)
        except Abandoned:
            raise ModelError("the cell was stopped before the answer came", "cancelled") from None
        finally:
            self.client.close(batch)

    def seek(self, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """Ask the host to look into its own copy of the context (`abyme.core.seeks`).

        None: it does not, and whoever asks may look by itself.

        Raises:
            ModelError: the cell was stopped.
        """
        if not self.open:
            return None
        batch, self.next_seek = self.next_seek, self.next_seek + 1
        self.client.expect(batch)
        try:
            self.client.send({"t": "seek", "cell": self.cell, "batch": batch, "wanted": wanted})
            frame = self.client.receive(batch)
        except Abandoned:
            raise ModelError("the cell was stopped before the answer came", "cancelled") from None
        finally:
            self.client.close(batch)
        if frame["refused"] is not None:
            return None
        sought: dict[str, Any] = json.loads(frame["results"][0]["text"])
        return sought

    def _answers(self, batch: int) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        while True:
            frame = self.client.receive(batch)
            results += frame["results"]
            if frame["refused"] is not None:
                raise failed(frame["refused"])
            if not frame["more"]:
                self.told(frame["budget"])
                return results

    def record(self, prompt: str, result: dict[str, Any]) -> None:
        """Put what a call brought into `calls`."""
        failure = result.get("failure")
        error = failure["message"] if failure else None
        self.log.append(Call(result["call"], prompt[:SHORT_CHARS], result.get("text"), error))


def brought_by(result: dict[str, Any], *, is_json: bool) -> Any:
    """Take what a call brought, or raise its failure."""
    if result.get("failure"):
        raise failed(result["failure"])
    text = result.get("text") or ""
    if not is_json:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # the host has checked it; integers have a limit here
        raise ModelError("the reply is no JSON that can be read here", "bad_shape") from None


def failed(failure: dict[str, Any]) -> ModelError:
    """Make the exception for a failure of the host's."""
    if failure["fault"] in {"limit", "depth"}:
        return LimitReached(failure["message"], failure["fault"], failure.get("refusal"))
    return ModelError(failure["message"], failure["fault"])


def frames(
    cell: int, batch: int, purpose: str, requests: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Cut a batch into frames: long texts first, piece by piece, then the requests.

    Raises:
        ValueError: if one text is too long to be sent at all.
    """
    if len(requests) > MAX_CALLS:
        msg = f"{len(requests):,} sub-calls in one batch; {MAX_CALLS:,} are allowed: make several"
        raise ValueError(msg)
    total = sum(map(_chars, requests))
    if total > MAX_BATCH_CHARS:
        msg = f"a batch with {total:,} characters; {MAX_BATCH_CHARS:,} are allowed: make several"
        raise ValueError(msg)
    done: list[dict[str, Any]] = []
    group: list[dict[str, Any]] = []
    chars = 0
    for position, request in enumerate(requests):
        size = _chars(request)
        if size > MAX_TEXT_CHARS:
            msg = (
                f"a sub-call with {size:,} characters is too long: {MAX_TEXT_CHARS:,} are allowed; "
                "split the text"
            )
            raise ValueError(msg)
        if size > PIECE_CHARS:
            done += pieces(cell, batch, position, request)
            request = {**request, "prompt": "", "text": request["text"] and ""}  # noqa: PLW2901
            size = 0
        size += REQUEST_CHARS + SPAN_CHARS * len(request["spans"]) + len(request["schema"] or "")
        if group and chars + size > FRAME_CHARS:
            done.append(_calls(cell, batch, purpose, group, more=True))
            group, chars = [], 0
        group.append(request)
        chars += size
    return [*done, _calls(cell, batch, purpose, group, more=False)]


def _chars(request: dict[str, Any]) -> int:
    return len(request["prompt"]) + len(request["text"] or "")


def pieces(cell: int, batch: int, position: int, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Cut a long prompt and text of one request into frames that the host puts together."""
    return [
        {
            "t": "piece",
            "cell": cell,
            "batch": batch,
            "position": position,
            "part": part,
            "text": request[part][start : start + PIECE_CHARS],
        }
        for part in ("prompt", "text")
        for start in range(0, len(request[part] or ""), PIECE_CHARS)
    ]


def _calls(
    cell: int, batch: int, purpose: str, requests: list[dict[str, Any]], *, more: bool
) -> dict[str, Any]:
    return {
        "t": "calls",
        "cell": cell,
        "batch": batch,
        "purpose": purpose,
        "requests": requests,
        "more": more,
    }
