"""The names that the model finds in its REPL, as design section 1 lists them.

Decides signatures, the words of `help`, and what a wrong argument is told. Each
name here is restored before every cell. Invariant: an answer leaves through
`submit` only, as JSON; nothing that is printed ever counts as one.

Names follow the official engine (`rlms`), so that models trained on it find them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from abyme.guest import derived, values
from abyme.guest.arguments import paired, request_of, schema_text
from abyme.guest.calls import BatchFailed, Calls, LimitReached, ModelError
from abyme.guest.cell import Namespace, size_of, type_name, visible
from abyme.guest.chunking import Way
from abyme.guest.mapped import Mapped, Maps, task_of
from abyme.guest.parts import Part
from abyme.guest.places import Hit, Hits
from abyme.guest.tables import Written
from abyme.guest.tools import Function, explained

MAX_LISTED: Final = 200
MAX_EVIDENCE: Final = 1_000
MAX_NAMED: Final = 20


class View(Protocol):
    """What is needed of `abyme.guest.adopt.View`."""

    @property
    def context(self) -> Any:
        """The input."""
        ...

    def restore(self) -> None:
        """Make the view what it was."""
        ...

    def grep(self, pattern: Any, docs: Any, limit: int | None, flags: int, around: int) -> Any:
        """Find lines."""
        ...

    def count(self, pattern: Any, docs: Any, flags: int) -> int:
        """Count matches."""
        ...

    def search(self, words: Any, k: int, docs: Any, *, meaning: bool) -> Any:
        """Find passages."""
        ...

    def chunks(self, given: Any, docs: Any, way: Way) -> Any:
        """Cut texts."""
        ...

    def table(self, name: Any, written: Written) -> Any:
        """Give a document as rows."""
        ...

    def place_of(self, thing: object) -> dict[str, int | str] | str:
        """Make evidence of a thing."""
        ...

    def part_of(self, given: Any) -> Part:
        """Make a child's context of a value."""
        ...

    def take_notes(self) -> list[str]:
        """Say what the last cell should be told."""
        ...


class Listing(str):
    """Text that is shown as it is when a cell ends in it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Surface:
    """The engine's names, bound to one REPL."""

    def __init__(self, view: View, calls: Calls, namespace: Namespace) -> None:
        self._view = view
        self._calls = calls
        self._namespace = namespace
        self._answer: dict[str, Any] = {"content": "", "ready": False}
        self._submitted = False
        self.notes: list[str] = []
        """What the running cell's use of these names has to tell."""
        self._origins = derived.Origins()
        self._maps = Maps(calls, self._text, self.notes, self._origins)
        self._names = self._make_names()
        self.lent: Namespace = {one.__name__: Function(one) for one in (self.chunks, self.table)}
        """Names that lie among the builtins, because models take them for variables of theirs:
        one of those hides it, and is theirs."""

    @property
    def names(self) -> Namespace:
        """Name -> object, all that the engine owns."""
        return self._names

    def _make_names(self) -> Namespace:
        own: list[Callable[..., Any]] = [self.help, self.llm_query, self.llm_query_batched]
        own += [self.llm_map, self.llm_reduce, self.rlm_query, self.rlm_query_batched]
        own += [self.grep, self.count, self.search]
        own += [self.cite, self.submit, self.FINAL, self.FINAL_VAR, self.budget, self.SHOW_VARS]
        return {
            "context": self._view.context,
            "calls": self._calls.log,
            "last_output": "",
            "answer": self._answer,
            **{tool.__name__: Function(tool) for tool in own},
            **{error.__name__: error for error in (ModelError, LimitReached, BatchFailed)},
        }

    def llm_query(  # noqa: PLR0913 - the model's own choices, by name
        self,
        prompt: str,
        text: str | None = None,
        *,
        model: str | None = None,
        schema: dict[str, Any] | None = None,
        samples: int = 1,
        fresh: bool = False,
    ) -> Any:
        """Ask a sub-model once. Returns its reply as a str.

        `text` is the material that the prompt is about; it is kept apart from the
        instruction. With a `schema` (JSON Schema, a dict) the reply is checked against
        it and returned as the value it holds. The same call again is answered from the
        first one unless `fresh`. `samples=n` asks n times afresh and returns a list of n
        replies. Raises LimitReached or ModelError (with samples: BatchFailed).
        """
        if not isinstance(samples, int) or samples < 1:
            raise ValueError(f"samples must be a whole number from 1, not {samples!r}")
        form = schema_text(schema)
        request = request_of(prompt, text, model, schema=form, fresh=fresh or samples > 1)
        replies = self._calls.make("llm", [request] * samples)
        return replies[0] if samples == 1 else replies

    def llm_query_batched(
        self,
        prompts: Sequence[str],
        texts: Sequence[str] | str | None = None,
        *,
        model: str | None = None,
        schema: dict[str, Any] | None = None,
        fresh: bool = False,
    ) -> list[Any]:
        """Ask a sub-model many times, all at once. Returns the replies in order.

        `texts` has one text for each prompt (or is one text for all of them); `schema`
        is as in llm_query. One failure raises BatchFailed: `.results` has all the others.
        If the budget does not allow the batch, LimitReached is raised and nothing was sent.
        """
        form = schema_text(schema)
        pairs = paired(prompts, texts, "texts", "llm_query")
        requests = [request_of(one, text, model, schema=form, fresh=fresh) for one, text in pairs]
        return self._calls.make("llm", requests)

    def llm_map(  # noqa: PLR0913 - the model's own choices, by name
        self,
        items: Iterable[Any],
        instruction: str,
        labels: Iterable[str] | dict[str, str] | None = None,
        schema: dict[str, Any] | None = None,
        *,
        samples: int = 1,
        batch: int | None = None,
        model: str | None = None,
        fresh: bool = False,
        price_only: bool = False,
    ) -> Any:
        """Judge many small items by one instruction. Returns a list with a value for each.

        ``kinds = llm_map(lines, "What is asked for?", labels=["person", "place", "number"])``

        An item is a str, a hit of grep (its whole line) or a JSON value. A value is one of
        `labels` (a dict says what each means), or fits `schema` (JSON Schema, a dict), else it
        is a str. Items are packed into few sub-calls (at most `batch` in one); what is missing
        or wrong is asked again; equal items are paid once. The list has `.unresolved`
        (positions without a value: None stands there), `.unsure` (positions worth a look),
        `.deciding(f)` (those of both where another label changes what f makes of the list),
        `.errors` (position -> ModelError) and `.confidence` (0 to 1, or None). `samples=n`
        asks n times and takes the most frequent value; `price_only=True` gives {"calls",
        "tokens", "usd"} and asks nothing. Raises LimitReached (nothing was sent) or, if no
        item has a value, BatchFailed.
        """
        task = task_of(
            instruction,
            labels=labels,
            schema=schema,
            samples=samples,
            batch=batch,
            model=model,
            fresh=fresh,
            price_only=price_only,
        )
        return self._maps.map(items, task)

    def llm_reduce(  # noqa: PLR0913 - the model's own choices, by name
        self,
        texts: Iterable[Any] | str,
        instruction: str,
        *,
        schema: dict[str, Any] | None = None,
        model: str | None = None,
        fresh: bool = False,
        price_only: bool = False,
    ) -> Any:
        """Make one result of texts that are too long for one sub-call together. Returns a str.

        ``llm_reduce(summaries, "Merge into one list of risks, the gravest first.")``

        Groups of texts are worked on first, then their results, until one is left. A single
        str is cut into pieces. Texts are what items are in llm_map; with a `schema` (JSON
        Schema, a dict) the value of the last result is returned. `price_only=True` gives
        {"calls", "tokens", "usd"} and asks nothing. Raises LimitReached or ModelError.
        """
        task = task_of(instruction, schema=schema, model=model, fresh=fresh, price_only=price_only)
        return self._maps.reduce(texts, task)

    def rlm_query(self, prompt: str, context: Any = None, *, model: str | None = None) -> str:
        """Let a child like you answer, in a session of its own. Returns its answer as a str.

        `context` is the child's input: a str, a hit of grep (its line), or a dict or list
        of whole documents of yours; without it the child has all that you have.
        Your documents, chunks of them and hits are not copied. Raises LimitReached or
        ModelError.
        """
        part = self._view.part_of(context)
        answers: list[str] = self._calls.make("rlm", [request_of(prompt, part, model)])
        return answers[0]

    def rlm_query_batched(
        self, prompts: Sequence[str], contexts: Any = None, *, model: str | None = None
    ) -> list[str]:
        """Let many children answer, all at once. Returns their answers in order.

        `contexts` has one input for each child, as in rlm_query (or is one str for all).
        Raises BatchFailed or LimitReached.
        """
        pairs = paired(prompts, contexts, "contexts", "rlm_query")
        parts = {id(one): self._view.part_of(one) for _, one in pairs}
        return self._calls.make("rlm", [request_of(p, parts[id(one)], model) for p, one in pairs])

    def grep(
        self,
        pattern: Any,
        docs: Any = None,
        limit: int | None = 1000,
        flags: int = 0,
        around: int = 0,
    ) -> Any:
        r"""Find lines by a regular expression. Returns a list of hits: (name, line, text).

        ``for name, line, text in grep(r"^def \w+"): print(name, line, text)``

        `line` counts from 1; `^` and `$` match at every line; a line is one hit. `docs` is a
        name, names, a folder or a glob like "*.py". Only the first `limit` hits are returned
        (None: all), and a note says so. With `around` a hit is its line and so many before and
        behind it. Evidence for submit(value, evidence=[hit]); `.page` where there are pages.
        """
        hits = self._view.grep(pattern, docs, limit, flags, around)
        cut = isinstance(hits, Hits) and not hits.complete
        first = f"the first {len(hits):,} of more" if cut else ""
        return self._found(hits, "grep", pattern, derived.scope_of(docs, flags, first))

    def count(self, pattern: Any, docs: Any = None, flags: int = 0) -> int:
        """Count the matches of a regular expression in all documents, or in `docs`."""
        found = self._view.count(pattern, docs, flags)
        scope = derived.scope_of(docs, flags)
        self._origins.counted(found, pattern, self._calls.cell, scope)
        return found

    def search(self, words: Any, k: int = 5, docs: Any = None, *, meaning: bool = False) -> Any:
        """Find the `k` passages in which most of these words stand, best first.

        ``for name, line, text in search("annual fee members"): print(name, line, text)``

        For answers that stand in prose. Case and endings of words do not matter. A hit is a
        few lines from `line` on, otherwise like one of grep; `docs` as there. With
        `meaning` they are those that say what the words say, in other words too, where that is
        installed.
        """
        hits = self._view.search(words, k, docs, meaning=meaning)
        return self._found(hits, "search", words, derived.scope_of(docs, 0))

    def _found(self, hits: Any, how: str, asked: object, scope: str) -> Any:
        if isinstance(hits, Hits):
            origin = derived.Origin(how, derived.shown(asked), self._calls.cell, scope=scope)
            self._origins.made(hits, origin)
        return hits

    def table(
        self,
        name: Any = None,
        *,
        delimiter: str | None = None,
        header: bool | None = None,
        quotes: bool | None = None,
    ) -> Any:
        """Give a document that is a table (CSV, TSV, JSON lines, a sheet ...) as rows.

        ``for row in table("sales.csv"): print(row["city"], row["amount"])``

        Without a name the only document. A row is a dict; a column is int, float or bool where
        all its cells are written so (empty ones are None), else str, days too. `.columns`,
        `.types`, `len`, `t[5]`, `t[:10]`, `t.column(name)`; evidence: submit(value,
        evidence=[row]). With guest packages: `t.arrow()` (DuckDB reads it), `t.df()`. How the
        text is split is guessed, or given: delimiter, header=False (columns get numbers),
        quotes=False (quotes are characters).
        """
        return self._view.table(name, Written(delimiter, header, quotes))

    def chunks(
        self,
        text: Any = None,
        by: str = "tokens",
        size: int | None = None,
        overlap: int = 0,
        docs: Any = None,
    ) -> Any:
        """Cut a text of the context, a document by its name, or all of them (`docs` as in grep).

        ``parts = chunks(context); llm_query_batched(["Which dates?"] * len(parts), parts)``

        `by` is "tokens", "lines", "paragraphs", "headings" or "symbols" (classes and functions).
        `size` counts lines for by="lines" (100), else tokens, as the host estimates them
        (2000); paragraphs, headings and symbols are packed up to it, and cut only where one is
        larger; headings and symbols without a size are a chunk each. `overlap`, in the same
        unit, adds the end of the chunk before. A chunk is a str with .span, .name, .line, .page,
        .heading, .symbol; slices of it too. It is evidence, a child's context without a copy,
        an item of llm_map. Made when touched: of a huge text take a slice, or iterate.
        """
        return self._view.chunks(text, docs, Way(by, size, overlap))

    def cite(self, thing: object, label: object = None) -> Any:
        """Make evidence of a hit, a chunk, an exact quote, or of what was computed.

        ``submit(kinds.count("person"), evidence=[cite(kinds, "person")])``

        The result of llm_map, all hits of a grep, and the number that count gave are evidence by
        how they were computed: cell, instruction, labels with their counts, and places (of
        the items with that `label`). The host checks labels and places. A list of hits, rows or
        chunks is evidence by its places.
        """
        made = self._origins.derivation(thing, label)
        if made is not None:
            return made
        if _is_place(thing):
            return thing if _is_mark(thing) else self._view.place_of(thing)
        if isinstance(thing, Sequence | set | frozenset):
            listed = derived.selected(thing, self._calls.cell)
            if listed is not None:
                return listed
        raise TypeError(
            f"cite() cannot tell how this {type(thing).__name__} was made: give it a hit, a row, a "
            "chunk, a list of them, an exact quote, the list that llm_map or grep gave, or the "
            "number of one count()"
        )

    def submit(self, value: Any, evidence: Any = ()) -> None:
        """Give your answer: any JSON value (str, number, bool, list, dict).

        It counts when this cell ends without an error; the last one wins. `evidence` is a
        list of hits of grep, chunks, exact quotes from the context (a few words, or they need
        their place: "name:line: quote"), or for what was computed cite(...) of it.
        """
        plain = values.answer(self._answer.get("content") if value is self._answer else value)
        alone = isinstance(evidence, str | dict | Hit | Mapped | int)
        things = [evidence] if alone else _flat(evidence, self._origins)
        if len(things) > MAX_EVIDENCE:
            raise ValueError(
                f"{len(things):,} pieces of evidence; {MAX_EVIDENCE:,} are allowed: cite(hits) of "
                "all that a grep found is one"
            )
        every = [(thing, self._origins.derivation(thing)) for thing in things]
        computed = [made for _, made in every if made is not None]
        if len(computed) > derived.MAX_DERIVATIONS:
            most = derived.MAX_DERIVATIONS
            raise ValueError(f"{len(computed):,} derivations as evidence; {most} are allowed")
        rest = [thing for thing, made in every if made is None]
        places = [thing if _is_mark(thing) else self._view.place_of(thing) for thing in rest]
        frame = {"t": "submit", "cell": self._calls.cell, "value": plain, "evidence": places}
        if computed:
            frame["derivations"] = computed
        values.check_size(frame)
        self._calls.client.send(frame)
        self._submitted = True
        self.notes.append(f"submitted: {values.describe(plain)}")

    def FINAL(self, value: Any) -> None:  # noqa: N802 - the official engine's name
        """Give your answer: the same as submit(value)."""
        self.submit(value)

    def FINAL_VAR(self, name: Any) -> None:  # noqa: N802 - the official engine's name
        """Give the value of a name as your answer; ``FINAL_VAR("found")`` is submit(found)."""
        if not isinstance(name, str):
            self.submit(name)
            return
        plain = name.strip().strip("\"'`")
        if not plain.isidentifier():
            self.submit(name)
            return
        if plain not in self._namespace:
            own = [one for one, _ in visible(self._namespace, self._names)]
            there = ", ".join(own[:MAX_NAMED]) or "none of your own yet"
            raise NameError(f"no name {plain!r} (there are: {there}); for a text use submit(text)")
        self.submit(self._namespace[plain])

    def budget(self) -> dict[str, Any]:
        """Tell what is left: usd, calls, tokens, seconds, turns, depth. None: no ceiling."""
        return self._calls.budget()

    def SHOW_VARS(self) -> str:  # noqa: N802 - the official engine's name
        """List your names with types and sizes."""
        rows = []
        for name, value in visible(self._namespace, self._names):
            size = size_of(value)
            rows.append(f"{name}: {type_name(value)}" + (f"[{size:,}]" if size is not None else ""))
        shown = "\n".join(rows[:MAX_LISTED]) or "no names of your own yet"
        more = len(rows) - MAX_LISTED
        return Listing(f"{shown}\nand {more} more" if more > 0 else shown)

    def help(self, thing: Any = None) -> None:
        """Explain a name, as in ``help(grep)``."""
        print(explained(thing, {**self._names, **self.lent}))  # noqa: T201 - the model asked for it

    def _text(self, name: Any) -> str:
        """Give the text of a document; a context that is one text has one only."""
        context = self._view.context
        text: str = context if isinstance(context, str) else context[name]
        return text

    def begin(self) -> None:
        """Forget the last cell."""
        self.notes.clear()
        self._submitted = False

    def settle(self) -> None:
        """Take ``answer["ready"] = True`` for `submit` after a clean cell that did not."""
        self._take_answer()
        if self._submitted or not self._answer.get("ready"):
            return
        try:
            self.submit(self._answer.get("content"))
        except Exception as error:
            self.notes.append(f"answer was not taken: {error}")
        self._answer["ready"] = False

    def _take_answer(self) -> None:
        """Take what a cell has put in the place of `answer`, where it is one."""
        given = self._namespace.get("answer")
        if (
            given is not self._answer
            and type(given) is dict
            and given.keys() >= {"content", "ready"}
        ):
            self._answer.update(content=given["content"], ready=given["ready"])
            self._namespace["answer"] = self._answer

    def draft(self) -> Any:
        """``answer["content"]`` as JSON, or None."""
        self._take_answer()
        try:
            plain = values.answer(self._answer.get("content"))
            if not isinstance(plain, str):
                values.check_size({"draft": plain})
        except Exception:
            return None
        return plain


def _flat(things: Iterable[Any], origins: derived.Origins) -> list[Any]:
    """Take lists apart that stand in a list, but for those of which is known how they were made."""
    flat: list[Any] = []
    for thing in things:
        nested = isinstance(thing, list) and not _is_place(thing)
        flat += thing if nested and origins.derivation(thing) is None else [thing]
    return flat


def _is_place(thing: object) -> bool:
    """Tell what has a place by itself: a quote, a hit, a row, a chunk, ``(name, line, text)``."""
    if isinstance(thing, str) or hasattr(thing, "span") or _is_mark(thing):
        return True
    if not isinstance(thing, tuple | list) or len(thing) != 3:
        return False
    name, line, text = thing
    return type(name) in {str, int} and type(line) is int and isinstance(text, str)


def _is_mark(thing: object) -> bool:
    """Tell what `cite` has made of a place; the host checks every offset again."""
    return (
        isinstance(thing, dict)
        and thing.keys() == {"document", "start", "end", "quote"}
        and isinstance(thing["quote"], str)
        and all(type(thing[key]) is int for key in ("document", "start", "end"))
        and all(0 <= thing[key] < 1 << 50 for key in ("document", "start", "end"))
    )
