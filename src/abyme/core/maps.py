"""`llm_map`: many small items, packed into few calls; replies read, checked, asked for again.

Decides which items stand in a call, what a reply says of each, which are asked again, and
which value an item has in the end. Invariants: every position gets exactly one result, whatever
is replied; equal items are asked once; a value that fits is taken and nothing else is, so that
a position is never filled by a guess; votes count the same in whatever order they arrive.

Pure and bounded: a reply is read in time that grows with its length, and an item is asked at
most `MOST_AGAIN` times again for each of its samples. Does not make calls (`planned`).
"""

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from abyme.core import events as ev
from abyme.core import schemas, shapes, slots, tokens
from abyme.core.effects import Result
from abyme.core.ids import CallId
from abyme.core.jobs import Ask, Expected, Moves, Reply
from abyme.core.profile import SubPrompts

NO_CALL: Final = CallId(0)
"""Of a result that no call was made for."""
MOST_AGAIN: Final = 2
OUTPUT_PERCENT: Final = 60
"""Of the cap on output that a reply is expected to take."""
TOO_LARGE: Final = frozenset({"context_length", "output_cap"})
"""Faults that fewer items in a call may mend."""
MOST_WRONG_CHARS: Final = 300
MOST_SHOWN_CHARS: Final = 40
WRONG_TOKENS: Final = 150
"""Of the words about what was wrong before."""
MOST_STARTS: Final = 20
"""Places in a reply where JSON is tried to begin."""
MOST_PROPERTIES: Final = 1_000
MOST_ENUM: Final = 250
MOST_ENUM_CHARS: Final = 15_000
"""Of a form. A larger enum may have so many characters at most, and a schema 5,000 properties
(platform.openai.com/docs/guides/structured-outputs, "Supported schemas")."""
ENTRY_TOKENS: Final = 6
"""Of a number as a key, quotes, colon and comma."""
TEXT_TOKENS: Final = 32
MOST_TEXT_TOKENS: Final = 400
"""To expect of a free text: so many and a quarter of its item, but not more than the other."""


class MapJob:
    """One `llm_map`. Implements `abyme.core.jobs.Job`.

    `known` are positions that have their result: they are not asked, and in no `Moves`. The
    number of an ask's sample goes on with the times that it was asked before (vote + samples
    x times), so that what is asked again is another ask and not answered from the first.
    """

    def __init__(
        self,
        items: Sequence[str],
        task: ev.Task,
        model: ev.ModelFacts,
        prompts: SubPrompts,
        known: Mapping[int, Result],
    ) -> None:
        self._task = task
        self._prompts = prompts
        self._values = _Values(task, prompts)
        places: dict[str, list[int]] = {}
        for position, text in enumerate(items):
            places.setdefault(text, []).append(position)
        self._texts = list(places)
        self._seats = [[p for p in seats if p not in known] for seats in places.values()]
        self._item_at = {seat: item for item, seats in enumerate(self._seats) for seat in seats}
        self._votes: list[dict[int, _Vote]] = [{} for _ in self._texts]
        self._results = _from_equals(places, known)
        packs, failures = self._packs(model)
        for item, failure in failures:
            result = Result(call=NO_CALL, failure=failure)
            self._results += [(seat, result) for seat in self._seats[item]]
        have = {self._item_at[seat] for seat, _ in self._results}
        open_ = [[i for i in pack if self._seats[i] and i not in have] for pack in packs]
        self._open = [pack for pack in open_ if pack]

    # -- the plan ----------------------------------------------------------------

    def expected(self) -> list[Expected]:
        """Say which calls to expect, in the order of `begin`."""
        each = [
            Expected(
                self._instruction_tokens
                + slots.FENCE_TOKENS
                + sum(self._tokens[item] for item in pack),
                self._output_tokens(pack),
            )
            for pack in self._open
        ]
        return each * self._task.samples

    def begin(self) -> Moves:
        """Ask for all items once a sample: the first votes of all, then the second..."""
        asks = []
        for sample in range(self._task.samples):
            for pack in self._open:
                turn = len(pack) * sample // self._task.samples
                turned = pack[turn:] + pack[:turn]
                asks.append(self._ask(turned[::-1] if sample % 2 else turned, sample))
        return Moves(asks, list(self._results))

    def _packs(self, model: ev.ModelFacts) -> tuple[list[list[int]], list[tuple[int, ev.Failure]]]:
        """Fill calls in order, by number, window and output. Known items take their place too:
        the packs of a run that goes on are those that it had.
        """
        most = self._task.pack or self._prompts.map_items
        own = tokens.estimate(self._instruction(most)) + tokens.estimate(self._prompts.data_remark)
        again = tokens.estimate(self._prompts.map_again) + WRONG_TOKENS
        self._instruction_tokens = own
        room = slots.room_tokens(model, own + again)
        self._sizes(room)
        most_output = model.max_output_tokens * OUTPUT_PERCENT // 100
        packs: list[list[int]] = []
        failures: list[tuple[int, ev.Failure]] = []
        material = output = 0
        for item, size in enumerate(self._tokens):
            if size > room:
                message = slots.too_large("the item", size, room, model)
                failures.append((item, ev.Failure(fault="context_length", message=message)))
                continue
            material, output = material + size, output + self._outputs[item]
            if not packs or len(packs[-1]) >= most or material > room or output > most_output:
                packs.append([])
                material, output = size, self._outputs[item]
            packs[-1].append(item)
        return packs, failures

    def _sizes(self, room: int) -> None:
        """Estimate what each item takes of a prompt and of a reply. What seems not to fit is
        looked at by itself: of many items only some are.
        """
        laid = [slots.indented(text) for text in self._texts]
        sizes = tokens.estimate_each(laid)
        for item, size in enumerate(sizes):
            if 0 < room < size + slots.NUMBER_TOKENS:
                sizes[item] = tokens.estimate(laid[item])
        self._tokens = [size + slots.NUMBER_TOKENS for size in sizes]
        self._outputs = [ENTRY_TOKENS + self._values.tokens(size) for size in sizes]

    def _instruction(self, count: int) -> str:
        return slots.fill(
            self._prompts.map,
            instruction=self._task.instruction,
            count=str(count),
            values=self._values.words,
        )

    def _output_tokens(self, items: Sequence[int]) -> int:
        return sum(self._outputs[item] for item in items)

    def _ask(self, items: Sequence[int], sample: int, wrong: str = "") -> Ask:
        prompt = self._instruction(len(items))
        if wrong:
            prompt = f"{prompt}\n\n{slots.fill(self._prompts.map_again, wrong=wrong)}"
        return Ask(
            positions=tuple(seat for item in items for seat in self._seats[item]),
            prompt=prompt,
            text=slots.numbered([self._texts[item] for item in items]),
            form=self._values.form(len(items)),
            logprobs=self._by_tokens,
            sample=sample,
            output_tokens=self._output_tokens(items),
        )

    @property
    def _by_tokens(self) -> bool:
        """Confidence comes from log-probabilities: of one reply there is no share of votes."""
        return self._task.labels is not None and self._task.samples == 1

    # -- what comes of it --------------------------------------------------------

    def replied(self, ask: Ask, reply: Reply) -> Moves:
        """Take the values that fit; ask again for the others, in halves if the reply was cut."""
        items = self._items_of(ask)
        found = _read(reply, len(items), self._values)
        moves, missing = Moves(), {}
        for number, item in enumerate(items, 1):
            one = found[number]
            if isinstance(one, str):
                missing[item] = one
            else:
                self._vote(moves, item, ask, self._vote_of(one, reply))
        self._again(moves, ask, missing, reply.call, halved=reply.cut)
        return moves

    def failed(self, ask: Ask, call: CallId, failure: ev.Failure) -> Moves:
        """Give the items of a call its failure; of one that was too large ask for halves."""
        items = self._items_of(ask)
        moves = Moves()
        if failure.fault in TOO_LARGE and len(items) > 1 and self._times(ask) < MOST_AGAIN:
            self._again(moves, ask, dict.fromkeys(items, ""), call, halved=True)
            return moves
        for item in items:
            self._vote(moves, item, ask, _Vote(call, failure=failure))
        return moves

    def _items_of(self, ask: Ask) -> list[int]:
        return list(dict.fromkeys(self._item_at[position] for position in ask.positions))

    def _times(self, ask: Ask) -> int:
        """Tell how often the items of an ask had been asked before."""
        return ask.sample // self._task.samples

    def _again(
        self, moves: Moves, ask: Ask, missing: dict[int, str], call: CallId, *, halved: bool
    ) -> None:
        sample = ask.sample % self._task.samples
        open_ = [item for item in missing if sample not in self._votes[item]]
        if self._times(ask) >= MOST_AGAIN:
            for item in open_:
                message = f"asked {MOST_AGAIN + 1} times, no reply of use; last: {missing[item]}"
                failure = ev.Failure(fault="bad_shape", message=message)
                self._vote(moves, item, ask, _Vote(call, failure=failure))
            return
        middle = (len(open_) + 1) // 2 if halved else len(open_)
        for part in (open_[:middle], open_[middle:]):
            if part:
                wrong = _said_of([missing[item] for item in part])
                moves.asks.append(self._ask(part, ask.sample + self._task.samples, wrong))

    def _vote_of(self, found: "_Found", reply: Reply) -> "_Vote":
        text = json.dumps(found.value, ensure_ascii=False)
        same = json.dumps(found.value, sort_keys=True)
        sure = _sure_of(found, reply.doubts) if self._by_tokens else None
        return _Vote(reply.call, text=text, same=same, confidence=sure)

    def _vote(self, moves: Moves, item: int, ask: Ask, vote: "_Vote") -> None:
        """Count a vote; with the last one the item has its result."""
        votes, samples = self._votes[item], self._task.samples
        if votes.setdefault(ask.sample % samples, vote) is vote and len(votes) == samples:
            result = _elected([votes[sample] for sample in range(samples)])
            moves.results.extend((seat, result) for seat in self._seats[item])


@dataclass(frozen=True, slots=True)
class _Vote:
    """What one sample brought of an item."""

    call: CallId
    text: str | None = None
    """The value, as JSON."""
    same: str = ""
    """Its canonical form."""
    failure: ev.Failure | None = None
    confidence: float | None = None


def _elected(votes: Sequence[_Vote]) -> Result:
    """Take the value with most votes, of several the one that the first sample has."""
    counts: dict[str, int] = {}
    for vote in votes:
        if vote.failure is None:
            counts[vote.same] = counts.get(vote.same, 0) + 1
    if not counts:
        return Result(call=votes[0].call, failure=votes[0].failure)
    best = max(counts, key=lambda same: counts[same])
    first = next(vote for vote in votes if vote.failure is None and vote.same == best)
    share = first.confidence if len(votes) == 1 else counts[best] / len(votes)
    return Result(call=first.call, text=first.text, confidence=share)


def _from_equals(
    places: Mapping[str, Sequence[int]], known: Mapping[int, Result]
) -> list[tuple[int, Result]]:
    """Give positions the result that an equal item has."""
    found = []
    for seats in places.values():
        had = [known[seat] for seat in seats if seat in known and known[seat].failure is None]
        if had:
            found += [(seat, had[0]) for seat in seats if seat not in known]
    return found


def _sure_of(found: "_Found", doubts: Sequence[ev.Doubt] | None) -> float | None:
    """Probability of a value's tokens. Those above `events.SURE` are not listed: where all
    are, that is what is said, being the least that each of them had.
    """
    if doubts is None:
        return None
    at = bisect_right(doubts, found.start, key=lambda doubt: doubt.end)
    total = 0.0
    while at < len(doubts) and doubts[at].start < found.end:
        total += doubts[at].logprob
        at += 1
    return min(ev.SURE, math.exp(min(0.0, total)))


def _said_of(reasons: Sequence[str]) -> str:
    """Say in a line what was wrong with items that are asked again, by their new numbers."""
    numbers: dict[str, list[int]] = {}
    for number, reason in enumerate(reasons, 1):
        if reason:
            numbers.setdefault(reason, []).append(number)
    said = []
    for reason, which in numbers.items():
        shown = ", ".join(map(str, which[:8])) + (", ..." if len(which) > 8 else "")
        said.append(f"{shown}: {reason}")
        if sum(map(len, said)) > MOST_WRONG_CHARS:
            break
    return _cut("; ".join(said), MOST_WRONG_CHARS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


# -- values ----------------------------------------------------------------------


class _Unfit(Exception):
    """A value cannot be taken; the words say why."""


class _Values:
    """What values may be: in words, as a form, by size, and whether one is."""

    def __init__(self, task: ev.Task, prompts: SubPrompts) -> None:
        self._labels = task.labels
        self._schema = task.schema
        self._forms: dict[int, dict[str, Any]] = {}
        self._defs: dict[str, Any] = {}
        self._inner: dict[str, Any] = {"type": "string"}
        self._tokens: int | None = None
        if task.labels is not None:
            self._know(task.labels)
            said = ", ".join(_as_json(label) for label in task.labels)
            self.words = slots.fill(prompts.map_labels, labels=said)
        elif task.schema is not None:
            self._inner, self._defs = _merged(task.schema)
            self._tokens = _guessed(task.schema, task.schema, {}, 0)
            self.words = slots.fill(prompts.map_schema, schema=_as_json(task.schema))
        else:
            self.words = prompts.map_text

    def _know(self, labels: list[str]) -> None:
        self._tokens = max(map(tokens.estimate, labels), default=0)
        self._longest = max(map(len, labels), default=0)
        self._exact = frozenset(labels)
        self._alike: dict[str, str | None] = {}
        for label in labels:
            alike = _alike(label)
            self._alike[alike] = None if alike in self._alike else label
        if len(labels) <= MOST_ENUM or sum(map(len, labels)) <= MOST_ENUM_CHARS:
            self._inner = {"$ref": "#/$defs/label"}
            self._defs = {"label": {"type": "string", "enum": list(labels)}}

    @property
    def are_labels(self) -> bool:
        """A value is one of a few texts."""
        return self._labels is not None

    @property
    def has_schema(self) -> bool:
        """A value is any JSON that fits."""
        return self._labels is None and self._schema is not None

    @property
    def are_texts(self) -> bool:
        """Any text is a value: nothing tells one from prose."""
        return self._labels is None and self._schema is None

    def has_property(self, name: str) -> bool:
        """Tell whether the schema's own values have a property of this name."""
        return self._schema is not None and name in self._schema.get("properties", {})

    def tokens(self, item_tokens: int) -> int:
        """Tokens to expect of the value of an item."""
        if self._tokens is not None:
            return self._tokens
        return min(MOST_TEXT_TOKENS, TEXT_TOKENS + item_tokens // 4)

    def form(self, count: int) -> dict[str, Any]:
        """Make the JSON Schema of a reply for so many items."""
        if count not in self._forms:
            numbers = [str(number) for number in range(1, count + 1)]
            form: dict[str, Any] = {"type": "object", "additionalProperties": self._inner}
            if count <= MOST_PROPERTIES:
                form["properties"] = dict.fromkeys(numbers, self._inner)
                form |= {"required": numbers, "additionalProperties": False}
            self._forms[count] = form | ({"$defs": self._defs} if self._defs else {})
        return self._forms[count]

    def taken(self, value: Any) -> Any:
        """Give the value back as it is to be: a label as it was given, a text as one.

        Raises:
            _Unfit: it is none.
        """
        inner = _unwrapped(value)
        if self._labels is not None:
            return self._label(inner)
        if self._schema is None:
            return _text_of(inner)
        wrong = self._misfit(value)
        if wrong is None:
            return value
        if inner is not value and self._misfit(inner) is None:
            return inner
        raise _Unfit(wrong)

    def takes(self, value: Any) -> bool:
        """Tell whether a value is one."""
        try:
            self.taken(value)
        except _Unfit:
            return False
        return True

    def _misfit(self, value: Any) -> str | None:
        assert self._schema is not None
        return shapes.misfit(self._schema, value, steps_per_value=shapes.STEPS_PER_REPLIED_VALUE)

    def _label(self, value: Any) -> str:
        text = _text_of(value)
        if text in self._exact:
            return text
        if len(text) <= 2 * self._longest + MOST_SHOWN_CHARS:
            label = self._alike.get(_alike(text))
            if label is not None:
                return label
        some = " ".join(text[: 2 * MOST_SHOWN_CHARS].split())
        shown = "".join(c if c.isprintable() else "?" for c in some)
        raise _Unfit(f"'{_cut(shown, MOST_SHOWN_CHARS)}' is none of the labels")


MARKS: Final = (
    " \t\r\n\"'`*_.,;:!?()[]{}"
    "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2026\u3002\u300c\u300d"
)
"""Put around labels by those who write them. Signs that tell one from another (+ - # < %) stay."""
VALUE_NAMES: Final = ("value", "label", "answer", "result", "category", "class", "output")
NUMBER_NAMES: Final = ("number", "id", "item", "index", "no", "n", "key")


def _alike(label: str) -> str:
    """Make labels equal that differ in case, blanks, and marks around them."""
    return " ".join(label.casefold().split()).strip(MARKS) or label


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict | list):
        raise _Unfit(f"must be a string, not {schemas.kind_of(value)}")
    return json.dumps(value)


def _unwrapped(value: Any) -> Any:
    """Take the one value out of an object or array around it."""
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    if isinstance(value, dict) and value:
        named = [value[name] for name in VALUE_NAMES if name in value]
        if len(named) == 1 or len(value) == 1:
            return named[0] if named else next(iter(value.values()))
    return value


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _merged(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make definitions of a schema for use in a larger one: a reference to it, and what stands
    under ``$defs`` there. Its own definitions go beside it, where strict endpoints look.
    """
    defs = schema.get("$defs", {})
    name = "value"
    while name in defs:
        name += "_"
    left_out = {"$defs", "$schema", "$id"}
    own = {keyword: one for keyword, one in schema.items() if keyword not in left_out}
    moved = {key: _moved(one, name) for key, one in defs.items()}
    return {"$ref": f"#/$defs/{name}"}, {name: _moved(own, name), **moved}


def _moved(schema: Any, name: str) -> Any:
    """Copy a schema with its references led to where its root has gone."""
    if not isinstance(schema, dict):
        return schema
    moved: dict[str, Any] = {}
    for keyword, argument in schema.items():
        kind = (schemas.STRUCTURE | schemas.MORE).get(keyword)
        if kind == "ref":
            moved[keyword] = _led(argument, name)
        elif kind == "schema":
            moved[keyword] = _moved(argument, name)
        elif kind == "schemas":
            moved[keyword] = [_moved(one, name) for one in argument]
        elif kind in {"named", "patterns"}:
            moved[keyword] = {key: _moved(one, name) for key, one in argument.items()}
        else:
            moved[keyword] = argument
    return moved


def _led(ref: str, name: str) -> str:
    first, *rest = ref.split("/")[1:] or [""]
    if unquote(first) == "$defs" and rest:
        return "/".join(["#/$defs", *rest])
    return f"#/$defs/{name}{ref[1:]}"


def _guessed(root: dict[str, Any], schema: Any, known: dict[int, int], deep: int) -> int:
    """Guess how many tokens a value is as JSON, by its schema; each part is looked at once."""
    if not isinstance(schema, dict) or deep > 40:
        return TEXT_TOKENS
    if id(schema) not in known:
        known[id(schema)] = 0
        known[id(schema)] = min(4_000, _guessed_once(root, schema, known, deep + 1))
    return known[id(schema)]


def _guessed_once(  # noqa: PLR0911  one return a keyword
    root: dict[str, Any], schema: dict[str, Any], known: dict[int, int], deep: int
) -> int:
    def guess(inner: Any) -> int:
        return _guessed(root, inner, known, deep)

    if "$ref" in schema:
        return guess(schemas.find(root, schema["$ref"]))
    if "enum" in schema or "const" in schema:
        options = schema.get("enum", [schema.get("const")])
        return max(tokens.estimate(_as_json(one)) for one in options[:50])
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return max(guess(one) for one in schema[keyword])
    if "properties" in schema:
        named = schema["properties"].items()
        return 2 + sum(tokens.estimate(name) + 4 + guess(one) for name, one in named)
    if "items" in schema:
        count = min(max(3, schema.get("minItems", 0)), schema.get("maxItems", 1_000))
        return 2 + int(count) * (2 + guess(schema["items"]))
    kinds = schema.get("type", "string")
    if "string" in kinds:
        return int(min(TEXT_TOKENS, 2 + schema.get("maxLength", 1_000) // 3))
    return TEXT_TOKENS if "object" in kinds or "array" in kinds else 4


# -- replies ---------------------------------------------------------------------


class _Found(NamedTuple):
    """A value in a reply."""

    value: Any
    start: int
    end: int
    """Its characters, without quotes."""


class _Member(NamedTuple):
    """A value in an object or an array."""

    key: str | None
    found: _Found


class _Group(NamedTuple):
    """An object or an array, as far as it can be read."""

    members: list[_Member]
    closed: bool
    end: int


_DECODER: Final = json.JSONDecoder()
_BLANK: Final = re.compile(r"[ \t\r\n]*")
_OPENING: Final = re.compile(r"[{\[]")
_BARE_KEY: Final = re.compile(r"\d{1,6}")
_NUMBER: Final = re.compile(
    r"[\[(#]{0,2}(?:item|number|no\.?)? ?[\[(#]{0,2}(\d{1,6})(?!\d)(?:[\])]|[.:)]|$)", re.IGNORECASE
)
"""A key that begins with a number; the item may stand behind it."""
_LINE: Final = re.compile(
    r"^[ \t>*|#`(\"\[-]{0,8}(?:item|number|no\.?)?[ \t]{0,2}(\d{1,6})(?!\d)[*`)\"\]]{0,4}"
    r"(?P<mark>[ \t]{0,4}[.:)|=,\u2013\u2014-]{1,2}(?!\d)|(?=[ \t]))[ \t*|`]{0,8}"
    r"(?P<value>[^\r\n]*)",
    re.MULTILINE | re.IGNORECASE,
)
"""``1: value``, ``1. value``, ``1) value``, ``1 value``, ``| 1 | value |``."""
_PARAGRAPH: Final = re.compile(r"\n[ \t\r]*\n")
_ENDS: Final = frozenset({",", "}", "]"})
_NO_VALUE: Final = "no value came"
_CUT_OFF: Final = "the reply was cut off before it"
_TWICE: Final = "two different values came"


def _read(reply: Reply, count: int, values: _Values) -> dict[int, _Found | str]:
    """Say of each number what a reply has for it: the value, or why it has none."""
    missing = _CUT_OFF if reply.cut else _NO_VALUE
    read: dict[int, _Found | str] = dict.fromkeys(range(1, count + 1), missing)
    entries: list[tuple[int, _Found]] = []
    if count == 1 and values.are_labels:
        entries = [one for one in _bare(reply, values) if values.takes(one[1].value)]
    entries = entries or _entries(reply, count, values)
    if count == 1 and not entries:
        entries = list(_bare(reply, values))
    for number, found in entries:
        before = read[number]
        try:
            value = values.taken(found.value)
        except _Unfit as error:
            if not isinstance(before, _Found) and before != _TWICE:
                read[number] = _cut(str(error), MOST_WRONG_CHARS // 2)
            continue
        if isinstance(before, _Found) and _canonical(before.value) != _canonical(value):
            read[number] = _TWICE
        elif before != _TWICE:
            read[number] = found._replace(value=value)
    return read


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _entries(reply: Reply, count: int, values: _Values) -> list[tuple[int, _Found]]:
    """Find numbered values: in all JSON that there is, else in lines."""
    entries: list[tuple[int, _Found]] = []
    at = misses = 0
    most = 4 * count + 1_000
    while misses < MOST_STARTS and len(entries) < most:
        opening = _OPENING.search(reply.text, at)
        if opening is None:
            break
        group = _group(reply.text, opening.start(), most)
        found = list(_numbered(group, count, values))
        entries += found
        misses += not found
        at = group.end if found else opening.end()
    entries = [one for one in entries if 1 <= one[0] <= count]
    return entries or [one for one in _in_lines(reply, count, values) if 1 <= one[0] <= count]


def _group(text: str, start: int, most: int) -> _Group:
    """Read an object or an array as far as it goes; what is cut off is not a member."""
    members: list[_Member] = []
    is_object, at = text[start] == "{", start + 1
    while len(members) < most:
        at = _skipped(text, at)
        if text[at : at + 1] in {"}", "]"}:
            return _Group(members, closed=True, end=at + 1)
        try:
            key = None
            if is_object:
                key, at = _key(text, at)
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        behind = _skipped(text, end)
        if not isinstance(value, str | dict | list) and text[behind : behind + 1] not in _ENDS:
            break
        inside = int(isinstance(value, str))
        members.append(_Member(key, _Found(value, at + inside, end - inside)))
        at = behind + (text[behind : behind + 1] == ",")
    return _Group(members, closed=False, end=max(at, start + 1))


def _key(text: str, at: int) -> tuple[str, int]:
    """Read a key and its colon; a number may stand without quotes."""
    if (bare := _BARE_KEY.match(text, at)) is not None:
        key, at = bare[0], bare.end()
    else:
        key, at = _DECODER.raw_decode(text, at)
    at = _skipped(text, at)
    if not isinstance(key, str) or text[at : at + 1] != ":":
        raise ValueError("no key")
    return key, _skipped(text, at + 1)


def _skipped(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return at if blank is None else blank.end()


def _numbered(group: _Group, count: int, values: _Values) -> Iterator[tuple[int, _Found]]:
    """Give members their numbers: by their keys, by a number in each, or by their order."""
    members = group.members
    if not members:
        return
    if members[0].key is not None:
        keyed = [(_number(key), found) for key, found in members if key is not None]
        yield from ((number, found) for number, found in keyed if number is not None)
        if group.closed and not any(number is not None for number, _ in keyed):
            whole = _Found(
                {key: found.value for key, found in members},
                members[0].found.start,
                members[-1].found.end,
            )
            yield from _with_number(whole, values)
        return
    inner = [one for _, found in members for one in _with_number(found, values)]
    yield from inner
    if not inner and group.closed and len(members) == count > 1:
        kinds = {type(found.value) for _, found in members}
        if kinds == {str} or not (values.are_labels or values.are_texts):
            yield from ((number, found) for number, (_, found) in enumerate(members, 1))


def _number(key: str) -> int | None:
    found = _NUMBER.match(key.strip())
    return None if found is None else int(found[1])


def _with_number(found: _Found, values: _Values) -> Iterator[tuple[int, _Found]]:
    """Take an object that says which item it is of: its number, and the rest as the value."""
    value = found.value
    for name in NUMBER_NAMES if isinstance(value, dict) else ():
        if name not in value or values.has_property(name):
            continue
        number = value[name]
        if isinstance(number, str):
            number = _number(number)
        if isinstance(number, int) and not isinstance(number, bool):
            rest = {key: one for key, one in value.items() if key != name}
            yield number, found._replace(value=rest)
            return


def _in_lines(reply: Reply, count: int, values: _Values) -> Iterator[tuple[int, _Found]]:
    """Find ``1: value`` and the like, a line each. Where values are no labels there must be a
    mark behind the number; and of free text all lines up to a blank one or the next number count.
    """
    text = reply.text
    lines = list(islice(_LINE.finditer(text), 4 * count + 1_000))
    if not values.are_labels:
        lines = [line for line in lines if line["mark"]]
        if count == 1 < len(lines):
            return  # a list, as the only item's value
    for place, line in enumerate(lines):
        start, end = line.span("value")
        if values.are_texts:
            end = lines[place + 1].start() if place + 1 < len(lines) else len(text)
            blank = _PARAGRAPH.search(text, start, end)
            end = end if blank is None else blank.start()
        if reply.cut and end >= len(text):
            return
        raw = text[start:end].rstrip(" \t\r\n|,")
        if raw:
            yield int(line[1]), _Found(_of_line(raw, values), start, start + len(raw))


def _of_line(raw: str, values: _Values) -> Any:
    """Decode a value on a line: as JSON where that is one, else as it stands."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    return value if isinstance(value, str) or values.takes(value) else raw


def _bare(reply: Reply, values: _Values) -> Iterator[tuple[int, _Found]]:
    """Take a whole reply as the value of the only item."""
    text = reply.text.strip()
    if not text or reply.cut:
        return
    start = reply.text.index(text[0])
    whole = _Found(text, start, start + len(text))
    try:
        value = shapes.parse(text)
    except ValueError:
        if not text.startswith(("{", "[")):
            yield 1, whole
        return
    if isinstance(value, dict) and any(_number(key) is not None for key in value):
        return  # of another number
    if not values.has_schema and not text.startswith(("{", "[", '"', "`")):
        value = text
    yield 1, whole._replace(value=value)
