"""Contract: what a hostile document can do to the process that reads it, and to nothing else.

The reader is `hostile_readers`, which does what its document says.
"""

import json
import os
import select
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from abyme.contexts.confined import Confined, HelperFailed, HelperUnavailable
from abyme.contexts.kinds import Kind
from abyme.contexts.reading import (
    DocumentItem,
    MemberItem,
    Readers,
    ReadLimits,
    SkippedItem,
    Unreadable,
)

HOSTILE = Kind("hostile", "x")
SMALL = ReadLimits(cpu_s=1, wall_s=60.0, memory_bytes=200_000_000, out_bytes=50_000_000, items=100)


class Planted(Readers):
    """Readers whose one reader is planted by the test."""

    def _new(self, kind, limits):
        return Confined(
            "read",
            memory_bytes=limits.memory_bytes,
            cpu_s=limits.cpu_s,
            order={"reader": "hostile_readers", "needs": []},
            needs=("hostile_readers",),
        )


@pytest.fixture(scope="module")
def readers():
    with Planted(SMALL) as made:
        try:
            one(made, "text x")
        except HelperUnavailable as error:
            pytest.skip(str(error))
        yield made


@contextmanager
def document(text):
    fd = os.memfd_create("document")
    try:
        os.write(fd, text.encode())
        yield fd
    finally:
        os.close(fd)


def read(readers, text, limits=None):
    """What a document gives; members as their sizes."""
    found = []
    with document(text) as fd:
        for item in readers.open(fd, HOSTILE, "name", limits):
            if isinstance(item, MemberItem):
                with suppress(Unreadable):  # told of by the file as well
                    found.append((item.name, sum(len(piece) for piece in item.data)))
            else:
                found.append(item)
    return found


def one(readers, text):
    (item,) = read(readers, text)
    return item.text


def why(readers, text):
    with pytest.raises(Unreadable) as raised:
        read(readers, text)
    assert one(readers, "text the next document reads right") == "the next document reads right"
    return str(raised.value)


def test_a_document_comes_with_all_that_is_known_of_it(readers):
    assert read(readers, "text \u00e4\U0001f600") == [
        DocumentItem("", "\u00e4\U0001f600", "text/plain")
    ]


def test_members_come_piece_by_piece(readers):
    assert read(readers, f"bytes {20 << 20}") == [("zeros", 20 << 20)]


def test_a_member_that_nobody_takes_is_passed_over(readers):
    with document(f"bytes {20 << 20}") as fd:
        names = [item.name for item in readers.open(fd, HOSTILE, "name")]

    assert names == ["zeros"]


def test_one_process_serves_many_documents_one_after_the_other(readers):
    before = len(readers._running)

    assert [one(readers, f"text {n}") for n in range(20)] == [str(n) for n in range(20)]
    assert len(readers._running) == before


@pytest.mark.parametrize(
    "attempt",
    [
        *("open /etc/passwd", "open /proc/self/mem", "list /"),
        *("exec", "fork", "connect", "unix", "kill", "ptrace", "write"),
    ],
)
def test_a_reader_reaches_no_file_process_or_network(readers, attempt):
    assert one(readers, attempt) in {"ENOENT", "EPERM", "EACCES", "ESRCH", "EFBIG", "EBADF"}


def test_a_reader_has_its_document_a_pipe_and_nothing_else(readers):
    assert json.loads(one(readers, "descriptors")) == [0, 1, 2, 3, 4]
    assert json.loads(one(readers, "environment")) == {}


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        ("unreadable encrypted", "encrypted"),
        ("bug", "broken (IndexError: list index out of range)"),
        ("memory", "needs more than 200.0 MB of memory"),
        ("crash", "crashes its reader (signal 11), or needs more than 200.0 MB of memory"),
        ("loop", "takes more than 1 s to read"),
        ("exit", "broken (its reader ended)"),
        ("garbage", "broken (its reader broke the rules)"),
        ("huge_head", "broken (its reader broke the rules)"),
        ("wrong_head []", "broken (its reader broke the rules)"),
        ("wrong_head {", "broken (its reader broke the rules)"),
        ('wrong_head {"t":"x"}', "broken (its reader broke the rules)"),
        ('wrong_head {"t":"skipped"}', "broken (its reader broke the rules)"),
        ('wrong_head {"t":"document","pages":-1}', "broken (its reader broke the rules)"),
        (
            'wrong_head {"t":"document","text":99999999999}',
            "a text of more than 512.0 MB",
        ),
        (
            'wrong_head {"t":"document","pages":100002,"text":1}',
            "more pages than its text can have (100,002)",
        ),
        ("not_utf8", "broken (its reader broke the rules)"),
        ("wrong_pages", "broken (its reader broke the rules)"),
        ("flood", "more than 50.0 MB when unpacked"),
        ("entries", "more than 100 entries"),
    ],
)
def test_what_a_document_does_to_its_reader_has_a_reason(readers, attempt, reason):
    assert why(readers, attempt) == reason


def test_a_reader_that_only_waits_is_ended_too(readers):
    with pytest.raises(Unreadable, match=r"^takes more than 0.2 s to read$"):
        read(readers, "sleep", replace(SMALL, wall_s=0.2))


def test_memory_taken_behind_the_back_of_python_is_bounded_too(readers):
    assert why(readers, "malloc") in {
        "needs more than 200.0 MB of memory",
        "crashes its reader (signal 11), or needs more than 200.0 MB of memory",
    }


def test_threads_are_bounded(readers):
    assert why(readers, "threads").startswith(("broken (RuntimeError", "needs more than"))


def test_a_reason_is_one_line_without_what_a_terminal_obeys(readers):
    assert read(readers, "word_of_terminal") == [SkippedItem("x", " [2J gone " + "y" * 290)]


def test_a_reader_that_stays_when_all_is_done_is_ended(readers, monkeypatch):
    monkeypatch.setattr("abyme.contexts.reading.END_TIMEOUT_S", 0.2)

    assert one(readers, "stays and its text") == "and its text"
    assert one(readers, "text next") == "next"


def test_who_stops_listening_ends_the_reader(readers):
    with document(f"bytes {40 << 20}") as fd:
        items = readers.open(fd, HOSTILE, "name")
        next(items)
        items.close()

    assert one(readers, "text next") == "next"


def test_a_reader_at_work_does_not_outlive_its_host(readers):
    """A host that is killed leaves nothing but the closed end of its link."""
    helper = readers._new(HOSTILE, replace(SMALL, cpu_s=60))
    helper.start()
    ours, theirs = os.pipe()
    with document("sleep") as fd:
        helper.send({"name": "name"}, [fd, theirs])
    os.close(theirs)
    try:
        assert b"confined" in os.read(ours, 1 << 16)
        helper._socket.close()
        helper._process.wait(10)
        assert select.select([ours], [], [], 10)[0]
        assert os.read(ours, 1) == b""
    finally:
        os.close(ours)
        helper.close()


def test_closed_readers_open_nothing_any_more():
    made = Planted(SMALL)
    made.close()

    with pytest.raises(HelperUnavailable, match="closed"):
        read(made, "text x")


def test_a_program_that_does_not_start_says_why():
    helper = Confined("read", memory_bytes=10**9, order={"reader": "no_such_reader", "needs": []})

    with pytest.raises(HelperUnavailable, match="No module named 'no_such_reader'"):
        helper.start()


def test_nothing_of_the_packages_beside_is_imported_by_the_program_itself(tmp_path):
    """A file of the user's that is named like a module of Python's changes nothing."""
    (tmp_path / "json.py").write_text("raise SystemExit(1)")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        with Planted(SMALL) as made:
            assert one(made, "text x") == "x"
    finally:
        os.chdir(before)


def test_a_helper_that_is_gone_fails_in_a_typed_way():
    helper = Confined("read", memory_bytes=10**9, order={"reader": "hostile_readers", "needs": []})

    with pytest.raises(HelperFailed, match="it is not running"):
        helper.send({})


GIVEN_UP = """
import json, os, sys
sys.path[:0] = {paths!r}
from abyme.apps.attack import privileges
for rules in {denied!r}.split():
    privileges._denied(*getattr(privileges, rules))
if {drops} and os.geteuid() == 0:
    privileges._without_capabilities()
import test_helpers as tests
from abyme.errors import ContextError
try:
    with tests.Planted(tests.SMALL) as readers:
        print(json.dumps([tests.one(readers, what) for what in {attempts!r}]))
except ContextError as error:
    print(json.dumps(str(error)))
"""
ATTEMPTS = ["text x", "open /etc/passwd", "exec", "fork", "connect", "kill", "text y"]


def without(denied, *, drops):
    code = GIVEN_UP.format(
        paths=[str(Path(__file__).parent), *filter(None, sys.path)],
        denied=denied,
        drops=drops,
        attempts=ATTEMPTS,
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("drops", [True, False])
def test_without_user_namespaces_documents_are_read_all_the_same(readers, drops):
    said = without("USER_NAMESPACES", drops=drops)

    assert (said[0], said[-1]) == ("x", "y")
    assert set(said[1:-1]) <= {"ENOENT", "EPERM", "EACCES"}


def test_root_without_capabilities_reads_documents_as_others_do(readers):
    assert without("", drops=True)[::6] == ["x", "y"]


def test_with_neither_namespaces_nor_landlock_nothing_is_read(readers):
    said = without("USER_NAMESPACES LANDLOCK", drops=True)

    assert "neither user namespaces nor Landlock can be had" in said
    assert "`abyme doctor`" in said
