"""Frames of a guest, right and wrong: a valid one of every kind, and what may be wrong with one.

The strings of a guest all hold `MARK`, so that one which leaks into an error can be seen.
"""

import copy
from typing import Any

from fuzz.choices import Choices

MARK = "gUeSt"

REQUEST = {"prompt": MARK, "text": None, "model": None, "fresh": False}
CHILD = {**REQUEST, "text": MARK, "spans": [], "shape": "text", "schema": None}
SPANS = {**REQUEST, "spans": [[0, 0, 1], [1, 2, 3]], "shape": "documents"}
SCHEMA = {**REQUEST, "schema": '{"type": "string"}'}
TASK = {
    "instruction": MARK,
    "labels": [MARK, "b"],
    "schema": None,
    "samples": 1,
    "pack": 0,
    "model": None,
    "fresh": False,
    "price_only": False,
}
CALLS = {"t": "calls", "cell": 1, "batch": 0, "purpose": "llm", "requests": [REQUEST]}
FRAMES: tuple[dict[str, Any], ...] = (
    {**CALLS, "more": False},
    {**CALLS, "more": True},
    {**CALLS, "more": False, "requests": [SCHEMA, REQUEST]},
    {**CALLS, "more": False, "purpose": "rlm", "requests": [CHILD, SPANS]},
    {**CALLS, "more": False, "purpose": "map", "task": TASK},
    {**CALLS, "more": False, "purpose": "reduce", "task": {**TASK, "labels": None}},
    {"t": "piece", "cell": 1, "batch": 0, "position": 0, "part": "prompt", "text": MARK},
    {"t": "piece", "cell": 1, "batch": 0, "position": 0, "part": "text", "text": MARK},
    {"t": "submit", "cell": 1, "value": {MARK: [1, MARK]}, "evidence": [MARK]},
    {
        "t": "finished",
        "cell": 1,
        "output": MARK,
        "dropped_chars": 0,
        "error": None,
        "interrupted": False,
        "changed": [{"name": MARK, "type": MARK, "size": 1, "digest": MARK}],
        "draft": None,
        "notes": [MARK],
        "can_roll_back": True,
        "held": False,
    },
    {"t": "kept", "cell": 1},
    {"t": "rolled_back", "code": -9, "number": 1},
    {"t": "ready", "layers": [MARK], "snapshots": True},
    {"t": "refused", "layer": MARK},
)

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, -1, 1 << 50, 1 << 63, 10**30, 1.5, -0.0, 1e308, "", MARK,
    MARK * 50, "\0\x1b[2J" + MARK, "\ud800" + MARK, "\U0001f600" * 3, [], {}, [[]] * 3,
    {MARK: None}, [MARK] * 101,
    [0, 0, 0], "calls", "finished", '{"a":' * 30 + "1" + "}" * 30, "[" * 200, "NaN", {"t": "kept"},
)  # fmt: skip


def valid(kind: dict[str, Any], *, cell: int, batch: int, roll_back: int) -> dict[str, Any]:
    """A frame that is right now."""
    frame = copy.deepcopy(kind)
    for name, now in (("cell", cell), ("batch", batch), ("number", roll_back)):
        if name in frame:
            frame[name] = now
    return frame


def spoil(frame: dict[str, Any], choices: Choices) -> None:
    """Change, add or take away something, here or further in."""
    holder: Any = frame
    key: Any = choices.pick(list(frame))
    while isinstance(holder[key], dict | list) and holder[key] and choices.byte() % 2:
        holder = holder[key]
        key = choices.pick(list(holder) if isinstance(holder, dict) else range(len(holder)))
    wrong = choices.byte() % 4
    if wrong == 0:
        del holder[key]
    elif wrong == 1 and isinstance(holder, dict):
        holder[MARK] = choices.pick(ODD)
    elif wrong == 2 and isinstance(holder[key], int):
        holder[key] += choices.pick((1, -1, 2, 256, 100_000))
    else:
        holder[key] = choices.pick(ODD)
