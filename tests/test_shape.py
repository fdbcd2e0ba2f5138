"""Contract: run/answers and `ask(schema=)`. Typed values, or none; never something else."""

import dataclasses
import datetime as dt
from decimal import Decimal
from typing import Any, Literal, TypedDict

import msgspec
import pydantic
import pytest

from abyme import RLM, ConfigError, Limits
from abyme.core import events as ev
from abyme.journals.folder import RunFolder
from abyme.run.shape import NoFit, shape_again, shape_of
from abyme.testing import ScriptedModel

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "year": {"type": "integer"}},
    "required": ["name", "year"],
    "additionalProperties": False,
}
BOOK = {"name": "Emma", "year": 1815}


@dataclasses.dataclass
class Book:
    name: str
    year: int


class Struct(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    year: int
    published: dt.date | None = None
    kind: Literal["novel", "play"] = "novel"


class Row(TypedDict):
    name: str
    year: int


class Validated:
    """What is known of a pydantic model: two class methods, and an error that lists."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        return SCHEMA | {"title": "Validated", "x-more": 1}

    @classmethod
    def model_validate_json(cls, text: str) -> "Validated":
        fields = msgspec.json.decode(text)
        if fields["year"] > 2000:
            raise Invalid
        return cls(**fields)


class Invalid(ValueError):
    def errors(self) -> list[dict[str, Any]]:
        return [{"loc": ("year",), "msg": "Value error, not that late", "type": "value_error"}]


class Novel(pydantic.BaseModel):
    """A model of pydantic itself, strict: a date is taken from JSON's text all the same."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid", regex_engine="python-re")
    name: str = pydantic.Field(pattern=r"^(?=E)\w+$", description="without its author")
    published: dt.date
    price: Decimal | None = None
    parts: tuple["Novel | Note", ...] = ()

    @pydantic.field_validator("published")
    @classmethod
    def not_that_late(cls, value: dt.date) -> dt.date:
        if value.year > 2000:
            raise ValueError("not that late")
        return value


class Note(pydantic.BaseModel):
    text: str
    parts: list["Novel | Note"] = []


Novel.model_rebuild()


class Adapter:
    """What is known of pydantic's `TypeAdapter`."""

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "integer"}}

    def validate_json(self, text: str) -> tuple[int, ...]:
        return tuple(msgspec.json.decode(text))


def code(*lines):
    return "```repl\n" + "\n".join(lines) + "\n```"


@pytest.fixture
def ask(tmp_path):
    """Ask a scripted root for an answer of a shape."""

    def ask(schema, *replies, **limits):
        model = ScriptedModel(list(replies))
        with RLM(model=model, runs_dir=tmp_path, limits=Limits(**limits)) as rlm:
            return rlm.ask("Which book?", "text", schema=schema), model

    return ask


@pytest.mark.parametrize(
    ("given", "value", "made"),
    [
        (SCHEMA, BOOK, BOOK),
        (Book, BOOK, Book("Emma", 1815)),
        (Struct, BOOK | {"published": "1815-12-23"}, Struct("Emma", 1815, dt.date(1815, 12, 23))),
        (Row, BOOK, BOOK),
        (list[Book], [BOOK], [Book("Emma", 1815)]),
        (Literal["yes", "no"], "no", "no"),
        (int, 3, 3),
        (Adapter(), [1, 2], (1, 2)),
    ],
)
def test_a_value_becomes_what_was_asked_for(given, value, made):
    assert shape_of(given).make(value) == made


def test_a_class_that_validates_by_itself_has_the_last_word():
    shape = shape_of(Validated)

    assert shape.make(BOOK).fields == BOOK
    with pytest.raises(NoFit, match=r"^year: Value error, not that late$"):
        shape.make({"name": "x", "year": 2001})
    with pytest.raises(NoFit, match=r"^year must be an integer, not '1'$"):
        shape.make({"name": "x", "year": "1"})


def test_a_pydantic_model_is_validated_by_pydantic():
    shape = shape_of(Novel)
    note = {"text": "n"}
    emma = {"name": "Emma", "published": "1815-12-23", "price": "0.10", "parts": [note]}

    made = shape.make(emma)
    assert made == Novel(
        name="Emma",
        published=dt.date(1815, 12, 23),
        price=Decimal("0.10"),
        parts=(Note(text="n"),),
    )
    late = "^published: Value error, not that late$"
    for changes, words in [
        ({"published": "2001-01-01"}, late),
        ({"name": "Persuasion"}, "^name: String should match pattern"),
        ({"published": 3}, "^published must be a string, not 3$"),
        ({"more": 1}, "^the value has a property 'more' that is not known$"),
    ]:
        with pytest.raises(NoFit, match=words):
            shape.make(emma | changes)


def test_pydantics_adapters_and_root_models_are_shapes():
    class Pairs(pydantic.RootModel[list[tuple[int, str]]]):
        pass

    assert shape_of(Pairs).make([[1, "a"]]).root == [(1, "a")]
    assert shape_of(pydantic.TypeAdapter(set[int])).make([2, 1]) == {1, 2}
    assert shape_of(pydantic.TypeAdapter(set[int])).schema["uniqueItems"] is True


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (list[Novel], "; list cannot be one: "),
        ("Book", "or a JSON Schema as a dict, not 'Book'"),
        ([Book], "or a JSON Schema as a dict, not \\[<class"),
        (
            {"type": "text"},
            "^the schema cannot be kept: /type cannot be .text.; it takes one of array, ",
        ),
        ({"$ref": "http://x/y"}, "^the schema cannot be kept: .ref 'http://x/y': only places in"),
        ({"nullable": True}, "^the schema cannot be kept: .* keyword 'nullable' is not known"),
        (object, "; object cannot be one: "),
        (ScriptedModel, "; ScriptedModel cannot be one: "),
    ],
)
def test_what_is_no_schema_is_refused_before_anything_is_spent(given, words, tmp_path):
    model = ScriptedModel([])
    with (
        RLM(model=model, runs_dir=tmp_path, warm=0) as rlm,
        pytest.raises(ConfigError, match=words),
    ):
        rlm.ask("Which?", "text", schema=given)
    assert (model.requests, list(tmp_path.iterdir())) == ([], [])


def test_what_the_user_does_to_their_schema_later_changes_no_run():
    mine = {"enum": ["a"]}
    shape = shape_of(mine)
    mine["enum"].append("b")
    assert shape.schema == {"enum": ["a"]}


def test_an_answer_is_an_instance_and_the_folder_holds_its_json(ask):
    answer, model = ask(Book, code(f"submit({BOOK})"))

    assert (answer.value, answer.status, answer.unfit) == (Book("Emma", 1815), "answered", None)
    assert RunFolder(answer.run).answer().value == BOOK
    assert '"year"' in model.requests[0].messages[-1].content


def test_a_wrong_shape_is_told_to_the_root_model_and_can_be_mended(ask):
    answer, model = ask(
        Validated,
        code("submit({'name': 'Emma'})"),
        code("submit({'name': 'Emma', 'year': 2001})"),
        code(f"submit({BOOK})"),
    )

    assert (answer.value.fields, answer.status) == (BOOK, "answered")
    assert "the value has no property 'year'" in model.requests[1].messages[-1].content
    assert "year: Value error, not that late" in model.requests[2].messages[-1].content


def test_after_two_repairs_the_run_has_failed_and_the_value_does_not_pretend(ask):
    answer, _ = ask(SCHEMA, *[code("submit('Emma')")] * 3)

    assert (answer.status, answer.value, answer.unfit) == ("failed", None, "Emma")
    assert answer.reason.startswith("bad_shape: ")
    assert answer.reason.endswith("the value must be an object, not 'Emma'")


def test_a_partial_value_is_typed_where_it_fits_and_none_where_it_does_not(ask):
    fits, _ = ask(Book, code(f"answer['content'] = {BOOK}"), max_turns=1)
    assert (fits.status, fits.value, fits.unfit) == ("partial", Book("Emma", 1815), None)

    not_yet, _ = ask(Book, code("answer['content'] = 'Emma'"), max_turns=1)
    assert (not_yet.status, not_yet.value, not_yet.unfit) == ("partial", None, "Emma")


def test_the_schema_is_in_the_first_record(ask):
    answer, _ = ask(SCHEMA, code(f"submit({BOOK})"))
    started = RunFolder(answer.run).recording().records[0].event
    assert isinstance(started, ev.RunStarted)
    assert started.answer_schema == SCHEMA


def test_a_run_that_goes_on_keeps_its_shape():
    schema = shape_of(Book).schema
    assert shape_again(None, None) is None
    assert shape_again(None, schema).make(BOOK) == BOOK
    assert shape_again(Book, schema).make(BOOK) == Book("Emma", 1815)
    with pytest.raises(ConfigError, match="another schema"):
        shape_again(Struct, schema)
    with pytest.raises(ConfigError, match="another schema"):
        shape_again(Struct, None)


@pytest.mark.parametrize(("given", "made"), [(Book, Book("Emma", 1815)), (None, BOOK)])
def test_a_resumed_run_gives_a_typed_value_again(given, made, tmp_path):
    model = ScriptedModel([code("x = 1"), code(f"submit({BOOK})")])
    with RLM(model=model, runs_dir=tmp_path, limits=Limits(max_turns=1)) as rlm:
        first = rlm.ask("Which book?", "text", schema=Book)
        with pytest.raises(ConfigError, match="another schema"):
            rlm.resume(first.run, limits={"max_turns": 5}, schema=int)
        second = rlm.resume(first.run, limits={"max_turns": 5}, schema=given)

    assert (first.status, first.value) == ("partial", None)
    assert (second.status, second.value) == ("answered", made)


def test_a_validator_that_breaks_is_a_misfit_and_no_lost_answer():
    class Broken(Validated):
        @classmethod
        def model_validate_json(cls, text: str) -> "Broken":
            return {}[text]

    assert shape_of(Broken).misfit(BOOK) is not None
