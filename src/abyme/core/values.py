"""What a value of `llm_map` may be: in words, as a form, in tokens, and whether one is.

Decides which value a reply's text or JSON stands for. Invariant: a value that fits is taken and
nothing else is, so that an item is never given one by a guess: a label as it was given, its code
(alone, or before the very label), or what differs from these in case and marks alone; JSON that
fits the schema; or a text. Where a text is due, a number or a truth value counts as its JSON.

Does not find values in a reply: that is `listed`.
"""

import json
import math
import re
import string
from itertools import pairwise
from typing import Any, Final
from urllib.parse import unquote

from abyme.core import events as ev
from abyme.core import schemas, shapes, slots, tokens
from abyme.core.profile import SubPrompts

MOST_SHOWN_CHARS: Final = 40
MOST_PROPERTIES: Final = 1_000
MOST_ENUM: Final = 250
MOST_ENUM_CHARS: Final = 15_000
"""Of a form. A larger enum may have so many characters at most, and a schema 5,000 properties
(platform.openai.com/docs/guides/structured-outputs, "Supported schemas")."""
TEXT_TOKENS: Final = 32
MOST_TEXT_TOKENS: Final = 400
"""To expect of a free text: so many and a quarter of its item, but not more than the other."""
CODES: Final = string.ascii_uppercase
LONG_TOKENS: Final = 2.5
"""Labels with more on the average are replied as codes, where the profile says how."""
SHORT_CHARS: Final = 2
"""A label that is as short could be taken for a code."""
DOUBT: Final = "?"


class Unfit(Exception):
    """A value cannot be taken; the words say why."""


class Values:
    """What values may be: in words, as a form, by size, and whether one is."""

    def __init__(self, task: ev.Task, prompts: SubPrompts) -> None:
        self._labels = task.labels
        self._schema = task.schema
        self._forms: dict[int, dict[str, Any]] = {}
        self._defs: dict[str, Any] = {}
        self._inner: dict[str, Any] = {"type": "string"}
        self._tokens: int | None = None
        marked = any(label.rstrip().endswith(DOUBT) for label in task.labels or ())
        self.may_be_doubtful = bool(
            prompts.map_doubt and task.labels and task.samples == 1 and not marked
        )
        """A label may be marked by `DOUBT`; not where one of them ends in it anyway."""
        self._codes: dict[str, str] = {}
        if task.labels is not None:
            if prompts.map_codes and _are_long(task.labels):
                self._codes = dict(zip(CODES, task.labels, strict=False))
            self._know(task.labels)
            each = [_as_json(label) for label in task.labels]
            if self._codes:
                each = [f"{code} = {said}" for code, said in zip(CODES, each, strict=False)]
            form = prompts.map_codes if self._codes else prompts.map_labels
            self.words = slots.fill(form, labels=", ".join(each))
        elif task.schema is not None:
            self._inner, self._defs = _merged(task.schema)
            self._tokens = _guessed(task.schema, task.schema, {}, 0)
            self.words = slots.fill(prompts.map_schema, schema=_as_json(task.schema))
        else:
            self.words = prompts.map_text

    def _know(self, labels: list[str]) -> None:
        said = list(self._codes) or labels
        self._tokens = max(map(tokens.estimate, said), default=0)
        self._longest = max(map(len, labels), default=0)
        self._exact = frozenset(labels)
        self._telling = dict.fromkeys(labels, 1)
        for one, next_ in pairwise(sorted(labels)):
            telling = 1 + _shared_chars(one, next_)
            for label in (one, next_):
                self._telling[label] = max(self._telling[label], telling)
        self._alike: dict[str, str | None] = {}
        for label in labels:
            alike = _alike(label)
            self._alike[alike] = None if alike in self._alike else label
        enum = [*said, *(one + DOUBT for one in said if self.may_be_doubtful)]
        if len(enum) <= MOST_ENUM or sum(map(len, enum)) <= MOST_ENUM_CHARS:
            self._inner = {"$ref": "#/$defs/label"}
            self._defs = {"label": {"type": "string", "enum": list(dict.fromkeys(enum))}}

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
            Unfit: it is none.
        """
        inner = _unwrapped(value)
        if self._labels is not None:
            return self._label(_text_of(inner))[0]
        if self._schema is None:
            return _text_of(inner)
        wrong = self._misfit(value)
        if wrong is None:
            return value
        if inner is not value and self._misfit(inner) is None:
            return inner
        raise Unfit(wrong)

    def telling_chars(self, label: str) -> int:
        """Tell how many characters of a label no other one begins with."""
        return self._telling.get(label, len(label))

    def is_doubtful(self, value: Any) -> bool:
        """Tell whether a label was marked as one that is in doubt."""
        text = _unwrapped(value)
        if not self.may_be_doubtful or not isinstance(text, str):
            return False
        return text.rstrip(MARKS.replace(DOUBT, "")).endswith(DOUBT)

    def takes(self, value: Any) -> bool:
        """Tell whether a value is one."""
        try:
            self.taken(value)
        except Unfit:
            return False
        return True

    def _misfit(self, value: Any) -> str | None:
        assert self._schema is not None
        return shapes.misfit(self._schema, value, steps_per_value=shapes.STEPS_PER_REPLIED_VALUE)

    def own(self, value: Any) -> tuple[str, int, int]:
        """Give the text that a value is, and where in it its label, or its code, stands.

        Raises:
            Unfit: it is no label.
        """
        text = _text_of(_unwrapped(value))
        return text, *self._label(text)[1:]

    def _label(self, text: str) -> tuple[str, int, int]:
        """Find the label that a text is, and where in it the label stands, or its code."""
        if text in self._exact:
            return text, 0, len(text)
        start = len(text) - len(text.lstrip(MARKS))
        if len(text) <= 2 * self._longest + MOST_SHOWN_CHARS:
            label = self._alike.get(_alike(text))
            if label is not None:
                return label, start, len(text.rstrip(MARKS))
        label = self._codes.get(text[start : start + 1].upper())
        if label is not None:
            behind = text[start + 1 :]
            alone = not behind.strip(MARKS)
            if alone or (
                _CODE_END.match(behind) and _alike(behind[1:].lstrip("= ")) == _alike(label)
            ):
                return label, start, start + 1
        some = " ".join(text[: 2 * MOST_SHOWN_CHARS].split())
        shown = "".join(c if c.isprintable() else "?" for c in some)
        raise Unfit(f"'{cut(shown, MOST_SHOWN_CHARS)}' is none of the labels")


def _shared_chars(one: str, other: str) -> int:
    differ = (n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return next(differ, min(len(one), len(other)))


def _are_long(labels: list[str]) -> bool:
    several = 2 <= len(labels) <= len(CODES) and min(map(len, labels)) > SHORT_CHARS
    return several and sum(map(tokens.estimate, labels)) > LONG_TOKENS * len(labels)


def cut(text: str, most: int) -> str:
    """Cut the end of a text that is too long."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


MARKS: Final = (
    " \t\r\n\"'`*_.,;:!?()[]{}"
    "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2026\u3002\u300c\u300d"
)
"""Put around labels by those who write them. Signs that tell one from another (+ - # < %) stay."""
_CODE_END: Final = re.compile(r"[*`\"']{0,3}[ \t]*[=:.)-]")
"""Between a code and the label that it stands for."""
_NUMBER: Final = re.compile(
    r"[\[(#]{0,2}(?:item|number|no\.?)? ?[\[(#]{0,2}(\d{1,6})(?!\d)(?:[\])]|[.:)](?!\d)|$)",
    re.IGNORECASE,
)
"""A key that begins with a number; the item may stand behind it."""
VALUE_NAMES: Final = ("value", "label", "answer", "result", "category", "class", "output")


def _alike(label: str) -> str:
    """Make labels equal that differ in case, blanks, and marks around them."""
    return " ".join(label.casefold().split()).strip(MARKS) or label


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict | list):
        raise Unfit(f"must be a string, not {schemas.kind_of(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise Unfit("must be a string, not a number out of range")
    return json.dumps(value)


def number_of(key: str) -> int | None:
    """Tell which item's number a key is."""
    found = _NUMBER.match(key.strip())
    return None if found is None else int(found[1])


def _unwrapped(value: Any) -> Any:
    """Take the one value out of an object or array around it; not one that is of a number."""
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    if isinstance(value, dict) and value:
        if any(number_of(name) is not None for name in value):
            return value
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
