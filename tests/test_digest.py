"""Contract: guest/digest, names. Values are compared without running a line of the model's code."""

import datetime as dt
import enum
import re
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass

import pytest

from abyme.guest.digest import Room, digest
from abyme.guest.names import Watch, mentioned

ZONE = dt.timezone(dt.timedelta(hours=2))

NAIVE = dt.datetime(2024, 5, 1)  # noqa: DTZ001


def of(value):
    return digest(value, Room())


def made(source):
    """Run source as a cell would be, so that its classes are the model's."""
    names = {"__name__": "__main__"}
    exec(source, names)
    return names


def changes(names, source, *, before="pass"):
    exec(before, names)
    watch = Watch(names, {"__builtins__", "context"}, source)
    exec(source, names)
    return [row["name"] for row in watch.changed()]


EQUAL = [
    ({"a", "b", "c"}, {"c", "b", "a"}),
    (frozenset(range(1000)), frozenset(reversed(range(1000)))),
    ({(i, f"{i}") for i in range(90)}, {(i, f"{i}") for i in reversed(range(90))}),
    ({frozenset({i, "x"}) for i in range(9)}, {frozenset({"x", i}) for i in reversed(range(9))}),
    ([1, "x" * 10], [1, "".join(["x"] * 10)]),
    (made("def f(a, b=[1]): return a + 1")["f"], made("\n\ndef f(a, b=[1]): return a + 1")["f"]),
    (dt.datetime(2024, 5, 1, tzinfo=ZONE), dt.datetime(2024, 5, 1, tzinfo=ZONE)),
]

UNEQUAL = [
    None, True, False, 0, 1, 1.0, -0.0, 0.0, 1j, ..., "", "1", b"1", bytearray(b"11"), (), [], {},
    set(), frozenset({1}), {1}, {2}, [1], (1,), ["1"], [[1], []], [[], [1]], [(1, 2)], [[1, 2]],
    {1: 2}, {2: 1}, {1: 2, 3: 4}, {3: 4, 1: 2}, Counter("a"), defaultdict(int, a=1),
    OrderedDict(a=1), deque([1]), deque([1], 3), range(3), range(0, 3, 2), "\ud800", 10**5000,
    10**5000 + 1, float("nan"), float("inf"), dt.date(2024, 5, 1), NAIVE,
    dt.datetime(2024, 5, 1, tzinfo=ZONE), dt.time(1), dt.timedelta(1), ZONE, dt.UTC,
    {"k": [{"n": [1, {2}]}]}, {"k": [{"n": [1, {3}]}]}, "a" * 200_000, "a" * 200_001,
    "a" * 199_999 + "b", list(range(5_000)), list(range(5_001)), [{"a": 1}, {"a": 2}],
    [{"a": 1}, {"a": 3}], [{"a": 1}, {"b": 2}], 1 << 3_000_000, 1 << 3_000_001,
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_values_have_one_digest(one, other):
    assert of(one) == of(other) is not None


def test_values_that_differ_in_type_content_order_or_nesting_have_different_digests():
    digests = [of(value) for value in UNEQUAL]

    assert None not in digests
    assert len(set(digests)) == len(UNEQUAL)


def test_a_digest_is_the_same_in_every_process():
    assert of({"a": [1, 2.5, None, {"x"}], "b": (True, b"z")}) == "a05c746e2f10b4c9"


def test_a_cycle_ends_and_its_shape_counts():
    one, two, other = [1], [1], [1]
    one.append(one)
    two.append(two)
    other.append([1, other])

    assert of(one) == of(two) != of(other)


def test_a_value_nested_without_end_is_looked_at_to_a_depth():
    deep = []
    for _ in range(100_000):
        deep = [deep]

    assert of(deep) == of([deep])


@pytest.mark.parametrize(
    ("source", "change"),
    [
        ("class C: pass\nx = C(); x.a = [1]", "x.a[0] = 2"),
        ("class C: __slots__ = 'a', 'b'\nx = C(); x.a = 1", "x.a = 2"),
        ("class C(list): pass\nx = C([1, 2])", "x[0] = 5"),
        ("class C(dict): pass\nx = C(a=1)", "x['a'] = 2"),
        ("class C(set): pass\nx = C({1})", "x.clear(); x.add(2)"),
        ("import enum\nclass C(enum.Enum): A = 1; B = 2\nx = [C.A]", "x[0] = C.B"),
        ("def outer():\n n = [0]\n def x(): n[0] += 1\n return x\nx = outer()", "x()"),
        ("def x(a=[]): a.append(1)", "x()"),
        ("import functools\nclass C: pass\nx = C()", "x.new = 1"),
    ],
)
def test_a_change_inside_an_object_of_the_models_is_seen(source, change):
    names = made(source)
    before = of(names["x"])
    exec(change, names)

    assert before != of(names["x"]) is not None


@pytest.mark.parametrize(
    "value", [object(), print, re, re.compile("a"), int, Counter, (i for i in ()), open, type]
)
def test_of_what_cannot_be_compared_there_is_no_digest(value):
    assert of(value) is None
    assert of([value]) is not None


TRAP = """
class Trap(Exception): pass
hits = []
def spring(self, *_, **__):
    hits.append(1)
    raise Trap
HOOKS = ["__hash__", "__eq__", "__iter__", "__len__", "__repr__", "__getattribute__", "__class__",
         "__bool__", "__str__", "__getitem__", "__index__", "keys", "values", "items", "__next__",
         "__buffer__", "__reduce__", "__reduce_ex__", "__lt__", "__contains__", "__get__"]
"""
CAUGHT = [
    (
        "Meta = type('Meta', (type,), {h: spring for h in HOOKS if h not in ('__class__',)})\n"
        "x = Meta('C', (), {})()"
    ),
    "x = type('C', (), {h: spring for h in HOOKS} | {'__class__': property(spring)})()",
    *(
        f"x = {base}.__new__(type('C', ({base},), {{h: spring for h in HOOKS}}))"
        for base in ("list", "dict", "tuple", "str", "int", "set", "frozenset", "float", "bytes")
    ),
    "x = type('C', (), {'__dict__': property(spring), '__slots__': ()})()",
    "x = {type('K', (), {'__hash__': lambda s: 1, '__eq__': spring})(): 1}",
    "K = type('K', (), {'__hash__': lambda s: hits.append(1) or 1})\nx = {K()}; hits.clear()",
    (
        "from collections import OrderedDict\n"
        "K = type('K', (), {'__hash__': lambda s: hits.append(1) or 1})\n"
        "x = OrderedDict({K(): 1}); hits.clear()"
    ),
    (
        "import datetime as d\n"
        "Z = type('Z', (d.tzinfo,), {h: spring for h in ('utcoffset', 'dst', 'tzname')})\n"
        "x = d.datetime(2024, 1, 1, tzinfo=Z())"
    ),
]


@pytest.mark.parametrize("source", CAUGHT)
def test_no_code_of_the_models_runs(source):
    names = made(TRAP + source)
    x = names["x"]
    names["hits"].clear()
    of(x)
    of([x, (x,), {1: x}])
    Watch({"x": x}, {}, "x").changed()

    assert names["hits"] == []


def test_what_is_looked_at_is_bounded_for_a_value_and_for_all_of_a_cell():
    room = Room()
    digest(list(range(10**6)), room)
    digest("x" * 10**7, room)

    assert 8_000 - room.nodes == 2_001 + 1 - 1
    assert (256 << 10) - room.bytes < 2 * (64 << 10)
    assert digest(1, Room(nodes=0)) is None
    assert digest(1, Room(bytes=0)) is None


@pytest.mark.parametrize(
    ("value", "partly"),
    [
        ([1, {"a": {2}}], False),
        (list(range(1_999)), False),
        (list(range(2_001)), True),
        ("x" * 60_000, False),
        ("x" * 70_000, True),
        ([object()], True),
        (OrderedDict(a=1), True),
        (set(range(3_000)), True),
        pytest.param(1 << 3_000_000, True, id="huge"),
        ([[1], [print]], True),
    ],
)
def test_a_digest_says_if_something_was_not_looked_at(value, partly):
    assert of(value).endswith("+") is partly


def test_the_digest_of_a_value_does_not_depend_on_what_was_looked_at_before():
    nearly_used_up, value = Room(nodes=1), list(range(100))

    assert digest(value, nearly_used_up) == of(value)
    assert digest(value, nearly_used_up) is None


@pytest.mark.parametrize(
    ("before", "source", "seen"),
    [
        ("d = {'a': 1}", "d['a'] += 1", ["d"]),
        ("labels = ['x'] * 50", "labels[3] = 'y'", ["labels"]),
        ("n = 1000", "n += 1\nn -= 1", []),
        ("n = 1000; m = 5", "del n\nn = 1001", ["n"]),
        ("c = [0]\ndef inc(): c[0] += 1", "inc()", ["c"]),
        ("c = [0]\ndef inc(): c[0] += 1\ndef twice(): inc(); inc()", "twice()", ["c"]),
        ("c = [0]", "exec('c[0] = 1')", ["c"]),
        ("c = [0]", "_ = c, len(c)", []),
        ("c = [0]; old = c", "c = [0]", []),
        ("c = 'a' * 99_999; old = c", "c = c[:50_000] + 'b' + c[50_001:]", ["c"]),
        ("c = [re]; old = c", "c = [re]", ["c"]),
        ("c = [0]; e = c", "c[0] = 1", ["c"]),
        ("c = [0]; e = c", "c.append(1)", ["c", "e"]),
        ("é = [0]", "é[0] = 1", ["é"]),
        ("", "a = 1\n_b = 2\nimport os\ncontext = 3\ndef f(): pass", ["a", "f"]),
    ],
)
def test_names_that_a_cell_has_changed(before, source, seen):
    assert changes({"re": re}, source, before=before) == seen


def test_the_words_of_a_cell_lead_through_functions():
    names = made("def f(): return g()\ndef g():\n def h(): return deep\n return h\ndeep = []")

    assert {"f", "g", "deep"} <= mentioned("f()", names)
    assert "deep" not in mentioned("print(1)", names)


def test_only_the_last_hundred_changes_are_listed():
    seen = changes({}, "for i in range(150): globals()[f'v{i}'] = i")

    assert seen == [f"v{i}" for i in range(50, 150)]


def test_a_dataclass_and_an_enum_of_another_module_are_no_objects_of_the_models():
    @dataclass
    class Here:
        a: int

    class Colour(enum.Enum):
        RED = 1

    assert of(Here(1)) is None
    assert of(Colour.RED) is None
