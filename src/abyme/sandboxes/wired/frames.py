"""The schema of the wire between a session and its guest: closed, typed, bounded.

Decides what a guest may say. Whatever does not fit is a `ProtocolViolation`;
the guest may be hostile, so nothing here is believed beyond its type and size,
and an error's text never carries what the guest sent.

Host to guest (cut by `told`; `parts` counts the `part` frames right before)::

    part     text
    restore  results [result], parts
    cell     cell, code, batch (first free number), budget, roll_backs (seen so far), parts
    keep     cell
    begin    seed (of `random`; once, before the first cell)
    answer   batch, results [result], refused (failure or null), budget, more, parts

    result:  call, text or failure, confidence, asked;  failure: fault, message, ...

Guest to host: the structs below, tagged by ``t``. A batch of calls is one `Calls`
frame, or several with ``more``; a prompt or text of millions of characters goes
before it in `Piece` frames. Of `map` and `reduce` an item is the prompt of a request, in which
nothing else stands, and the last frame has the task. `Finished` or `RolledBack` ends a cell.
A `Finished` that is `held` ends nothing yet: a snapshot stands behind it, and the host says
``keep``, which `Kept` answers, or has the REPL rolled back.
"""

import json
import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from abyme.core.effects import Result
from abyme.core.events import MAX_SAMPLES, Computed, Failure, Place
from abyme.core.seeks import Seek
from abyme.errors import ProtocolViolation
from abyme.wire import has_costly_numbers, has_more_values

MAX_TEXT_CHARS = 64 << 20
MAX_BATCH = 100_000
MAX_OPEN_BYTES = 256 << 20
"""Of texts in the host's memory, in all batches of a session that are not answered."""
MAX_ANSWER_BYTES = 8 << 20
MAX_FINISHED_BYTES = 32 << 20
"""An output, an error and a draft."""
MAX_SMALL_BYTES = 1 << 16
MAX_SURROGATE_BYTES = 9 << 20
"""Of a frame that msgspec does not take, because it holds half of a surrogate pair."""
MAX_VALUES = 120_000
"""Of an answer or a draft, whose types are open: an empty list takes 3 bytes here and 64 there, and
the loop stands still while they are made."""
MAX_CALLS_VALUES = 500_000
"""Of a frame with requests: as many as `MAX_SPANS` have, each of three numbers."""
MAX_DEPTH = 100
MAX_CALLS_BYTES = 16 << 20
"""Of a frame with requests, or one piece: the guest cuts them at a million characters."""
MAX_SEEK_BYTES = 2 << 20
"""As many document numbers as a node has texts."""
MAX_SPANS = 100_000
"""Of one request."""
MAX_SCHEMA_CHARS = 8 << 10
MAX_SCHEMA_DEPTH = 20
MAX_INSTRUCTION_CHARS = 64 << 10
MAX_LABELS = 1_000
MAX_PACK = 10_000

Number = Annotated[int, Meta(ge=0, le=1 << 50)]
Span = tuple[Number, Number, Number]
"""Document, start, end."""
Short = Annotated[str, Meta(max_length=200)]
Long = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
SchemaText = Annotated[str, Meta(max_length=MAX_SCHEMA_CHARS)]
"""JSON that nothing has looked at yet; see `schema`."""
Label = Annotated[str, Meta(min_length=1, max_length=200)]


class Frame(Struct, frozen=True, kw_only=True, tag_field="t", forbid_unknown_fields=True):
    """Base of what a guest may send."""


class Ready(Frame, frozen=True, kw_only=True, tag="ready"):
    """The REPL is up, and these layers were verified from inside."""

    layers: Annotated[list[Short], Meta(max_length=50)]
    snapshots: bool


class Refused(Frame, frozen=True, kw_only=True, tag="refused"):
    """A layer is not on; the REPL has ended itself."""

    layer: Short


class Wanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request of a batch."""

    prompt: Long
    text: Long | None
    model: Short | None
    fresh: bool
    spans: Annotated[list[Span], Meta(max_length=MAX_SPANS)] = []
    """For a child, in place of a text."""
    shape: Literal["text", "documents", "list"] = "text"
    schema: SchemaText | None = None


class Task(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be done with the items of a batch; see `abyme.core.events.Task`."""

    instruction: Annotated[str, Meta(min_length=1, max_length=MAX_INSTRUCTION_CHARS)]
    labels: Annotated[list[Label], Meta(min_length=1, max_length=MAX_LABELS)] | None
    schema: SchemaText | None
    samples: Annotated[int, Meta(ge=1, le=MAX_SAMPLES)]
    pack: Annotated[int, Meta(ge=0, le=MAX_PACK)]
    model: Short | None
    fresh: bool
    price_only: bool


class Piece(Frame, frozen=True, kw_only=True, tag="piece"):
    """The next part of a long prompt or text."""

    cell: Number
    batch: Number
    position: Number
    part: Literal["prompt", "text"]
    text: Long


class Calls(Frame, frozen=True, kw_only=True, tag="calls"):
    """A batch, or with `more` the next part of one."""

    cell: Number
    batch: Number
    purpose: Literal["llm", "rlm", "map", "reduce"]
    requests: Annotated[list[Wanted], Meta(max_length=MAX_BATCH)]
    more: bool
    task: Task | None = None


class Seeks(Frame, frozen=True, kw_only=True, tag="seek"):
    """A question to the context, which the host answers from its own copy: an `answer` with one
    result, whose text is JSON of `abyme.core.seeks.Sought`.
    """

    cell: Number
    batch: Number
    wanted: Seek


class Submit(Frame, frozen=True, kw_only=True, tag="submit"):
    """An answer."""

    cell: Number
    value: Any
    evidence: Annotated[list[Place | Long], Meta(max_length=10_000)]
    derivations: Annotated[list[Computed], Meta(max_length=20)] = []


class Changed(Struct, frozen=True, kw_only=True):
    """A name that a cell made or changed."""

    name: Short
    type: Short
    size: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] | None
    digest: Short | None
    aside: bool = False


class Finished(Frame, frozen=True, kw_only=True, tag="finished"):
    """The cell ended by itself, or was interrupted."""

    cell: Number
    output: Long
    dropped_chars: Number
    error: Annotated[str, Meta(max_length=20_000)] | None
    interrupted: bool
    changed: Annotated[list[Changed], Meta(max_length=100)]
    draft: Any
    notes: Annotated[list[Annotated[str, Meta(max_length=500)]], Meta(max_length=20)]
    can_roll_back: bool
    held: bool
    """Its process waits beside its snapshot for the host's word; or has run out of memory."""
    violations: Annotated[list[Short], Meta(max_length=20)] = []
    """Modules that it tried to import and may not."""


class Kept(Frame, frozen=True, kw_only=True, tag="kept"):
    """The process that waited goes on, and its snapshot is gone."""

    cell: Number


class RolledBack(Frame, frozen=True, kw_only=True, tag="rolled_back"):
    """The process that ran the cell, or waited for one, is gone; the snapshot goes on."""

    code: Annotated[int, Meta(ge=-255, le=255)]
    """As in subprocess."""
    number: Number
    """From 1 within the session."""


GuestFrame = Ready | Refused | Piece | Calls | Seeks | Submit | Finished | Kept | RolledBack


MAX_BYTES = {
    "ready": MAX_SMALL_BYTES,
    "refused": MAX_SMALL_BYTES,
    "rolled_back": MAX_SMALL_BYTES,
    "kept": MAX_SMALL_BYTES,
    "piece": MAX_CALLS_BYTES,
    "calls": MAX_CALLS_BYTES,
    "seek": MAX_SEEK_BYTES,
    "submit": MAX_ANSWER_BYTES + MAX_SMALL_BYTES,
    "finished": MAX_FINISHED_BYTES,
}
"""Of a whole frame."""
MOST_BYTES = max(MAX_BYTES.values())
MOST_VALUES = {"calls": MAX_CALLS_VALUES, "submit": MAX_VALUES, "finished": MAX_VALUES}
OF_A_CELL = ("piece", "calls", "seek", "submit")
"""Kinds that a thread may send when its cell has ended."""


class Head(Struct):
    """What tells whether a frame is wanted: the rest is skipped, and no object is made of it."""

    t: str
    cell: Number = -1
    batch: Number = -1
    more: bool = False


def head(body: bytes | bytearray) -> Head:
    """Read the head of what a guest sent.

    Raises:
        ProtocolViolation: it is not a frame, or too long for its kind.
    """
    try:
        found = _head(body)
    except msgspec.DecodeError:
        raise ProtocolViolation("the guest sent bytes that are not a frame") from None
    except RecursionError:
        raise ProtocolViolation("the guest sent a value that is nested too deeply") from None
    if len(body) > MAX_BYTES.get(found.t, MAX_SMALL_BYTES):
        raise ProtocolViolation("the guest sent a frame that is too long for its kind")
    return found


def _head(body: bytes | bytearray) -> Head:
    try:
        return _HEAD.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if len(body) > MAX_SURROGATE_BYTES:
            raise
        # as on half of a surrogate pair: here any character will do
        return _HEAD.decode(body.replace(rb"\ud", rb"\u1").replace(rb"\uD", rb"\u1"))


def decode(body: bytes | bytearray) -> GuestFrame:
    """Make a frame of what a guest sent.

    Raises:
        ProtocolViolation: if it is none of them.
    """
    return frame_of(head(body), body)


def frame_of(begun: Head, body: bytes | bytearray) -> GuestFrame:
    """Make the frame that has this head; as `decode`."""
    try:
        frame = _decoded(begun.t, body)
    except msgspec.ValidationError:
        raise ProtocolViolation("the guest sent a frame that is not in the schema") from None
    except (msgspec.DecodeError, ValueError):
        raise ProtocolViolation("the guest sent bytes that are not a frame") from None
    except RecursionError:
        raise ProtocolViolation("the guest sent a value that is nested too deeply") from None
    if isinstance(frame, Submit | Finished) and body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(frame.value if isinstance(frame, Submit) else frame.draft)
    return frame


def _decoded(kind: str, body: bytes | bytearray) -> GuestFrame:
    if kind in MOST_VALUES:
        _check_cost(kind, body)
    try:
        return _FRAME.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if len(body) > MAX_SURROGATE_BYTES or b"\\ud" not in body.lower():
            raise
    _check_cost(kind, body)
    plain = json.loads(body, parse_constant=_refuse, parse_float=_finite)
    converted: GuestFrame = msgspec.convert(plain, GuestFrame)
    return converted


def _check_cost(kind: str, body: bytes | bytearray) -> None:
    """Refuse what takes long to make, before it is made."""
    if has_more_values(body, MOST_VALUES.get(kind, MAX_VALUES)):
        raise ProtocolViolation("the guest sent a value of too many parts")
    if kind != "calls" and has_costly_numbers(body):
        raise ProtocolViolation("the guest sent too many numbers that are long to read")


def _refuse(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_HEAD = msgspec.json.Decoder(Head)
_FRAME: msgspec.json.Decoder[GuestFrame] = msgspec.json.Decoder(GuestFrame, float_hook=_finite)
"""Its own way takes 7 microseconds for some numbers: ten times what Python does."""


def schema(text: str) -> dict[str, Any]:
    """Read a JSON Schema, as far as it is plain JSON; what it says is not looked at.

    Raises:
        ProtocolViolation: it is not a JSON object, or nested too deeply.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
    except (ValueError, RecursionError):
        raise ProtocolViolation("the guest sent a schema that is not JSON") from None
    if not isinstance(value, dict):
        raise ProtocolViolation("the guest sent a schema that is not an object")
    _check_depth(value, MAX_SCHEMA_DEPTH)
    return value


def _whole(text: str) -> int:
    """Read a number that a journal can hold."""
    if len(text) > 18:
        raise ValueError(text)
    return int(text)


def _check_depth(value: Any, most: int = MAX_DEPTH) -> None:
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(most + 1):
        level = [
            item
            for holder in level
            for item in (holder.values() if type(holder) is dict else holder)
            if type(item) is list or type(item) is dict
        ]
        if not level:
            return
    raise ProtocolViolation("the guest sent a value that is nested too deeply")


def result(given: Result) -> dict[str, Any]:
    """Make a result what a guest reads."""
    return {
        "call": given.call,
        "text": given.text,
        "failure": failure(given.failure),
        "confidence": given.confidence,
        "asked": given.asked,
    }


def failure(given: Failure | None) -> dict[str, Any] | None:
    """Make a failure what a guest reads."""
    return None if given is None else msgspec.to_builtins(given)
