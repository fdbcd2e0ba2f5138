"""Contract: core/shapes and core/schemas. What fits, why not, and that every look ends."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.core.shapes import GUEST, OWN, USER, check, misfit, parse, reply_misfit

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True},
    },
    "required": ["name"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {
                "children": {
                    "anyOf": [
                        {"type": "array", "items": {"$ref": "#/$defs/tree"}},
                        {"type": "null"},
                    ]
                }
            },
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/tree",
}
TWINS = {  # what pydantic makes of two models that contain a list of either
    "$defs": {
        name: {
            "type": "object",
            "properties": {
                "children": {
                    "type": "array",
                    "items": {"anyOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"}]},
                },
                name: {"type": "integer"},
            },
            "required": ["children", name],
        }
        for name in ("x", "y")
    },
    "anyOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"}],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)  # fmt: skip
ONLY_INSIDE = "only places in the schema itself, as #/$defs/NAME"
NOT_RE2 = "not a regular expression of RE2 (look-around and back-references are not)"
TYPE_NAMES = "one of array, boolean, integer, null, number, object, string, or an array of these"


def nested(levels, leaf=None):
    for _ in range(levels):
        leaf = {"children": [leaf] if leaf is not None else []}
    return leaf


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"name": "x", "age": 3, "tags": ["a", "b"]}, None),
        ({"name": "x", "age": 3.0}, None),
        ([], "the value must be an object, not an empty array"),
        ({}, "the value has no property 'name'"),
        ({"name": ""}, "name has 0 characters, at least 1 are wanted"),
        ({"name": "x", "age": "3"}, "age must be an integer, not '3'"),
        ({"name": "x", "age": True}, "age must be an integer, not true"),
        ({"name": "x", "age": -1}, "age must be at least 0, not -1"),
        ({"name": "x", "tags": ["a", "c"]}, "tags[1] must be one of 'a', 'b', not 'c'"),
        ({"name": "x", "tags": ["a", "a"]}, "tags[1] is there twice, the items must differ"),
        ({"name": "x", "a b": 1}, "the value has a property 'a b' that is not known"),
        ({"age": 0.5, "name": 1}, "age must be an integer, not 0.5; name must be a string, not 1"),
    ],
)
def test_a_misfit_is_said_in_one_line_with_its_place(value, words):
    assert misfit(PERSON, value) == words


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": ["string", "null"]}, [None, ""], [0, []]),
        ({"const": 1}, [1, 1.0], [True, "1"]),
        ({"enum": [True, [1], {"a": 0}]}, [True, [1.0], {"a": 0}], [1, [True], {"a": False}]),
        ({"minimum": 1, "exclusiveMaximum": 2}, [1, 1.5, "x"], [0.9, 2]),
        ({"multipleOf": 0.1}, [0.3, 1, 0], [0.35]),
        ({"prefixItems": [{"type": "null"}], "items": False}, [[], [None]], [[1], [None, 1]]),
        ({"contains": {"const": 1}, "maxContains": 1}, [[1, 2]], [[], [1, 1]]),
        ({"contains": {"const": 1}, "minContains": 0}, [[]], []),
        ({"uniqueItems": True}, [[1, True, "1"]], [[1, 1.0], [{"a": [1]}, {"a": [1.0]}]]),
        ({"patternProperties": {"^n": {"type": "null"}}}, [{"n": None, "m": 1}], [{"n1": 1}]),
        ({"propertyNames": {"maxLength": 1}}, [{"a": 1}], [{"ab": 1}]),
        ({"dependentRequired": {"a": ["b"]}}, [{}, {"a": 1, "b": 1}], [{"a": 1}]),
        ({"dependentSchemas": {"a": {"maxProperties": 1}}}, [{"a": 1}], [{"a": 1, "b": 1}]),
        ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, [1, 2.5], [3, 1.5]),
        ({"not": {"type": "null"}}, [0], [None]),
        ({"if": {"type": "string"}, "then": {"minLength": 1}, "else": False}, ["x"], ["", 1]),
        ({"allOf": [{"minLength": 1}, {"maxLength": 2}]}, ["ab"], ["", "abc"]),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}, [None], [1]),
        ({"pattern": "^a+$"}, ["aa", 1], ["ab"]),
        ({"minProperties": 1, "maxItems": 1, "maxLength": 1}, [{"a": 1}, [1], "a"], [{}, [1, 2]]),
    ],
)
def test_every_keyword_means_what_json_schema_says(schema, good, bad):
    check(schema, USER)
    assert [misfit(schema, value) for value in good] == [None] * len(good)
    assert None not in [misfit(schema, value) for value in bad]


def test_of_alternatives_the_one_that_was_meant_is_named():
    optional = {"anyOf": [PERSON, {"type": "null"}]}
    assert misfit(optional, {"name": 1}) == "name must be a string, not 1"
    tagged = {
        "oneOf": [
            {"properties": {"kind": {"const": kind}, "size": {"type": type_}}, "type": "object"}
            for kind, type_ in (("a", "integer"), ("b", "string"))
        ]
    }
    assert misfit(tagged, {"kind": "b", "size": 3}) == "size must be a string, not 3"
    assert misfit(tagged, {"kind": "c"}) == (
        "the value fits none of 2 shapes (kind must be 'a', not 'c', or kind must be 'b', not 'c')"
    )


@given(JSON)
def test_any_json_value_fits_the_empty_schema_and_its_own_const(value):
    assert misfit({}, value) is None
    assert misfit({"const": value}, json.loads(json.dumps(value))) is None


@given(JSON, JSON)
def test_two_values_are_the_same_for_const_enum_and_unique_items(one, other):
    same = misfit({"const": one}, other) is None
    assert (misfit({"enum": [one]}, other) is None) is same
    assert (misfit({"uniqueItems": True}, [one, other]) is not None) is same


def test_a_shown_value_neither_fills_the_line_nor_steers_a_terminal():
    hostile = "\x1b[2J\u202e" + "x" * 1_000_000
    words = misfit({"type": "object", "additionalProperties": {"type": "null"}}, {hostile: hostile})
    place = r"'\x1b[2J\u202e" + "x" * 35 + "...'"
    assert words == f"[{place}] must be null, not {place}"
    labels = [{"enum": [f"{number}".zfill(99) for number in range(12)]}] * 3
    assert len(misfit({"prefixItems": labels}, ["x" * 99] * 3)) == 600


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ([], "a JSON Schema is an object, not an array"),
        ({"type": "text"}, f'/type cannot be "text"; it takes {TYPE_NAMES}'),
        ({"items": [{}]}, "/items cannot be [{}]; it takes a schema"),
        ({"properties": {"a": 3}}, "/properties/a: a schema is an object, true or false"),
        ({"minLength": -1}, "/minLength cannot be -1; it takes a whole number, 0 or more"),
        ({"multipleOf": 0}, "/multipleOf cannot be 0; it takes a number above 0"),
        ({"nullable": True}, "the schema: the keyword 'nullable' is not known"),
        ({"items": {"$dynamicRef": "#"}}, "/items: the keyword '$dynamicRef' is not known"),
        ({"items": {"$id": "x"}}, "/items: the keyword '$id' is not known"),
        ({"default": float("nan")}, "the schema is not JSON: it holds a number that JSON cannot"),
        ({"enum": [{1: 2}]}, "the schema is not JSON: a key is not a string that JSON takes"),
        ({"title": "\ud800"}, "the schema is not JSON: it holds a string that JSON cannot"),
        ({"const": (1,)}, "the schema is not JSON: it holds a tuple that JSON cannot"),
        ({"$ref": "#/$defs/a"}, "$ref '#/$defs/a' leads nowhere"),
        ({"$ref": "#/type", "type": "null"}, "/$ref: a schema is an object, true or false"),
        ({"$ref": "file:///x"}, f"$ref 'file:///x': {ONLY_INSIDE}"),
        ({"allOf": [{"$ref": "http://x/y"}]}, f"$ref 'http://x/y': {ONLY_INSIDE}"),
        ({"$ref": "#"}, "a $ref leads back to itself without a step into the value"),
        ({"pattern": "(?=a)"}, f"/pattern: '(?=a)' is {NOT_RE2}"),
    ],
)
def test_a_schema_that_cannot_be_kept_is_refused_in_words(schema, words):
    with pytest.raises(ValueError, match=r"^") as caught:
        check(schema, USER)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (TREE, "the schema contains itself by $ref; here it may not"),
        ({"pattern": "^(a+)+$"}, "keyword 'pattern' is not known; it is not taken from a cell"),
        ({"oneOf": [{"const": 1}] * 1_000_000}, "more than 8,192 bytes"),
        ({"enum": ["x" * 9000]}, "more than 8,192 bytes"),
        ({"const": 10**5000}, "it holds an integer that JSON cannot"),
    ],
)
def test_a_guests_schema_is_held_to_more(schema, words):
    with pytest.raises(ValueError, match=r"^") as caught:
        check(schema)
    assert words in str(caught.value)


def test_a_schema_of_any_depth_is_refused_without_recursion():
    deep, loop = {}, {}
    for _ in range(100_000):
        deep = {"not": deep}
    loop["items"] = loop
    for schema, rules in ((deep, GUEST), (deep, USER), (loop, OWN)):
        with pytest.raises(ValueError, match="levels deep"):
            check(schema, rules)


def test_a_class_may_say_more_than_is_checked_here():
    schema = {"type": "string", "pattern": "(?=a)", "x-mine": 1, "unevaluatedItems": False}
    check(schema, OWN)
    assert misfit(schema, "b") is None
    assert misfit(schema, 1) == "the value must be a string, not 1"


def test_a_schema_that_contains_itself_is_followed_as_deep_as_a_value_may_be():
    assert misfit(TREE, nested(50)) is None
    ends = "children[0].children[0].children[0]"
    assert misfit(TREE, nested(49, leaf={"child": 1})) == (
        f"{ends} ... .{ends} has a property 'child' that is not known"
    )
    assert misfit(TREE, nested(51)) == "the value is nested more than 100 levels deep"


def test_nested_alternatives_cost_a_product_and_not_a_power():
    """2 to the 48th looks, in a validator that keeps nothing (jsonschema-rs: 4 s at 14 levels)."""
    assert misfit(TWINS, nested(48)) == (
        "the value fits none of 2 shapes "
        "(the value has no property 'x', or the value has no property 'y')"
    )


def test_references_that_double_at_each_step_cost_no_power_either():
    steps = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(60)}
    schema = {"$defs": steps | {"d60": {"type": "string"}}, "$ref": "#/$defs/d0"}
    check(schema)
    assert (misfit(schema, "x"), misfit(schema, 1)) == (None, "the value must be a string, not 1")


def test_a_look_that_takes_too_many_steps_is_given_up_in_words():
    options = [{"minItems": number + 1} for number in range(300)]
    schema = {"items": {"anyOf": [*options, {}]}}
    check(schema)
    value = [[] for _ in range(3000)]
    words = "the value takes too many steps to be checked; make the schema simpler"
    assert reply_misfit(schema, json.dumps(value)) == words


def test_an_innocent_value_of_any_size_is_not_given_up():
    rows = [{"name": f"n{i}", "age": i, "tags": ["a", "b"]} for i in range(5000)]
    assert misfit({"type": "array", "items": PERSON}, rows) is None
    labels = [f"label {number}" for number in range(1000)]
    assert misfit({"items": {"enum": labels}}, labels * 10) is None


def test_a_pattern_that_hangs_python_is_linear_here():
    assert misfit({"pattern": r"^(\w+\s?)*$"}, "a" * 100_000 + "!") is not None
    assert misfit({"pattern": "^.$"}, "\ud800") is None


def test_keys_whose_hashes_collide_do_not_slow_unique_items_down():
    assert misfit({"uniqueItems": True}, [i * (2**61 - 1) for i in range(20_000)]) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "the value holds nan, which is not JSON"),
        ([float("-inf")], "the value holds -inf, which is not JSON"),
        (10**4000, "the value must be at most 5, not a number of 4001 digits"),
    ],
)
def test_numbers_out_of_bounds_are_misfits(value, words):
    assert misfit({"maximum": 5}, value) == words


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (" \ufeff[1]\n", [1]),
        ("42", 42),
        ('"yes"', "yes"),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ("Sure:\n```\n[1, 2]\n```\nDone.", [1, 2]),
        ("```json\n7\n```", 7),
        ('```python\nx = {1}\n```\n```json\n{"a": 1}\n```', {"a": 1}),
        ('The object is {"a": [1]}.', {"a": [1]}),
        ('By [1] and [2] it is {"a": "b"} (see [3]).', {"a": "b"}),
        ('{broken {"a": 1}', {"a": 1}),
        ('```json\n{"a": 1}', {"a": 1}),
    ],
)
def test_json_is_found_in_a_reply(text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the reply holds no JSON"),
        ("The answer is 42.", "the reply holds no JSON"),
        ('{"a": 1', "the reply is not valid JSON: Expecting ',' delimiter at character 7 of 7"),
        ('{"a": NaN}', "the reply is not valid JSON: NaN is not JSON"),
        ("[1e999]", "the reply is not valid JSON: the number 1e999 is too large"),
        ("[" + "9" * 5000 + "]", "the reply is not valid JSON: a number has too many digits"),
    ],
)
def test_a_reply_without_json_is_said_to_have_none(text, words):
    with pytest.raises(ValueError, match=r"^") as caught:
        parse(text)
    assert str(caught.value) == words
    assert reply_misfit({}, text) == words


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2_000_000,
        '{"a":' * 500_000,
        "[1," * 100 + '"' + "x" * 1_000_000,
        "```" + " " * 2_000_000,
        "```json\n{\n" * 200_000,
        " " * 2_000_000 + "x",
    ],
    ids=["arrays", "objects", "unterminated", "blanks behind a fence", "fences", "blanks"],
)
def test_a_reply_made_to_be_slow_is_given_up(text):
    with pytest.raises(ValueError, match=r"^the reply (holds no|is not valid) JSON"):
        parse(text)


@given(JSON, st.sampled_from(["{}", "```json\n{}\n```", "So: {} is it."]))
def test_what_was_written_as_json_is_read_back(value, frame):
    document = {"value": value}
    assert parse(frame.replace("{}", json.dumps(document))) == document
