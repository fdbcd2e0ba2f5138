"""Readers of bytes that were written elsewhere: an index, a line of a journal, a model's reply."""

import json

from abyme import layout
from abyme.core import replies
from abyme.core.events import Record
from abyme.journals import codec
from abyme.wire import has_more_values


def index(data: bytes) -> None:
    """An index that is taken has every text inside of the arena."""
    arena_bytes = int.from_bytes(data[:2], "little")
    try:
        read = layout.read_index(data[2:], arena_bytes)
    except ValueError:
        return
    for number in range(len(read)):
        entry = read[number]
        assert entry.offset + entry.size_bytes <= arena_bytes
        assert entry.chars * layout.WIDTH[entry.kind] == entry.size_bytes


def journal_line(data: bytes) -> None:
    """A line is a record, which survives being written, or a ValueError."""
    try:
        record = codec.decode(data, Record)
    except ValueError:
        return
    assert codec.decode(codec.encode(record), Record) == record


def reply(data: bytes) -> None:
    """Any text is a reply, and its code is a part of it."""
    text = data.decode("utf-8", "replace")
    found = replies.parse(text)
    assert len(found.kept) <= len(text)
    if found.code is not None:
        assert found.code.strip()
        assert len(found.code) <= len(text) + 1


def counted_values(data: bytes) -> None:
    """The number of values is never taken for less than it is, and for more only by keys."""
    try:
        value = json.loads(data, object_pairs_hook=lambda pairs: [held for _, held in pairs])
    except (ValueError, RecursionError):
        has_more_values(data, 1)
        return
    values, most = _count(value)
    for limit in (1, 3, 10):
        if values > limit + 1:
            assert has_more_values(data, limit)
        if most <= limit:
            assert not has_more_values(data, limit)


def _count(value: object) -> tuple[int, int]:
    """How many values there are, and how many signs of them at most."""
    held, signs, todo = 0, 0, [value]
    while todo:
        one = todo.pop()
        held += 1
        if isinstance(one, list):
            signs += max(1, len(one))
            todo += one
    return held, signs
