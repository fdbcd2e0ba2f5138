"""What Python does in a cell, on every tier: that of CPython, and what the engine adds to it.

Decides by exact values, and on the host: what the last cell printed, how it ended, what was
submitted. Which names there are and what they do is told in docs/reference/repl.md.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from abyme.core.events import CellFinished
from abyme.sandboxes.self_check.behaviour import Behaviour, Judge, Need, Seen
from abyme.sandboxes.self_check.samples import LINES, TEXT

PYTHON: Final = "Python language reference"
SURFACE: Final = "design section 1"
MODEL: Final = "being the model"


def _last(look: Callable[[CellFinished], str]) -> Judge:
    return lambda seen: look(seen.cells[-1]) if seen.cells else "no cell ended"


def shows(output: str) -> Judge:
    """Judge that the last cell ends cleanly with exactly this output."""

    def look(cell: CellFinished) -> str:
        got = (cell.ended, cell.error, cell.output)
        return "" if got == ("clean", None, output) else f"expected {output!r}, got {got!r}"

    return _last(look)


def raises(error: str, output: str = "") -> Judge:
    """Judge that the last cell raises what matches this pattern to its end, after that output."""

    def look(cell: CellFinished) -> str:
        fits = re.search(error + r"\Z", cell.error or "")
        if cell.ended == "raised" and fits and cell.output == output:
            return ""
        return f"expected {error!r}, got {(cell.ended, cell.error, cell.output)!r}"

    return _last(look)


def notes(*words: str) -> Judge:
    """Judge that exactly these notes come with the last cell."""
    return _last(lambda cell: "" if cell.notes == list(words) else f"the notes are {cell.notes!r}")


def submits(*values: Any) -> Judge:
    """Judge that exactly these answers were submitted, by cells that ended cleanly."""

    def look(seen: Seen) -> str:
        clean = {cell.cell for cell in seen.cells if cell.ended == "clean"}
        got = [one.value for one in seen.submitted if one.cell in clean]
        return "" if got == list(values) else f"submitted was {got!r}"

    return look


def asks(*prompts: str) -> Judge:
    """Judge that sub-calls with these prompts were asked for, in any order of batches."""

    def look(seen: Seen) -> str:
        got = sorted(one.prompt for batch in seen.batches for one in batch.requests)
        return "" if got == sorted(prompts) else f"asked was {got!r}"

    return look


def both(*judges: Judge) -> Judge:
    """Judge by all of them."""
    return lambda seen: next((wrong for judge in judges if (wrong := judge(seen))), "")


def _check(  # noqa: PLR0913 - the fields of an entry that differ
    name: str,
    sentence: str,
    cells: Sequence[str],
    judge: Judge,
    source: str = SURFACE,
    *,
    needs: frozenset[Need] = frozenset(),
    context: Any = "text",
) -> Behaviour:
    return Behaviour(
        id=name,
        sentence=sentence,
        source=source,
        cells=tuple(cells),
        judge=judge,
        needs=needs,
        context=context,
        kind="semantics",
    )


THREADS: Final = frozenset[Need]({"threads"})

LANGUAGE: Final = (
    _check("python.echo", "A bare last expression is shown, None and a statement are not.",
           ["x = 'it'\nx", "None", "print(1)\n{'a': [2]}"], shows("1\n{'a': [2]}\n"), PYTHON),
    _check("python.namespace", "Names persist, and functions see globals that change later.",
           ["def outer():\n    def inner(): return G\n    return inner\nG = 1\nf = outer()",
            "G = 7", "f()"], shows("7\n"), PYTHON),
    _check("python.counter", "A function of an earlier cell binds a global.",
           ["n = 0\ndef tick():\n    global n\n    n += 1", "tick()", "tick()", "n"], shows("2\n"),
           PYTHON),
    _check("python.partial", "A cell that raises keeps what it had bound.",
           ["x = 1\n1/0\ny = 2", "x, 'y' in globals()"], shows("(1, False)\n"), MODEL),
    _check("python.class", "Classes, inheritance and super work over cells.",
           ["class A:\n    def f(self): return 'A'",
            "class B(A):\n    def f(self): return super().f() + 'B'", "B().f(), B.__mro__[1] is A"],
           shows("('AB', True)\n"), PYTHON),
    _check("python.dataclass", "Dataclasses resolve their annotations and compare.",
           [("import dataclasses, typing\n@dataclasses.dataclass(order=True)\nclass P:\n"
            "    x: 'int'\n    y: list = dataclasses.field(default_factory=list)"),
            "P(1) < P(2), P(3), typing.get_type_hints(P)['x']"],
           shows("(True, P(x=3, y=[]), <class 'int'>)\n"), PYTHON),
    _check("python.pickle", "An object of the model's own class can be pickled and copied.",
           ["import copy, pickle\nclass P:\n    def __init__(self, x): self.x = x", "p = P([1])",
            "pickle.loads(pickle.dumps(p)).x, copy.deepcopy(p).x, P.__module__"],
           shows("([1], [1], '__main__')\n"), PYTHON),
    _check("python.generator", "A generator lives on between cells.",
           ["def g():\n    got = yield 1\n    yield got", "it = g()\nnext(it)", "it.send('more')"],
           shows("'more'\n"), PYTHON),
    _check("python.await", "Top-level await works, with tasks and gather.",
           ["import asyncio\nasync def g(n):\n    await asyncio.sleep(0)\n    return n",
            "await asyncio.gather(g(1), asyncio.create_task(g(2)))"], shows("[1, 2]\n"), SURFACE),
    _check("python.async_for", "Asynchronous loops, contexts and comprehensions work.",
           ["async def g():\n    for n in range(3):\n        yield n", "[n async for n in g()]"],
           shows("[0, 1, 2]\n"), PYTHON),
    _check("python.exec", "eval and exec work in the one namespace.",
           ["exec('made = 1')", "eval('made + 1'), (lambda: made)()"], shows("(2, 1)\n"), PYTHON),
    _check("python.main", "The namespace is that of a real module `__main__`.",
           ["import sys\nvars(sys.modules['__main__']) is globals(), __name__"],
           shows("(True, '__main__')\n"), PYTHON),
    _check("python.closure", "Closures, nonlocal and default arguments work.",
           [("def c():\n    n = 0\n    def up(by=2):\n        nonlocal n\n        n += by\n"
            "        return n\n    return up\nf = c()"), "f(), f(), f(5)"], shows("(2, 4, 9)\n"),
           PYTHON),
    _check("python.match", "Pattern matching works.",
           ["match {'a': [1, 2, 3]}:\n    case {'a': [first, *rest]}: print(first, rest)"],
           shows("1 [2, 3]\n"), PYTHON),
    _check("python.future", "A future import holds for later cells.",
           ["from __future__ import annotations", "def f(a: Undefined): ...\nf.__annotations__"],
           shows("{'a': 'Undefined'}\n"), PYTHON),
    _check("python.bigint", "Integers are as large as they need to be.",
           ["x = 2**521 - 1", "x % 10**9, (x * x).bit_length(), int(str(x)) == x"],
           shows("(115057151, 1042, True)\n"), PYTHON),
    _check("python.float", "Floats are those of IEEE 754, shown by their shortest form.",
           ["0.1 + 0.2, 1e308 * 10, -0.0, float('nan') == float('nan')"],
           shows("(0.30000000000000004, inf, -0.0, False)\n"), PYTHON),
    _check("python.unicode", "Text of any script, and lone surrogates, survive both ways.",
           ["s = 'ü中\U0001f600\\ud800'", "print(s, end='')\nlen(s), s[3] == '\\ud800'"],
           shows("ü中\U0001f600\ud800(4, True)\n"), PYTHON),
    _check("python.random", "`random` is seeded the same in each REPL of a node.",
           ["import random", "r = random.Random(7)\nrandom.random() == r.random()"],
           shows("True\n"), "design section 3"),
    _check("python.random_goes_on", "`random` goes on over cells as in plain Python.",
           ["import random\nrandom.seed(3)", "a = random.random()",
            "r = random.Random(3)\n[a, random.random()] == [r.random(), r.random()]"],
           shows("True\n"), "design section 3"),
    _check("python.hash", "The hash of a text is fixed by a seed, so set order repeats.",
           ["import sys\nsys.flags.hash_randomization, hash('x') == hash('x' + '')"],
           shows("(1, True)\n"), "design section 3"),
    _check("python.stdlib", "The modules that models reach for are there.",
           [("import bisect, collections, csv, datetime, decimal, difflib, fractions, functools, "
            "hashlib, heapq, html, io, itertools, json, math, operator, re, statistics, string, "
            "textwrap, unicodedata, zlib"),
            ("json.loads('{\"a\": [1]}'), collections.Counter('aab').most_common(1), "
            "decimal.Decimal('0.1') * 3, str(datetime.date(2026, 2, 28))")],
           shows("({'a': [1]}, [('a', 2)], Decimal('0.3'), '2026-02-28')\n"), MODEL),
    _check("python.threads", "Threads of a cell run and can be joined.",
           [("import threading\nseen = []\nt = [threading.Thread(target=seen.append, args=(n,)) "
            "for n in range(4)]\nfor one in t: one.start()\nfor one in t: one.join()"),
            "sorted(seen)"], shows("[0, 1, 2, 3]\n"), SURFACE, needs=THREADS),
)  # fmt: skip

ERRORS: Final = (
    _check("error.traceback", "A traceback has the model's own frames only, with source lines.",
           ["import json\ndef parse(s):\n    return json.loads(s)", "v = 1\nparse('{')"],
           raises(r"\ATraceback \(most recent call last\):\n"
                  r'  File "<cell 2>", line 2, in <module>\n'
                  r"    parse\('\{'\)\n(?: *[\^~]+\n)?"
                  r'  File "<cell 1>", line 3, in parse\n    return json.loads\(s\)\n'
                  r"(?: *[\^~]+\n)?"
                  r"json\.decoder\.JSONDecodeError: [^\n]+\n"), MODEL),
    _check("error.syntax", "A syntax error has its line and a caret, and no traceback.",
           ["x = 1\ndef f(:"],
           raises(r'\A  File "<cell 1>", line 2\n    def f\(:\n          \^\n'
                  r"SyntaxError: invalid syntax\n"), MODEL),
    _check("error.cause", "Causes and groups are shown in full.",
           [("try:\n    1/0\nexcept ZeroDivisionError as e:\n"
            "    raise ExceptionGroup('g', [ValueError(5)]) from e")],
           raises(r"(?s)ZeroDivisionError.*direct cause.*ExceptionGroup: g.*ValueError: 5\n.*"),
           PYTHON),
    _check("error.recursion", "Endless recursion is a RecursionError, and the REPL goes on.",
           ["def f(): f()\ntry: f()\nexcept RecursionError: print('caught')", "1"], shows("1\n"),
           PYTHON),
    _check("error.unshowable", "An exception that cannot be shown is named.",
           ["class Bad(Exception):\n    def __str__(self): raise RuntimeError\nraise Bad"],
           raises(r"Bad: <exception str\(\) failed>\n"), MODEL),
    _check("error.exit", "exit() ends the cell only.",
           ["x = 4\nexit()\nx = 5", "x"], shows("4\n"), MODEL),
    _check("error.exit_code", "Leaving with a message is an error that shows it.",
           ["import sys\nsys.exit('bad')"], raises(r"SystemExit: bad\n"), MODEL),
    _check("error.input", "input() says that nobody can be asked.",
           ["input('name? ')"],
           _last(lambda cell: "" if "EOFError: nobody can be asked here" in (cell.error or "")
                 else f"the error is {cell.error!r}"), MODEL),
    _check("error.output", "What was printed before an error is shown.",
           ["print('so far')\nraise ValueError('v')"], raises(r"ValueError: v\n", "so far\n"),
           MODEL),
)  # fmt: skip

_HEAD, _TAIL = 5_000, 4_999

OUTPUT: Final = (
    _check("output.order", "Output, errors and echo share one stream, in order.",
           ["import sys\nprint('a')\nprint('b', file=sys.stderr)\nsys.stdout.write('c\\n')\n'e'"],
           shows("a\nb\nc\n'e'\n")),
    _check("output.cut", "Long output is cut in the middle; head and tail are kept.",
           ["print('a' * 500_000 + 'b' * 500_000)"],
           shows("a" * _HEAD + "\n[... 990,001 characters cut; last_output has them ...]\n"
                 + "b" * _TAIL + "\n"), MODEL),
    _check("output.last", "`last_output` has the whole of it.",
           ["print('a' * 500_000 + 'b' * 500_000)", "len(last_output), last_output[-2:]"],
           shows("(1000001, 'b\\n')\n"), MODEL),
    _check("output.changed", "New and changed names come with type and size.",
           ["grows = []", "grows.append(1)\ntext = 'abc'\ndef f(): ..."],
           _last(lambda cell: "" if [(n.name, n.type, n.size) for n in cell.changed] == [
               ("grows", "list", 1), ("text", "str", 3), ("f", "function", None)]
               else f"the names are {cell.changed!r}"), MODEL),
    _check("output.show_vars", "SHOW_VARS lists the model's names with types.",
           ["labels = {'a': 1}", "shown = SHOW_VARS()", ("'labels' in shown, 'dict' in shown, "
            "'llm_query' in shown")], shows("(True, True, False)\n")),
    _check("output.help", "help() tells what an engine's name does.",
           ["help(submit)"], _last(lambda cell: "" if cell.output.startswith("submit(value")
                                   else f"it shows {cell.output[:80]!r}")),
)  # fmt: skip

CONTEXT: Final = (
    _check("context.text", "A text is a real `str`.",
           ["type(context) is str, len(context), context[:7], hash(context) == hash(context + '')"],
           shows(f"(True, {len(TEXT)}, 'line 1:', True)\n")),
    _check("context.operations", "A text splits, slices, joins and matches as any other.",
           [("import re\nlines = context.splitlines()\nlen(lines), lines[-1], "
            "context.count('beta'), len(re.findall('gamma', context)), context[::-1][1:6]")],
           shows(f"({LINES}, 'line {LINES}: alpha beta gamma', {LINES}, {LINES}, 'ammag')\n")),
    _check("context.documents", "Documents are an ordered mapping of names to `str`.",
           [("[(name, text) for name, text in context.items()], context['b/ü.txt'][-2], "
            "len(context), 'a.txt' in context, list(context), type(context['a.txt']) is str")],
           shows("([('a.txt', 'one\\ntwo\\n'), ('b/ü.txt', 'drei £ \U0001f600\\n'), "
                 "('empty.txt', '')], '\U0001f600', 3, True, ['a.txt', 'b/ü.txt', 'empty.txt'], "
                 "True)\n"), context="documents"),
    _check("context.read_only", "The mapping cannot be changed, and says so.",
           ["context['a.txt'] = 'other'"], raises(r"TypeError: [^\n]+\n"), context="documents"),
    _check("context.list", "A list is a `list` of `str`.",
           ["isinstance(context, list), context, [len(text) for text in context]"],
           shows("(True, ['first', '', 'third'], [5, 0, 5])\n"), context="list"),
    _check("context.grep", "grep gives places that unpack to name, line and text.",
           ["[(line, text) for name, line, text in grep('line 4999[89]: ')]"],
           shows("[(49998, 'line 49998: alpha beta gamma'), "
                 "(49999, 'line 49999: alpha beta gamma')]\n")),
    _check("context.count", "count counts, also patterns that need look-around.",
           ["count('beta'), count(r'(?<=: )alpha'), count('nothing')"],
           shows(f"({LINES}, {LINES}, 0)\n")),
    _check("context.search", "search finds passages by words.",
           ["search('drei')[0][0]"], shows("'b/ü.txt'\n"), context="documents"),
    _check("context.put_back", "Engine names that a cell has bound anew are put back.",
           ["context = 5\ndel grep\nllm_query = None",
            "type(context) is str, callable(grep), callable(llm_query)"],
           shows("(True, True, True)\n")),
    _check("context.put_back_told", "The model is told of names that were put back.",
           ["context = 5"], notes("`context` belongs to the engine and was put back")),
)  # fmt: skip

CALLS: Final = (
    _check("calls.one", "A sub-call brings a `str`.",
           ["reply = llm_query('p')", "reply, type(reply) is str"], shows("('<p>', True)\n")),
    _check("calls.order", "A batch keeps its order.",
           ["llm_query_batched([f'p{n}' for n in range(5)])"],
           shows("['<p0>', '<p1>', '<p2>', '<p3>', '<p4>']\n")),
    _check("calls.failed", "A batch with a failure raises, with what came and what did not.",
           [("try:\n    llm_query_batched(['a', 'fail', 'c'])\nexcept BatchFailed as e:\n"
            "    print(e.results, list(e.errors), isinstance(e, ModelError))")],
           shows("['<a>', None, '<c>'] [1] True\n"), MODEL),
    _check("calls.raises", "A call that fails raises; its failure is never an answer.",
           ["llm_query('fail')"], raises(r"ModelError: it was asked to fail\n"), MODEL),
    _check("calls.log", "`calls` keeps every result, and failures apart from them.",
           ["llm_query('a')", "try: llm_query('fail')\nexcept ModelError: pass",
            "[(c.prompt, c.text, c.error) for c in calls]"],
           shows("[('a', '<a>', None), ('fail', None, 'it was asked to fail')]\n"), MODEL),
    _check("calls.schema", "With a schema the value comes, not its text.",
           ["llm_query('p', schema={'type': 'string'})"], shows("'<p>'\n")),
    _check("calls.samples", "Samples bring a list of replies.",
           ["llm_query('p', samples=3)"], shows("['<p>', '<p>', '<p>']\n")),
    _check("calls.child", "rlm_query asks a child.",
           ["rlm_query('p'), rlm_query_batched(['q', 'r'])"],
           both(shows("('<p>', ['<q>', '<r>'])\n"), asks("p", "q", "r"))),
    _check("calls.map", "llm_map gives a value for each item, in order.",
           ["llm_map(['x', 'y'], 'What is it?')"], shows("['<x>', '<y>']\n")),
    _check("calls.threads", "Sub-calls work from threads, several at once.",
           [("from concurrent.futures import ThreadPoolExecutor as Pool\n"
            "with Pool(4) as pool: got = list(pool.map(llm_query, 'abcd'))\ngot")],
           both(shows("['<a>', '<b>', '<c>', '<d>']\n"), asks(*"abcd")), needs=THREADS),
    _check("calls.asyncio", "Sub-calls work from asyncio, several at once.",
           [("import asyncio\nawait asyncio.gather(*(asyncio.to_thread(llm_query, p) "
            "for p in 'ab'))")], shows("['<a>', '<b>']\n"), needs=THREADS),
    _check("calls.long", "A prompt of megabytes arrives whole.",
           ["r = llm_query('ü' * 3_000_000)\nlen(r), r[:2], r[-2:]"],
           shows("(3000002, '<ü', 'ü>')\n")),
    _check("calls.budget", "budget() says what is left.",
           ["b = budget()\nb['usd'], b['calls'], b['depth']"], shows("(1.0, 10, 2)\n"), MODEL),
)  # fmt: skip

ANSWERS: Final = (
    _check("answer.submit", "submit hands over a value of JSON as it is.",
           ["submit({'n': [1, 2.5, None, 'ü'], 'ok': True})"],
           submits({"n": [1, 2.5, None, "ü"], "ok": True})),
    _check("answer.last", "Every submission is told of, so that the last can win.",
           ["submit('first')", "submit('second')"], submits("first", "second")),
    _check("answer.raising", "A submission of a cell that raises does not count.",
           ["submit('early')\n1/0"], submits(), MODEL),
    _check("answer.empty", "An empty answer is refused.",
           ["submit('')"], both(raises(r"ValueError: [^\n]+\n"), submits()), MODEL),
    _check("answer.ready", "A draft that is declared ready is submitted.",
           ["answer['content'] = 'draft'", "answer['ready'] = True"], submits("draft")),
    _check("answer.draft", "A draft alone is kept, not submitted.",
           ["answer['content'] = 'draft'"],
           both(submits(), _last(lambda cell: "" if cell.draft == "draft"
                                 else f"the draft is {cell.draft!r}"))),
    _check("answer.final", "FINAL and FINAL_VAR submit, as in the official engine.",
           ["found = 'it'\nFINAL_VAR('found')", "FINAL('that')"], submits("it", "that")),
    _check("answer.prose", "What is printed is never an answer.",
           ["print('FINAL(7)')\nprint('submit(7)')"], submits()),
)  # fmt: skip

SEMANTICS: Final = (*LANGUAGE, *ERRORS, *OUTPUT, *CONTEXT, *CALLS, *ANSWERS)
