"""The public face of a run: `RLM`, and the `Answer` it gives. Everything waits inside `driver`."""

import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from abyme.core.effects import Finish
from abyme.core.events import EvidenceChecked, Record, RunFinished, RunResumed
from abyme.core.ids import ROOT, NodeId
from abyme.core.isolation import DEFAULT, Isolation, Tier
from abyme.core.limits import Limits
from abyme.errors import AbymeError, ConfigError, JournalError
from abyme.models.names import is_known_address
from abyme.ports import Model, Sandbox
from abyme.run import build, folders
from abyme.run.answers import Answer, answer_of, recorded, shaped
from abyme.run.folders import Input
from abyme.run.shape import Shape, shape_again, shape_of
from abyme.run.spec import Settings, Spec, new_seed, settle
from abyme.run.usage import Usage, usage_of
from abyme.run.waiting import Waiting

if TYPE_CHECKING:
    import asyncio

    from abyme.run.driver import Driver

# asyncio and what stands on it are imported where a run begins: importing RLM stays under 0.1 s.

T = TypeVar("T")
NewLimits: TypeAlias = Limits | Mapping[str, Any] | None


class RLM:
    """Recursive Language Model: asks a root model that works in a jailed REPL over a context.

    >>> rlm = RLM(model="openai:gpt-5", price=(1.25, 10))        # doctest: +SKIP
    >>> rlm.ask("Which contracts renew by themselves?", Path("contracts/")).value  # doctest: +SKIP

    One object may be asked many times, one question at a time; its connections, its warm
    interpreters and a local model's server live until `close`.

    Args:
        model: ``provider:model``; by default `local:coder-1.5b` when no key is set.
        sub_model: answers `llm_query`; by default the root model.
        base_url: any OpenAI-compatible endpoint; `sub_base_url` another one for the sub-model.
        api_key: by default from the environment (``OPENAI_API_KEY``, ``ABYME_API_KEY``, ...).
        price: dollars per million tokens of the root model, ``(input, output)`` or
            ``(input, output, cached input)``, where the table has none.
        sub_price: the same of the sub-model, where it is another model.
        max_output_tokens: of one reply, reasoning included; by default what the profile says
            (4,096, for models that reason 16,384, for local ones 1,024); never more than half of
            the window.
        window_tokens: prompt and reply of the root model together, where the table does not know
            it: near it older turns are folded. `sub_window_tokens`: the same of another sub-model.
        limits: ceilings of each run.
        sandbox: where cells run: ``jail`` (Linux), ``wasm`` or ``container``; an `Isolation` that
            says more (imports, guest packages, required layers); or a `Sandbox` of your own.
        warm: interpreters kept ready for the next questions (0.1 s and 15 MB each).
        cache: keep replies on disk, and answer equal requests of any run from there, for
            nothing. `fresh` and `samples` pass it by.
        ingest_cache: keep what was read on disk, and map it where the same files are named again.
        on_record: called with every journal record once it is written.
        on_text: called with pieces of root models' replies as they arrive.
        confirm: asked for a word on a batch of sub-calls above `Limits.confirm_usd`: number of
            calls, dollars that they are expected to cost.

    Raises:
        ConfigError: a setting is missing or contradicts another; nothing was started.
    """

    def __init__(  # noqa: PLR0913 - the product's settings; data, no modes
        self,
        model: str | Model | None = None,
        sub_model: str | Model | None = None,
        *,
        base_url: str | None = None,
        sub_base_url: str | None = None,
        api_key: str | None = None,
        price: str | tuple[float, ...] | None = None,
        sub_price: str | tuple[float, ...] | None = None,
        limits: Limits | None = None,
        runs_dir: Path | str | None = None,
        sandbox: Tier | Isolation | Sandbox = "jail",
        warm: int = 1,
        profile: str | Path | None = None,
        seed: int | None = None,
        max_output_tokens: int | None = None,
        window_tokens: int | None = None,
        sub_window_tokens: int | None = None,
        cache: bool = False,
        ingest_cache: bool = True,
        on_record: Callable[[Record], None] | None = None,
        on_text: Callable[[NodeId, str], None] | None = None,
        confirm: Callable[[int, float], Awaitable[bool]] | None = None,
    ) -> None:
        given = {
            role: one
            for role, one in (("root", model), ("sub", sub_model))
            if one is not None and not isinstance(one, str)
        }
        for one in given.values():
            if not callable(getattr(one, "complete", None)):
                raise ConfigError(f"a model is a name such as openai:gpt-5 or a Model, not {one!r}")
        if not isinstance(limits, Limits | None):
            raise ConfigError(f"limits must be a Limits, such as Limits(max_usd=1), not {limits!r}")
        isolation, brought = _isolation(sandbox)
        settings = Settings(
            model=build.name_of("root", model),
            sub_model=build.name_of("sub", sub_model),
            base_url=base_url,
            sub_base_url=sub_base_url,
            api_key=api_key,
            price=price,
            sub_price=sub_price,
            max_output_tokens=max_output_tokens,
            window_tokens=window_tokens,
            sub_window_tokens=sub_window_tokens,
            limits=Limits() if limits is None else limits,
            runs_dir=Path(runs_dir) if runs_dir is not None else None,
            isolation=isolation,
            profile=profile,
            seed=seed,
            cache=cache,
            ingest_cache=ingest_cache,
        )
        self._parts = build.Parts(settle(settings), given, brought, warm=warm)
        self._on_record = on_record
        self._on_text = on_text
        self._confirm = confirm
        self._check_confirm(settings.limits)
        self._driver: Driver | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = Waiting()
        self._lock = threading.Lock()

    @property
    def spec(self) -> Spec:
        """The settings, settled: endpoints, limits, profile, folders."""
        return self._parts.spec

    @classmethod
    def of_run(  # noqa: PLR0913 - what can be another one than in the run
        cls,
        run: Path | str,
        *,
        runs_dir: Path | str | None = None,
        base_url: str | None = None,
        sub_base_url: str | None = None,
        api_key: str | None = None,
        warm: int = 0,
        cache: bool = False,
        on_record: Callable[[Record], None] | None = None,
        on_text: Callable[[NodeId, str], None] | None = None,
        confirm: Callable[[int, float], Awaitable[bool]] | None = None,
    ) -> Self:
        """Make one with the models of an earlier run, to `resume` that run. Keys are not kept
        with runs: they come from the environment or from `api_key`. A `base_url` holds for the
        sub-model too, where that was at the root model's.

        Raises:
            ConfigError: a key is missing, or the model was a Python object.
            JournalError: there is no such run.
        """
        folder = folders.found(run, runs_dir)
        if not folder.has_spec():
            raise JournalError(f"{folder.id} was cut off before it began, at no cost: ask again")
        spec = folder.spec()
        if build.is_given(spec.model) or build.is_given(spec.sub_model):
            raise ConfigError(
                "the run's model was a Python object: use RLM(model=...).resume(run) with the same"
            )
        if sub_base_url is None and spec.sub_base_url == spec.base_url:
            sub_base_url = base_url
        if not folders.is_own(folder, runs_dir):
            for given, url in ((base_url, spec.base_url), (sub_base_url, spec.sub_base_url)):
                if given is None and url and not is_known_address(url):
                    raise ConfigError(
                        f"{folder.id} lies outside of your runs and names {url} as its endpoint: "
                        f"give --base-url {url} if your key and your data may go there"
                    )
        return cls(
            spec.model,
            spec.sub_model,
            base_url=base_url or spec.base_url or None,
            sub_base_url=sub_base_url or spec.sub_base_url or None,
            api_key=api_key,
            limits=Limits(max_usd=None),  # prices and limits are the run's own
            runs_dir=folder.path.parent,
            warm=warm,
            cache=cache,
            on_record=on_record,
            on_text=on_text,
            confirm=confirm,
        )

    def warm_up(self) -> None:
        """Start an interpreter for the next question while you prepare it. Need not be called."""
        self._waiting.run(self._parts.warm_up())

    def ask(self, question: str, context: Input, schema: Any = None) -> Answer:
        """Answer `question` over `context`: text, texts, named texts, paths, `Sources` (globs,
        URLs, git revisions, patterns), or a sealed context.

        With a `schema` the answer has that shape: a pydantic model or `TypeAdapter`, a dataclass,
        msgspec `Struct`, `TypedDict` or ``list[Row]``, or a JSON Schema as a dict. A class gets an
        instance, a dict plain JSON. The root model is told of it, and twice what is wrong; then
        the run has failed (`reason` begins with ``bad_shape``). `value` never pretends: whatever
        the status, it is of that shape or None, and `unfit` holds what was there instead.

        Raises:
            ConfigError: an empty question, a schema that cannot be kept.
            ContextError: nothing to read.
            JournalError: the run cannot be recorded; like any error that ends a run that has
                begun, it carries `run` and `usage`.
        """
        return self._waiting.run(self.aask(question, context, schema))

    async def aask(self, question: str, context: Input, schema: Any = None) -> Answer:
        """`ask` for asynchronous callers."""
        if not isinstance(question, str):
            raise ConfigError(f"a question is a str, not {type(question).__name__}")
        if not question.strip():
            raise ConfigError("the question is empty: say what you want to know of the context")
        shape = None if schema is None else shape_of(schema)
        with self._busy():
            return await self._run(question, context, shape)

    def resume(
        self,
        run: Path | str,
        *,
        context: Input | None = None,
        limits: NewLimits = None,
        schema: Any = None,
    ) -> Answer:
        """Go on with a run that was killed, stopped, or ended without its answer.

        What was paid for is not paid again, but for calls in flight when it was cut off.

        Args:
            run: ``latest``, an id, the beginning or end of one, or a run's folder.
            context: the same input, where the run cannot read it again by itself.
            limits: in place of the run's own, or those to change, such as ``{"max_usd": 10}``.
                What was spent counts.
            schema: the one that was given to `ask`, so that the value is of its class; without
                it the value is JSON that fits.

        Raises:
            ConfigError: it has its answer, would meet the same limit at once, or its models are
                not those of this object, or its schema not the one given.
            ContextError: the input is not what it was.
            JournalError: there is no such run, it is running, or it cannot be continued.
        """
        return self._waiting.run(self.aresume(run, context=context, limits=limits, schema=schema))

    async def aresume(
        self,
        run: Path | str,
        *,
        context: Input | None = None,
        limits: NewLimits = None,
        schema: Any = None,
    ) -> Answer:
        """`resume` for asynchronous callers."""
        with self._busy():
            return await self._resume(str(run), context, limits, schema)

    def completion(self, prompt: Input, root_prompt: str | None = None) -> Answer:
        """Answer like the official engine: `prompt` is the context, `root_prompt` the question."""
        return self.ask(root_prompt or QUESTION_IS_INSIDE, prompt)

    def stop(self) -> None:
        """Ask the run to end: the first call with what is there, the second one at once.

        Safe in any thread and in a signal handler; without a run it does nothing.
        """
        driver, loop = self._driver, self._loop
        if driver is not None and loop is not None:
            loop.call_soon_threadsafe(driver.stop)

    def close(self) -> None:
        """Let go of connections, interpreters and a local model's server. Safe to repeat."""
        self._waiting.run(self.aclose())
        self._waiting.close()

    async def aclose(self) -> None:
        """`close` for asynchronous callers."""
        await self._parts.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _check_confirm(self, limits: Limits) -> None:
        if limits.confirm_usd is not None and self._confirm is None:
            raise ConfigError(NOBODY_TO_ASK)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise ConfigError("this RLM is answering a question; use another RLM beside it")
        try:
            yield
        finally:
            self._driver = self._loop = None
            self._lock.release()

    async def _resume(
        self, name: str, given: Input | None, limits: NewLimits, schema: Any
    ) -> Answer:
        import asyncio  # noqa: PLC0415

        from abyme.run.resume import take_up  # noqa: PLC0415

        folder = folders.found(name, self.spec.runs_dir)
        now = datetime.now(UTC)
        taken = await asyncio.to_thread(take_up, folder, limits=limits, now=now)
        if taken.past.is_answered:
            with closing(taken.journal):
                shape = shape_again(schema, taken.started.answer_schema)
                answer = recorded(taken.records, run=folder.path)
                try:
                    folder.write_answer(folders.outcome(answer))
                except JournalError as error:
                    answer = replace(answer, unrecorded=str(error))
                return shaped(answer, shape)
        try:
            self._check_confirm(taken.begins.limits)
            shape = shape_again(schema, taken.started.answer_schema)
            context, owned = await asyncio.to_thread(folders.context_again, folder, given)
        except BaseException:
            taken.journal.close()
            raise
        try:
            return await self._drive(await self._parts.go_on(taken, context), shape)
        finally:
            taken.journal.close()
            if owned:
                context.close()

    async def _run(self, question: str, given: Input, shape: Shape | None) -> Answer:
        seed = self.spec.seed if self.spec.seed is not None else new_seed()
        now = datetime.now(UTC)
        await self._parts.warm_up()
        import asyncio  # noqa: PLC0415

        context, owned = await asyncio.to_thread(folders.open_context, given, self.spec)
        try:
            run = await self._parts.begin(
                question,
                context,
                seed=seed,
                now=now,
                answer_schema=None if shape is None else shape.schema,
            )
            return await self._drive(run, shape)
        finally:
            if owned:
                context.close()

    async def _drive(self, run: build.Run, shape: Shape | None) -> Answer:
        """Drive a run to its end. An answer that was paid for is given, recorded or not."""
        import asyncio  # noqa: PLC0415

        from abyme.run.driver import Driver  # noqa: PLC0415

        checked: list[EvidenceChecked] = []

        def seen(record: Record) -> None:
            if isinstance(record.event, RunResumed):
                run.folder.remove_answer()  # its end is in the journal, and is not its end
            if record.node == ROOT and isinstance(record.event, EvidenceChecked):
                checked[:] = [record.event]
            if self._on_record is not None:
                self._on_record(record)

        ports = run.ports(
            on_record=seen,
            on_text=self._on_text,
            confirm=self._confirm,
            misfit=None if shape is None else shape.misfit,
        )
        driver = Driver(run.begins, ports, run.past)
        self._driver, self._loop = driver, asyncio.get_running_loop()

        def end(finished: RunFinished | Finish) -> Answer:
            usage = self._usage(driver)
            last = checked[0] if checked else None
            return answer_of(finished, checked=last, usage=usage, run=run.folder.path)

        try:
            async with aclosing(run):
                answer = end(await driver.run())
                run.folder.write_answer(folders.outcome(answer))
                return shaped(answer, shape)
        except JournalError as error:
            if driver.tree.finished is None:
                error.run, error.usage = run.folder.path, self._usage(driver)
                raise
            answer = end(driver.tree.finished)
            return shaped(replace(answer, unrecorded=str(error)), shape)
        except AbymeError as error:
            error.run, error.usage = run.folder.path, self._usage(driver)
            raise

    def _usage(self, driver: "Driver") -> Usage:
        return usage_of(driver.tally, wall_s=driver.elapsed_s)


QUESTION_IS_INSIDE = (
    "The context holds a whole prompt, its question or instruction included. "
    "Find what it asks for, and answer that."
)
NOBODY_TO_ASK = "Limits.confirm_usd needs RLM(confirm=...), who is asked then; or set it to None"


def _isolation(sandbox: Tier | Isolation | Sandbox) -> tuple[Isolation, Sandbox | None]:
    """Tell settings of a sandbox from one that the caller has brought."""
    if isinstance(sandbox, Isolation):
        return sandbox, None
    if isinstance(sandbox, str):
        return Isolation(tier=sandbox), None
    return DEFAULT, sandbox
