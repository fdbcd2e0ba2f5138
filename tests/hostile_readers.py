"""A reader that has been taken over by its document: the document is what it tries.

It stands in for a parser with a hole. Runs in the confined process of a document, and, as the
job of `test_helpers`, in a confined service.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import threading

from abyme.helpers.emit import Unreadable

STREAM = 4
libc = ctypes.CDLL(None, use_errno=True)


def prepare():
    """Nothing more to load."""


def read(file, emit):
    what, _, argument = file.read().decode().partition(" ")
    globals()[f"do_{what}"](emit, argument)


def error_of(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def do_text(emit, text):
    emit.document("", text, media="text/plain")


def do_bytes(emit, count):
    emit.member("zeros", (bytes(1 << 20) for _ in range(int(count) >> 20)), int(count))


def do_unreadable(emit, why):
    raise Unreadable(why)


def do_bug(emit, _):
    [][1]  # noqa: PLE0643 - a bug


def do_open(emit, path):
    emit.document("", error_of(lambda: open(path)), media="x")  # noqa: PTH123, SIM115 - the shortest way


def do_list(emit, path):
    emit.document("", error_of(lambda: os.listdir(path)), media="x")  # noqa: PTH208


def do_exec(emit, _):
    emit.document("", error_of(lambda: os.execv("/bin/true", ["true"])), media="x")


def do_fork(emit, _):
    emit.document("", error_of(os.fork), media="x")


def do_connect(emit, _):
    emit.document("", error_of(lambda: socket.socket(socket.AF_INET)), media="x")


def do_unix(emit, _):
    emit.document("", error_of(lambda: socket.socket(socket.AF_UNIX)), media="x")


def do_kill(emit, _):
    emit.document("", error_of(lambda: os.kill(os.getppid() or -1, signal.SIGKILL)), media="x")


def do_ptrace(emit, _):
    libc.ptrace(16, os.getppid(), 0, 0)
    emit.document("", errno.errorcode[ctypes.get_errno()], media="x")


def do_write(emit, _):
    emit.document("", error_of(lambda: os.write(3, b"x")), media="x")


def do_descriptors(emit, _):
    there = [fd for fd in range(64) if error_of(lambda fd=fd: os.fstat(fd)) != "EBADF"]
    emit.document("", json.dumps(there), media="x")


def do_environment(emit, _):
    emit.document("", json.dumps(dict(os.environ)), media="x")


def do_memory(emit, _):
    held = [bytes(1 << 24) for _ in range(1 << 20)]
    emit.document("", str(len(held)), media="x")


def do_malloc(emit, _):
    libc.malloc.restype = ctypes.c_void_p
    while at := libc.malloc(1 << 24):
        ctypes.memset(at, 1, 1 << 24)
    ctypes.string_at(0)


def do_crash(emit, _):
    ctypes.string_at(0)


def do_loop(emit, _):
    while True:
        pass


def do_sleep(emit, _):
    signal.pause()


def do_threads(emit, _):
    for _ in range(10_000):
        threading.Thread(target=signal.pause, daemon=True).start()


def do_exit(emit, _):
    os._exit(0)


def do_garbage(emit, _):
    while True:
        os.write(STREAM, b"\xff" * 65536)


def do_huge_head(emit, _):
    os.write(STREAM, (0xFFFFFFFF).to_bytes(4) + bytes(4))
    signal.pause()


def do_wrong_head(emit, head):
    os.write(STREAM, len(head).to_bytes(4) + bytes(4) + head.encode())
    signal.pause()


def do_not_utf8(emit, _):
    do_wrong_head_of(
        {"t": "document", "name": "", "media": "", "page_word": "", "text": 2}, b"\xff\xfe"
    )


def do_wrong_pages(emit, _):
    pages = (5).to_bytes(8, "little")
    do_wrong_head_of(
        {"t": "document", "name": "", "media": "", "page_word": "", "pages": 1, "text": 9},
        pages + b"123456789",
    )


def do_wrong_head_of(head, rest):
    words = json.dumps(head).encode()
    os.write(STREAM, len(words).to_bytes(4) + bytes(4) + words + rest)


def do_flood(emit, _):
    while True:
        emit.member("flood", [bytes(1 << 20)] * 64)


def do_entries(emit, _):
    while True:
        emit.skipped("x", "y")


def do_word_of_terminal(emit, _):
    emit.skipped("x", "\x1b[2J\u202egone\n" + "y" * 10_000)


def do_stays(emit, text):
    """Say that all is done, and stay."""
    emit.document("", text, media="x")
    emit.head({"t": "done"})
    signal.pause()


def do_layers(emit, _):
    emit.document("", "", media="x")
