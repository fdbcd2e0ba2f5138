"""One cell: compile, run, echo, and tell what came of it. Exact CPython.

Decides what the model is shown of an error (its own frames, with source lines)
and which names are its own. Invariant: a cell that raises keeps what it had
bound, whatever it raised. Does not catch what kills a process.

`from __future__` imports hold for later cells, as in Python's own prompt; a bare
last expression is echoed with `repr`; `await` works at top level, with one event
loop a cell.
"""

import __future__

import ast
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from types import CodeType, ModuleType, WrapperDescriptorType
from typing import Any, Final, Self

from abyme.guest import digest
from abyme.guest.advice import advice
from abyme.guest.interrupts import Interrupts
from abyme.guest.sink import Sink

MAX_ERROR_CHARS: Final = 8_000
FUTURE_FLAGS: Final = {
    name: getattr(__future__, name).compiler_flag for name in __future__.all_feature_names
}

Namespace = dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """How a cell's code ended."""

    error: BaseException | None = None
    text: str | None = None
    """The traceback, where there is an error."""
    interrupted: bool = False
    """It ended because of an interrupt."""
    hit: bool = False
    """An interrupt was felt, even if the code has caught it."""
    notes: list[str] = field(default_factory=list)


class Runner:
    """Runs cells in one namespace."""

    def __init__(
        self,
        namespace: Namespace,
        sink: Sink,
        interrupts: Interrupts,
        put_back: Callable[[], list[str]],
    ) -> None:
        self._namespace = namespace
        self._put_back = put_back
        self._sink = sink
        self._interrupts = interrupts
        self._future = 0
        self._tree: ast.Module | None = None

    def rehearse(self) -> None:
        """Run a cell that does nothing."""
        self._execute("pass", "<rehearsal>")
        self._put_back()

    def run(self, number: int, source: str) -> Outcome:
        """Run one cell to its end."""
        name = f"<cell {number}>"
        lines = source.splitlines(keepends=True)
        linecache.cache[name] = (len(source), None, lines, name)
        error = self._interrupts.run(lambda: self._execute(source, name))
        put_back = self._put_back()  # first of all: the next line may stand on it
        outcome = Outcome(error=error, hit=self._interrupts.fired)
        outcome.notes += [f"{one} was put back" for one in put_back]
        if isinstance(error, SystemExit) and error.code in (None, 0):
            outcome.error = None
            outcome.notes.append("exit ended this cell only; the session and its names go on")
        elif error is not None:
            outcome.text = describe(error)
            outcome.interrupted = outcome.hit and isinstance(error, KeyboardInterrupt)
            outcome.notes += advice(error)
        return outcome

    def take_tree(self) -> ast.Module | None:
        """Give the last cell's source as it was parsed, without a last expression; once."""
        tree, self._tree = self._tree, None
        return tree

    def _execute(self, source: str, name: str) -> None:
        tree = compile(source, name, "exec", ast.PyCF_ONLY_AST | self._flags, dont_inherit=True)
        if not isinstance(tree, ast.Module):
            raise TypeError(type(tree))
        self._tree = tree
        last: ast.Expression | None = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        body = self._compile(tree, name, "exec")
        echo = self._compile(last, name, "eval") if last is not None else None
        with _Loop() as loop:
            loop.run(body, self._namespace)
            if echo is not None:
                value = loop.run(echo, self._namespace)
                if value is not None:
                    self._sink.write(f"{value!r}\n")

    def _compile(self, tree: ast.Module | ast.Expression, name: str, mode: str) -> CodeType:
        code: CodeType = compile(tree, name, mode, self._flags, dont_inherit=True)
        for flag in FUTURE_FLAGS.values():
            self._future |= code.co_flags & flag
        return code

    @property
    def _flags(self) -> int:
        return ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | self._future


class _Loop:
    """An event loop that exists only if the cell awaits something."""

    def __init__(self) -> None:
        self._runner: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            self._runner.close()

    def run(self, code: CodeType, namespace: Namespace) -> Any:
        value = eval(code, namespace)  # noqa: S307 - running a cell is what the guest is for
        if not code.co_flags & inspect.CO_COROUTINE:
            return value
        if self._runner is None:
            import asyncio  # noqa: PLC0415 - most cells never await

            self._runner = asyncio.Runner()
        try:
            return self._runner.run(value)
        except KeyboardInterrupt as error:
            if value.cr_frame is not None:  # it is suspended, so that no traceback shows it
                error.add_note(f"It was awaiting in {code.co_filename}, line {_line(value)}.")
            raise


def _line(coroutine: Any) -> int:
    number: int = coroutine.cr_frame.f_lineno
    return number


def describe(error: BaseException) -> str:
    """Give the traceback of the model's own frames, as Python prints it."""
    try:
        report = traceback.TracebackException.from_exception(error, compact=True)
        _keep_own(report)
        text = "".join(report.format())
    except BaseException:  # its __str__ or __repr__ may do anything
        text = f"{type(error).__name__}\n"
    if len(text) > MAX_ERROR_CHARS:
        half = MAX_ERROR_CHARS // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half:,} characters cut ...]\n{text[-half:]}"
    return text


def _keep_own(report: traceback.TracebackException) -> None:
    """Cut frames that are not the model's, in causes and groups too."""
    todo, seen = [report], set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        own = [frame for frame in one.stack if frame.filename.startswith("<cell ")]
        one.stack = traceback.StackSummary.from_list(own)
        if not own:
            one.stack = None  # type: ignore[assignment]  # no "Traceback" line over nothing
        todo += [other for other in (one.__cause__, one.__context__) if other is not None]
        todo += getattr(one, "exceptions", None) or []


def visible(namespace: Namespace, engine: Collection[str]) -> Iterator[tuple[str, Any]]:
    """List the model's own names: no engine names, no underscores, no modules."""
    for name, value in list(namespace.items()):
        hidden = not isinstance(name, str) or name.startswith("_") or name in engine
        if not hidden and type(value) is not ModuleType:
            yield name, value


def size_of(value: object) -> int | None:
    """`len`, where asking runs no code of the model's."""
    for kind in digest.lineage(type(value)):
        method = digest.attributes(kind).get("__len__")
        if method is not None:
            return _length(value) if type(method) is WrapperDescriptorType else None
    return None


def _length(value: Any) -> int | None:
    try:
        return len(value)
    except Exception:
        return None


def type_name(value: object) -> str:
    """Name the type of a value in a word."""
    kind = type(value)
    if any(one is type for one in digest.lineage(kind)):
        return "class"
    name: str = digest.type_name(kind)
    return name[:100]


def adopt_streams(sink: Sink) -> None:
    """Make the sink stdout and stderr, also where a cell left something else."""
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = sink  # type: ignore[misc, assignment]
