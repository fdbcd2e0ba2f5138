"""`llm_map` and `llm_reduce` in the guest: items and a task go out, a `Mapped` comes back.

Decides what may be an item, and what is said of those without a value. Invariant: values are
aligned with the items as given, and an item without a value is in `errors`, so that no
failure and no gap looks like a value. How items are packed, checked and asked again is the
host's.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from abyme.guest.arguments import MAX_MODEL_CHARS, schema_text
from abyme.guest.calls import MAX_CALLS, BatchFailed, Calls, ModelError, brought_by
from abyme.guest.chunks import Chunk, Span
from abyme.guest.derived import Origin, Origins
from abyme.guest.documents import Documents
from abyme.guest.places import Hit
from abyme.guest.tables import Row

MAX_INSTRUCTION_CHARS: Final = 64 << 10
MAX_LABELS: Final = 1_000
MAX_LABEL_CHARS: Final = 200
MAX_SAMPLES: Final = 99
MAX_VOTES: Final = 1_000_000
"""Items times samples."""
MAX_PACK: Final = 10_000
MAX_NOTES: Final = 5
FREE: Final = {"calls": 0, "tokens": 0, "usd": 0.0}
EMPTY: Final = ModelError("the item is empty", "empty")
MAX_REASON_CHARS: Final = 300
MOST_TRIED: Final = 2_000
MOST_TRIED_VALUES: Final = 5_000_000
"""Of answers that `Mapped.deciding` makes, and of values in all the lists that it gives: seconds.
No clock, so that a cell comes out the same when it is run again."""
SURE: Final = 0.8
"""Confidence from which on a value is not worth a look."""


class Mapped(list[Any]):
    """The values of `llm_map`, aligned with its items; None where there is none."""

    errors: dict[int, ModelError]
    """Position -> why it has no value."""
    confidence: list[float | None]
    """Of each value, from 0 to 1; None where nothing is known."""
    labels: list[str]
    """That a value could be; empty where there were none."""
    equals: list[int]
    """Of each item, the position of the first one that is equal to it."""

    def __init__(
        self,
        values: Iterable[Any] = (),
        confidence: Iterable[float | None] = (),
        errors: Mapping[int, ModelError] | None = None,
        labels: Iterable[str] = (),
        equals: Iterable[int] = (),
    ) -> None:
        super().__init__(values)
        self.confidence = list(confidence)
        self.errors = dict(errors or {})
        self.labels = list(labels)
        self.equals = list(equals)

    @property
    def unresolved(self) -> list[int]:
        """Positions of the items without a value."""
        return list(self.errors)

    @property
    def unsure(self) -> list[int]:
        """Positions of the values that are worth a look, the most doubtful first."""
        known = [(sure, n) for n, sure in enumerate(self.confidence) if sure is not None]
        return [n for sure, n in sorted(known) if sure < SURE]

    def deciding(self, answer: Callable[[list[Any]], Any]) -> list[int]:
        """Positions among `.unsure` and `.unresolved` where other labels would change the answer.

        ``labels.deciding(lambda labels: labels.count("red"))``

        `answer` makes the answer of a list of labels. It is tried with every other label at
        each of these positions, equal items together; then with the positions that change
        nothing by themselves, all at once: without a label (None), and with each. If that does,
        they are given too, since some of them hide each other. Where there is too much to try,
        all positions are given. So none means that no such change makes another answer.
        """
        if not self.labels:
            raise ValueError("deciding() tries other labels: give llm_map labels=")
        doubtful = [*self.unsure, *self.unresolved]
        groups: dict[int, list[int]] = {}
        for position in doubtful:
            first = self.equals[position] if position < len(self.equals) else position
            groups.setdefault(first, []).append(position)
        given, as_it_is = list(self), answer(list(self))
        left = min(MOST_TRIED, MOST_TRIED_VALUES // (len(given) or 1))

        def changes(positions: Sequence[int], label: str | None) -> bool:
            tried = list(given)
            for position in positions:
                tried[position] = label
            return tried != given and bool(answer(tried) != as_it_is)

        found: set[int] = set()
        for number, group in enumerate(groups.values(), 1):
            if number * len(self.labels) > left:
                return doubtful
            if any(changes(group, label) for label in self.labels):
                found.update(group)
        rest = [position for position in doubtful if position not in found]
        if any(changes(rest, label) for label in self.labels) or self._hides(changes, rest):
            return doubtful
        return [position for position in doubtful if position in found]

    @staticmethod
    def _hides(changes: Callable[[Sequence[int], None], bool], rest: Sequence[int]) -> bool:
        """Tell whether leaving positions out changes the answer; one that cannot do without a
        label says nothing of it.
        """
        try:
            return changes(rest, None)
        except Exception:
            return False


@dataclass(frozen=True, slots=True)
class Maps:
    """Does tasks over the wire."""

    calls: Calls
    text_of: Callable[[Any], str]
    """Name of a document -> its text."""
    notes: list[str]
    """Told after the cell."""
    origins: Origins = field(default_factory=Origins)
    """Told what was made, for `cite`."""

    def map(self, given: Any, task: dict[str, Any]) -> Any:
        """Give a value for each item, or what it would cost.

        Raises:
            BatchFailed: no item has a value.
            ValueError: all items are empty, or there are too many for so many samples.
            LimitReached: the host refused the whole, before anything was sent.
        """
        given = _once(given)
        items = self._texts(given, "items")
        asked = [position for position, item in enumerate(items) if item.strip()]
        if len(asked) * task["samples"] > MAX_VOTES:
            raise ValueError(
                f"{len(asked):,} items and samples={task['samples']} are more than "
                f"{MAX_VOTES:,} values to ask for: give fewer"
            )
        if items and not asked:
            raise ValueError(f"all {len(items):,} items are empty")
        requests = [_request(items[position]) for position in asked]
        if task["price_only"]:
            return self._price("map", requests, task)
        results = self.calls.ask("map", requests, task) if requests else []
        nothing = [None] * len(items)
        first: dict[str, int] = {}
        equals = [first.setdefault(item, position) for position, item in enumerate(items)]
        mapped = Mapped(nothing, nothing, labels=task["labels"] or (), equals=equals)
        errors = {n: EMPTY for n, item in enumerate(items) if not item.strip()}
        for position, result in zip(asked, results, strict=True):
            self.calls.record(items[position], result)
            try:
                mapped[position] = brought_by(result, is_json=True)
                mapped.confidence[position] = result.get("confidence")
            except ModelError as error:
                errors[position] = error
        mapped.errors = dict(sorted(errors.items()))
        if results:
            spans, call = [_span_of(item) for item in given], results[0]["call"]
            asked_for, cell = task["instruction"], self.calls.cell
            self.origins.made(mapped, Origin("llm_map", asked_for, cell, spans, call, len(asked)))
        self._tell(mapped)
        return mapped

    def reduce(self, given: Any, task: dict[str, Any]) -> Any:
        """Make one result of all texts, or tell what it would cost.

        Raises:
            ModelError: there is none.
        """
        texts = self._texts([given] if isinstance(given, str | Hit) else given, "texts")
        kept = [text for text in texts if text.strip()]
        if not kept:
            raise ValueError("there is no text to reduce")
        requests = [_request(text) for text in kept]
        if task["price_only"]:
            return self._price("reduce", requests, task)
        if len(kept) < len(texts):
            empty = len(texts) - len(kept)
            self._note("llm_reduce", f"{empty:,} of {len(texts):,} texts are empty and left out")
        (result,) = self.calls.ask("reduce", requests, task)
        self.calls.record(task["instruction"], result)
        return brought_by(result, is_json=task["schema"] is not None)

    def _price(
        self, purpose: str, requests: Sequence[dict[str, Any]], task: dict[str, Any]
    ) -> dict[str, Any]:
        if not requests:
            return dict(FREE)
        (result,) = self.calls.ask(purpose, requests, task)
        price: dict[str, Any] = brought_by(result, is_json=True)
        return price

    def _tell(self, mapped: Mapped) -> None:
        """Say how many items have no value, or a doubtful one; raise if none has one."""
        if mapped.unsure:
            unsure = f"{len(mapped.unsure):,} of {len(mapped):,} values are in doubt (.unsure)"
            self._note("llm_map", unsure)
        if not mapped.errors:
            return
        error = next((e for e in mapped.errors.values() if e is not EMPTY), EMPTY)
        first = " ".join(str(error).split())[:MAX_REASON_CHARS]
        if len(mapped.errors) == len(mapped):
            several = f"none of {len(mapped):,} items has a value, the first because: {first}"
            raise BatchFailed(list(mapped), mapped.errors, several)
        self._note(
            "llm_map",
            f"{len(mapped.errors):,} of {len(mapped):,} items have no value (None; positions in "
            f".unresolved, why in .errors), the first because: {first}",
        )

    def _note(self, name: str, words: str) -> None:
        told = sum(note.startswith("llm_") for note in self.notes)
        if told < MAX_NOTES:
            self.notes.append(f"{name}: {words}")
        elif told == MAX_NOTES:
            self.notes.append(f"{name}: more of the same in later calls")

    def _texts(self, given: Any, what: str) -> list[str]:
        """Make texts of items.

        Raises:
            TypeError: they are no list, or one of them is neither text nor JSON.
            ValueError: there are too many.
        """
        if isinstance(given, Mapping):
            d = "context" if isinstance(given, Documents) else "d"
            aligned = f"; values then align with list({d})" if what == "items" else ""
            give = f"give list({d}.values()){aligned}"
            raise TypeError(f"{what} must be a list, not a mapping: {give}")
        if isinstance(given, str | bytes | Hit) or not isinstance(given, Iterable):
            kind = type(given).__name__
            raise TypeError(f"{what} must be a list, not {kind}: such as text.splitlines()")
        items = list(islice(given, MAX_CALLS + 1))
        if len(items) > MAX_CALLS:
            raise ValueError(f"more than {MAX_CALLS:,} {what} in one call: make several")
        return [self._text(item, f"{what}[{n}]") for n, item in enumerate(items)]

    def _text(self, item: Any, where: str) -> str:
        """Make one item a text: itself, a hit's whole line, else JSON. None is no text."""
        if isinstance(item, Hit):
            return self._line(item)
        if isinstance(item, str):
            return str.__str__(item)
        if item is None:
            return ""
        try:
            return json.dumps(item, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            kind = type(item).__name__
            raise TypeError(
                f"{where} is a {kind}: give str, hits of grep, or JSON values"
            ) from None

    def _line(self, place: Hit) -> str:
        """Take the line of a hit; a long one is shown cut, and taken whole."""
        if place.text == place.quote:
            return place.text
        text = self.text_of(place.name)
        _, start, end = place.span
        stop = text.find("\n", end)
        return text[text.rfind("\n", 0, start) + 1 : len(text) if stop < 0 else stop]


def task_of(  # noqa: PLR0913 - a task is all of these
    instruction: Any,
    *,
    labels: Any = None,
    schema: Any = None,
    samples: Any = 1,
    batch: Any = None,
    model: Any = None,
    fresh: Any = False,
    price_only: Any = False,
) -> dict[str, Any]:
    """Make what goes over the wire beside the items.

    Raises:
        TypeError: something is not what it must be.
        ValueError: something is empty, too large, or contradicts another.
    """
    if not isinstance(instruction, str):
        kind = type(instruction).__name__
        raise TypeError(f"instruction must be a str, not {kind}; the items come first")
    if not instruction.strip():
        raise ValueError("instruction is empty")
    instruction = _explained(instruction, labels)
    if len(instruction) > MAX_INSTRUCTION_CHARS:
        raise ValueError(
            f"instruction has {len(instruction):,} characters, {MAX_INSTRUCTION_CHARS:,} are "
            "allowed: material belongs into the items"
        )
    if labels is not None and schema is not None:
        raise ValueError("give labels or schema, not both")
    if model is not None and (not isinstance(model, str) or len(model) > MAX_MODEL_CHARS):
        raise ValueError("model must be the name of a model")
    return {
        "instruction": str.__str__(instruction),
        "labels": None if labels is None else _labels(labels),
        "schema": schema_text(schema),
        "samples": _number("samples", samples, MAX_SAMPLES),
        "pack": 0 if batch is None else _number("batch", batch, MAX_PACK),
        "model": None if model is None else str.__str__(model),
        "fresh": bool(fresh),
        "price_only": bool(price_only),
    }


def _explained(instruction: str, labels: Any) -> str:
    """Add what labels mean, where they are given as a dict."""
    if not isinstance(labels, Mapping):
        return instruction
    for label, meaning in labels.items():
        if not isinstance(meaning, str):
            kind = type(meaning).__name__
            raise TypeError(f"labels as a dict say what each means: {label!r:.80} has a {kind}")
    return "\n".join([instruction, "", *(f"{one}: {means}" for one, means in labels.items())])


def _labels(given: Any) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError("labels must be a list of str, or a dict: label -> what it means")
    labels = list(islice(given, MAX_LABELS + 1))
    for label in labels:
        if not isinstance(label, str):
            raise TypeError(f"labels must be str, not {type(label).__name__}: {label!r:.80}")
        if not label.strip() or len(label) > MAX_LABEL_CHARS:
            raise ValueError(f"a label has 1 to {MAX_LABEL_CHARS} characters: {label!r:.80}")
    if not 2 <= len(labels) <= MAX_LABELS:
        many = len(labels) if len(labels) <= MAX_LABELS else f"more than {MAX_LABELS:,}"
        raise ValueError(f"labels has {many}; give 2 to {MAX_LABELS:,}")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"the label {twice!r:.80} is there twice")
    return [str.__str__(label) for label in labels]


def _number(what: str, given: Any, most: int) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= most:
        raise ValueError(f"{what} must be a whole number from 1 to {most:,}, not {given!r:.80}")
    return int(given)


def _once(given: Any) -> Any:
    """Make a list of what can be walked through only once."""
    return list(islice(given, MAX_CALLS + 1)) if isinstance(given, Iterator) else given


def _span_of(item: Any) -> Span | None:
    return item.span if isinstance(item, Hit | Chunk | Row) else None


def _request(item: str) -> dict[str, Any]:
    request = {"prompt": item, "text": None, "model": None, "fresh": False}
    return {**request, "spans": [], "shape": "text", "schema": None}
