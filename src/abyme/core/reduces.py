"""`llm_reduce`: texts that together exceed a window, made one result level by level.

Decides which texts stand in a call and what the next level is made of. Invariants: there is
exactly one result; each text goes into exactly one call of the first level, whole or in parts
that come to it again when put together; each level has fewer texts than the one below, so that
it ends. A schema binds the last call alone.

A call that fails ends all of it, with its failure: a result without a part would look like one
of the whole. What came before stays in the journal and is not a `Result.text`. Pure. Does not
make calls (`planned`).
"""

import json
from collections.abc import Sequence
from typing import Final

from abyme.core import events as ev
from abyme.core import shapes, slots, tokens
from abyme.core.effects import Result
from abyme.core.ids import CallId
from abyme.core.jobs import Ask, Expected, Moves, Reply
from abyme.core.maps import NO_CALL
from abyme.core.profile import SubPrompts

SEAT: Final = 0
MOST_REPAIRS: Final = 2
REPLY_TOKENS: Final = 400
"""To expect of a reply, where the cap allows as much."""
WRONG_TOKENS: Final = 200
"""Of the words about what did not fit (`shapes.misfit` takes up to 600 characters)."""
LEAST_ROOM_TOKENS: Final = 64
"""With less, not even a few characters of any script would fit into a call."""
EXACT_CHARS: Final = 4_000_000
"""Up to so many, every text is estimated by itself: 0.2 s."""
BORDERS: Final = ("\n\n", "\n", " ")
"""Where a text is split, best first."""


class ReduceJob:
    """One `llm_reduce`. Implements `abyme.core.jobs.Job`.

    The number of an ask's sample is that of its repairs, so that a repair is another ask.
    """

    def __init__(
        self, texts: Sequence[str], task: ev.Task, model: ev.ModelFacts, prompts: SubPrompts
    ) -> None:
        self._task = task
        self._model = model
        self._prompts = prompts
        self._instructions: dict[tuple[str, int], str] = {}
        """By template and number of texts: many asks have the same."""
        self._shape = ""
        if task.schema is not None:
            schema = json.dumps(task.schema, ensure_ascii=False)
            self._shape = f"\n\n{prompts.json_only}\n{schema}"
        more = max(prompts.reduce, prompts.reduce_more, key=tokens.estimate)
        self._own_tokens = tokens.estimate(self._instruction(more, 10 * len(texts)) + self._shape)
        self._own_tokens += tokens.estimate(prompts.data_remark)
        spare = 0
        if task.schema is not None:
            spare = tokens.estimate(prompts.repair) + WRONG_TOKENS
        self._room = slots.room_tokens(model, self._own_tokens + spare)
        self._level = 0
        self._texts: list[str | None] = []
        """Of the level above the one that is asked: replies, in order."""
        self._waiting: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        """By prompt and material: places in `_texts` that an ask is for."""
        self._last_prompt = ""
        self._begun = False
        self._done = False
        self._pieces: list[str] = []
        self._sizes: list[int] = []
        if self._room >= LEAST_ROOM_TOKENS:
            self._pieces, self._sizes = _pieces(texts, self._room)

    def expected(self) -> list[Expected]:
        """Say which calls to expect on all levels that are not asked for yet, if replies are of
        ordinary length.
        """
        beside, output = self._own_tokens + slots.FENCE_TOKENS, self._output_tokens
        found: list[Expected] = []
        level = 0 if self._done else len(self._texts)
        if not self._begun:
            groups = _grouped(self._sizes, self._room)
            distinct = {tuple(self._pieces[i] for i in group): group for group in groups}
            found += [
                Expected(beside + sum(self._sizes[i] for i in group), output)
                for group in distinct.values()
            ]
            level = len(groups)
        while level > 1:
            size = output + slots.NUMBER_TOKENS
            groups = self._groups_above([size] * level)
            if len(groups) == level:
                break  # no two fit together
            found += [
                Expected(beside + size * len(group), output) for group in groups if len(group) > 1
            ]
            level = len(groups)
        return found

    def begin(self) -> Moves:
        """Ask for the first level; each equal ask once."""
        self._begun = True
        if not self._pieces:
            message = slots.too_large("the instruction", 0, 0, self._model)
            return self._fail(NO_CALL, ev.Failure(fault="context_length", message=message))
        return self._asked(self._pieces, _grouped(self._sizes, self._room))

    def replied(self, ask: Ask, reply: Reply) -> Moves:
        """Take a reply in; with the last of a level the next one begins, or all is done."""
        places = self._waiting.get((ask.prompt, ask.texts), [])
        if self._done or not places:
            return Moves()
        if reply.cut or not reply.text.strip():
            return self._fail(reply.call, _CUT if reply.cut else _EMPTY)
        if ask.form is not None:
            return self._shaped(ask, reply)
        del self._waiting[ask.prompt, ask.texts]
        for place in places:
            self._texts[place] = reply.text
        texts = [text for text in self._texts if text is not None]
        if len(texts) < len(self._texts):
            return Moves()
        if len(texts) == 1:
            return self._finish(Result(call=reply.call, text=texts[0]))
        return self._next(texts, reply.call)

    def failed(self, ask: Ask, call: CallId, failure: ev.Failure) -> Moves:
        """End with the failure of a call that belongs to it."""
        if self._done or (ask.prompt, ask.texts) not in self._waiting:
            return Moves()
        return self._fail(call, failure)

    def _next(self, texts: list[str], call: CallId) -> Moves:
        """Begin the next level over the replies of the last."""
        self._level += 1
        groups = self._groups_above(_sizes(texts))
        if len(groups) == len(texts):
            message = (
                f"no two of the {len(texts)} results so far fit into one call together (about "
                f"{self._most:,} tokens do): ask for shorter results in the instruction"
            )
            return self._fail(call, ev.Failure(fault="context_length", message=message))
        return self._asked(texts, groups)

    def _groups_above(self, sizes: Sequence[int]) -> list[range]:
        """Group the replies of a level. Where no two fit, the next reply has to be shorter."""
        groups = _grouped(sizes, self._room)
        return groups if len(groups) < len(sizes) else _grouped(sizes, self._most)

    @property
    def _most(self) -> int:
        """Tokens of material that a call may have if it must, its reply being an ordinary one."""
        window = slots.window_tokens(self._model)
        least = window - self._own_tokens - slots.FENCE_TOKENS - self._output_tokens
        return max(self._room, least)

    @property
    def _output_tokens(self) -> int:
        return min(REPLY_TOKENS, self._model.max_output_tokens)

    def _asked(self, texts: Sequence[str], groups: Sequence[range]) -> Moves:
        """Ask for each group; above the first level a text alone in one goes up as it is."""
        self._texts = [None] * len(groups)
        self._waiting = {}
        asks: list[Ask] = []
        for place, group in enumerate(groups):
            if self._level and len(group) == 1:
                self._texts[place] = texts[group[0]]
                continue
            ask = self._ask(tuple(texts[i] for i in group), last=len(groups) == 1)
            waiting = self._waiting.setdefault((ask.prompt, ask.texts), [])
            if not waiting:
                asks.append(ask)
            waiting.append(place)
        return Moves(asks)

    def _ask(self, texts: tuple[str, ...], *, last: bool) -> Ask:
        template = self._prompts.reduce_more if self._level else self._prompts.reduce
        self._last_prompt = self._instruction(template, len(texts)) + (self._shape if last else "")
        return Ask(
            positions=(SEAT,),
            prompt=self._last_prompt,
            texts=texts,
            form=self._task.schema if last else None,
            prompt_tokens=self._own_tokens + slots.FENCE_TOKENS + sum(_sizes(texts)),
            output_tokens=self._output_tokens,
        )

    def _instruction(self, template: str, count: int) -> str:
        key = template, count
        if key not in self._instructions:
            filled = slots.fill(template, instruction=self._task.instruction, count=str(count))
            self._instructions[key] = filled
        return self._instructions[key]

    def _shaped(self, ask: Ask, reply: Reply) -> Moves:
        """Check the last reply; one that does not fit is asked for again, with the reason."""
        assert ask.form is not None
        wrong = shapes.reply_misfit(ask.form, reply.text)
        if wrong is None:
            value = json.dumps(shapes.parse(reply.text), ensure_ascii=False)
            return self._finish(Result(call=reply.call, text=value))
        if ask.sample >= MOST_REPAIRS:
            message = f"the reply does not fit the schema, told so {MOST_REPAIRS} times: {wrong}"
            return self._fail(reply.call, ev.Failure(fault="bad_shape", message=message))
        repair = slots.fill(self._prompts.repair, wrong=wrong)
        again = Ask(
            positions=ask.positions,
            prompt=f"{self._last_prompt}\n\n{repair}",
            texts=ask.texts,
            form=ask.form,
            sample=ask.sample + 1,
            again=True,
            prompt_tokens=ask.prompt_tokens + WRONG_TOKENS,
            output_tokens=ask.output_tokens,
        )
        self._waiting = {(again.prompt, again.texts): [SEAT]}
        return Moves([again])

    def _finish(self, result: Result) -> Moves:
        self._done = True
        return Moves(results=[(SEAT, result)])

    def _fail(self, call: CallId, failure: ev.Failure) -> Moves:
        return self._finish(Result(call=call, failure=failure))


def _pieces(texts: Sequence[str], room: int) -> tuple[list[str], list[int]]:
    """Split the texts that fit in no call by themselves; tell the tokens of each piece."""
    pieces: list[str] = []
    sizes: list[int] = []
    for text, size in zip(texts, _sizes(texts), strict=True):
        parts = [(text, size)] if size <= room else _split(text, size, room)
        pieces += [part for part, _ in parts]
        sizes += [tokens_ for _, tokens_ in parts]
    return pieces, sizes


def _split(text: str, size: int, room: int) -> list[tuple[str, int]]:
    """Cut a text into parts that fit, behind paragraphs, lines or blanks where there are some."""
    parts = []
    start, chars = 0, max(1, len(text) * room // size)
    while start < len(text):
        end = _border(text, start, chars)
        part = text[start:end]
        tokens_ = _size(part)
        if tokens_ > room and chars > 1:
            chars = max(1, min(chars * room // tokens_, chars * 9 // 10))
            continue
        parts.append((part, tokens_))
        start = end
    return parts


def _border(text: str, start: int, chars: int) -> int:
    """Find where to end a part of at most `chars` characters, and not less than half of that."""
    end = start + chars
    if end >= len(text):
        return len(text)
    for border in BORDERS:
        found = text.rfind(border, start + chars // 2, end)
        if found >= 0:
            return found + len(border)
    return end


def _sizes(texts: Sequence[str]) -> list[int]:
    """Estimate what each text takes of a prompt; of very much text some is looked at."""
    if sum(map(len, texts)) <= EXACT_CHARS:
        return [_size(text) for text in texts]
    laid = [slots.indented(text) for text in texts]
    return [size + slots.NUMBER_TOKENS for size in tokens.estimate_each(laid)]


def _size(text: str) -> int:
    return tokens.estimate(slots.indented(text)) + slots.NUMBER_TOKENS


def _grouped(sizes: Sequence[int], room: int) -> list[range]:
    """Fill groups in order, each up to `room`."""
    groups: list[range] = []
    start = total = 0
    for place, size in enumerate(sizes):
        if place > start and total + size > room:
            groups.append(range(start, place))
            start, total = place, 0
        total += size
    return [*groups, range(start, len(sizes))] if sizes else groups


_CUT: Final = ev.Failure(
    fault="output_cap",
    message="a reply was cut off at the cap on output: ask for shorter results in the instruction",
)
_EMPTY: Final = ev.Failure(fault="empty_reply", message="a reply held nothing")
