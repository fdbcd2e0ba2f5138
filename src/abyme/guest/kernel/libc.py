"""System calls that the standard library does not offer, as functions that raise `OSError`.

Decides how an argument becomes a machine word. Does not know what any call is
for: that is the business of the other files of this package. Only machines whose
call numbers are listed here are supported, and `NUMBERS` says so to whoever asks.
"""

import ctypes
import functools
import os
import platform
from collections.abc import Callable, Mapping
from typing import Final

NUMBERS: Final[Mapping[str, Mapping[str, int]]] = {
    "x86_64": {
        "socket": 41,
        "clone": 56,
        "capget": 125,
        "capset": 126,
        "pivot_root": 155,
        "seccomp": 317,
        "landlock_create_ruleset": 444,
        "landlock_add_rule": 445,
        "landlock_restrict_self": 446,
        "mseal": 462,
    },
}
"""Machine -> call -> number. Source: arch/x86/entry/syscalls/syscall_64.tbl of Linux 6.12."""

Word = int | bytes | ctypes.Array[ctypes.c_char] | None


@functools.cache
def library() -> ctypes.CDLL:
    """Open the C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def holding_library() -> ctypes.PyDLL:
    """Open the C library for calls that keep the interpreter's lock: a forked child must
    own it as its parent did.
    """
    return ctypes.PyDLL(None, use_errno=True)


def machine() -> str:
    """Tell the machine's name as in `NUMBERS`."""
    return platform.machine()


def syscall(name: str, *arguments: Word) -> int:
    """Make a system call of `NUMBERS`; the result is >= 0.

    Raises:
        OSError: what the kernel answered; ENOSYS too where the machine is not listed.
    """
    number = NUMBERS.get(machine(), {}).get(name)
    if number is None:
        raise OSError(38, f"{name} is not known on {machine()}")
    call = library().syscall
    call.restype = ctypes.c_long
    return checked(call(ctypes.c_long(number), *map(_word, arguments)), name)


def prctl(option: int, *arguments: int) -> int:
    """Ask or change what the kernel holds of this process; see prctl in section 2.

    Raises:
        OSError: what the kernel answered.
    """
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    return checked(library().prctl(option, *words), f"prctl({option})")


def fork_unseen() -> int:
    """fork(2) that Python code does not notice: no hook runs, `random` is not reseeded.

    For a process with one thread only: `os.fork` repairs what other threads held, which
    is not needed then, and touches a third of all pages that a small cell touches.

    Raises:
        OSError: what the kernel answered.
    """
    return checked(holding_library().fork(), "fork")


Words = tuple[object, ...]
"""A system call's number and arguments, as machine words."""


def call_words(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> Words:
    """Make the machine words of a call, for `error_of`; negative numbers are as in C."""
    return (ctypes.c_long(number), *map(_signed_word, arguments))


def error_of(words: Words) -> int:
    """Make a system call; its error number, or 0 if it was answered.

    For what is tried in every fork: a page that is touched there is a page copied, so the
    words are made before, in the fork server, where they can be.
    """
    call = _raw_call()
    return ctypes.get_errno() if call(*words) == -1 else 0


@functools.cache
def _raw_call() -> Callable[..., int]:
    call = ctypes.PyDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return call


def _signed_word(value: int | bytes | ctypes.Array[ctypes.c_char]) -> object:
    if isinstance(value, int):
        return ctypes.c_long(value)
    return ctypes.c_char_p(value) if isinstance(value, bytes) else value


def checked(result: int, what: str) -> int:
    """Turn the C convention (-1 and errno) into an exception."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return int(result)


def _word(value: Word) -> object:
    if value is None:
        return ctypes.c_void_p(0)
    if isinstance(value, int):
        return ctypes.c_ulong(value & 0xFFFFFFFFFFFFFFFF)
    return value
