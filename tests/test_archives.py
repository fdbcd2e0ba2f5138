"""Contract: archives as sources. What lies in them are documents; what harms is told."""

import bz2
import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from abyme.contexts import members, unpacked
from abyme.contexts.choice import Choice
from abyme.contexts.kinds import GZIP, PDF, TAR, XLSX, ZIP, choose
from abyme.contexts.load import load_paths
from abyme.errors import ContextError

zstandard = pytest.importorskip("zstandard")

PACKERS = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": zstandard.compress,
}


def a_zip(files, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def a_tar(files, *, extra=(), form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in extra:
            archive.addfile(member)
    return out.getvalue()


def special(name, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def texts(loaded):
    context = loaded.context
    found = {context.label(n): context.text(n) for n in range(context.documents)}
    context.close()
    return found


def put(folder, **files):
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


FILES = [("b.txt", b"beta"), ("dir/a.txt", "größe".encode()), ("dir/x.bin", b"\0\1\0\0")]
INSIDE = {"b.txt": "beta", "dir/a.txt": "größe"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", a_zip(FILES)),
        ("stored.zip", a_zip(FILES, zipfile.ZIP_STORED)),
        ("lzma.zip", a_zip(FILES, zipfile.ZIP_LZMA)),
        ("a.tar", a_tar(FILES)),
        ("gnu.tar", a_tar(FILES, form=tarfile.GNU_FORMAT)),
        ("a.tgz", gzip.compress(a_tar(FILES))),
        *((f"a.tar.{suffix}", pack(a_tar(FILES))) for suffix, pack in PACKERS.items()),
        ("no_suffix", a_zip(FILES)),
    ],
)
def test_members_are_documents_in_the_order_of_the_archive(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    loaded = load_paths([tmp_path / name])
    assert loaded.context.shape == "documents"
    assert loaded.skipped == [(f"{name}/dir/x.bin", "binary")]
    facts = loaded.context.manifest.documents[1]
    assert facts.source_sha256 == hashlib.sha256("größe".encode()).hexdigest()
    assert (facts.source_bytes, facts.encoding) == (7, "utf-8")
    assert list(texts(loaded).items()) == [(f"{name}/{key}", INSIDE[key]) for key in INSIDE]


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_packed_file_is_called_what_it_was_and_alone_it_is_a_text(tmp_path, suffix):
    (tmp_path / f"a.txt.{suffix}").write_bytes(PACKERS[suffix](b"alpha"))
    loaded = load_paths([tmp_path / f"a.txt.{suffix}"])
    assert loaded.context.shape == "text"
    assert texts(loaded) == {"a.txt": "alpha"}


def test_a_packed_file_beside_its_original_keeps_its_own_name(tmp_path):
    put(tmp_path, a__txt=b"one", b__gz=gzip.compress(b"three"))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"two"))
    assert texts(load_paths([tmp_path])) == {"a.txt": "one", "a.txt.gz": "two", "b": "three"}


def test_an_archive_among_files_stands_where_it_stands(tmp_path):
    put(tmp_path, a__txt=b"1", m__zip=a_zip([("x", b"2"), ("y", b"3")]), z__txt=b"4")
    assert list(texts(load_paths([tmp_path])).items()) == [
        *(("a.txt", "1"), ("m.zip/x", "2"), ("m.zip/y", "3"), ("z.txt", "4")),
    ]


def test_archives_lie_in_archives_down_to_the_fourth(tmp_path):
    data = a_zip([("deep.txt", b"deep")])
    for level in range(3, 0, -1):
        data = a_zip([(f"{level}.zip", data), (f"{level}.txt", b"x")])
    (tmp_path / "a.zip").write_bytes(data)
    found = texts(load_paths([tmp_path / "a.zip"]))
    assert list(found) == [
        "a.zip/1.zip/2.zip/3.zip/deep.txt",
        *("a.zip/1.zip/2.zip/3.txt", "a.zip/1.zip/2.txt", "a.zip/1.txt"),
    ]
    (tmp_path / "a.zip").write_bytes(a_zip([("0.zip", data), ("0.txt", b"x")]))
    loaded = load_paths([tmp_path / "a.zip"])
    assert loaded.skipped == [
        ("a.zip/0.zip/1.zip/2.zip/3.zip", "more than 4 archives within each other"),
    ]
    loaded.context.close()


def test_a_large_member_is_spooled_and_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "WHOLE_BYTES", 10)
    text = "a line that is long é\n" * 20_000
    files = [("long.txt", text.encode()), ("bin", b"\0\1\0\0" * 100_000), ("short", b"s")]
    put(tmp_path, a__zip=a_zip(files))
    loaded = load_paths([tmp_path])
    assert loaded.skipped == [("a.zip/bin", "binary")]
    assert texts(loaded) == {"a.zip/long.txt": text, "a.zip/short": "s"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("a/./b//../c", "a/b/c"),
        ("C:\\Users\\me\\a.txt", "Users/me/a.txt"),
        ("C:a.txt", "a.txt"),
        ("..", "unnamed"),
        ("esc\x1b[2J", "esc\\x1b[2J"),
        ("lone\ud800", "lone\ufffd"),
        ("caf\udce9", "caf\\xe9"),
        ("new\nline", "new\\nline"),
        ("n" * 4000, "n" * 498 + "..." + "n" * 498),
    ],
)
def test_names_stay_below_their_archive_and_can_be_shown(given, name):
    assert unpacked.inner_name(given) == name


def test_names_that_are_one_after_cleaning_are_told_apart(tmp_path):
    files = [("../a", b"1"), ("a", b"2"), ("/a", b"3"), ("a~2", b"4")]
    put(tmp_path, a__tar=a_tar(files))
    assert texts(load_paths([tmp_path])) == {
        "a.tar/a": "1",
        "a.tar/a~2": "2",
        "a.tar/a~3": "3",
        "a.tar/a~2~2": "4",
    }


def test_what_is_no_file_in_a_tar_is_told_and_never_followed(tmp_path):
    sparse = tarfile.TarInfo("sparse")
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 0
    kinds = [
        *(("sym", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("fifo", tarfile.FIFOTYPE)),
        *(("chr", tarfile.CHRTYPE), ("blk", tarfile.BLKTYPE), ("dir", tarfile.DIRTYPE)),
    ]
    extra = [*(special(name, kind) for name, kind in kinds), sparse]
    put(tmp_path, a__tar=a_tar([("a", b"1")], extra=extra))
    loaded = load_paths([tmp_path])
    assert loaded.skipped == [
        *(("a.tar/sym", "link"), ("a.tar/hard", "link"), ("a.tar/fifo", "pipe")),
        *(("a.tar/chr", "device"), ("a.tar/blk", "device"), ("a.tar/sparse", "sparse file")),
    ]
    assert texts(loaded) == {"a.tar/a": "1"}


def test_links_in_a_zip_are_told(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a", "1")
    put(tmp_path, a__zip=out.getvalue())
    loaded = load_paths([tmp_path])
    assert loaded.skipped == [("a.zip/link", "link")]
    loaded.context.close()


def changed(data, at, byte=None):
    out = bytearray(data)
    out[at] = out[at] ^ 0xFF if byte is None else byte
    return bytes(out)


def encrypted(data):
    """Set the bit that says so, in both headers of the first member."""
    at = data.index(b"PK\1\2")
    return changed(changed(data, 6, 1), at + 8, 1)


def claiming(data, size):
    """Have the directory claim another unpacked size of the first member."""
    at = data.index(b"PK\1\2")
    return data[: at + 24] + struct.pack("<I", size) + data[at + 28 :]


def overlapping(data):
    """Have the second entry of the directory point to the first member."""
    first = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", first + 1)
    return data[: second + 42] + struct.pack("<I", 0) + data[second + 46 :]


PAIR = a_zip([("a", b"alpha" * 30), ("b", b"beta")], zipfile.ZIP_STORED)


@pytest.mark.parametrize(
    ("data", "skipped", "read"),
    [
        (encrypted(PAIR), [("a.zip/a", "encrypted")], ["b"]),
        (
            changed(PAIR, 40),
            [("a.zip/a", "broken (bad CRC-32 for file 'a')")],
            ["b"],
        ),
        (claiming(PAIR, 149), [("a.zip/a", "broken (bad CRC-32 for file 'a')")], ["b"]),
        (claiming(PAIR, 0xFFFFFFF0), [("a.zip/a", "broken (it ends too early)")], ["b"]),
        (
            overlapping(PAIR),
            [("a.zip/a", "lies over another member"), ("a.zip/b", "lies over another member")],
            [],
        ),
        (changed(PAIR, PAIR.index(b"PK\1\2") + 10, 99), None, ["b"]),
        (PAIR[:-30], [("a.zip", "broken (file is not a zip file)")], []),
        (a_zip([]), [("a.zip", "nothing is in it")], []),
    ],
)
def test_a_harmful_zip_is_told_and_what_is_sound_is_read(tmp_path, data, skipped, read):
    put(tmp_path, a__zip=data, z__txt=b"zeta")
    loaded = load_paths([tmp_path])
    if skipped is None:
        assert [name for name, _ in loaded.skipped] == ["a.zip/a"]
        assert loaded.skipped[0].reason.startswith("packed in a way that is not known")
    else:
        assert loaded.skipped == skipped
    assert list(texts(loaded)) == [*(f"a.zip/{name}" for name in read), "z.txt"]


TWO = a_tar([("a", b"alpha" * 300), ("b", b"beta" * 300)], form=tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(
    ("data", "reason", "read"),
    [
        (changed(TWO, 2048 + 100), "broken (bad checksum) after 1 file", ["a"]),
        (TWO[:2048], None, ["a"]),
        (TWO[:2300], "broken (truncated header) after 1 file", ["a"]),
        (TWO[:3000], "broken (unexpected end of data) after 1 file", ["a"]),
        (TWO[:700], "broken (unexpected end of data)", []),
    ],
)
def test_a_damaged_tar_gives_what_lies_before_the_damage(tmp_path, data, reason, read):
    put(tmp_path, a__tar=data, z__txt=b"zeta")
    loaded = load_paths([tmp_path])
    told = [item for item in loaded.skipped if item.name == "a.tar"]
    assert told == ([("a.tar", reason)] if reason else [])
    assert list(texts(loaded)) == [*(f"a.tar/{name}" for name in read), "z.txt"]


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("harm", ["cut", "followed", "empty"])
def test_a_damaged_stream_is_skipped(tmp_path, suffix, harm):
    data = PACKERS[suffix](b"alpha" * 5_000)
    harmed = {"cut": data[:-6], "followed": data + b"something else", "empty": data[:12]}[harm]
    (tmp_path / f"a.{suffix}").write_bytes(harmed)
    put(tmp_path, z__txt=b"zeta")
    loaded = load_paths([tmp_path])
    assert [item.name for item in loaded.skipped] == [f"a.{suffix}"]
    assert loaded.skipped[0].reason.startswith("broken (")
    assert texts(loaded) == {"z.txt": "zeta"}


def test_a_bomb_is_skipped_and_what_is_beside_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "ALWAYS_BYTES", 1_000_000)
    put(
        tmp_path,
        a__gz=gzip.compress(b"0" * 20_000_000),
        b__zip=a_zip([(str(n), b"0" * 2_000_000) for n in range(10)]),
        c__zip=a_zip([("inner.zip", a_zip([("zeros", b"0" * 9_000_000)]))]),
        z__txt=b"zeta",
    )
    loaded = load_paths([tmp_path])
    assert [name for name, _ in loaded.skipped] == ["a.gz", "b.zip", "c.zip/inner.zip"]
    assert all(" MB when unpacked" in reason for _, reason in loaded.skipped)
    assert texts(loaded)["z.txt"] == "zeta"


def test_all_archives_together_may_take_what_memory_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "MOST_BYTES", 1_000_000)
    for n in range(4):
        (tmp_path / f"{n}.gz").write_bytes(gzip.compress(bytes([48 + n]) * 400_000))
    loaded = load_paths([tmp_path])
    assert [reason for _, reason in loaded.skipped] == [
        *["all archives are more than 1.0 MB when unpacked"] * 2,
    ]
    loaded.context.close()


def test_too_many_members_end_an_archive(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "MOST_FILES", 3)
    put(tmp_path, a__zip=a_zip([(str(n), b"x") for n in range(5)]))
    loaded = load_paths([tmp_path])
    assert loaded.skipped == [("a.zip", "more than 3 files after 3 files")]
    assert list(texts(loaded)) == ["a.zip/0", "a.zip/1", "a.zip/2"]


def test_what_cannot_be_read_is_listed_one_by_one_up_to_a_number_and_counted_beyond(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(unpacked, "MAX_LISTED", 2)
    put(tmp_path, a__zip=a_zip([*((str(n), b"\0\1\0\0") for n in range(5)), ("t", b"x")]))
    loaded = load_paths([tmp_path])
    assert loaded.skipped == [
        *(("a.zip/0", "binary"), ("a.zip/1", "binary")),
        ("a.zip", "3 more entries that cannot be read"),
    ]
    loaded.context.close()


def test_a_member_over_the_limit_is_skipped_whatever_its_archive_claims(tmp_path):
    lying = claiming(a_zip([("a", b"x" * 5_000), ("b", b"small")]), 10)
    put(tmp_path, a__zip=a_zip([("a", b"x" * 5_000), ("b", b"small")]), b__zip=lying)
    loaded = load_paths([tmp_path], choice=Choice(max_file_bytes=1_000))
    assert loaded.skipped[0] == ("a.zip/a", "over 1.0 kB")
    assert [name for name, _ in loaded.skipped] == ["a.zip/a", "b.zip/a"]
    assert texts(loaded) == {"a.zip/b": "small", "b.zip/b": "small"}


def test_only_a_broken_archive_is_nothing_to_read(tmp_path):
    put(tmp_path, a__zip=b"PK\3\4 and nothing else")
    with pytest.raises(ContextError) as caught:
        load_paths([tmp_path / "a.zip"])
    assert str(caught.value) == "nothing to read: a.zip: broken (file is not a zip file)"


def test_an_archive_from_standard_input_is_unpacked():
    loaded = load_paths(["-"], stdin=io.BytesIO(a_zip([("a", b"alpha")])))
    assert texts(loaded) == {"stdin/a": "alpha"}


def test_progress_counts_archives_when_they_are_read(tmp_path):
    put(tmp_path, a__zip=a_zip([("a", b"alpha")]), b__txt=b"beta")
    told = []
    load_paths([tmp_path], on_progress=told.append).context.close()
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert told[-1] == (2, 2, total, total)


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.txt", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj", PDF),
        ("a.pdf", b"this is a text about PDF", None),
        ("a.pdf", b"%PDF-1.4 is how a PDF begins, as this text says", None),
        ("a.pdf", b"junk before\n%PDF-1.4\n1 0 obj\n", PDF),
        ("a.zip", b"this is a text", None),
        ("book.xlsx", a_zip([("[Content_Types].xml", b"x")]), XLSX),
        ("book", a_zip([("[Content_Types].xml", b"x"), ("xl/workbook.xml", b"x")]), XLSX),
        ("a.docx.zip", a_zip([("b.docx", b"x")]), ZIP),
        ("a", gzip.compress(b""), GZIP),
        ("a", a_tar([("a", b"1")])[:1024], TAR),
        ("a.csv", b"\0\1\2\3", None),
        ("PAR1.txt", b"PAR1 is a magic number", None),
        ("a", b"", None),
    ],
)
def test_bytes_say_what_a_file_is_and_a_name_alone_does_not(name, head, kind):
    assert choose(name, head) is kind


def test_a_missing_library_is_told_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(members.importlib.util, "find_spec", lambda name: None)
    put(tmp_path, a__zst=zstandard.compress(b"x"), b__html=b"<p>text</p>", c__txt=b"gamma")
    loaded = load_paths([tmp_path])
    assert loaded.skipped == [("a.zst", "needs abyme[archives]")]
    assert loaded.notes == [("b.html", "needs abyme[documents]")]
    assert loaded.summary() == (
        "read 2 files (16 bytes), skipped 1: a.zst (needs abyme[archives]), 1 in part (b.html: "
        "needs abyme[documents]); to read them: pip install 'abyme[archives,documents]'"
    )
    assert texts(loaded) == {"b.html": "<p>text</p>", "c.txt": "gamma"}


def test_formats_that_are_text_are_read_as_they_lie_there_where_that_is_wanted(tmp_path):
    put(tmp_path, a__html=b"<p>text</p>", a__zip=a_zip([("b.html", b"<b>bold</b>")]))
    loaded = load_paths([tmp_path], choice=Choice(as_is=True))
    assert loaded.notes == []
    assert texts(loaded) == {"a.html": "<p>text</p>", "a.zip/b.html": "<b>bold</b>"}


def test_what_is_excluded_is_left_out_of_archives_too_and_counted(tmp_path):
    files = [("a.txt", b"1"), ("node_modules/x.txt", b"2"), ("b.log", b"3")]
    put(tmp_path, a__zip=a_zip(files), c__log=b"4")
    loaded = load_paths([tmp_path], choice=Choice(exclude=("*.log", "node_modules/")))
    assert (loaded.skipped, loaded.context.manifest.left_out) == ([], (3, 0))
    assert texts(loaded) == {"a.zip/a.txt": "1"}


def test_a_reader_that_was_stopped_leaves_nothing_behind(tmp_path):
    """Ctrl-C while archives are read: threads end, descriptors are closed, no helper lives."""
    for n in range(6):
        (tmp_path / f"{n}.zip").write_bytes(a_zip([(str(m), b"x" * 3_000) for m in range(50)]))
    put(tmp_path, z__txt=b"zeta")
    before = set(Path("/proc/self/fd").iterdir())

    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_paths([tmp_path], on_progress=stop)
    assert set(Path("/proc/self/fd").iterdir()) == before
    alive = [thread.name for thread in threading.enumerate() if thread.name.startswith("abyme-")]
    assert alive == []


def with_size(size):
    """Make a tar whose second header claims a size."""
    member = tarfile.TarInfo("b")
    member.size = size
    return TWO[:2048] + member.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024


def with_pax_size(size):
    """The same in a pax record, which counts more."""
    record = f"size={size}\n"
    record = f"{len(record) + 3} {record}".encode()
    pax = tarfile.TarInfo("pax")
    pax.type, pax.size = tarfile.XHDTYPE, len(record)
    body = pax.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")
    return TWO[:2048] + body + tarfile.TarInfo("b").tobuf(tarfile.USTAR_FORMAT) + b"\0" * 512


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (with_size(1 << 62), "a.tar/b", "broken (it ends too early)"),
        (with_size(-512), "a.tar", "broken (negative size) after 1 file"),
        (with_pax_size(-5000), "a.tar", "broken (bad size) after 1 file"),
        (with_pax_size(-512), "a.tar", "broken (bad size) after 1 file"),
        (with_pax_size("abc"), "a.tar", "broken (bad size) after 1 file"),
    ],
)
def test_a_tar_with_a_size_that_cannot_be_ends(tmp_path, data, name, reason):
    put(tmp_path, a__tar=data, z__txt=b"zeta")
    loaded = load_paths([tmp_path])
    assert loaded.skipped[0] == (name, reason)
    assert {"a.tar/a", "z.txt"} <= texts(loaded).keys()


def test_an_archive_that_changes_while_it_is_read_is_told(tmp_path, monkeypatch):
    put(tmp_path, a__zip=a_zip([("a", b"alpha")]))
    run = members._Reading.run

    def changing(self):
        run(self)
        put(tmp_path, a__zip=b"another")

    monkeypatch.setattr(members._Reading, "run", changing)
    loaded = load_paths([tmp_path])
    assert loaded.notes == [("a.zip", "changed while it was read")]
    assert texts(loaded) == {"a.zip/a": "alpha"}


def test_what_lies_in_one_source_has_so_much_time_together(tmp_path, monkeypatch):
    """With none left, what needs a reader is skipped, and what needs none is read."""
    monkeypatch.setattr(unpacked, "MOST_READ_S", 0.0)
    inner = a_zip([("word/document.xml", b"<x/>")])
    (tmp_path / "a.zip").write_bytes(a_zip([("x.docx", inner), ("b.txt", b"beta")]))
    loaded = load_paths([tmp_path / "a.zip"])
    why = "what it lies in takes more than 0 min to read"
    assert loaded.skipped == [("a.zip/x.docx", why)]
    assert loaded.has_passing
    assert texts(loaded) == {"a.zip/b.txt": "beta"}


def test_the_time_of_readers_is_counted_down():
    allowance = unpacked.of_source(1, unpacked.of_load(1 << 30))
    allowance.spend(unpacked.MOST_READ_S - 1)
    allowance.check_time()
    allowance.spend(1)
    with pytest.raises(unpacked.Exceeded, match=r"more than 30 min to read$"):
        allowance.check_time()
