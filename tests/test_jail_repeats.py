"""Contract: guest, sandboxes/jail. The same cells in another interpreter come out the same."""

import pytest
from jail_doubles import bench, needs_snapshots

from abyme.core.effects import Result
from abyme.core.events import Failure

DOCUMENTS = {f"doc{i}.txt": f"alpha {i}\nbeta {i}\n" for i in range(20)}
HASH_SEED, REPL_SEED = 4242, 7

CELLS = [
    "words = {w for name, text in context.items() for w in text.split()}\nlist(words)",
    "mixed = {1, 2.5, 'x', (1, 'y'), frozenset({'z'}), True, b'w'}\nprint(mixed, list(mixed))",
    (
        "by = {w: i for i, w in enumerate(words)}\nfrom collections import Counter, defaultdict\n"
        "c = Counter(''.join(words)); d = defaultdict(set)\nfor w in words: d[w[0]].add(w)\nd, c"
    ),
    (
        "import random\npick = random.sample(sorted(words), 5); noise = random.gauss(0, 1)\n"
        "random.shuffle(pick); pick, noise, random.getstate()[1][:3]"
    ),
    "a = llm_query('one', 'text')\nb = llm_query_batched(['two', 'three', 'bad'])",
    "a, [(c.call, c.text, c.error) for c in calls]",
    (
        "import threading\ndone = []\ndef ask(i): done.append(llm_query(f't{i}'))\n"
        "t = threading.Thread(target=ask, args=[1]); t.start(); t.join(); done"
    ),
    (
        "class Shape:\n    def __init__(self, n): self.n = n; self.tags = {str(n), 'tag'}\n"
        "    def __hash__(self): return self.n\n    def __eq__(self, o): return self.n == o.n\n"
        "shapes = {Shape(i) for i in range(9)}\n[s.n for s in shapes], Shape(1).tags"
    ),
    "def outer(k):\n    def inner(x, y={'p', 'q'}): return k + x\n    return inner\nf = outer(3)",
    "by['alpha'] += 1; shapes.pop().tags.add('more'); c['a'] -= 1",
    "x = 1\nprint('before')\nraise KeyError({'one', 'two', 'three', 'four'})",
    "import json\njson.loads('{\"a\": }')",
    "def deep(n): return deep(n + 1)\ndeep(0)",
    "undefined_name",
    "x = [1, 2\ny = 3",
    "help(grep); help(random.choice); help()",
    "SHOW_VARS()",
    "grep('beta 1'), count('alpha'), cite(grep('beta 1')[0])",
    (
        "import asyncio\nasync def one(i):\n    await asyncio.sleep(0)\n"
        "    return random.random()\n"
        "await asyncio.gather(*(one(i) for i in range(5)))"
    ),
    "import warnings\nwarnings.warn('careful')\n'\\d'",
    "import re, math, itertools\nm = re.findall('a', 'banana'); r = range(3); e = {...}\nm, r, e",
    "context = None; del calls; import builtins; builtins.print = 5",
    "vars().keys(), last_output[:50], dir(f)",
    "answer['content'] = list(words)[:3]; answer['ready'] = True",
    "submit({'n': len(words)}, evidence=[grep('beta 1')[0]])",
    "big = list(range(100_000)); random.shuffle(big); text = 'x' * 500_000\nbig",
    "for i in range(150): globals()[f'n{i}'] = {i, str(i)}",
    (
        "import os, tempfile, time, uuid\n(os.getpid(), tempfile.gettempprefix(), uuid.uuid5("
        "uuid.NAMESPACE_DNS, 'a'), time.tzname, os.environ, os.getcwd())"
    ),
    "random.random(), random.random()",
]


def bring(number, request):
    if request.prompt == "bad":
        return Result(call=number, failure=Failure(fault="refused", message="no"))
    return Result(call=number, text=f"<{request.prompt} {request.text}>")


def told(repl, code):
    finished = repl.cell(code)
    return {
        "output": finished.output,
        "error": finished.error,
        "ended": (finished.ended, finished.limit, finished.dropped_chars),
        "changed": finished.changed,
        "draft": finished.draft,
        "notes": finished.notes,
    }


def play(cells, undone=None):
    """Run cells in an interpreter of their own; before some of them, one that is undone."""
    with (
        bench(context=DOCUMENTS, hash_seed=HASH_SEED) as made,
        made.repl(seed=REPL_SEED) as repl,
    ):
        repl.bring = bring
        came = []
        for number, code in enumerate(cells):
            if undone and number % 7 == 3:
                needs_snapshots(repl)
                repl.number = 1000 + number
                assert repl.cell(undone).ended == "rolled_back"
            repl.number = number
            came.append(told(repl, code))
        return came, repl.batches, repl.submitted


@pytest.fixture(scope="module")
def first():
    return play(CELLS)


def test_the_same_cells_come_out_the_same_in_another_interpreter(first):
    again = play(CELLS)

    for code, one, other in zip(CELLS, first[0], again[0], strict=True):
        assert (code, one) == (code, other)
    assert first[1:] == again[1:]


def test_cells_that_are_undone_in_between_change_nothing(first):
    again = play(
        CELLS,
        "import os, random\nrandom.seed(); words.clear(); x = 5; llm_query('lost'); os._exit(1)",
    )

    skipped = {code for code in CELLS if "calls" in code or "getpid" in code}
    for code, one, other in zip(CELLS, first[0], again[0], strict=True):
        assert code in skipped or (code, one) == (code, other)
    assert first[2] == again[2]


def test_how_deep_a_cell_may_recurse_does_not_depend_on_how_its_repl_came_to_be():
    """The first one is forked ahead, the second when it is ordered, the third ahead again."""
    code = "def deep(n):\n    global most\n    most = n\n    deep(n + 1)\ndeep(0)"
    depths = set()
    with bench() as made:
        for _ in range(4):
            with made.repl() as repl:
                repl.cell(code)
                depths.add(repl.out("most"))

    assert len(depths) == 1
