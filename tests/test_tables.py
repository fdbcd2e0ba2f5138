"""Contract: `table(name)`. Rows with their places, typed columns, and Arrow without a copy."""

import importlib.util
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jail_doubles import Bench

from abyme.contexts import sealed
from abyme.contexts.arena import ArenaWriter
from abyme.contexts.sealed import Source, from_value
from abyme.core.events import Place
from abyme.core.isolation import Isolation
from abyme.guest import cells
from abyme.guest.adopt import View
from abyme.guest.cells import Dialect, Guess, dialect_of, is_header, named, rows_of
from abyme.guest.tables import Written

SALES = (
    "city,amount,zip,day,paid\n"
    "Rome,3,007,2024-01-02,true\n"
    '"Paris, FR",-2,12,2024-01-03,false\n'
    "Oslo,,1,,\n"
)


@pytest.fixture
def view():
    made = []

    def make(value):
        context = from_value(value)
        made.append(context)
        return View(*context.fds)

    yield make
    for context in made:
        context.close()


# -- rows ------------------------------------------------------------------------


def test_rows_are_dicts_typed_by_their_columns(view):
    table = view({"sales.csv": SALES, "b.txt": "x"}).context.table("sales.csv")

    assert table.types == {
        "city": "str",
        "amount": "int",
        "zip": "str",
        "day": "date",
        "paid": "bool",
    }
    assert list(table) == [
        {"city": "Rome", "amount": 3, "zip": "007", "day": "2024-01-02", "paid": True},
        {"city": "Paris, FR", "amount": -2, "zip": "12", "day": "2024-01-03", "paid": False},
        {"city": "Oslo", "amount": None, "zip": "1", "day": None, "paid": None},
    ]
    assert repr(table) == (
        "<table 'sales.csv': 3 rows, 5 columns: 'city', 'amount', 'zip', 'day', 'paid'>"
    )


def test_a_table_is_a_sequence_of_rows_and_a_mapping_of_columns(view):
    table = view(SALES).table()

    assert (len(table), table[-1]["city"], table[1:][0]["city"]) == (3, "Oslo", "Paris, FR")
    assert [row["amount"] for row in table[::2]] == [3, None]
    assert table["amount"] == table.column("amount") == [3, -2, None]
    assert json.loads(json.dumps(table[0]))["paid"] is True
    with pytest.raises(IndexError, match="table has 3 rows, there is no row 3"):
        table[3]
    with pytest.raises(KeyError, match="no column is named 'town'; there are 'city', 'amount'"):
        table["town"]


def test_a_row_knows_its_place(view):
    made = view({"a.txt": "x", "sales.csv": SALES})
    row = made.table("sales.csv")[1]

    assert (row.name, row.line, row.quote) == (
        *("sales.csv", 3),
        '"Paris, FR",-2,12,2024-01-03,false',
    )
    assert made.place_of(row) == {
        "document": 1,
        "start": 52,
        "end": 86,
        "quote": '"Paris, FR",-2,12,2024-01-03,false',
    }


def test_cells_over_several_lines_and_blank_lines_do_not_shift_places(view):
    text = 'a,b\r\n\r\n1,"x\r\ny"\r\n\r\n2,z\r\n'
    table = view(text).table()

    assert [(row["a"], row["b"], row.quote, row.line) for row in table] == [
        (1, "x\r\ny", '1,"x\r\ny"', 3),
        (2, "z", "2,z", 6),
    ]


def test_rows_that_are_too_short_are_padded_and_the_rest_of_long_ones_is_kept(view):
    table = view("a,b,c\n1,2,3\n" * 1 + "4,5,6\n" * 20 + "7\n8,9,10,11,12\n").table()

    assert (table[-2], table[-1]) == (
        {"a": 7, "b": None, "c": None},
        {"a": 8, "b": 9, "c": 10, None: ["11", "12"]},
    )


def test_lines_of_json_are_rows_too(view):
    table = view('{"a": 1}\n\n{"a": null, "b": [1]}\n').table()

    assert (table.columns, table.types) == (["a", "b"], {"a": "int", "b": "list"})
    assert [(dict(row), row.line) for row in table] == [({"a": 1}, 1), ({"a": None, "b": [1]}, 3)]
    assert table["b"] == [None, [1]]
    with pytest.raises(ValueError, match="line 2 is no JSON object"):
        len(view('{"a": 1}\n[2]\n').table())


def test_a_list_of_dicts_is_a_table_however_its_lines_are_broken(view):
    text = '[{"a": 1},\n {"a": 2,\n  "b": "x"}\n]\n'
    table = view(text).table()

    assert (table.columns, table.types, len(table)) == (["a", "b"], {"a": "int", "b": "str"}, 2)
    assert [(dict(row), row.line) for row in table] == [({"a": 1}, 1), ({"a": 2, "b": "x"}, 2)]
    assert table[1].quote == '{"a": 2,\n  "b": "x"}'
    with pytest.raises(ValueError, match="an item is no JSON object"):
        len(view('[{"a": 1}, 5]').table())


def test_without_a_header_columns_are_numbered(view):
    text = "ham\tGo until the end\nspam\tWin 1,000\nham\tOk\n"

    table = view(text).table(None, Written(header=False))

    assert (table.columns, len(table)) == (["column_1", "column_2"], 3)
    assert table[1] == {"column_1": "spam", "column_2": "Win 1,000"}
    assert len(view("1,2\n3,4\n").table()) == 2


@pytest.mark.parametrize(
    ("given_", "name", "why"),
    [
        ({"a": "x,y", "b": "z"}, None, r"context has 2 documents: say which, as in table\('a'\)"),
        (
            {"a": "One line.\nAnd another, and more.", "b": "z"},
            "a",
            "'a' does not look like a table",
        ),
        ({"a": " \n", "b": "z"}, "a", "'a' is empty"),
        ({"a/x": "1", "a/y": "2"}, "a/*", "table.. takes one document, and 'a/.' is 2"),
    ],
)
def test_what_is_no_table_says_why(view, given_, name, why):
    with pytest.raises(ValueError, match=why):
        view(given_).table(name)


def test_broken_quotes_are_told_with_a_way_out(view):
    text = "a,b\n" + 'x,"y"\n' * 200 + 'z,"open\n' + "v,w\n" * 3
    made = view(text)

    with pytest.raises(ValueError, match=r"near line \d+ are broken .*table\(name, quotes=False\)"):
        len(made.table())
    assert made.table(None, Written(quotes=False))[200]["b"] == '"open'


def test_a_table_of_a_wide_text_has_places_in_code_points(view):
    row = view("名,値\n東京,1\n大阪,2\n").table()[1]

    assert (dict(row), row.span, row.quote) == ({"名": "大阪", "値": 2}, (0, 9, 13), "大阪,2")


# -- how a text is split ---------------------------------------------------------


@given(
    st.lists(
        st.lists(st.text(st.sampled_from('ab ,;|\t"\n\r1é東'), max_size=6), min_size=2, max_size=4),
        min_size=1,
        max_size=6,
    )
)
def test_rows_are_those_of_the_csv_module_and_spans_are_their_text(table):
    import csv
    import io

    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(table)
    text = out.getvalue()

    found = list(rows_of(text, Dialect(",")))

    assert [row for _, _, row in found] == table
    again = [next(csv.reader(io.StringIO(text[a:b], newline=""))) for a, b, _ in found]
    assert again == table


@given(st.lists(st.text(st.sampled_from("ab, 1é"), max_size=9), max_size=40), st.booleans())
def test_lines_taken_together_are_rows_taken_one_by_one(lines, crlf):
    end = "\r\n" if crlf else "\n"
    text = end.join(["head,er", *lines])
    plain = list(rows_of(text, Dialect(",")))

    one_by_one = list(rows_of(text + '\n"', Dialect(","), 0, len(text)))

    assert plain == one_by_one


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("a\tb, c\n1\t2, 3\n", Dialect("\t")),
        ("a;b\n1,5;2,5\n3,5;4\n", Dialect(";")),
        ("a, b, c\n1, 2, 3\n", Dialect(",", blanks=True)),
        ('a\tb\nx\t"open\ny\tz\n', Dialect("\t", quotes=False)),
        ("a,b\rc,d\r", Dialect(",")),
        ("one column\n", None),
    ],
)
def test_a_dialect_is_found_by_what_splits_all_rows_evenly(text, dialect):
    assert dialect_of(text, sure=False) == dialect


@pytest.mark.parametrize(
    ("first", "header"),
    [
        (["id", "name"], True),
        (["", "name"], True),
        (["country", "2020", "2021"], True),
        (["2020", "2021"], False),
        (["id", "id"], False),
        (["id", "3.5"], False),
        (["x", "true"], False),
        (["id", "x" * 81], False),
        (["id", ""], False),
    ],
)
def test_a_header_is_names(first, header):
    assert is_header(first) is header


def test_names_of_columns_are_unique_and_none_is_empty():
    assert named(["a", " a ", "", "a_2"]) == ["a", "a_2", "column_3", "a_2_2"]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (["1", "-2", ""], "int"),
        (["1", "2.5"], "float"),
        (["007", "1"], "str"),
        (["1234567890123456789"], "str"),
        (["1e5"], "float"),
        (["true", "FALSE"], "bool"),
        (["yes", "no"], "str"),
        (["2024-02-29"], "date"),
        (["2023-02-29"], "str"),
        (["2024-02-29T10:00"], "datetime"),
        (["2024-02-29", "2024-02-29 10:00"], "str"),
        (["", ""], "str"),
        (["nan"], "str"),
        (["१"], "str"),
        ([" 1"], "str"),
    ],
)
def test_a_column_is_of_the_narrowest_type_that_all_cells_are_written_in(column, kind):
    guess = Guess()
    for cell in column:
        guess.look([cell])
    assert guess.kind == kind
    assert len(cells.values(column, kind)) == len(column)


# -- in the jail, with guest packages --------------------------------------------

needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed"
)


def with_table(text, blob, others=0):
    """A context of `text` with its rows beside it, and other documents."""
    writer = ArenaWriter()
    try:
        writer.add_text(text)
        place = writer.add_blob(blob)
        for number in range(others):
            writer.add_text(f"other {number}")
        sources = [Source(media="text/csv", table=place), *[Source()] * others]
        names = ["sales.csv", *(f"{number}.txt" for number in range(others))]
        return sealed.finish(writer, "documents", names, sources)
    finally:
        writer.close()


def arrow_of(text):
    import io

    import pyarrow as pa

    from abyme.helpers.readers import csv

    before = pa.default_memory_pool()
    csv.prepare()
    found = {}

    class Kept:
        def document(self, name, text, **facts):
            found.update(facts)

    csv.read(io.BytesIO(text.encode()), Kept())
    pa.set_memory_pool(before)
    return bytes(found["table"])


@needs_pyarrow
def test_what_lies_beside_a_text_is_mapped_where_it_is_and_cannot_be_written():
    context = with_table(SALES, arrow_of(SALES), others=3)
    made = View(*context.fds)
    blob = made.table("sales.csv")._blob_of(0)

    assert bytes(blob) == arrow_of(SALES)
    assert blob.readonly
    assert made.table("0.txt", Written(header=False))._blob_of(1) is None
    assert len(made.maps) == 1
    context.close()


@pytest.fixture(scope="module")
def jail():
    if importlib.util.find_spec("pyarrow") is None:
        pytest.skip("pyarrow is not installed")
    lines = [f"{n},name {n % 7},{n / 4}" for n in range(20_000)]
    text = "\n".join(["id,name,price", *lines])
    packages = ["pyarrow"]
    if importlib.util.find_spec("duckdb") is not None:
        packages.append("duckdb")
    made = Bench(context=with_table(text, arrow_of(text)), isolation=Isolation(packages=packages))
    yield made
    made.close()


@pytest.fixture
def repl(jail):
    with jail.repl() as made:
        yield made


def test_arrow_reads_the_sealed_memory_in_place(repl):
    code = """
import pyarrow as pa
t = table("sales.csv")
a = t.arrow()
blob = pa.py_buffer(t._blob_of(0))
buffers = [b for c in a.columns for chunk in c.chunks for b in chunk.buffers() if b is not None]
inside = [blob.address <= b.address < blob.address + blob.size for b in buffers]
a.num_rows, a.schema.types[2] == pa.float64(), all(inside), len(inside) > 3
"""
    assert repl.out(code) == "(20000, True, True, True)\n"


def test_a_table_that_is_read_in_another_way_is_made_of_its_text(repl):
    code = "a = table('sales.csv', header=False).arrow(); (a.num_rows, a.column_names[0])"
    assert repl.out(code) == "(20001, 'column_1')\n"


def test_duckdb_asks_the_sealed_table_by_its_name(repl, jail):
    if "duckdb" not in " ".join(repl.session.facts.packages):
        pytest.skip("duckdb is not installed")
    for _ in range(2):
        assert (
            repl.out(
                "import duckdb\nsales = context.table('sales.csv').arrow()\n"
                "sql = 'select name, sum(price) from sales group by 1 order by 1 limit 1'\n"
                "duckdb.sql(sql).fetchall()"
            )
            == "[('name 0', 7144642.75)]\n"
        )


def test_a_row_is_evidence(repl):
    repl.out("t = table('sales.csv'); submit(t[2]['price'], evidence=[t[2], cite(t[3])])")

    (answer,) = repl.submitted
    assert answer.value == 0.5
    assert answer.evidence == [
        Place(document=0, start=41, end=53, quote="2,name 2,0.5"),
        Place(document=0, start=54, end=67, quote="3,name 3,0.75"),
    ]


def test_what_is_not_there_says_which_guest_package_to_name(repl):
    finished = repl.cell("table('sales.csv').df()")

    assert (
        "ImportError: df() needs pandas, which is no guest package of this run "
        "(--guest-package pandas); rows and column(name) work without"
    ) in finished.error
