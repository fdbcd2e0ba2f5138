"""Contract: readers of tables. What a file says comes as text, and the same rows as Arrow."""

import datetime as dt
import decimal
import io
import os
import sqlite3
import zipfile

import openpyxl
import pyarrow as pa
import pytest
from openpyxl.chart import BarChart
from pyarrow import parquet as pq

from abyme.contexts import kinds
from abyme.contexts.reading import DocumentItem, Readers, SkippedItem
from abyme.guest.cells import Guess, values
from abyme.helpers.emit import Unreadable
from abyme.helpers.readers import csv, parquet, rows, sqlite, xlsx

HEADED, NO_HEADER = "text/csv; header=present", "text/csv; header=absent"


class Kept:
    """Keeps what a reader gives."""

    def __init__(self):
        self.documents = {}
        self.skips = {}

    def document(self, name, text, **facts):
        self.documents[name] = {"text": text, "pages": (), "table": None, "note": None, **facts}

    def skipped(self, name, reason):
        self.skips[name] = reason

    def text(self, name=""):
        return self.documents[name]["text"]

    def note(self, name=""):
        return self.documents[name]["note"]

    def arrow(self, name=""):
        return pa.ipc.open_file(self.documents[name]["table"]).read_all()


@pytest.fixture(scope="module", autouse=True)
def prepared():
    before = pa.default_memory_pool()
    for reader in (csv, xlsx, parquet, sqlite):
        reader.prepare()
    yield
    pa.set_memory_pool(before)


@pytest.fixture(autouse=True)
def small_tables_too(monkeypatch):
    monkeypatch.setattr(rows, "LEAST_CHARS", 0)


def read(reader, data):
    kept = Kept()
    reader.read(io.BytesIO(data), kept)
    return kept


# -- CSV -------------------------------------------------------------------------


def test_a_csv_stays_its_own_text_and_has_typed_columns_beside_it():
    text = "id,zip,price,day,at,ok\n1,007,.5,2024-01-02,2024-01-02 03:04,true\n2,1,,,,\n"

    kept = read(csv, text.encode())

    assert (kept.text(), kept.documents[""]["media"], kept.documents[""]["pages"]) == (
        *(text, "text/csv"),
        (),
    )
    assert [str(kind) for kind in kept.arrow().schema.types] == [
        *("int64", "string", "double", "date32[day]", "timestamp[us]", "bool"),
    ]
    assert kept.arrow().to_pylist() == [
        {
            "id": 1,
            "zip": "007",
            "price": 0.5,
            "day": dt.date(2024, 1, 2),
            "at": dt.datetime(2024, 1, 2, 3, 4),  # noqa: DTZ001
            "ok": True,
        },
        {"id": 2, "zip": "1", "price": None, "day": None, "at": None, "ok": None},
    ]


def test_arrows_own_parser_and_ours_make_the_same_table():
    lines = [f"{n},name {n % 7},{n / 7:.3f},2024-02-{n % 29 + 1:02d}" for n in range(2000)]
    plain = "\n".join(["id,name,price,day", *lines])
    quoted = plain.replace("name 3,", '"name 3",')

    assert read(csv, plain.encode()).arrow().equals(read(csv, quoted.encode()).arrow())


def test_a_type_that_ends_late_is_noticed(monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_BYTES", 64)
    text = "a,b,c\n" + "1,2024-01-01,x\n" * 500 + "1.5,2023-02-30,y\n"

    table = read(csv, text.encode()).arrow()

    assert [str(kind) for kind in table.schema.types] == ["double", "string", "string"]
    assert (table.num_rows, table["a"][500].as_py()) == (501, 1.5)


def test_rows_over_several_lines_say_where_they_begin():
    text = 'a,b\n1,"x\ny"\n2,z\n'
    kept = read(csv, text.encode())

    assert list(kept.documents[""]["pages"]) == [0, 4, 12]
    assert kept.documents[""]["page_word"] == "row"


def test_a_mark_of_byte_order_is_not_part_of_the_text():
    for data in (b"\xef\xbb\xbfa,b\n1,2\n", "\ufeffa,b\n1,2\n".encode("utf-16-le")):
        kept = read(csv, data)
        assert kept.text() == "a,b\n1,2\n"
        assert kept.arrow().to_pylist() == [{"a": 1, "b": 2}]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no table"),
        (b"caf\xe9,b\n1,2\n", "not UTF-8"),
        (b"a,b\n1,\x00\n", "binary"),
        (b"1,2\n3,4\n", "a table without a header"),
        (b"a,b\rc,d\ne,f", "no table .new-line character"),
    ],
)
def test_what_is_no_table_to_the_csv_module_stays_plain_text(data, why):
    with pytest.raises(Unreadable, match=why):
        read(csv, data)


def test_a_csv_that_is_too_large_is_left_to_the_host(monkeypatch):
    monkeypatch.setattr(csv, "MAX_BYTES", 1 << 20)
    with pytest.raises(Unreadable, match="a table of more than 1 MB"):
        read(csv, b"a,b\n" + b"1,2\n" * (1 << 18))


@pytest.mark.parametrize("kind", ["int", "float", "bool", "date", "datetime", "str"])
def test_arrow_and_the_repl_mean_the_same_by_a_cell(kind):
    cells = {
        "int": ["-1", "", "999999999999999999", "0"],
        "float": ["1", "", "-.5", "2.", "1e3", "12345678901234567.25"],
        "bool": ["true", "", "False", "TRUE"],
        "date": ["2024-02-29", ""],
        "datetime": ["2024-02-29T23:59", "", "2024-01-01 00:00:00.25"],
        "str": ["x", "", "01"],
    }[kind]
    guess = Guess()
    guess.look(cells)
    made = rows.cast(pa, pa.array(cells, pa.string()), kind).to_pylist()
    days = {"date": dt.date, "datetime": dt.datetime}.get(kind)
    ours = values(cells, kind)

    assert guess.kind == kind
    assert made == [days.fromisoformat(one) if days and one else one for one in ours]


def test_a_small_csv_is_plain_text_and_costs_no_reader():
    assert kinds.choose("a.csv", b"a,b\n1,2\n") is None
    assert kinds.choose("a.csv", (b"a,b\n" * 9999)[: kinds.HEAD_BYTES]) is kinds.CSV


# -- spreadsheets ----------------------------------------------------------------


def workbook():
    book = openpyxl.Workbook()
    data = book.active
    data.title = "Sales"
    data.append(["Country", 2020, "2021", "day", "ok"])
    data.append(["DE", 1, 2.5, dt.date(2024, 1, 2), True])
    data.append(["FR\r\nC", 3, None, dt.datetime(2024, 1, 2, 3, 4, 5), False])  # noqa: DTZ001
    hidden = book.create_sheet("Old")
    hidden.sheet_state = "hidden"
    hidden["B3"], hidden["C4"], hidden["B5"] = 7, "x", "merged"
    hidden.merge_cells("B5:C6")
    book.create_sheet("Nothing")
    book.create_chartsheet("Chart").add_chart(BarChart())
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def test_a_workbook_is_a_document_a_sheet_hidden_ones_too():
    kept = read(xlsx, workbook())

    assert kept.text("Sales") == (
        'Country,2020,2021,day,ok\nDE,1,2.5,2024-01-02,true\n"FR\nC",3,,2024-01-02 03:04:05,false\n'
    )
    assert (kept.note("Sales"), kept.documents["Sales"]["media"]) == (None, HEADED)
    assert kept.arrow("Sales").to_pylist()[0] == {
        "Country": "DE",
        "2020": 1,
        "2021": 2.5,
        "day": "2024-01-02",
        "ok": True,
    }
    assert (kept.text("Old"), kept.documents["Old"]["media"]) == ("7,\n,x\nmerged,\n", NO_HEADER)
    assert kept.arrow("Old").column_names == ["column_1", "column_2"]
    assert kept.note("Old") == (
        "a hidden sheet; begins at row 3, column 2; merged cells: 1, each told once"
    )
    assert kept.skips == {"Nothing": "empty", "Chart": "no cells (chartsheet)"}


def test_a_formula_is_its_value_as_it_was_last_computed():
    book = openpyxl.Workbook()
    book.active.append(["n"])
    book.active["A2"] = "=1+1"
    out, changed = io.BytesIO(), io.BytesIO()
    book.save(out)
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(
                name, old.read(name).replace(b"<v></v>", b"<v>2</v>").replace(b"<v />", b"<v>2</v>")
            )

    assert read(xlsx, changed.getvalue()).text("Sheet") == "n\n2\n"


def test_an_encrypted_workbook_says_so():
    package = "EncryptedPackage".encode("utf-16-le")
    data = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + package

    assert kinds.choose("b.xlsx", data) is kinds.XLS
    with pytest.raises(Unreadable, match="encrypted"):
        read(xlsx, data)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)]
)
def test_a_broken_workbook_says_so(data):
    with pytest.raises(Unreadable, match=r"^broken"):
        read(xlsx, data)


def test_a_small_sheet_has_its_text_alone(monkeypatch):
    monkeypatch.setattr(rows, "LEAST_CHARS", 1000)
    assert read(xlsx, workbook()).documents["Sales"]["table"] is None


# -- Parquet ---------------------------------------------------------------------


def parquet_of(table):
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=2)
    return out.getvalue()


def test_parquet_keeps_its_types_and_writes_nested_values_as_json():
    table = pa.table(
        {
            "n": pa.array([1, None, 3], pa.int32()),
            "s": pa.array(["a", "b\r\nc", None]),
            "l": [[1, 2], [], None],
            "m": [{"a": "é"}, None, {"a": None}],
            "b": pa.array([b"\x00\xff", None, b""]),
            "d": pa.array([decimal.Decimal("1.50"), None, None], pa.decimal128(5, 2)),
            "k": pa.array(["u", "v", "u"]).dictionary_encode(),
            "t": [True, False, None],
        }
    )

    kept = read(parquet, parquet_of(table))

    assert kept.text() == (
        'n,s,l,m,b,d,k,t\n1,a,"[1, 2]","{""a"": ""é""}",00ff,1.50,u,true\n'
        ',"b\nc",[],,,,v,false\n3,,,"{""a"": null}",,,u,\n'
    )
    assert kept.arrow().to_pylist() == table.to_pylist()


def test_a_table_without_end_is_cut_and_says_where(monkeypatch):
    monkeypatch.setattr(rows, "MAX_TEXT_BYTES", 1 << 20)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 10_000)
    table = pa.table({"n": pa.array([1]).take(pa.array([0] * 2_000_000))})
    out = io.BytesIO()
    pq.write_table(table, out)

    kept = read(parquet, out.getvalue())

    assert kept.text() == "n\n" + "1\n" * 520_000
    assert kept.note() == "the first 520,000 rows of 2,000,000: the rest is beyond 1 MB of text"
    assert kept.arrow().num_rows == 520_000


def test_a_parquet_file_that_is_cut_or_empty_is_broken():
    whole = parquet_of(pa.table({"n": [1, 2, 3]}))
    for data in (b"", b"PAR1", whole[:-20], whole[: len(whole) // 2] + b"PAR1"):
        with pytest.raises(Unreadable, match=r"^broken"):
            read(parquet, data)


def test_a_row_group_that_is_broken_ends_a_table_with_a_note():
    data = bytearray(parquet_of(pa.table({"s": [f"text {n}" * 9 for n in range(6)]})))
    at = data.index(b"text 4")
    data[at - 16 : at] = b"\xff" * 16

    kept = read(parquet, bytes(data))

    assert kept.note() == "broken after row 4 of 6"
    assert kept.text().count("\n") == 5
    assert kept.arrow().num_rows == 4


# -- SQLite ----------------------------------------------------------------------

SCRIPT = """
create table users(id integer primary key, name text, pic blob);
insert into users values (1, 'a
b', x'00ff'), (2, null, zeroblob(1000)), (3, 'x' || char(0) || 'y', null);
create table "we""ird/t"(a); insert into "we""ird/t" values ('1'), (2.5);
create table sums(k text primary key, v) without rowid; insert into sums values ('k', 1);
create view forever as with recursive r(n) as (select 1 union all select n + 1 from r)
select * from r;
create virtual table found using fts5(body); insert into found values ('hello');
create trigger spoil after insert on sums begin delete from sums; end;
"""


def database(tmp_path, script=SCRIPT, name="db.sqlite"):
    path = tmp_path / name
    with sqlite3.connect(path) as made:
        made.executescript(script)
    made.close()
    return path


def read_file(reader, path):
    kept = Kept()
    with path.open("rb") as file:
        reader.read(file, kept)
    return kept


def test_a_database_is_a_document_a_table_and_its_schema(tmp_path):
    kept = read_file(sqlite, database(tmp_path))

    assert list(kept.documents) == ["schema.sql", "users", 'we"ird/t', "sums", "found_content"]
    assert kept.text("users") == ('id,name,pic\n1,"a\nb",00ff\n2,,"<1,000 bytes>"\n3,x\ufffdy,\n')
    assert kept.text('we"ird/t') == "a\n1\n2.5\n"
    assert kept.text("found_content") == "id,c0\n1,hello\n"
    assert kept.arrow("users")["id"].to_pylist() == [1, 2, 3]
    assert "CREATE VIEW forever" in kept.text("schema.sql")
    assert kept.skips["found"] == "a virtual table"
    assert kept.skips["found_idx"] == "a shadow table"


def test_a_database_with_a_log_beside_it_is_read_without_that(tmp_path):
    path = database(
        tmp_path, "pragma journal_mode=wal; create table t(a); insert into t values (1);"
    )

    kept = read_file(sqlite, path)

    assert kept.text("t") == "a\n1\n"
    assert kept.note("schema.sql") == "what is only in its write-ahead log is not read"
    assert path.read_bytes()[18:20] == b"\x02\x02"


def test_of_bytes_without_measure_the_number_is_told_and_the_rows_after_them_are_read(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sqlite, "MAX_CELL_BYTES", 1_000_000)
    script = """create table t(a, "b""c"); insert into t values
        (1, zeroblob(2000000)), (2, zeroblob(64)), (3, 'x');"""

    kept = read_file(sqlite, database(tmp_path, script))

    assert kept.text("t") == f'a,"b""c"\n1,"<2,000,000 bytes>"\n2,{"00" * 64}\n3,x\n'
    assert kept.note("t") is None


def test_a_table_with_a_broken_page_keeps_the_rows_before_it(tmp_path):
    script = "create table t(a); " + "insert into t values (hex(zeroblob(900)));" * 40
    path = database(tmp_path, script)
    data = bytearray(path.read_bytes())
    data[-4096:] = b"\xff" * 4096
    path.write_bytes(data)

    kept = read_file(sqlite, path)

    assert kept.note("t").startswith("broken after row ")
    assert 30 < kept.text("t").count("\n") < 41


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no SQLite database"),
        (os.urandom(8192), "no SQLite database, or encrypted"),
        (b"SQLite format 3\0" + b"\xff" * 4080, "broken"),
    ],
)
def test_what_is_no_database_is_unreadable(tmp_path, data, why):
    path = tmp_path / "x.sqlite"
    path.write_bytes(data)
    with pytest.raises(Unreadable, match=why):
        read_file(sqlite, path)


def test_the_schema_of_a_database_cannot_make_its_reader_write_or_attach(tmp_path):
    with sqlite3.connect(":memory:") as made:
        made.execute("create table t(a)")
        sqlite._confine(made)
        for words in (
            "insert into t values (1)",
            "attach 'x.db' as other",
            "pragma query_only=OFF; ",
            "select load_extension('x')",
        ):
            if words.startswith("pragma"):
                made.execute(words)  # let through, and the authorizer holds
            else:
                with pytest.raises(sqlite3.Error):
                    made.execute(words)
        with pytest.raises(sqlite3.Error):
            made.execute("insert into t values (1)")
    made.close()


# -- in their own process --------------------------------------------------------


@pytest.fixture(scope="module")
def readers():
    with Readers() as made:
        yield made


def items(readers, path, kind):
    with path.open("rb") as file:
        return list(readers.open(file.fileno(), kind, path.name))


def test_confined_readers_give_the_same(readers, tmp_path):
    files = {"b.xlsx": (workbook(), kinds.XLSX), "a.csv": (b"a,b\n1,2\n", kinds.CSV)}
    files["c.parquet"] = (parquet_of(pa.table({"n": [1, 2, 3]})), kinds.PARQUET)
    found = {}
    for name, (data, kind) in files.items():
        (tmp_path / name).write_bytes(data)
        found[name] = items(readers, tmp_path / name, kind)
    found["db"] = items(readers, database(tmp_path), kinds.SQLITE)

    texts = {
        (name, item.name): item.text.partition("\n")[0]
        for name, several in found.items()
        for item in several
        if isinstance(item, DocumentItem)
    }
    assert texts == {
        ("b.xlsx", "Sales"): "Country,2020,2021,day,ok",
        ("b.xlsx", "Old"): "7,",
        ("a.csv", ""): "a,b",
        ("c.parquet", ""): "n",
        ("db", "schema.sql"): "CREATE TABLE users(id integer primary key, name text, pic blob);",
        ("db", "users"): "id,name,pic",
        ("db", 'we"ird/t'): "a",
        ("db", "sums"): "k,v",
        ("db", "found_content"): "id,c0",
    }
    assert SkippedItem("Nothing", "empty") in found["b.xlsx"]
    (table,) = (item.table for item in found["a.csv"])
    assert pa.ipc.open_file(table).read_all().to_pylist() == [{"a": 1, "b": 2}]


def test_a_sheet_that_claims_seventeen_billion_cells_is_refused_and_the_next_one_is_read(
    readers, tmp_path
):
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1048576"] = 1, 2
    book.save(tmp_path / "bomb.xlsx")
    (tmp_path / "next.csv").write_bytes(b"a,b\n1,2\n")

    with pytest.raises(Unreadable, match=r"needs more than|crash"):
        items(readers, tmp_path / "bomb.xlsx", kinds.XLSX)
    assert items(readers, tmp_path / "next.csv", kinds.CSV)[0].text == "a,b\n1,2\n"
