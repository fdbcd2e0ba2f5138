"""Parts of the wasm tier that need no WebAssembly: on every Python."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import abyme.sandboxes.wasm.wasm as tier
from abyme.contexts.sealed import from_value
from abyme.errors import SandboxUnavailable
from abyme.guest.wasm.view import FileView, decoded
from abyme.layout import ASCII, LATIN1, UCS2, UCS4
from abyme.sandboxes.wasm import folder, leftovers
from abyme.sandboxes.wasm.stream import LENGTH, MAX_PACKET_BYTES, pair

SRC = Path(tier.__file__).parents[3]


@pytest.fixture
def ends():
    made = pair()
    yield made
    for one in made:
        one.close()


def test_what_is_sent_arrives_packet_by_packet(ends):
    one, other = ends
    one.send(b"first")
    one.send(b"2")

    assert [other.recv(100), other.recv(100)] == [b"first", b"2"]


def test_a_packet_that_has_not_come_whole_blocks_nothing(ends):
    one, other = ends
    other.settimeout(0)
    raw = LENGTH.pack(4) + b"pack"
    for byte in raw[:-1]:
        socket.socket.send(one, bytes([byte]))
        with pytest.raises(BlockingIOError):
            other.recv(100)
    socket.socket.send(one, raw[-1:])

    assert other.recv(100) == b"pack"


def test_a_packet_that_did_not_go_whole_goes_on_when_it_is_sent_again(ends):
    one, other = ends
    one.settimeout(0)
    packets = [bytes([number]) * 60_000 for number in range(50)]
    sent, got = 0, []
    while len(got) < len(packets):
        try:
            while sent < len(packets):
                one.send(packets[sent])
                sent += 1
        except BlockingIOError:
            pass
        got.append(other.recv(60_001))

    assert got == packets


def test_a_length_that_is_none_ends_the_stream(ends):
    one, other = ends
    one.sendall(LENGTH.pack(1 << 31) + bytes(MAX_PACKET_BYTES))

    assert other.recv(60_001) == b""


def test_a_stream_whose_other_end_is_gone_gives_nothing(ends):
    one, other = ends
    one.close()

    assert other.recv(100) == b""


@pytest.mark.parametrize(
    ("kind", "encoding", "text"),
    [
        (ASCII, "ascii", "plain"),
        (LATIN1, "latin-1", "caf\xe9"),
        (UCS2, "utf-16-le", "\u4e00\ud800x"),
        (UCS2, "utf-16-le", "\ud83d\ude00"),
        (UCS4, "utf-32-le", "\U0001f600\ud800"),
    ],
)
def test_bytes_of_every_width_become_the_same_text(kind, encoding, text):
    data = b"".join(one.encode(encoding, "surrogatepass") for one in text)

    assert decoded(data, kind, len(text)) == text


def test_a_context_in_files_is_the_same_context(tmp_path):
    value = {"a.txt": "one\ntwo", "b/c.txt": "zw\xf6lf"}
    context = from_value(value)
    folder.copy_context(context, tmp_path / "context")
    context.close()

    view = FileView(str(tmp_path / "context"))

    assert dict(view.context) == value
    assert list(view.grep("w")) == [("a.txt", 2, "two"), ("b/c.txt", 1, "zw\xf6lf")]


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tier.sys, "version_info", (3, 12, 0))
    monkeypatch.setattr(tier.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(SandboxUnavailable, match=r"pip install 'abyme\[wasm\]'"):
        tier.check_installed()


def test_on_an_older_python_it_says_which_is_needed(monkeypatch):
    monkeypatch.setattr(tier.sys, "version_info", (3, 11, 9))

    with pytest.raises(SandboxUnavailable, match=r"needs Python 3\.12"):
        tier.check_installed()


CONFINED = """
import os, socket, sys, types
for name in ("abyme", "abyme.sandboxes", "abyme.sandboxes.wasm"):
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = [os.path.join(sys.argv[1], *name.split("."))]
import ctypes, mmap, threading
from abyme.sandboxes.wasm.confine import Confinement
own, readable = sys.argv[2:]
one = Confinement(64 << 20)
one.before_threads(own, [readable])
gate, tried, results = threading.Event(), threading.Event(), []
def attempt(name, what):
    try: what(); results.append(f"{name}: done")
    except OSError as error: results.append(f"{name}: {error.strerror}")
    except MemoryError: results.append(f"{name}: MemoryError")
def in_a_thread_of_before():
    gate.wait()
    attempt("socket in a thread", lambda: socket.socket())
    attempt("program in a thread", lambda: os.execv("/bin/true", ["true"]))
    tried.set()
threading.Thread(target=in_a_thread_of_before).start()
one.before_cells()
gate.set(); tried.wait()
attempt("a file of the host", lambda: open("/etc/passwd"))
attempt("a folder of the host", lambda: os.listdir("/"))
attempt("a file to read", lambda: open(readable + "/given").read())
attempt("a file to write there", lambda: open(readable + "/other", "w"))
attempt("a file of its own", lambda: open(own + "/other", "w").close())
attempt("a socket", lambda: socket.socket(socket.AF_UNIX))
attempt("a process", os.fork)
attempt("a program", lambda: os.execv("/bin/true", ["true"]))
attempt("a memory file", lambda: os.memfd_create("x"))
attempt("executable memory", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC))
attempt("shared memory", lambda: mmap.mmap(-1, 4096))
attempt("its host", lambda: os.kill(os.getppid(), 0))
attempt("memory beyond the limit", lambda: bytearray(1 << 30))
sys.stdout.write("\\n".join(results))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the process is confined on Linux only")
def test_a_process_that_is_broken_out_into_reaches_its_folders_and_nothing_else(tmp_path):
    """What the interpreter's host could do, were a cell to become it: on threads of before too."""
    run = folder.RunFolder(Path(folder.tempfile.mkdtemp()))
    try:
        for name in ("own", "given"):
            (run.path / name).mkdir()
        (run.path / "given" / "given").write_text("x")
        run.hand_over()
        done = subprocess.run(
            [sys.executable, "-c", CONFINED, SRC, run.path / "own", run.path / "given"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        run.remove()
    if "NotConfined" in done.stderr:
        pytest.skip(f"not on this host: {done.stderr.splitlines()[-1]}")

    refused = "Operation not permitted"
    assert done.stdout.splitlines() == [
        f"socket in a thread: {refused}",
        f"program in a thread: {refused}",
        "a file of the host: Permission denied",
        "a folder of the host: Permission denied",
        "a file to read: done",
        "a file to write there: Permission denied",
        "a file of its own: done",
        f"a socket: {refused}",
        f"a process: {refused}",
        f"a program: {refused}",
        f"a memory file: {refused}",
        f"executable memory: {refused}",
        f"shared memory: {refused}",
        f"its host: {refused}",
        "memory beyond the limit: MemoryError",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock")
def test_what_a_killed_run_has_left_is_swept_and_what_lives_stays(tmp_path):
    left, alive, young, other = (tmp_path / f"run-{n}" for n in ("left", "alive", "young", "x"))
    for one in (left, alive, young):
        one.mkdir()
        (one / "text").write_text("of a document")
    other.symlink_to(tmp_path)
    held = leftovers.hold(alive)
    for one in (left, alive):
        os.utime(one, (0, 0))

    leftovers.sweep(tmp_path, "run-")

    os.close(held)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["run-alive", "run-x", "run-young"]
    assert (alive / "text").exists()
