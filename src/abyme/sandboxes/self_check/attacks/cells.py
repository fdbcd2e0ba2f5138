"""The cells that attacks are made of, and what stands in front of them.

Decides what counts as refused: an error of the kernel, of the import policy, or of Python that
says no. Not a slip of the attack's own: a name, a syntax or an argument that is wrong makes the
entry broken. Cells run without an import policy: it is a second line, and would hide the first.
"""

from collections.abc import Iterable
from typing import Final

from abyme.core.limits import Limits
from abyme.sandboxes.self_check.behaviour import HELD, HOLE, Behaviour, Judge, Need

REFUSALS: Final = "(OSError, ImportError, ValueError, PermissionError)"

TRIED: Final = """
import sys
NO = {"OSError", "ImportError", "ValueError", "SecurityViolation", "OperationalError"}
def refusal(error):
    if isinstance(error, AttributeError):
        return isinstance(error.obj, type(sys))  # this Python has no such function
    return not NO.isdisjoint(kind.__name__ for kind in type(error).__mro__)
def tried(*ways):
    got, slips = [], []
    for way in ways:
        try:
            got.append(way())
        except BaseException as error:
            if not refusal(error):
                slips.append(repr(error))
    print("HOLE" if got else "slip" if slips else "held", *map(ascii, got or slips))
"""
"""`tried` runs functions, each of which must be refused."""

KERNEL: Final = (
    TRIED
    + """
import ctypes, os, struct
syscall = ctypes.CDLL(None, use_errno=True).syscall
syscall.restype = ctypes.c_long
def call(number, *words):
    ctypes.set_errno(0)
    plain = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    got = syscall(ctypes.c_long(number), *plain)
    return got if got >= 0 else -ctypes.get_errno()
def judged(answers, by=(1, 2, 13, 25, 38)):
    answers = list(answers)
    holes = [(n, a) for n, a in enumerate(answers) if a >= 0]
    slips = [(n, a) for n, a in enumerate(answers) if a < 0 and -a not in by]
    print("HOLE" if holes else "slip" if slips else "held", *(holes or slips))
room = ctypes.create_string_buffer(4096)
null = ctypes.c_void_p(0)
"""
)
"""`call` makes a system call, and gives its result or the error's number below zero; `judged`
says of several whether each was refused: EPERM, ENOENT, EACCES, ENOTTY or ENOSYS."""

SHORT: Final = Limits(cell_timeout_s=1.0, memory_bytes=512 << 20)
"""For attacks that are ended by their time."""

NATIVE: Final[frozenset[Need]] = frozenset({"ctypes"})


def attempt(code: str) -> str:
    """Make a cell that runs statements, which must be refused before they are through."""
    body = "".join(f"    {line}\n" for line in code.splitlines())
    return (
        f"{TRIED}try:\n{body}"
        f"except BaseException as error:\n"
        f"    print({HELD!r} if refusal(error) else repr(error))\n"
        f"else:\n    print({HOLE!r})\n"
    )


def refused(
    name: str, sentence: str, source: str, *ways: str, first: str = "", needs: Iterable[Need] = ()
) -> Behaviour:
    """Make an entry of expressions, each of which must raise a refusal. `first` runs before."""
    tries = "".join(f"    lambda: {way},\n" for way in ways)
    code = f"{TRIED}{first}\ntried(\n{tries})\n"
    return Behaviour(
        id=name, sentence=sentence, source=source, cells=(code,), needs=frozenset(needs)
    )


def kernel(  # noqa: PLR0913 - a row of a table
    name: str, sentence: str, source: str, calls: str, *, first: str = "", by: str = ""
) -> Behaviour:
    """Make an entry of system calls, each of which must be refused. `by`: other errors."""
    allowed = f", by=(1, 2, 13, 25, 38, {by})" if by else ""
    code = f"{KERNEL}{first}\njudged([\n    {calls}\n]{allowed})\n"
    return Behaviour(id=name, sentence=sentence, source=source, cells=(code,), needs=NATIVE)


def told(  # noqa: PLR0913 - a row of a table
    name: str,
    sentence: str,
    source: str,
    *cells: str,
    ends: tuple[str, ...] = (),
    needs: Iterable[Need] = (),
    loses: str = "",
    limits: Limits | None = None,
    judge: Judge | None = None,
) -> Behaviour:
    """Make an entry of cells that say themselves what they found."""
    return Behaviour(
        id=name,
        sentence=sentence,
        source=source,
        cells=cells,
        ends=ends,
        needs=frozenset(needs),
        loses=loses,
        limits=limits,
        judge=judge,
    )
