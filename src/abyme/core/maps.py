"""`llm_map`: many small items, packed into few calls; replies read, checked, asked for again.

Decides which items stand in a call, which are asked again, and which value an item has in the
end. Invariants: every position gets exactly one result, whatever is replied; equal items are
asked once; votes count the same in whatever order they arrive; an item is asked at most
`MOST_AGAIN` times again for each of its samples.

Does not make calls (`planned`), nor read replies (`listed`) or say what a value is (`values`).
"""

import json
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from abyme.core import events as ev
from abyme.core import slots, tokens
from abyme.core.effects import Result
from abyme.core.ids import CallId
from abyme.core.jobs import Ask, Expected, Moves, Reply
from abyme.core.listed import Found, read
from abyme.core.profile import SubPrompts
from abyme.core.values import Values, cut

NO_CALL: Final = CallId(0)
"""Of a result that no call was made for."""
MOST_AGAIN: Final = 2
OUTPUT_PERCENT: Final = 60
"""Of the cap on output that a reply is expected to take."""
TOO_LARGE: Final = frozenset({"context_length", "output_cap"})
"""Faults that fewer items in a call may mend."""
MOST_WRONG_CHARS: Final = 300
WRONG_TOKENS: Final = 150
"""Of the words about what was wrong before."""
ENTRY_TOKENS: Final = 6
"""Of a number as a key, quotes, colon and comma."""
IN_DOUBT: Final = 0.5
"""Confidence in a value that the model itself has marked as doubtful."""


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
        self._values = Values(task, prompts)
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
        self._asked = 0
        """Of the first asks of all samples."""

    # -- the plan ----------------------------------------------------------------

    def expected(self) -> list[Expected]:
        """Say which votes to expect that are not asked for yet, a pack each."""
        packs, found = len(self._open), []
        for place, pack in enumerate(self._open):
            calls = self._task.samples - (self._asked + packs - 1 - place) // packs
            if calls:
                form = self._values.form(len(pack))
                prompt, output = self._prompt_tokens(pack), self._output_tokens(pack)
                found.append(Expected(prompt, output, form, calls, len(pack)))
        return found

    def begin(self) -> Moves:
        """Ask for all items once a sample: the first votes of all, then the second..."""
        return Moves(self._first(), list(self._results))

    def _first(self) -> Iterator[Ask]:
        for sample in range(self._task.samples):
            for pack in self._open:
                turn = len(pack) * sample // self._task.samples
                turned = pack[turn:] + pack[:turn]
                self._asked += 1
                yield self._ask(turned[::-1] if sample % 2 else turned, sample)

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
        ) + (f" {self._prompts.map_doubt}" if self._values.may_be_doubtful else "")

    def _prompt_tokens(self, items: Sequence[int]) -> int:
        material = sum(self._tokens[item] for item in items)
        return self._instruction_tokens + slots.FENCE_TOKENS + material

    def _output_tokens(self, items: Sequence[int]) -> int:
        return sum(self._outputs[item] for item in items)

    def _ask(self, items: Sequence[int], sample: int, wrong: str = "") -> Ask:
        prompt = self._instruction(len(items))
        if wrong:
            prompt = f"{prompt}\n\n{slots.fill(self._prompts.map_again, wrong=wrong)}"
        return Ask(
            positions=tuple(seat for item in items for seat in self._seats[item]),
            prompt=prompt,
            texts=tuple(self._texts[item] for item in items),
            form=self._values.form(len(items)),
            logprobs=self._by_tokens,
            sample=sample,
            again=sample >= self._task.samples,
            prompt_tokens=self._prompt_tokens(items) + (WRONG_TOKENS if wrong else 0),
            output_tokens=self._output_tokens(items),
        )

    @property
    def _by_tokens(self) -> bool:
        """Confidence comes from the reply itself: of one there is no share of votes."""
        return self._task.labels is not None and self._task.samples == 1

    # -- what comes of it --------------------------------------------------------

    def replied(self, ask: Ask, reply: Reply) -> Moves:
        """Take the values that fit; ask again for the others, in halves if the reply was cut."""
        items = self._items_of(ask)
        found = read(reply, len(items), self._values)
        results, missing = [], {}
        for number, item in enumerate(items, 1):
            one = found[number]
            if isinstance(one, str):
                missing[item] = one
            else:
                results += self._vote(item, ask, self._vote_of(one, reply))
        moves = self._again(ask, missing, reply.call, halved=reply.cut)
        return Moves(moves.asks, results + moves.results)

    def failed(self, ask: Ask, call: CallId, failure: ev.Failure) -> Moves:
        """Give the items of a call its failure; of one that was too large ask for halves."""
        items = self._items_of(ask)
        if failure.fault in TOO_LARGE and len(items) > 1 and self._times(ask) < MOST_AGAIN:
            return self._again(ask, dict.fromkeys(items, ""), call, halved=True)
        vote = _Vote(call, failure=failure)
        return Moves(results=[one for item in items for one in self._vote(item, ask, vote)])

    def _items_of(self, ask: Ask) -> list[int]:
        return list(dict.fromkeys(self._item_at[position] for position in ask.positions))

    def _times(self, ask: Ask) -> int:
        """Tell how often the items of an ask had been asked before."""
        return ask.sample // self._task.samples

    def _again(self, ask: Ask, missing: dict[int, str], call: CallId, *, halved: bool) -> Moves:
        sample, moves = ask.sample % self._task.samples, Moves()
        open_ = [item for item in missing if sample not in self._votes[item]]
        if self._times(ask) >= MOST_AGAIN:
            for item in open_:
                message = f"{missing[item]} (asked {MOST_AGAIN + 1} times)"
                failure = ev.Failure(fault="bad_shape", message=message)
                moves.results.extend(self._vote(item, ask, _Vote(call, failure=failure)))
            return moves
        middle = (len(open_) + 1) // 2 if halved else len(open_)
        times = ask.sample + self._task.samples
        parts = [part for part in (open_[:middle], open_[middle:]) if part]
        wrong = [_said_of([missing[item] for item in part]) for part in parts]
        asks = [self._ask(part, times, said) for part, said in zip(parts, wrong, strict=True)]
        return Moves(asks)

    def _vote_of(self, found: Found, reply: Reply) -> "_Vote":
        text = json.dumps(found.value, ensure_ascii=False)
        same = json.dumps(found.value, sort_keys=True)
        telling = self._values.telling_chars(found.value) if self._by_tokens else 0
        sure = _sure_of(found, telling, reply.doubts) if self._by_tokens else None
        if self._by_tokens and found.doubtful:
            sure = IN_DOUBT if sure is None else min(sure, IN_DOUBT)
        return _Vote(reply.call, text=text, same=same, confidence=sure)

    def _vote(self, item: int, ask: Ask, vote: "_Vote") -> list[tuple[int, Result]]:
        """Count a vote; with the last one the item has its result."""
        votes, samples = self._votes[item], self._task.samples
        if votes.setdefault(ask.sample % samples, vote) is not vote or len(votes) < samples:
            return []
        result = _elected([votes[sample] for sample in range(samples)])
        return [(seat, result) for seat in self._seats[item]]


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


def _sure_of(found: Found, telling_chars: int, doubts: Sequence[ev.Doubt] | None) -> float | None:
    """Probability of the tokens that tell a value from others; what a grammar forces behind them
    may seem unlikely. Those above `events.SURE` are not listed: where all are, that is what is
    said, being the least that each of them had.
    """
    if doubts is None or found.own is None:
        return None
    start, end = found.own
    end = min(end, start + telling_chars)
    at = bisect_right(doubts, start, key=lambda doubt: doubt.end)
    total = 0.0
    while at < len(doubts) and doubts[at].start < end:
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
    return cut("; ".join(said), MOST_WRONG_CHARS)
